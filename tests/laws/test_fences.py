"""L9 and L10: after an invalidation nothing older is served, whatever the store did and however many there were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_cache import (
    AsyncResilientCache,
    CachePolicy,
    Invalidation,
    Mode,
    NotFound,
    Reason,
    ResilientCache,
    Source,
)
from resilient_cache.fences import Fences
from resilient_cache.testing import Fault, FaultKind

from .stage import Stage

Make = Callable[..., Stage]
colours = pytest.mark.parametrize("colour", ["sync", "async"])

FAILED_DELETES = [
    Fault(FaultKind.RAISE),
    Fault(FaultKind.HANG),
    Fault(FaultKind.LOST),
    Fault.late(1.0),
    Fault.slow(1.0),
    Fault.raising(OSError("reset")),
]
REASONS = {True: Invalidation.CONFIRMED, False: Invalidation.PENDING}


@pytest.mark.parametrize("memory", [0, 1, 10])
@pytest.mark.parametrize("fault", [None, *FAILED_DELETES])
def test_nothing_old_is_served_however_the_delete_ended(stage: Make, memory: int, fault: Fault | None) -> None:
    """L9: after `invalidate` has returned the old value is gone, from the store and from memory."""
    cache = stage(memory=memory)
    cache.set("k", "old")
    assert cache.get("k") == "old"
    cache.plan.then("delete", fault)
    assert cache.invalidate("k") is REASONS[fault is None]
    assert cache.get("k") is None
    assert cache.load("k", "new") == "new"
    assert cache.get("k") == "new"


@pytest.mark.parametrize("memory", [0, 10])
@pytest.mark.parametrize("fault", [None, Fault(FaultKind.LOST)])
def test_a_store_that_comes_back_with_old_data_is_not_believed(stage: Make, memory: int, fault: Fault | None) -> None:
    """L9: the fence stays after the delete was acknowledged, so a store restored from a snapshot serves nothing old."""
    cache = stage(memory=memory)
    cache.set("k", "old")
    snapshot = dict(cache.stored)
    cache.plan.then("delete", fault)
    cache.invalidate("k")
    cache.stored.update(snapshot)
    assert cache.lookup("k").reason is Reason.FENCED
    assert cache.cache.health()["pending_invalidations"] == 0  # what was refused has been deleted as well
    cache.stored.update(snapshot)
    cache.clock.advance(59)
    assert not cache.lookup("k")


@pytest.mark.parametrize("memory", [0, 10])
def test_a_write_that_lands_after_the_acknowledged_delete_is_not_served(stage: Make, memory: int) -> None:
    """L9: a write that timed out and lands late brings nothing back."""
    cache = stage(memory=memory)
    cache.plan.then("set", Fault.late(2.0))
    assert cache.set("k", "old") is False
    assert cache.invalidate("k") is Invalidation.CONFIRMED
    cache.clock.advance(3)
    seen = cache.lookup("k")
    assert (seen.value, seen.reason) == (None, Reason.FENCED)


def test_another_processs_entry_is_held_against_the_fence_with_the_skew(stage: Make) -> None:
    """L9: an entry of a process whose clock may be ahead must be newer than the fence by twice the skew."""
    cache = stage()
    other = cache.another()
    cache.run(cache.cache.invalidate, "k")
    cache.clock.advance(0.5)
    assert cache.run(other.set, "k", "theirs")
    assert cache.lookup("k").reason is Reason.FENCED
    cache.clock.advance(1.0)
    assert cache.run(other.set, "k", "theirs")
    assert cache.get("k") == "theirs"


def test_a_load_that_began_before_the_invalidation_is_not_kept(stage: Make) -> None:
    """L9: a value loaded across an invalidation reaches its own caller, and is neither remembered nor written."""
    for memory in (0, 10):
        cache = stage(memory=memory)

        def across(cache: Stage = cache) -> Any:
            cache.stored.clear()
            return cache.cache.invalidate("k") if cache.colour == "sync" else across_async(cache)

        async def across_async(cache: Stage) -> str:
            await cache.cache.invalidate("k")
            return "old"

        cache.load("k", across)
        assert not cache.lookup("k")
        assert "laws:k" not in cache.stored
        assert not cache.cache._rules.local.memory.entries


@pytest.mark.parametrize("memory", [0, 10])
def test_an_old_stand_in_does_not_outlive_an_invalidation(stage: Make, memory: int) -> None:
    """L9: a stale entry that stood in for a failed load stands in no more after an invalidation."""
    cache = stage(memory=memory)
    cache.set("k", "old")
    cache.clock.advance(100)
    assert cache.load("k", OSError()) == "old"
    cache.plan.during(Fault(FaultKind.RAISE), "delete")
    cache.invalidate("k")
    with pytest.raises(OSError, match="down"):
        cache.load("k", OSError("down"))


@pytest.mark.parametrize("memory", [0, 10])
@pytest.mark.parametrize("fault", [Fault(FaultKind.RAISE), Fault(FaultKind.HANG)])
@pytest.mark.parametrize("mode", [Mode.ON, Mode.READ_ONLY, Mode.BYPASS, Mode.MEMORY_ONLY])
def test_a_failed_set_leaves_nothing_older_readable(stage: Make, memory: int, fault: Fault, mode: Mode) -> None:
    """A value that `set` replaced is not served again, though the store still has it."""
    cache = stage(memory=memory)
    cache.set("k", "old")
    cache.plan.then("set", fault)
    cache.cache.mode = mode
    assert cache.set("k", "new") is False
    cache.cache.mode = Mode.ON
    with cache.cache._rules.guard.lock:
        cache.cache._rules.local.memory.drop_locked("k")
    assert cache.get("k") is None


@pytest.mark.parametrize("memory", [0, 10])
@pytest.mark.parametrize("mode", [Mode.ON, Mode.READ_ONLY, Mode.BYPASS, Mode.MEMORY_ONLY])
def test_a_refresh_replaces_whatever_there_was(stage: Make, memory: int, mode: Mode) -> None:
    """After `refresh` has returned a newer value, the one it replaced is not served again, in any mode."""
    cache = stage(memory=memory)
    cache.set("k", "old")
    cache.plan.during(Fault(FaultKind.RAISE), "set")
    cache.cache.mode = mode
    assert cache.run(cache.cache.refresh, "k", cache.loader("new")) == "new"
    cache.cache.mode = Mode.ON
    assert cache.get("k") in (None, "new")


@pytest.mark.parametrize("memory", [0, 10])
def test_a_refresh_that_finds_nothing_ends_what_there_was(stage: Make, memory: int) -> None:
    """What the origin says is no more does not come back when that answer has been forgotten."""
    cache = stage(memory=memory, policy=CachePolicy(epoch_ttl=None, ttl=600, negative_ttl=10, jitter=0, timeout=0.25))
    cache.set("k", "old")
    with pytest.raises(NotFound):
        cache.run(cache.cache.refresh, "k", cache.loader(NotFound()))
    cache.clock.advance(11)
    assert cache.get("k") is None


@colours
@given(keys=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=12), capacity=st.integers(1, 3))
def test_too_many_fences_cost_misses_and_serve_nothing_old(colour: str, keys: list[str], capacity: int) -> None:
    """L10: when the fences overflow, every key invalidated before stays invalidated."""
    stage = Stage(colour)
    local = stage.cache._rules.local
    local.fences = Fences(local.fences._life, capacity)
    for key in "abcdef":
        stage.set(key, "old")
    snapshot = dict(stage.stored)
    for key in keys:
        stage.invalidate(key)
        stage.stored.update(snapshot)
        assert len(local.fences) <= capacity
    for key in set(keys):
        assert stage.get(key) is None
        assert stage.load(key, "new") == "new"
        assert stage.get(key) == "new"
    untouched = set("abcdef") - set(keys)
    if len(set(keys)) <= capacity:
        assert all(stage.get(key) == "old" for key in untouched)


def test_a_fence_outlives_what_it_must_stop(stage: Make) -> None:
    """L10: a fence is dropped no sooner than the last entry that it must stop is refused for its age."""
    policy = CachePolicy(epoch_ttl=None, ttl=100, stale_for=100, max_ttl=100, jitter=0, timeout=0.25)
    cache = stage(policy=policy)
    cache.set("k", "old")
    snapshot = dict(cache.stored)
    cache.invalidate("k")
    for _ in range(300):
        cache.clock.advance(1)
        cache.invalidate("other")
        cache.stored.update({"laws:k": (snapshot["laws:k"][0], cache.clock.monotonic() + 9)})
        assert not cache.lookup("k")
        with pytest.raises(OSError, match="down"):
            cache.load("k", OSError("down"))


@pytest.mark.parametrize("jump", [-7200.0, 7200.0, -0.25])
def test_setting_the_clock_brings_nothing_back(stage: Make, jump: float) -> None:
    """L9: stamps never go back, so a wall clock that is set back un-fences nothing and hides nothing new."""
    cache = stage()
    cache.set("k", "old")
    snapshot = dict(cache.stored)
    cache.invalidate("k")
    cache.clock.jump(jump)
    cache.stored.update(snapshot)
    assert not cache.lookup("k")
    cache.set("k", "new")
    assert cache.lookup("k").source is Source.STORE
    cache.invalidate("k")
    assert not cache.lookup("k")


def test_an_older_load_never_replaces_a_newer_value_in_memory(stage: Make) -> None:
    """L11: a load that began before a `set` and ends after it is not kept, and an error replaces nothing."""
    cache = stage(memory=10)

    def sets_first() -> Any:
        if cache.colour == "sync":
            cache.cache.set("k", "newer")
            return "older"
        return sets_first_async()

    async def sets_first_async() -> str:
        await cache.cache.set("k", "newer")
        return "older"

    assert cache.load("k", sets_first) == "older"
    assert cache.lookup("k").value == "newer"
    with pytest.raises(OSError, match="down"):
        cache.run(cache.cache.refresh, "k", cache.loader(OSError("down")))
    assert cache.lookup("k").value == "newer"
    assert cache.stored["laws:k"][0].find(b"newer") > 0


@pytest.mark.parametrize("memory", [0, 10])
def test_nothing_stands_in_past_a_fence(stage: Make, memory: int) -> None:
    """L12: what is invalidated while a load runs does not stand in when that load fails."""
    cache = stage(memory=memory)
    cache.set("k", "old")
    cache.clock.advance(100)

    def fails() -> Any:
        if cache.colour == "sync":
            cache.cache.invalidate("k")
            raise OSError("down")
        return fails_async()

    async def fails_async() -> str:
        await cache.cache.invalidate("k")
        raise OSError("down")

    with pytest.raises(OSError, match="down"):
        cache.load("k", fails)


def test_an_invalidation_pends_until_the_store_has_confirmed_it(stage: Make) -> None:
    """L9: by a delete that came through, or by a newer value; without a store there is nobody to confirm it."""
    there = stage()

    def pending() -> object:
        return there.cache.health()["pending_invalidations"]

    ways: list[Any] = [there.invalidate, lambda key: there.set(key, "new"), lambda key: there.load(key, "new")]
    for again in ways:
        there.plan.then("delete", Fault(FaultKind.RAISE))
        assert there.invalidate("k") is Invalidation.PENDING
        assert pending() == 1
        there.clock.advance(5)
        again("k")
        assert pending() == 0
    make: Any = ResilientCache if there.colour == "sync" else AsyncResilientCache
    alone = make(None, name="alone")
    assert there.run(alone.invalidate, "k") is Invalidation.CONFIRMED
    assert alone.health()["pending_invalidations"] == 0
