"""The caches that a simulation is given: the real one, and some that are broken by one small patch each.

A broken cache tests the tests: one that is not caught has found a hole in the checker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from resilient_cache import AsyncResilientCache, Invalidation, Mode, Reason, Source, _sealing
from resilient_cache._async_store import Store as AsyncStore
from resilient_cache._guard import Answer, Guard
from resilient_cache._loads import Loads
from resilient_cache._local import Local
from resilient_cache._request import GATES, Failure
from resilient_cache._rules import Rules
from resilient_cache._sealing import Sealing
from resilient_cache.breaker import Breaker
from resilient_cache.bulkhead import Bulkhead
from resilient_cache.envelope import HEAD, open_envelope
from resilient_cache.fences import Fences
from resilient_cache.flights import Flights
from resilient_cache.journal import Journal
from resilient_cache.testing.simulation.swarm import Setup

__all__ = ["BROKEN", "breaking", "real"]

Change = tuple[Any, str, Any]


def real(setup: Setup) -> Any:
    """The real cache, with as few fences as the seed wants."""
    cache = AsyncResilientCache(setup.adapter, **setup.options)
    cache._rules.local.fences._capacity = setup.fences
    return cache


def around(owner: Any, name: str, wrap: Callable[..., Any]) -> Change:
    """Put `wrap(original, ...)` in place of a method."""
    original = getattr(owner, name)

    def wrapped(*args: Any, **options: Any) -> Any:
        return wrap(original, *args, **options)

    return owner, name, wrapped


def open_unfenced(original: Any, *args: Any) -> Any:
    with patch.object(Fences, "admits", lambda *_: True):
        return original(*args)


def invalidate_and_stay(_original: Any, self: Any, key: str) -> int:
    stamp: int = self.stamps.next()
    self.fences.raise_locked(key, stamp)
    for tier in (self.memory, self.negatives, self.stand_ins):
        tier.drop_locked(key)
    return stamp


def confirm_and_forget(original: Any, self: Any, key: str, stamp: int) -> Any:
    was_owed = original(self, key, stamp)
    self.fences._fences.pop(key, None)
    return was_owed


def raise_and_forget(_original: Any, self: Any, key: str, stamp: int) -> None:
    self._fences[key] = max(self._fences.pop(key, 0), stamp)
    if len(self._fences) > self._capacity:
        del self._fences[next(iter(self._fences))]


def stamp_the_end(original: Any, self: Any, request: Any, flight: Any, given: Any) -> Any:
    request.stamp = self._local.stamps.next()
    flight.detached = False
    return original(self, request, flight, given)


def leave_and_end(original: Any, self: Any, flight: Any, waiter: Any, now: float) -> None:
    if flight.outcome is None and flight.leader is waiter and not flight.ready:
        self.land(flight, Failure(asyncio.CancelledError(), None, Source.NONE, None))
    original(self, flight, waiter, now)


def fail_and_release(original: Any, self: Any, call: Any, error: Any, **options: Any) -> Any:
    self._leases.release(call.lease)
    return original(self, call, error, **options)


def admit_all(original: Any, self: Any, now: float) -> Any:
    self._probe = 0
    return original(self, now)


def hear_late(original: Any, self: Any, ticket: int, *now: float) -> Any:
    return original(self, self._ticket or self._probe or ticket, *now)


async def swallow(original: Any, *args: Any) -> Any:
    try:
        return await original(*args)
    except asyncio.CancelledError:
        return Answer(Reason.ERROR)


def open_any_key(data: Any, namespace: bytes, key: bytes, codec: bytes) -> Any:
    if isinstance(data, bytes) and len(data) > HEAD.size:
        start = HEAD.size + len(namespace)
        key = data[start : start + HEAD.unpack_from(data)[-2]]
    return open_envelope(data, namespace, key, codec)


def fail_with_another(original: Any, self: Any, request: Any, flight: Any, error: Exception) -> Any:
    return original(self, request, flight, RuntimeError(str(error)))


def confirm_always(original: Any, *args: Any) -> Any:
    original(*args)
    return Invalidation.CONFIRMED


def wait_twice(original: Any, self: Any, *args: Any) -> Any:
    call = original(self, *args)
    return call if isinstance(call, Reason) else call._replace(until=call.began + 2 * self.timeout)


def board_alone(original: Any, self: Any, request: Any, *args: Any) -> Any:
    request.forced, forced = True, request.forced
    try:
        return original(self, request, *args)
    finally:
        request.forced = forced


def trust_the_clocks(original: Any, self: Any, *args: Any) -> None:
    original(self, *args)
    self.margin = 0


def count_twice(original: Any, self: Any, result: Any, reason: Any) -> Any:
    self.reporter.count("hits_store")
    return original(self, result, reason)


def leave_it_there(original: Any, self: Any, flight: Any, outcome: Any) -> Any:
    woken = original(self, flight, outcome)
    self._flights[flight.key, flight.mode] = flight
    return woken


def end_with_the_first(original: Any, self: Any, name: str, stamp: int, now: float) -> Any:
    was_owed = original(self, name, stamp, now)
    if was_owed:
        del self._confirmed[name]
    return was_owed


def end_with_an_older(original: Any, self: Any, name: str, stamp: int, now: float) -> Any:
    if name in self._owed and self._owed[name].stamp > stamp:
        del self._owed[name]
        return True
    return original(self, name, stamp, now)


def give_up_and_release(original: Any, self: Any, request: Any, flight: Any) -> Any:
    told = original(self, request, flight)
    if told is not None:
        self.origin.left(flight)
    return told


BROKEN: dict[str, tuple[Change, ...]] = {
    "no fence on read": (around(Sealing, "open", open_unfenced),),
    "join across a fence": (
        around(Local, "invalidate", invalidate_and_stay),
        around(Local, "_may_join_locked", lambda _, self, request, flight: not request.forced),
    ),
    "fence dropped at the acknowledgement": (around(Local, "confirm", confirm_and_forget),),
    "overflow that forgets": (around(Fences, "raise_locked", raise_and_forget),),
    "end stamp without a write-back check": (around(Loads, "loaded", stamp_the_end),),
    "flight ends with its first caller": (around(Local, "leave", leave_and_end),),
    "permit released at the timeout": (around(Guard, "failed", fail_and_release),),
    "a permit for everyone": (around(Bulkhead, "acquire", lambda _, self, now, lease: self.force(lease)),),
    "load's permit released with its caller": (around(Loads, "timed_out", give_up_and_release),),
    "half-open admits all": (around(Breaker, "_admit_probe", admit_all),),
    "late ticket counted": tuple(around(Breaker, verdict, hear_late) for verdict in ("failure", "success", "neutral")),
    "stale past its window": (
        around(Local, "may_serve", lambda _, self, key, found: self.fences.admits(key, found.stamp)),
    ),
    "cancellation swallowed": (around(AsyncStore, "_ask", swallow),),
    "wrong key accepted": ((_sealing, "open_envelope", open_any_key),),
    "loader's error replaced": (around(Loads, "failed", fail_with_another),),
    "confirmed whatever the store said": (around(Rules, "invalidated", confirm_always),),
    "twice the timeout": (around(Guard, "admit", wait_twice),),
    "no single flight": (around(Local, "board", board_alone),),
    "clocks trusted": (around(Local, "__init__", trust_the_clocks),),
    "counted twice": (around(Rules, "finish", count_twice),),
    "writes when read-only": ((GATES[Mode.ON].__class__, "write", property(lambda _: True)),),
    "keeps nothing": (
        around(Sealing, "seal", lambda *_: None),
        around(Local, "_put_locked", lambda *_: True),
    ),
    "landed flight stays": (around(Flights, "land_locked", leave_it_there),),
    "no replay": (around(Journal, "owe_locked", lambda *_: None),),
    "no second delete": (around(Journal, "confirm_locked", end_with_the_first),),
    "write of unknown outcome forgotten": (around(Journal, "suspect_locked", lambda *_: None),),
    "replay confirmed by an older delete": (around(Journal, "confirm_locked", end_with_an_older),),
}
"""By what is broken: (owner, attribute, what stands there instead)."""


@contextmanager
def breaking(name: str) -> Iterator[None]:
    """Within the block every cache is broken in the way of `name`; not at all for ""."""
    with ExitStack() as stack:
        for owner, attribute, instead in BROKEN[name] if name else ():
            stack.enter_context(patch.object(owner, attribute, instead))
        yield
