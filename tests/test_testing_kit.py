"""The kit for tests keeps its own promises: time moves only when told to, and faults happen as planned."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from resilient_cache import FailureKind, StoreError
from resilient_cache.adapters import MappingAdapter
from resilient_cache.deadline import CURRENT
from resilient_cache.testing import (
    AsyncFaultyAdapter,
    CacheFaults,
    Deadlock,
    Fault,
    FaultKind,
    FaultPlan,
    FaultyAdapter,
    ManualClock,
    ManualLoop,
    StoreCall,
    run_virtual,
)

from .virtual import pass_time


class Kit:
    """A faulty adapter of either colour, called as if it were synchronous."""

    def __init__(self, colour: str, plan: FaultPlan | None = None) -> None:
        self.colour = colour
        self.clock = ManualClock()
        make: Any = FaultyAdapter if colour == "sync" else AsyncFaultyAdapter
        self.adapter = make(self.clock, plan=plan)
        self.plan = self.adapter.plan

    def call(self, operation: str, *args: Any, within: float | None = None) -> Any:
        """The result of a call that has `within` seconds."""
        until = None if within is None else (self.clock.monotonic() + within, self.clock.monotonic)
        token = CURRENT.set(until)
        try:
            if self.colour == "sync":
                return getattr(self.adapter, operation)(*args)
            return run_virtual(self._awaited(operation, args, within), self.clock)
        finally:
            CURRENT.reset(token)

    async def _awaited(self, operation: str, args: tuple[Any, ...], within: float | None) -> Any:
        async with asyncio.timeout(within):
            return await getattr(self.adapter, operation)(*args)


@pytest.fixture(params=["sync", "async"])
def kit(request: pytest.FixtureRequest) -> Kit:
    return Kit(request.param)


def test_the_clock_moves_when_told_to() -> None:
    """Both clocks advance together; a jump moves the wall clock only, back too."""
    clock = ManualClock(10.0, wall=100.0)
    clock.advance(1.5)
    assert (clock.monotonic(), clock.time()) == (11.5, 101.5)
    clock.jump(-50)
    assert (clock.monotonic(), clock.time()) == (11.5, 51.5)
    for seconds in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="only the wall clock goes back"):
            clock.advance(seconds)


def test_a_loop_in_virtual_time_waits_for_nothing() -> None:
    """A day of sleeping takes no time and ends at its moment; what sleeps together wakes in order."""
    clock = ManualClock()
    order: list[str] = []

    async def sleeper(name: str, seconds: float) -> None:
        await pass_time(seconds)
        order.append(name)

    async def main() -> str:
        assert isinstance(asyncio.get_running_loop(), ManualLoop)
        await asyncio.gather(sleeper("late", 86_400 * 3), sleeper("soon", 1), sleeper("first", 0))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.get_running_loop().create_future()
        return "done"

    began = time.monotonic()
    assert run_virtual(main(), clock) == "done"
    assert time.monotonic() - began < 5
    assert order == ["first", "soon", "late"]
    assert clock.monotonic() == 1_000.0 + 86_400 * 3 + 5


def test_a_deadlock_is_an_error() -> None:
    """Where nothing can ever happen again, the loop says so instead of hanging."""

    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock, match="no timer is set"):
        run_virtual(main(), ManualClock())


@pytest.mark.parametrize("start", [2.0**24, 250 * 86_400.0, 1_750_000_000.0])
def test_a_loop_in_virtual_time_goes_on_however_far_the_clock_is(start: float) -> None:
    """A second passes after 194 days as in the first one, and where the clock began at today's date."""

    class Turned:
        def __init__(self) -> None:
            self.clock, self.turns = ManualClock(start), 0
            self.monotonic = self.clock.monotonic

        def advance(self, seconds: float) -> None:
            self.turns += 1
            assert self.turns < 10, "it turns round and round"
            self.clock.advance(seconds)

    turned: Any = Turned()
    run_virtual(pass_time(1), turned)
    assert turned.monotonic() == start + 1


def test_a_socket_that_is_ready_is_served() -> None:
    """What is ready in the real world is not passed over: bytes in a socket arrive before the clock moves."""
    clock = ManualClock()

    async def main() -> bytes:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.send(b"hello")
            async with asyncio.timeout(1):
                return await asyncio.get_running_loop().sock_recv(ours, 5)

    assert run_virtual(main(), clock) == b"hello"
    assert clock.monotonic() == 1_000.0


def test_a_reader_is_told_and_forgotten() -> None:
    """File descriptors can be watched and unwatched as in any loop."""

    async def main() -> int:
        ours, theirs = socket.socketpair()
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        with ours, theirs:
            asyncio.get_running_loop().add_reader(ours, told.set_result, 1)
            theirs.send(b"x")
            told.add_done_callback(lambda _: asyncio.get_running_loop().remove_reader(ours))
            return await told

    assert run_virtual(main(), ManualClock()) == 1


def test_the_store_keeps_what_it_is_given_for_its_life(kit: Kit) -> None:
    """Without a plan the adapter is a dict whose entries expire on the clock; every call is told."""
    kit.call("set", "k", b"v", 10.0)
    assert kit.call("get", "k") == b"v"
    kit.clock.advance(10)
    assert kit.call("get", "k") is None
    kit.call("delete", "k")
    assert kit.call("get", "k") is None
    assert kit.adapter.calls[0] == StoreCall("set", "k", None, 1_000.0)
    assert [call.operation for call in kit.adapter.calls] == ["set", "get", "get", "delete", "get"]
    assert kit.adapter.calls[2].at == 1_010.0
    assert kit.adapter.inner.entries == {}


@pytest.mark.parametrize("kind", [FaultKind.RAISE, FaultKind.RAISE_AT_CALL, FaultKind.LOST, FaultKind.LATE])
@pytest.mark.parametrize("error", [OSError("x"), TimeoutError("x"), StoreError(FailureKind.AUTH, "x"), KeyError("x")])
def test_a_planned_error_is_raised(kit: Kit, kind: FaultKind, error: Exception) -> None:
    """The very error of the plan is raised, with a fresh traceback each time, by every operation."""
    for operation, *args in (("get", "k"), ("set", "k", b"v", 9.0), ("delete", "k")):
        kit.plan.then(operation, Fault(kind, error=error), Fault(kind, error=error))
        depths = []
        for _ in range(2):
            with pytest.raises(type(error)) as caught:
                kit.call(operation, *args)
            assert caught.value is error
            depths.append(len(caught.traceback))
        assert depths[0] == depths[1]


def test_an_error_at_the_call_comes_before_there_is_anything_to_await() -> None:
    """An async method may fail when it is called; the other faults wait until they are awaited."""
    adapter = AsyncFaultyAdapter(ManualClock())
    adapter.plan.then("get", Fault(FaultKind.RAISE_AT_CALL), Fault(FaultKind.RAISE))
    with pytest.raises(StoreError):
        _ = adapter.get("k")
    waiting = adapter.get("k")
    with pytest.raises(StoreError):
        asyncio.run(waiting)


def test_a_lost_acknowledgement_is_an_effect_with_an_error(kit: Kit) -> None:
    """LOST: the write and the delete are done, and fail."""
    kit.plan.then("set", Fault(FaultKind.LOST)).then("delete", Fault(FaultKind.LOST))
    with pytest.raises(StoreError):
        kit.call("set", "k", b"v", 9.0)
    assert kit.call("get", "k") == b"v"
    with pytest.raises(StoreError):
        kit.call("delete", "k")
    assert kit.call("get", "k") is None


def test_a_late_write_lands_over_what_was_done_since(kit: Kit) -> None:
    """LATE: the write fails now and is there `seconds` later, over a delete that came between; in the order of time."""
    kit.plan.then("set", Fault.late(3), Fault.late(2))
    for value in (b"second", b"first"):
        with pytest.raises(TimeoutError):
            kit.call("set", "k", value, 9.0)
    kit.call("delete", "k")
    kit.clock.advance(1.875)
    assert kit.call("get", "k") is None
    kit.clock.advance(0.125)
    assert kit.call("get", "k") == b"first"
    kit.clock.advance(1)
    assert kit.call("get", "k") == b"second"


def test_a_hang_ends_with_the_deadline(kit: Kit) -> None:
    """HANG: the call takes all the time it was given, has no effect, and ends as a TimeoutError."""
    kit.plan.then("set", Fault(FaultKind.HANG))
    with pytest.raises(TimeoutError):
        kit.call("set", "k", b"v", 9.0, within=0.25)
    assert kit.clock.monotonic() == 1_000.25
    assert kit.call("get", "k") is None


def test_a_hang_without_a_deadline() -> None:
    """HANG outside a guarded call: a TimeoutError at once for threads, a deadlock that is told for tasks."""
    threads, tasks = Kit("sync"), Kit("async")
    for kit, error in ((threads, TimeoutError), (tasks, Deadlock)):
        kit.plan.then("get", Fault(FaultKind.HANG))
        with pytest.raises(error):
            kit.call("get", "k")
        assert kit.clock.monotonic() == 1_000.0


def test_a_slow_call_takes_its_time(kit: Kit) -> None:
    """SLOW: the answer is right and takes `seconds`, with a deadline and without."""
    kit.plan.then("set", Fault.slow(0.125), Fault.slow(2))
    kit.call("set", "k", b"v", 9.0, within=0.25)
    assert kit.clock.monotonic() == 1_000.125
    kit.call("set", "k", b"w", 9.0)
    assert kit.clock.monotonic() == 1_002.125
    assert kit.call("get", "k") == b"w"


def test_a_slow_write_that_was_given_up_lands_all_the_same() -> None:
    """SLOW: for threads, a write that is given up at its deadline lands at its own time, and a read has no effect."""
    kit = Kit("sync")
    kit.plan.then("set", Fault.slow(1)).then("get", Fault.slow(1))
    for operation, *args in (("set", "k", b"v", 9.0), ("get", "k")):
        with pytest.raises(TimeoutError):
            kit.call(operation, *args, within=0.25)
    assert kit.call("get", "k") is None
    kit.clock.advance(0.5)
    assert kit.call("get", "k") == b"v"


def test_a_slow_write_that_was_abandoned_goes_on() -> None:
    """SLOW: for tasks, a write that nobody waits for any more lands at its own time."""
    clock = ManualClock()
    adapter = AsyncFaultyAdapter(clock, plan=FaultPlan().then("set", Fault.slow(1)))

    async def main() -> None:
        task = asyncio.ensure_future(adapter.set("k", b"v", 9.0))
        await asyncio.wait([task], timeout=0.25)
        assert await adapter.get("k") is None
        await pass_time(1)
        assert await adapter.get("k") == b"v"

    run_virtual(main(), clock)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(FaultKind.CORRUPT), b"abbd"),
        (Fault(FaultKind.TRUNCATE), b"ab"),
        (Fault(FaultKind.WRONG_TYPE, value=7), 7),
        (Fault(FaultKind.WRONG_KEY), b"newest"),
    ],
)
def test_spoilt_answers(kit: Kit, fault: Fault, expected: object) -> None:
    """The answer to a read is other than what was written, in the way of the fault; what is stored stays whole."""
    kit.call("set", "other", b"older", 9.0)
    kit.call("set", "another", b"newest", 9.0)
    kit.call("set", "k", b"abcd", 9.0)
    kit.plan.then("get", fault)
    assert kit.call("get", "k") == expected
    assert kit.call("get", "k") == b"abcd"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(FaultKind.CORRUPT), {"a": b"12344678", "b": b"abbde"}),
        (Fault(FaultKind.WRONG_KEY), {"a": b"abcde", "b": b"12345678"}),
        (Fault(FaultKind.WRONG_TYPE, value=7), {"a": 7, "b": 7, "c": 7}),
    ],
)
def test_spoilt_answers_for_many(kit: Kit, fault: Fault, expected: object) -> None:
    """Each answer is other than what was written; with WRONG_KEY it is that of the next."""
    kit.call("set", "a", b"12345678", 9.0)
    kit.call("set", "b", b"abcde", 9.0)
    kit.plan.then("get_many", fault)
    assert kit.call("get_many", ["a", "b", "c"]) == expected
    assert kit.call("get_many", ["a", "b", "c"]) == {"a": b"12345678", "b": b"abcde"}


@pytest.mark.parametrize("kind", [FaultKind.CORRUPT, FaultKind.TRUNCATE, FaultKind.WRONG_KEY])
def test_nothing_cannot_be_spoilt(kit: Kit, kind: FaultKind) -> None:
    """Where nothing is stored the answer stays None; faults of answers do not touch writes."""
    kit.plan.during(Fault(kind))
    assert kit.call("get", "k") is None
    kit.call("set", "k", b"v", 9.0)
    kit.plan.calm()
    assert kit.call("get", "k") == b"v"


def test_the_clock_jumps_within_a_call(kit: Kit) -> None:
    """JUMP: the wall clock is set, the call is well."""
    kit.plan.then("set", Fault(FaultKind.JUMP, 3600))
    kit.call("set", "k", b"v", 9.0)
    assert kit.clock.time() == 1_750_003_600.0
    assert kit.call("get", "k") == b"v"


def test_a_plan_is_followed_in_order() -> None:
    """What is scripted comes first, then what lasts, then chance; `calm` ends them all."""
    one, two = Fault(FaultKind.HANG), Fault(FaultKind.LOST)
    plan = FaultPlan.seeded(1, rate=1.0, faults=[two]).during(one, "get").then("get", two, None)
    assert [plan.draw("get") for _ in range(3)] == [two, None, one]
    assert plan.draw("set") is two
    plan.calm()
    assert [plan.draw(operation) for operation in ("get", "set", "delete")] == [None] * 3
    plan.during(one)
    assert [plan.draw(operation) for operation in ("get", "set", "delete")] == [one] * 3


def test_a_seed_is_a_plan() -> None:
    """The same seed gives the same faults, another seed others; the rate is what was asked for."""
    faults = [Fault(FaultKind.HANG), Fault(FaultKind.LOST)]

    def drawn(seed: int) -> list[Fault | None]:
        plan = FaultPlan.seeded(seed, rate=0.3, faults=faults)
        return [plan.draw("get") for _ in range(1_000)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert 250 < sum(fault is not None for fault in drawn(3)) < 350


@pytest.mark.parametrize("kind", FaultKind)
def test_a_kind_of_fault_may_be_given_by_its_name(kit: Kit, kind: FaultKind) -> None:
    """As the tables of the docs show it; it is the same fault."""
    by_name: Any = kind.value
    assert Fault(by_name, 0.125) == Fault(kind, 0.125)
    assert Fault(by_name).kind is kind


def test_seconds_are_any_number(kit: Kit) -> None:
    seconds: Any = Fraction(1, 8)
    kit.plan.then("get", Fault.slow(seconds))
    assert kit.call("get", "k", within=0.25) is None
    assert kit.clock.monotonic() == 1_000.125


RAISE = Fault(FaultKind.RAISE)
HANG: Any = "hang"
fault: Any = Fault  # of any arguments, as of a caller who checks no types
seeded: Any = FaultPlan.seeded


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        (lambda: fault("nonsense"), ValueError, "kind must be one of raise, raise_at_call, .*, jump, not 'nonsense'"),
        (lambda: fault.slow(-1), ValueError, "seconds must be at least 0 and finite, not -1"),
        (lambda: fault.slow(float("inf")), ValueError, "seconds must be at least 0 and finite, not inf"),
        (lambda: fault.slow(10**400), ValueError, "seconds must be at least 0 and finite, not 10000"),
        (lambda: fault.late(float("nan")), ValueError, "seconds must be at least 0 and finite, not nan"),
        (lambda: fault("jump", float("nan")), ValueError, "seconds must be at least -inf and finite, not nan"),
        (lambda: fault("jump", float("-inf")), ValueError, "seconds must be at least -inf and finite, not -inf"),
        (lambda: fault.slow("1"), TypeError, "seconds must be Real, not '1'"),
        (lambda: fault.raising(ConnectionError), TypeError, "error must be BaseException, not <class"),
        (lambda: FaultPlan().then("got", RAISE), ValueError, "operation must be one of get, .* delete_many, not 'got'"),
        (lambda: FaultPlan().then("get", None, HANG), TypeError, "fault must be Fault or NoneType, not 'hang'"),
        (lambda: FaultPlan().during(RAISE, "get", "read"), ValueError, "operation must be one of get, .*, not 'read'"),
        (lambda: FaultPlan().during(HANG), TypeError, "fault must be Fault, not 'hang'"),
        (lambda: seeded(1, rate=50, faults=[RAISE]), ValueError, "rate must be from 0 to 1, not 50"),
        (lambda: seeded(1, rate="1", faults=[RAISE]), TypeError, "rate must be int or float, not '1'"),
        (lambda: seeded(1, rate=0.5, faults=[]), ValueError, "faults must hold at least 1 Fault, not none"),
        (lambda: seeded(1, rate=0.5, faults=[HANG]), TypeError, "each of faults must be Fault, not 'hang'"),
        (lambda: seeded(1, rate=0.5, faults=RAISE), TypeError, "faults must be a list of Fault, not Fault"),
        (lambda: seeded(None, rate=0.5, faults=[RAISE]), TypeError, "seed must be int, not None"),
        (lambda: CacheFaults(ManualClock()).down("read"), ValueError, "operation must be one of get, .*, not 'read'"),
    ],
)
def test_a_fault_that_could_not_happen_is_said_where_it_is_written(
    wrong: Callable[[], object], error: type[Exception], said: str
) -> None:
    """Not inside an adapter, where a cache takes it for a failure of the store; nor is it well in silence."""
    with pytest.raises(error, match=f"^{said}"):
        wrong()


def test_a_wrong_operation_changes_nothing() -> None:
    plan = FaultPlan()
    with pytest.raises(ValueError, match="operation must be"):
        plan.during(RAISE, "get", "read")
    assert repr(plan) == "FaultPlan()"


def test_any_adapter_can_stand_behind() -> None:
    """An inner adapter of one's own answers where the plan lets it."""
    clock = ManualClock()
    inner = MappingAdapter(monotonic=clock.monotonic)
    adapter = FaultyAdapter(clock, inner, plan=FaultPlan().then("get", Fault.raising(OSError("down"))))
    inner.set("k", b"v", 9.0)
    with pytest.raises(OSError, match="down"):
        adapter.get("k")
    assert adapter.get("k") == b"v"


def test_an_async_adapter_can_stand_behind() -> None:
    """The same with coroutines."""

    class Inner:
        async def get(self, key: str, /) -> bytes | None:
            return key.encode()

        async def set(self, key: str, value: bytes, ttl: float, /) -> None:
            raise AssertionError

        async def delete(self, key: str, /) -> None:
            raise AssertionError

    clock = ManualClock()
    assert run_virtual(AsyncFaultyAdapter(clock, Inner()).get("k"), clock) == b"k"
