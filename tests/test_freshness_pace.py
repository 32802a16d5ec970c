"""In real time: nobody waits for a hot key that is kept fresh, and nobody fails with cache and origin down."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from resilient_cache import AsyncResilientCache, CachePolicy, ResilientCache, StoreError
from resilient_cache.errors import FailureKind

pytestmark = pytest.mark.realtime

RATE = 2_000
LASTS = 1.5
LOAD = 0.02
BOTH = CachePolicy(ttl=0.25, stale_for=60, early_refresh=True, refresh_behind=True, epoch_ttl=None)


def holds(cache: Any, loads: int, requests: int) -> None:
    stats = cache.stats()
    assert requests > LASTS * RATE / 4, "this machine is too slow to say anything"
    assert loads >= 4
    assert stats["loads"] == 1, "somebody waited for a load after the first"
    assert stats["hits"] + stats["stale"] == requests - 1
    assert stats["errors"] == 0


def test_no_thread_waits_for_a_hot_key() -> None:
    """2 000 requests a second for one key whose ttl is 0.25 s: the first one loads, all others are served at once."""
    cache = ResilientCache[str, int](None, name="pace", memory=10, policy=BOTH)
    started: list[float] = []

    def load(_: str) -> int:
        started.append(time.monotonic())
        time.sleep(LOAD)
        return len(started)

    def ask(threads: int) -> int:
        asked, until = 0, time.monotonic() + LASTS
        while time.monotonic() < until:
            cache.get_or_load("hot", load)
            asked += 1
            time.sleep(threads / RATE)
        return asked

    cache.get_or_load("hot", load)
    with ThreadPoolExecutor(4) as pool:
        requests = 1 + sum(pool.map(ask, [4] * 4))
    holds(cache, len(started), requests)
    cache.close()


def test_no_task_waits_for_a_hot_key() -> None:
    """The same for tasks."""

    async def main() -> None:
        cache = AsyncResilientCache[str, int](None, name="pace", memory=10, policy=BOTH)
        started: list[float] = []

        async def load(_: str) -> int:
            started.append(time.monotonic())
            await asyncio.sleep(LOAD)
            return len(started)

        await cache.get_or_load("hot", load)
        requests, until = 1, time.monotonic() + LASTS
        while time.monotonic() < until:
            await asyncio.gather(*(cache.get_or_load("hot", load) for _ in range(10)))
            requests += 10
            await asyncio.sleep(10 / RATE)
        holds(cache, len(started), requests)
        await cache.aclose()

    asyncio.run(main())


KEYS = [f"k{number}" for number in range(20)]
REQUESTS = 200
RETRY = 0.4
WAVES = 3


class Store:
    """A store that works until it does not."""

    down = False

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def check(self) -> None:
        if self.down:
            raise StoreError(FailureKind.CONNECTION)

    def get(self, key: str, /) -> bytes | None:
        self.check()
        return self.held.get(key)

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        self.check()
        self.held[key] = value

    def delete(self, key: str, /) -> None:
        self.check()
        self.held.pop(key, None)


class AsyncStore:
    """The same with coroutines."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def get(self, key: str, /) -> bytes | None:
        return self.store.get(key)

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        self.store.set(key, value, ttl)

    async def delete(self, key: str, /) -> None:
        self.store.delete(key)


def seldom(loads: dict[str, list[float]]) -> None:
    """At most one load per key and `stale_retry`."""
    assert set(loads) == set(KEYS)
    for times in loads.values():
        assert all(later - earlier >= RETRY for earlier, later in itertools.pairwise(times))


policies = pytest.mark.parametrize(
    "policy",
    [
        CachePolicy(ttl=0.05, stale_for=60, stale_retry=RETRY, epoch_ttl=None, refresh_behind=behind)
        for behind in (False, True)
    ],
    ids=["refresh inline", "refresh behind"],
)


@policies
def test_no_thread_fails_with_cache_and_origin_down(policy: CachePolicy) -> None:
    """Cache and origin down, entries just past their ttl: 0 of 200 requests fail, in each of three waves."""
    store, loads = Store(), defaultdict[str, list[float]](list)
    cache = ResilientCache[str, str](store, name="pace", memory=100, policy=policy)
    for key in KEYS:
        cache.set(key, key)
    store.down = True
    time.sleep(0.06)

    def load(key: str) -> str:
        loads[key].append(time.monotonic())
        time.sleep(0.01)
        raise OSError("the origin is down")

    with ThreadPoolExecutor(32) as pool:
        for _ in range(WAVES):
            asked = [KEYS[number % len(KEYS)] for number in range(REQUESTS)]
            assert list(pool.map(lambda key: cache.get_or_load(key, load), asked)) == asked
            time.sleep(RETRY / 2)
    seldom(loads)
    cache.close()


@policies
def test_no_task_fails_with_cache_and_origin_down(policy: CachePolicy) -> None:
    """The same for tasks."""

    async def main() -> None:
        store, loads = Store(), defaultdict[str, list[float]](list)
        cache = AsyncResilientCache[str, str](AsyncStore(store), name="pace", memory=100, policy=policy)
        for key in KEYS:
            await cache.set(key, key)
        store.down = True
        await asyncio.sleep(0.06)

        async def load(key: str) -> str:
            loads[key].append(time.monotonic())
            await asyncio.sleep(0.01)
            raise OSError("the origin is down")

        for _ in range(WAVES):
            asked = [KEYS[number % len(KEYS)] for number in range(REQUESTS)]
            assert await asyncio.gather(*(cache.get_or_load(key, load) for key in asked)) == asked
            await asyncio.sleep(RETRY / 2)
        seldom(loads)
        await cache.aclose()

    asyncio.run(main())
