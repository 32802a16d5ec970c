"""Plays the incident, act by act, and hands back the report."""

from __future__ import annotations

import asyncio
import gc
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from resilient_cache.events import CircuitChanged, CircuitState, Event
from resilient_cache.outcome import Direction

from .build import staged
from .directory import seeded
from .phases import PHASES, Phase
from .report import Report, Row, Settings, percentile_ms, row, timeline
from .stage import Stage
from .traffic import Ask, Crowd, Lane, play

__all__ = ["Watcher", "run"]

COLD: Final = 6  # tenants kept back for the act in which nobody has been asked for before


class Watcher(Protocol):
    """Is told how it goes."""

    def began(self, phase: Phase, lanes: Sequence[Lane]) -> None:
        """`phase` begins; the lanes' samples grow while it is played."""
        ...

    def ended(self, phase: Phase, rows: Mapping[str, Row]) -> None:
        """`phase` is over, and this is what it came to."""
        ...


@dataclass(slots=True)
class CircuitLog:
    """A hook that notes when the read circuit opened, on the demo's own clock."""

    clock: Callable[[], float]
    opened: list[float] = field(default_factory=list[float])

    def __call__(self, event: Event) -> None:
        """Takes every event; keeps one kind."""
        match event:
            case CircuitChanged(direction=Direction.READ, after=CircuitState.OPEN):
                self.opened.append(self.clock())
            case _:
                pass

    def first_in(self, act: Mapping[str, str | float]) -> float | None:
        """The first opening while `act` was played."""
        start, end = float(act["start"]), float(act["end"])
        return next((moment for moment in self.opened if start <= moment < end), None)


async def run(settings: Settings, watcher: Watcher, *, url: str | None = None, planted: bool = False) -> Report:
    """Play the incident. `url`: a store of yours, which is not killed. `planted`: the naive router in both places."""
    loop = asyncio.get_running_loop()
    zero = loop.time()
    log = CircuitLog(lambda: loop.time() - zero)
    dice = random.Random(settings.seed)
    report = Report(settings)
    phases = [phase for phase in PHASES if url is None or not phase.own_server]
    report.skipped = [phase.name for phase in PHASES if phase not in phases]
    with tempfile.TemporaryDirectory(prefix="region-resolver-") as folder:
        record = Path(folder) / "record.sqlite"
        tenants = seeded(record, settings.seed, settings.tenants + COLD)
        warm, cold = Crowd(tenants[COLD:], dice), Crowd(tenants[:COLD], dice)
        async with staged(settings, record, tenants[COLD:], hook=log, zero=zero, url=url, planted=planted) as stage:
            gc.collect()
            gc.freeze()  # a pause of the collector would be measured as the routers' own
            director = _Director(stage, report, watcher, log.clock)
            for phase in phases:
                await director.act(phase, cold if phase.cold else warm)
            report.refused_moves = stage.refused_moves
            samples = {contender.lane.name: contender.lane.samples for contender in stage.contenders}
    frozen = next((act for act in report.acts if act["name"] == "frozen"), None)
    report.judge(phases, samples, log.first_in(frozen) if frozen else None)
    report.timeline = {name: timeline(some, 0.1 if settings.fast else 0.5) for name, some in samples.items()}
    return report


@dataclass(slots=True)
class _Director:
    stage: Stage
    report: Report
    watcher: Watcher
    clock: Callable[[], float]

    async def act(self, phase: Phase, crowd: Crowd) -> None:
        settings = self.report.settings
        asks = crowd.draw(int((phase.fast if settings.fast else phase.seconds) * settings.rate))
        before = [(len(contender.lane.samples), contender.directory.lookups) for contender in self.stage.contenders]
        await phase.begin(self.stage)
        start = self.clock()
        self.watcher.began(phase, self._lanes)
        await self._play(phase, asks)
        rows = {
            contender.lane.name: row(contender.lane.samples[samples:], contender.directory.lookups - lookups)
            for contender, (samples, lookups) in zip(self.stage.contenders, before, strict=True)
        }
        self.report.note(phase, start, self.clock(), rows)
        self.watcher.ended(phase, rows)

    async def _play(self, phase: Phase, asks: Sequence[Ask]) -> None:
        self.stage.playing = True
        try:
            async with asyncio.TaskGroup() as beside:
                lags = beside.create_task(self._lags())
                if phase.meanwhile:
                    beside.create_task(phase.meanwhile(self.stage))
                await play(self._lanes, asks, self.report.settings.rate)
                self.stage.playing = False
            if phase.name == "frozen":
                self.report.lag_ms = percentile_ms(lags.result(), 1.0)
        finally:
            self.stage.playing = False

    async def _lags(self) -> list[float]:
        """How late a timer rings, every 5 ms."""
        loop = asyncio.get_running_loop()
        lags: list[float] = []
        while self.stage.playing:
            due = loop.time() + 0.005
            await asyncio.sleep(0.005)
            lags.append(loop.time() - due)
        return lags

    @property
    def _lanes(self) -> list[Lane]:
        return [contender.lane for contender in self.stage.contenders]
