"""The page that shows what was measured: docs/reference/failure-matrix.md."""

from __future__ import annotations

import sys
from pathlib import Path

from .load import LOADS
from .play import Row, play
from .scenes import FAULTS

__all__ = ["PAGE", "listed", "page", "write"]

PAGE = Path(__file__).parents[2] / "docs/reference/failure-matrix.md"

INTRODUCTION = """\
# Failure matrix

What callers see while a store really fails. Every row was measured on a real Valkey server, or on a SQLite file, under
load; `make failure-matrix` does it again and writes this page. The same faults run, shorter, with every `make test`,
which fails on an error, a wrong value, a request that takes too long, a store call too many, or a wrong circuit.

One process, library defaults (`timeout` 0.25 s, holds from 1 s), no memory tier: every request goes to the store or to
the record, whose loads take 2 ms. 8 threads, or 32 tasks, ask for 50 keys; every tenth request changes a key's record
and invalidates it, during the fault as well. The store has answered 500 times when the fault begins; it is held for 3 s
from when the circuits have opened. The two cores had other work at the same time.

- **errors**: exceptions that callers got. **wrong**: another key's value, or one older than an invalidation that had
  returned before the caller asked.
- **p99 before**: of requests during the fault, until the circuit opened; at most the timeout and a load. **p99 after**:
  of those while it was open; a load, or nothing to wait for. A dash: there were none.
- **opened**: the circuits that did, one for reads and one for writes. **calls**: store calls while they were open.
  These are the probes.
- **back**: from the end of the fault until both circuits were closed and the store had answered and been written to.
  At most one hold: the longer the fault, the longer the hold, up to 30 s.

The times of another machine are others; the zeros are not.

| fault | | errors | wrong | p99 before | p99 after | opened | calls | back |
|---|---|---|---|---|---|---|---|---|
"""

FURTHER = """
What each fault is, step by step: `tests/faults/scenes.py`. The wire that drips, flaps and swallows is
`resilient_cache.testing.ChaosProxy`: [use it on your own service](../how-to/test-your-service.md#a-real-server).
"""


def listed(text: str) -> list[str]:
    """The rows of a page."""
    return [line + "\n" for line in text.partition("|---|")[2].splitlines()[1:] if line.startswith("|")]


def write() -> None:
    """Play every fault in both colours and write the page."""
    rows: list[str] = []
    for fault in FAULTS.values():
        for colour in LOADS:
            row = play(fault, colour, "defaults")
            rows.append(f"| {fault.name} | {colour} | {' | '.join(_cells(row))} |\n")
            sys.stdout.write(rows[-1])
            sys.stdout.flush()
    PAGE.write_text(page(rows))


def page(rows: list[str]) -> str:
    """The whole page around its rows."""
    return INTRODUCTION + "".join(rows) + FURTHER


def _cells(row: Row) -> list[str]:
    opened = ", ".join(row.opened) or "none"
    calls = str(row.calls_while_open) if row.opened else "-"
    times = [_shown(row.before), _shown(row.after)]
    return [str(len(row.errors)), str(len(row.wrong)), *times, opened, calls, _shown(row.back)]


def _shown(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{max(1, round(1000 * seconds))} ms"
