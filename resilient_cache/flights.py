"""Single flight as a pure machine: who loads a key, who waits, and what happens when one of them leaves.

Theory. One load per key and fence generation at a time. The caller that finds no flight leads it, inline, in its own
thread or task; the others wait and share its value or its error. Decisions are made here under the cache's lock; the
waiting is in the two twins, which bring their own kind of waiter.

  leader lands      every waiter is woken with the outcome
  store overtakes   (a hedge) every waiter is woken with what the store gave; the load goes on, and lands later
  leader leaves     (cancelled, interrupted) one waiter is woken to lead; of a detached flight all ask again
  waiter leaves     nobody notices; if it had just been woken to lead, the next one is
  invalidation      detaches the flight: those aboard keep it, those who come later start another
  older than `age`  the next to ask detaches it and leads another; its waiters time out and ask again

Waking all on a leader's departure lost: callers that time out one after another, in the order they came, are each the
leader in turn, and n of them cost n * n wake-ups.

A loader that asks for its own key, or for a key whose flight waits for one of its own, would wait for itself.
`waits_for` walks from the flight to be joined along the flights that their leaders wait for: if the walk meets a flight
of the asking context, joining is a deadlock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from contextvars import ContextVar
from typing import Any, Final, Generic, Protocol, final

from typing_extensions import TypeVar

from .outcome import Mode

__all__ = ["AGAIN", "FOUND", "LEAD", "LEADING", "Flight", "Flights", "Waiter", "lead"]

LEAD: Final = "lead"
AGAIN: Final = "again"
FOUND: Final = "found"
NEVER: Final = float("-inf")


class Waiter(Protocol):
    """Somebody who waits. `wake` is called at most once."""

    verdict: str | None

    def wake(self) -> bool:
        """Let the waiting side go on; False when it is known that nobody listens any more."""
        ...


W = TypeVar("W", bound=Waiter)


@final
class Flight(Generic[W]):
    """One load in progress. `outcome` is whatever the flow landed, None while in the air."""

    __slots__ = (
        *(
            "_room",
            "blocked_on",
            "detached",
            "forced",
            "found",
            "leader",
            "origin",
            "outcome",
            "permit",
            "place",
        ),
        *("queued", "reading", "ready", "renewing", "since", "stamp", "stand_in", "takes_stale", "ticket", "waiters"),
    )

    def __init__(self, key: str, mode: Mode, stamp: int, since: float) -> None:
        self.place = key, mode
        self.stamp = stamp
        self.since = since
        self.outcome: Any = None
        self.ready: Any = None  # the outcome as soon as it is known, before it is written to the store
        self.found: Any = None  # what the store gave those aboard while the load went on
        self.stand_in: Any = None  # what the leader has found that may stand in for a failed load
        self.detached = False
        self.queued: float | None = None  # since when its load has waited for its start
        self.reading = NEVER  # until when the store was asked, infinite as long as it is; of a load of many only
        self.origin: Any = None  # where it has been loaded from
        self.permit = 0  # of the origin's; negative: that of the flight whose loader asks for this one
        self.ticket = 0  # of the origin's circuit
        self.forced = False  # a refresh: whoever leads it loads, whatever the store has
        self.takes_stale = False  # who took off is content with what is stale
        self.renewing: Any = None  # what serves while the load goes on behind: the entry, since when it was read
        self.leader: W | None = None  # None: the caller that took off
        self.waiters: OrderedDict[W, None] | tuple[()] = ()
        self.blocked_on: list[Flight[W]] | tuple[()] = ()
        self._room = 0  # how long that may get before what has landed is taken out of it

    def sit(self, waiter: W) -> None:
        """One more waits. Nobody does for most flights: they have no dict of waiters (0.2 us)."""
        waiters: OrderedDict[W, None] = self.waiters or OrderedDict()
        waiters[waiter] = None
        self.waiters = waiters

    def waits_for(self, mine: Collection[Flight[W]]) -> bool:
        """Whether this flight cannot land before one of `mine` does."""
        ahead, seen = [self], {id(self)}
        while ahead and mine:
            flight = ahead.pop()
            if flight in mine:
                return True
            further = [f for f in flight.blocked_on if f.outcome is None and id(f) not in seen]
            seen.update(map(id, further))
            ahead += further
        return False

    def block(self, other: Flight[W]) -> None:
        """This flight's leader now needs `other` to land first."""
        if self.blocked_on and len(self.blocked_on) < self._room:  # else thousands of keys would copy as many each
            self.blocked_on.append(other)
            return
        left = [flight for flight in self.blocked_on if flight.outcome is None]
        self.blocked_on, self._room = [*left, other], 2 * len(left)

    def unblock(self, other: Flight[W]) -> None:
        """It does not any more."""
        self.blocked_on = [flight for flight in self.blocked_on if flight is not other]


LEADING: ContextVar[tuple[Flight[Any], ...]] = ContextVar("resilient_cache.leading", default=())
"""The flights that the running context leads, outermost first; tasks that a loader starts inherit them."""


def lead(flight: Flight[Any]) -> None:
    """Note that the running context leads `flight`. Landed ones are let go of: a task may inherit them for ever."""
    leading = LEADING.get()
    LEADING.set((*(led for led in leading if led.outcome is None), flight) if leading else (flight,))


@final
class Flights(Generic[W]):
    """The flights of one cache. Every method is called under the cache's lock; those woken are woken outside it.

    Requests of different modes fly apart: they may not share what a switch has ended, nor end each other's flights.
    """

    __slots__ = ("_age", "live")

    def __init__(self, age: float) -> None:
        self._age = age
        self.live: dict[tuple[str, Mode], Flight[W]] = {}

    def find(self, key: str, mode: Mode) -> Flight[W] | None:
        """The flight of `key`, stuck or not. Needs no lock."""
        return self.live.get((key, mode))

    def find_locked(self, key: str, mode: Mode, now: float) -> Flight[W] | None:
        """The flight to join; one that is stuck is detached and not given."""
        flight = self.live.get((key, mode))
        if flight is not None and self._is_stuck(flight, now):
            self.detach_locked(key, mode)
            return None
        return flight

    def take_off_locked(self, key: str, mode: Mode, stamp: int, now: float) -> Flight[W]:
        """A new flight, led by the caller, in place of one that is there."""
        flight: Flight[W] = Flight(key, mode, stamp, now)  # not Flight[W](...), which costs 0.8 us more
        before = self.live.get(flight.place)
        if before is not None:
            before.detached = True
        self.live[flight.place] = flight
        return flight

    def detach_locked(self, key: str, *modes: Mode) -> bool:
        """Let no one else join the flights of `key`, which are for those aboard then; whether there were any."""
        detached = False
        for mode in modes or Mode:
            flight = self.live.pop((key, mode), None)
            if flight is not None:
                flight.detached = detached = True
        return detached

    def close_locked(self, flight: Flight[W]) -> None:
        """Let no one else join `flight`."""
        if not flight.detached:
            self.live.pop(flight.place, None)
            flight.detached = True

    def detach_all_locked(self) -> None:
        """Let no one else join any flight."""
        for flight in list(self.live.values()):
            flight.detached = True
        self.live.clear()

    def land_locked(self, flight: Flight[W], outcome: object) -> list[W]:
        """End `flight` with `outcome`; gives the waiters to wake."""
        flight.outcome = outcome
        self.close_locked(flight)
        return self._all_aboard(flight) if flight.waiters else []

    def hand_out_locked(self, flight: Flight[W], found: object) -> list[W]:
        """Give those aboard what was `found` while the load goes on; gives the waiters to wake."""
        if flight.outcome is not None:
            return []
        flight.found = found
        return self._all_aboard(flight, FOUND)

    def leave_locked(self, flight: Flight[W], waiter: W | None, stamp: int, now: float) -> list[W]:
        """One aboard goes, None for the caller that took off; gives the waiters to wake, each with its verdict."""
        if flight.outcome is not None or flight.leader is not waiter:
            if waiter is not None and flight.waiters:
                flight.waiters.pop(waiter, None)
            return []
        if flight.ready is not None:  # taken away while it wrote to the store: the load is done
            return self.land_locked(flight, flight.ready)
        if flight.detached or not flight.waiters:
            self.close_locked(flight)
            flight.outcome = AGAIN
            return self._all_aboard(flight, AGAIN)
        heir, _ = flight.waiters.popitem(last=False)
        flight.leader, flight.stamp, flight.since, flight.reading = heir, stamp, now, NEVER
        heir.verdict = LEAD
        return [heir]

    def clear_locked(self) -> None:
        """Forget every flight: their leaders are in another process."""
        self.live.clear()

    def stuck(self, now: float) -> int:
        """How many flights are older than they should be."""
        return sum(self._is_stuck(flight, now) for flight in list(self.live.values()))

    def __len__(self) -> int:
        """How many flights can be joined."""
        return len(self.live)

    def _is_stuck(self, flight: Flight[W], now: float) -> bool:
        """In the very sum that waiters reckon their patience with: `now - since >= age` may round otherwise."""
        return flight.since + self._age <= now

    def _all_aboard(self, flight: Flight[W], verdict: str | None = None) -> list[W]:
        woken, flight.waiters = list(flight.waiters), ()
        for waiter in woken:
            waiter.verdict = verdict
        return woken
