"""What replaces what: refreshes, negative answers, stand-ins, and the policy's own functions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from resilient_cache import Mode, NotFound, Source
from resilient_cache.testing import Fault, FaultKind

from ..laws.stage import POLICY, Stage
from ..laws.tasks import Room
from ..virtual import pass_time

both_colours = pytest.mark.parametrize("colour", ["sync", "async"])
DOWN = OSError("down")


@both_colours
@pytest.mark.parametrize("memory", [0, 10])
def test_a_refresh_that_finds_none_ends_what_the_store_has(colour: str, memory: int) -> None:
    """What the origin no longer has does not come back from the store when the negative answer is over."""
    stage = Stage(colour, memory=memory, policy=replace(POLICY, ttl=600.0, negative_ttl=10.0))
    stage.set("k", "old")
    with pytest.raises(NotFound):
        stage.refresh("k", stage.loader(NotFound("k")))
    stage.clock.advance(11)
    assert stage.get("k") is None
    stage.run_behind()
    assert stage.stored == {}


@both_colours
def test_a_refresh_around_the_cache_ends_what_memory_has(colour: str) -> None:
    """A refresh in `Mode.BYPASS` replaces the older value in memory too, or at least ends it."""
    stage = Stage(colour, memory=10)
    stage.set("k", "old")
    stage.cache.mode = Mode.BYPASS
    assert stage.refresh("k", stage.loader("new")) == "new"
    stage.cache.mode = Mode.ON
    assert stage.get("k") != "old"


@both_colours
def test_a_set_around_the_cache_ends_a_negative_answer(colour: str) -> None:
    """The same for a remembered "there is none"."""
    stage = Stage(colour, memory=10)
    with pytest.raises(NotFound):
        stage.load("k", NotFound("k"))
    stage.cache.mode = Mode.BYPASS
    assert stage.refresh("k", stage.loader("new")) == "new"
    stage.cache.mode = Mode.ON
    assert stage.load("k", "newer") == "newer"


@both_colours
def test_a_value_that_rests_is_not_for_those_who_want_none_stale(colour: str) -> None:
    """A stand-in that serves others is not given to a caller whose policy allows nothing stale."""
    stage = Stage(colour, memory=10)
    stage.set("k", "old")
    stage.clock.advance(61)
    assert stage.load("k", DOWN) == "old"
    with pytest.raises(OSError, match="down"):
        stage.load("k", DOWN, policy=replace(POLICY, stale_for=0.0))


def test_a_stand_in_that_only_the_leader_has_found() -> None:
    """A caller that found nothing stale itself is given what the leader of its flight has found."""
    room = Room(memory=0)

    async def main() -> None:
        await room.cache.set("k", "old")
        await pass_time(61)
        assert await asyncio.gather(*(room.load("k", outcome=DOWN) for _ in range(3))) == ["old"] * 3
        assert room.started == 1

    room.run(main)


class Vague:
    """What a predicate may give: its truth cannot be told."""

    def __bool__(self) -> bool:
        raise RuntimeError("who knows")


@both_colours
@pytest.mark.parametrize("mode", [Mode.ON, Mode.BYPASS])
def test_a_predicate_for_negative_answers(colour: str, mode: Mode) -> None:
    """A value that means "there is none" is given, remembered for `negative_ttl` and never written."""
    stage = Stage(colour, memory=10, mode=mode, policy=replace(POLICY, negative=lambda value: value == "none"))
    assert stage.load("k", "none") == "none"
    remembered = Source.NEGATIVE if mode is Mode.ON else Source.NONE
    assert (stage.lookup("k").source, stage.get("k"), stage.stored) == (remembered, None, {})
    stage.clock.advance(61)
    assert stage.load("k", "some") == "some"


@both_colours
@pytest.mark.parametrize("negative", [lambda _: 1 / 0, lambda _: Vague()], ids=["raises", "vague"])
def test_a_predicate_for_negative_answers_that_fails(colour: str, negative: Callable[[Any], bool]) -> None:
    """A predicate that fails costs nothing but a count: the value is one like any other."""
    stage = Stage(colour, memory=10, policy=replace(POLICY, negative=negative))
    assert stage.load("k", "v") == stage.get("k") == "v"
    assert stage.cache.stats()["not_stored"] == 1


@both_colours
def test_a_ttl_that_a_function_gives(colour: str) -> None:
    """Each value is fresh for as long as the policy's function says of it, whether it was loaded or set."""
    stage = Stage(colour, memory=10, policy=replace(POLICY, ttl=lambda value: value, stale_for=0))
    for seconds in (5, 50):
        stage.load(f"loaded {seconds}", seconds)
        stage.set(f"set {seconds}", seconds)
    stage.clock.advance(10)
    assert [stage.get(f"{way} {seconds}") for seconds in (5, 50) for way in ("loaded", "set")] == [None, None, 50, 50]


@both_colours
@pytest.mark.parametrize("ttl", [lambda _: 1 / 0, lambda _: "long", lambda _: -1], ids=["raises", "text", "negative"])
def test_a_ttl_function_that_fails(colour: str, ttl: Callable[[Any], Any]) -> None:
    """A value whose ttl cannot be told is given and not kept, whether it was loaded or set."""
    stage = Stage(colour, memory=10, policy=replace(POLICY, ttl=ttl))
    assert stage.load("k", "v") == "v"
    assert stage.set("k", "w") is False
    assert (stage.get("k"), stage.stored) == (None, {})
    assert stage.cache.stats()["not_stored"] == 2


@both_colours
def test_a_refresh_that_the_store_does_not_take(colour: str) -> None:
    """A refresh whose write fails ends what was stored before, in memory or not."""
    stage = Stage(colour)
    stage.set("k", "old")
    stage.plan.then("set", Fault(FaultKind.RAISE))
    assert stage.refresh("k", stage.loader("new")) == "new"
    assert stage.get("k") is None


@both_colours
def test_a_ttl_counts_from_the_start_of_the_load_and_not_of_the_request(colour: str) -> None:
    """What the store took to say that it has nothing is not taken off the windows of the value."""
    stage = Stage(colour, memory=10, policy=replace(POLICY, ttl=10, stale_for=0))
    began = stage.clock.monotonic()
    stage.plan.then("get", Fault.slow(0.125))
    assert stage.load("k", 1) == 1
    stage.plan.during(Fault(FaultKind.RAISE))
    stage.clock.advance(began + 10.1 - stage.clock.monotonic())
    assert stage.get("k") == 1
    stage.clock.advance(0.1)
    assert stage.get("k") is None


@both_colours
def test_a_negative_value_loaded_around_the_cache_is_not_remembered(colour: str) -> None:
    """`Mode.BYPASS` keeps nothing: not even that there is none."""
    stage = Stage(colour, memory=10, policy=replace(POLICY, negative=lambda value: value is None))
    stage.cache.mode = Mode.BYPASS
    loaded = stage.lookup("k", stage.loader(None))
    assert (loaded.source, loaded.age) == (Source.NEGATIVE, 0.0)
    stage.cache.mode = Mode.ON
    assert stage.lookup("k").source is Source.NONE
