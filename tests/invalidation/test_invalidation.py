"""Real servers, real processes, in small: what others read after an invalidation. The whole is in the docs."""

from __future__ import annotations

import pytest

from .late import late
from .matrix import COLOURS, PAGE, page, parts
from .million import flood
from .moves import OUTAGES, move
from .pace import PACES

pytestmark = [pytest.mark.realtime, pytest.mark.usefixtures("valkey_binary")]

QUICK = PACES["quick"]


@pytest.mark.parametrize(("kind", "colour"), [("killed", "sync"), ("read-only", "async")])
def test_a_store_that_comes_back_with_old_data_is_put_right(kind: str, colour: str) -> None:
    """L9, G3: this process is never given the old value, the others not once it is confirmed."""
    seen = move(kind, colour, "quick")
    assert seen.pending
    assert seen.readable, "the store had nothing old"
    assert (seen.own, seen.after) == (0, 0)
    assert seen.gone is not None
    assert seen.gone < QUICK.replay
    assert seen.forgotten is not None


@pytest.mark.parametrize("colour", COLOURS)
def test_a_write_that_lands_after_the_delete_is_gone_after_the_second(colour: str) -> None:
    """L9, G2: here it is never read, elsewhere not after `inflight_max`."""
    seen = late(colour, "quick")
    assert seen.landed >= QUICK.keys // 2, "too little landed late"  # a machine with other work is late itself
    assert (seen.here, seen.others) == (0, 0)


@pytest.mark.parametrize("colour", COLOURS)
def test_very_many_invalidations_of_a_dead_store_cost_little_and_hold(colour: str) -> None:
    """L10: the floor stands in for the fences and the journal entries that were forgotten."""
    seen = flood(colour, "quick")
    assert seen.old == 0
    assert seen.pending == 10_000
    assert seen.p99 < 0.003  # 0.001 is promised; a machine with other work has its own delays
    assert seen.grown < 32 * 2**20


def test_the_page_lists_everything_and_no_old_value() -> None:
    """What `make invalidation-matrix` writes."""
    text = PAGE.read_text()
    tables = parts(text)
    assert text == page(*tables), "make invalidation-matrix writes another page"
    moves, lates, floods = ([[cell.strip() for cell in row.strip("|\n").split("|")] for row in rows] for rows in tables)
    assert [(kind, colour) for kind, colour, *_ in moves] == [(kind, colour) for kind in OUTAGES for colour in COLOURS]
    assert all((own, after) == ("0", "0") for _, _, own, _, after, *_ in moves)
    assert [(colour, old, *rest) for colour, _, old, *rest in lates] == [(colour, "0", "0") for colour in COLOURS]
    assert all(380 <= int(landed) <= 400 for _, landed, *_ in lates), "or too little came late to show anything"
    assert [(colour, old) for colour, *_, old in floods] == [(colour, "0") for colour in COLOURS]
