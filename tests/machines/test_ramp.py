"""The ramp, bare: which share of the keys is admitted when, and which keys those are."""

from __future__ import annotations

import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_cache.ramp import SHARES, Ramp

STEP = 10.0
FAMILIES = [[f"{kind}{number}" for number in range(20_000)] for kind in ("shop-", "tenant:", "")]


def begun(now: float = 500.0, step: float | None = STEP) -> Ramp:
    ramp = Ramp(step)
    ramp.begin(now)
    return ramp


@pytest.mark.parametrize(
    ("since", "share"),
    [(0, 0.01), (9.999, 0.01), (10, 0.05), (19.999, 0.05), (20, 0.25), (29.999, 0.25), (30, 1.0), (1e9, 1.0)],
)
def test_each_step_has_its_share(since: float, share: float) -> None:
    assert begun().share(500.0 + since) == share


def test_before_it_begins_and_without_a_step_everything_is_admitted() -> None:
    for ramp in (Ramp(STEP), begun(step=None)):
        assert ramp.share(500.0) == 1.0
        assert all(ramp.admits(key, 500.0) for key in FAMILIES[0][:50])


def test_a_key_at_the_border_is_not_yet_below_it() -> None:
    """One whose hash is 2**30, a quarter of all."""
    ramp = begun()
    assert [ramp.admits("host601-u6dE", 500.0 + since) for since in (0, 10, 20, 30)] == [False, False, False, True]


def test_a_step_may_be_short() -> None:
    ramp = begun(step=0.5)
    assert [ramp.share(500.0 + since) for since in (0, 0.25, 0.5, 1.0, 1.5)] == [0.01, 0.01, 0.05, 0.25, 1.0]


def test_it_begins_again_from_the_bottom() -> None:
    ramp = begun()
    assert ramp.share(525.0) == 0.25
    ramp.begin(525.0)
    assert [ramp.share(525.0 + since) for since in (0, 10, 20, 30)] == list(SHARES)


def test_a_moment_before_its_beginning_is_its_beginning() -> None:
    """Another thread read the clock before it began, and asks after that."""
    assert begun(500.0).share(470.0) == 0.01


@pytest.mark.parametrize("step", range(4))
def test_the_keys_are_as_many_as_the_share_says(step: int) -> None:
    """Whatever they look like: numbered names are the usual keys."""
    ramp, now = begun(), 500.0 + step * STEP
    for family in FAMILIES:
        admitted = sum(ramp.admits(key, now) for key in family) / len(family)
        assert admitted == pytest.approx(SHARES[step], rel=0.15)


@given(st.text(), st.floats(0, 60), st.floats(0, 60))
def test_a_key_is_admitted_by_its_bytes_alone_and_stays_so(key: str, early: float, late: float) -> None:
    """The same in every process; what was admitted once is not taken back while the ramp goes on."""
    ramp = begun()
    first, later = sorted((500.0 + early, 500.0 + late))
    place = zlib.crc32(key.encode()) / 2**32
    assert ramp.admits(key, first) is (place < ramp.share(first))
    assert ramp.admits(key, later) >= ramp.admits(key, first)


def test_the_shares_grow_to_all() -> None:
    assert all(one < other for one, other in pairwise(SHARES))
    assert SHARES[-1] == 1.0
