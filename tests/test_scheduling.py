"""Threads in an order that is drawn: the same draws, the same run; what each kind of switch point can find."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from resilient_cache import ResilientCache, locks
from resilient_cache.adapters import MappingAdapter
from resilient_cache.testing import Deadlock, ManualClock, Scheduler, Switch
from resilient_cache.testing.tracing import modules_of_the_package, switch_points, tracer

HERE = sys.modules[__name__]
SEEDS = range(60)


def seeded(seed: int, **options: Any) -> Scheduler:
    return Scheduler(random.Random(seed).randrange, **options)


def dullest(_: int) -> int:
    return 0


def tell(seed: int, switch: Switch = Switch.LOCKS) -> list[str]:
    """What three threads tell that pause between their words."""
    said: list[str] = []
    run = seeded(seed, switch=switch)

    def talk(name: str) -> None:
        for word in range(3):
            said.append(f"{name}{word}")
            run.pause()

    for name in "abc":
        run.start(partial(talk, name))
    run.run()
    return said


# The order


@pytest.mark.parametrize("switch", Switch)
def test_the_same_draws_give_the_same_run(switch: Switch) -> None:
    runs = [tell(seed, switch) for seed in SEEDS]
    assert runs == [tell(seed, switch) for seed in SEEDS]
    assert all(sorted(run) == [f"{name}{word}" for name in "abc" for word in range(3)] for run in runs)
    assert len({tuple(run) for run in runs}) > 10


def test_the_dullest_draws_let_each_thread_run_to_its_end_in_turn() -> None:
    said: list[int] = []
    run = Scheduler(dullest)

    def talk(number: int) -> None:
        run.pause()
        said.append(number)

    for number in range(3):
        run.start(partial(talk, number))
    run.run()
    assert said == [0, 1, 2]


def test_a_thread_may_start_others_and_all_are_over_at_the_end() -> None:
    said: list[str] = []
    run = seeded(1)
    run.start(lambda: run.start(lambda: said.append("inner")))
    run.run()
    assert said == ["inner"]


def test_a_run_of_nobody_is_over() -> None:
    run = seeded(1)
    run.run()
    assert run.steps == 0


def test_what_a_thread_raises_is_raised_when_all_are_over() -> None:
    down, said = OSError("down"), []

    def fail() -> None:
        raise down

    for seed in range(10):
        run = seeded(seed)
        run.start(fail)
        run.start(lambda: said.append(1))
        with pytest.raises(OSError, match="down") as caught:
            run.run()
        assert caught.value is down
    assert len(said) == 10


# Locks


def lost_updates(make: Callable[[Scheduler], Any], seed: int) -> int:
    """How many of three increments are lost that read and write in two steps, under a lock of its own making."""
    count = 0
    with seeded(seed) as run:
        lock = make(run)

        def increment() -> None:
            nonlocal count
            with lock:
                seen = count
                run.pause()
                count = seen + 1

        for _ in range(3):
            run.start(increment)
        run.run()
    return 3 - count


class NoLock:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def test_locks_hold_the_others_back() -> None:
    assert not any(lost_updates(lambda run: run.lock(), seed) for seed in SEEDS)
    assert not any(lost_updates(lambda _: locks.make_rlock(), seed) for seed in SEEDS)
    assert any(lost_updates(lambda _: NoLock(), seed) for seed in SEEDS)


def test_only_the_holder_takes_a_lock_again() -> None:
    for seed in SEEDS:
        run = seeded(seed)
        held: list[int] = []
        again, once = run.rlock(), run.lock()

        def nested(run: Scheduler = run, again: Any = again, held: list[int] = held) -> None:
            with again, again:
                held.append(1)
                run.pause()
                assert sum(held) == 1
                held.append(-1)

        run.start(nested)
        run.start(nested)
        run.run()
        assert again.acquire()
        assert again.acquire()
        assert once.acquire()
        assert not once.acquire(blocking=False)
        assert not once.acquire(timeout=0)


def test_only_what_is_held_can_be_let_go_of() -> None:
    run = seeded(1)
    mine, anyones = run.rlock(), run.lock()
    mine.acquire()
    anyones.acquire()
    run.start(anyones.release)
    run.start(mine.release)
    with pytest.raises(RuntimeError, match="not held"):
        run.run()
    with pytest.raises(RuntimeError, match="not held"):
        anyones.release()


def test_locks_are_made_by_the_run_while_it_is_entered() -> None:
    real: Any = locks.make_lock, locks.make_rlock
    with seeded(1) as run:
        made: Any = locks.make_lock, locks.make_rlock
        assert made == (run.lock, run.rlock)
        cache = ResilientCache(MappingAdapter(monotonic=run.clock.monotonic), name="t", clock=run.clock)
        steps = run.steps
        run.start(lambda: cache.set("k", 1))
        run.run()
        assert run.steps > steps + 10
    assert real == (locks.make_lock, locks.make_rlock) == (threading.Lock, threading.RLock)


# Time


def test_time_passes_when_nobody_can_run() -> None:
    for seed in SEEDS:
        run = seeded(seed)
        said: list[Any] = []
        for seconds in (3.0, 1.0, 2.0):

            def doze(seconds: float = seconds, run: Scheduler = run, said: list[Any] = said) -> None:
                run.clock.advance(seconds)
                said.append((seconds, run.now))

            run.start(doze)
        run.run()
        assert said == [(1.0, 1001.0), (2.0, 1002.0), (3.0, 1003.0)]


def wait_for(lock: Any, run: Scheduler, said: list[Any]) -> None:
    said.append((lock.acquire(timeout=2.0), run.now))


def test_a_wait_for_a_lock_ends_with_its_limit() -> None:
    for seed in SEEDS:
        run = seeded(seed)
        said: list[Any] = []
        lock = run.lock()
        lock.acquire()
        run.start(partial(wait_for, lock, run, said))
        run.run()
        assert said == [(False, 1002.0)]


def test_a_wait_for_a_lock_ends_when_it_is_released() -> None:
    run = seeded(1)
    said: list[Any] = []
    lock = run.lock()
    lock.acquire()

    def let_go() -> None:
        run.sleep(1.0)
        lock.release()

    run.start(partial(wait_for, lock, run, said))
    run.start(let_go)
    run.run()
    assert said == [(True, 1001.0)]


def test_a_machine_may_stall() -> None:
    """Now and then a limit is over although the thread that would have been in time could run."""
    stalled = 0
    for seed in range(300):
        run = seeded(seed)
        said: list[Any] = []

        def busy(run: Scheduler = run, said: list[Any] = said) -> None:
            for _ in range(20):
                run.pause()
            said.append(run.now)

        run.start(partial(run.sleep, 1.0))
        run.start(busy)
        run.run()
        stalled += said == [1001.0]
    assert 0 < stalled < 100


def test_the_clock_of_a_run_is_one_to_move() -> None:
    manual = ManualClock(5.0, wall=7.0)
    run = seeded(1, clock=manual)
    run.clock.advance(1.0)
    run.clock.jump(-2.0)
    assert (run.clock.monotonic(), run.clock.time()) == (manual.monotonic(), manual.time()) == (6.0, 6.0)
    run.start(lambda: run.clock.advance(-1.0))
    with pytest.raises(ValueError, match="at least 0"):
        run.run()


# Where nobody can go on


def take(first: Any, second: Any) -> None:
    with first, second:
        pass


def test_a_deadlock_is_told_with_where_everybody_stands() -> None:
    """Two locks taken in opposite orders: some orders hang, and then every thread ends where it stands."""
    hung = 0
    for seed in SEEDS:
        with seeded(seed) as run:
            one, other = run.rlock(), run.rlock()

            run.start(partial(take, one, other), name="left")
            run.start(partial(take, other, one), name="right")
            try:
                run.run()
            except Deadlock as error:
                hung += 1
                first, *stands = str(error).splitlines()
                assert first == "nobody can go on at 1000"
                assert stands[0].startswith("  left waits for a lock that right holds: test_scheduling.py:")
                assert stands[1].startswith("  right waits for a lock that left holds: test_scheduling.py:")
                assert stands[0].endswith(" take")
            with one, other:
                assert not [thread for thread in threading.enumerate() if thread.name in ("left", "right")]
    assert 0 < hung < len(SEEDS)


def test_a_thread_that_nobody_wakes_is_a_deadlock() -> None:
    """Also when others have come to their end since, or have not begun."""
    for seed in range(20):
        run = seeded(seed)
        lock = run.lock()
        lock.acquire()
        run.start(lock.acquire, name="sleeper")
        run.start(lambda: None)
        with pytest.raises(Deadlock, match="sleeper waits to be woken") as caught:
            run.run()
        assert len(str(caught.value).splitlines()) == 2
        with pytest.raises(Deadlock, match="over"):
            lock.acquire()


def test_a_run_without_end_is_ended() -> None:
    for seed in range(10):
        run = seeded(seed, limit=1_000)

        def spin(run: Scheduler = run) -> None:
            while True:
                run.pause()

        run.start(spin)
        run.start(partial(run.sleep, 5.0), name="sleeper")
        with pytest.raises(Deadlock, match=r"no end after 1000 switch points\n  thread 1 runs: test_scheduling.py"):
            run.run()
        assert not [thread for thread in threading.enumerate() if thread.name == "sleeper"]


# What each kind of switch point finds


class Shop:
    """Sells what it has, and forgets to lock."""

    def __init__(self) -> None:
        self.stock = 1
        self.sold = 0
        self.counts = {"sold": 0}

    def sell(self) -> None:
        if self.stock > 0:
            self.stock -= 1
            self.sold += 1

    def count(self) -> None:
        self.counts["sold"] = self.counts.get("sold", 0) + abs(1)


def oversold(seed: int, switch: Switch) -> bool:
    shop = Shop()
    run = seeded(seed, switch=switch, modules=[HERE])
    run.start(shop.sell)
    run.start(shop.sell)
    run.run()
    return shop.sold > 1


def miscounted(seed: int, switch: Switch) -> bool:
    shop = Shop()
    run = seeded(seed, switch=switch, modules=[HERE])
    run.start(shop.count)
    run.start(shop.count)
    run.run()
    return shop.counts["sold"] < 2


def test_lines_find_a_check_and_an_act_that_no_lock_holds_together() -> None:
    assert not any(oversold(seed, Switch.LOCKS) for seed in range(200))
    assert any(oversold(seed, Switch.LINES) for seed in range(200))


def test_bytecodes_find_a_race_inside_a_line_and_none_that_cannot_be() -> None:
    assert not any(miscounted(seed, Switch.LINES) for seed in range(200))
    assert any(miscounted(seed, Switch.BYTECODES) for seed in range(200))
    assert not any(oversold(seed, Switch.BYTECODES) for seed in range(200))  # no call between its check and its act


def test_a_trace_function_pauses_where_it_is_told_to() -> None:
    """Called by hand: what runs as a trace function is out of sight for a coverage tool."""
    paused: list[int] = []
    code, files = Shop.count.__code__, frozenset({__file__})
    frame: Any = SimpleNamespace(f_code=code, f_lasti=0)
    enter = tracer(lambda: None, frozenset(), inside=False)
    assert enter(frame, "call", None) is enter(frame, "call", None) is None
    line = tracer(lambda: paused.append(1), files, inside=False)(frame, "call", None)
    assert line(frame, "line", None) is line
    assert line(frame, "return", None) is line
    assert paused == [1]
    opcode = tracer(lambda: paused.append(2), files, inside=True)(frame, "call", None)
    assert (frame.f_trace_opcodes, frame.f_trace_lines) == (True, False)
    assert opcode(frame, "opcode", None) is opcode
    assert paused == [1]
    frame.f_lasti = max(switch_points(code))
    assert opcode(frame, "opcode", None) is opcode
    assert paused == [1, 2]


def test_the_modules_of_the_package_are_those_of_a_request() -> None:
    names = {module.__name__.removeprefix("resilient_cache.") for module in modules_of_the_package()}
    assert {"_sync", "_sync_flow", "_local", "_guard", "flights", "breaker"} <= names
    assert not any(name.startswith(("testing", "adapters", "forking", "locks")) for name in names)


def test_switch_points_are_after_calls_and_on_the_way_back() -> None:
    def loop() -> None:
        for item in [1]:
            str(item)

    assert len(switch_points(loop.__code__)) >= 3
    assert len(switch_points((lambda x: x + x).__code__)) == 1
