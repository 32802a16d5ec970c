"""Regressions: options that were taken and did something else, or nothing. Both colours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from resilient_cache import CachePolicy, Source

from ..laws.stage import POLICY, Stage

COLOURS = ("sync", "async")


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("memory", [0, 10])
def test_the_longest_life_is_the_cache_s_whatever_the_policy_of_a_call_says(colour: str, memory: int) -> None:
    """L10: `max_ttl` is enforced on every entry; a call's own, a day by default, took its place in memory."""
    there = Stage(colour, memory=memory, policy=replace(POLICY, max_ttl=60, ttl=60, stale_for=0))
    there.load("k", 1, policy=CachePolicy(epoch_ttl=None, ttl=6_000, stale_for=6_000, jitter=0))
    there.clock.advance(59)
    assert there.get("k") == 1
    there.clock.advance(2)
    assert there.get("k") is None
    there.clock.advance(60)
    assert there.lookup("k", there.loader(2)).value == 2
    assert there.loads == 2


class Later:
    """What gives something to await, and does not look like it."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def __call__(self, _: object) -> Any:
        async def word() -> bool:
            return False

        self.given.append(word())
        return self.given[-1]


@pytest.mark.parametrize("colour", COLOURS)
def test_a_negative_that_is_yet_to_be_awaited_does_not_make_every_value_none(colour: str) -> None:
    """A coroutine is true: every key was answered with "there is none", for a minute."""
    later = Later()
    there = Stage(colour, memory=10, policy=replace(POLICY, negative=later))
    found = there.lookup("k", there.loader(1))
    assert (found.value, found.source) == (1, Source.LOADER)
    assert there.get("k") == 1
    assert there.cache.stats()["not_stored"] == 1
    for word in later.given:
        word.close()
