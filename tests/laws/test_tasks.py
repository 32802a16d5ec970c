"""L14 for tasks: one load per key and fence generation, shared, handed over, replaced when stuck."""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_cache import LoadTimeout, MisuseError, Mode
from resilient_cache.testing import Fault, FaultKind

from ..virtual import pass_time
from .tasks import POLICY, Room


def test_everyone_who_asks_meanwhile_shares_one_value() -> None:
    """L14: a hundred callers of one key cost one load and one read of the store."""
    room = Room(memory=0)

    async def main() -> None:
        assert await asyncio.gather(*(room.load("k") for _ in range(100))) == [1] * 100
        assert room.requests() == 100
        assert [call.operation for call in room.store.calls] == ["get", "set"]

    room.run(main)


def test_everyone_who_asks_meanwhile_shares_one_error() -> None:
    """L3, L14: the loader's error reaches every caller as the same object, and it ran once."""
    room = Room(memory=0)
    down = OSError("down")

    async def main() -> None:
        results = await asyncio.gather(*(room.load("k", outcome=down) for _ in range(20)), return_exceptions=True)
        assert all(result is down for result in results)
        assert room.started == 1
        assert room.cache.stats()["errors"] == 20

    room.run(main)


def test_a_shared_error_has_one_way_behind_it() -> None:
    """L3: each caller sees the loader's frames and its own, and never those of others that share the error."""
    room = Room(memory=0)

    async def caught() -> list[str]:
        try:
            await room.load("k", outcome=OSError("down"))
        except OSError as error:
            return [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        raise AssertionError

    async def main() -> None:
        ways = await asyncio.gather(*(caught() for _ in range(5)))
        assert [(way.count("caught"), way.count("loader")) for way in ways] == [(1, 1)] * 5

    room.run(main)


def test_a_stuck_flight_is_replaced_by_exactly_one() -> None:
    """L14: a load older than `flight_age` is replaced by one other load, for those who waited and those who come."""
    room = Room()

    async def main() -> None:
        stuck = asyncio.create_task(room.load("k", seconds=100))
        await pass_time(0)
        waiters = [asyncio.create_task(room.load("k")) for _ in range(5)]
        await pass_time(10)
        late = [asyncio.create_task(room.load("k")) for _ in range(5)]
        assert await asyncio.gather(*waiters, *late) == [2] * 10
        assert room.started == 2
        assert room.cache.health()["stuck_flights"] == 0
        assert await stuck == 1
        assert await room.cache.get("k") in (2, None)

    room.run(main)


@pytest.mark.parametrize("memory", [0, 10])
@pytest.mark.parametrize("fault", [None, Fault(FaultKind.RAISE), Fault(FaultKind.HANG), Fault(FaultKind.LOST)])
@pytest.mark.parametrize("when", [0.0625, 0.5, 1.1875])
def test_an_invalidation_cuts_a_flight_off(memory: int, fault: Fault | None, when: float) -> None:
    """L9, L14: callers after an invalidation share no load that began before it, and its value is not kept."""
    room = Room(memory)
    room.plan.then("delete", fault).then("get", Fault.slow(0.125)).then("set", Fault.slow(0.125))

    async def main() -> None:
        before = [asyncio.create_task(room.load("k")) for _ in range(3)]
        await pass_time(when)
        began = room.started
        await room.cache.invalidate("k")
        after = [asyncio.create_task(room.load("k")) for _ in range(3)]
        values = await asyncio.gather(*before)
        assert len(set(values)) == 1
        assert await room.cache.get("k", 99) > began
        later = await asyncio.gather(*after)
        assert set(later) == {began + 1}
        assert await room.cache.get("k") == began + 1

    room.run(main)


def test_a_loader_that_asks_for_its_own_key_is_told_so() -> None:
    """L6, L14: a loader that waits for itself, directly or through a task of its own, is misuse and not a deadlock."""
    room = Room(memory=0)

    async def main() -> None:
        async def loader(key: str) -> Any:
            return await room.cache.get_or_load(key, loader)

        async def by_task(key: str) -> Any:
            return await asyncio.create_task(room.cache.get_or_load(key, by_task))

        for each in (loader, by_task):
            with pytest.raises(MisuseError, match="for the key it loads"):
                await room.cache.get_or_load("k", each)

    began = room.clock.monotonic()
    room.run(main)
    assert room.clock.monotonic() - began == 20


def test_loaders_that_wait_for_each_other_in_a_circle_are_told_so() -> None:
    """L14: of loaders that ask for each other's keys in a circle one is refused, and nobody waits for ever."""
    room = Room(memory=0)
    circle = {"a": "b", "b": "c", "c": "a"}

    async def main() -> None:
        async def loader(key: str) -> Any:
            await pass_time(0.5)
            return await room.cache.get_or_load(circle[key], loader)

        results = await asyncio.gather(*(room.cache.get_or_load(key, loader) for key in circle), return_exceptions=True)
        assert all(isinstance(result, MisuseError) for result in results)

    began = room.clock.monotonic()
    room.run(main)
    assert room.clock.monotonic() - began <= 21


def test_loaders_may_ask_for_other_keys() -> None:
    """L14: a loader that asks for another key, which others are loading too, waits for it and no longer."""
    room = Room(memory=0)

    async def main() -> None:
        async def outer(_: str) -> Any:
            return await room.load("inner")

        one, two, inner = await asyncio.gather(
            room.cache.get_or_load("a", outer), room.cache.get_or_load("b", outer), room.load("inner")
        )
        assert one == two == inner == 1

    room.run(main)


def test_a_load_slower_than_its_timeout_goes_on() -> None:
    """A caller with `load_timeout` gets stale or `LoadTimeout` in time; the load goes on and its value is kept."""
    room = Room(policy=replace(POLICY, load_timeout=1))

    async def main() -> None:
        began = room.clock.monotonic()
        with pytest.raises(LoadTimeout):
            await room.load("k", seconds=3)
        assert room.clock.monotonic() - began <= 1.25
        await pass_time(3)
        assert await room.cache.get("k") == 1
        await pass_time(61)
        assert await room.load("k", seconds=3) == 1
        assert room.cache.stats()["stale"] == 1
        await pass_time(3)
        assert await room.cache.get("k") == 2

    room.run(main)


def test_a_request_shares_nothing_with_a_flight_of_another_mode() -> None:
    """L20: a mode takes effect on the next request, which joins no flight that took off under the mode before."""
    room = Room()

    async def main() -> None:
        before = asyncio.create_task(room.load("k"))
        await pass_time(0.5)
        room.cache.mode = Mode.BYPASS
        assert await room.load("k") == 2
        assert await before == 1

    room.run(main)


def test_a_refresh_shares_no_load_that_began_before_it() -> None:
    """A refresh gives the value of a load that begins now, though another is in the air."""
    room = Room()

    async def main() -> None:
        async def fresh(_: str) -> str:
            return "fresh"

        before = asyncio.create_task(room.load("k"))
        await pass_time(0.5)
        assert await room.cache.refresh("k", fresh) == "fresh"
        assert await before == 1
        assert await room.cache.get("k") == "fresh"

    room.run(main)


ops = st.tuples(
    st.sampled_from(["load", "load", "load", "get", "invalidate", "set", "refresh"]),
    st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 11.0]),  # when it starts
    st.sampled_from([0.0, 0.25, 1.0, 12.0]),  # how long its load takes
    st.sampled_from([None, None, None, 0.0, 0.25, 1.0]),  # when it is cancelled, after its start
    st.booleans(),  # its load fails
)
store_faults = st.sampled_from(
    [
        None,
        None,
        Fault(FaultKind.RAISE),
        Fault(FaultKind.HANG),
        Fault.slow(0.125),
        Fault.late(1.0),
        Fault(FaultKind.LOST),
    ]
)


class Order:
    """The order in which loads and invalidations began, so that "before" is "less"."""

    def __init__(self) -> None:
        self.moment = 0
        self.fence = 0  # the last invalidation that has returned began here
        self.starts: list[tuple[float, int]] = []
        self.barriers: list[float] = [-1.0]

    def next(self) -> int:
        self.moment += 1
        return self.moment


async def _one(room: Room, order: Order, op: tuple[Any, ...]) -> None:
    kind, start, seconds, _, fails = op
    await pass_time(start)
    fence = order.fence

    async def loader(_: str) -> int:
        version = order.next()
        order.starts.append((room.clock.monotonic(), version))
        await pass_time(seconds)
        if fails:
            raise OSError("down")
        return version

    if kind == "invalidate":
        moment = order.next()
        await room.cache.invalidate("k")
        order.fence = max(order.fence, moment)
        return
    if kind == "set":
        await room.cache.set("k", order.next())
        return
    calls = {"load": room.cache.get_or_load, "refresh": room.cache.refresh}
    value = await (room.cache.get("k") if kind == "get" else calls[kind]("k", loader))
    if value is not None:
        assert value > fence, f"L9: {value} was served to a call that began after the invalidation at {fence}"


@given(
    memory=st.sampled_from([0, 1, 10]),
    plan=st.lists(st.tuples(st.sampled_from(["get", "set", "delete"]), store_faults), max_size=10),
    script=st.lists(ops, min_size=2, max_size=8),
)
def test_no_interleaving_serves_what_was_invalidated(memory: int, plan: Any, script: Any) -> None:
    """L2, L9, L14: tasks that load, set, invalidate and are cancelled at any time see only what the laws allow."""
    room = Room(memory)
    for operation, fault in plan:
        room.plan.then(operation, fault)

    async def main() -> None:
        order = Order()
        tasks = [asyncio.create_task(_one(room, order, op)) for op in script]
        for task, (_, start, _, cancel, _) in zip(tasks, script, strict=True):
            if cancel is not None:
                asyncio.get_running_loop().call_later(start + cancel, task.cancel)
        await asyncio.wait(tasks)
        asked = sum(op[0] in ("load", "get", "refresh") for op in script)
        cut_off = sum(task.cancelled() for task in tasks)
        assert asked - cut_off <= room.requests() <= asked
        for task, op in zip(tasks, script, strict=True):
            assert not task.cancelled() or op[3] is not None, "L14: another's cancellation reached this caller"
            error = None if task.cancelled() else task.exception()
            assert error is None or (isinstance(error, OSError) and op[0] in ("load", "refresh")), repr(error)
        replaced = any(op[0] in ("set", "refresh", "invalidate") or op[3] is not None for op in script)
        if not replaced and max(op[2] for op in script) < 10:
            assert all(b > a for (a, _), (b, _) in zip(order.starts, order.starts[1:], strict=False)) or memory == 0

    room.run(main)


def test_what_the_leader_found_stands_in_for_those_who_lose_patience() -> None:
    """L12: a follower whose `load_timeout` is over is given the stale entry that its leader found in the store."""
    room = Room(memory=0, policy=replace(POLICY, ttl=1, load_timeout=1))

    async def main() -> None:
        assert await room.load("k", seconds=0) == 1
        await pass_time(2)
        assert await asyncio.gather(*(room.load("k", seconds=5) for _ in range(3))) == [1, 1, 1]
        assert room.started == 2

    room.run(main)
