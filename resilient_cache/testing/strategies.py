"""Hypothesis strategies: what may go wrong with a store, and what callers may do meanwhile.

    @given(plan=fault_plans(), history=cache_histories(calls=["region", "move"], keys=["shop", "blog"]))
    def test_router(plan, history): ...

Their examples print as the code that makes them, and shrink to nothing happening. `hypothesis` must be installed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from numbers import Real
from typing import Final

from hypothesis import strategies as st

from ._given import all_of, is_a
from .faults import OPERATIONS, Fault, FaultKind, FaultPlan, operations_of
from .playing import Advance, Call, Heal, Outage, Step

__all__ = ["FAULTS", "cache_histories", "fault_plans"]

FAULTS: Final = (
    Fault(FaultKind.RAISE),
    Fault(FaultKind.RAISE_AT_CALL),
    Fault(FaultKind.HANG),
    Fault.slow(0.1),  # inside the default timeout of 0.25 s
    Fault.slow(1.0),  # and outside
    Fault(FaultKind.CORRUPT),
    Fault(FaultKind.TRUNCATE),
    Fault(FaultKind.WRONG_KEY),
    Fault(FaultKind.WRONG_TYPE, value="text"),
    Fault(FaultKind.LOST),
    Fault.late(0.1),
    Fault.late(3.0),
    Fault(FaultKind.JUMP, 3600.0),
    Fault(FaultKind.JUMP, -3600.0),
)
"""One of every kind, and of those that take time one of each side of a cache's default timeout."""

OF_AN_ANSWER: Final = (FaultKind.CORRUPT, FaultKind.TRUNCATE, FaultKind.WRONG_KEY, FaultKind.WRONG_TYPE)

LASTING: Final = (Fault(FaultKind.RAISE), Fault(FaultKind.HANG), Fault(FaultKind.LOST), Fault.late(3.0))


def fault_plans(
    *,
    faults: Sequence[Fault] = FAULTS,
    operations: Sequence[str] = OPERATIONS,
    longest: int = 20,
) -> st.SearchStrategy[FaultPlan]:
    """Plans that give the first calls of each operation, up to `longest`, one of `faults` or none; then all is well.

    Faults of an answer are for `get` and `get_many` only: the others have none. Raises `ValueError` or `TypeError` for
    an operation that there is not, for none, for what is no fault, and for a `longest` below 0.
    """
    faults, operations = all_of("faults", faults, Fault), operations_of(operations, least=1)
    return _plans(faults, operations, _size(longest))


@st.composite
def _plans(draw: st.DrawFn, faults: Sequence[Fault], operations: Sequence[str], longest: int) -> FaultPlan:
    plan = FaultPlan()
    for operation in operations:
        answers = operation.startswith("get")
        fitting = [fault for fault in faults if answers or fault.kind not in OF_AN_ANSWER]
        plan.then(operation, *draw(st.lists(st.sampled_from([None, *fitting]), max_size=longest)))
    return plan


def cache_histories(
    *,
    calls: Sequence[str] = ("get", "get_or_load", "set", "invalidate"),
    keys: Sequence[str] = ("a", "b", "c"),
    seconds: Sequence[float] = (1.0, 10.0, 61.0, 400.0),
    outages: Sequence[Fault] = LASTING,
    longest: int = 30,
) -> st.SearchStrategy[list[Step]]:
    """Lists of up to `longest` steps for `play`: calls of each name with each key, time, outages and their ends.

    `seconds` may pass at once: by default less than the default ttl, more than it, and more than it and `stale_for`.
    `outages` are what every call meets, or every one of one operation, until the store is healed. Of what is empty
    there is none; of `calls` and `keys` there must be. Raises `ValueError` or `TypeError` for what none of it can be.
    """
    calls, keys = all_of("calls", calls, str, least=1), all_of("keys", keys, str, least=1)
    outages, longest = all_of("outages", outages, Fault), _size(longest)
    advances = [Advance(each) for each in all_of("seconds", seconds, Real)]
    time: list[st.SearchStrategy[Step]] = [st.sampled_from(advances)] if advances else []
    trouble: list[st.SearchStrategy[Step]] = []
    if outages:
        places: list[tuple[str, ...]] = [(), *((operation,) for operation in OPERATIONS)]
        trouble = [st.builds(Outage, st.sampled_from(outages), st.sampled_from(places)), st.builds(Heal)]
    # Histories of one key or all, with or without time and trouble, short or long: of lists of everything, 5 steps long
    # as Hypothesis makes them, few came to anything. Calls weigh as much as the rest.
    kinds: list[st.SearchStrategy[list[Step]]] = []
    for some, timed, troubled, least in itertools.product(
        (keys[:1], keys), ([], time), ([], trouble), (0, longest // 2)
    ):
        call = st.builds(Call, st.sampled_from(calls), st.sampled_from(some))
        step = st.one_of(call, call, call, *timed, *troubled)
        kinds.append(st.lists(step, min_size=least, max_size=longest))
    return st.one_of(kinds)


def _size(longest: int) -> int:
    is_a("longest", longest, int)
    if longest < 0:
        raise ValueError(f"longest must be at least 0, not {longest!r}")
    return longest
