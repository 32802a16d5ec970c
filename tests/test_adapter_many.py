"""What the adapters for many keys do beyond the contract."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from cachetools import LRUCache

from resilient_cache import AsyncResilientCache, FailureKind, ResilientCache, StoreError
from resilient_cache.adapters import AsyncMappingAdapter, MappingAdapter, from_functions
from resilient_cache.adapters._redis_many import are_ok, are_values
from resilient_cache.adapters.redis import AsyncRedisAdapter, RedisAdapter
from resilient_cache.deadline import CURRENT


def test_a_mapping_leaves_out_what_is_no_entry() -> None:
    """One bad entry is none, and does not cost the others."""
    entries: Any = {"a": 7, "b": b"as it is"}
    assert MappingAdapter(entries).get_many(["a", "b", "c"]) == {"b": b"as it is"}
    assert asyncio.run(AsyncMappingAdapter(entries).get_many(["a", "b", "c"])) == {"b": b"as it is"}


def test_a_mapping_keeps_what_fits_and_tells_of_what_does_not() -> None:
    adapter = MappingAdapter(LRUCache(100, getsizeof=len))
    with pytest.raises(StoreError) as raised:
        adapter.set_many({"a": (b"1", 60.0), "b": (b"x" * 200, 60.0), "c": (b"3", 60.0)})
    assert raised.value.kind is FailureKind.PER_KEY
    assert adapter.get_many(["a", "b", "c"]) == {"a": b"1", "c": b"3"}
    adapter.delete_many(["a", "x"])
    assert adapter.get_many(["a", "c"]) == {"c": b"3"}


def test_functions_for_many_are_there_where_they_are_given() -> None:
    store = MappingAdapter()
    threads: set[str] = set()

    def get_many(keys: Any) -> dict[str, bytes]:
        threads.add(threading.current_thread().name)
        return store.get_many(keys)

    for options in ({}, {"threads": 2}):
        adapter: Any = from_functions(store.get, store.set, store.delete, get_many=get_many, **options)  # type: ignore[call-overload]
        cache = ResilientCache[str, int](adapter, name=f"functions{len(options)}")
        assert cache.set_many({"a": 1, "b": 2}) is True
        assert cache.get_many(["a", "b", "c"]) == {"a": 1, "b": 2}
        assert cache.stats()["store_set"] == 3  # the mark, and one each
    assert len(threads) == 2

    astore = AsyncMappingAdapter()
    awaited = from_functions(
        astore.get, astore.set, astore.delete, set_many=astore.set_many, delete_many=astore.delete_many
    )

    async def main() -> None:
        acache = AsyncResilientCache[str, int](awaited, name="functions")
        assert await acache.set_many({"a": 1, "b": 2}) is True
        assert await acache.get_many(["a", "b", "c"]) == {"a": 1, "b": 2}
        assert await acache.invalidate_many(["a", "b"]) == "confirmed"
        assert await acache.get_many(["a"]) == {}

    asyncio.run(main())


class Answers:
    """A client that gives what it is told to."""

    def __init__(self, reply: object) -> None:
        self.reply = reply

    def get_many(self, _: object) -> object:
        return self.reply


class AsyncAnswers(Answers):
    async def get_many(self, _: object) -> object:
        return self.reply


@pytest.mark.parametrize("reply", [None, [b"1"], [b"1", 2], "OK"])
def test_what_is_no_answer_to_mget_is_a_failure(reply: object) -> None:
    adapter = RedisAdapter.from_url("redis://127.0.0.1:1")
    adapter._client = Answers(reply)
    with pytest.raises(StoreError) as raised:
        adapter.get_many(["a", "b"])
    assert raised.value.kind is FailureKind.CONNECTION
    awaited = AsyncRedisAdapter.from_url("redis://127.0.0.1:1")
    awaited._client = AsyncAnswers(reply)
    with pytest.raises(StoreError) as raised:
        asyncio.run(awaited.get_many(["a", "b"]))
    assert raised.value.kind is FailureKind.CONNECTION


def test_what_answers_what() -> None:
    assert are_values([b"1", None])
    assert not are_values([b"1", "OK"])
    assert are_ok(["OK", "OK"])
    assert not are_ok(["OK", b"OK"])
    assert not are_ok("OK")


def test_a_call_for_many_with_no_time_left_is_not_made() -> None:
    async def main() -> None:
        adapter = AsyncRedisAdapter.from_url("redis://127.0.0.1:1")
        CURRENT.set((0.0, lambda: 1.0))
        for call in (adapter.get_many(["a"]), adapter.set_many({"a": (b"1", 1.0)}), adapter.delete_many(["a"])):
            with pytest.raises(StoreError) as raised:
                await call
            assert raised.value.kind is FailureKind.TIMEOUT
        await adapter.aclose()
        with pytest.raises(StoreError, match="closed"):
            await adapter.get_many(["a"])

    asyncio.run(main())


def test_a_key_that_cannot_be_sent_is_of_its_kind() -> None:
    adapter = RedisAdapter.from_url("redis://127.0.0.1:1")
    for call in (lambda: adapter.get_many(["\ud800"]), lambda: adapter.delete_many(["\ud800"])):
        with pytest.raises(StoreError) as raised:
            call()
        assert raised.value.kind is FailureKind.PER_KEY
