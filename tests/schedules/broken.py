"""Caches that are broken on purpose, in the way of threads: each lacks one lock, or one check inside a lock.

They test the tests: a schedule that finds none of them finds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from resilient_cache import ResilientCache
from resilient_cache._local import Local
from resilient_cache.breaker import REJECTED, Breaker, Transition
from resilient_cache.events import CircuitState
from resilient_cache.flights import LEADING
from resilient_cache.leases import Leases
from resilient_cache.policy import float_of
from resilient_cache.testing.simulation.swarm import Setup

__all__ = ["BROKEN", "broken", "real"]


def real(setup: Setup) -> Any:
    """The real cache, with as few fences as the seed wants."""
    cache: Any = ResilientCache(setup.adapter, **setup.options)
    cache._rules.local.fences._capacity = setup.fences
    return cache


def invalidate_in_steps(self: Any, key: str) -> int:
    """(a) `Local.invalidate` without the lock: it drops, and then it fences."""
    stamp: int = self.stamps.next()
    for tier in (self.memory, self.negatives, self.stand_ins):
        tier.drop_locked(key)
    self.fences.raise_locked(key, stamp)
    self.flights.detach_locked(key)
    return stamp


def board_unlocked(self: Any, request: Any, make_waiter: Any, now: float) -> Any:
    """(b) `Local.board` without the lock: two find no flight, and both lead one."""
    leading = LEADING.get()
    flight = self.flights.find_locked(request.key, request.mode, now)
    if flight is not None and self._may_join_locked(request, flight):
        waiter = make_waiter()
        flight.sit(waiter)
        return flight, waiter
    flight = self.flights.take_off_locked(request.key, request.mode, self.stamps.tick_locked(), now)
    if leading:
        leading[-1].block(flight)
    return flight, None


def keep_checked_before(self: Any, key: str, found: Any, flight: Any = None, **_: Any) -> bool:
    """(c) `Local.keep` that looks at the fence before it takes the lock, and not within it."""
    if not self._current_locked(key, found, flight):
        return False
    with self._lock:
        self.negatives.drop_locked(key)
        self.stand_ins.drop_locked(key)
        self.memory.put_locked(key, found.value, found.fresh_until, found.stale_until, found.stamp)
        return True


def acquire_unlocked(self: Any, now: float) -> int:
    """(d) `Leases.acquire` without the lock: two see the last permit."""
    if len(self._until) >= self._limit:
        self._until = {lease: until for lease, until in self._until.items() if until > now}
        if len(self._until) >= self._limit:
            return 0
    self._issued += 1
    lease: int = self._issued
    self._until[lease] = now + self._life
    return lease


def admit_probe_unlocked(self: Any, now: float) -> int:
    """(e) `Breaker._admit_probe` without the lock: two see that there is no probe."""
    if self._ticket:
        return int(self._ticket)
    if self._state is CircuitState.OPEN and now >= self._until:
        self._state = CircuitState.HALF_OPEN
    if self._state is not CircuitState.HALF_OPEN or (self._probe and now < self._lease_until):
        return REJECTED
    self._lease_until = now + float_of(self._policy.lease)
    self._probe = -self._issue()
    return int(self._probe)


def success_unlocked(self: Any, ticket: int, now: float) -> Transition | None:
    """(f) `Breaker.success` without the lock: what it finds half-open may be open when it closes it."""
    if ticket and ticket == self._ticket:
        self._bucket_locked(now)[1] += 1
        self._streak = 0
    elif self._is_probe(ticket) and now < self._lease_until:
        self._successes += 1
        done = self._successes >= self._policy.probes
        self._probe = 0
        if done:
            self._close()
            self._tilt = now
            return Transition(CircuitState.HALF_OPEN, CircuitState.CLOSED, 0.0)
    return None


BROKEN: dict[str, tuple[type, str, Callable[..., Any]]] = {
    "invalidate": (Local, "invalidate", invalidate_in_steps),
    "board": (Local, "board", board_unlocked),
    "keep": (Local, "keep", keep_checked_before),
    "acquire": (Leases, "acquire", acquire_unlocked),
    "admit_probe": (Breaker, "_admit_probe", admit_probe_unlocked),
    "success": (Breaker, "success", success_unlocked),
}


@contextmanager
def broken(name: str) -> Iterator[None]:
    """Within the block every cache is broken in that way."""
    owner, method, worse = BROKEN[name]
    sound = getattr(owner, method)
    setattr(owner, method, worse)
    try:
        yield
    finally:
        setattr(owner, method, sound)
