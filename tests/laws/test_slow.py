"""A store that is slow rather than failed is noticed, bypassed, measured by a trickle, and taken back. Both colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_cache import Reason, fallback
from resilient_cache.events import CircuitChanged
from resilient_cache.testing import Fault, FaultKind, FaultyAdapter, ManualClock

from .scenario import BREAKER, LONGEST_OPEN
from .stage import POLICY, Stage
from .test_hedge import POLICY as HEDGED
from .test_hedge import Play

SLOW = replace(BREAKER, slow_after=0.0625)
LOST = replace(BREAKER, consecutive=1_000, lost_time=0.046875)
SLOWLY = Fault.slow(0.125)
COLOURS = ("sync", "async")

Make = Callable[..., Stage]


def state(stage: Stage, direction: str = "read") -> str:
    told: str = stage.cache.health()["circuits"][direction]["state"]
    return told


def reads(stage: Stage) -> int:
    """How many reads have reached the store."""
    return sum(call.operation == "get" for call in stage.adapter.calls)


def test_a_store_that_is_slow_is_bypassed_and_then_costs_nothing(stage: Make) -> None:
    """L16: it never fails, and after `min_calls` reads it is left alone: loads take their own time and no more."""
    cache = stage(breaker=SLOW)
    cache.plan.during(SLOWLY, "get")
    for number in range(8):
        assert state(cache) == "closed"
        assert cache.load(f"k{number}", number) == number
    assert state(cache) == "open"
    assert state(cache, "write") == "closed"
    calls, began = len(cache.adapter.calls), cache.clock.monotonic()
    for number in range(20):
        assert cache.run(cache.cache.lookup, "k", cache.loader(number)).reason is Reason.OPEN
    assert (len(cache.adapter.calls), cache.clock.monotonic()) == (calls, began)


def test_the_rules_are_opt_in(stage: Make) -> None:
    cache = stage()
    cache.plan.during(SLOWLY, "get")
    for number in range(100):
        assert cache.load(f"k{number}", number) == number
    assert (reads(cache), state(cache)) == (100, "closed")


def test_probes_are_the_trickle_that_keeps_measuring(stage: Make) -> None:
    """One read per hold tells whether it is still slow; nobody waits for it, and slow it closes nothing."""
    cache = stage(breaker=SLOW)
    cache.plan.during(SLOWLY, "get")
    for number in range(8):
        cache.load(f"k{number}", number)
    for hold in (1.0, 2.0, 4.0, 4.0):
        cache.clock.advance(hold)
        before, began = reads(cache), cache.clock.monotonic()
        for _ in range(5):
            assert cache.load("k", 1) == 1
        assert cache.clock.monotonic() == began
        cache.run_behind()
        assert (reads(cache), state(cache)) == (before + 1, "open")


def test_it_is_taken_back_when_it_is_fast_again(stage: Make) -> None:
    """L16: two quick probes, within one open period, and the next reads are hits."""
    told: list[Any] = []
    cache = stage(breaker=SLOW, hooks=[told.append])
    assert cache.load("k", "stored") == "stored"
    cache.plan.during(SLOWLY, "get")
    for number in range(8):
        cache.load(f"k{number}", number)
    assert state(cache) == "open"
    cache.plan.calm()
    cache.clock.advance(LONGEST_OPEN)
    for _ in range(2):
        cache.get("k")
        cache.run_behind()
    assert state(cache) == "closed"
    assert cache.load("k", "new") == "stored"
    changes = [(event.before, event.after) for event in told if isinstance(event, CircuitChanged)]
    assert [change[1] for change in changes] == ["open", "closed"]


def test_slow_writes_and_deletes_open_nothing(stage: Make) -> None:
    """A delete that is acknowledged late is worth more than one that waits for a circuit: it is confirmed."""
    cache = stage(breaker=SLOW)
    cache.plan.during(SLOWLY, "set", "delete")
    for number in range(30):
        assert cache.set(f"k{number}", number) is True
        assert cache.invalidate(f"k{number}") == "confirmed"
    assert [state(cache, each) for each in ("read", "write")] == ["closed", "closed"]


def test_a_store_that_hangs_for_one_call_in_four_loses_too_much_time(stage: Make) -> None:
    """No share tells: three of four calls are quick. The time that is lost does: 0.0625 s for each of them."""
    for breaker, after in ((LOST, "open"), (replace(LOST, lost_time=None), "closed")):
        cache = stage(breaker=breaker)
        cache.plan.then("get", *[None, None, None, Fault(FaultKind.HANG)] * 4)
        for number in range(16):
            cache.load(f"k{number}", number)
            cache.clock.advance(0.0625)
        assert state(cache) == after


@pytest.mark.parametrize("colour", COLOURS)
def test_a_hedged_read_is_measured_though_nobody_waits_for_it(colour: str) -> None:
    """So a store that always loses the race is bypassed, and no read is started behind for it any more."""
    play = Play(colour, policy=HEDGED)
    play.options["breaker"] = replace(SLOW, slow_after=0.09375)
    play.plan.during(SLOWLY, "get")
    play.run(*((float(at) / 4, lambda: play.load("value", 0.015625)) for at in range(9)))
    waited = [play.ends[n] - n / 4 for n in range(9)]
    assert waited == [0.078125] * 8 + [0.015625]
    assert sum(call.operation == "get" for call in play.store.calls) == 8


def test_fallback_has_the_same_rules() -> None:
    clock = ManualClock()
    store = FaultyAdapter(clock)
    store.plan.during(SLOWLY, "get")
    guarded = fallback(store, breaker=SLOW, clock=clock)
    for _ in range(30):
        assert guarded.get("k") is None
    assert len(store.calls) == 8


PHASES = st.lists(st.tuples(st.booleans(), st.sampled_from([0.5, 2.0, 6.0, 12.0])), min_size=1, max_size=6)


@pytest.mark.parametrize("colour", COLOURS)
@given(phases=PHASES, gap=st.sampled_from([0.0625, 0.25]))
@settings(deadline=None, max_examples=15)
def test_however_often_it_changes_it_is_bypassed_while_slow_and_used_while_fast(
    colour: str, phases: list[tuple[bool, float]], gap: float
) -> None:
    """L16: slow for long, it gets probes alone; fast for long, it is used. No caller ever notices but by its waits."""
    cache = Stage(colour, breaker=SLOW, policy=replace(POLICY, ttl=3_600))
    cache.load("k", "stored")
    for slow, seconds in phases:
        cache.plan.calm()
        if slow:
            cache.plan.during(SLOWLY, "get")
        until = cache.clock.monotonic() + seconds
        while cache.clock.monotonic() < until:
            opened, before = state(cache) != "closed", reads(cache)
            assert cache.load("k", "loaded") in ("stored", "loaded")
            cache.run_behind()
            assert not opened or reads(cache) - before <= 1
            cache.clock.advance(gap)
        if seconds > LONGEST_OPEN + 1.0:
            assert (state(cache) == "closed") is not slow
            if not slow:
                assert cache.load("k", "loaded") == "stored"
