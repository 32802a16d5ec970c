"""`make prove`: as many simulated schedules as the time allows, and what came of them.

    python -m tests.prove [--seconds 600] [--start 0] [--cores N]
    python -m tests.prove --seed 4711 [--kind tasks] [--broken "half-open admits all"]     replays one

Exits with 1 when a promise was broken, in a replay too, when a cell of the coverage table stayed empty, or when a
broken cache was not caught.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from .kinds import KINDS
from .work import MOST_SEEDS, Tally, by_itself, catch, sweep

SHOWN = 3


def main() -> int:
    """The exit code."""
    options = argparse.ArgumentParser(prog="python -m tests.prove")
    options.add_argument("--seconds", type=float, default=600.0)
    options.add_argument("--start", type=int, default=0, help="the first seed")
    options.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    options.add_argument("--kind", choices=sorted(KINDS), default="tasks")
    options.add_argument("--seed", type=int, help="run this one only, and print its history")
    options.add_argument("--broken", default="", help="break the cache in this way first")
    given = options.parse_args()
    if given.seed is not None:
        print(KINDS[given.kind].explain(given.seed, given.broken))
        return 1 if KINDS[given.kind].run(given.seed, given.broken).violations else 0
    return prove(given.seconds, given.start, given.cores)


def prove(seconds: float, start: int, cores: int) -> int:
    """Run everything and print the report; the exit code."""
    until = time.monotonic() + seconds
    names = [(kind, broken) for kind in KINDS for broken in KINDS[kind].broken]
    with ProcessPoolExecutor(cores, get_context("spawn"), initializer=by_itself) as pool:
        caught = list(pool.map(catch, *zip(*names, strict=True), [start] * len(names)))
        left = max(1.0, until - time.monotonic())
        cores_tallies = list(pool.map(sweep, range(start, start + cores), [cores] * cores, [left] * cores))
    good = True
    for kind in KINDS:
        tally = Tally()
        for tallies in cores_tallies:
            tally.add(tallies[kind])
        good &= report(kind, tally)
    return 0 if report_broken(names, caught) and good else 1


def report(kind: str, tally: Tally) -> bool:
    """Print what came of one kind; whether all was well."""
    rate = tally.schedules / tally.spent if tally.spent else 0.0
    print(f"\n{kind}: {tally.schedules} schedules, as many histories checked, {rate:.0f} per CPU second")
    print("  faults injected (store calls): " + ", ".join(f"{name} {n}" for name, n in sorted(tally.suffered.items())))
    print("  faults met (calls of callers while it lasted, per operation: circuit closed/open/half-open)")
    for trouble in sorted({cell[0] for cell in KINDS[kind].cells}):
        print(f"    {trouble:14} " + "  ".join(_cells(kind, tally, trouble)))
    empty = sorted(KINDS[kind].cells - tally.met.keys())
    print(f"  empty cells: {len(empty)} of {len(KINDS[kind].cells)}" + "".join(f"\n    {cell}" for cell in empty))
    print(f"  violations: {sum(map(len, tally.failed.values()))} in {len(tally.failed)} schedules")
    for seed, violations in sorted(tally.failed.items())[:SHOWN]:
        print(f"    {violations[0]}\n    replay: python -m tests.prove --kind {kind} --seed {seed}")
        print(KINDS[kind].explain(seed, ""))
    return not empty and not tally.failed


def _cells(kind: str, tally: Tally, trouble: str) -> Iterable[str]:
    operations = list(dict.fromkeys(cell[1] for cell in sorted(KINDS[kind].cells)))
    for operation in operations:
        counts = [tally.met[trouble, operation, state] for state in ("closed", "open", "half_open")]
        yield f"{operation} {'/'.join(map(str, counts))}"


def report_broken(names: list[tuple[str, str]], caught: list[tuple[int, str]]) -> bool:
    """Print the table of broken caches; whether each was caught."""
    print(f"\nbroken caches, each caught after how many seeds (of {MOST_SEEDS} at most)")
    for (kind, broken), (count, rule) in zip(names, caught, strict=True):
        print(f"  {kind:8} {broken:38} {count or 'NOT CAUGHT':>10}  {rule[:70]}")
    return all(count for count, _ in caught)


if __name__ == "__main__":
    sys.exit(main())
