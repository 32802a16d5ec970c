"""A router that is told by a region that it is wrong, and one that knows which regions there are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from aiohttp import ClientSession

from examples.region_resolver.__main__ import FAST
from examples.region_resolver.build import _builders
from examples.region_resolver.directory import REGIONS, Directory, DirectoryDown, Region, seeded
from examples.region_resolver.naive import NaiveRouter
from examples.region_resolver.process import Diary, Plan, resilient
from examples.region_resolver.resilient import POLICY, ResilientRouter
from examples.region_resolver.upstreams import region_app, serving
from examples.region_resolver.web import NotKnown, Router, router_app
from resilient_cache import Backpressure, CachePolicy
from resilient_cache.control import ModeFile

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
        not_known = (503, "the home region is not known now\n")
        asyncio.run(scene(directory, REGIONS, (200, tenant.region)))
        asyncio.run(scene(directory, (other(tenant.region),), not_known))
        asyncio.run(scene(directory, REGIONS, (200, tenant.region)))


class Busy(Directory):
    """A record that asks to be left alone."""

    async def lookup(self, host: str) -> Region:
        raise Backpressure(6.5)


BUSY = [
    pytest.param(Busy, POLICY, "7", id="backpressure"),
    pytest.param(partial(Directory, delay=5.0), replace(POLICY, load_timeout=0.05), "1", id="load timeout"),
    pytest.param(
        partial(Directory, delay=5.0), replace(POLICY, max_loads=1, load_wait=0.05, on_overload="raise"), "1", id="shed"
    ),
]


@pytest.mark.parametrize(("record", "policy", "later"), BUSY)
def test_a_load_that_is_shed_or_takes_too_long_is_503_and_says_when_to_come_back(
    record: Callable[[Path], Directory], policy: CachePolicy, later: str, valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    """Whatever a policy may make the cache raise, a visitor is not told that the router is broken."""
    hosts = [host for tenant in seeded(tmp_path / "record", 3, 4) for host in tenant.hosts][:2]

    async def scene(directory: Directory) -> None:
        router = ResilientRouter(directory, valkey_server.url, policy=policy)
        async with serving(router_app(router, {})) as base, ClientSession() as http:

            async def ask(host: str) -> tuple[int, str | None]:
                async with http.get(base, headers={"Host": host}) as reply:
                    return reply.status, reply.headers.get("Retry-After")

            first = asyncio.ensure_future(ask(hosts[0]))
            await asyncio.sleep(0.2)
            assert await ask(hosts[1]) == (503, later)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)

    with closing(record(tmp_path / "record")) as directory:
        asyncio.run(scene(directory))


def copied(directory: Directory, url: str) -> Router:
    return ResilientRouter(directory, url, policy=replace(POLICY, ttl=0.3))


def staged(directory: Directory, url: str) -> Router:
    settings = replace(FAST, ttl=0.3)
    builders = _builders(settings, url, Diary("resilient"), partial(ModeFile, "no such file"), Path("no such file"))
    return builders["resilient"][0](directory)


def of_a_process(directory: Directory, url: str) -> Router:
    plan = Plan("", 0, {}, url, "", "", ttl=0.3, timeout=0.25, naive_timeout=1, hold=1, planted=False)
    return resilient(plan, directory, Diary("resilient"), url, None)


@pytest.mark.parametrize("build", [copied, staged, of_a_process])
def test_while_the_record_hangs_an_old_answer_stands_in_soon(
    build: Callable[[Directory, str], Router], valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    (tenant, *_) = seeded(tmp_path / "record", 3, 4)

    async def scene(directory: Directory) -> None:
        router = build(directory, valkey_server.url)
        assert (await router.resolve(tenant.hosts[0])).region.name == tenant.region
        await asyncio.sleep(0.4)
        directory.delay = 60
        async with asyncio.timeout(5):
            answer = await router.resolve(tenant.hosts[0])
            assert (answer.region.name, answer.source) == (tenant.region, "stale")
            with pytest.raises(NotKnown):
                await router.resolve(tenant.hosts[1])
        await router.aclose()

    with closing(Directory(tmp_path / "record")) as directory:
        asyncio.run(scene(directory))


def test_a_record_that_breaks_is_one_that_cannot_be_asked(valkey_server: ValkeyServer, tmp_path: Path) -> None:
    """Locked, damaged, or with other tables: to a visitor it is the same."""
    (tenant, *_) = seeded(tmp_path / "record", 3, 4)

    async def scene(directory: Directory) -> None:
        router = ResilientRouter(directory, valkey_server.url)
        async with serving(router_app(router, {})) as base, ClientSession() as http:
            directory._connection.execute("alter table host rename to guest")
            async with http.get(base, headers={"Host": tenant.hosts[0]}) as reply:
                assert (reply.status, reply.headers.get("Retry-After")) == (503, "1")

    with closing(Directory(tmp_path / "record")) as directory:
        asyncio.run(scene(directory))


def test_a_record_that_is_closed_is_one_that_cannot_be_asked(tmp_path: Path) -> None:
    (tenant, *_) = seeded(tmp_path / "record", 3, 4)
    directory = Directory(tmp_path / "record")
    directory.close()
    with pytest.raises(DirectoryDown):
        asyncio.run(directory.lookup(tenant.hosts[0]))
    with pytest.raises(DirectoryDown):
        asyncio.run(directory.move(tenant.name, "eu"))
