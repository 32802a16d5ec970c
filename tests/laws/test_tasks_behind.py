"""What an `AsyncResilientCache` does behind its callers in a task of its own: nobody has to come by."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from resilient_cache import AsyncResilientCache, CachePolicy, Invalidation
from resilient_cache.events import Settled
from resilient_cache.testing import Fault, FaultKind, ManualClock, ManualLoop, run_virtual

from ..virtual import pass_time
from .scenario import TIMEOUT
from .tasks import POLICY, Room

AGAIN = 5.0
DOWN = Fault(FaultKind.RAISE)


def pending(room: Room) -> object:
    return room.cache.health()["pending_invalidations"]


def stored(room: Room) -> list[str]:
    store: Any = room.store
    return list(store.inner.entries)


def tasks() -> int:
    """Those that run besides the one that asks."""
    return len(asyncio.all_tasks()) - 1


def test_a_store_that_is_back_is_asked_by_itself() -> None:
    """G3: the delete is confirmed, told, and done a second time; then the task ends."""
    told: list[Settled] = []
    room = Room(hooks=[lambda event: told.append(event) if type(event) is Settled else None])

    async def main() -> None:
        await room.cache.set("k", "old")
        room.plan.during(Fault(FaultKind.HANG))
        assert await room.cache.invalidate("k") is Invalidation.PENDING
        assert tasks() > 0
        await pass_time(7.0)
        assert pending(room) == 1
        room.plan.calm()
        late = room.store.inner.entries["laws:k"]
        await pass_time(12.0)  # a hold and a pause
        assert (pending(room), stored(room)) == (0, [])
        assert await room.cache.get("k") is None
        assert len(told) == 1
        assert 7.0 < told[0].age < 19.0
        await pass_time(AGAIN)
        room.store.inner.entries["laws:k"] = late
        await pass_time(60)
        assert stored(room) == ["laws:k"]  # it is over
        assert tasks() == 0

    room.run(main)


def test_the_second_delete_comes_by_itself() -> None:
    """G2: a write that lands after the acknowledged delete is gone `inflight_max` later."""
    room = Room(memory=0)

    async def main() -> None:
        await room.cache.set("k", "old")
        late = room.store.inner.entries["laws:k"]
        assert await room.cache.invalidate("k") is Invalidation.CONFIRMED
        room.store.inner.entries["laws:k"] = late
        await pass_time(AGAIN - 0.1)
        assert stored(room) == ["laws:k"]
        await pass_time(0.2)
        assert stored(room) == []
        assert tasks() == 0

    room.run(main)


def test_a_sooner_debt_wakes_the_task() -> None:
    """One that sleeps until a second delete is due does not oversleep a first."""
    room = Room()

    async def main() -> None:
        await room.cache.invalidate("a")
        await pass_time(1.0)
        room.plan.then("delete", DOWN)
        await room.cache.invalidate("b")
        assert tasks() == 1
        await pass_time(TIMEOUT + 0.1)
        assert pending(room) == 0

    room.run(main)


def test_flush_waits_as_long_as_it_is_told_and_no_longer() -> None:
    """And says what is left."""
    room = Room()

    async def main() -> None:
        for key in "abc":
            room.plan.then("delete", DOWN)
            await room.cache.invalidate(key)
        room.plan.during(DOWN)
        began = room.clock.monotonic()
        assert await room.cache.flush(3.0) == 3
        assert room.clock.monotonic() - began == pytest.approx(3.0)
        asyncio.get_running_loop().call_later(1.0, room.plan.calm)
        assert await room.cache.flush(30.0) == 0
        assert room.clock.monotonic() - began < 12.0

    room.run(main)


def test_the_next_loop_goes_on() -> None:
    """A cache outlives the loop it was first used in, however that ended."""
    room = Room()
    room.plan.during(DOWN, "delete")

    async def first() -> None:
        await room.cache.invalidate("k")

    run_virtual(first(), room.clock)
    room.plan.calm()

    async def second() -> None:
        assert pending(room) == 1
        await room.cache.get("another")
        await pass_time(1.0)
        assert pending(room) == 0
        await pass_time(AGAIN)

    run_virtual(second(), room.clock)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_loop_that_was_left_without_a_word_is_not_waited_for() -> None:
    """It was closed with the task in it, which nobody cancelled."""
    room = Room()
    room.plan.during(DOWN, "delete")
    loop = ManualLoop(room.clock)
    loop.run_until_complete(room.cache.invalidate("k"))
    left = asyncio.all_tasks(loop)
    assert len(left) == 1
    loop.close()
    room.plan.calm()

    async def second() -> None:
        await room.cache.get("another")
        await pass_time(1.0)
        assert pending(room) == 0
        await pass_time(AGAIN)

    run_virtual(second(), room.clock)
    for task in left:
        task.get_coro().close()
        task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_task_that_is_taken_away_is_replaced() -> None:
    """By the next one who asks."""
    room = Room()

    async def main() -> None:
        room.plan.then("delete", DOWN)
        await room.cache.invalidate("k")
        (task,) = asyncio.all_tasks() - {asyncio.current_task()}
        task.cancel()
        await pass_time(1.0)
        assert pending(room) == 1
        await room.cache.get("another")
        await pass_time(1.0)
        assert pending(room) == 0

    room.run(main)


def test_a_step_that_dies_is_replaced_when_its_lease_is_over() -> None:
    """L17: of what ended it nobody hears in time."""
    room = Room()

    async def main() -> None:
        room.plan.then("delete", DOWN, Fault.raising(GeneratorExit()))
        await room.cache.invalidate("k")
        await pass_time(1.0)
        assert pending(room) == 1
        await pass_time(61.0)
        await room.cache.get("another")
        await pass_time(1.0)
        assert pending(room) == 0

    room.run(main)


def test_a_cache_that_is_dropped_is_not_kept_by_what_it_is_owed() -> None:
    """Neither it nor its task, once that wakes."""
    clock = ManualClock()

    async def main() -> None:
        room = Room()
        cache: Any = AsyncResilientCache(room.store, name="dropped", policy=POLICY, clock=clock)
        room.plan.during(DOWN, "delete")
        await cache.invalidate("k")
        gone = weakref.ref(cache._upkeep)
        assert tasks() == 1
        await pass_time(3.0)
        assert tasks() == 1
        del cache
        gc.collect()
        assert gone() is None
        await pass_time(10.0)
        assert tasks() == 0

    run_virtual(main(), clock)


def test_close_ends_the_task() -> None:
    """Whatever is left."""
    room = Room()

    async def main() -> None:
        room.plan.during(DOWN, "delete")
        await room.cache.invalidate("k")
        assert await room.cache.aclose() == 1
        assert tasks() == 0
        room.cache._upkeep.soon()  # by a call that was on its way
        assert tasks() == 0

    room.run(main)


def test_what_is_done_behind_is_of_nobodys_request() -> None:
    """L1: a store that never answers takes no caller's time for what is owed."""
    room = Room(policy=CachePolicy(ttl=60, timeout=TIMEOUT))

    async def main() -> None:
        room.plan.during(Fault(FaultKind.HANG), "delete")
        for key in "abcdefgh":
            await room.cache.invalidate(key)
        await pass_time(1.0)
        began = room.clock.monotonic()
        for _ in range(10):
            await room.cache.get("another")
        assert room.clock.monotonic() == began

    room.run(main)


def test_a_task_of_the_parent_process_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand, as no tracer follows a fork: it runs in the parent, for whatever the parent owes."""
    room = Room()

    async def main() -> None:
        assert await room.cache.invalidate("parent's") is Invalidation.CONFIRMED
        before = tasks()
        monkeypatch.setattr("os.getpid", lambda: -1)
        room.plan.then("delete", DOWN)
        assert await room.cache.invalidate("child's") is Invalidation.PENDING
        assert tasks() == before + 1
        await room.cache.get("another")
        assert tasks() == before + 1

    room.run(main)
    assert pending(room) == 0
