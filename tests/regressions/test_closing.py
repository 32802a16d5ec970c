"""Closing an async cache, and what asyncio says when tasks are left to themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from resilient_cache import MisuseError
from resilient_cache.testing import Fault, FaultKind

from ..laws.stage import Stage
from ..laws.tasks import POLICY, Room
from ..virtual import pass_time

BEHIND = replace(POLICY, load_timeout=3)


def quiet(room: Room, main: Callable[[], Awaitable[Any]]) -> None:
    """Run `main`; asyncio must have nothing to complain about."""
    complaints: list[Any] = []

    async def listened() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await main()

    room.run(listened)
    assert complaints == []


def test_closing_before_a_load_behind_has_begun() -> None:
    """A cache that is closed before a load behind has run its first step leaves nobody waiting for it."""
    room = Room(policy=BEHIND)

    async def main() -> None:
        caller = asyncio.create_task(room.load("k", 0.5))
        await pass_time(0)
        began = room.clock.monotonic()
        await room.cache.aclose()
        assert await caller == 1
        assert room.clock.monotonic() - began == 0.5

    quiet(room, main)


def test_closing_before_a_probe_has_begun() -> None:
    """A probe that is cancelled before its first step gives back its permit and its turn."""
    room = Room(memory=0)
    room.plan.then("get", *[Fault(FaultKind.RAISE)] * 3)

    async def main() -> None:
        for _ in range(3):
            await room.cache.get("k")
        await pass_time(5)
        assert await room.cache.get("k") is None
        await room.cache.aclose()
        assert room.cache.health()["store_calls_in_flight"] == 0
        assert len(room.store.calls) == 3

    quiet(room, main)


def test_closing_within_a_load_behind() -> None:
    """A load that closes the cache it runs behind of does not wait for itself."""
    room, begun = Room(policy=BEHIND), []

    async def loader(_: str) -> int:
        begun.append(1)
        await room.cache.aclose()
        return len(begun)

    async def main() -> None:
        assert await room.cache.get_or_load("k", loader) == 1
        with pytest.raises(MisuseError, match="closed"):
            await room.cache.get("k")

    quiet(room, main)


def test_closing_during_a_load_behind() -> None:
    """A load behind is cancelled when the cache closes; its caller leads on and is not left waiting."""
    room = Room(policy=BEHIND)

    async def main() -> None:
        caller = asyncio.create_task(room.load("k"))
        await pass_time(0.5)
        await room.cache.aclose()
        assert await caller == 2
        assert room.started == 2

    quiet(room, main)


class Stubborn:
    """An async store whose reads swallow every cancellation until they are told to end."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.cancelled = 0

    async def get(self, key: str) -> bytes | None:
        while not self.end.is_set():
            try:
                await self.end.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
        return None

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        return None

    async def delete(self, key: str) -> None:
        return None


def test_closing_over_a_store_that_refuses_to_end() -> None:
    """Closing asks a few times and then leaves a call that refuses to end to itself."""
    stage = Stage("async")

    async def main() -> None:
        store = Stubborn()
        cache = stage.another(adapter=store)
        assert await cache.get("k") is None
        began = stage.clock.monotonic()
        await cache.aclose()
        assert (store.cancelled, stage.clock.monotonic() - began) == (3, 3.0)
        store.end.set()
        await pass_time(1)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    stage.run(main)


def test_a_caller_that_is_cancelled_as_the_store_fails() -> None:
    """A store call that fails in the very turn in which its caller is cancelled is nobody's forgotten exception."""
    room = Room(memory=0)
    room.store.get = failing

    async def main() -> None:
        for turns in range(12):
            caller = asyncio.create_task(room.cache.get(f"k{turns}"))
            for _ in range(turns):
                await pass_time(0)
            caller.cancel()
            await asyncio.wait([caller])

    quiet(room, main)


async def failing(_: str) -> bytes:
    """A read that fails after a few turns."""
    for _turn in range(4):
        await pass_time(0)
    raise OSError("down")


def test_the_cache_as_a_context() -> None:
    """Leaving the block closes the cache, in both colours."""
    room, stage = Room(memory=0), Stage("sync")

    async def main() -> None:
        async with room.cache as entered:
            assert entered is room.cache
        assert room.cache.health()["closed"]

    room.run(main)
    with stage.cache as entered:
        assert entered is stage.cache
    assert stage.cache.health()["closed"]


def test_a_call_that_is_collected_starts_nothing_in_the_loop_that_happens_to_run() -> None:
    """Seed 35, after 2 000 other tests: a coroutine of an earlier loop was closed by a collection amid a later one."""
    room = Room()

    async def main() -> None:
        room.plan.during(Fault(FaultKind.HANG))
        call = room.cache.invalidate("k")
        call.send(None)
        before = asyncio.all_tasks()
        call.close()
        assert asyncio.all_tasks() == before
        assert room.cache.health()["pending_invalidations"] == 1
        room.plan.calm()
        await room.cache.aclose()

    room.run(main)
