"""The terminal: a table that grows act by act; plain lines where nobody watches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from .moved import BOUND, Moved
from .phases import Phase
from .report import Report, Row
from .traffic import Lane

__all__ = ["MOVED", "SHOWN", "Screen", "move_cells", "print_report"]

MOVED = (
    "three\nrouters",
    "what was\ndown",
    "hits\nthen",
    "pend-\ning",
    "confirmed\nonce back",
    "the one\ntold",
    "others\nbefore",
    "others,\nlast one",
    "others,\nlater",
    "naive",
)
SHOWN = ("naive", "resilient")
COLUMNS = ("req", "5xx", "wrong", "p50", "p99", "loads")


class Screen:
    """Shows a run while it goes on. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows: list[tuple[str, Mapping[str, Row]]] = []
        self._now: tuple[Phase[Any], list[tuple[Lane, int]]] | None = None
        self._live = Live(get_renderable=self._table, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def began(self, phase: Phase[Any], lanes: Sequence[Lane]) -> None:
        """An act begins."""
        self._now = phase, [(lane, len(lane.samples)) for lane in lanes if lane.name in SHOWN]

    def ended(self, phase: Phase[Any], rows: Mapping[str, Row]) -> None:
        """An act is over."""
        self._now = None
        self._rows.append((phase.name, rows))
        if not self._console.is_terminal:
            words = [f"{name} {row.failed} 5xx, {row.wrong} wrong of {row.requests}" for name, row in rows.items()]
            self._console.print(f"{phase.name:>12}  {'; '.join(words)}", highlight=False)

    def _table(self) -> Table:
        table = results(self._rows)
        if self._now:
            phase, lanes = self._now
            cells = [str(value) for lane, since in lanes for value in _so_far(lane, since)]
            table.add_row(f"[bold]{phase.name}", *cells)
            table.caption = phase.says
        return table


def results(rows: Sequence[tuple[str, Mapping[str, Row]]]) -> Table:
    """Acts down, routers and their numbers across; latencies in milliseconds."""
    table = Table(title="naive | resilient; latencies in ms from the moment a request was due", title_justify="left")
    table.add_column("act")
    for name in SHOWN:
        for column in COLUMNS:
            table.add_column(f"{name}\n{column}" if column == "req" else f"\n{column}", justify="right")
    for act, routers in rows:
        table.add_row(act, *[cell for name in SHOWN for cell in _cells(routers[name])])
    return table


def print_report(report: Report, console: Console) -> None:
    """The whole table and what became of each promise."""
    console.print(results(list(report.rows.items())))
    if report.moved:
        console.print(moves(report.moved))
    if report.skipped:
        console.print(f"skipped, as the store is not ours to kill: {', '.join(report.skipped)}", highlight=False)
    for name, count in report.refused_moves.items():
        console.print(f"{name}: {count} of its moves were answered with an error", highlight=False)
    for check in report.checks:
        mark = "[green]kept  " if check.kept else ("[red]BROKEN" if check.fatal else "[yellow]missed")
        console.print(f"{mark}[/] {check.promise}: {check.seen}", highlight=False)


def moves(moved: Sequence[Moved]) -> Table:
    """Who sent visitors to a region that their tenant had left, seen and promised."""
    table = Table(title="answers with a region that the tenant had left", title_justify="left")
    for place, column in enumerate(MOVED):
        table.add_column(column, justify="left" if place < 2 else "right")
    for move in moved:
        table.add_row(*move_cells(move))
    table.add_row("promised", "", "", "", "", "0", "", f"+{BOUND:.2f} s", "0", "", style="bold")
    return table


def move_cells(move: Moved) -> list[str]:
    """One move as a row of a table whose heads are MOVED."""
    replayed = "never" if move.replayed is None else f"{move.replayed:.2f} s"
    counts = (move.told, move.before, f"+{move.last:.2f} s", move.later, move.naive)
    return [move.router, move.how, str(move.hits), str(move.pending), replayed, *map(str, counts)]


def _cells(row: Row) -> list[str]:
    return [
        str(row.requests),
        f"[red]{row.failed}[/]" if row.failed else "0",
        f"[bold magenta]{row.wrong}[/]" if row.wrong else "0",
        f"{row.p50_ms:.1f}",
        f"{row.p99_ms:.1f}",
        str(row.loads),
    ]


def _so_far(lane: Lane, since: int) -> list[int | str]:
    some = lane.samples[since:]
    return [len(some), sum(s.failed for s in some), sum(s.wrong for s in some), "", "", ""]
