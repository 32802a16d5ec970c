"""Real servers fail under load, and the callers of a cache see no error, no wrong value and no long wait."""

from __future__ import annotations

import pytest

from resilient_cache.policy import float_of

from .load import LOADING, LOADS
from .matrix import PAGE, listed
from .play import QUICK, play
from .scenes import FAULTS

pytestmark = [pytest.mark.realtime, pytest.mark.usefixtures("valkey_binary")]

SLACK = 0.3
"""What a loaded machine may add; a fault is held for longer, and whoever waits for its end is found."""


@pytest.mark.parametrize("colour", LOADS)
@pytest.mark.parametrize("name", FAULTS)
def test_a_real_fault_costs_callers_nothing_but_time_and_little_of_that(name: str, colour: str) -> None:
    """L1, L5, L9, L16 and the verdicts of the circuit, for one fault."""
    fault = FAULTS[name]
    row = play(fault, colour, "quick")
    assert not row.errors
    assert not row.wrong
    assert fault.opens <= set(row.opened) <= fault.may_open, row
    assert fault.kind is None or fault.kind in row.kinds, row
    assert row.before is not None, row
    assert row.before <= QUICK.timeout + LOADING + SLACK, row
    assert row.after is None or row.after <= LOADING + SLACK / 2, row
    assert row.calls_while_open <= 2 * row.changes, row
    assert bool(row.hits_before) == fault.well_first, row
    assert row.back is not None, row
    assert row.back <= float_of(QUICK.breaker.max_hold) + 3 * SLACK, row


def test_the_page_lists_every_fault_in_both_colours_and_no_error_or_wrong_value() -> None:
    rows = listed(PAGE.read_text())
    assert [(cells[0], cells[1]) for cells in rows] == [(name, colour) for name in FAULTS for colour in LOADS]
    assert all(cells[2:4] == ["0", "0"] for cells in rows)
