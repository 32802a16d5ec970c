"""Refreshes that met: found by the simulation, seed 1004615."""

from __future__ import annotations

import asyncio
from threading import RLock
from typing import Any

from resilient_cache import AsyncResilientCache, CachePolicy, Mode
from resilient_cache._local import Local
from resilient_cache._request import GATES, Request
from resilient_cache.flights import Flight
from resilient_cache.testing import AsyncFaultyAdapter, ManualClock, run_virtual
from resilient_cache.testing.simulation import SeededLoop, Tape

from ..laws.test_threads import PATIENCE, Interrupt, Room
from ..virtual import pass_time


def test_refreshes_that_run_behind_do_not_end_each_other_for_ever() -> None:
    """With `load_timeout` loads start a turn later: each found its flight ended by the next refresh, and began anew."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        cache = AsyncResilientCache[str, int](None, name="demo", memory=9, policy=CachePolicy(load_timeout=1.0))
        loads = 0

        async def load(_: str) -> int:
            nonlocal loads
            loads += 1
            return loads

        async def refresh(turns: int) -> int:
            for _ in range(turns):
                await pass_time(0)
            return await cache.refresh("k", load)

        values = [await task for task in [loop.create_task(refresh(turns)) for turns in (0, 0, 1, 2)]]
        assert await cache.get("k") == loads == max(values)
        await cache.aclose()

    loop = SeededLoop(Tape(), orderly=True)
    loop.run(main())
    loop.close()


class Aboard:
    """Somebody who waits."""

    verdict: str | None = None

    def wake(self) -> bool:
        return True


def boarding(local: Local, *, forced: bool) -> tuple[Request, Flight[Any], bool]:
    """A request, the flight it boards, and whether it leads it."""
    request = Request("k", CachePolicy(), Mode.ON, GATES[Mode.ON], since=0.0, until=9.0)
    if forced:
        request.force()
    flight, seat = local.board(request, Aboard, 0.0)
    return request, flight, seat is None


def test_a_refresh_whose_flight_was_ended_joins_another_refresh_and_nothing_that_may_ask_the_store() -> None:
    """Seeds 51411 of tasks, 9341 of threads: it was given what a `get_or_load` had read, older than itself."""
    local = Local(10, CachePolicy(), ManualClock(), RLock())
    local.stamps.next()
    first, ended, _ = boarding(local, forced=True)
    _, other, _ = boarding(local, forced=True)
    assert ended.detached
    local.leave(other, None, 0.0)
    _, reading, leads = boarding(local, forced=False)
    assert leads
    flight, seat = local.board(first, Aboard, 0.0)
    assert seat is None
    assert flight is not reading
    _, last, _ = boarding(local, forced=True)
    assert local.board(first, Aboard, 0.0)[0] is last
    _, _, leads = boarding(local, forced=False)
    assert not leads, "everybody else joins a refresh"


def test_a_refresh_that_is_the_first_thing_ever_asked_of_a_cache() -> None:
    """It joins the refresh that ended its flight, as any other would."""
    local = Local(10, CachePolicy(), ManualClock(), RLock())
    first, _, _ = boarding(local, forced=True)
    _, other, _ = boarding(local, forced=True)
    flight, seat = local.board(first, Aboard, 0.0)
    assert flight is other
    assert seat is not None


def test_who_inherits_a_refresh_asks_no_store() -> None:
    """It is waited for by those who asked for a load; what it gives is written."""

    async def main() -> None:
        adapter = AsyncFaultyAdapter(clock)
        cache = AsyncResilientCache[str, str](adapter, name="demo", clock=clock)
        await cache.set("k", "old")

        async def load(_: str) -> str:
            return await pass_time(1, "new")

        refresh = asyncio.create_task(cache.refresh("k", load))
        await pass_time(0)
        heir = asyncio.create_task(cache.get_or_load("k", load))
        await pass_time(0.5)
        refresh.cancel()
        assert await heir == "new"
        assert [call.operation for call in adapter.calls if call.key == "demo:k"] == ["set", "set"]
        assert await cache.get("k") == "new"
        await cache.aclose()

    clock = ManualClock()
    run_virtual(main(), clock)


def test_a_thread_that_inherits_a_refresh_asks_no_store() -> None:
    """The same for threads."""
    room = Room(memory=0)
    room.cache.set("k", "old")
    room.load(way="refresh")
    hold = room.nth(1)
    heir = room.load()
    room.waiting(1)
    hold.end(Interrupt())
    room.nth(2).end()
    assert heir.result(PATIENCE) == 2
    assert [call.operation for call in room.store.calls] == ["set", "set"]
    assert room.cache.get("k") == 2
    room.pool.shutdown()
