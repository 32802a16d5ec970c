"""Puts the stage together: record, store, wire, regions, and the two routers with their traffic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from resilient_cache import BreakerPolicy
from resilient_cache.control import ModeFile
from resilient_cache.events import Hook
from resilient_cache.testing import ChaosProxy

from .damage import Damage
from .directory import REGIONS, Directory, Tenant
from .fleet import Crew, Fleet, RouterProcess
from .naive import NaiveRouter
from .process import NAMES, Plan
from .report import Settings
from .resilient import POLICY, ResilientRouter
from .stage import Contender, Stage
from .store import Valkey
from .traffic import Lane, Truth
from .upstreams import region_app, serving
from .web import Router

__all__ = ["fleet", "staged"]

Build: TypeAlias = Callable[[Directory], Router]

MOVERS: Final = 6
KEYS: Final = ("region:*", "*regions*")  # what the naive and the resilient router write


@asynccontextmanager
async def staged(
    settings: Settings,
    record: Path,
    tenants: Sequence[Tenant],
    *,
    hook: Hook,
    zero: float,
    strangers: Mapping[str, str],
    url: str | None = None,
    planted: bool = False,
) -> AsyncGenerator[Stage]:
    """Everything up and running; all of it, child processes included, is gone after the block.

    `tenants`: those that are asked for, busiest first. `strangers`: hosts of the rush, with their regions.
    `zero`: the moment on the loop's clock that samples count from.
    """
    async with AsyncExitStack() as exits:
        server = None if url else exits.enter_context(Valkey())
        direct = url or f"redis://127.0.0.1:{server.port if server else 0}"
        wire, through = _wired(exits, direct)
        damage = Damage(direct, KEYS)
        exits.push_async_callback(damage.aclose)
        upstreams = {region: await exits.enter_async_context(serving(region_app(region))) for region in REGIONS}
        control, glance = record.with_name("cache.mode"), 0.05 if settings.fast else 0.25
        left = record.with_name("regions.snapshot")
        builders = _builders(settings, through, hook, partial(ModeFile, control, every=glance), left)
        if planted:
            builders["resilient"] = builders["naive"]
        contenders = tuple(
            _contender(exits, Lane(name, Truth(tenants), zero), Directory(record, delay=settings.record_delay), *build)
            for name, build in builders.items()
        )
        for contender in contenders:
            await contender.start(upstreams)
        pause = 0.1 if settings.fast else 0.4
        yield Stage(
            contenders,
            upstreams,
            wire,
            damage,
            server,
            movers=tuple(tenants[:MOVERS]),
            others=tuple(tenants[MOVERS : MOVERS + 3]),
            strangers=strangers,
            pause=pause,
            control=control,
            glance=glance,
        )


@asynccontextmanager
async def fleet(
    settings: Settings, record: Path, tenants: Sequence[Tenant], *, zero: float, planted: bool = False
) -> AsyncGenerator[Fleet]:
    """Three processes with routers of each kind, around two stores of their own; all of it is gone after the block.

    They start meanwhile: whoever plays with them awaits `Fleet.ready` first.
    """
    async with AsyncExitStack() as exits:
        store, far = (exits.enter_context(Valkey()) for _ in range(2))
        upstreams = {region: await exits.enter_async_context(serving(region_app(region))) for region in REGIONS}
        plan = _plan(settings, record, upstreams, (store, far), planted)
        told = replace(plan, journal=str(record.with_name("told.journal")))
        processes = [RouterProcess(each) for each in (told, plan, plan)]
        successor = RouterProcess(told)
        for process in (*processes, successor):
            exits.push_async_callback(process.kill)
        starting = asyncio.gather(*(process.start() for process in processes))
        exits.push_async_callback(_ended, starting)
        crews = tuple(Crew(Lane(name, Truth(tenants), zero)) for name in NAMES)
        for crew in crews:
            exits.push_async_callback(crew.lane.aclose)
        count = 3 if settings.fast else MOVERS
        movers = tenants[: 2 * count : 2], tenants[1 : 2 * count : 2]
        yield Fleet(crews, processes, successor, starting, store, far, movers, 0.1 if settings.fast else 1.0)


async def _ended(work: asyncio.Future[Any]) -> None:
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work


def _plan(
    settings: Settings, record: Path, upstreams: dict[str, str], stores: tuple[Valkey, Valkey], planted: bool
) -> Plan:
    near, far = (f"redis://127.0.0.1:{store.port}" for store in stores)
    return Plan(
        record=str(record),
        record_delay=settings.record_delay,
        upstreams=upstreams,
        store=near,
        far=far,
        journal="",
        ttl=60,  # longer than the run: what is right again is so because somebody was told
        timeout=settings.timeout,
        naive_timeout=settings.naive_timeout,
        hold=settings.hold,
        planted=planted,
    )


def _wired(exits: AsyncExitStack, url: str) -> tuple[ChaosProxy, str]:
    """A wire to the store, and the URL of the store through it."""
    parts = urlsplit(url)
    wire = exits.enter_context(ChaosProxy(parts.port or 6379, parts.hostname or "127.0.0.1"))
    login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return wire, parts._replace(netloc=f"{login}127.0.0.1:{wire.port}").geturl()


def _builders(
    settings: Settings, url: str, hook: Hook, control: Callable[[], ModeFile], left: Path
) -> dict[str, tuple[Build, Build]]:
    """How routers are built, and their heirs, which hand on a copy in a file; nobody writes that for a naive one."""
    policy = replace(POLICY, ttl=settings.ttl, stale_for=300, timeout=settings.timeout)
    breaker = BreakerPolicy(hold=settings.hold, max_hold=2 * settings.hold)  # a minute here stands for an hour

    def naive(directory: Directory) -> Router:
        return NaiveRouter(directory, url, ttl=settings.ttl, timeout=settings.naive_timeout)

    def resilient(directory: Directory) -> Router:
        return ResilientRouter(
            directory, url, policy=policy, breaker=breaker, memory=0, control=control(), hooks=[hook]
        )

    def heir(directory: Directory) -> Router:
        return ResilientRouter(directory, url, policy=policy, breaker=breaker, snapshot=left, hooks=[hook])

    return {"naive": (naive, naive), "resilient": (resilient, heir)}


def _contender(exits: AsyncExitStack, lane: Lane, directory: Directory, build: Build, heir: Build) -> Contender:
    contender = Contender(lane, directory, build, heir)
    exits.callback(directory.close)
    exits.push_async_callback(contender.aclose)
    return contender
