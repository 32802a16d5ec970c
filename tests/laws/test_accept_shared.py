"""L13, L14: who shares a load asks his own guard about it; one load is enough for all who may."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from resilient_cache import AsyncResilientCache, CachePolicy, Mode, NoSafeValue, ResilientCache, Source
from resilient_cache.adapters import MappingAdapter
from resilient_cache.testing import ManualClock, run_virtual

from ..virtual import pass_time

LAX = CachePolicy(epoch_ttl=None, ttl=60, stale_for=300, jitter=0, timeout=2)
STRICT = replace(LAX, accept=lambda key, value: value != "wrong")
PATIENCE = 5.0


class Threads:
    """Callers in threads; what they wait for, a load or the store, is held until all of them are there."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MappingAdapter(monotonic=self.clock.monotonic)
        self.go, self.held = threading.Event(), threading.Event()
        self.holds = ""
        self.pool = ThreadPoolExecutor(8)
        self.loads = 0

    def open(self, policy: CachePolicy, memory: int) -> Any:
        self.cache = ResilientCache(self, name="shared", policy=policy, memory=memory, clock=self.clock)
        return self.cache

    def get(self, key: str) -> bytes | None:
        self.hold("store")
        return self.store.get(key)

    def set(self, key: str, value: bytes, ttl: float) -> None:
        self.store.set(key, value, ttl)

    def delete(self, key: str) -> None:
        self.store.delete(key)

    def hold(self, what: str) -> None:
        if self.holds == what:
            self.held.set()
            assert self.go.wait(PATIENCE)

    def ask(self, policy: CachePolicy, outcome: Any) -> Any:
        def load(key: str) -> Any:
            self.loads += 1
            self.hold("load")
            return outcome

        return self.cache.lookup("k", load, policy=policy)

    def together(self, outcome: Any, *policies: CachePolicy, hold: str = "load") -> list[Any]:
        """What each got, in this order; the first leads."""
        self.holds = hold
        calls: list[Future[Any]] = []
        for policy in policies:
            calls.append(self.pool.submit(self.ask, policy, outcome))
            assert self.held.wait(PATIENCE)
            self.seated(len(calls) - 1)
        self.holds = ""
        self.go.set()
        return [call.exception(PATIENCE) or call.result(PATIENCE) for call in calls]

    def seated(self, count: int) -> None:
        tick = threading.Event()
        flights = self.cache._rules.local.flights.live
        for _ in range(int(PATIENCE * 1000)):
            if any(len(flight.waiters) == count for flight in list(flights.values())):
                return
            tick.wait(0.001)
        raise AssertionError("they never came")

    def run(self, method: Callable[..., Any], *args: Any) -> Any:
        return method(*args)


class Tasks:
    """The same in tasks; the store and the loader take time instead."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MappingAdapter(monotonic=self.clock.monotonic)
        self.loads = 0
        self.store_takes = 0.0

    def open(self, policy: CachePolicy, memory: int) -> Any:
        self.cache: Any = AsyncResilientCache(self, name="shared", policy=policy, memory=memory, clock=self.clock)
        return self.cache

    async def get(self, key: str) -> bytes | None:
        await pass_time(self.store_takes)
        return self.store.get(key)

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        self.store.set(key, value, ttl)

    async def delete(self, key: str) -> None:
        self.store.delete(key)

    def together(self, outcome: Any, *policies: CachePolicy, hold: str = "load") -> list[Any]:
        async def load(key: str) -> Any:
            self.loads += 1
            await pass_time(1)
            return outcome

        async def main() -> list[Any]:
            calls = [self.cache.lookup("k", load, policy=policy) for policy in policies]
            return await asyncio.gather(*calls, return_exceptions=True)

        self.store_takes = 1.0 if hold == "store" else 0.0
        try:
            return run_virtual(main(), self.clock)
        finally:
            self.store_takes = 0.0

    def run(self, method: Callable[..., Any], *args: Any) -> Any:
        async def main() -> Any:
            return await method(*args)

        return run_virtual(main(), self.clock)


@pytest.fixture(params=[Threads, Tasks], ids=["sync", "async"])
def crowd(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = request.param()
    yield made
    if isinstance(made, Threads):
        made.go.set()
        made.pool.shutdown()


def told(results: list[Any]) -> list[Any]:
    return [type(result) if isinstance(result, Exception) else result.value for result in results]


@pytest.mark.parametrize("memory", [0, 10])
def test_a_leader_that_refuses_harms_nobody(crowd: Any, memory: int) -> None:
    """L14: who accepts what was loaded is given it, in one load; but nobody keeps what the leader refused."""
    cache = crowd.open(LAX, memory)
    assert told(crowd.together("wrong", STRICT, LAX, STRICT, LAX)) == [NoSafeValue, "wrong", NoSafeValue, "wrong"]
    assert crowd.loads == 1
    assert crowd.run(cache.get, "k") is None
    assert not crowd.run(crowd.get, "shared:k")


@pytest.mark.parametrize("memory", [0, 10])
def test_a_follower_that_refuses_harms_nobody(crowd: Any, memory: int) -> None:
    """L13: he is given nothing, though the leader is; one load."""
    cache = crowd.open(LAX, memory)
    assert told(crowd.together("wrong", LAX, STRICT, LAX, STRICT)) == ["wrong", NoSafeValue, "wrong", NoSafeValue]
    assert crowd.loads == 1
    assert crowd.run(cache.get, "k") == "wrong"


def test_the_guard_of_the_cache_is_everybodys(crowd: Any) -> None:
    """L13: also of those whose call brings a policy without one."""
    crowd.open(STRICT, 10)
    assert told(crowd.together("wrong", LAX, STRICT, LAX)) == [NoSafeValue] * 3
    assert crowd.loads == 1


def test_a_shared_hit_that_some_refuse_is_loaded_once_for_them(crowd: Any) -> None:
    """L13, L14: what the leader read from the store is no answer to them, and one load is."""
    cache = crowd.open(LAX, 0)
    crowd.run(cache.set, "k", "wrong")
    results = crowd.together("right", LAX, STRICT, STRICT, LAX, STRICT, hold="store")
    assert told(results) == ["wrong", "right", "right", "wrong", "right"]
    assert [found.source for found in results[:2]] == [Source.STORE, Source.LOADER]
    assert crowd.run(cache.get, "k") == "right"
    assert crowd.loads <= (3 if isinstance(crowd, Threads) else 1)  # threads: one may be over before the next asks


def test_what_the_leader_has_stands_in_for_all_who_accept_it(crowd: Any) -> None:
    """L12, L13: only the leader has seen it in the store, and the load was refused."""
    cache = crowd.open(LAX, 0)
    crowd.run(cache.set, "k", "right")
    crowd.clock.advance(70)
    results = crowd.together("wrong", STRICT, STRICT, replace(LAX, accept=lambda *_: False), LAX)
    assert told(results) == ["right", "right", NoSafeValue, "wrong"]
    assert results[0].stale
    assert results[1].stale


def test_who_refused_what_he_was_to_share_may_be_given_what_is_stale(crowd: Any) -> None:
    """L12: the load that he asks for then may fail like any other."""
    cache = crowd.open(LAX, 10)
    crowd.run(cache.set, "k", "right")
    other = (type(cache))(crowd, name="shared", policy=LAX, clock=crowd.clock)
    crowd.clock.advance(70)
    crowd.run(other.set, "k", "wrong")
    results = crowd.together("wrong", LAX, STRICT, hold="store")
    assert told(results) == ["wrong", "right"]
    assert results[1].stale


def test_frozen_shares_what_is_stale_with_those_who_accept_it(crowd: Any) -> None:
    """L13: the leader's answer is not the follower's, and nothing is loaded for him."""
    cache = crowd.open(LAX, 0)
    crowd.run(cache.set, "k", "wrong")
    crowd.clock.advance(70)
    cache.mode = Mode.FROZEN
    assert told(crowd.together("right", LAX, STRICT, LAX, hold="store")) == ["wrong", NoSafeValue, "wrong"]
    assert crowd.loads == 0
