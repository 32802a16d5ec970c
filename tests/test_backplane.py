"""Backplanes for real: threads that listen, servers that die, caches of both colours on one channel."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from resilient_cache import AsyncResilientCache, CachePolicy, ResilientCache
from resilient_cache.adapters import AsyncMappingAdapter, MappingAdapter
from resilient_cache.adapters.redis import AsyncRedisAdapter, RedisAdapter
from resilient_cache.adapters.redis_backplane import AsyncRedisBackplane, RedisBackplane
from resilient_cache.testing import AsyncLocalBackplane, BackplaneHub, LocalBackplane

from .servers import ValkeyServer, in_child

pytestmark = pytest.mark.realtime

POLICY = CachePolicy(ttl=600, stale_for=600, jitter=0, timeout=0.25)


def until(condition: Callable[[], object], seconds: float = 5.0) -> float:
    """Wait for `condition`; how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, "it never came"
        time.sleep(0.005)
    return time.monotonic() - began


def listens(cache: Any) -> bool:
    health: dict[str, Any] = cache.health()["backplane"]
    return bool(health["listening"])


async def begun(cache: Any) -> None:
    """Wait until `cache` listens."""
    for _ in range(5_000):
        if listens(cache):
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came")


def mine() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name == "resilient_cache listens"}


class Pair:
    """Two synchronous caches over one mapping, on one hub."""

    def __init__(self, stack: ExitStack) -> None:
        self.hub = BackplaneHub()
        self.shared: dict[str, Any] = {}
        self._stack = stack
        self.here, self.there = self.another(), self.another()
        for cache in (self.here, self.there):
            cache.get("the first call")
            until(lambda cache=cache: listens(cache))  # type: ignore[misc]

    def another(self) -> ResilientCache[str, str]:
        return self._stack.enter_context(
            ResilientCache(
                MappingAdapter(self.shared),
                name="pair",
                memory=100,
                policy=POLICY,
                backplane=LocalBackplane(self.hub),
            )
        )


@pytest.fixture
def pair() -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(stack)
    until(lambda: not mine())


def test_threads_hear_what_is_invalidated(pair: Pair) -> None:
    assert pair.here.get_or_load("k", lambda _: "old") == pair.there.get("k") == "old"
    pair.shared.clear()
    assert pair.there.get("k") == "old"
    pair.here.invalidate("k")
    until(lambda: pair.there.get("k") is None)


def test_a_thread_whose_subscription_ends_listens_again_and_trusts_no_copy(pair: Pair) -> None:
    assert pair.here.get_or_load("k", lambda _: "old") == pair.there.get("k") == "old"
    pair.shared.clear()
    pair.hub.down()
    until(lambda: not listens(pair.there))
    assert pair.there.get("k") is None
    pair.hub.heal()
    until(lambda: listens(pair.there))


def test_a_forked_child_listens_itself(pair: Pair) -> None:
    def child() -> bool:
        heard = not any(thread.name.endswith("listens") for thread in threading.enumerate())
        pair.there.get("its first call")
        return heard and until(lambda: mine()) < 5

    assert in_child(child)


def test_a_forked_child_trusts_no_copy_of_its_parent(pair: Pair) -> None:
    """Nobody listens there until its first call that touches the store."""
    assert pair.here.get_or_load("k", lambda _: "old") == pair.there.get("k") == "old"
    pair.shared.clear()
    assert in_child(lambda: pair.there.get("k") is None)
    assert pair.there.get("k") == "old"


def test_a_child_that_is_forked_out_of_a_loop_listens_in_its_own() -> None:
    """The task that listens in the loop of its parent is neither done, nor is that loop closed."""
    hub, shared = BackplaneHub(), dict[str, Any]()
    there = AsyncResilientCache[str, str](
        AsyncMappingAdapter(shared), name="pair", memory=9, policy=POLICY, backplane=AsyncLocalBackplane(hub)
    )

    async def in_its_own() -> bool:
        heard = await there.get("k") is None
        await begun(there)
        return heard

    async def main() -> None:
        await there.set("k", "old")
        await begun(there)
        await there.set("k", "old")
        shared.clear()
        assert in_child(lambda: asyncio.run(asyncio.wait_for(in_its_own(), 5)))
        assert await there.get("k") == "old"
        await there.aclose()

    asyncio.run(main())


def test_what_a_loop_leaves_behind_the_next_one_does_not_trust() -> None:
    """The task that listened was cancelled with its loop; a hit in memory begins no other."""
    hub, shared = BackplaneHub(), dict[str, Any]()
    cache = AsyncResilientCache[str, str](
        AsyncMappingAdapter(shared), name="pair", memory=9, policy=POLICY, backplane=AsyncLocalBackplane(hub)
    )

    async def first() -> None:
        await cache.set("k", "old")
        await begun(cache)
        await cache.set("k", "old")
        shared.clear()
        assert await cache.get("k") == "old"

    async def second() -> None:
        assert not listens(cache)
        assert await cache.get("k") is None
        await cache.aclose()

    asyncio.run(first())
    asyncio.run(second())


@pytest.mark.parametrize("plane", [False, True])
def test_a_loop_that_ends_amid_an_invalidation_leaves_no_task_behind(
    plane: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What is owed is asked for by the next loop; asyncio complained of tasks that were begun as this one closed."""

    class Hanging:
        async def get(self, _: str, /) -> bytes | None:
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

        async def set(self, _: str, __: bytes, ___: float, /) -> None:
            await asyncio.get_running_loop().create_future()

        async def delete(self, _: str, /) -> None:
            await asyncio.get_running_loop().create_future()

    async def main() -> tuple[Any, Any]:
        hub = AsyncLocalBackplane(BackplaneHub()) if plane else None
        cache = AsyncResilientCache[str, str](Hanging(), name="pair", policy=POLICY, backplane=hub)
        task = asyncio.ensure_future(cache.invalidate("k"))
        await asyncio.sleep(0.01)
        return cache, task

    left = asyncio.run(main())
    assert left[0].health()["pending_invalidations"] == 1
    del left
    gc.collect()
    assert not [record for record in caplog.records if "destroyed" in record.getMessage()]


def test_where_no_thread_can_be_started_the_cache_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    hub = BackplaneHub()
    with ResilientCache(MappingAdapter(), name="pair", backplane=LocalBackplane(hub)) as cache:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            assert cache.get_or_load("k", lambda _: "v") == "v"
            cache.invalidate("k")
        assert not listens(cache)
        cache.get("k")
        until(lambda: listens(cache))
        until(lambda: hub.messages)
    cache.close()


def test_a_task_in_a_loop_that_stands_still_ends_when_that_goes_on() -> None:
    cache: AsyncResilientCache[str, str] = AsyncResilientCache(
        AsyncMappingAdapter(), name="loops", backplane=AsyncLocalBackplane()
    )

    async def begin() -> None:
        await cache.get("the first call")
        await asyncio.sleep(0.01)

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(begin())
        assert listens(cache)
        asyncio.run(cache.aclose())
        loop.run_until_complete(asyncio.sleep(0.7))  # longer than the pause between two tries
        assert not asyncio.all_tasks(loop)
    finally:
        loop.close()


def test_both_colours_over_a_server_that_dies(valkey_server: ValkeyServer) -> None:
    """The async process hears of what the sync one invalidated while the server was down, within 1 s of the replay."""
    sync_cache: ResilientCache[str, str] = ResilientCache(
        RedisAdapter.from_url(valkey_server.url),
        name="both",
        memory=100,
        policy=POLICY,
        backplane=RedisBackplane.from_url(valkey_server.url),
    )
    numbers = iter(range(100))

    async def main() -> float:
        there: AsyncResilientCache[str, str] = AsyncResilientCache(
            AsyncRedisAdapter.from_url(valkey_server.url),
            name="both",
            memory=100,
            policy=POLICY,
            backplane=AsyncRedisBackplane.from_url(valkey_server.url),
        )
        sync_cache.get_or_load("k", lambda _: f"v{next(numbers)}")
        await there.get("k")
        while not (listens(there) and listens(sync_cache)):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)
        assert await there.get("k") == "v0"
        valkey_server.command("SAVE")
        valkey_server.kill()
        assert str(await asyncio.to_thread(sync_cache.invalidate, "k")) == "pending"
        assert sync_cache.get("k") is None
        valkey_server.start()
        while sync_cache.health()["pending_invalidations"]:
            assert sync_cache.get("k") is None
            await asyncio.sleep(0.01)
        began = time.monotonic()
        while await there.get("k") is not None:
            assert time.monotonic() < began + 1.0, "the old value is served 1 s after the replay"
            await asyncio.sleep(0.005)
        took = time.monotonic() - began
        await there.aclose()
        return took

    print(f"heard {asyncio.run(main()):.3f} s after the replay")  # noqa: T201
    assert sync_cache.close() == 0
