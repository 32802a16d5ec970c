"""Hooks, health and circuits: watching a cache changes nothing, and shows everything."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from resilient_cache import AsyncResilientCache, ResilientCache
from resilient_cache.events import Event
from resilient_cache.journal import Journal
from resilient_cache.outcome import Direction
from resilient_cache.testing import FaultyAdapter, ManualClock, run_virtual

from ..laws.stage import Stage
from ..laws.tasks import Room

both_colours = pytest.mark.parametrize("colour", ["sync", "async"])


def test_a_task_that_a_hook_starts() -> None:
    """A task born in a hook is one like any other: what it does is told, and it may ask for the key being loaded."""
    told: list[Event] = []
    tasks: list[asyncio.Task[Any]] = []
    clock = ManualClock()
    other: AsyncResilientCache[str, str] = AsyncResilientCache(None, name="other", hooks=[told.append], clock=clock)
    room: Room

    async def work() -> int:
        for n in range(5):
            await other.get(f"k{n}")
        number: int = await room.load("k")
        return number

    def hook(_: Event) -> None:
        if not tasks:
            tasks.append(asyncio.create_task(work()))

    room = Room(hooks=[hook])

    async def main() -> None:
        assert await room.load("k") == 1
        assert await tasks[0] == 1
        assert len(told) == 5

    room.run(main)


@both_colours
def test_a_hook_that_asks_the_cache_it_is_told_of(colour: str) -> None:
    """A hook that reads the very cache it watches ends: what a hook does itself is not told."""
    stage, told = Stage(colour, memory=10), []

    def hook(event: Event) -> None:
        told.append(event)
        watched.stats()
        if isinstance(watched, ResilientCache):
            watched.get("k")

    watched = stage.another(hooks=[hook])
    stage.run(watched.get, "k")
    assert len(told) == 2  # the call of the store, and the answer


def test_health_while_another_thread_invalidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pending invalidations are counted under the lock: one that comes meanwhile cannot upset the counting."""
    cache: ResilientCache[str, str] = ResilientCache(FaultyAdapter(ManualClock()), name="watching")
    lock, pending = cache._rules.guard.lock, Journal.owed
    free: list[bool] = []

    def invalidate_if_free() -> None:
        free.append(lock.acquire(blocking=False))
        if free[-1]:
            lock.release()

    def watched(self: Journal) -> tuple[int, int]:
        other = threading.Thread(target=invalidate_if_free)
        other.start()
        other.join()
        return pending(self)

    monkeypatch.setattr(Journal, "owed", watched)
    assert cache.health()["pending_invalidations"] == 0
    assert free == [False]


@both_colours
def test_circuits_that_are_held_by_hand(colour: str) -> None:
    """`circuits` gives the circuits themselves: held open, the store is not asked; the mapping is the caller's own."""
    stage = Stage(colour)
    stage.cache.circuits.clear()
    assert set(stage.cache.circuits) == {Direction.READ, Direction.WRITE}
    with stage.cache.circuits[Direction.READ].force_open():
        assert stage.load("k", "v") == "v"
    assert [call.operation for call in stage.adapter.calls] == []
    assert stage.load("k", "w") == "w"


def test_an_async_cache_told_of_within_a_hook_of_its_own() -> None:
    """A hook of an async cache may look at its health at every event."""
    seen: list[object] = []
    clock = ManualClock()

    async def main() -> None:
        cache: AsyncResilientCache[str, str] = AsyncResilientCache(
            None, name="watching", clock=clock, hooks=[lambda _: seen.append(cache.health()["flights"])]
        )
        assert await cache.get("k") is None

    run_virtual(main(), clock)
    assert seen == [0]
