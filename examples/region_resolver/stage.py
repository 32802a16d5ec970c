"""Everything the incident is played with, and the hands that break it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from resilient_cache.testing import ChaosProxy, WireFault

from .damage import Damage
from .directory import REGIONS, Directory, Tenant
from .resilient import ResilientRouter
from .rush import Rush, rush
from .store import Valkey
from .traffic import Lane
from .upstreams import serving
from .web import Router, router_app

__all__ = ["Bypassed", "Contender", "Stage"]

SLOW: Final = 0.05  # s that a question to the slow record takes


@dataclass(frozen=True, slots=True)
class Bypassed:
    """On the loop's clock: from when on a bypass was certainly in force, until when, and when it certainly was over."""

    since: float
    until: float
    over: float


@dataclass(slots=True)
class Contender:
    """One router on stage: its lane of traffic, its connection to the record, and how a new one is built.

    `heir`: how one is built that keeps a copy in memory, and hands it on to the next.
    """

    lane: Lane
    directory: Directory
    build: Callable[[Directory], Router]
    heir: Callable[[Directory], Router]
    running: AsyncExitStack = field(default_factory=AsyncExitStack)
    router: Router | None = None

    @property
    def loads(self) -> int:
        """Questions to the record."""
        return self.directory.lookups

    async def start(self, upstreams: Mapping[str, str], *, heir: bool = False) -> None:
        """Serve a new router, after the one before has ended."""
        await self.running.aclose()
        self.router = (self.heir if heir else self.build)(self.directory)
        app = router_app(self.router, upstreams)
        await self.lane.aim(await self.running.enter_async_context(serving(app)))

    async def aclose(self) -> None:
        """Ends its router; the record stays open."""
        await self.lane.aclose()
        await self.running.aclose()


@dataclass(slots=True)
class Stage:
    """The parts; `server` is None when the store belongs to somebody else and must not be killed."""

    contenders: tuple[Contender, ...]
    upstreams: Mapping[str, str]
    wire: ChaosProxy
    damage: Damage
    server: Valkey | None
    movers: tuple[Tenant, ...]
    others: tuple[Tenant, ...]
    strangers: Mapping[str, str]
    pause: float
    control: Path
    glance: float
    usual: float = 0.0
    playing: bool = False
    rushed: Rush | None = None
    bypassed: Bypassed | None = None
    refused_moves: dict[str, int] = field(default_factory=dict[str, int])

    async def nothing(self) -> None:
        """All is well."""

    async def kill(self) -> None:
        """The server is gone, and with it all it held."""
        if self.server:
            self.server.kill()

    async def restart(self) -> None:
        """An empty server on the same port."""
        if self.server:
            await asyncio.to_thread(self.server.start)

    async def freeze(self) -> None:
        """The server keeps its connections and says nothing more."""
        if self.server:
            self.server.freeze()

    async def thaw(self) -> None:
        """It goes on."""
        self._slow_record(self.usual)
        if self.server:
            self.server.thaw()

    async def spoil(self) -> None:
        """Until the act is over: whatever is written is made wrong a moment later."""
        while self.playing:
            await self.damage.spoil()
            await asyncio.sleep(self.pause)

    async def slow(self) -> None:
        """Every reply of the store takes 300 ms more."""
        self.wire.inject(WireFault.DELAY, 0.3)

    async def swift(self) -> None:
        """Replies come at once again."""
        self.wire.heal()

    async def record_off(self) -> None:
        """Nobody can be asked any more."""
        for contender in self.contenders:
            contender.directory.down = True

    async def record_on(self) -> None:
        """They can."""
        for contender in self.contenders:
            contender.directory.down = False

    async def cut(self) -> None:
        """Nobody reaches the store, which keeps what it holds."""
        self.wire.inject(WireFault.CUT)

    async def move(self) -> None:
        """The busiest tenants move to another region; each router is told. The record is the same for both."""
        await asyncio.sleep(self.pause)
        await self._move(self.movers)

    async def slow_record(self) -> None:
        """Each question to the record takes a while."""
        self.usual = self.contenders[0].directory.delay
        self._slow_record(SLOW)

    async def rush(self) -> None:
        """Strangers, each once, as many as there are; the naive router would run out of sockets."""
        for contender in self.contenders:
            if isinstance(contender.router, ResilientRouter):
                self.rushed = await rush(contender.router, contender.directory, self.strangers)

    async def bypass(self) -> None:
        """Somebody writes `bypass` into the control file, tenants move meanwhile, and the file is taken away again."""
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(self.pause)
        self.control.write_text("bypass for 1h  # should anybody forget it\n", "utf-8")
        await asyncio.sleep(2 * self.glance)
        since = clock()
        await self._move(self.others)
        await asyncio.sleep(self.pause)
        until = clock()
        self.control.unlink()
        await asyncio.sleep(2 * self.glance)
        self.bypassed = Bypassed(since, until, clock())

    def _slow_record(self, delay: float) -> None:
        for contender in self.contenders:
            contender.directory.delay = delay

    async def _move(self, tenants: tuple[Tenant, ...]) -> None:
        for tenant in tenants:
            region = REGIONS[1 - REGIONS.index(tenant.region)]
            for contender in self.contenders:
                contender.lane.truth.moving(tenant, region)
            for contender in self.contenders:
                refused = await contender.lane.move(tenant, region) != 200
                name = contender.lane.name
                self.refused_moves[name] = self.refused_moves.get(name, 0) + refused

    async def mend(self) -> None:
        """The store can be reached again, with the old data in it."""
        self.wire.heal()

    async def cold_start(self) -> None:
        """New routers that have never seen the cache, which is dead."""
        await self.kill() if self.server else self.wire.inject(WireFault.CUT)
        await asyncio.gather(*(contender.start(self.upstreams, heir=True) for contender in self.contenders))

    async def inherit(self) -> None:
        """New routers once more, and now the record is gone as well: all there is is what the last ones left."""
        await self.record_off()
        await asyncio.gather(*(contender.start(self.upstreams, heir=True) for contender in self.contenders))

    async def nothing_known(self) -> None:
        """The cache is back and the record is not; what follows asks for hosts that neither cache has seen."""
        await self.restart() if self.server else self.wire.heal()
        await self.record_off()
