"""Timings that can be compared on a noisy machine: everything that is compared is timed in turns, in one process.

A case is a statement, run by a loop of its own. Each round times every case once, in an order drawn anew, and the empty
loop with them, which is taken off. What is reported is the median of the rounds, with its quartiles.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from time import perf_counter_ns
from typing import Any, Final

__all__ = ["Case", "Timing", "compare", "spread"]

EMPTY: Final = "(empty loop)"
TEMPLATE: Final = """
{define} loop(number, {names}):
    numbers = range(number)
    begin = clock()
    for _ in numbers:
        {statement}
    return clock() - begin
"""


@dataclass(frozen=True)
class Case:
    """A statement over `names`; with `awaits` it may await."""

    name: str
    statement: str
    names: Mapping[str, Any] = field(default_factory=dict)
    awaits: bool = False

    def loop(self) -> Callable[[int], Any]:
        """Runs the statement `number` times; the nanoseconds that took, or a coroutine that gives them."""
        names = {"clock": perf_counter_ns, **self.names}
        define = "async def" if self.awaits else "def"
        defaults = ", ".join(f"{name}={name}" for name in names)
        scope = dict(names)
        exec(TEMPLATE.format(define=define, names=defaults, statement=self.statement), scope)  # noqa: S102 - as timeit
        loop: Callable[[int], Any] = scope["loop"]
        return loop


@dataclass(frozen=True)
class Timing:
    """Nanoseconds for one run of a statement: the median over the rounds, and the quartiles."""

    median: float
    low: float
    high: float

    def over(self, other: Timing) -> float:
        """How many times as long as `other`."""
        return self.median / other.median


def spread(samples: Sequence[float]) -> Timing:
    """The median and the quartiles of `samples`."""
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Timing(median, low, high)


def compare(cases: Sequence[Case], random: Random, *, rounds: int = 21, seconds: float = 0.01) -> dict[str, Timing]:
    """The timing of each case, by its name. `seconds`: about how long a case runs in each round."""
    with asyncio.Runner() as runner:

        def run(loop: Callable[[int], Any], number: int, *, awaits: bool) -> float:
            given = loop(number)
            taken: int = runner.run(given) if awaits else given
            return taken / number

        loops = {(case.name, case.awaits): case.loop() for case in cases}
        for awaits in {case.awaits for case in cases}:
            loops[EMPTY, awaits] = Case(EMPTY, "pass", awaits=awaits).loop()
        numbers = {}
        for key, loop in loops.items():
            run(loop, 100, awaits=key[1])  # what is done at the first call only
            numbers[key] = max(100, int(seconds * 1e9 / max(1.0, run(loop, 1_000, awaits=key[1]))))
        samples: dict[tuple[str, bool], list[float]] = {key: [] for key in loops}
        order = list(loops)
        gc.collect()
        gc.disable()
        try:
            for _ in range(rounds):
                random.shuffle(order)
                for key in order:
                    samples[key].append(run(loops[key], numbers[key], awaits=key[1]))
        finally:
            gc.enable()
    empty = {awaits: statistics.median(taken) for (name, awaits), taken in samples.items() if name == EMPTY}
    return {
        name: spread([max(0.1, each - empty[awaits]) for each in taken])
        for (name, awaits), taken in samples.items()
        if name != EMPTY
    }
