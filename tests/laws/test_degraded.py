"""Degraded memory: a cache without memory keeps what it loads while its store cannot be read, and not for long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_cache import Entry, FailureKind, Mode, NotFound, Source, StoreError
from resilient_cache._request import Candidate
from resilient_cache.testing import Fault, FaultKind

from .stage import POLICY, Stage

KEPT = replace(POLICY, degraded_ttl=30, stale_retry=1)
RAISE = Fault(FaultKind.RAISE)
Make = Callable[..., Stage]
both = pytest.mark.parametrize("colour", ["sync", "async"])


def break_down(stage: Stage, key: str = "other") -> None:
    """Let the store fail until the circuit for reads is open."""
    stage.plan.during(RAISE)
    for _ in range(3):
        stage.get(key)
    assert stage.cache.health()["circuits"]["read"]["state"] == "open"


def recover(stage: Stage) -> None:
    """Let the store work and the circuit close."""
    stage.plan.calm()
    for _ in range(10):
        stage.clock.advance(4)
        stage.get("other")
        stage.run_behind()
    assert stage.cache.health()["circuits"]["read"]["state"] == "closed"


def test_what_is_loaded_or_set_while_the_store_is_gone_is_kept(stage: Make) -> None:
    """A hit from memory for the shorter of its ttl and 30 s, by every way of asking; never touched before that."""
    there = stage(policy=KEPT)
    assert there.load("before", 1) == 1
    break_down(there)
    assert there.load("loaded", 1) == 1
    there.set("set", 2)
    there.set("short", 3, ttl=10)
    for key, value in (("loaded", 1), ("set", 2), ("short", 3)):
        seen = there.lookup(key)
        assert (seen.value, seen.source, str(seen.reason), seen.stale) == (value, Source.MEMORY, "hit", False)
        assert there.get(key) == there.load(key, "again") == value
    assert there.loads == 2
    there.clock.advance(10)
    assert (there.get("short"), there.get("set")) == (None, 2)
    there.clock.advance(19.9)
    assert there.lookup("loaded").age == pytest.approx(29.9)
    there.clock.advance(0.2)
    assert [there.get(key) for key in ("loaded", "set", "before")] == [None] * 3


def test_what_may_have_missed_an_invalidation_is_not_kept(stage: Make) -> None:
    """While it was loaded the backplane was not heard: what was said meanwhile may have been about it."""
    there = stage(policy=KEPT)
    break_down(there)

    def give() -> int:
        there.clock.advance(0.125)
        there.cache._rules.local.distrust()
        return 1

    assert there.load("k", give) == 1
    assert there.get("k") is None
    assert there.load("k", 2) == 2  # it begins when that has been noticed, and not before
    assert there.get("k") == 2


@pytest.mark.parametrize("held", ["open", "closed over an outage"])
def test_when_a_circuit_is_closed_by_hand_everything_is_forgotten(stage: Make, held: str) -> None:
    """As when it closes by itself: by the next time it is open, another value may have come."""
    there = stage(policy=KEPT)
    read = there.cache.circuits["read"]
    if held == "open":
        with read.force_open():
            assert [there.load(key, "old") for key in ("k", "left")] == ["old"] * 2
    else:
        break_down(there)
        assert [there.load(key, "old") for key in ("k", "left")] == ["old"] * 2
        there.plan.calm()
        read.force_closed().release()
    assert there.set("k", "new")
    with read.force_open():
        assert [there.get(key) for key in ("k", "left")] == [None] * 2
        assert there.load("k", "newest") == "newest"


def test_their_ends_are_jittered(stage: Make) -> None:
    """So that what was loaded in one moment is not loaded again in one."""
    chances = iter([0.0] * 5 + [0.0, 1.0, 0.0, 0.5, 0.0, 0.0])
    there = stage(policy=replace(KEPT, jitter=0.5, ttl=1_000), random=lambda: next(chances, 0.0))
    break_down(there)
    drawn = []
    for number in range(3):
        there.set(f"k{number}", number)
        entry = there.cache._rules.local.spare.entries[f"k{number}"]
        drawn.append(entry[1] - there.clock.monotonic())
    assert all(15 <= seconds <= 30 for seconds in drawn)
    assert len(set(drawn)) > 1


def test_it_saves_the_origin(stage: Make) -> None:
    """A minute without a store and a key that is asked for each second: two loads, not sixty."""
    there = stage(policy=KEPT)
    break_down(there)
    for _ in range(60):
        assert there.load("k", "v") == "v"
        there.clock.advance(1)
    assert there.loads == 2


def test_the_circuit_gets_its_probes_all_the_same(stage: Make) -> None:
    """L16: requests that are answered by the degraded memory are the probes too, and then it is looked at no more."""
    there = stage(policy=KEPT)
    break_down(there)
    assert there.load("k", "kept") == "kept"
    there.plan.calm()
    for _ in range(2):
        there.clock.advance(4)
        assert there.load("k", "new") == "kept"
        there.run_behind()
    assert there.cache.health()["circuits"]["read"]["state"] == "closed"
    assert there.load("k", "new") == "new"
    assert len(there.cache._rules.local.spare) == 0


@pytest.mark.parametrize(
    "end", ["invalidate", "invalidate_all", "invalidate_tag", "set", "missing", "distrust", "heard"]
)
def test_fences_hold_for_it(stage: Make, end: str) -> None:
    """L9: what is invalidated, replaced, no more, or may have been invalidated unheard, is not served from it."""
    there = stage(policy=replace(KEPT, epoch_ttl=5))
    break_down(there)
    there.load("k", Entry("old", tags=["t"]))
    assert there.get("k") == "old"
    local = there.cache._rules.local
    match end:
        case "invalidate":
            there.invalidate("k")
        case "invalidate_all":
            there.invalidate_all()
        case "invalidate_tag":
            there.invalidate_tag("t")
        case "set":
            there.set("k", "new")
        case "missing":
            with pytest.raises(NotFound):
                there.refresh("k", there.loader(NotFound("k")))
        case "distrust":
            local.distrust()
        case _:
            local.heard(["kk"])
    assert there.get("k") == ("new" if end == "set" else None)


def test_a_load_that_was_overtaken_is_not_kept(stage: Make) -> None:
    """L9: not what was invalidated while it was loaded."""
    there = stage(policy=KEPT)
    break_down(there)

    def overtaken() -> str:
        there.cache._rules.local.invalidate("k")
        return "old"

    there.load("k", overtaken)
    assert there.get("k") is None
    local = there.cache._rules.local
    old = Candidate("old", 9e9, 9e9, local.stamps.next())
    local.invalidate("k")
    local.keep_spare("k", old, 9e9, None, 9e9)
    assert len(local.spare) == 0, "also when it was kept, had there been a memory, just before"


def test_past_its_short_life_it_may_stand_in(stage: Make) -> None:
    """L12: cache and origin down: what was loaded meanwhile goes on serving inside its own stale window, marked."""
    there = stage(policy=KEPT)
    break_down(there)
    there.load("k", "kept")
    there.clock.advance(40)
    for _ in range(20):
        seen = there.lookup("k", there.loader(OSError("down")))
        assert (seen.value, seen.source) == ("kept", Source.STALE)
    assert there.loads == 2
    there.clock.advance(400)
    with pytest.raises(OSError, match="down"):
        there.load("k", OSError("down"))


def test_where_it_is_not_wanted_or_not_needed_nothing_is_kept(stage: Make) -> None:
    """Not with `degraded_ttl=0`, not beside a memory, not by a mode that does not read the store."""
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"policy": POLICY}, False),
        ({"policy": KEPT}, True),
        ({"policy": KEPT, "memory": 5}, False),
    ]
    for options, kept in cases:
        there = stage(**options)
        break_down(there)
        there.load("k", "v")
        assert bool(len(there.cache._rules.local.spare)) is kept
        if kept:
            for mode in (Mode.BYPASS, Mode.MEMORY_ONLY):
                there.cache.mode = mode
                there.load(f"{mode}", "v")
                assert there.get("k") is None
            assert len(there.cache._rules.local.spare) == 1
            there.cache.mode = Mode.FROZEN
            assert there.get("k") == "v"


def test_while_the_circuit_is_closed_nothing_is_kept(stage: Make) -> None:
    """A single failure is a miss, as ever."""
    there = stage(policy=KEPT)
    there.plan.then("get", RAISE)
    there.load("k", "v")
    assert len(there.cache._rules.local.spare) == 0
    with there.cache.circuits["read"].force_closed():
        there.load("k", "v")
        assert len(there.cache._rules.local.spare) == 0
    with there.cache.circuits["read"].force_open():
        there.load("held", "v")
        assert there.get("held") == "v"
    assert there.get("held") is None
    there.plan.then("get", RAISE)
    assert there.get("held") is None


def test_it_is_bounded(stage: Make) -> None:
    """Ten thousand entries."""
    there = stage(policy=KEPT)
    assert there.cache._rules.local.spare.capacity == 10_000


class Sharded:
    """A store in two parts, one of which fails."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.failing = True

    def shard(self, key: str) -> str:
        return key[-1]

    def check(self, key: str) -> None:
        if self.failing and key.endswith("b"):
            raise StoreError(FailureKind.CONNECTION)

    def get(self, key: str) -> Any:
        self.check(key)
        return self.held.get(key)

    def set(self, key: str, value: bytes, ttl: float) -> None:
        self.check(key)
        self.held[key] = value

    def delete(self, key: str) -> None:
        self.check(key)
        self.held.pop(key, None)


class AsyncSharded:
    """The same with coroutines."""

    def __init__(self) -> None:
        self.plain = Sharded()
        self.shard = self.plain.shard

    async def get(self, key: str) -> Any:
        return self.plain.get(key)

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        self.plain.set(key, value, ttl)

    async def delete(self, key: str) -> None:
        self.plain.delete(key)


def test_the_circuit_of_the_keys_own_shard_decides(stage: Make) -> None:
    """What lives on a part that is well is not kept, whatever the others do."""
    there = stage(policy=KEPT)
    there.cache = there.another(adapter=Sharded() if there.colour == "sync" else AsyncSharded())
    for _ in range(4):
        there.get("k-b")
    for key in ("k-a", "k-b"):
        there.load(key, key)
    assert list(there.cache._rules.local.spare.entries) == ["k-b"]
    assert there.get("k-b") == "k-b"


@both
@given(
    steps=st.lists(
        st.sampled_from(["load", "load", "get", "get", "invalidate", "set", "wait", "long", "down", "up", "behind"]),
        min_size=5,
        max_size=40,
    )
)
def test_degraded_memory_is_never_wrong(colour: str, steps: list[str]) -> None:
    """L9, C3: no version older than an invalidation, none past its ttl, and none from memory when the store is well."""
    stage = Stage(colour, policy=replace(KEPT, ttl=20.0, stale_for=0.0))
    births: dict[int, float] = {}
    fence = version = 0

    def give() -> int:
        nonlocal version
        version += 1
        births[version] = stage.clock.monotonic()
        return version

    for step in steps:
        match step:
            case "load" | "get":
                state = stage.cache.health()["circuits"]["read"]["state"]
                seen = stage.lookup("k", stage.loader(give)) if step == "load" else stage.lookup("k")
                if seen:
                    assert seen.value > fence, "L9"
                    assert stage.clock.monotonic() - births[seen.value] < 20
                    assert seen.source is not Source.MEMORY or state != "closed"
            case "invalidate":
                stage.invalidate("k")
                fence = version
            case "set":
                stage.set("k", give())
                fence = version - 1
            case "wait" | "long":
                stage.clock.advance(0.5 if step == "wait" else 6.25)
            case "down":
                stage.plan.during(RAISE)
                for _ in range(3):
                    stage.get("k")
            case "up":
                stage.plan.calm()
            case _:
                stage.run_behind()
    stage.run_behind()
