"""Nothing becomes slower unnoticed: what a call executes is counted in lines of Python, which no other load disturbs.

A line is no measure of time, but no call becomes much slower without executing more of them. `make bench` measures.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import resilient_cache
from resilient_cache import AsyncResilientCache, CachePolicy, ResilientCache
from resilient_cache.adapters import AsyncMappingAdapter, MappingAdapter

GENERATED = "<string>"  # the wrappers of decorated functions
PACKAGE = str(Path(resilient_cache.__file__).parent)
POLICY = CachePolicy(ttl=3_600)
MOST = {
    "get": 9,
    "get_or_load": 9,
    "cached": 8,
    "hit in the store": 310,
    "miss without a store": 315,
    "miss with a store": 535,
    "set": 286,
    "invalidate": 261,
    "async get": 9,
    "async get_or_load": 9,
    "async hit in the store": 338,
}
"""Lines as of the last time that somebody has looked; a quarter more is too many."""


def lines_of(call: Callable[[], object]) -> int:
    """How many lines of the package a call executes."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith((PACKAGE, GENERATED)):
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def loader(_: str) -> int:
    return 1


async def aloader(_: str) -> int:
    return 1


def sync_calls() -> dict[str, Callable[[], object]]:
    memory: ResilientCache[str, int] = ResilientCache(None, name="memory", memory=10, policy=POLICY)
    stored: ResilientCache[str, int] = ResilientCache(MappingAdapter(), name="stored", policy=POLICY)
    numbers = iter(range(100))

    @memory.cached(key="cached:{tenant}")
    def cached(tenant: str) -> int:
        return len(tenant)

    cached("a")
    memory.set("k", 1)
    stored.set("k", 1)
    stored.get("k")
    return {
        "get": lambda: memory.get("k"),
        "get_or_load": lambda: memory.get_or_load("k", loader),
        "cached": lambda: cached("a"),
        "hit in the store": lambda: stored.get_or_load("k", loader),
        "miss without a store": lambda: memory.get_or_load(f"n{next(numbers)}", loader),
        "miss with a store": lambda: stored.get_or_load(f"n{next(numbers)}", loader),
        "set": lambda: stored.set("s", 1),
        "invalidate": lambda: stored.invalidate("i"),
    }


async def async_calls() -> dict[str, Callable[[], Coroutine[Any, Any, object]]]:
    memory: AsyncResilientCache[str, int] = AsyncResilientCache(None, name="memory", memory=10, policy=POLICY)
    stored: AsyncResilientCache[str, int] = AsyncResilientCache(AsyncMappingAdapter(), name="stored", policy=POLICY)
    await memory.set("k", 1)
    await stored.set("k", 1)
    await stored.get("k")
    return {
        "async get": lambda: memory.get("k"),
        "async get_or_load": lambda: memory.get_or_load("k", aloader),
        "async hit in the store": lambda: stored.get_or_load("k", aloader),
    }


@pytest.fixture(scope="module")
def counted() -> dict[str, int]:
    found = {}
    for name, call in sync_calls().items():
        call()
        found[name] = lines_of(call)
    with asyncio.Runner() as runner:
        for name, start in runner.run(async_calls()).items():
            runner.run(start())
            found[name] = lines_of(lambda start=start: runner.run(start()))  # type: ignore[misc]
    return found


@pytest.mark.parametrize("name", MOST)
def test_a_call_executes_no_more_than_it_did(counted: dict[str, int], name: str) -> None:
    assert counted[name] <= 1.25 * MOST[name], counted


def test_every_call_is_counted(counted: dict[str, int]) -> None:
    assert counted.keys() == MOST.keys()
    assert all(counted.values())


def test_a_call_that_does_more_is_found() -> None:
    """The counter sees what happens inside, and nothing outside of the package."""
    cache: ResilientCache[str, int] = ResilientCache(None, name="memory", memory=10, policy=POLICY)
    cache.set("k", 1)
    once = lines_of(lambda: cache.get("k"))
    assert lines_of(lambda: [cache.get("k") for _ in range(3)]) == 3 * once
    assert lines_of(lambda: [loader("k") for _ in range(3)]) == 0
