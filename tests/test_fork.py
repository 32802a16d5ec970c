"""A forked child can use the cache, whatever its parent's other threads were doing at that moment (real processes)."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from resilient_cache import AsyncResilientCache, Invalidation, ResilientCache, forking
from resilient_cache.adapters import MappingAdapter
from resilient_cache.events import Settled
from resilient_cache.stamps import SYSTEM_RANDOM

from .servers import in_child

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
]


def test_a_child_uses_the_cache_of_its_parent() -> None:
    cache: ResilientCache[str, str] = ResilientCache(MappingAdapter(), name="forked", memory=10)
    assert cache.get_or_load("k", lambda _: "parent") == "parent"

    def work() -> bool:
        seen = cache.get("k") == "parent" and cache.invalidate("k") is Invalidation.CONFIRMED
        return seen and cache.get_or_load("k", lambda _: "child") == "child"

    assert in_child(work)
    assert cache.get("k") == "parent"


def test_a_flight_of_a_thread_that_is_not_forked_holds_up_nobody_in_the_child() -> None:
    cache: ResilientCache[str, str] = ResilientCache(MappingAdapter(), name="forked", memory=10)
    loading, done = threading.Event(), threading.Event()

    def slow(_: str) -> str:
        loading.set()
        done.wait()
        return "parent"

    thread = threading.Thread(target=cache.get_or_load, args=("k", slow))
    thread.start()
    assert loading.wait(10)
    try:
        assert in_child(lambda: cache.get_or_load("k", lambda _: "child") == "child")
    finally:
        done.set()
        thread.join()
    assert cache.get("k") == "parent"


def test_children_do_not_draw_the_same_numbers() -> None:
    """Or all the workers of a server would load again, and try again, at one moment."""
    drawn, written = os.pipe()
    for _ in range(2):
        assert in_child(lambda: os.write(written, f"{SYSTEM_RANDOM()}\n".encode()) > 0)
    os.close(written)
    with os.fdopen(drawn) as file:
        assert len({*file.read().split(), str(SYSTEM_RANDOM())}) == 3


def test_the_lock_of_the_cache_is_free_in_the_child() -> None:
    cache: ResilientCache[str, int] = ResilientCache(MappingAdapter(), name="forked", memory=10)
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            cache.set("busy", 1)
            cache.invalidate("busy")

    threads = [threading.Thread(target=churn) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for n in range(20):
            assert in_child(lambda n=n: cache.get_or_load(f"k{n}", lambda _: n) == n)  # type: ignore[misc]
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_what_has_to_know_of_a_fork_before_it_is_told_under_its_lock() -> None:
    """Traced here: a tracer must not come along into a child, so the forks of other tests are not."""

    class File:
        lock = threading.RLock()
        told = 0

        def forking(self) -> None:
            self.told += 1

        def forked(self) -> None:
            """Nothing to do."""

    file = File()
    forking.protect(file)
    forking._before()
    try:
        assert file.told == 1
        with ThreadPoolExecutor(1) as pool:
            assert not pool.submit(file.lock.acquire, blocking=False).result()
    finally:
        forking._after_in_parent()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(file.lock.acquire, blocking=False).result()


class Unsteady:
    """Has nothing, and fails once when it is told to."""

    fails = False

    async def get(self, key: str, /) -> None:
        """Nothing."""

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        """Nothing."""

    async def delete(self, key: str, /) -> None:
        if self.fails:
            self.fails = False
            raise ConnectionError(key)


def test_what_a_child_is_owed_is_asked_for_by_a_task_of_its_own() -> None:
    """Though the task of its parent, which waits for the second look, is in its memory as if it were alive."""
    store = Unsteady()
    settled = asyncio.Event()
    cache: AsyncResilientCache[str, str] = AsyncResilientCache(
        store, name="forked", hooks=[lambda event: settled.set() if type(event) is Settled else None]
    )

    async def child() -> bool:
        store.fails = True
        pending = await cache.invalidate("k") is Invalidation.PENDING
        async with asyncio.timeout(3):
            await settled.wait()
        return pending and cache.health()["pending_invalidations"] == 0

    async def parent() -> None:
        assert await cache.invalidate("k") is Invalidation.CONFIRMED
        await asyncio.sleep(0)
        assert in_child(lambda: asyncio.run(child()))
        await cache.aclose()

    asyncio.run(parent())
