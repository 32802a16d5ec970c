"""Three router processes around one store, and the hands that break them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from .directory import REGIONS, Tenant
from .process import NAMES, Plan
from .store import Valkey
from .traffic import Ask, Lane

__all__ = ["Crew", "Fleet", "Move", "RouterProcess"]

ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 20.0  # s for a process to start
SETTLE: Final = 0.05  # s until what a process told has arrived


class RouterProcess:
    """An operating system process with routers; `diaries` is what each told: (when, pending, settled)."""

    def __init__(self, plan: Plan) -> None:
        self.bases: dict[str, str] = {}
        self.diaries = {name: list[tuple[float, int, int]]() for name in NAMES}
        self._plan = plan
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it and wait until it serves. Raises `TimeoutError`, or `ValueError` when it ended at once."""
        told = json.dumps(asdict(self._plan))
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "examples.region_resolver.process", told),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the demo, which then ends it
        )
        lines = self._process.stdout
        assert lines is not None
        async with asyncio.timeout(PATIENCE):
            self.bases = json.loads(await lines.readline())
        self._reading = asyncio.create_task(self._read(lines))

    async def kill(self) -> None:
        """SIGKILL. Again is harmless."""
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.wait()
        if self._reading is not None:
            await self._reading

    async def _read(self, lines: asyncio.StreamReader) -> None:
        async for line in lines:
            told = json.loads(line)
            self.diaries[told["router"]].append((told["at"], told["pending"], told["settled"]))


@dataclass(slots=True)
class Crew:
    """The routers of one kind, one in each process, and their lane of traffic."""

    lane: Lane

    @property
    def loads(self) -> int:
        """Answers that took a question to the record."""
        return sum(sample.source in {"record", "loader"} for sample in self.lane.samples)


@dataclass(slots=True)
class Move:
    """Tenants that moved while the store was down. Moments on the loop's clock, which is that of all processes."""

    router: str  # of which kind
    hosts: frozenset[str]
    process: RouterProcess  # that has to replay it
    bases: set[str]  # of the router that was told
    down: float
    told: float
    pending: int = 0
    back: float = 0.0
    killed: bool = False

    def confirmed(self) -> float | None:
        """When the store had confirmed everything after its return; None if it never did."""
        told = (
            at
            for at, pending, settled in self.process.diaries[self.router]
            if at >= self.back and not pending and settled
        )
        return next(told, None)


@dataclass(slots=True)
class Fleet:
    """The parts. The first process is the one that is told of moves; it keeps a journal on disk."""

    contenders: tuple[Crew, ...]
    processes: list[RouterProcess]
    successor: RouterProcess
    starting: Awaitable[object]
    store: Valkey
    far: Valkey  # the second vendor's, which nothing happens to
    movers: Sequence[Sequence[Tenant]]
    pause: float
    playing: bool = False
    down: float = 0.0
    moves: list[list[Move]] = field(default_factory=list[list[Move]])

    async def ready(self) -> None:
        """All serve, and all is well."""
        await self.starting
        for crew in self.contenders:
            await crew.lane.aim()
        self._steer(self.processes)

    async def outage(self) -> None:
        """The store is killed. What it holds now is on its disk."""
        self.store.save()
        self.store.kill()
        self.down = now()

    async def move(self) -> None:
        """Tenants move; the first router of each kind is told, and nobody else."""
        await asyncio.sleep(self.pause)
        tenants = self.movers[len(self.moves)]
        for tenant in tenants:
            region = REGIONS[1 - REGIONS.index(tenant.region)]
            for crew in self.contenders:
                crew.lane.truth.moving(tenant, region)
            for crew in self.contenders:
                await crew.lane.move(tenant, region)
        await asyncio.sleep(SETTLE)
        hosts = frozenset(host for tenant in tenants for host in tenant.hosts)
        told = self.processes[0]
        self.moves.append([Move(name, hosts, told, {told.bases[name]}, self.down, now()) for name in NAMES[1:]])

    async def mend(self) -> None:
        """The store is back, with what is on its disk."""
        for move in self.moves[-1]:
            _, move.pending, _ = [(0.0, 0, 0), *move.process.diaries[move.router]][-1]
        await asyncio.to_thread(self.store.start)
        for move in self.moves[-1]:
            move.back = now()

    async def lose(self) -> None:
        """SIGKILL for the router that was told; only then is the store back, and nobody knows what it owes."""
        await self.processes[0].kill()
        self._steer(self.processes[1:])
        await self.mend()
        for move in self.moves[-1]:
            move.process, move.killed = self.successor, True

    async def find(self) -> None:
        """The router that was killed is started again, with its journal, and not asked yet."""
        await asyncio.sleep(self.pause)
        await self.successor.start()
        self.processes[0] = self.successor

    async def rejoin(self) -> None:
        """It is asked once, as before a router is trusted with traffic; then it gets its share again."""
        for move in self.moves[-1]:
            move.bases.add(self.successor.bases[move.router])
        host = min(self.moves[-1][0].hosts)
        for crew in self.contenders:
            crew.lane.steer(self.successor.bases[crew.lane.name])
            await crew.lane.ask(Ask(host, host), now())
        self._steer(self.processes)

    def _steer(self, processes: Sequence[RouterProcess]) -> None:
        for crew in self.contenders:
            crew.lane.steer(*(process.bases[crew.lane.name] for process in processes))


def now() -> float:
    """The loop's clock."""
    return asyncio.get_running_loop().time()
