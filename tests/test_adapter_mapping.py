"""A mapping as a store: entries expire whatever the mapping knows about time, and nothing else is changed."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, MutableMapping
from typing import Any, Protocol

import cachetools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_cache.adapters import AsyncMappingAdapter, MappingAdapter
from resilient_cache.errors import FailureKind, MisuseError, StoreError
from resilient_cache.protocols import AsyncCacheAdapter, CacheAdapter


class Store(Protocol):
    def get(self, key: str, /) -> bytes | None: ...
    def set(self, key: str, value: bytes, ttl: float, /) -> None: ...
    def delete(self, key: str, /) -> None: ...


class Awaited:
    """The async adapter, called as the sync one is."""

    def __init__(self, mapping: MutableMapping[str, bytes] | None = None, **options: Any) -> None:
        self._adapter = AsyncMappingAdapter(mapping, **options)
        assert isinstance(self._adapter, AsyncCacheAdapter)

    def get(self, key: str, /) -> bytes | None:
        return asyncio.run(self._adapter.get(key))

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        asyncio.run(self._adapter.set(key, value, ttl))

    def delete(self, key: str, /) -> None:
        asyncio.run(self._adapter.delete(key))


Make = Callable[..., Store]
both = pytest.mark.parametrize("make", [MappingAdapter, Awaited])


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@both
def test_what_was_set_is_got_until_it_is_deleted_and_deleting_twice_is_harmless(make: Make) -> None:
    store = make()
    assert store.get("k") is None
    store.set("k", b"v", 60.0)
    assert store.get("k") == b"v"
    store.delete("k")
    store.delete("k")
    assert store.get("k") is None


@both
def test_an_entry_lives_exactly_as_long_as_its_ttl_and_then_leaves_the_mapping(make: Make) -> None:
    clock, mapping = Clock(), dict[str, bytes]()
    store = make(mapping, monotonic=clock)
    store.set("k", b"v", 10.0)
    clock.now += 9.999
    assert store.get("k") == b"v"
    clock.now += 0.001
    assert store.get("k") is None
    assert mapping == {}


def test_a_second_set_replaces_value_and_ttl() -> None:
    clock = Clock()
    store = MappingAdapter(monotonic=clock)
    store.set("k", b"old", 1.0)
    store.set("k", b"new", 100.0)
    clock.now += 50
    assert store.get("k") == b"new"


@given(value=st.binary(), ttl=st.floats(0.001, 1e6), key=st.text())
def test_any_bytes_come_back_as_they_were(value: bytes, ttl: float, key: str) -> None:
    store = MappingAdapter()
    store.set(key, value, ttl)
    got = store.get(key)
    assert got == value
    assert type(got) is bytes


@pytest.mark.parametrize("foreign", [b"", b"something else", b"\x00ttl", b"\x00ttl-short"])
def test_bytes_of_somebody_else_are_handed_out_as_they_are(foreign: bytes) -> None:
    assert MappingAdapter({"k": foreign}).get("k") == foreign


@both
def test_an_entry_that_is_not_bytes_fails_its_key_alone(make: Make) -> None:
    mapping: Any = {"k": "text"}
    store = make(mapping)
    with pytest.raises(StoreError, match="holds a str") as caught:
        store.get("k")
    assert caught.value.kind is FailureKind.PER_KEY
    assert store.get("other") is None


@pytest.mark.parametrize(
    "cache",
    [
        cachetools.LRUCache(10),
        cachetools.TTLCache(10, 60),
        cachetools.LFUCache(10),
        cachetools.FIFOCache(10),
        cachetools.TLRUCache(10, lambda key, value, now: now + 60),
    ],
    ids=lambda cache: type(cache).__name__,
)
def test_any_cachetools_cache_will_do(cache: MutableMapping[str, bytes]) -> None:
    store = MappingAdapter(cache)
    for number in range(20):
        store.set(str(number), b"v", 60.0)
    assert sum(store.get(str(number)) is not None for number in range(20)) == 10


def test_the_mappings_own_ttl_counts_where_it_is_shorter() -> None:
    clock = Clock()
    store = MappingAdapter(cachetools.TTLCache(10, 5, timer=clock), monotonic=clock)
    store.set("k", b"v", 60.0)
    clock.now += 6
    assert store.get("k") is None


def test_sizes_are_what_the_cache_can_measure_and_a_value_too_large_fails_its_key_alone() -> None:
    store = MappingAdapter(cachetools.LRUCache(100, getsizeof=len))
    store.set("small", b"v" * 50, 60.0)
    with pytest.raises(StoreError, match="101 bytes") as caught:
        store.set("large", b"v" * 101, 60.0)
    assert caught.value.kind is FailureKind.PER_KEY
    assert store.get("small") == b"v" * 50


def test_a_question_makes_no_entry_in_a_defaultdict() -> None:
    mapping: defaultdict[str, bytes] = defaultdict(bytes)
    assert MappingAdapter(mapping).get("k") is None
    assert mapping == {}


class Broken(dict[str, bytes]):
    def __init__(self, error: Exception) -> None:
        self.error = error

    def get(self, *_: object) -> Any:
        raise self.error

    def pop(self, *_: object) -> Any:
        raise self.error

    def __setitem__(self, key: str, value: bytes) -> None:
        raise self.error


@both
@pytest.mark.parametrize("error", [OSError("disk"), ValueError("no"), KeyError("k"), RuntimeError("changed size")])
def test_what_the_mapping_raises_is_raised_through(make: Make, error: Exception) -> None:
    store = make(Broken(error))
    calls: list[Callable[[], object]] = [
        lambda: store.get("k"),
        lambda: store.set("k", b"v", 1.0),
        lambda: store.delete("k"),
    ]
    for call in calls:
        with pytest.raises(type(error)) as caught:
            call()
        assert caught.value is error


@both
@pytest.mark.parametrize("wrong", [[], object(), 5, "text"])
def test_an_object_that_is_no_mapping_is_refused_at_once(make: Make, wrong: object) -> None:
    with pytest.raises(MisuseError, match="mapping must be a mutable mapping"):
        make(wrong)


def test_the_adapter_is_one() -> None:
    assert isinstance(MappingAdapter(), CacheAdapter)


def test_threads_do_not_disturb_one_another() -> None:
    store = MappingAdapter(cachetools.LRUCache(8))
    errors: list[Exception] = []

    def work(seed: int) -> None:
        try:
            for number in range(2_000):
                key = str((number * seed) % 16)
                store.set(key, key.encode(), 60.0)
                assert store.get(key) in (None, key.encode())
                store.delete(key)
        except Exception as error:
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in (3, 5, 7, 11)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert errors == []


def test_a_signal_handler_may_call_while_the_lock_is_held() -> None:
    """The same thread coming in again must not wait for itself."""

    class Reentering(dict[str, bytes]):
        def __setitem__(self, key: str, value: bytes) -> None:
            super().__setitem__(key, value)
            assert store.get("other") is None

    store = MappingAdapter(Reentering())
    store.set("k", b"v", 60.0)
    assert store.get("k") == b"v"
