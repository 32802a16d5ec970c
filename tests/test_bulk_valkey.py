"""Many keys over a real Valkey: how many calls they are, and what they cost."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from resilient_cache import AsyncResilientCache, CachePolicy, FailureKind, Invalidation, ResilientCache, StoreError
from resilient_cache.adapters.redis import AsyncRedisAdapter, RedisAdapter
from resilient_cache.bulk import Loaded

pytestmark = pytest.mark.realtime

KEYS = [f"key {number}" for number in range(1_000)]
VALUES = {key: {"of": key} for key in KEYS}


class Counted:
    """An adapter whose calls are counted; of those for many, every other one may fail."""

    def __init__(self, adapter: Any) -> None:
        self.adapter = adapter
        self.calls: list[str] = []
        self.fails = False

    def _count(self, operation: str) -> None:
        self.calls.append(operation)
        if self.fails and len(self.calls) % 2:
            raise StoreError(FailureKind.UNAVAILABLE, "by plan")


class Sync(Counted):
    def get(self, key: str) -> Any:
        self.calls.append("get")
        return self.adapter.get(key)

    def set(self, key: str, value: bytes, ttl: float) -> Any:
        return self.adapter.set(key, value, ttl)

    def delete(self, key: str) -> Any:
        return self.adapter.delete(key)

    def get_many(self, keys: Any) -> Any:
        self._count("get_many")
        return self.adapter.get_many(keys)

    def set_many(self, entries: Any) -> Any:
        return self.adapter.set_many(entries)

    def delete_many(self, keys: Any) -> Any:
        return self.adapter.delete_many(keys)


class Async(Counted):
    async def get(self, key: str) -> Any:
        self.calls.append("get")
        return await self.adapter.get(key)

    async def set(self, key: str, value: bytes, ttl: float) -> Any:
        return await self.adapter.set(key, value, ttl)

    async def delete(self, key: str) -> Any:
        return await self.adapter.delete(key)

    async def get_many(self, keys: Any) -> Any:
        self._count("get_many")
        return await self.adapter.get_many(keys)

    async def set_many(self, entries: Any) -> Any:
        return await self.adapter.set_many(entries)

    async def delete_many(self, keys: Any) -> Any:
        return await self.adapter.delete_many(keys)


@pytest.fixture(params=["sync", "async"])
def caches(request: pytest.FixtureRequest, valkey: str) -> Iterator[Any]:
    """How to call, an adapter, and two caches over it; the second is another process's, for all it knows."""
    options: Any = {"name": uuid.uuid4().hex, "policy": CachePolicy(timeout=5)}
    if request.param == "sync":
        with contextlib.closing(RedisAdapter.from_url(valkey)) as inner:
            adapter: Any = Sync(inner)
            yield lambda call, *args: call(*args), adapter, *(ResilientCache(adapter, **options) for _ in range(2))
        return
    with asyncio.Runner() as runner:
        awaited = AsyncRedisAdapter.from_url(valkey)
        adapter = Async(awaited)
        yield (
            lambda call, *args: runner.run(call(*args)),
            adapter,
            *(AsyncResilientCache(adapter, **options) for _ in range(2)),
        )
        runner.run(awaited.aclose())


def test_a_thousand_keys_are_three_calls_and_half_of_them_failing_half_are_hits(caches: Any) -> None:
    run, adapter, first, other = caches
    asked: list[list[str]] = []

    def load_many(keys: list[str]) -> Any:
        asked.append(keys)
        return {key: VALUES[key] for key in keys}

    async def aload_many(keys: list[str]) -> Any:
        return load_many(keys)

    loader = load_many if isinstance(first, ResilientCache) else aload_many
    assert run(first.get_or_load_many, KEYS, loader) == VALUES
    adapter.calls.clear()
    assert run(other.get_or_load_many, KEYS, loader) == VALUES
    assert len(adapter.calls) <= 3
    assert len(asked) == 1
    adapter.fails = True
    adapter.calls.clear()
    hits = run(first.get_many, KEYS)
    assert len(hits) == 500
    loaded: Loaded[str, Any] = run(first.get_or_load_many, KEYS, loader)
    assert loaded == VALUES
    assert [len(keys) for keys in asked] == [1_000, 500]
    adapter.fails = False
    assert run(first.set_many, dict.fromkeys(KEYS, "x" * 10_000)) is True
    assert run(other.get_many, KEYS) == dict.fromkeys(KEYS, "x" * 10_000)
    assert run(first.invalidate_many, KEYS) is Invalidation.CONFIRMED
    assert run(other.get_many, KEYS) == {}


def test_many_at_once_are_cheaper_than_each(caches: Any) -> None:
    """Measured at 3 to 5 times, in time of the processor, as others use the machine; 1.5 is asked for."""
    run, _, cache, _ = caches
    assert run(cache.set_many, VALUES) is True
    took: dict[str, float] = {}
    for name, calls in (("many", [(cache.get_many, KEYS)]), ("each", [(cache.get, key) for key in KEYS])):
        for _ in range(3):
            began = time.process_time()
            for call in calls:
                assert run(*call)
            took[name] = min(took.get(name, float("inf")), time.process_time() - began)
    assert took["each"] > 1.5 * took["many"], took
