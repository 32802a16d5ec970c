"""What a store's circuit hears of time: its silence, and neither its callers' haste nor this process's stalls."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resilient_cache import AsyncResilientCache
from resilient_cache.testing import DictStore, Fault, FaultKind, ManualClock, run_virtual

from ..laws.scenario import BREAKER
from ..laws.stage import POLICY, Stage
from ..laws.tasks import Room
from ..virtual import pass_time

both_colours = pytest.mark.parametrize("colour", ["sync", "async"])
HANG = Fault(FaultKind.HANG)


def state(cache: Any, direction: str = "read") -> str:
    """The state of a circuit."""
    told: str = cache.health()["circuits"][direction]["state"]
    return told


@both_colours
def test_a_caller_in_a_hurry_does_not_open_the_circuit(colour: str) -> None:
    """A client with 3 ms to spend says nothing about a store that answers everybody else in 5 ms."""
    stage = Stage(colour)
    stage.plan.during(Fault.slow(0.005))
    for n in range(30):
        assert stage.load(f"k{n}", n, deadline=0.003) == n
        stage.clock.advance(0.25)
    assert state(stage.cache) == state(stage.cache, "write") == "closed"
    assert stage.cache.stats()["store_get_timeout"] == 30


@both_colours
def test_a_probe_has_more_time_than_its_caller(colour: str) -> None:
    """A probe is given the whole timeout: a circuit closes again although all its callers are in a hurry."""
    stage = Stage(colour, spawn=None if colour == "async" else lambda work: work())
    stage.plan.then("get", *[Fault.raising(OSError("down"))] * 3).during(Fault.slow(0.005), "get")

    async def main() -> None:
        for n in range(20):
            call = stage.cache.lookup(f"k{n}", deadline=0.003)
            assert not (await call if colour == "async" else call)
            await pass_time(1)

    run_virtual(main(), stage.clock)
    assert state(stage.cache) == "closed"


def test_a_silent_store_is_heard_although_its_callers_leave() -> None:
    """Callers that give up before the timeout do not hide that the store hangs: its circuit opens."""
    room = Room(memory=0)
    room.plan.during(HANG)

    async def main() -> None:
        for n in range(10):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.125):
                    await room.load(f"k{n}")
            await pass_time(0.25)
        assert state(room.cache) == "open"
        assert len(room.store.calls) == 4  # three and a probe

    room.run(main)


def test_a_store_that_answers_callers_who_have_left_stays_in_use() -> None:
    """Callers that give up on a store that then answers within its timeout say nothing about it."""
    room = Room(memory=0)
    room.plan.during(Fault.slow(0.1875))

    async def main() -> None:
        for n in range(10):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.125):
                    await room.cache.get(f"k{n}")
            await pass_time(0.25)
        assert state(room.cache) == "closed"
        assert len(room.store.calls) == 10

    room.run(main)


@both_colours
def test_garbage_in_a_store_that_is_slow(colour: str) -> None:
    """A look-up that finds garbage and removes it costs one timeout, not two."""
    stage = Stage(colour)
    stage.poison("k", b"garbage")
    stage.plan.then("get", Fault.slow(0.125)).then("delete", HANG)
    began = stage.clock.monotonic()
    assert stage.get("k") is None
    assert stage.clock.monotonic() - began == 0.25


@both_colours
@pytest.mark.parametrize(("deadline", "asked"), [(float("inf"), 2), (1e300, 2), (float("-inf"), 0), (-(10**400), 0)])
def test_a_deadline_without_measure(colour: str, deadline: float, asked: int) -> None:
    """A deadline is computed while the caller runs: endless is no limit, and long past is nothing left."""
    stage = Stage(colour)
    assert stage.load("k", "v", deadline=deadline) == "v"
    assert len(stage.adapter.calls) == asked


class Reply:
    """An async store whose reply is there when the event is, and takes two more turns of the loop to be read."""

    def __init__(self, clock: ManualClock) -> None:
        self.store = DictStore(clock)
        self.there = asyncio.Event()

    async def get(self, key: str) -> bytes | None:
        await self.there.wait()
        for _ in range(2):
            await pass_time(0)
        return self.store.get(key)

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        self.store.set(key, value, ttl)

    async def delete(self, key: str) -> None:
        self.store.delete(key)


@pytest.mark.parametrize("replied", [True, False])
def test_a_loop_that_was_held_up_with_the_reply_in_the_socket(*, replied: bool) -> None:
    """A loop that stands still past the deadline finds the reply that lay there: that is a hit, and no timeout."""
    clock = ManualClock()

    async def main() -> None:
        adapter = Reply(clock)
        cache: AsyncResilientCache[str, str] = AsyncResilientCache(adapter, name="stall", clock=clock, policy=POLICY)
        await cache.set("k", "v")
        reading = asyncio.create_task(cache.get("k"))
        await pass_time(0.125)
        clock.advance(1.0)  # a stall: nothing else runs in this second
        if replied:
            adapter.there.set()
        assert await reading == ("v" if replied else None)
        assert cache.stats().get("store_get_timeout", 0) == (not replied)
        assert clock.monotonic() == 1_001.125
        await cache.aclose()

    run_virtual(main(), clock)


def test_those_who_wait_for_a_store_that_is_gone() -> None:
    """The failure that opens a circuit wakes all who wait for a call through it: nobody waits for a dead store."""
    room = Room(memory=0, breaker=BREAKER)
    room.plan.during(HANG)
    took: list[float] = []

    async def ask(n: int) -> None:
        await pass_time(n / 16)
        began = room.clock.monotonic()
        assert await room.cache.get(f"k{n}") is None
        took.append(room.clock.monotonic() - began)

    async def main() -> None:
        await asyncio.gather(*(ask(n) for n in range(6)))
        assert sorted(took) == [0.0625, 0.125, 0.1875, 0.25, 0.25, 0.25]

    room.run(main)
