"""Warming up: every key once, few at a time, whatever fails; and whoever is interrupted leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_cache import AsyncResilientCache, MisuseError, Mode, NoSafeValue, NotFound, ResilientCache
from resilient_cache._task_pool import Pool as TaskPool
from resilient_cache._thread_pool import Pool
from resilient_cache.outcome import Progress, Source
from resilient_cache.testing import Fault, FaultKind, ManualClock, run_virtual

from ..virtual import pass_time
from .stage import POLICY, Stage

DOWN = Fault(FaultKind.RAISE)
Make = Callable[..., Stage]


class Interrupt(BaseException):
    """Like KeyboardInterrupt, but left alone by event loops and by pytest."""


def loader(stage: Stage, function: Callable[[str], Any]) -> Any:
    """A loader of the stage's colour."""

    async def awaited(key: str) -> Any:
        return function(key)

    return function if stage.colour == "sync" else awaited


def others() -> list[threading.Thread]:
    """Threads that a warm-up has left behind."""
    return [thread for thread in threading.enumerate() if thread.name == "resilient_cache.warm"]


def flaky(outcomes: dict[str, list[Any]]) -> Callable[[str], Any]:
    """Gives or raises what is next for the key; the last for ever."""

    def give(key: str) -> Any:
        left = outcomes[key]
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return give


def test_every_key_is_loaded_once_and_then_it_is_there(stage: Make) -> None:
    warmed = stage(memory=10)
    asked: list[str] = []

    def shout(key: str) -> str:
        asked.append(key)
        return key.upper()

    load = loader(warmed, shout)
    assert warmed.warm(["a", "b", "c"], load) == 3
    assert sorted(asked) == ["a", "b", "c"]
    assert [warmed.get(key) for key in "abc"] == ["A", "B", "C"]
    assert warmed.warm(["a", "b", "c", "d"], load) == 1  # what is there already is not loaded
    assert warmed.warm([], load) == 0
    assert not others()


OUTCOMES: dict[str, Any] = {"value": "v", "raise": OSError("down"), "missing": NotFound(), "there": None, "stale": None}


@pytest.mark.parametrize("colour", ["sync", "async"])
@given(kinds=st.lists(st.sampled_from(list(OUTCOMES)), max_size=8), concurrency=st.integers(1, 4))
def test_the_counts_are_those_of_the_keys(colour: str, kinds: list[str], concurrency: int) -> None:
    """One failing key stops nothing, raises nothing, and is told with its error."""
    stage = Stage(colour, memory=10)
    keys = [f"{number}" for number in range(len(kinds))]
    for key, kind in zip(keys, kinds, strict=True):
        if kind == "stale":
            stage.load(key, "old")
    stage.clock.advance(61)
    for key, kind in zip(keys, kinds, strict=True):
        if kind == "there":
            stage.load(key, "old")
    outcomes = {key: [OUTCOMES[kind] or OSError("down")] for key, kind in zip(keys, kinds, strict=True)}
    told: list[Progress] = []
    loaded = stage.warm(keys, loader(stage, flaky(outcomes)), concurrency, progress=told.append)
    assert loaded == kinds.count("value")
    assert [progress.done for progress in told] == list(range(1, len(keys) + 1))
    assert sorted(progress.key for progress in told) == sorted(keys)
    assert all(progress.total == len(keys) for progress in told)
    for progress in told:
        kind = kinds[int(progress.key)]
        assert progress.error is (OUTCOMES["raise"] if kind == "raise" else None)
    if told:
        assert (told[-1].loaded, told[-1].failed) == (loaded, kinds.count("raise") + kinds.count("stale"))
    stage.run_behind()
    assert not others()


@pytest.mark.parametrize("concurrency", [1, 3])
def test_so_many_at_once_and_no_more(stage: Make, concurrency: int) -> None:
    warmed = stage(memory=100)
    together = threading.Barrier(concurrency)
    now, most = [0], [0]

    def enter() -> None:
        now[0] += 1
        most[0] = max(most[0], now[0])

    def load(key: str) -> str:
        enter()
        together.wait(5)
        now[0] -= 1
        return key

    async def awaited(key: str) -> str:
        enter()
        await pass_time(1.0)
        now[0] -= 1
        return key

    count = 4 * concurrency
    keys = (str(number) for number in range(count))
    assert warmed.warm(keys, load if warmed.colour == "sync" else awaited, concurrency) == count
    assert most[0] == concurrency


def test_keys_are_asked_for_as_they_are_needed_and_by_the_caller(stage: Make) -> None:
    """A generator may be endless, and may be bound to its thread, as a database cursor is."""
    warmed = stage(memory=10)
    here, given, told = threading.current_thread(), [0], [0]
    most = [0]

    def endless() -> Iterator[str]:
        while True:
            assert threading.current_thread() is here
            given[0] += 1
            most[0] = max(most[0], given[0] - told[0])
            yield str(given[0])

    def progress(said: Progress) -> None:
        assert threading.current_thread() is here
        assert said.total is None
        told[0] += 1
        if told[0] == 50:
            raise Interrupt

    with pytest.raises(Interrupt):
        warmed.warm(endless(), loader(warmed, lambda key: key), 3, progress=progress)
    assert most[0] <= 4
    assert not others()


def test_async_keys_are_for_the_async_colour(stage: Make) -> None:
    warmed = stage(memory=10)

    async def keys() -> AsyncIterator[str]:
        for key in "abc":
            await pass_time(0)
            yield key

    if warmed.colour == "async":
        assert warmed.warm(keys(), loader(warmed, lambda key: key)) == 3
    else:
        with pytest.raises(MisuseError, match="keys must"):
            warmed.warm(keys(), loader(warmed, lambda key: key))


def test_equal_keys_share_a_load(stage: Make) -> None:
    warmed = stage(memory=10)
    asked: list[str] = []
    warmed.warm(["k"] * 20, loader(warmed, asked.append), 5)
    assert asked == ["k"]


def test_what_the_keys_raise_is_raised_and_ends_it(stage: Make) -> None:
    warmed = stage(memory=10)

    def keys() -> Iterator[str]:
        yield "a"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        warmed.warm(keys(), loader(warmed, lambda key: key))
    assert not others()
    assert warmed.cache.health()["flights"] == 0


def test_what_is_no_exception_of_a_loader_reaches_the_caller(stage: Make) -> None:
    """L2, and no other key is begun after it."""
    warmed = stage(memory=100)
    struck, asked = Interrupt(), list[str]()

    def load(key: str) -> str:
        asked.append(key)
        if key == "3":
            raise struck
        return key

    with pytest.raises(Interrupt) as caught:
        warmed.warm((str(number) for number in range(100)), loader(warmed, load), 2)
    assert caught.value is struck
    assert len(asked) < 10
    assert not others()
    assert warmed.cache.health()["flights"] == 0


def test_what_progress_raises_changes_nothing(stage: Make) -> None:
    warmed = stage(memory=10)
    assert warmed.warm(["a", "b", "c"], loader(warmed, lambda key: key), progress=lambda _: 1 / 0) == 3
    assert warmed.cache.stats()["hook_errors"] == 3


def test_a_failed_key_is_tried_again_as_often_as_asked(stage: Make) -> None:
    """A plain load first; so does what only a stale entry could stand in for."""
    warmed = stage(memory=10, random=lambda: 0.0, policy=replace(POLICY, stale_retry=0))
    warmed.load("stale", "old")
    warmed.clock.advance(61)
    down = OSError("down")
    make: dict[str, list[Any]] = {"a": [down, down, "v"], "b": [down] * 4, "none": [NotFound()], "stale": [down, "v"]}
    outcomes = {key: list(left) for key, left in make.items()}
    told: dict[str, Progress] = {}

    def progress(said: Progress) -> None:
        told[said.key] = said

    assert warmed.warm(list(make), loader(warmed, flaky(outcomes)), retries=2, progress=progress) == 2
    assert told["b"].error is down
    assert len(outcomes["b"]) == 1  # three tries
    assert told["none"].error is None
    assert sum(said.error is not None for said in told.values()) == 1
    assert warmed.warm(["b"], loader(warmed, flaky({"b": [down]}))) == 0


def test_the_pauses_grow() -> None:
    clock = ManualClock()
    cache = AsyncResilientCache[str, str](None, name="laws", memory=10, clock=clock, random=lambda: 1.0)
    asked: list[float] = []

    async def fail(_: str) -> str:
        asked.append(clock.monotonic())
        raise OSError

    run_virtual(cache.warm(["k"], fail, retries=3), clock)
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert gaps == pytest.approx([0.05, 0.1, 0.2])


def test_policy_and_deadline_are_those_of_each_key(stage: Make) -> None:
    warmed = stage(memory=10)
    warmed.warm(["k"], loader(warmed, lambda key: key), policy=replace(POLICY, ttl=5), deadline=0)
    assert warmed.adapter.calls == []  # no time for the store
    warmed.clock.advance(6)
    assert warmed.lookup("k").source is Source.NONE


@pytest.mark.parametrize("of_call", [True, False])
def test_what_is_stale_is_loaded_and_waited_for(stage: Make, of_call: bool) -> None:
    """A value that may serve while it is loaded again behind is still not what a cache is warmed with."""
    behind = replace(POLICY, refresh_behind=True)
    there = stage(memory=10, **({} if of_call else {"policy": behind}))
    there.set("k", "old")
    there.clock.advance(61)
    told: list[Progress] = []
    options = {"policy": behind} if of_call else {}
    assert there.warm(["k"], there.loader("new"), progress=told.append, **options) == 1
    assert [(one.loaded, one.failed) for one in told] == [(1, 0)]
    assert there.get("k") == "new"


def test_a_mode_that_never_loads_fails_every_key(stage: Make) -> None:
    warmed = stage(memory=10, mode=Mode.FROZEN)
    told: list[Progress] = []
    assert warmed.warm(["a", "b"], loader(warmed, lambda key: key), progress=told.append) == 0
    assert [type(said.error) for said in told] == [NoSafeValue, NoSafeValue]


def test_a_store_that_is_down_costs_nothing_but_time(stage: Make) -> None:
    warmed = stage(memory=10)
    warmed.plan.during(DOWN)
    assert warmed.warm(list("abc"), loader(warmed, lambda key: key)) == 3


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 1_001}, "concurrency"),
        ({"concurrency": True}, "concurrency"),
        ({"concurrency": 2.5}, "concurrency"),
        ({"retries": -1}, "retries"),
        ({"retries": "1"}, "retries"),
        ({"progress": 7}, "progress"),
        ({"progress": pass_time}, "progress"),
        ({"keys": "abc"}, "keys"),
        ({"keys": b"abc"}, "keys"),
        ({"keys": None}, "keys"),
        ({"keys": 7}, "keys"),
        ({"keys": ["a", 7]}, "key must"),
        ({"policy": 7}, "policy"),
        ({"deadline": "soon"}, "deadline"),
        ({"loader": 7}, "loader"),
    ],
)
def test_what_can_never_be_right_is_misuse(stage: Make, options: dict[str, Any], named: str) -> None:
    warmed = stage(memory=10)
    given: dict[str, Any] = {"keys": ["a"], "loader": loader(warmed, lambda key: key), **options}
    with pytest.raises(MisuseError, match=named):
        warmed.warm(**given)
    assert not others()


def test_a_loader_of_the_other_colour_is_misuse(stage: Make) -> None:
    warmed = stage(memory=10)
    other = Stage("async" if warmed.colour == "sync" else "sync")
    with pytest.raises(MisuseError, match="loader"):
        warmed.warm(["a"], loader(other, lambda key: key))


def test_a_closed_cache_is_misuse(stage: Make) -> None:
    warmed = stage(memory=10)
    warmed.run(warmed.cache.close if warmed.colour == "sync" else warmed.cache.aclose)
    with pytest.raises(MisuseError, match="closed"):
        warmed.warm([], loader(warmed, lambda key: key))


def test_who_is_cancelled_leaves_no_task_and_no_flight() -> None:
    clock = ManualClock()
    cache = AsyncResilientCache[str, str](None, name="laws", memory=10, clock=clock)
    begun: list[str] = []

    async def load(key: str) -> str:
        begun.append(key)
        return await pass_time(10.0, key)

    async def main() -> None:
        task = asyncio.create_task(cache.warm((str(n) for n in range(100)), load, 3))
        await pass_time(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert clock.monotonic() == 1_001.0  # no load was waited for
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert begun == ["0", "1", "2"]
        assert cache.health()["flights"] == 0

    run_virtual(main(), clock)


def test_of_tasks_that_fail_together_one_is_told_and_none_complained_about() -> None:
    async def strike(key: str) -> None:
        raise Interrupt(key)

    async def main() -> None:
        with pytest.raises(Interrupt):
            await TaskPool(3, strike).each("abc", lambda *_: None)

    run_virtual(main(), ManualClock())


@pytest.mark.parametrize("possible", [0, 1, 2])
def test_where_no_thread_can_be_started_the_caller_does_it(possible: int, monkeypatch: pytest.MonkeyPatch) -> None:
    start, left = threading.Thread.start, [possible]

    def limited(thread: threading.Thread) -> None:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    cache = ResilientCache[str, str](None, name="laws", memory=100)
    threads: set[threading.Thread] = set()

    def load(key: str) -> str:
        threads.add(threading.current_thread())
        return key

    assert cache.warm((str(number) for number in range(20)), load, 8) == 20
    assert (threading.current_thread() in threads) is (possible == 0)
    assert not others()


def test_a_pause_ends_when_the_work_is_over() -> None:
    went_on: list[bool] = []

    def keys() -> Iterator[str]:
        yield "k"
        raise Interrupt

    pool = Pool(2, lambda _: went_on.append(pool.nap(60)))
    with pytest.raises(Interrupt):
        pool.each(keys(), lambda *_: None)
    assert went_on in ([False], [])
    assert not others()


def test_what_was_handed_out_is_not_begun_when_it_is_over() -> None:
    """The thread had no turn before the caller was interrupted."""
    held, begun = threading.Event(), list[str]()

    class Slow(Pool):  # type: ignore[misc]
        """One whose threads take their time."""

        __slots__ = ()

        def _run(self) -> None:
            held.wait(5)
            super()._run()

    def keys() -> Iterable[str]:
        yield "k"
        threading.Timer(0.02, held.set).start()
        raise Interrupt

    pool = Slow(1, begun.append)
    pool._stop.set()
    with pytest.raises(Interrupt):
        pool.each(keys(), lambda *_: None)
    assert begun == []


def test_a_loader_that_warms_its_own_key_does_not_hang() -> None:
    """The threads know whose load they are part of."""
    cache = ResilientCache[str, Any](None, name="laws", memory=10)
    with pytest.raises(MisuseError, match="circle"):
        cache.get_or_load("k", lambda key: cache.warm([key], lambda _: "v"))
    assert not others()
