"""What was seen, as numbers, and whether it is what was promised."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from .moved import BOUND, TWO, Moved
from .phases import FLEET_PHASES, Phase
from .rush import LIMIT, Rush
from .stage import Bypassed
from .traffic import Sample

__all__ = ["Check", "Report", "Row", "Settings", "percentile_ms", "row", "seen_bypassed", "timeline"]

OPENING: Final = 0.050  # s a request may take on top of timeout and record before the circuit is open
OPENED: Final = 0.020  # s on top of the record once it is


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is made of. Durations in seconds, `rate` in requests a second to each router."""

    seed: int
    rate: float
    fast: bool
    ttl: float
    timeout: float
    naive_timeout: float
    record_delay: float
    hold: float
    tenants: int


@dataclass(frozen=True, slots=True)
class Row:
    """One router in one act; latencies in milliseconds, from the moment a request was due."""

    requests: int
    failed: int
    wrong: int
    p50_ms: float
    p99_ms: float
    loads: int
    sources: dict[str, int]


@dataclass(frozen=True, slots=True)
class Bypass:
    """Answers of the resilient router: to requests that began and ended under BYPASS, and by the store after it."""

    loads: int
    cached: int
    hits_after: int


@dataclass(frozen=True, slots=True)
class Check:
    """A promise and what became of it. `fatal`: the demo fails with it."""

    promise: str
    seen: str
    kept: bool
    fatal: bool


@dataclass(slots=True)
class Report:
    """Everything that is printed, written as JSON and drawn."""

    settings: Settings
    acts: list[dict[str, str | float]] = field(default_factory=list[dict[str, str | float]])
    rows: dict[str, dict[str, Row]] = field(default_factory=dict[str, dict[str, Row]])
    moved: list[Moved] = field(default_factory=list[Moved])
    rush: Rush | None = None
    bypassed: Bypass | None = None
    skipped: list[str] = field(default_factory=list[str])
    refused_moves: dict[str, int] = field(default_factory=dict[str, int])
    checks: list[Check] = field(default_factory=list[Check])
    lag_ms: float = 0.0  # how late the event loop ran at worst in the frozen act: what no router can help
    timeline: dict[str, list[list[float]]] = field(default_factory=dict[str, list[list[float]]])

    @property
    def ok(self) -> bool:
        """Whether every promise was kept that decides."""
        return all(check.kept for check in self.checks if check.fatal)

    def note(self, phase: Phase[Any], start: float, end: float, rows: Mapping[str, Row]) -> None:
        """An act is over; `start` and `end` in seconds since the demo began."""
        self.acts.append({"name": phase.name, "says": phase.says, "start": start, "end": end})
        self.rows[phase.name] = dict(rows)

    def judge(
        self, phases: Sequence[Phase[Any]], samples: Mapping[str, Sequence[Sample]], opened: float | None
    ) -> None:
        """Fill in `checks`. `opened`: when the read circuit opened in the frozen act, seconds since the beginning."""
        self.checks = [*self._deciding(phases, samples["resilient"]), *self._latency(samples["resilient"], opened)]
        self.checks += [*_rush(self.rush), *_bypass(self.bypassed)]
        self.checks += [*map(_told, self.moved), *map(_others, self.moved)]
        self.checks += [_heir(move) for move in self.moved if move.first is not None]
        self.checks += _hits([move for move in self.moved if move.router == TWO])
        self.checks.append(self._naive_fails(phases))

    def _deciding(self, phases: Sequence[Phase[Any]], samples: Sequence[Sample]) -> Iterable[Check]:
        failed = {phase.name: self._failed(phase.name) for phase in phases if not phase.cold}
        alone = [name for name in self.rows if name not in {phase.name for phase in FLEET_PHASES}]
        wrong = sum(self.rows[name]["resilient"].wrong for name in alone)
        seen = ", ".join(f"{count} while {name}" for name, count in failed.items() if count) or "0"
        yield Check("resilient: no 5xx while there is something to serve", seen, not sum(failed.values()), fatal=True)
        yield Check("resilient: no wrong region, no wrong 404", str(wrong), wrong == 0, fatal=True)
        silent = [name for name, rows in self.rows.items() if not rows["resilient"].requests]
        yield Check("every act had traffic", ", ".join(silent) or "yes", not silent, fatal=True)
        refusals = [sample for sample in samples if sample.status == 503]
        polite = all(sample.retry_after for sample in refusals)
        yield Check("resilient: every 503 says when to retry", f"{len(refusals)} of them", polite, fatal=False)

    def _failed(self, act: str) -> int:
        return sum(row.failed for name, row in self.rows[act].items() if name != "naive")

    def _latency(self, samples: Sequence[Sample], opened: float | None) -> Iterable[Check]:
        """Split when the circuit opened: whoever waited for the store then was woken, and nobody waits for it after."""
        act = next((act for act in self.acts if act["name"] == "frozen"), None)
        if act is None:
            return
        inside = [sample for sample in samples if float(act["start"]) <= sample.due < float(act["end"])]
        split = math.inf if opened is None else opened
        before = [sample.latency for sample in inside if sample.due < split]
        after = [sample.latency for sample in inside if sample.due >= split]
        limit = self.settings.timeout + self.settings.record_delay + OPENING
        yield self._within(f"frozen, {len(before)} requests until the circuit is open: p99", before, limit)
        limit = self.settings.record_delay + OPENED
        yield self._within(f"frozen, {len(after)} requests after that: p99", after, limit)

    def _within(self, promise: str, latencies: Sequence[float], limit: float) -> Check:
        seen = percentile_ms(latencies, 0.99)
        said = f"{seen:.0f} ms, at most {limit * 1000:.0f}" if latencies else "none seen"
        kept = bool(latencies) and seen <= limit * 1000
        late = "" if kept else f" (this machine's event loop itself was late by up to {self.lag_ms:.0f} ms)"
        return Check(f"resilient, {promise}", said + late, kept, fatal=False)

    def _naive_fails(self, phases: Sequence[Phase[Any]]) -> Check:
        failed = [p.name for p in phases if not p.cold and self.rows[p.name]["naive"].failed]
        wrong = [name for name, rows in self.rows.items() if rows["naive"].wrong]
        seen = f"5xx while {', '.join(failed) or '-'}; wrong region while {', '.join(wrong) or '-'}"
        return Check("naive fails where it must, so the faults are real", seen, bool(failed and wrong), fatal=False)


def _rush(rush: Rush | None) -> Iterable[Check]:
    if rush is None:
        return
    what = f"resilient, {rush.hosts} hosts more at once, frozen, record slow"
    seen, kept = f"{rush.failed} and {rush.wrong}", not rush.failed + rush.wrong
    yield Check(f"{what}: no 5xx, no wrong region", seen, kept, fatal=True)
    yield Check(f"{what}: at most {LIMIT} questions at once", str(rush.peak), rush.peak <= LIMIT, fatal=False)


def _bypass(bypass: Bypass | None) -> Iterable[Check]:
    if bypass is None:
        return
    seen = f"{bypass.cached}, and {bypass.loads} by the record"
    yield Check("resilient, BYPASS by a file: no answer by the cache", seen, not bypass.cached, fatal=True)
    yield Check("resilient, after it: the store answers", str(bypass.hits_after), bypass.hits_after > 0, fatal=False)


def seen_bypassed(bypassed: Bypassed | None, samples: Sequence[Sample], zero: float) -> Bypass | None:
    """What became of the requests around a bypass. `zero`: the moment that samples count from, as for `staged`."""
    if bypassed is None:
        return None
    since, until, over = (moment - zero for moment in (bypassed.since, bypassed.until, bypassed.over))
    under = [sample.source for sample in samples if since <= sample.due and sample.due + sample.latency < until]
    loads = under.count("loader")
    told = len([source for source in under if source])
    return Bypass(loads, told - loads, sum(sample.source == "store" for sample in samples if sample.due >= over))


def _told(move: Moved) -> Check:
    promise = f"{move.router} x 3, {move.how} down: no old region from the one that was told, at any time"
    return Check(promise, str(move.told), not move.told, fatal=True)


def _others(move: Moved) -> Check:
    when = "that one was told" if move.router == TWO else "the store has confirmed"
    promise = f"{move.router} x 3, {move.how} down: none from the others {BOUND:g} s after {when}"
    if move.replayed is None:
        return Check(promise, "the store never confirmed", kept=False, fatal=True)
    seen = f"{move.later} of {move.asked} requests; {move.before} before, {move.within} until {move.last:.2f} s after"
    return Check(promise, seen, not move.later, fatal=True)


def _heir(move: Moved) -> Check:
    first = -math.inf if move.first is None else move.first
    promise = f"{move.router} x 3, after kill -9: what its journal holds is deleted before its first answer"
    return Check(promise, f"{first * 1000:.0f} ms before", first > 0, fatal=False)


def _hits(moves: Sequence[Moved]) -> Iterable[Check]:
    if moves:
        hits = sum(move.hits for move in moves)
        yield Check(f"{TWO} x 3: hits from the second while the first is down", str(hits), hits > 0, fatal=True)


def row(samples: Sequence[Sample], loads: int) -> Row:
    """The numbers of one router in one act."""
    latencies = [sample.latency for sample in samples]
    return Row(
        requests=len(samples),
        failed=sum(sample.failed for sample in samples),
        wrong=sum(sample.wrong for sample in samples),
        p50_ms=percentile_ms(latencies, 0.50),
        p99_ms=percentile_ms(latencies, 0.99),
        loads=loads,
        sources=dict(Counter(sample.source or str(sample.status) for sample in samples)),
    )


def timeline(samples: Iterable[Sample], step: float) -> list[list[float]]:
    """Rows of `step` seconds: start, requests, failed, wrong, p99 in milliseconds."""
    buckets: dict[int, list[Sample]] = {}
    for sample in samples:
        buckets.setdefault(int(sample.due / step), []).append(sample)
    return [
        [
            round(place * step, 3),
            len(some),
            sum(sample.failed for sample in some),
            sum(sample.wrong for sample in some),
            percentile_ms([sample.latency for sample in some], 0.99),
        ]
        for place, some in sorted(buckets.items())
    ]


def percentile_ms(latencies: Sequence[float], share: float) -> float:
    """The nearest-rank percentile, in milliseconds; 0 of nothing."""
    ranked = sorted(latencies)
    return round(ranked[math.ceil(share * len(ranked)) - 1] * 1000, 2) if ranked else 0.0
