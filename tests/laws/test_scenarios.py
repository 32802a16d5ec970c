"""The laws over whole scenarios, for both colours: what is generated here is text, see `scenario.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from resilient_cache.testing import Fault, FaultKind

from .course import Driver, Seen
from .drivers import COLOURS, AsyncDriver, FuturesDriver, SyncDriver, run
from .model import judge, predict
from .scenario import (
    CALM,
    LOAD,
    LONELY,
    OUTAGES,
    POLICIES,
    READ,
    ROUGH,
    TIMEOUT,
    Setup,
    Step,
    calm_setups,
    rough_setups,
    scenarios,
)

both = pytest.mark.parametrize("colour", COLOURS)
often = settings(max_examples=(4 if Phase.shrink in settings().phases else 1) * settings().max_examples)
Colour = type[SyncDriver] | type[AsyncDriver]


def answered(seen: Seen) -> tuple[str, Any]:
    """A step's answer in the model's words."""
    value = seen.result[1] if isinstance(seen.result, tuple) else seen.result
    if not seen.outcome:
        return "", None
    return next(iter(seen.outcome)), seen.error or value


@both
@often
@given(setup=calm_setups, steps=scenarios(CALM))
def test_a_perfect_store_is_a_dict_with_ttls(colour: Colour, setup: Setup, steps: list[Step]) -> None:
    """L4: with a store that never fails, every hit, load, miss, stale and negative answer is exactly that of a dict."""
    driven = run(colour, setup, steps)
    assert [answered(seen) for seen in driven.seen] == predict(setup, steps)
    assert not [name for name in driven.totals if "error" in name and name != "errors"]


@both
@given(setup=calm_setups, steps=scenarios(CALM), outage=st.sampled_from(OUTAGES[:3]))
def test_a_store_that_always_fails_is_no_cache(colour: Colour, setup: Setup, steps: list[Step], outage: Any) -> None:
    """L4: a store that always fails changes no answer that a cache without a store gives, without degraded memory."""
    setup = replace(setup, policy=replace(setup.policy, degraded_ttl=0))
    down = run(colour, setup, [Step("outage", fault=outage), *steps]).seen[1:]
    none = run(colour, Setup(setup.memory, setup.policy, store=False), steps).seen
    if outage.kind == "hang":  # takes time, so windows end in other steps
        judge(setup, down)
    else:
        assert [answered(seen) for seen in down] == [answered(seen) for seen in none]


@pytest.mark.parametrize("colour", [*COLOURS, FuturesDriver])
@often
@given(setup=rough_setups, steps=scenarios(ROUGH))
def test_no_law_is_broken_whatever_fails(colour: Colour, setup: Setup, steps: list[Step]) -> None:
    """L1, L3, L5, L7, L8, L9, L10, L11, L12, L16, L20: whatever fails, whatever the mode, in whatever order."""
    driven = run(colour, setup, steps)
    judge(setup, driven.seen)
    reads = sum(bool(seen.outcome) for seen in driven.seen)
    assert driven.totals["requests"] == reads
    assert driven.totals.get("loader_calls", 0) == sum(len(seen.loadings) for seen in driven.seen)


@given(setup=rough_setups, steps=scenarios(LONELY))
def test_both_colours_answer_alike(setup: Setup, steps: list[Step]) -> None:
    """Parity: the same scenario gives the same answers, store calls and counters to threads and to tasks.

    But for callers that leave a silent store early: a task's cache goes on listening and hears that it stays silent, a
    thread's has nobody who could. And for probes, which take their time during a task's request and after a thread's.
    So where a store hangs or is slow, no caller has a deadline here, and no load takes time. A task's cache hears a
    delete that is acknowledged late, too, where a thread's has to ask again. So none is, here.
    """
    silent = (FaultKind.HANG, FaultKind.SLOW)
    setup = replace(setup, faults=tuple(fault for fault in setup.faults if not _is_late(fault)))
    steps = [step for step in steps if (step.op, step.at) == ("fault", "get") or not _is_late(step.fault)]
    if setup.rate or any(step.fault is not None and step.fault.kind in silent for step in steps):
        steps = [replace(step, deadline=None, load=replace(step.load, seconds=0.0, during="")) for step in steps]
    sync, awaited = (run(colour, setup, steps) for colour in COLOURS)
    assert [seen.visible() for seen in sync.seen] == [seen.visible() for seen in awaited.seen]
    assert sync.totals == awaited.totals


def _is_late(fault: Fault | None) -> bool:
    return fault is not None and fault.kind is FaultKind.SLOW and fault.seconds > TIMEOUT


def _is_jump(fault: Fault | None) -> bool:
    return fault is not None and fault.kind is FaultKind.JUMP


def roughly(seen: Seen) -> tuple[Any, ...]:
    """What could be seen, an age to 0.1 ms: a stamp is a microsecond of its own, until the clock is looked at next."""
    step, result, *others = seen.visible()
    if isinstance(result, tuple):
        result = tuple(round(part, 4) if isinstance(part, float) else part for part in result)
    return step, result, *others


@both
@given(setup=rough_setups, steps=scenarios(LONELY))
def test_nasty_hooks_change_nothing(colour: Colour, setup: Setup, steps: list[Step]) -> None:
    """L18: hooks that raise and that ask the cache about itself change no answer, no store call and no counter.

    But for a wall clock that is set: who asks how old debts are looks at it, else it is looked at ten times a second.
    """
    driver: Driver
    steps = [step for step in steps if step.op != "jump" and not _is_jump(step.fault)]
    setup = replace(setup, faults=tuple(fault for fault in setup.faults if not _is_jump(fault)))

    def nasty(event: Any) -> None:
        driver.cache.stats()
        driver.cache.health()
        raise RuntimeError(repr(event))

    plain = run(colour, setup, steps)
    driver = driven = colour(Setup(**{**vars(setup), "hooks": (nasty,)}))
    driven.run(steps)
    assert [roughly(seen) for seen in driven.seen] == [roughly(seen) for seen in plain.seen]
    errors = driven.totals.pop("hook_errors", 0)
    assert errors >= plain.totals["requests"]
    assert driven.totals == plain.totals


@both
@given(policy=st.sampled_from(POLICIES), outage=st.sampled_from(OUTAGES), steps=scenarios((READ, LOAD), 20))
def test_after_an_outage_caching_is_back_within_one_open_period(
    colour: Colour, policy: Any, outage: Any, steps: list[Step]
) -> None:
    """L16: one open period after the store is back, two probes close the circuit and the third request is a hit."""
    paced = [step for each in steps for step in (each, Step("advance", seconds=0.25))]
    ask = Step("get_or_load", "fresh")
    back = [Step("recover"), Step("advance", seconds=4.0), ask, ask, Step("invalidate", "fresh"), ask, ask, ask]
    driven = run(colour, Setup(0, policy), [Step("outage", fault=outage), *paced, *back])
    judge(Setup(0, policy), driven.seen)
    assert driven.cache.health()["circuits"]["read"]["state"] == "closed"
    assert driven.seen[-1].outcome == {"hits": 1}
