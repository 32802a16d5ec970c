"""A router that is told by a region that it is wrong, and one that knows which regions there are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import ClientSession

from examples.region_resolver.directory import REGIONS, Directory, seeded
from examples.region_resolver.naive import NaiveRouter
from examples.region_resolver.resilient import POLICY, ResilientRouter
from examples.region_resolver.upstreams import region_app, serving
from examples.region_resolver.web import Router, router_app

from .servers import ValkeyServer

pytestmark = pytest.mark.realtime

Ask = Callable[[str], Awaitable[tuple[int, str]]]


@asynccontextmanager
async def serve(router: Router, directory: Directory) -> AsyncGenerator[Ask]:
    """A router before regions that serve the hosts that the record says are theirs."""

    def serves(region: str) -> Callable[[str], bool]:
        def is_mine(host: str) -> bool:
            found = directory._find(host)
            return found is not None and found.name == region

        return is_mine

    async with (
        serving(region_app("eu", serves("eu"))) as eu,
        serving(region_app("us", serves("us"))) as us,
        serving(router_app(router, {"eu": eu, "us": us})) as base,
        ClientSession() as http,
    ):

        async def ask(host: str) -> tuple[int, str]:
            async with http.get(base, headers={"Host": host}) as reply:
                return reply.status, await reply.text()

        yield ask


def other(region: str) -> str:
    return REGIONS[1 - REGIONS.index(region)]


@pytest.mark.parametrize("memory", [0, 100])
def test_a_region_that_says_421_is_not_asked_again_for_that_host(
    memory: int, valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    """A tenant has moved, and nobody has told the router; its visitors arrive all the same."""
    (tenant, *_) = seeded(tmp_path / "record", 3, 4)

    async def scene(router: Router, directory: Directory, *, right: bool) -> None:
        async with serve(router, directory) as ask:
            for host in tenant.hosts:
                assert await ask(host) == (200, tenant.region)
            await asyncio.sleep(0.05)
            await directory.move(tenant.name, other(tenant.region))
            lookups = directory.lookups
            for host in tenant.hosts * 3:
                assert await ask(host) == ((200, other(tenant.region)) if right else (421, tenant.region))
            assert directory.lookups == lookups + (len(tenant.hosts) if right else 0)
            await directory.move(tenant.name, tenant.region)

    with closing(Directory(tmp_path / "record")) as directory:
        router = ResilientRouter(directory, valkey_server.url, policy=replace(POLICY, timeout=1), memory=memory)
        asyncio.run(scene(router, directory, right=True))
    with closing(Directory(tmp_path / "record")) as directory:
        asyncio.run(scene(NaiveRouter(directory, valkey_server.url), directory, right=False))


def test_a_region_that_there_is_not_is_never_named(valkey_server: ValkeyServer, tmp_path: Path) -> None:
    """The record has lost its mind, or the store speaks of a region that was closed: 503, and nothing is kept."""
    (tenant, *_) = seeded(tmp_path / "record", 3, 4)

    async def scene(directory: Directory, regions: tuple[str, ...], expected: tuple[int, str]) -> None:
        router = ResilientRouter(directory, valkey_server.url, memory=10, regions=regions)
        async with serve(router, directory) as ask:
            assert (await ask(tenant.hosts[0])) == expected

    with closing(Directory(tmp_path / "record")) as directory:
        not_known = (503, "the home region of this host is not known now\n")
        asyncio.run(scene(directory, REGIONS, (200, tenant.region)))
        asyncio.run(scene(directory, (other(tenant.region),), not_known))
        asyncio.run(scene(directory, REGIONS, (200, tenant.region)))
