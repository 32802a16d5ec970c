"""Run the benchmarks: `python -m tests.benchmarks [hits] [remote] [outage] [tier] [--rounds N] [--write]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from random import Random

from . import hits, outage, remote, tier
from .report import as_json, page, plot, show
from .results import Section

ALL = {"hits": hits.run, "remote": remote.run, "outage": outage.run, "tier": tier.run}
DOCS = Path(__file__).parents[2] / "docs" / "explanation"


def main() -> int:
    """0 when every target was met."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(ALL)}; all of them by default")
    parser.add_argument("--rounds", type=int, default=21, help="how often each case is timed (default 21)")
    parser.add_argument("--seed", type=int, default=0, help="of the order in the rounds")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--plot", type=Path, help="where to write the picture (.svg)")
    parser.add_argument("--write", action="store_true", help="write docs/explanation/benchmarks.md and its picture")
    given = parser.parse_args()
    if set(given.name) - ALL.keys():
        parser.error(f"no such benchmark: {', '.join(sorted(set(given.name) - ALL.keys()))}")
    sections: list[Section] = []
    for name, run in ALL.items():
        if not given.name or name in given.name:
            sections += run(Random(given.seed), given.rounds)
    show(sections)
    if given.json:
        given.json.write_text(as_json(sections), "utf-8")
    if given.plot:
        plot(sections, given.plot)
    if given.write:
        (DOCS / "benchmarks.md").write_text(page(sections, "make bench ARGS=--write"), "utf-8")
        plot(sections, DOCS / "benchmarks.svg")
    return 0 if all(check.passed for section in sections for check in section.checks) else 1


sys.exit(main())
