"""Flights whose leader goes: what is loaded is not loaded again, and somebody who can leads on."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from resilient_cache import AsyncResilientCache, Mode
from resilient_cache._threads import Seat
from resilient_cache.flights import LEAD, LEADING, Flight, Flights
from resilient_cache.testing import Fault, ManualClock, ManualLoop

from ..laws.stage import POLICY, Stage
from ..laws.tasks import Room
from ..laws.test_threads import PATIENCE, Interrupt
from ..laws.test_threads import Room as ThreadRoom
from ..virtual import pass_time

both_colours = pytest.mark.parametrize("colour", ["sync", "async"])


@pytest.mark.parametrize("memory", [0, 10])
def test_a_task_that_leads_is_cancelled_while_it_writes(memory: int) -> None:
    """The loader runs once in a flight: what is loaded is shared although the leader goes before it is written."""
    room = Room(memory)
    room.plan.during(Fault.slow(0.125), "set")

    async def main() -> None:
        leader = asyncio.create_task(room.load("k"))
        await pass_time(0)
        followers = [asyncio.create_task(room.load("k")) for _ in range(3)]
        await pass_time(1.0625)
        leader.cancel()
        assert await asyncio.gather(*followers) == [1, 1, 1]
        assert leader.cancelled()
        assert room.started == 1

    room.run(main)


@pytest.fixture
def threads() -> Iterator[ThreadRoom]:
    """A room for threads, which are over when the test is."""
    room = ThreadRoom(memory=0)
    yield room
    for hold in room.started:
        hold.end()
    room.pool.shutdown()
    assert (room.cache.health()["flights"], room.cache.health()["store_calls_in_flight"]) == (0, 0)


def test_a_thread_that_leads_is_struck_while_it_writes(threads: ThreadRoom) -> None:
    """For threads too, what is loaded is shared although its leader is struck as it writes it."""
    struck = Interrupt()
    threads.plan.then("set", Fault.raising(struck))
    leader = threads.load()
    hold = threads.nth(1)
    followers = [threads.load() for _ in range(3)]
    threads.waiting(3)
    hold.end()
    assert [follower.result(PATIENCE) for follower in followers] == [1, 1, 1]
    assert leader.exception(PATIENCE) is struck
    assert len(threads.started) == 1


def test_a_thread_that_waits_is_struck(threads: ThreadRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower that is interrupted leaves the flight: nobody hands over to it, and nobody else notices."""

    def interrupted(*_: object) -> None:
        raise Interrupt

    leader = threads.load()
    hold = threads.nth(1)
    with monkeypatch.context() as patched:
        patched.setattr(Seat, "wait", interrupted)
        with pytest.raises(Interrupt):
            threads.cache.get_or_load("k", lambda _: 99)
    threads.waiting(0)
    hold.end()
    assert leader.result(PATIENCE) == 1


def refuse(work: Any) -> None:
    """A spawn that cannot."""
    raise OSError("no more of them")


@both_colours
def test_a_load_that_nothing_can_run_behind(colour: str) -> None:
    """Where a `spawn` fails, the load runs once, in its caller, and no coroutine is left that was never awaited."""
    stage = Stage(colour, spawn=refuse, policy=replace(POLICY, load_timeout=5))
    assert stage.load("k", "v") == "v"
    assert (stage.loads, stage.cache.health()["flights"]) == (1, 0)


@both_colours
def test_a_probe_that_nothing_can_run_behind(colour: str) -> None:
    """Where a `spawn` fails, a probe runs in its caller, and the circuit closes all the same."""
    stage = Stage(colour, spawn=refuse)
    stage.plan.then("get", *[Fault.raising(OSError("down"))] * 3)
    for _ in range(3):
        assert stage.get("k") is None
    assert stage.cache.health()["circuits"]["read"]["state"] == "open"
    stage.clock.advance(5)
    for _ in range(2):
        assert stage.get("k") is None
    assert stage.cache.health()["circuits"]["read"]["state"] == "closed"


def test_a_spawn_that_failed_leaves_no_phantom_to_hand_over_to() -> None:
    """A leader that could not run behind is cancelled: one that waits leads at once."""
    room = Room(memory=0, spawn=refuse, policy=replace(POLICY, load_timeout=50))

    async def main() -> None:
        leader = asyncio.create_task(room.load("k", 3.0))
        await pass_time(0.5)
        follower = asyncio.create_task(room.load("k"))
        await pass_time(0.5)
        leader.cancel()
        began = room.clock.monotonic()
        assert await follower == 2
        assert room.clock.monotonic() - began < 2

    room.run(main)


def test_a_task_behind_that_is_struck_by_what_is_no_exception() -> None:
    """A loader that raises what is no `Exception` behind its callers runs once, and they get that object."""
    room, struck = Room(memory=0, policy=replace(POLICY, load_timeout=5)), Interrupt()

    async def main() -> None:
        results = await asyncio.gather(*(room.load("k", outcome=struck) for _ in range(3)), return_exceptions=True)
        assert all(result is struck for result in results)
        assert room.started == 1

    room.run(main)


def test_requests_in_different_modes_do_not_end_each_others_flights() -> None:
    """A tenth of the requests goes around the cache: it fills all the same, and each way loads one at a time."""
    asked = itertools.count(1)
    room = Room(mode=lambda: Mode.ON if next(asked) % 10 else Mode.BYPASS)

    async def user(n: int) -> None:
        await pass_time(n / 1_000)
        await room.load("k", 0.0625)

    async def main() -> None:
        await asyncio.gather(*(user(n) for n in range(500)))
        stats = room.cache.stats()
        assert room.most["k"] == 2
        assert room.started < 12
        assert stats["hits_memory"] > 350

    room.run(main)


def test_a_loader_that_has_its_key_loaded_again_for_ever() -> None:
    """A chain of tasks, each begun by the load before, holds on to the flights that are in the air and no others."""
    room, led, tasks = Room(), [], set[asyncio.Task[Any]]()

    async def loader(_: str) -> int:
        led.append(len(LEADING.get()))
        if len(led) < 200:
            tasks.add(asyncio.create_task(again()))
        return len(led)

    async def again() -> None:
        await pass_time(0.125)
        await room.cache.refresh("k", loader)

    async def main() -> None:
        await room.cache.refresh("k", loader)
        await pass_time(60)
        assert (len(led), max(led)) == (200, 1)

    room.run(main)


class Counting:
    """A waiter that counts how often any of its kind is woken."""

    woken = 0

    def __init__(self) -> None:
        self.verdict: str | None = None

    def wake(self) -> bool:
        Counting.woken += 1
        return True


def test_leaders_that_leave_one_after_another() -> None:
    """Ten thousand callers that run out of patience in turn cost as many wake-ups, each of the one that came first."""
    flights: Flights[Counting] = Flights(10.0)
    flight: Flight[Counting] = flights.take_off_locked("k", Mode.ON, 1, 0.0)
    waiters = [Counting() for _ in range(10_000)]
    for waiter in waiters:
        flight.sit(waiter)
    leader, led = None, list[Counting]()
    while woken := flights.leave_locked(flight, leader, 2, 0.0):
        assert [waiter.wake() for waiter in woken] == [True]
        leader = woken[0]
        assert leader.verdict == LEAD
        led.append(leader)
    assert led == waiters
    assert Counting.woken == 10_000


class TwoLoops:
    """A cache in memory that two loops use in turn."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.here, self.there = ManualLoop(self.clock), ManualLoop(self.clock)
        self.cache: AsyncResilientCache[str, str] = AsyncResilientCache(None, name="loops", clock=self.clock)
        self.courses: list[Any] = []

    def ask(self, loop: ManualLoop, value: str, seconds: float) -> asyncio.Task[str]:
        """A task that has begun to ask for "k"."""

        async def loader(_: str) -> str:
            await pass_time(seconds)
            return value

        course = self.cache.get_or_load("k", loader)
        self.courses.append(course)
        task = loop.create_task(course)
        loop.run_until_complete(pass_time(0))
        return task


@pytest.fixture
def loops() -> Iterator[TwoLoops]:
    """Two loops, closed when the test is over."""
    two = TwoLoops()
    yield two
    two.here.close()
    two.there.close()


def test_a_follower_in_another_loop(loops: TwoLoops) -> None:
    """A load that ends in one loop wakes those who wait for it in another."""
    leader = loops.ask(loops.here, "one", 1.0)
    follower = loops.ask(loops.there, "two", 1.0)
    assert loops.here.run_until_complete(leader) == "one"
    assert loops.there.run_until_complete(follower) == "one"


def test_an_heir_whose_loop_is_closed(loops: TwoLoops) -> None:
    """A leader that leaves hands over to one whose loop still runs: nobody waits for a loop that is gone."""
    leader = loops.ask(loops.here, "one", 30.0)
    gone = loops.ask(loops.there, "two", 1.0)
    follower = loops.ask(loops.here, "three", 1.0)
    loops.there.close()
    leader.cancel()
    began = loops.clock.monotonic()
    assert loops.here.run_until_complete(follower) == "three"
    assert loops.clock.monotonic() - began == 1.0
    finish(loops, gone)


def test_a_leader_that_is_dropped_with_its_loop(loops: TwoLoops) -> None:
    """A leader whose loop was closed and which is then thrown away, outside any loop, hands over."""
    gone = loops.ask(loops.there, "one", 30.0)
    follower = loops.ask(loops.here, "two", 1.0)
    loops.there.close()
    began = loops.clock.monotonic()
    finish(loops, gone)
    assert loops.here.run_until_complete(follower) == "two"
    assert loops.clock.monotonic() - began == 1.0


def finish(loops: TwoLoops, gone: asyncio.Task[str]) -> None:
    """Throw away what ran in the closed loop, without asyncio's complaint that nobody awaited it."""
    vars_of: Any = gone
    vars_of._log_destroy_pending = False
    next(course for course in loops.courses if course is vars_of.get_coro()).close()


class Nested:
    """A synchronous store; while the first write is on its way, somebody else's is done."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.meanwhile: Callable[[], object] | None = None

    def get(self, key: str) -> bytes | None:
        return self.entries.get(key)

    def set(self, key: str, value: bytes, ttl: float) -> None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        self.entries[key] = value

    def delete(self, key: str) -> None:
        self.entries.pop(key, None)


def test_an_older_loads_write_lands_after_a_set() -> None:
    """What `set` has acknowledged is not replaced by a load that began before and is written late."""
    store = Nested()
    cache = Stage("sync").another(adapter=store)
    store.meanwhile = lambda: cache.set("k", "new")
    assert cache.get_or_load("k", lambda _: "old") == "old"
    assert cache.get("k") in ("new", None)


def test_an_older_loads_write_lands_after_a_set_in_another_task() -> None:
    """The same for tasks."""
    room = Room(memory=0)
    room.plan.then("set", Fault.slow(0.1875))

    async def main() -> None:
        leader = asyncio.create_task(room.load("k"))
        await pass_time(1.0625)
        assert await room.cache.set("k", "new")
        assert await room.cache.get("k") == "new"
        assert await leader == 1
        assert await room.cache.get("k") in ("new", None)

    room.run(main)
