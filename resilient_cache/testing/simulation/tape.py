"""One tape of choices: from a seed, replayed as it was, or shortened to what matters.

Whatever is decided at random in a simulation is one choice on one tape. Choice 0 is always the plainest (first come
first served, no fault, no cancellation), and a tape that has run out gives zeros: so a shorter tape is a plainer run.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar, final

from .._given import is_a

__all__ = ["Tape", "shrink"]

T = TypeVar("T")


@final
class Tape:
    """Choices drawn from `seed`, or read back from `choices`; `choices` holds all that were made.

    Raises `TypeError` for a seed that is no whole number: None would be another one each time.
    """

    __slots__ = ("_draw", "_given", "choices")

    def __init__(self, seed: int = 0, choices: Sequence[int] | None = None) -> None:
        is_a("seed", seed, int)
        self.choices: list[int] = []
        self._given = choices
        self._draw = random.Random(seed).random

    def choose(self, count: int) -> int:
        """A number from 0 to `count` - 1."""
        if self._given is None:
            choice = int(self._draw() * count)
        else:
            index = len(self.choices)
            choice = self._given[index] % count if index < len(self._given) else 0
        self.choices.append(choice)
        return choice

    def pick(self, options: Sequence[T]) -> T:
        """One of `options`, the plainest of which stands first."""
        return options[self.choose(len(options))]

    def chance(self, probability: float) -> bool:
        """True with `probability`."""
        return self.choose(1024) >= 1024 * (1.0 - probability)

    def some(self, options: Sequence[T]) -> list[T]:
        """Any number of `options`, in their order."""
        chosen = self.choose(1 << len(options))
        return [option for index, option in enumerate(options) if chosen >> index & 1]

    def random(self) -> float:
        """From 0.0 to below 1.0, for whoever wants a `random.random`."""
        return self.choose(1024) / 1024


def shrink(choices: Sequence[int], fails: Callable[[list[int]], bool], runs: int = 400) -> list[int]:
    """A shorter, smaller list of choices that still `fails`, found in at most `runs` tries.

    `fails` should look for the same failure, not for any, or it slips to another bug.
    """
    best, left = list(choices), runs

    def better(candidate: list[int]) -> bool:
        nonlocal best, left
        while candidate and not candidate[-1]:
            candidate.pop()
        if left <= 0 or (len(candidate), candidate) >= (len(best), best):
            return False
        left -= 1
        if fails(list(candidate)):
            best = candidate
            return True
        return False

    size = max(1, len(best))
    while size and left > 0:
        start, progress = 0, False
        while start < len(best) and left > 0:
            without = best[:start] + best[start + size :]
            zeroed = best[:start] + [0] * len(best[start : start + size]) + best[start + size :]
            if better(without) or better(zeroed):
                progress = True
            else:
                start += size
        if not progress or size > 1:
            size //= 2
    return best
