"""One request: what may stand in for its load."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from resilient_cache import CachePolicy, Mode
from resilient_cache._request import GATES, Candidate, Request

from ..laws.stage import Stage


def request(policy: CachePolicy | None = None, *, loads: bool = True) -> Request:
    made = Request("k", policy or CachePolicy(), Mode.ON, GATES[Mode.ON], since=0.0, until=99.0)
    made.loads = loads
    return made


def test_something_stale_answers_a_load_only_and_none_that_is_forced() -> None:
    """A look-up is never answered with it, nor a refresh, nor anybody whose policy says so."""
    assert request().allows_stale
    assert not request(loads=False).allows_stale
    assert not request(replace(CachePolicy(), stale_for=0.0)).allows_stale
    forced = request()
    forced.force()
    assert not forced.allows_stale


def test_a_request_begins_with_nothing() -> None:
    """It is given its key as it stands, and whoever makes one says what is not so."""
    made = Request("k", CachePolicy(), Mode.ON, GATES[Mode.ON], since=1.0, until=2.0)
    assert (made.key, made.given, made.since, made.until) == ("k", "k", 1.0, 2.0)
    taken = {"key", "given", "policy", "mode", "gates", "since", "until", "reason"}
    left = {name: getattr(made, name) for name in Request.__slots__ if name not in taken}
    assert {name: value for name, value in left.items() if value} == {}


@pytest.mark.parametrize("stamps", [(1, 2), (2, 1), (2, 2)])
def test_the_newest_stands_in(stamps: tuple[int, int]) -> None:
    """Whichever was found first."""
    made = request()
    for stamp in stamps:
        made.offer(Candidate("v", 1.0, 2.0, stamp))
    assert made.stand_in is not None
    assert made.stand_in.stamp == 2


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_while_a_stale_value_stands_in_a_look_up_is_a_miss(colour: str) -> None:
    """L12: it stands in for loads."""
    there: Any = Stage(colour, memory=10)
    there.load("k", 1)
    there.clock.advance(61)
    assert there.load("k", OSError()) == 1
    assert there.load("k", 2) == 1, "the loader rests"
    assert there.get("k") is None
    assert not there.lookup("k")


def test_what_is_stale_is_taken_at_once_where_a_load_may_follow_behind() -> None:
    """Not by that load itself, not where nothing can run there, and not where nothing is loaded."""
    policy = CachePolicy(refresh_behind=True)
    assert request(policy).takes_stale
    assert not request().takes_stale
    for name, value in (("renews", 1), ("inline", True), ("gates", GATES[Mode.FROZEN])):
        made = request(policy)
        setattr(made, name, value)
        assert not made.takes_stale


def test_a_request_begins_under_no_mark() -> None:
    """What it writes where there are none says so."""
    assert request().version == 0
