"""The decisions about one request, bare where no caller can see so closely."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from resilient_cache import Source
from resilient_cache.memory import FRESH
from resilient_cache.outcome import AfterOutage

from ..laws.stage import POLICY, Stage

Make = Callable[..., Stage]


@pytest.fixture(params=["sync", "async"])
def stage(request: pytest.FixtureRequest) -> Iterator[Callable[..., Stage]]:
    """Makes a cache of either colour over a faulty store."""
    yield lambda **options: Stage(request.param, **options)


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
