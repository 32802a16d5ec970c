"""Hypothesis strategies: what may go wrong with a store, and what callers may do meanwhile.

    @given(plan=fault_plans(), history=cache_histories(calls=["region", "move"], keys=["shop", "blog"]))
    def test_router(plan, history): ...

Their examples print as the code that makes them, and shrink to nothing happening. `hypothesis` must be installed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

from hypothesis import strategies as st

from .faults import Fault, FaultKind, FaultPlan
from .playing import Advance, Call, Heal, Outage, Step

__all__ = ["FAULTS", "cache_histories", "fault_plans"]

OPERATIONS: Final = ("get", "set", "delete")

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


@st.composite
def fault_plans(
    draw: st.DrawFn,
    *,
    faults: Sequence[Fault] = FAULTS,
    operations: Sequence[str] = OPERATIONS,
    longest: int = 20,
) -> FaultPlan:
    """Plans that give the first calls of each operation, up to `longest`, one of `faults` or none; then all is well.

    Faults of an answer are for `get` only: the others have none.
    """
    plan = FaultPlan()
    for operation in operations:
        fitting = [fault for fault in faults if operation == "get" or fault.kind not in OF_AN_ANSWER]
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
    there is none.
    """
    time: list[st.SearchStrategy[Step]] = [st.builds(Advance, st.sampled_from(seconds))] if seconds else []
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
