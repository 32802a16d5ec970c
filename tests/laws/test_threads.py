"""L14 for threads: one load per key and fence generation, shared, handed over, replaced when stuck."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from resilient_cache import CachePolicy, LoadTimeout, MisuseError, ResilientCache
from resilient_cache.testing import Fault, FaultPlan, FaultyAdapter, ManualClock

POLICY = CachePolicy(epoch_ttl=None, ttl=60, stale_for=300, jitter=0, timeout=0.25)
PATIENCE = 5.0  # real seconds after which a test gives up on a thread


class Interrupt(BaseException):
    """What a loader may be struck by."""


class Room:
    """A cache, threads that use it, and loads that are held until they are let go."""

    def __init__(self, memory: int = 10, policy: CachePolicy = POLICY) -> None:
        self.clock = ManualClock()
        self.plan = FaultPlan()
        self.store = FaultyAdapter(self.clock, plan=self.plan)
        self.cache: Any = ResilientCache(self.store, name="laws", clock=self.clock, policy=policy, memory=memory)
        self.pool = ThreadPoolExecutor(16)
        self.started: list[Hold] = []
        self.lock = threading.Condition()

    def load(self, key: str = "k", way: str = "get_or_load", **options: Any) -> Future[Any]:
        """`get_or_load`, or another way, in a thread of its own; the load is held."""

        def loader(_: str) -> Any:
            with self.lock:
                hold = Hold(len(self.started) + 1)
                self.started.append(hold)
                self.lock.notify_all()
            return hold.wait()

        return self.pool.submit(getattr(self.cache, way), key, loader, **options)

    def nth(self, number: int) -> Hold:
        """The load of this number, once it has begun."""
        with self.lock:
            assert self.lock.wait_for(lambda: len(self.started) >= number, PATIENCE)
            return self.started[number - 1]

    def waiting(self, count: int, key: str = "k") -> None:
        """Return once `count` threads wait in the flight of `key`."""
        flights = self.cache._rules.local.flights.live
        tick = threading.Event()
        for _ in range(int(PATIENCE * 1_000)):
            if any(len(flight.waiters) == count for flight in list(flights.values()) if flight.place[0] == key):
                return
            tick.wait(0.001)
        raise AssertionError("they never came")


class Hold:
    """One load that waits to be told how it ends."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.error: BaseException | None = None
        self.event = threading.Event()

    def wait(self) -> int:
        assert self.event.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        return self.number

    def end(self, error: BaseException | None = None) -> None:
        self.error = error
        self.event.set()


@pytest.fixture
def rooms() -> Iterator[Callable[..., Room]]:
    """Makes rooms; their threads are over when the test is."""
    made: list[Room] = []

    def make(*args: Any, **options: Any) -> Room:
        made.append(Room(*args, **options))
        return made[-1]

    yield make
    for room in made:
        for hold in room.started:
            hold.end()
        room.pool.shutdown()
        assert room.cache.health()["flights"] == 0
        assert room.cache.health()["store_calls_in_flight"] == 0


def test_everyone_who_asks_meanwhile_shares_one_value(rooms: Callable[..., Room]) -> None:
    """L14: threads that ask for a key while it is loaded share the one load."""
    room = rooms(memory=0)
    first = room.load()
    hold = room.nth(1)
    others = [room.load() for _ in range(7)]
    room.waiting(7)
    hold.end()
    assert [call.result(PATIENCE) for call in (first, *others)] == [1] * 8
    assert len(room.started) == 1
    assert room.cache.stats()["loads"] == 8


def test_everyone_who_asks_meanwhile_shares_one_error(rooms: Callable[..., Room]) -> None:
    """L3, L14: the loader's error reaches every thread as the same object."""
    room = rooms(memory=0)
    first = room.load()
    hold = room.nth(1)
    others = [room.load() for _ in range(7)]
    room.waiting(7)
    down = OSError("down")
    hold.end(down)
    assert all(call.exception(PATIENCE) is down for call in (first, *others))
    assert room.cache.stats()["errors"] == 8


def test_a_leader_that_is_struck_hands_over_to_exactly_one(rooms: Callable[..., Room]) -> None:
    """L2, L14: an interrupt in the leader's loader is the leader's alone; one waiter leads on for the others."""
    room = rooms(memory=0)
    first = room.load()
    hold = room.nth(1)
    others = [room.load() for _ in range(5)]
    room.waiting(5)
    interrupt = Interrupt()
    hold.end(interrupt)
    assert first.exception(PATIENCE) is interrupt
    room.waiting(4)
    room.nth(2).end()
    assert [call.result(PATIENCE) for call in others] == [2] * 5
    assert len(room.started) == 2
    assert room.cache.stats()["requests"] == 5


def test_who_has_lost_patience_inherits_nothing(rooms: Callable[..., Room]) -> None:
    """L14: a leader that is struck hands over to one that still waits."""
    room = rooms(memory=0, policy=replace(POLICY, timeout=0.001))
    room.load()
    hold = room.nth(1)
    hasty = room.load(policy=replace(POLICY, load_timeout=0.015625))
    room.waiting(1)
    patient = room.load()
    room.waiting(2)
    room.clock.advance(1)
    assert isinstance(hasty.exception(PATIENCE), LoadTimeout)
    hold.end(Interrupt())
    room.nth(2).end()
    assert patient.result(PATIENCE) == 2


def test_a_stuck_flight_is_replaced_by_exactly_one(rooms: Callable[..., Room]) -> None:
    """L14: a load older than `flight_age` is replaced by one other; what it brings in the end replaces nothing."""
    room = rooms()
    stuck = room.load()
    hold = room.nth(1)
    room.clock.advance(10)
    late = [room.load() for _ in range(5)]
    second = room.nth(2)
    room.waiting(4)
    hold.end()
    assert stuck.result(PATIENCE) == 1
    assert room.cache.get("k") is None
    second.end()
    assert [call.result(PATIENCE) for call in late] == [2] * 5
    assert room.cache.get("k") == 2
    assert len(room.started) == 2


def test_those_who_wait_for_a_stuck_flight_ask_again(rooms: Callable[..., Room]) -> None:
    """L14: threads that wait in a flight when it turns out stuck share the one that replaces it."""
    room = rooms(policy=replace(POLICY, flight_age=0.0625))
    stuck = room.load()
    room.nth(1)
    waiting = [room.load() for _ in range(3)]
    room.waiting(3)
    room.clock.advance(0.0625)
    second = room.nth(2)
    room.waiting(2)
    room.clock.advance(0.0625 / 2)
    second.end()
    assert [call.result(PATIENCE) for call in waiting] == [2] * 3
    room.nth(1).end()
    assert stuck.result(PATIENCE) == 1
    assert room.cache.get("k") == 2


@pytest.mark.parametrize("memory", [0, 10])
@pytest.mark.parametrize("fault", [None, Fault.raising(OSError()), Fault.late(0.0)])
def test_an_invalidation_cuts_a_flight_off(rooms: Callable[..., Room], memory: int, fault: Fault | None) -> None:
    """L9, L14: callers after an invalidation share no load that began before it, and its value is not kept."""
    room = rooms(memory)
    room.plan.then("delete", fault)
    before = [room.load()]
    first = room.nth(1)
    before.append(room.load())
    room.waiting(1)
    room.cache.invalidate("k")
    after = [room.load()]
    second = room.nth(2)
    after.append(room.load())
    room.waiting(1)
    first.end()
    assert [call.result(PATIENCE) for call in before] == [1, 1]
    assert room.cache.get("k") is None
    second.end()
    assert [call.result(PATIENCE) for call in after] == [2, 2]
    assert room.cache.get("k") == 2


def test_a_set_cuts_a_flight_off(rooms: Callable[..., Room]) -> None:
    """L11: a load that began before a `set` does not replace what was set, in memory or in the store."""
    room = rooms()
    before = room.load()
    hold = room.nth(1)
    assert room.cache.set("k", 99) is True
    hold.end()
    assert before.result(PATIENCE) == 1
    assert room.cache.get("k") == 99
    room.cache._rules.local.memory.drop_locked("k")
    assert room.cache.get("k") == 99


def test_a_loader_that_asks_for_its_own_key_is_told_so(rooms: Callable[..., Room]) -> None:
    """L6, L14: a loader that waits for itself is misuse and not a deadlock."""
    room = rooms(memory=0)

    def loader(key: str) -> Any:
        return room.cache.get_or_load(key, loader)

    with pytest.raises(MisuseError, match="for the key it loads"):
        room.cache.get_or_load("k", loader)


def test_loaders_that_wait_for_each_other_are_told_so(rooms: Callable[..., Room]) -> None:
    """L14: of two loaders that ask for each other's key one is refused, and both threads come back."""
    room = rooms(memory=0)
    both = threading.Barrier(2, timeout=PATIENCE)
    other = {"a": "b", "b": "a"}

    def loader(key: str) -> Any:
        both.wait()
        return room.cache.get_or_load(other[key], loader)

    calls = [room.pool.submit(room.cache.get_or_load, key, loader) for key in other]
    assert all(isinstance(call.exception(PATIENCE), MisuseError) for call in calls)


def test_a_load_slower_than_its_timeout_goes_on(rooms: Callable[..., Room]) -> None:
    """A caller with `load_timeout` gets `LoadTimeout`; the load goes on behind and its value is kept."""
    room = rooms(policy=replace(POLICY, timeout=0.001, load_timeout=0.015625))
    call = room.load()
    hold = room.nth(1)
    room.waiting(1)
    room.clock.advance(1)
    assert isinstance(call.exception(PATIENCE), LoadTimeout)
    again = room.load()
    room.waiting(1)
    hold.end()
    assert again.result(PATIENCE) == 1
    assert room.cache.get("k") == 1


def test_a_load_behind_runs_once_even_if_it_is_struck(rooms: Callable[..., Room]) -> None:
    """L2, L3: with `load_timeout`, a loader struck by an interrupt is not called again for the same request."""
    room = rooms(memory=0, policy=replace(POLICY, load_timeout=5))
    interrupt = SystemExit()
    calls = []

    def loader(_: str) -> Any:
        calls.append(1)
        raise interrupt

    with pytest.raises(SystemExit) as caught:
        room.cache.get_or_load("k", loader)
    assert caught.value is interrupt
    assert calls == [1]


@contextmanager
def switching_often() -> Iterator[None]:
    """Threads take turns every 5 us."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("memory", [0, 1, 10])
def test_no_race_serves_what_was_invalidated(memory: int) -> None:
    """L9: threads that load, set and invalidate as fast as they can never read what was invalidated before."""
    clock, plan = ManualClock(), FaultPlan.seeded(memory, rate=0.2, faults=[Fault.raising(OSError()), Fault.late(0.0)])
    cache: Any = ResilientCache(FaultyAdapter(clock, plan=plan), name="laws", clock=clock, policy=POLICY, memory=memory)
    lock = threading.Lock()
    moment = fence = 0
    wrong: list[str] = []

    def next_moment() -> int:
        nonlocal moment
        with lock:
            moment += 1
            return moment

    def work(turn: int) -> None:
        nonlocal fence
        for step in range(150):
            if (step + turn) % 5 == 0:
                now = next_moment()
                cache.invalidate("k")
                with lock:
                    fence = max(fence, now)
                continue
            least = fence
            value = cache.get_or_load("k", lambda _: next_moment()) if step % 2 else cache.get("k", moment)
            if value < least:
                wrong.append(f"{value} after {least}")

    with switching_often(), ThreadPoolExecutor(4) as pool:
        for call in [pool.submit(work, turn) for turn in range(4)]:
            call.result(PATIENCE)
    assert not wrong
    assert cache.health()["flights"] == 0
    assert cache.stats()["requests"] == 4 * 120
