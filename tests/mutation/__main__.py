"""`make mutate` (ROOM=... to choose): mutation testing of the rooms and flows, against the ledger and the gates."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Container, Sequence

from .ledger import LEDGER, Name, Score, read, score
from .mutants import Mutant, mutants
from .rooms import GATES, PACKAGE
from .running import run


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make mutate", description=__doc__)
    parser.add_argument("room", nargs="*", help=f"of {', '.join(GATES)}; all of them by default")
    parser.add_argument("--match", default="", help="only mutants whose function or statement holds this text")
    parser.add_argument("--new", action="store_true", help="take the ledger's word for those that it lists")
    parser.add_argument("--within", type=float, default=math.inf, metavar="S", help="ask tests of S seconds at most")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th mutant: a sample")
    options = parser.parse_args(argv)
    asked = {f"_{room}" if f"_{room}" in GATES else room for room in options.room}
    if asked - GATES.keys():
        parser.error(f"no such room: {', '.join(sorted(asked - GATES.keys()))}")
    rooms = [room for room in GATES if not asked or room in asked]
    os.environ["HYPOTHESIS_PROFILE"] = "mutation"
    began = time.monotonic()
    listed = read(LEDGER.read_text())
    results = _results(rooms, options.match, options.every, listed if options.new else {}, options.within)
    partial = options.match or options.every > 1
    if partial:
        listed = {
            mutant.name: listed[mutant.name] for of in results.values() for mutant, _ in of if mutant.name in listed
        }
    scores = [score(room, results[room], listed) for room in rooms]
    _print(scores, time.monotonic() - began)
    return 0 if partial or all(each.passes(GATES[each.file]) for each in scores) else 1


def _results(
    rooms: Sequence[str], match: str, every: int, known: Container[Name], within: float
) -> dict[str, list[tuple[Mutant, bool]]]:
    """Every mutant of `rooms`, and whether it was killed; those `known` to live are not tried."""
    results: dict[str, list[tuple[Mutant, bool]]] = {room: [] for room in rooms}
    all_of = [mutant for room in rooms for mutant in mutants(room, (PACKAGE / f"{room}.py").read_text())]

    def tell(mutant: Mutant, killed: bool) -> None:
        results[mutant.file].append((mutant, killed))
        if not killed:
            sys.stderr.write(f"lives: {mutant.file} {mutant.function}: {mutant.was}  ->  {mutant.now}\n")

    chosen = [mutant for mutant in all_of if match in f"{mutant.function} {mutant.was} {mutant.now}"][::every]
    for mutant in chosen:
        if mutant.name in known:
            results[mutant.file].append((mutant, False))
    run([mutant for mutant in chosen if mutant.name not in known], tell, within)
    return results


def _print(scores: Sequence[Score], seconds: float) -> None:
    say = sys.stdout.write
    say("\nroom      mutants  killed  equivalent  accepted  unlisted  stale    raw  score  gate\n")
    for each in scores:
        say(
            f"{each.file:<10}{each.total:>7}{each.killed:>8}{each.equivalent:>12}{each.accepted:>10}"
            f"{len(each.unlisted):>10}{len(each.stale):>7}{each.raw:>7.1f}{each.adjusted:>7.1f}{GATES[each.file]:>6.0f}\n"
        )
    for each in scores:
        for name in each.stale:
            say(f"stale, it was killed or is gone: {name}\n")
        for mutant in each.unlisted:
            say(f"lives, and is not in the ledger: {mutant.name}\n")
    say(f"{sum(each.total for each in scores)} mutants in {seconds:.0f} s\n")


if __name__ == "__main__":
    sys.exit(main())
