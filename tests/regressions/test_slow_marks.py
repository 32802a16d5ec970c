"""Marks over a slow store: what takes three calls is not given the time of one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from resilient_cache import Entry, Invalidation
from resilient_cache.testing import Fault

from ..laws.scenario import TIMEOUT
from ..laws.stage import POLICY, Stage


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("what", ["invalidate_all", "invalidate_tag"])
def test_a_store_that_is_slow_confirms_in_the_end(colour: str, what: str) -> None:
    """It was asked for the mark and then given another in one timeout: never confirmed, and each try a new version.

    Found by the simulation: two vendors share the timeout, and the second look is one call more.
    """
    stage = Stage(colour, policy=replace(POLICY, epoch_ttl=5.0, inflight_max=2.0))
    stage.set("k", Entry("old", tags=("t",)))
    stage.plan.during(Fault.slow(0.6 * TIMEOUT), "get", "set", "delete")
    assert getattr(stage, what)(*(["t"] if what == "invalidate_tag" else [])) is Invalidation.PENDING
    assert stage.flush(30.0) == 0
    stage.clock.advance(2.0)
    for _ in range(3):  # the second look finds it as it was left
        stage.run(stage.cache._upkeep.step)
        stage.clock.advance(0.1)
    assert not stage.cache._rules.local.journal
    stage.plan.calm()
    assert stage.set("k", Entry("new", tags=("t",)))
    assert stage.get("k") == "new"
    stage.run_behind()
