"""The guard of a store of shards: which circuits a key's calls go through, and how many there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilient_cache import CachePolicy, MisuseError, ResilientCache
from resilient_cache._colours import shard_of
from resilient_cache._guard import Call, Guard
from resilient_cache._partition import IDLE, MOST_SHARDS
from resilient_cache._reporting import Reporter
from resilient_cache.errors import FailureKind, StoreError
from resilient_cache.events import CircuitChanged, CircuitState, Event
from resilient_cache.outcome import Direction, Operation, Reason
from resilient_cache.policy import BreakerPolicy
from resilient_cache.testing import ManualClock


class Sharded:
    """A guard of a store whose shard is what a key begins with, up to the slash."""

    def __init__(self, shard: Callable[[str], object] = lambda key: key.partition("/")[0]) -> None:
        self.clock = ManualClock()
        self.told: list[Event] = []
        self.reporter = Reporter("sharded", [self.told.append], self.clock.monotonic)
        self.guard = Guard(
            timeout=0.25,
            inflight_max=5.0,
            breaker=BreakerPolicy(consecutive=1, span=0, hold=1, max_hold=1),
            max_calls=1_000,
            reporter=self.reporter,
            monotonic=self.clock.monotonic,
            random=lambda: 1.0,
            shard=shard,
        )

    def admit(self, key: str) -> Call | Reason:
        return self.guard.admit(Operation.GET, self.clock.monotonic() + 9, key)

    def call(self, key: str) -> Call:
        call = self.admit(key)
        assert isinstance(call, Call), call
        return call

    def fail(self, key: str) -> None:
        self.guard.failed(self.call(key), StoreError(FailureKind.CONNECTION))

    def states(self) -> dict[str, str]:
        shards: Any = self.guard.health()["shards"]
        return {name: circuits["read"]["state"] for name, circuits in shards.items()}


def test_a_shard_that_fails_opens_its_own_circuit_only() -> None:
    """The others' calls go on, and so do those that belong to no shard; the event and `health` say whose it was."""
    sharded = Sharded()
    for key in ("a/1", "b/1", "/1"):
        sharded.guard.answered(sharded.call(key), None, 0.0)
    sharded.fail("a/1")
    assert sharded.admit("a/2") is Reason.OPEN
    assert sharded.states() == {"a": "open", "b": "closed"}
    sharded.call("b/2")
    sharded.call("/2")
    changes = [event for event in sharded.told if isinstance(event, CircuitChanged)]
    closed, opened = CircuitState.CLOSED, CircuitState.OPEN
    assert changes == [CircuitChanged("sharded", Direction.READ, closed, opened, 1.0, "a")]
    health: Any = sharded.guard.health()
    assert health["read"] == {"state": "closed", "retry_in": 0.0}
    assert health["shards"]["a"]["read"] == {"state": "open", "retry_in": 1.0}


def test_a_probe_that_succeeds_closes_the_circuit_of_its_shard() -> None:
    sharded = Sharded()
    sharded.fail("a/1")
    sharded.fail("b/1")
    for _ in range(2):
        sharded.clock.advance(1.0)
        sharded.guard.answered(sharded.call("a/1"), None, sharded.clock.monotonic())
    assert sharded.states() == {"a": "closed", "b": "open"}


def test_only_who_waits_for_the_shard_is_woken_when_its_circuit_opens() -> None:
    class Waiting:
        verdict: str | None = None
        woken = 0

        def wake(self) -> bool:
            self.woken += 1
            return True

    sharded, here, there, nowhere = Sharded(), Waiting(), Waiting(), Waiting()
    for key, waiting in (("a/1", here), ("b/1", there), ("/1", nowhere)):
        sharded.call(key).pair.waiting[Direction.READ][waiting] = None
    sharded.fail("a/2")
    assert (here.woken, there.woken, nowhere.woken) == (1, 0, 0)


def test_overdue_and_ended_calls_are_told_to_their_shard() -> None:
    sharded = Sharded()
    overdue, probe = sharded.call("a/1"), sharded.call("b/1")
    sharded.guard.overdue(overdue)
    sharded.guard.ended(probe)
    assert sharded.states() == {"a": "open", "b": "closed"}
    sharded.clock.advance(1.0)
    for _ in range(2):  # a probe that is taken away makes room for the next one
        probe = sharded.call("a/1")
        assert probe.ticket < 0
        assert sharded.admit("a/1") is Reason.OPEN
        sharded.guard.ended(probe)


def test_there_are_never_more_than_so_many_circuits() -> None:
    """What is beyond shares one pair, until another shard has not been asked for a while."""
    sharded = Sharded()
    for number in range(MOST_SHARDS):
        sharded.call(f"{number}/k")
        sharded.clock.advance(1.0)
    beyond = sharded.call("beyond/k")
    assert beyond.pair is sharded.guard.pair
    assert beyond.pair.shard == ""
    sharded.clock.advance(IDLE - MOST_SHARDS)
    sharded.call("0/k")  # in use again: now 1 is the one longest unused
    assert sharded.call("late/k").pair is sharded.guard.pair
    sharded.clock.advance(1.0)
    assert sharded.call("late/k").pair.shard == "late"
    assert len(sharded.states()) == MOST_SHARDS
    assert {"0", "late"} <= set(sharded.states())
    assert "1" not in sharded.states()


def test_a_call_ends_in_peace_when_its_circuits_have_made_room() -> None:
    sharded = Sharded()
    calls = [sharded.call(f"{number}/k") for number in range(MOST_SHARDS)]
    sharded.clock.advance(IDLE)
    sharded.call("new/k")
    for call in calls:
        sharded.guard.failed(call, StoreError(FailureKind.CONNECTION))
    assert sharded.guard.in_flight() == 1
    assert sharded.states()["new"] == "closed"


def raises(key: str) -> str:
    raise RuntimeError(key)


class Name(str):
    """What an adapter must not give: its hash may run anybody's code."""

    __slots__ = ()


@pytest.mark.parametrize("shard", [raises, lambda _: None, lambda _: b"a", lambda _: Name("a")])
def test_a_shard_that_cannot_be_told_is_counted_and_shares_the_circuit(shard: Callable[[str], object]) -> None:
    sharded = Sharded(shard)
    assert sharded.call("a/1").pair is sharded.guard.pair
    assert sharded.reporter.counts["shard_errors"] == 1
    assert sharded.states() == {}


class Whole:
    """A store without shards."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}

    def get(self, key: str, /) -> bytes | None:
        return self.data.get(key)

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        self.data[key] = value

    def delete(self, key: str, /) -> None:
        self.data.pop(key, None)


class Store(Whole):
    """A store in two halves."""

    def shard(self, key: str) -> str:
        return key[-1]


def test_a_cache_shows_the_circuits_of_its_shards() -> None:
    cache = ResilientCache(Store(), name="halves", policy=CachePolicy(epoch_ttl=None))
    assert cache.shards == {}
    for key in ("a", "b"):
        assert cache.set(key, key)
    health: Any = cache.health()["circuits"]
    assert set(health) == {"read", "write", "shards"}
    assert set(health["shards"]) == set(cache.shards) == {"a", "b"}
    with cache.shards["a"][Direction.READ].force_open():
        assert (cache.get("a"), cache.get("b")) == (None, "b")
    assert cache.get("a") == "a"


def test_a_store_without_shards_shows_none() -> None:
    cache = ResilientCache(Whole(), name="whole")
    cache.set("k", "v")
    assert cache.shards == {}
    assert set(cache.health()["circuits"]) == {"read", "write"}


class Awaited(Whole):
    """One that would ask somebody."""

    async def shard(self, key: str) -> str:
        return key


class Numbered(Whole):
    """One with an attribute of that name that is none of ours."""

    shard = 3


class Anything:
    """One that has everything it is asked for."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


def test_only_a_plain_method_names_shards() -> None:
    assert shard_of(Store()) is not None
    assert shard_of(Whole()) is None
    assert shard_of(Numbered()) is None
    assert shard_of(Anything()) is None
    assert shard_of(None) is None
    with pytest.raises(MisuseError, match="plain function"):
        ResilientCache(Awaited(), name="awaited")


def test_sixty_four_shards_have_circuits_and_one_makes_room_after_ten_minutes() -> None:
    """Without a call."""
    sharded = Sharded()
    for number in range(65):
        sharded.call(f"{number}/k")
    assert sharded.guard.shards.keys() == {str(number) for number in range(64)}
    assert sharded.guard.health()["shards"].keys() == sharded.guard.shards.keys()  # type: ignore[attr-defined]
    sharded.clock.advance(599.75)
    sharded.call("late/k")
    assert "late" not in sharded.guard.shards
    sharded.clock.advance(0.25)
    sharded.call("late/k")
    assert "late" in sharded.guard.shards
