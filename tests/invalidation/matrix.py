"""The page that shows what was measured: docs/reference/invalidation-matrix.md."""

from __future__ import annotations

import sys
from pathlib import Path

from .late import late
from .million import flood
from .moves import OUTAGES, float_ttl, move
from .pace import PACES

__all__ = ["COLOURS", "PAGE", "page", "parts", "write"]

PAGE = Path(__file__).parents[2] / "docs/reference/invalidation-matrix.md"
COLOURS = ("sync", "async")
MARK = "|---|\n"

MOVES = """\
# Invalidation matrix

What other processes read after an invalidation, beside what is promised. Measured on real Valkey servers;
`make invalidation-matrix` does it again and writes this page, in about ten minutes. A small share of it runs with every
`make test`. The times of another machine are others; the zeros are not.

## The store is gone, and comes back with old data

Three processes, library defaults, `ttl` {ttl:g} s, no backplane. 200 keys are set to an old value, all three have
read them, the server has saved them. Then it is gone for {held:g} s. Meanwhile one process invalidates every key
(`PENDING`). Then the server is started again with what it had saved; the read-only one is a replica no more.

- **own**: old values that the process that invalidated was given, at any time.
- **back**: old values in the store when it was back, read by a process without a memory tier.
- **after**: old values that this one was given once nothing was pending any more.
- **gone**: from when the store was back until it was given none. Promised: one hold of the circuit, a pause of 5 s, and
  the timeout.
- **memory**: the same for a process with a memory tier, of the other colour. Promised: {ttl:g} s, the `ttl`, from when
  it had read them, or what is promised to the one without, whichever is later.

| outage | invalidated by | own | back | after | gone | promised | memory | promised |
|---|---|---|---|---|---|---|---|---|
"""

LATE = """
## A write that lands after an acknowledged delete

A proxy holds back 400 writes; their callers have given up, and the deletes that follow are acknowledged (`CONFIRMED`).
Then the proxy lets the writes go on. Half of the keys are read here at once, half are left alone.

- **landed**: old values that were in the store then.
- **here**: old values that this process was given, at any time, of 400.
- **others**: old values that another process was given `inflight_max` (5 s) after the delete, of the 200 left alone.

| | landed | here | others |
|---|---|---|---|
"""

FLOOD = """
## A million invalidations of a dead store

Of as many keys, once the circuit is open. The fences and the journal keep 10 000 each.

- **grown**: of the process, from 100 000 to 1 000 000 invalidations.
- **old**: old values served after the store was back, of the first 50 keys and the last 50.

| | median | p99 | longest | grown | pending | old |
|---|---|---|---|---|---|---|
"""


def write() -> None:
    """Play everything with the library's defaults and write the page."""
    moves = [moved(kind, colour) for kind in OUTAGES for colour in COLOURS]
    lates = [landed(colour) for colour in COLOURS]
    floods = [flooded(colour) for colour in COLOURS]
    PAGE.write_text(page(moves, lates, floods))


def page(moves: list[str], lates: list[str], floods: list[str]) -> str:
    """The whole page around its rows."""
    given = PACES["defaults"]
    head = MOVES.format(ttl=float_ttl(given), held=given.held)
    return head + "".join(moves) + LATE + "".join(lates) + FLOOD + "".join(floods)


def parts(text: str) -> list[list[str]]:
    """The rows of each table of a page."""
    tables = [table.partition("\n\n")[0] for table in text.split(MARK)[1:]]
    return [[line + "\n" for line in table.splitlines() if line.startswith("|")] for table in tables]


def moved(kind: str, colour: str) -> str:
    given = PACES["defaults"]
    seen = move(kind, colour, "defaults")
    promised = f"{given.replay:.1f} s"
    times = (shown(seen.gone), promised, shown(seen.forgotten), f"{max(float_ttl(given), given.replay):.1f} s")
    return row(kind, colour, seen.own, seen.readable, seen.after, *times)


def landed(colour: str) -> str:
    seen = late(colour, "defaults")
    return row(colour, seen.landed, seen.here, seen.others)


def flooded(colour: str) -> str:
    seen = flood(colour, "defaults")
    times = (f"{1e6 * seen.p50:.0f} us", f"{1e6 * seen.p99:.0f} us", f"{1e3 * seen.longest:.0f} ms")
    return row(colour, *times, f"{seen.grown / 2**20:.1f} MiB", seen.pending, seen.old)


def shown(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.2f} s"


def row(*cells: object) -> str:
    line = f"| {' | '.join(map(str, cells))} |\n"
    sys.stdout.write(line)
    sys.stdout.flush()
    return line
