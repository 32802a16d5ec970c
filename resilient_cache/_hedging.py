"""A read of the store that a load may overtake: who is told what, whichever of the two ends first.

Theory. A store that thinks for long costs every caller its time although the origin would be quicker. So with
`hedge_after` the read runs behind. When it has not ended by then, the load begins beside it and the caller becomes one
of those who wait for the flight; from then on it is the race that leads the flight, and whichever end comes first is
told to all:

  the load gives a value       the flight lands with it; what the store says later is for nobody
  the store gives an entry     whoever waits is given it; the flight stays in the air until the load ends, so that no
                               second load of the key begins beside it (L14), and lands with what the load gave;
                               who comes meanwhile is served the entry; a load that still queues does not start
  the store gives nothing      all wait on; a value that the load gives after that is written, as always
  the load fails               it waits for the store's answer: an entry is as good as ever, a stale one may stand in
  the origin has none          is an answer, and newer than the store's

An entry that comes late goes the way of every other: fenced since, it is refused.

Invariants: a race ends once; after it has overtaken, its reader's findings go to the load's request and not to the
caller's, who may have left; nothing here waits, and nobody is woken under the lock.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Any, final

from ._local import Local
from ._request import Failure, Request
from .flights import Flight, Waiter
from .outcome import Lookup, Reason, Source

__all__ = ["Race"]


@final
class Race:
    """One read. As a flight's leader it stands for the load that runs behind."""

    __slots__ = (
        "_error",
        "_flight",
        "_found",
        "_led",
        "_local",
        "_lock",
        "_waiter",
        "over",
        "reading",
        "running",
        "until",
        "verdict",
    )

    def __init__(self, request: Request, flight: Flight[Any], local: Local, lock: RLock, *, until: float) -> None:
        self.reading = request.apart()  # what the store is asked for
        self.running: Any = None  # the request of the load beside it, once that has overtaken
        self.over = False
        self.until = until  # the deadline of the read
        self.verdict: str | None = None
        self._error: BaseException | None = None
        self._found: Lookup[Any] | None = None
        self._flight = flight
        self._led: Any = flight.leader
        self._local = local
        self._lock = lock
        self._waiter: Waiter | None = None

    def wake(self) -> bool:
        """Nobody listens: a race leads, and is never handed the lead."""
        return False

    def sit(self, make_waiter: Callable[[], Waiter]) -> Any:
        """A seat to wait in until the read is over, None when it is."""
        with self._lock:
            self._waiter = None if self.over else make_waiter()
            return self._waiter

    def give_back(self, place: Any, now: float) -> None:
        """No load could begin: the caller leads the flight again, and leaves its seat."""
        with self._lock:
            self.running = None
            self._flight.leader = self._led
        self._local.leave(self._flight, place, now)

    def overtake(self, request: Request, make_waiter: Callable[[], Waiter]) -> Any:
        """Let a load lead the flight from here on: a seat for the caller, None when the read has just ended."""
        with self._lock:
            if self.over:
                return None
            request.reason = Reason.SLOW
            self.running = request.apart()
            self._waiter = None
            self._flight.leader = self
            return self._local.sit(self._flight, make_waiter)

    def end(self, found: Lookup[Any] | None = None, error: BaseException | None = None) -> bool:
        """The read is over; whether `error` is for the caller who waits for it."""
        with self._lock:
            if self.over:
                return False
            self.over, self._found, waiter = True, found, self._waiter
            told = self.running is None
            if told:
                self._error = error
            else:
                self._pass_on_locked(self.running)
        if waiter is not None:
            waiter.wake()
        if self._found is not None and not told:
            self._local.hand_out(self._flight, self._found)
        return told

    def _pass_on_locked(self, running: Any) -> None:
        read = self.reading
        if not self._is_for_all():
            self._found = None
        running.reason, running.answered = read.reason, read.answered
        if read.stand_in is None:
            return
        running.offer(read.stand_in)
        self._flight.stand_in = running.stand_in
        if self._found is not None:  # it serves those who come from now on, where there is no memory
            self._flight.renewing = read.stand_in, read.since

    def take(self, request: Request) -> Lookup[Any] | None:
        """What the store had, now that the read has ended before any load began; `request` is as if it had read.

        Raises what the store raised, if that is no `Exception`.
        """
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # no cycle between the error and this frame
        request.become(self.reading)
        return self._found

    def lacks(self, outcome: Any) -> bool:
        """Whether the load has given nothing good and the store may yet."""
        return isinstance(outcome, Failure) and outcome.source is not Source.NEGATIVE and not self.over

    def best(self, outcome: Any) -> Any:
        """What to land, now that both have ended: a load that failed is no reason to withhold what the store has."""
        if not isinstance(outcome, Failure) or outcome.source is Source.NEGATIVE:
            return outcome
        found = self._found if self._is_for_all() else None
        return found or outcome._replace(stand_in=self.running.stand_in)

    def _is_for_all(self) -> bool:
        """Whether what was found may be given to those who have come aboard since, as the load has begun since."""
        read, local = self.reading, self._local
        found = read.stand_in
        return found is not None and read.since >= local.trusted_since and local.admits(read.key, found)
