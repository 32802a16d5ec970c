"""A call for many keys is observably the sum of calls for each, whatever fails."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_cache import BreakerPolicy, Mode, _bulk
from resilient_cache.testing import Fault, FaultKind

from .course import ANSWERS
from .many import KEYS, AsyncBare, Bare, OneByOne, OriginDown, Together
from .scenario import GAPS, POLICIES

NEVER_OPENS = BreakerPolicy(consecutive=1_000_000, min_calls=1_000_000)  # it hears of chunks, not of keys
KINDS = ("value", "value", "entry", "none", "error", "missing", "left out")
MARKED = replace(POLICIES[0], epoch_ttl=5.0)

keys = st.lists(st.sampled_from(KEYS), max_size=6)
kinds = st.fixed_dictionaries({key: st.sampled_from(KINDS) for key in KEYS})
outages = st.sampled_from(
    [
        Fault(FaultKind.RAISE),
        Fault(FaultKind.LOST),
        Fault.late(1.0),
        Fault(FaultKind.CORRUPT),
        Fault(FaultKind.TRUNCATE),
        Fault(FaultKind.WRONG_TYPE, value=7),
    ]
)
calm = st.one_of(
    st.tuples(st.just("get"), keys),
    st.tuples(st.just("load"), keys, kinds, st.sampled_from([False] * 6 + [True])),
    st.tuples(st.just("set"), keys, st.sampled_from([None, 1.125, 9.125])),
    st.tuples(st.just("invalidate"), keys),
    st.tuples(st.just("advance"), st.sampled_from(GAPS)),
)
rough = st.one_of(
    calm,
    calm,
    st.tuples(st.just("outage"), outages, st.sampled_from(["get", "set", "delete", "all"])),
    st.tuples(st.just("recover")),
    st.tuples(st.just("mode"), st.sampled_from([Mode.ON, *Mode])),
    st.tuples(st.just("poison"), st.sampled_from(KEYS)),
)


def play(there: Together, steps: list[Any]) -> list[Any]:
    """What the caller of each step sees."""
    seen: list[Any] = []
    for number, (name, *args) in enumerate(steps):
        if name == "get":
            seen.append(there.get_all(*args))
        elif name == "load":
            down = OriginDown("all") if args[2] else None
            seen.append(there.load_all(args[0], args[1], number, down))
            seen[-1] = "down" if seen[-1] is down and down is not None else seen[-1]
        elif name == "set":
            seen.append(there.set_all({key: [key, number] for key in args[0]}, args[1]))
        elif name == "invalidate":
            seen.append(there.invalidate_all_of(*args))
        elif name == "advance":
            there.clock.advance(*args)
        elif name == "outage":
            there.plan.during(args[0], *([] if args[1] == "all" else [args[1]]))
        elif name == "recover":
            there.plan.calm()
        elif name == "mode":
            there.cache.mode = args[0]
        else:
            there.poison(args[0], b"no entry")
        there.run_behind()
        stats = there.cache.stats()
        counted = (*ANSWERS, "invalidations_confirmed", "invalidations_pending", "not_stored", "refused_corrupt")
        seen.append({name: stats.get(name, 0) for name in counted})
    return seen


@pytest.mark.parametrize("colour", ["sync", "async"])
@given(
    memory=st.sampled_from([0, 10]),
    policy=st.sampled_from([*POLICIES, MARKED]),
    chunk=st.sampled_from([1, 2, 500]),
    bare=st.booleans(),
    steps=st.lists(rough, max_size=14),
)
def test_many_at_once_are_the_sum_of_each(
    colour: str, *, memory: int, policy: Any, chunk: int, bare: bool, steps: list[Any]
) -> None:
    """L1, L4, L7, L9, L12: the same answers, errors and counts, and the same is there afterwards."""
    ends = []
    for kind in (Together, OneByOne):
        there = kind(colour, memory=memory, policy=policy, breaker=NEVER_OPENS)
        if bare:
            there.cache = there.another(adapter=(Bare if colour == "sync" else AsyncBare)(there.adapter))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_bulk, "CHUNK", chunk)
            seen = play(there, [*steps, ("recover",), ("get", list(KEYS))])
        assert there.cache.health()["flights"] == 0
        assert there.cache.health()["store_calls_in_flight"] == 0
        ends.append((seen, set(there.stored), there.cache.health()["pending_invalidations"]))
    assert ends[0] == ends[1]
