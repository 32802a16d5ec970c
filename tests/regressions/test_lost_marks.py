"""A store that comes back empty has lost its marks as well."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from resilient_cache import BreakerPolicy, CachePolicy, ResilientCache
from resilient_cache.adapters import MappingAdapter
from resilient_cache.testing import Fault, FaultKind, FaultPlan, FaultyAdapter, ManualClock

POLICY = CachePolicy(ttl=1.0, stale_for=300.0, jitter=0.0)


@pytest.mark.parametrize("after_outage", ["trust", "revalidate"])
def test_what_is_stored_after_an_outage_stands_in_when_the_mark_has_been_asked_for_again(after_outage: str) -> None:
    """Entries were written with a mark that the store had lost, and all refused when that was noticed later."""
    clock, plan = ManualClock(), FaultPlan()
    held: dict[str, Any] = {}
    store = FaultyAdapter(clock, MappingAdapter(held), plan=plan)
    breaker = BreakerPolicy(consecutive=1, span=0.0, hold=0.1, max_hold=0.1, probes=1)
    policy = replace(POLICY, after_outage=after_outage)
    cache = ResilientCache(
        store, name="regions", policy=policy, breaker=breaker, clock=clock, spawn=lambda work: work() or True
    )
    assert cache.get_or_load("k", lambda key: "v") == "v"
    plan.during(Fault(FaultKind.RAISE))
    assert cache.get_or_load("other", lambda key: "v") == "v"
    held.clear()  # killed, and with it all it held
    plan.calm()
    for _ in range(20):
        clock.advance(0.1)
        cache.get("other")
        cache.set("other", "v")
    assert "'read': {'state': 'closed'" in str(cache.health()["circuits"])
    assert cache.get_or_load("k", lambda key: "v") == "v"
    clock.advance(6.0)  # longer than a mark is trusted

    def fails(key: str) -> str:
        raise ConnectionError

    assert cache.get_or_load("k", fails) == "v"
