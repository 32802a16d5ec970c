"""The decisions about one request, bare where no caller can see so closely."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from resilient_cache import NotFound, Reason, Source
from resilient_cache._guard import Answer
from resilient_cache._local import DROPPED, KEY
from resilient_cache.events import Served
from resilient_cache.memory import FRESH
from resilient_cache.outcome import AfterOutage

from ..laws.stage import POLICY, Stage

Make = Callable[..., Stage]


@pytest.fixture(params=["sync", "async"])
def stage(request: pytest.FixtureRequest) -> Callable[..., Stage]:
    """Makes a cache of either colour over a faulty store."""
    return lambda **options: Stage(request.param, **options)


def stamp_of(there: Stage, key: str = "k") -> int:
    """The stamp of what is kept in memory."""
    entry: Any = there.cache._rules.local.memory.entries[key]
    return int(entry[3])


def test_the_last_moment_of_an_outage_belongs_to_it(stage: Make) -> None:
    """What was written then may be what had been invalidated."""
    there = stage(memory=1, policy=replace(POLICY, after_outage=AfterOutage.DISCARD))
    there.set("k", "old")
    stamp = stamp_of(there)
    there.set("another", "pushes it out")
    there.cache._rules.local.outage = stamp - 1
    assert there.lookup("k").source is Source.STORE
    there.set("another", "pushes it out")
    there.cache._rules.local.outage = stamp
    assert there.lookup("k").source is Source.NONE


def test_what_is_read_from_the_store_may_be_loaded_again_early_from_memory(stage: Make) -> None:
    """By what the last load took, whatever its key: eight times that before its end."""
    there = stage(memory=10, policy=replace(POLICY, early_refresh=True))
    writer = there.another(policy=POLICY)
    there.run(writer.set, "k", "value")
    there.cache._rules.loads.freshness._took = 0.5
    assert there.get("k") == "value"
    entry: Any = there.cache._rules.local.memory.entries["k"]
    assert entry[FRESH] - entry[1] == pytest.approx(4.0)


def test_what_is_read_from_the_store_is_fresh_to_its_end_where_nothing_is_loaded_early(stage: Make) -> None:
    """And so answers at once until then."""
    there = stage(memory=10)
    there.run(there.another().set, "k", "value")
    assert there.get("k") == "value"
    entry: Any = there.cache._rules.local.memory.entries["k"]
    assert entry[FRESH] == entry[1]


def test_that_there_is_none_is_an_answer_and_no_error(stage: Make) -> None:
    """L7: it is counted as what it is, when the origin says so and when it is remembered."""
    told: list[Any] = []
    there = stage(hooks=[told.append])
    for count in (1, 2):
        with pytest.raises(NotFound):
            there.load("k", NotFound("k"))
        stats = there.cache.stats()
        assert (stats["negative"], stats.get("errors", 0)) == (count, 0)
    assert [event.error for event in told if isinstance(event, Served)] == [False, False]


@pytest.mark.parametrize("forced", [True, False])
def test_peers_are_told_of_what_replaces_something(forced: bool) -> None:
    """Not of what is loaded because there was nothing."""
    rules = Stage("sync").cache._rules
    rules.local.tells = True
    request = rules.begin("k", forced=forced)
    request.stamp = rules.local.stamps.next()
    assert rules.written(request, Answer(None))
    assert list(rules.local.untold) == [DROPPED + "k"] * forced


@pytest.mark.parametrize(
    ("failed", "doubted"), [(Reason.TIMEOUT, True), (Reason.ERROR, True), (Reason.OPEN, False), (None, False)]
)
def test_a_write_is_doubted_that_may_yet_land(failed: Reason | None, doubted: bool) -> None:
    """One that was not made, or was not to be made, does not."""
    rules = Stage("sync").cache._rules
    request = rules.begin("k")
    request.stamp = rules.local.stamps.next()
    assert not rules.written(request, None if failed is None else Answer(failed))
    assert (KEY + "k" in rules.local.journal) is doubted


def test_what_is_withheld_is_not_stored() -> None:
    """Whatever the store said of the delete that took its place."""
    rules = Stage("sync").cache._rules
    request = rules.begin("k", forced=True)
    request.withheld = True
    assert rules.written(request, Answer(None)) is False
