"""Real servers fail under load, and the callers of a cache see no error, no wrong value and no long wait."""

from __future__ import annotations

import pytest

from resilient_cache import Reason
from resilient_cache.policy import float_of

from .load import LOADING, LOADS
from .matrix import PAGE, listed, page
from .play import QUICK, Row, play
from .scenes import FAULTS, Fault

pytestmark = [pytest.mark.realtime, pytest.mark.usefixtures("valkey_binary")]

SLACK = 0.4
"""What a loaded machine may add. Whoever has no deadline waits for seconds, until the fault is over."""
TRIES = 3
"""A machine that stalls looks like a slow store now and then; a fault in the library does so every time."""


def complaints(fault: Fault, row: Row) -> list[str]:
    """What was not as the contract says, where time is part of it."""
    longest = QUICK.timeout + LOADING + SLACK
    held = float_of(QUICK.breaker.max_hold)
    checks = {
        "the store was of use before": bool(row.hits_before) == fault.well_first,
        "the circuits that opened are the right ones": fault.opens <= set(row.opened) <= fault.may_open,
        "the store failed as it was made to": fault.kind is None or fault.kind in row.kinds,
        "at most a timeout and a load before the circuit opened": row.before is not None and row.before <= longest,
        "at most a load when it was open": row.after is None or row.after <= 0.8 * QUICK.timeout,
        "the store got probes only": row.calls_while_open <= 2 * row.changes,
        "back within a hold": row.back is not None and row.back <= held + 2 * SLACK,
    }
    return [said for said, kept in checks.items() if not kept]


@pytest.mark.parametrize("colour", LOADS)
@pytest.mark.parametrize("name", FAULTS)
def test_a_real_fault_costs_callers_nothing_but_time_and_little_of_that(name: str, colour: str) -> None:
    """L1, L5, L9, L16 and the verdicts of the circuit, for one fault."""
    tried: list[tuple[list[str], Row]] = []
    while len(tried) < TRIES:
        row = play(FAULTS[name], colour, "quick")
        assert not row.errors
        assert not row.wrong
        assert set(row.refused) <= {Reason.FENCED}, "the adapter gave what was not asked for"
        tried.append((complaints(FAULTS[name], row), row))
        if not tried[-1][0]:
            return
    pytest.fail("\n".join(f"not so: {said} {row}" for said, row in tried))


def test_the_page_lists_every_fault_in_both_colours_and_no_error_or_wrong_value() -> None:
    text = PAGE.read_text()
    rows = listed(text)
    assert text == page(rows), "make failure-matrix writes another page"
    cells = [[cell.strip() for cell in row.strip("|\n").split("|")] for row in rows]
    assert [(name, colour) for name, colour, *_ in cells] == [(name, colour) for name in FAULTS for colour in LOADS]
    assert len(FAULTS) == 20, "the docs say twenty"
    assert all(row[2:4] == ["0", "0"] for row in cells)
