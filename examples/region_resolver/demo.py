"""Plays the incident, act by act, and hands back the report."""

from __future__ import annotations

import asyncio
import gc
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from resilient_cache.events import CircuitChanged, CircuitState, Event
from resilient_cache.outcome import Direction

from .build import fleet, staged
from .directory import Tenant, crowded, seeded
from .moved import moved
from .phases import FLEET_PHASES, PHASES, Phase
from .report import Report, Row, Settings, percentile_ms, row, seen_bypassed, timeline
from .traffic import Ask, Crowd, Lane, Sample, play

__all__ = ["Watcher", "run"]

STRANGERS: Final = 5_000  # hosts of the rush, and a fifth of that in a fast run
COLD: Final = 6  # tenants kept back for the act in which nobody has been asked for before


class Watcher(Protocol):
    """Is told how it goes."""

    def began(self, phase: Phase[Any], lanes: Sequence[Lane]) -> None:
        """`phase` begins; the lanes' samples grow while it is played."""
        ...

    def ended(self, phase: Phase[Any], rows: Mapping[str, Row]) -> None:
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
    report = Report(settings)
    phases = [phase for phase in PHASES if url is None or not phase.own_server]
    later = [phase for phase in FLEET_PHASES if url is None or not phase.own_server]
    every: list[Phase[Any]] = [*PHASES, *FLEET_PHASES]
    played: list[Phase[Any]] = [*phases, *later]
    report.skipped = [phase.name for phase in every if phase not in played]
    director = _Director(report, watcher, log.clock)
    with tempfile.TemporaryDirectory(prefix="region-resolver-") as folder:
        record, again = Path(folder) / "record.sqlite", Path(folder) / "again.sqlite"
        tenants = seeded(record, settings.seed, settings.tenants + COLD)
        cold, known = tenants[:COLD], tenants[COLD:]
        strangers = crowded(record, cold, STRANGERS // 5 if settings.fast else STRANGERS)
        async with AsyncExitStack() as exits:
            same = seeded(again, settings.seed, settings.tenants)
            several = fleet(settings, again, same, zero=zero, planted=planted)
            three = await exits.enter_async_context(several) if later else None
            staging = staged(
                settings, record, known, hook=log, zero=zero, strangers=strangers, url=url, planted=planted
            )
            async with staging as stage:
                samples = await director.play(stage, phases, known, cold)
                report.refused_moves, report.rush = stage.refused_moves, stage.rushed
                report.bypassed = seen_bypassed(stage.bypassed, samples["resilient"], zero)
            if three:
                more = await director.play(three, later, same, ())
                report.moved = moved(chain.from_iterable(three.moves), more, zero)
                samples = {name: [*some, *more[name]] for name, some in samples.items()}
    frozen = next((act for act in report.acts if act["name"] == "frozen"), None)
    report.judge(played, samples, log.first_in(frozen) if frozen else None)
    report.timeline = {name: timeline(some, 0.1 if settings.fast else 0.5) for name, some in samples.items()}
    return report


class _Side(Protocol):
    """The routers of one kind."""

    @property
    def lane(self) -> Lane: ...
    @property
    def loads(self) -> int: ...


class _Scene(Protocol):
    playing: bool

    @property
    def contenders(self) -> Sequence[_Side]: ...


S = TypeVar("S", bound=_Scene)
Samples: TypeAlias = dict[str, list[Sample]]


@dataclass(slots=True)
class _Director:
    report: Report
    watcher: Watcher
    clock: Callable[[], float]

    async def play(
        self, stage: S, phases: Sequence[Phase[S]], known: Sequence[Tenant], cold: Sequence[Tenant]
    ) -> Samples:
        """Act by act; the samples of each side. `cold`: tenants that nobody asks for but in the acts meant for them."""
        dice = random.Random(self.report.settings.seed)
        crowd, owned, strangers = Crowd(known, dice), Crowd(known, dice, nobodys=()), Crowd(cold, dice)
        gc.collect()
        gc.freeze()  # a pause of the collector would be measured as the routers' own
        for phase in phases:
            await self._act(stage, phase, strangers if phase.cold else owned if phase.owned else crowd)
        return {side.lane.name: side.lane.samples for side in stage.contenders}

    async def _act(self, stage: S, phase: Phase[S], crowd: Crowd) -> None:
        settings = self.report.settings
        asks = crowd.draw(int((phase.fast if settings.fast else phase.seconds) * settings.rate))
        before = [(len(side.lane.samples), side.loads) for side in stage.contenders]
        await phase.begin(stage)
        start = self.clock()
        lanes = [side.lane for side in stage.contenders]
        self.watcher.began(phase, lanes)
        await self._traffic(stage, phase, lanes, asks)
        rows = {
            side.lane.name: row(side.lane.samples[samples:], side.loads - loads)
            for side, (samples, loads) in zip(stage.contenders, before, strict=True)
        }
        self.report.note(phase, start, self.clock(), rows)
        self.watcher.ended(phase, rows)

    async def _traffic(self, stage: S, phase: Phase[S], lanes: Sequence[Lane], asks: Sequence[Ask]) -> None:
        stage.playing = True
        try:
            async with asyncio.TaskGroup() as beside:
                lags = beside.create_task(self._lags(stage))
                if phase.meanwhile:
                    beside.create_task(phase.meanwhile(stage))
                await play(lanes, asks, self.report.settings.rate)
                stage.playing = False
            if phase.name == "frozen":
                self.report.lag_ms = percentile_ms(lags.result(), 1.0)
        finally:
            stage.playing = False

    async def _lags(self, stage: _Scene) -> list[float]:
        """How late a timer rings, every 5 ms."""
        loop = asyncio.get_running_loop()
        lags: list[float] = []
        while stage.playing:
            due = loop.time() + 0.005
            await asyncio.sleep(0.005)
            lags.append(loop.time() - due)
        return lags
