"""L4: without faults a hit is what it should be, and from where it should be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilient_cache import Source
from resilient_cache.events import Event, StoreCalled
from resilient_cache.outcome import Operation
from resilient_cache.testing import Fault, FaultKind

from .stage import Stage


def test_what_the_store_gave_is_kept_in_memory(stage: Callable[..., Any]) -> None:
    """L4: an entry of another process is read once, is as old as it is, and lasts as long as it would have."""
    there: Stage = stage(memory=10)
    there.run(there.another().set, "k", 1)
    there.clock.advance(20)
    seen = [there.lookup("k"), there.lookup("k")]
    assert [each.source for each in seen] == [Source.STORE, Source.MEMORY]
    assert [each.age for each in seen] == [pytest.approx(20, abs=1.1)] * 2  # 1 s is for the other's clock
    there.plan.during(Fault(FaultKind.RAISE))
    there.clock.advance(39.9)
    assert there.get("k") == 1
    there.clock.advance(0.2)
    assert there.get("k") is None


@pytest.mark.parametrize("hooks", [[], [lambda _: None]])
def test_memory_serves_up_to_the_end_of_the_ttl_and_not_at_it(stage: Callable[..., Any], hooks: list[Any]) -> None:
    """L4: by every way of asking, whoever is told of it."""
    there: Stage = stage(memory=10, hooks=hooks)
    there.set("k", 1, ttl=10)
    there.plan.during(Fault(FaultKind.RAISE))
    there.clock.advance(9.999)
    assert [there.get("k"), there.load("k", 2), there.lookup("k").value] == [1, 1, 1]
    there.clock.advance(0.001)
    assert [there.get("k"), there.lookup("k").value, there.load("k", 2)] == [None, None, 2]


def test_the_store_serves_up_to_the_end_of_the_ttl_and_not_at_it(stage: Callable[..., Any]) -> None:
    """L4: the same where nothing is kept in memory; what is past its ttl is told from what is not there."""
    there: Stage = stage()
    there.set("k", 1, ttl=10)
    seen = []
    for seconds in (9.875, 0.125, 1_000):
        there.clock.advance(seconds)
        seen.append(there.lookup("k"))
    assert [(each.value, each.reason) for each in seen] == [(1, "hit"), (None, "expired"), (None, "absent")]


def test_why_is_for_the_store_to_say_where_it_is_asked(stage: Callable[..., Any]) -> None:
    """The reason is the store's, also when memory has something that is past its ttl."""
    there: Stage = stage(memory=10)
    there.set("k", 1, ttl=10)
    there.clock.advance(11)
    assert there.lookup("k").reason == "expired"
    there.stored.clear()
    assert there.lookup("k").reason == "absent"
    there.plan.then("get", Fault(FaultKind.RAISE))
    assert there.lookup("k").reason == "error"


def test_a_request_reads_the_store_once(stage: Callable[..., Any]) -> None:
    """L9: also when an invalidation cuts off the flight in which it read, so that it begins another."""
    read: list[StoreCalled] = []

    def cut_off(event: Event) -> None:
        if isinstance(event, StoreCalled) and event.operation is Operation.GET and not read:
            read.append(event)
            there.cache._rules.local.invalidate("k")

    there: Stage = stage(hooks=[cut_off])
    assert there.load("k", "v") == "v"
    assert [call.operation for call in there.adapter.calls] == ["get", "set"]
    assert read


@pytest.mark.parametrize("way", ["get", "load", "lookup"])
def test_a_hit_is_remembered_by_every_way_of_asking(stage: Callable[..., Any], way: str) -> None:
    """A key that is asked for stays in a full memory while others pass through."""
    there: Stage = stage(memory=10)
    asks: dict[str, Any] = {"get": there.get, "lookup": there.lookup, "load": lambda key: there.load(key, 2)}
    there.set("hot", 1)
    there.plan.during(Fault(FaultKind.RAISE))
    for number in range(40):
        asks[way]("hot")
        there.set(f"cold{number}", 0)
    assert there.get("hot") == 1
