"""What a benchmark gives: tables to read, and checks against the targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from .timing import Timing

__all__ = ["Check", "Section", "timings"]


@dataclass(frozen=True)
class Check:
    """A measured figure beside its target: at most that, or with `least` at least."""

    path: str
    against: str
    figure: float
    target: float
    unit: str = "x"
    least: bool = False

    @property
    def passed(self) -> bool:
        """Whether the target was met."""
        return self.figure >= self.target if self.least else self.figure <= self.target


@dataclass(frozen=True)
class Section:
    """One benchmark's table, the fastest first, and its checks."""

    title: str
    about: str
    header: tuple[str, ...]
    lines: list[tuple[str, ...]] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    bars: dict[str, float] = field(default_factory=dict)

    def plain(self) -> dict[str, object]:
        """As data for JSON."""
        given = asdict(self)
        given["checks"] = [{**asdict(check), "passed": check.passed} for check in self.checks]
        return given


def timings(title: str, about: str, found: Mapping[str, Timing], *, base: str) -> Section:
    """A section of timings in nanoseconds, each beside the one named `base`."""
    lines: list[tuple[str, ...]] = [
        (name, f"{each.median:,.0f}", f"{each.low:,.0f}-{each.high:,.0f}", f"{each.over(found[base]):.2f}")
        for name, each in sorted(found.items(), key=lambda item: item[1].median)
    ]
    bars = {name: each.median for name, each in found.items()}
    return Section(title, about, ("case", "median ns", "quartiles", f"x {base}"), lines, [], bars)
