"""The caches that a simulation is given: the real one, and some that are broken by one small patch each.

A broken cache tests the tests: one that is not caught has found a hole in the checker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from resilient_cache import AsyncResilientCache, Invalidation, Mode, Reason, Source, _sealing
from resilient_cache._async_replay import Replay
from resilient_cache._async_store import Store as AsyncStore
from resilient_cache._guard import Answer, Guard
from resilient_cache._lineup import Lineup, Trip
from resilient_cache._loads import Loads
from resilient_cache._local import Local
from resilient_cache._marking import Marking
from resilient_cache._plane import Plane
from resilient_cache._request import GATES, Failure
from resilient_cache._rules import Rules
from resilient_cache._sealing import Sealing
from resilient_cache._vendors import Vendor
from resilient_cache.breaker import Breaker
from resilient_cache.bulkhead import Bulkhead
from resilient_cache.envelope import HEAD, open_envelope
from resilient_cache.failover import AsyncFailover
from resilient_cache.fences import Fences
from resilient_cache.flights import Flights
from resilient_cache.journal import Journal
from resilient_cache.marks import Mark, Marks
from resilient_cache.testing.simulation import Run, Setup, shorten, simulate

__all__ = ["BROKEN", "breaking", "real", "run", "short"]

Change = tuple[Any, str, Any]


def real(setup: Setup) -> Any:
    """The real cache, with as few fences as the seed wants."""
    cache = AsyncResilientCache(setup.adapter, **setup.options)
    cache._rules.local.fences._capacity = setup.fences
    return cache


def run(seed: int = 0, choices: Sequence[int] | None = None) -> Run:
    """One schedule of the real cache, some with the real failover."""
    return simulate(real, seed, choices, failover=AsyncFailover)


def short(found: Run, tries: int = 400) -> Run:
    """A shorter one that breaks the same promise."""
    return shorten(real, found, tries, failover=AsyncFailover)


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


def confirm_and_forget(original: Any, self: Any, key: str, stamp: int, *kind: str) -> Any:
    was_owed = original(self, key, stamp, *kind)
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


def distrust_nothing_in_the_air(original: Any, self: Any) -> None:
    barred = self.barred
    original(self)
    self.barred = barred


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
    self.live[flight.place] = flight
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
    if isinstance(told, Failure):
        self.origin.left(flight)
    return told


def believe_unread(original: Any, self: Any, versions: Any, _now: float) -> Any:
    return original(self, versions, float("-inf"))


def take_any_version(original: Any, self: Any, versions: Any, now: float) -> Any:
    return original(self, [(name, self.version(name)) for name, _ in versions], now)


def live_for_ever(original: Any, self: Any, life: float, *args: Any) -> None:
    original(self, 1e9 if life else life, *args)


def mark_and_stay(_original: Any, self: Any, name: str) -> int:
    stamp: int = self.stamps.next()
    self.owe_locked("m" + name, stamp)
    self.tell(["m" + name])
    return stamp


def mark_and_fly_on(original: Any, self: Any, name: str) -> int:
    barred, flights = self.barred, self.flights
    with patch.object(type(flights), "detach_all_locked", lambda _: None):
        stamp: int = original(self, name)
    self.barred = barred
    return stamp


def revoke_nothing(_original: Any, self: Any, name: str, stamp: int, answer: Any, asked: float) -> Any:
    found = self._open(name, answer.value)[0] if answer.failed is None else None
    if found is not None:
        self._local.learn(name, found, asked)
    known = self._local.marks.version(name) or self._next(name, stamp)
    return self._make(name, Mark(known, self._local.marks.invalidated(name)))


def owe_keys_only(original: Any, self: Any, name: str, *args: Any) -> None:
    if not name.startswith("m"):
        original(self, name, *args)


def drop_what_was_told(_original: Any, self: Any, names: Any) -> None:
    for name in names:
        if name.startswith("k"):
            self._drop_locked(name[1:])


def keep_since_ever(original: Any, self: Any, *args: Any, since: float = 0.0, early: float = 0.0) -> Any:
    return original(self, *args, early=early)


def tell_no_more(original: Any, self: Any, names: Any, *, handed_over: bool) -> None:
    original(self, names if handed_over else (), handed_over=handed_over)


async def delete_from_the_first(original: Any, self: Any, key: str, /) -> None:
    vendors, self._vendors = self._vendors, self._vendors[:1]
    deleting = original(self, key)
    try:
        await deleting
    finally:
        self._vendors = vendors


def stand_in_for_ever(original: Any, self: Any, *args: Any, life: float, **options: Any) -> None:
    original(self, *args, life=3600.0, **options)


def claim_nothing(_original: Any, _self: Any, vendor: Any, key: str, ttl: float) -> None:
    vendor.hold(key, ttl)


def confirm_the_latest(original: Any, self: Any, key: str, _stamp: int) -> None:
    original(self, key, self.stamp())


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
    # marks
    "marks believed unread": (around(Marks, "verdict", believe_unread),),
    "mark never read again": (around(Marks, "__init__", live_for_ever),),
    "any version of a mark accepted": (around(Marks, "verdict", take_any_version),),
    "own mark not fenced at once": (around(Local, "invalidate_many", mark_and_stay),),
    "loads in the air ignore a mark": (around(Local, "invalidate_many", mark_and_fly_on),),
    "mark written, word not kept": (around(Marking, "revoke", revoke_nothing),),
    "no replay of marks": (around(Journal, "owe_locked", owe_keys_only),),
    "mark confirmed whatever the store said": (around(Rules, "invalidated", confirm_always),),
    # a backplane
    "peer's message ignored": (around(Local, "heard", lambda *_: None),),
    "peer's message drops and does not fence": (around(Local, "heard", drop_what_was_told),),
    "gap not distrusted": (around(Local, "distrust", lambda *_: None),),
    "gap distrusted but for reads in the air": (around(Local, "keep", keep_since_ever),),
    "flight of before a gap joined": (around(Local, "distrust", distrust_nothing_in_the_air),),
    "lost message not told again": (around(Plane, "published", tell_no_more),),
    "peers not told": (around(Local, "tell", lambda *_: None),),
    # several vendors
    "read from a vendor that owes": (around(Vendor, "may_be_read", lambda *_: True),),
    "invalidation of the first vendor only": (around(AsyncFailover, "delete", delete_from_the_first),),
    "stand-in's life not shortened": (around(Vendor, "__init__", stand_in_for_ever),),
    "what a stand-in was given owed by nobody": (around(Vendor, "outdated", lambda *_: None),),
    "what a stand-in was given owed too late": (around(Lineup, "claim", claim_nothing),),
    "vendor's write of unknown outcome not doubted": (around(Vendor, "doubt", lambda *_: None),),
    "confirmed although a vendor did not": (around(Trip, "pending", lambda *_: None),),
    "vendor not asked again": (around(Replay, "soon", lambda *_: None),),
    "debt of a vendor settled by an earlier delete": (around(Vendor, "confirmed", confirm_the_latest),),
}
"""By what is broken: (owner, attribute, what stands there instead)."""


@contextmanager
def breaking(name: str) -> Iterator[None]:
    """Within the block every cache is broken in the way of `name`; not at all for ""."""
    with ExitStack() as stack:
        for owner, attribute, instead in BROKEN[name] if name else ():
            stack.enter_context(patch.object(owner, attribute, instead))
        yield
