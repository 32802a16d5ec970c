"""A circuit breaker as a pure machine: the clock's reading comes in with every call, the verdict goes out as a value.

Theory. A circuit guards one direction of one store and must open soon when the store is gone, must not open for a
hiccup, and must let business through again soon after the store is back. One rule is not enough: five failures in a
row open after 175 failures paid at 2 000 calls/s on a black hole (a rate window alone paid 5 458), but alone they
opened 330 times an hour on a 30 ms stall every 10 s; asking that the five span 0.1 s made that 0. A store that fails
half of the time never fails five times in a row soon, hence the rate rule beside it.

Slow is not failed. A store that always answers, and always later than the origin would, fails never: two more rules,
off unless asked for, hear how long calls took. One counts those not answered within `slow_after`; a call that failed
was not, however soon it failed. The other adds up what calls lost: one that failed all of its time, one that was
answered what it took beyond `slow_after`, which is the caller's word for what an answer is worth waiting for. It finds
the store that times out for one caller in five (50 ms each of 250) and is quick for the other four, which no share of
calls does. A slow call may open the circuit and ends a row of failures; a quick one does neither more nor less than
before. A slow probe opens it again, whatever had opened it: it would be closed to be found slow once more.

Tickets. `admit` gives an int: positive for a call through a closed circuit, negative for a probe, 0 for "not now".
Each opening and closing retires the tickets before it, so a late result can neither open nor close what came after.
A probe is leased, not held: one that never reports is replaced when its lease is over.

Invariants.
  1 a call through a closed circuit and its success, unless slow, take no lock, and read no clock of their own;
  2 in half-open at most one probe is out within its lease, and everyone else is rejected, never parked;
  3 a result whose ticket is not of the present generation changes nothing, nor does `neutral` but for when the next
    probe may go;
  4 a failure turned into a success that took as long never brings an opening forward; neutral results move nothing.

Lost on the way: buckets filled without the clock's reading (turning a failure into a success could then trip earlier,
against invariant 4), a lock on success (117 ns), exceptions for rejection (a raised object costs more than the load),
the measured time of loads in place of `slow_after` (a circuit would open because the origin had become quicker, and a
circuit around a store alone hears of no loads), a miss as lost time (an emptied store would be kept from being filled).
"""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from types import TracebackType
from typing import Final, NamedTuple, final

from .events import CircuitState
from .policy import BreakerPolicy, float_of

__all__ = ["REJECTED", "UP", "Breaker", "Forced", "Transition"]

REJECTED: Final = 0
UP: Final = (CircuitState.CLOSED, CircuitState.FORCED_CLOSED)
BUCKETS: Final = 10
FOREVER: Final = float("inf")
PAST: Final = -FOREVER
EMPTY: Final[tuple[float, ...]] = (-1, 0, 0, 0, 0.0)
"""A bucket: its index, successes, failures, how many successes were slow, seconds lost."""


class Transition(NamedTuple):
    """A change of state to tell others about; `hold` is how long an opened circuit stays so, in seconds."""

    before: CircuitState
    after: CircuitState
    hold: float


@final
class Breaker:
    """One circuit. Safe to share between threads. `now` is always a monotonic reading in seconds."""

    __slots__ = (
        "_buckets",
        "_current",
        "_forced",
        "_issued",
        "_lease_until",
        "_lock",
        "_on_close",
        "_openings",
        "_policy",
        "_probe",
        "_random",
        "_slow_after",
        "_state",
        "_streak",
        "_streak_since",
        "_successes",
        "_ticket",
        "_tilt",
        "_until",
        "_width",
    )

    def __init__(
        self,
        policy: BreakerPolicy,
        random: Callable[[], float],
        lock: RLock,
        on_close: Callable[[], object] | None = None,
    ) -> None:
        """`on_close`: called without the lock when the circuit is closed by hand, or let go of and was open."""
        self._policy = policy
        self._random = random
        self._lock = lock
        self._on_close = on_close
        self._width = float_of(policy.window) / BUCKETS
        self._slow_after = FOREVER if policy.slow_after is None else float_of(policy.slow_after)
        self._forced: list[CircuitState] = []
        self._issued = 0
        self._openings = 0  # in a row: k of the hold's 2**(k-1)
        self._tilt = 0.0  # when `_openings` was last right; it decays from there while closed
        self._close()

    def _close(self, state: CircuitState = CircuitState.CLOSED) -> None:
        self._state = state
        self._buckets: list[list[float]] = [list(EMPTY) for _ in range(BUCKETS)]
        self._current: tuple[float, list[float]] = FOREVER, self._buckets[0]  # an index, and its bucket
        self._streak = 0
        self._probe = 0
        self._until = PAST
        self._ticket = 0 if state is CircuitState.FORCED_OPEN else self._issue()

    @property
    def state(self) -> CircuitState:
        """The state as of the last call; an open circuit turns half-open with the first call after its hold."""
        return self._state

    def retry_in(self, now: float) -> float:
        """Seconds until the next probe may go, 0.0 when it may go now or the circuit is closed."""
        return max(0.0, self._until - now)

    def admit(self, now: float) -> int:
        """A ticket: positive to call, negative to call as the probe, `REJECTED` not to call at all."""
        return self._ticket or self._admit_probe(now)

    def success(self, ticket: int, now: float) -> Transition | None:
        """The call of `ticket` was answered. `now` may be the reading its admission was asked with."""
        index, bucket = self._current
        if ticket == self._ticket and now // self._width == index:
            bucket[1] += 1  # since `_current` was read nothing has been called: no other thread got in
            self._streak = 0
            return None
        with self._lock:
            return self._success_locked(ticket, now)

    def answered(self, ticket: int, now: float, took: float) -> Transition | None:
        """The call of `ticket` was answered at `now` after `took` seconds: a success, which may have been slow."""
        if took <= self._slow_after:
            return self.success(ticket, now)
        with self._lock:
            return self._report_locked(ticket, now, took - self._slow_after, failed=False)

    def failure(self, ticket: int, now: float, took: float = 0.0) -> Transition | None:
        """The call of `ticket` failed at `now` after `took` seconds."""
        with self._lock:
            return self._report_locked(ticket, now, took, failed=True)

    def neutral(self, ticket: int, until: float = PAST) -> None:
        """The call of `ticket` says nothing about the store: cancelled, or refused for its key only.

        `until`: no other probe may go before, as it would be told no more than this one.
        """
        with self._lock:
            if self._is_probe(ticket):
                self._probe = 0
                self._until = until

    def force_open(self) -> Forced:
        """Reject every call, probes too, until the handle is released.

        Handles count: the last one released returns the circuit to closed, fresh. Open wins over closed.
        """
        return self._force_to(CircuitState.FORCED_OPEN)

    def force_closed(self) -> Forced:
        """Admit every call, whatever fails, until the handle is released. Handles count as for `force_open`."""
        return self._force_to(CircuitState.FORCED_CLOSED)

    def _force_to(self, state: CircuitState) -> Forced:
        self._obey(self._forced.append, state)
        return Forced(self, state)

    def release(self, state: CircuitState) -> None:
        """Give back one hold on `state`; `Forced.release` does it."""
        self._obey(self._forced.remove, state)

    def _obey(self, change: Callable[[CircuitState], None], state: CircuitState) -> None:
        with self._lock:
            before = self._state
            change(state)
            self._openings = 0
            held = CircuitState.FORCED_OPEN if CircuitState.FORCED_OPEN in self._forced else CircuitState.FORCED_CLOSED
            self._close(held if self._forced else CircuitState.CLOSED)
            closes = before not in UP and self._state in UP
        if closes and self._on_close is not None:
            self._on_close()

    def _issue(self) -> int:
        self._issued += 1
        return self._issued

    def _admit_probe(self, now: float) -> int:
        if now < self._until:  # as for most of those who come to an open circuit: 0.3 us less
            return REJECTED
        with self._lock:
            if self._ticket:  # another thread has just closed it
                return self._ticket
            if now < self._until:  # or has just opened it again
                return REJECTED
            if self._state is CircuitState.FORCED_OPEN or (self._probe and now < self._lease_until):
                return REJECTED
            self._state = CircuitState.HALF_OPEN
            self._probe = -self._issue()
            self._lease_until: float = now + float_of(self._policy.lease)
            return self._probe

    def _success_locked(self, ticket: int, now: float) -> Transition | None:
        if ticket == self._ticket:  # of an open circuit too: what it counts is forgotten with the closing
            self._bucket_locked(now)[1] += 1
            self._streak = 0
        elif self._is_probe(ticket) and now < self._lease_until:
            self._probe = 0
            self._successes += 1
            if self._successes >= self._policy.probes:
                self._close()
                self._tilt = now
                return Transition(CircuitState.HALF_OPEN, CircuitState.CLOSED, 0.0)
        return None

    def _is_probe(self, ticket: int) -> bool:
        return ticket < 0 and ticket == self._probe

    def _bucket_locked(self, now: float) -> list[float]:
        index = int(now // self._width)
        bucket = self._buckets[index % BUCKETS]
        if bucket[0] < index:
            bucket[:] = (index, *EMPTY[1:])
        self._current = index, bucket
        return bucket

    def _report_locked(self, ticket: int, now: float, lost: float, *, failed: bool) -> Transition | None:
        if ticket and ticket == self._ticket:
            return self._count_locked(now, lost, failed=failed)
        if self._is_probe(ticket) and now < self._lease_until:
            return self._open_locked(now)
        return None

    def _count_locked(self, now: float, lost: float, *, failed: bool) -> Transition | None:
        if self._state is CircuitState.FORCED_CLOSED:
            return None
        bucket = self._bucket_locked(now)
        bucket[4] += lost
        if failed:
            if not self._streak:
                self._streak_since = now
            self._streak += 1
            bucket[2] += 1
        else:
            self._streak = 0
            bucket[1] += 1
            bucket[3] += 1
        opens = (failed and self._in_a_row(now)) or self._too_bad(now, failed=failed)
        return self._open_locked(now) if opens else None

    def _in_a_row(self, now: float) -> bool:
        return self._streak >= self._policy.consecutive and now - self._streak_since >= float_of(self._policy.span)

    def _too_bad(self, now: float, *, failed: bool) -> bool:
        policy, oldest = self._policy, int(now // self._width) - BUCKETS
        live = [bucket for bucket in self._buckets if bucket[0] > oldest]
        failures = sum(bucket[2] for bucket in live)
        calls = failures + sum(bucket[1] for bucket in live)
        if calls < policy.min_calls:
            return False
        if failed and failures >= policy.failure_rate * calls:
            return True
        if policy.slow_after is not None and failures + sum(b[3] for b in live) >= policy.slow_rate * calls:
            return True
        return policy.lost_time is not None and sum(b[4] for b in live) >= float_of(policy.lost_time) * calls

    def _open_locked(self, now: float) -> Transition:
        before = self._state
        if before is CircuitState.CLOSED:
            closed_for = now - self._tilt
            self._openings = max(0, self._openings - max(0, int(closed_for / float_of(self._policy.decay))))
        self._openings += 1
        longest = min(float_of(self._policy.max_hold), float_of(self._policy.hold) * 2.0 ** min(self._openings - 1, 60))
        hold = longest * (0.5 + 0.5 * self._random())
        self._until = now + hold  # before the state: who finds it open asks next until when, and takes no lock
        self._state = CircuitState.OPEN
        self._ticket = self._probe = self._successes = 0
        return Transition(before, CircuitState.OPEN, hold)


@final
class Forced:
    """The handle of a forced circuit: `release()`, once or more often, or leave its `with` block."""

    __slots__ = ("_breaker", "_state")

    def __init__(self, breaker: Breaker, state: CircuitState) -> None:
        self._breaker: Breaker | None = breaker
        self._state = state

    def release(self) -> None:
        """Let go of the circuit. Releasing twice is harmless."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.release(self._state)

    def __enter__(self) -> Forced:
        """The handle itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release it."""
        self.release()
