"""After an outage: what the store held before is served, loaded again or gone, as the policy says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from resilient_cache import CachePolicy, MisuseError, Reason, Source
from resilient_cache.outcome import AfterOutage
from resilient_cache.testing import Fault, FaultKind

from .stage import POLICY, Stage

Make = Callable[..., Stage]


def after_an_outage(stage: Make, after_outage: AfterOutage, operation: str) -> Stage:
    """A cache whose store held "old" for "k", failed for `operation` until the circuit opened, and came back."""
    made = stage(policy=replace(POLICY, after_outage=after_outage))
    made.set("k", "old")
    made.plan.during(Fault(FaultKind.RAISE), operation)
    for _ in range(6):
        made.clock.advance(0.1)
        made.load("another", "v")
    made.plan.calm()
    for _ in range(6):
        made.clock.advance(2.0)
        made.load("another", "v", policy=replace(POLICY, ttl=0.001))
        made.run_behind()
    assert {circuit["state"] for circuit in made.cache.health()["circuits"].values()} == {"closed"}
    assert made.cache.stats()[f"circuit_{'read' if operation == 'get' else 'write'}_open"] == 1
    return made


@pytest.mark.parametrize("operation", ["get", "set"])
def test_it_is_trusted_by_default(stage: Make, operation: str) -> None:
    assert CachePolicy().after_outage is AfterOutage.TRUST
    made = after_an_outage(stage, AfterOutage.TRUST, operation)
    assert made.get("k") == "old"


@pytest.mark.parametrize("operation", ["get", "set"])
def test_it_is_loaded_again(stage: Make, operation: str) -> None:
    made = after_an_outage(stage, AfterOutage.REVALIDATE, operation)
    assert made.lookup("k").reason is Reason.OUTAGE
    assert made.load("k", "new") == "new"
    assert made.lookup("k").source is Source.STORE


def test_it_may_stand_in_if_the_load_fails(stage: Make) -> None:
    made = after_an_outage(stage, AfterOutage.REVALIDATE, "get")
    assert made.load("k", OSError("origin down")) == "old"
    made.clock.advance(400)
    with pytest.raises(OSError, match="origin down"):
        made.load("k", OSError("origin down"))


def test_it_is_gone(stage: Make) -> None:
    made = after_an_outage(stage, AfterOutage.DISCARD, "get")
    with pytest.raises(OSError, match="origin down"):
        made.load("k", OSError("origin down"))
    assert made.get("k") is None
    assert "laws:k" not in made.stored


def test_what_is_loaded_after_it_is_trusted(stage: Make) -> None:
    made = after_an_outage(stage, AfterOutage.DISCARD, "get")
    made.load("k", "new")
    assert made.get("k") == "new"


def test_anything_else_is_refused() -> None:
    assert CachePolicy(after_outage="discard").after_outage is AfterOutage.DISCARD
    with pytest.raises(MisuseError, match="after_outage must be trust, revalidate or discard, not 'hope'"):
        CachePolicy(after_outage="hope")
