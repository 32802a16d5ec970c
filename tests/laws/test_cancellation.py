"""L2: what is no `Exception` gets out, from wherever it strikes, and leaves everything as if that call had not been."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from resilient_cache import LoadTimeout
from resilient_cache.testing import Fault, FaultKind, run_virtual

from ..virtual import pass_time
from .stage import Stage
from .tasks import POLICY, Cancelling, Room

Make = Callable[..., Stage]


class Interrupt(BaseException):
    """Like KeyboardInterrupt, but left alone by event loops."""


CALLS: dict[str, Callable[[Room], Any]] = {
    "get": lambda room: room.cache.get("k"),
    "get_or_load": lambda room: room.load("k"),
    "get_or_load, load_timeout": lambda room: room.load("k"),
    "refresh": lambda room: room.cache.refresh("k", lambda _: pass_time(1.0, "v")),
    "set": lambda room: room.cache.set("k", "v"),
    "invalidate": lambda room: room.cache.invalidate("k"),
    "garbage": lambda room: room.cache.get("k"),
}
FAULTS = {"well": None, "slow": Fault.slow(0.125), "hang": Fault(FaultKind.HANG), "error": Fault(FaultKind.RAISE)}


def prepared(call: str, fault: Fault | None) -> Room:
    """A room in which the store has `fault` for every call."""
    room = Room(memory=0, policy=replace(POLICY, load_timeout=5) if "timeout" in call else POLICY)
    if call == "garbage":
        room.store.inner.entries["laws:k"] = (b"garbage", float("inf"))
    if fault is not None:
        room.plan.during(fault)
    return room


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", CALLS)
def test_a_call_can_be_cancelled_wherever_it_waits(call: str, fault: str) -> None:
    """L2: cancelled at its n-th suspension point, for every n, a call ends cancelled and was never counted."""
    at, cancelled = 1, True
    while cancelled:
        room = prepared(call, FAULTS[fault])

        async def main(room: Room = room, at: int = at) -> bool:
            course = Cancelling(CALLS[call](room), at)
            task = asyncio.create_task(course.run())
            await asyncio.wait([task])
            assert task.cancelled() == (course.points >= at), "the cancellation was swallowed"
            if task.cancelled():
                assert room.requests() == 0
                counted = any(name.startswith("store_") for name in room.cache.stats())
                assert not counted or call not in ("get", "set", "invalidate")
            return task.cancelled()

        cancelled = room.run(main)
        room.plan.calm()
        assert {c["state"] for c in room.cache.health()["circuits"].values()} == {"closed"}
        assert room.run(functools.partial(room.load, "other", 0.0)) == room.started
        at += 1
    assert at > 2


@pytest.mark.parametrize("fault", FAULTS)
def test_a_leader_that_is_cancelled_hands_over_to_exactly_one(fault: str) -> None:
    """L14: wherever a flight's leader is cancelled, one waiter leads on, none is disturbed, no two loads overlap."""
    at, cancelled = 1, True
    while cancelled:
        room = prepared("get_or_load", FAULTS[fault])

        async def main(room: Room = room, at: int = at) -> bool:
            leader = asyncio.create_task(Cancelling(room.load("k"), at).run())
            await pass_time(0)
            waiters = [asyncio.create_task(room.load("k")) for _ in range(4)]
            await asyncio.wait([leader, *waiters])
            values = {waiter.result() for waiter in waiters}
            assert len(values) == 1
            assert room.most["k"] == 1
            assert room.started <= (2 if leader.cancelled() else 1)
            assert room.requests() == 4 + (not leader.cancelled())
            return leader.cancelled()

        cancelled = room.run(main)
        at += 1
    assert at > 2


def test_heirs_that_are_cancelled_hand_over_in_turn() -> None:
    """L14: when leader after leader is cancelled, each hands over to the next, and the last one gets the value."""
    room = Room(memory=0)

    async def main() -> None:
        calls = [asyncio.create_task(room.load("k")) for _ in range(5)]
        for call in calls[:-1]:
            await pass_time(0.5)
            call.cancel()
        assert await calls[-1] == 5
        assert [call.cancelled() for call in calls] == [True] * 4 + [False]
        assert room.most["k"] == 1
        assert room.requests() == 1

    room.run(main)


def test_a_leader_that_ran_out_of_time_may_ask_again() -> None:
    """L14: it waits for the one that took the lead from it, and that is no circle: it leads no more."""
    room = Room(memory=0)

    async def hasty() -> Any:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await room.load("k")
        return await room.load("k")

    async def main() -> None:
        assert list(await asyncio.gather(hasty(), room.load("k"))) == [2, 2]

    room.run(main)


def test_who_has_lost_patience_inherits_nothing() -> None:
    """L14: a leader that is cancelled hands over to one that still waits."""
    room = Room(memory=0)

    async def main() -> None:
        leader = asyncio.create_task(room.load("k", 9.0))
        await pass_time(0)
        with pytest.raises(LoadTimeout):
            await room.cache.get_or_load("k", pass_time, policy=replace(POLICY, load_timeout=1.0))
        patient = asyncio.create_task(room.load("k"))
        await pass_time(0)
        leader.cancel()
        began = room.clock.monotonic()
        assert await patient == 2
        assert room.clock.monotonic() - began == 1.0

    room.run(main)


@pytest.mark.parametrize("together", [True, False])
def test_a_waiter_that_leaves_harms_nobody(together: bool) -> None:
    """L14: waiters that are cancelled, also in the moment they inherit the lead, change nothing for the others."""
    room = Room(memory=0)

    async def main() -> None:
        calls = [asyncio.create_task(room.load("k")) for _ in range(5)]
        await pass_time(0.5)
        if together:
            calls[0].cancel()
            await pass_time(0)  # the heir is woken, but has not run yet
        for call in calls[1:3]:
            call.cancel()
        values = [await call for call in calls[3:]]
        assert len(set(values)) == 1
        assert room.most["k"] == 1
        assert room.started == (2 if together else 1)

    room.run(main)


def test_a_waiter_that_leaves_leaves_no_timer_behind() -> None:
    """Or it would be held until the flight counts as stuck, with all that its caller has in hand."""
    room = Room(memory=0)

    def timers() -> list[object]:
        loop: Any = asyncio.get_running_loop()
        return [handle for handle in loop._scheduled if not handle.cancelled()]

    async def main() -> None:
        leader = asyncio.create_task(room.load("k"))
        await pass_time(0.5)
        before = timers()
        waiter = asyncio.create_task(room.load("k"))
        await pass_time(0)
        assert len(timers()) > len(before)
        waiter.cancel()
        await asyncio.wait([waiter])
        assert timers() == before
        await leader

    room.run(main)


@pytest.mark.parametrize("operation", ["get", "set", "delete"])
def test_what_is_no_exception_gets_out_of_a_store(stage: Make, operation: str) -> None:
    """L2: an interrupt from inside a store call reaches the caller as the same object, and no counter heard of it."""
    cache = stage()
    interrupt = Interrupt()
    cache.plan.then(operation, Fault.raising(interrupt))
    calls = {
        "get": lambda: cache.load("k", 1),
        "set": lambda: cache.load("k", 1),
        "delete": lambda: cache.invalidate("k"),
    }
    before = {name: count for name, count in cache.cache.stats().items() if count}
    with pytest.raises(Interrupt) as caught:
        calls[operation]()
    assert caught.value is interrupt
    after = {name: count for name, count in cache.cache.stats().items() if count}
    if operation != "set":  # there a read and a load came before
        assert after == before
    assert cache.cache.stats()["requests"] == 0
    assert (cache.cache.health()["flights"], cache.cache.health()["store_calls_in_flight"]) == (0, 0)
    assert cache.load("k", 2) == 2


class Peers:
    """A backplane that notes what it is given."""

    def __init__(self) -> None:
        self.told = b""

    async def publish(self, _: str, message: bytes, /) -> None:
        self.told += message

    async def listen(self, _: str, ready: Callable[[], object], __: object, /) -> None:
        ready()
        await asyncio.get_running_loop().create_future()


OWING: dict[str, Callable[[Any], Any]] = {
    "invalidate": lambda cache: cache.invalidate("k"),
    "invalidate_many": lambda cache: cache.invalidate_many(["k", "l"]),
    "invalidate_all": lambda cache: cache.invalidate_all(),
    "invalidate_tag": lambda cache: cache.invalidate_tag("t"),
    "set": lambda cache: cache.set("k", "v"),
    "set_many": lambda cache: cache.set_many({"k": "v"}),
}


@pytest.mark.parametrize("fault", ["hang", "error"])
@pytest.mark.parametrize("call", OWING)
def test_what_a_cancelled_call_leaves_owed_is_asked_for_and_told(call: str, fault: str) -> None:
    """Though nobody calls again: wherever it was cancelled."""
    at, cancelled = 1, True
    while cancelled:
        peers = Peers()
        room = Room(policy=replace(POLICY, epoch_ttl=60), backplane=peers)

        async def main(room: Room = room, at: int = at, peers: Peers = peers) -> bool:
            assert await room.cache.set("k", "old")
            await pass_time(20)
            peers.told = b""
            room.plan.during(FAULTS[fault])  # type: ignore[arg-type]
            task = asyncio.create_task(Cancelling(OWING[call](room.cache), at).run())
            await asyncio.wait([task])
            room.plan.calm()
            await pass_time(20)
            assert room.cache.health()["pending_invalidations"] == 0
            assert not room.cache._rules.debts.any
            if call.startswith("invalidate"):
                assert peers.told
            await room.cache.aclose()
            return task.cancelled()

        cancelled = room.run(main)
        at += 1
    assert at > 2


def test_nobody_listens_after_a_close_that_was_cancelled() -> None:
    """Wherever it was."""
    at, cancelled = 1, True
    while cancelled:
        peers = Peers()
        room = Room(backplane=peers)

        async def main(room: Room = room, at: int = at) -> bool:
            assert await room.cache.get("k") is None
            room.plan.during(Fault(FaultKind.HANG))
            await room.cache.invalidate("k")
            task = asyncio.create_task(Cancelling(room.cache.aclose(), at).run())
            await asyncio.wait([task])
            assert await room.cache.aclose() == 0
            return task.cancelled()  # and `run` looks whether a task is left

        cancelled = room.run(main)
        assert peers.told
        at += 1
    assert at > 2


@pytest.mark.parametrize("call", OWING)
def test_what_an_interrupted_call_leaves_is_seen_to(stage: Make, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In both colours; and also what it reads first."""
    there = stage(policy=replace(POLICY, epoch_ttl=60))
    seen_to: list[object] = []
    monkeypatch.setattr(type(there.cache._upkeep), "soon", lambda upkeep: seen_to.append(upkeep))
    there.plan.during(Fault.raising(Interrupt()))
    with pytest.raises(Interrupt):
        there.run(OWING[call], there.cache)
    assert seen_to == [there.cache._upkeep]
    for read, asked in ((there.get, "k"), (there.get_many, ["k"])):
        seen_to.clear()
        with pytest.raises(Interrupt):
            read(asked)
        assert seen_to == [there.cache._upkeep]


@pytest.mark.parametrize("peers", [Peers(), None])
def test_what_is_dropped_with_its_loop_is_closed_in_silence(peers: Peers | None) -> None:
    """No task can be started there: the next call sees to what it leaves."""
    room = Room(backplane=peers)

    async def main() -> Any:
        room.plan.during(Fault(FaultKind.HANG))
        left = room.cache.invalidate("k")
        left.send(None)
        return left

    left = run_virtual(main(), room.clock)
    left.close()
    room.plan.calm()

    async def later() -> None:
        await room.cache.get("another")
        await pass_time(20)
        assert not room.cache._rules.debts.any
        await room.cache.aclose()

    room.run(later)


def test_what_is_no_exception_gets_out_of_a_loader(stage: Make) -> None:
    """L2: an interrupt from inside a loader reaches the caller as the same object; the flight is over."""
    cache = stage()
    interrupt = Interrupt()
    with pytest.raises(Interrupt) as caught:
        cache.load("k", interrupt)
    assert caught.value is interrupt
    assert cache.cache.stats()["requests"] == 0
    assert cache.cache.health()["flights"] == 0
    assert cache.load("k", 2) == 2


def test_an_interrupted_probe_is_neutral(stage: Make) -> None:
    """L2, L16: an interrupt during a probe neither opens nor closes the circuit, and the next probe may go at once."""
    cache = stage()
    cache.plan.during(Fault(FaultKind.RAISE), "get")
    for _ in range(3):
        cache.get("k")
    cache.plan.calm()
    cache.plan.then("get", Fault.raising(Interrupt()))
    cache.clock.advance(1)
    cache.get("k")
    with pytest.raises(Interrupt):
        cache.run_behind()
    assert cache.cache.health()["circuits"]["read"]["state"] == "half_open"
    cache.get("k")
    assert len(cache.behind) == 1


@pytest.mark.parametrize("call", ["probe", "load"])
def test_nothing_runs_on_after_the_cache_is_closed(call: str) -> None:
    """L17: when `aclose` has returned, no store call and no load that ran behind is left over."""
    room = Room(memory=0, policy=replace(POLICY, load_timeout=1))

    async def main() -> None:
        if call == "probe":
            room.plan.during(Fault(FaultKind.RAISE))
            for _ in range(3):
                await room.cache.get("k")
            await pass_time(1)
            room.plan.during(Fault(FaultKind.HANG))
            await room.cache.get("k")
        else:
            room.plan.during(Fault(FaultKind.HANG))
            asked = asyncio.create_task(room.load("k"))
            await pass_time(0.125)
            asked.cancel()
        await pass_time(0)
        await room.cache.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    room.run(main)
