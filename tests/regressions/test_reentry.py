"""Finalizers that call the cache from within the cache: what they ask for holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from resilient_cache import CachePolicy, NotFound, ResilientCache
from resilient_cache.testing import ManualClock

from ..laws.stage import POLICY, Stage


class Final:
    """A value that calls `action` once when it dies."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.action: Callable[[], object] | None = action

    def __del__(self) -> None:
        action, self.action = self.action, None
        if action is not None:
            action()


def make(memory: int, policy: CachePolicy = POLICY) -> ResilientCache[str, Any]:
    """A cache without a store."""
    return ResilientCache(None, name="reentry", memory=memory, policy=policy, clock=ManualClock())


def test_an_invalidation_from_within_a_put_is_not_lost() -> None:
    """A value that is pushed out and invalidates the key that pushes it out: the older value is not served again."""
    cache = make(1)
    cache.set("b", Final(lambda: cache.invalidate("k")))
    assert cache.get_or_load("k", lambda _: "old") == "old"
    assert cache.get("k") is None


def test_an_invalidation_from_within_a_put_ends_the_write_too() -> None:
    """A value that is invalidated in the very step that keeps it is not written to the store either."""
    stage = Stage("sync", memory=1)
    stage.set("b", Final(lambda: stage.invalidate("k")))
    assert stage.load("k", "old") == "old"
    assert ("laws:k" in stage.stored, stage.get("k")) == (False, None)


def test_an_invalidation_from_within_a_negative_answer_is_not_lost() -> None:
    """A value that dies as its key is found to be none, and invalidates it: that answer is not served again."""
    cache = make(2, replace(POLICY, ttl=1.0))
    cache.set("k", Final(lambda: cache.invalidate("k")))

    def missing(_: str) -> Any:
        raise NotFound("k")

    with pytest.raises(NotFound):
        cache.refresh("k", missing)
    assert cache.get_or_load("k", lambda _: "new") == "new"


ACTIONS: dict[str, Callable[[ResilientCache[str, Any]], object]] = {
    "set the same": lambda cache: cache.set("a", "inner"),
    "invalidate the same": lambda cache: cache.invalidate("a"),
    "invalidate all": lambda cache: [cache.invalidate(f"f{n}") for n in range(20)],
    "set another": lambda cache: cache.set("z", 1),
    "set many": lambda cache: [cache.set(f"z{n}", 1) for n in range(30)],
}


@pytest.mark.parametrize("asked_for", [False, True])
@pytest.mark.parametrize("action", ACTIONS)
def test_memory_stays_whole_when_a_put_is_entered_again(action: str, *, asked_for: bool) -> None:
    """A finalizer that writes during an eviction leaves no key that raises, and no two keys on one place."""
    cache = make(20)
    armed: list[int] = []

    def once() -> None:
        if armed:
            armed.clear()
            ACTIONS[action](cache)

    for n in range(20):
        cache.set(f"f{n}", Final(once))
    for n in range(20 * asked_for):
        assert cache.get(f"f{n}") is not None
    armed.append(1)
    cache.set("a", "outer")
    assert not armed, "nothing was pushed out"
    for n in range(400):
        assert cache.get_or_load(f"n{n}", lambda _, n=n: n) == n  # type: ignore[misc]
    entries = cache._rules.local.memory.entries
    assert len(entries) <= 20
    assert len({entry[4] for entry in entries.values()}) == len(entries)


class Meddling:
    """A clock that has something else done when it is read for the n-th time from now."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.time = clock.time
        self.left = 0
        self.action: Callable[[], object] = bool

    def monotonic(self) -> float:
        self.left -= 1
        if self.left == 0:
            self.action()
        return self.clock.monotonic()


def test_a_stand_in_that_is_invalidated_while_it_is_chosen() -> None:
    """An invalidation at any moment of a failing load: what is given was given before it, and is not given again."""
    at, struck = 0, True
    while struck:
        at += 1
        stage = Stage("sync", memory=10)
        clock = Meddling(stage.clock)
        cache = stage.another(adapter=None, clock=clock)
        stage.run(cache.set, "k", "old")
        stage.clock.advance(61)
        done: list[int] = []

        def strike(cache: Any = cache, done: list[int] = done) -> None:
            done.append(1)
            cache.invalidate("k")

        clock.left, clock.action = at, strike
        try:
            assert cache.get_or_load("k", stage.loader(OSError("down"))) == "old"
        except OSError:
            assert done
        clock.left, struck = 0, bool(done)
        if struck:
            with pytest.raises(OSError, match="again"):
                cache.get_or_load("k", stage.loader(OSError("again")))
    assert at > 3
