"""The run as one drawing: what share of the answers was a failure, and how late they came. Inline SVG, no scripts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import pairwise
from typing import Final

from .report import Report

__all__ = ["drawing"]

WIDTH: Final = 1080
LEFT: Final = 64
STRIP: Final = 64  # height of a strip of answers
STRIPS: Final = {"naive": 44, "resilient": 132}  # where they begin
PLOT: Final = (226, 190)  # where the latencies begin, and their height
HEIGHT: Final = PLOT[0] + PLOT[1] + 26
DECADES: Final = (1, 10, 100, 1000, 10_000)  # ms


def drawing(report: Report) -> str:
    """An `<svg>` element; colours come from the page's style sheet."""
    end = float(report.acts[-1]["end"]) if report.acts else 1.0

    def across(moment: float) -> float:
        return LEFT + (WIDTH - LEFT) * min(moment, end) / end

    parts = [
        *_acts(report, across),
        *(part for name, top in STRIPS.items() for part in _strip(report.timeline[name], name, top, across)),
        *_grid(),
        *(part for name in STRIPS for part in _lines(report.timeline[name], name, across)),
        *_seconds(end, across),
    ]
    label = "Share of failed and wrong answers, and 99th percentile of latency, of both routers over time"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _acts(report: Report, across: Callable[[float], float]) -> Iterable[str]:
    for place, act in enumerate(report.acts):
        left, right = across(float(act["start"])), across(float(act["end"]))
        band = "band even" if place % 2 == 0 else "band"
        yield f'<rect class="{band}" x="{left:.1f}" y="0" width="{right - left:.1f}" height="{PLOT[0] + PLOT[1]}">'
        yield f"<title>{escape(str(act['says']))}</title></rect>"
        if right - left > 6 * len(str(act["name"])):
            yield _text((left + right) / 2, 16, str(act["name"]), "middle", "act")


def _strip(rows: Sequence[Sequence[float]], name: str, top: int, across: Callable[[float], float]) -> Iterable[str]:
    yield _text(LEFT - 8, top + STRIP / 2 + 4, name, "end", name)
    step = _step(rows)
    for start, count, failed, wrong, _ in rows:
        left, width = across(start), max(0.5, across(start + step) - across(start) - 0.6)
        bottom = float(top + STRIP)
        for kind, number in (("failed", failed), ("wrong", wrong), ("fine", count - failed - wrong)):
            height = STRIP * number / count
            bottom -= height
            if number:
                yield f'<rect class="{kind}" x="{left:.1f}" y="{bottom:.1f}" width="{width:.1f}" height="{height:.1f}">'
                yield f"<title>{start:.1f} s: {number:.0f} of {count:.0f} {kind}</title></rect>"


def _grid() -> Iterable[str]:
    for milliseconds in DECADES:
        height = _up(milliseconds)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{height:.1f}" y2="{height:.1f}"/>'
        said = f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds // 1000} s"
        yield _text(LEFT - 8, height + 4, said, "end", "tick")


def _lines(rows: Sequence[Sequence[float]], name: str, across: Callable[[float], float]) -> Iterable[str]:
    """One line for each stretch of traffic: between acts everybody waits for the last answers."""
    step = _step(rows)
    stretch: list[str] = []
    last = 0.0
    for start, _, _, _, late in [*rows, (math.inf, 0, 0, 0, 0)]:
        if stretch and start - last > 1.5 * step:
            yield f'<polyline class="line {name}" points="{" ".join(stretch)}"/>'
            stretch = []
        if start < math.inf:
            stretch.append(f"{across(start + step / 2):.1f},{_up(late):.1f}")
        last = start


def _seconds(end: float, across: Callable[[float], float]) -> Iterable[str]:
    step = 10 if end > 30 else 2
    for second in range(0, int(end) + 1, step):
        yield _text(across(second), HEIGHT - 8, f"{second} s", "start" if second == 0 else "middle", "tick")


def _up(milliseconds: float) -> float:
    top, height = PLOT
    share = math.log10(min(max(milliseconds, DECADES[0]), DECADES[-1])) / math.log10(DECADES[-1])
    return top + height * (1 - share)


def _step(rows: Sequence[Sequence[float]]) -> float:
    gaps = [later[0] - earlier[0] for earlier, later in pairwise(rows)]
    return min(gaps, default=0.5)


def _text(x: float, y: float, words: str, anchor: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
