"""`report_mistake`: what is found wrong is invalidated if it is still current, and not more often than is good."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_cache import CachePolicy, Entry, Mistake, Mode, NotFound, Reason, ResilientCache
from resilient_cache._mistakes import MOST
from resilient_cache.events import Event, Invalidated
from resilient_cache.testing import Fault, FaultKind, ManualClock

from .stage import POLICY, Stage

Make = Callable[..., Stage]
both = pytest.mark.parametrize("memory", [0, 10])


@both
def test_what_is_still_current_is_invalidated_and_loaded_again(stage: Make, memory: int) -> None:
    """In memory and in the store; the next request loads."""
    told: list[Event] = []
    there = stage(memory=memory, hooks=[told.append])
    there.load("k", "old")
    assert there.report_mistake("k", "old") is Mistake.CONFIRMED
    assert not there.stored
    assert any(isinstance(event, Invalidated) for event in told)
    assert there.load("k", "new") == "new"
    assert there.get("k") == "new"
    stats = there.cache.stats()
    assert (stats["mistakes_confirmed"], stats["invalidations_confirmed"]) == (1, 1)
    assert stats["requests"] == 3  # a report is none


@both
def test_what_somebody_has_replaced_by_now_is_left_alone(stage: Make, memory: int) -> None:
    """The report of a value that is no more current: that of another key or another time."""
    there = stage(memory=memory)
    there.load("k", "new")
    assert there.report_mistake("k", "old") is Mistake.OTHER
    assert there.load("k", "newer") == "new"
    assert there.cache.stats()["mistakes_other"] == 1
    assert there.cache.health()["fences"] == 0


@both
def test_what_is_not_there_is_no_mistake(stage: Make, memory: int) -> None:
    """Nor is a value that is not accepted any more, or cannot be read."""
    there = stage(memory=memory)
    assert there.report_mistake("k", "old") is Mistake.OTHER
    there.poison("k", b"garbage")
    assert there.report_mistake("k", "old") is Mistake.OTHER
    assert there.cache.health()["fences"] == 0


@both
def test_a_value_of_another_process_is_found_in_the_store(stage: Make, memory: int) -> None:
    there = stage(memory=memory)
    there.run(there.another().set, "k", "old")
    assert there.report_mistake("k", "old") is Mistake.CONFIRMED
    assert there.get("k") is None


@both
def test_so_is_one_that_is_newer_than_what_stands_in(stage: Make, memory: int) -> None:
    """What could stand in is current only while there is nothing better."""
    there = stage(memory=memory)
    there.set("k", "old")
    there.clock.advance(70)
    there.run(there.another().set, "k", "new")
    assert there.report_mistake("k", "old") is Mistake.OTHER
    assert there.get("k") == "new"


@both
def test_what_could_stand_in_is_current(stage: Make, memory: int) -> None:
    """It is past its ttl, and would be given if the origin failed."""
    there = stage(memory=memory)
    there.set("k", "old")
    there.clock.advance(70)
    assert there.report_mistake("k", "old") is Mistake.CONFIRMED
    with pytest.raises(OSError, match="down"):
        there.load("k", OSError("down"))


def test_what_stands_in_now_is_current(stage: Make) -> None:
    """Though the store has been emptied: it would be given without asking anybody."""
    there = stage()
    there.set("k", "old")
    there.clock.advance(70)
    assert there.load("k", OSError("down")) == "old"
    there.stored.clear()
    assert there.report_mistake("k", "old") is Mistake.CONFIRMED
    assert there.load("k", "new") == "new"


def test_that_there_is_none_can_be_a_mistake(stage: Make) -> None:
    """`None` stands for it."""
    there = stage(memory=10)
    with pytest.raises(NotFound):
        there.load("k", NotFound("k"))
    assert there.report_mistake("k", "old") is Mistake.OTHER
    assert there.report_mistake("k", None) is Mistake.CONFIRMED
    assert there.load("k", "new") == "new"


FAULTS = [Fault(FaultKind.RAISE), Fault(FaultKind.HANG), Fault.raising(OSError("reset"))]


@pytest.mark.parametrize("fault", FAULTS)
@both
def test_what_nobody_can_look_at_counts_as_the_mistake(stage: Make, memory: int, fault: Fault) -> None:
    """L9: the store is down and may hold it; when it is back it is not believed. A miss is always allowed."""
    there = stage(memory=memory)
    there.run(there.another().set, "k", "old")
    there.plan.during(fault)
    assert there.report_mistake("k", "old") is Mistake.PENDING
    there.plan.calm()
    assert there.lookup("k").reason in (Reason.FENCED, Reason.OPEN)
    assert there.load("k", "new") == "new"


@pytest.mark.parametrize("mode", [Mode.BYPASS, Mode.MEMORY_ONLY, Mode.READ_ONLY])
def test_it_holds_under_every_mode(stage: Make, mode: Mode) -> None:
    """L20: what may not be looked at or deleted now is not given after the mode has changed."""
    there = stage(memory=10)
    there.set("k", "old")
    there.cache.mode = mode
    assert there.report_mistake("k", "old") is Mistake.PENDING
    there.cache.mode = Mode.ON
    assert there.get("k") is None


def test_memory_alone_forgets_too(stage: Make) -> None:
    """Without a store, and without one under `BYPASS`."""
    there = stage()
    make: Any = type(there.cache)
    there.cache = make(None, name="alone", memory=10, clock=there.clock)
    assert there.report_mistake("k", "old") is Mistake.OTHER
    there.set("k", "old")
    assert there.report_mistake("k", "old") is Mistake.CONFIRMED
    there.clock.advance(1)
    there.set("k", "old")
    there.cache.mode = Mode.BYPASS
    assert there.report_mistake("k", "other") is Mistake.CONFIRMED
    there.cache.mode = Mode.ON
    assert there.get("k") is None


@pytest.mark.parametrize(("seen", "mistake"), [("old", Mistake.CONFIRMED), ("other", Mistake.OTHER)])
def test_what_can_only_stand_in_for_want_of_a_mark_is_compared(stage: Make, seen: str, mistake: Mistake) -> None:
    """The store does not say whether everything has been invalidated since, but it does say what it has."""
    there = stage(policy=replace(POLICY, epoch_ttl=4))
    there.load("k", "first")  # makes the mark
    there.set("k", "old")
    there.clock.advance(5)
    there.plan.then("get", None, Fault(FaultKind.RAISE), Fault(FaultKind.RAISE))
    assert there.report_mistake("k", seen) is mistake


# How often


@both
def test_a_key_is_reloaded_once_per_stale_retry(stage: Make, memory: int) -> None:
    """Whoever is mistaken for ever costs one load a second, and the store nothing in between."""
    there = stage(memory=memory)
    said = []
    for _ in range(40):
        assert there.load("k", "right") == "right"
        said.append(there.report_mistake("k", "right"))
        there.clock.advance(0.125)
    assert [n for n, mistake in enumerate(said) if mistake is Mistake.CONFIRMED] == [0, 8, 16, 24, 32]
    assert {*said} == {Mistake.CONFIRMED, Mistake.TOO_SOON}
    assert there.loads == 6
    assert there.cache.stats()["mistakes_too_soon"] == 35
    reads = [call.operation for call in there.adapter.calls].count("get")
    assert reads <= (6 if memory else 46)


def test_another_value_is_told_even_when_it_is_too_soon(stage: Make) -> None:
    """Then it is worth asking again."""
    there = stage(memory=10)
    there.load("k", "old")
    there.report_mistake("k", "old")
    there.load("k", "new")
    assert there.report_mistake("k", "old") is Mistake.OTHER
    assert there.report_mistake("k", "new") is Mistake.TOO_SOON


def test_without_a_pause_every_report_counts(stage: Make) -> None:
    """`stale_retry=0`."""
    there = stage(memory=10, policy=replace(POLICY, stale_retry=0))
    for _ in range(3):
        there.load("k", "old")
        assert there.report_mistake("k", "old") is Mistake.CONFIRMED
    assert not there.cache._flow._mistakes._heeded or len(there.cache._flow._mistakes._heeded) == 1


def test_reports_about_everything_do_not_turn_the_cache_off() -> None:
    """At most `MOST` keys are invalidated in a `stale_retry`, and no more are remembered."""
    clock = ManualClock()
    cache = ResilientCache[str, str](None, name="mistakes", memory=10 * MOST, clock=clock)
    for number in range(2 * MOST):
        cache.set(str(number), "right")
    said = [cache.report_mistake(str(number), "right") for number in range(2 * MOST)]
    assert said == [Mistake.CONFIRMED] * MOST + [Mistake.TOO_SOON] * MOST
    assert len(cache._flow._mistakes._heeded) == MOST
    clock.advance(1)
    assert cache.report_mistake(str(MOST), "right") is Mistake.CONFIRMED
    assert len(cache._flow._mistakes._heeded) == 1


# What is compared


@dataclass
class Angry:
    """Cannot be compared."""

    text: str = ""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    __hash__ = None  # type: ignore[assignment]


class Vague:
    def __bool__(self) -> bool:
        raise ValueError("ambiguous")


class Array:
    """Is compared member by member, as arrays are."""

    def __eq__(self, other: object) -> Any:
        return Vague()

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("kind", [Angry, Array])
def test_what_cannot_be_compared_counts_as_the_mistake(stage: Make, kind: Any) -> None:
    """A miss is always allowed; counted."""
    there = stage(memory=10)
    there.set("k", kind())
    assert there.report_mistake("k", kind()) in (Mistake.CONFIRMED, Mistake.PENDING)
    assert there.get("k") is None
    assert there.cache.stats()["compare_errors"] == 1


def test_the_same_object_is_the_same(stage: Make) -> None:
    """Whatever it says of itself: nan is not equal to nan."""
    there = stage(memory=10)
    nan = float("nan")
    there.set("k", nan)
    assert there.report_mistake("k", nan) is Mistake.CONFIRMED


class Slow(str):
    """A value during whose comparison somebody else comes."""

    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def __eq__(self, other: object) -> bool:
        self.meanwhile()
        return str.__eq__(self, other)

    __hash__ = str.__hash__


@pytest.mark.parametrize("other", ["set", "invalidate", "load"])
def test_who_was_quicker_is_not_undone(other: str) -> None:
    """A value that was put there, or a fence, between the comparison and the invalidation."""
    cache = ResilientCache[str, Any](None, name="mistakes", memory=10, policy=CachePolicy(stale_retry=0))
    cache.set("k", "old")
    seen = Slow("old")

    def meanwhile() -> None:
        if other == "set":
            cache.set("k", "new")
        else:
            cache.invalidate("k")
        if other == "load":
            cache.get_or_load("k", lambda key: "new")

    seen.meanwhile = meanwhile
    assert cache.report_mistake("k", seen) is Mistake.OTHER
    assert cache.get("k") == (None if other == "invalidate" else "new")


def test_two_who_report_at_once_cost_one_load() -> None:
    """The second is told that it is too soon, or that something else is there."""
    there = Stage("async")
    there.set("k", "old")

    async def main() -> list[Mistake]:
        return list(await asyncio.gather(*(there.cache.report_mistake("k", "old") for _ in range(5))))

    said = there.run(main)
    assert said.count(Mistake.CONFIRMED) == 1
    assert {*said} <= {Mistake.CONFIRMED, Mistake.TOO_SOON, Mistake.OTHER}


# All of it


class World:
    """What must be so, by a list of who said what: knows nothing of the cache."""

    def __init__(self) -> None:
        self.current: str | None = None
        self.heeded: float | None = None

    def report(self, seen: str, now: float) -> Mistake:
        soon = self.heeded is not None and now - self.heeded < 1
        if seen != self.current:
            return Mistake.TOO_SOON if soon and self.current is None else Mistake.OTHER  # the store is not asked
        if soon:
            return Mistake.TOO_SOON
        self.heeded, self.current = now, None
        return Mistake.CONFIRMED


steps = st.lists(
    st.one_of(
        st.tuples(st.just("load"), st.sampled_from("ab")),
        st.tuples(st.just("set"), st.sampled_from("ab")),
        st.tuples(st.just("report"), st.sampled_from("ab")),
        st.tuples(st.just("invalidate"), st.just("")),
        st.tuples(st.just("advance"), st.sampled_from([0.25, 0.5, 1.5])),
    ),
    max_size=20,
)


@pytest.mark.parametrize("colour", ["sync", "async"])
@settings(max_examples=max(1, settings().max_examples // 2))
@given(steps=steps)
def test_reports_do_exactly_what_they_say(colour: str, steps: list[tuple[str, Any]]) -> None:
    """L4: with a store that works, in memory."""
    there, world = Stage(colour, memory=10, policy=replace(POLICY, ttl=1000)), World()
    for op, what in steps:
        if op == "load":
            world.current = there.load("k", Entry(what)) if world.current is None else world.current
            assert there.get("k") == world.current
        elif op == "set":
            there.set("k", what)
            world.current = what
        elif op == "invalidate":
            there.invalidate("k")
            world.current = None
        elif op == "advance":
            there.clock.advance(what)
        else:
            expected = world.report(what, there.clock.monotonic())
            assert there.report_mistake("k", what) is expected
        assert there.get("k") == world.current
    there.run_behind()


@pytest.mark.parametrize("mode", [Mode.MEMORY_ONLY, Mode.BYPASS])
def test_a_mode_that_reads_no_store_reads_it_for_no_report(stage: Make, mode: Mode) -> None:
    """What cannot be looked at counts as current."""
    there = stage()
    there.load("k", "new")
    there.cache.mode = mode
    before = len(there.adapter.calls)
    assert there.report_mistake("k", "old") is Mistake.PENDING
    assert len(there.adapter.calls) == before
