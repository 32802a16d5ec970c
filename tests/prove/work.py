"""What one core does: schedules until the time is over, and a broken cache until it is caught."""

from __future__ import annotations

import gc
import logging
import time
from collections import Counter
from dataclasses import dataclass, field

from .kinds import KINDS, Cell

__all__ = ["MOST_SEEDS", "Tally", "by_itself", "catch", "sweep"]

MOST_SEEDS = 10_000
COLLECT_EVERY = 500
BATCH = 50


@dataclass
class Tally:
    """What one core, or all, have seen of one kind."""

    schedules: int = 0
    spent: float = 0.0  # CPU seconds
    met: Counter[Cell] = field(default_factory=Counter)
    suffered: Counter[str] = field(default_factory=Counter)
    failed: dict[int, list[str]] = field(default_factory=dict)  # violations by seed

    def add(self, other: Tally) -> None:
        """Take in what another has seen."""
        self.schedules += other.schedules
        self.spent += other.spent
        self.met += other.met
        self.suffered += other.suffered
        self.failed |= other.failed


def by_itself() -> None:
    """Make ready a process that does nothing else."""
    gc.disable()  # a cycle collector that runs when it likes costs a third of the time
    logging.getLogger("resilient_cache").addHandler(logging.NullHandler())  # or it tells of thousands of closings


def sweep(start: int, step: int, seconds: float) -> dict[str, Tally]:
    """Run the seeds `start`, `start + step`, ... of every kind for `seconds`, each kind for its share of them."""
    tallies = {name: Tally() for name in KINDS}
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        name = min(tallies, key=lambda kind: tallies[kind].spent / KINDS[kind].share)
        tally = tallies[name]
        began = time.process_time()
        for seed in range(start + tally.schedules * step, start + (tally.schedules + BATCH) * step, step):
            schedule = KINDS[name].run(seed, "")
            tally.met += schedule.met
            tally.suffered += schedule.suffered
            if schedule.violations:
                tally.failed[seed] = schedule.violations
        tally.schedules += BATCH
        tally.spent += time.process_time() - began
        if tally.schedules % COLLECT_EVERY == 0:
            gc.collect()
    return tallies


def catch(kind: str, broken: str, start: int) -> tuple[int, str]:
    """After how many seeds the cache that is `broken` is caught, and by which rule; (0, "") when it is not."""
    for count in range(1, MOST_SEEDS + 1):
        violations = KINDS[kind].run(start + count - 1, broken).violations
        if count % COLLECT_EVERY == 0:
            gc.collect()
        if violations:
            return count, violations[0]
    return 0, ""
