"""The routers of the region resolver over real HTTP and a real store, and the parts the demo is built from."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import ClientSession

from examples.region_resolver.damage import Damage
from examples.region_resolver.directory import REGIONS, Directory, Tenant, seeded
from examples.region_resolver.naive import NaiveRouter
from examples.region_resolver.resilient import ResilientRouter
from examples.region_resolver.traffic import NOBODYS, Ask, Crowd, Lane, Truth
from examples.region_resolver.upstreams import region_app, serving
from examples.region_resolver.web import Router, router_app
from resilient_cache import BreakerPolicy, CachePolicy
from resilient_cache.testing import ChaosProxy, WireFault

from .servers import ValkeyServer

pytestmark = pytest.mark.realtime

Build = Callable[[Directory, str], Router]


def naive(directory: Directory, url: str) -> Router:
    return NaiveRouter(directory, url, ttl=30, timeout=0.3)


def resilient(directory: Directory, url: str) -> Router:
    policy = CachePolicy(ttl=0.3, stale_for=30, timeout=0.1)
    return ResilientRouter(directory, url, policy=policy, breaker=BreakerPolicy(hold=0.05, max_hold=0.1), memory=0)


both = pytest.mark.parametrize("build", [naive, resilient])


@dataclass
class Service:
    """A router that is being served, and everything it depends on."""

    base: str
    http: ClientSession
    directory: Directory
    tenants: list[Tenant]
    wire: ChaosProxy

    async def get(self, host: str) -> tuple[int, str, dict[str, str]]:
        async with self.http.get(f"{self.base}/some/page", headers={"Host": host}) as reply:
            return reply.status, await reply.text(), {name.lower(): value for name, value in reply.headers.items()}

    async def move(self, tenant: Tenant, region: str) -> int:
        asked = {"tenant": tenant.name, "region": region}
        async with self.http.post(f"{self.base}/-/move", params=asked) as reply:
            return reply.status


@asynccontextmanager
async def served(build: Build, server: ValkeyServer, folder: Path) -> AsyncGenerator[Service]:
    tenants = seeded(folder / "record.sqlite", seed=3, count=6)
    with closing(Directory(folder / "record.sqlite")) as directory, ChaosProxy(server.port) as wire:
        url = f"redis://127.0.0.1:{wire.port}"
        async with (
            serving(region_app("eu")) as eu,
            serving(region_app("us")) as us,
            serving(router_app(build(directory, url), {"eu": eu, "us": us})) as base,
            ClientSession() as http,
        ):
            yield Service(base, http, directory, tenants, wire)


def play(build: Build, server: ValkeyServer, folder: Path, scene: Callable[[Service], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with served(build, server, folder) as service:
            await scene(service)

    asyncio.run(whole())


def other(region: str) -> str:
    return REGIONS[1 - REGIONS.index(region)]


@both
def test_a_host_is_answered_by_its_home_region_from_the_record_and_then_from_the_cache(
    build: Build, valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    async def scene(service: Service) -> None:
        headers: dict[str, str] = {}
        for tenant in service.tenants:
            for spelling in (tenant.hosts[0], tenant.hosts[0].upper(), f"{tenant.hosts[0]}.:443"):
                status, said, headers = await service.get(spelling)
                assert (status, said, headers["x-region"]) == (200, tenant.region, tenant.region)
                await asyncio.sleep(0.02)
        assert service.directory.lookups == len(service.tenants)
        assert headers["x-region-source"] in {"cache", "store"}

    play(build, valkey_server, tmp_path, scene)


@both
def test_what_is_no_host_name_is_400_and_reaches_neither_cache_nor_record(
    build: Build, valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    async def scene(service: Service) -> None:
        for bad in ("under_score.example", "[::1]:443", "192.0.2.7", "two..dots.example"):
            assert (await service.get(bad))[0] == 400
        assert service.directory.lookups == 0
        assert valkey_server.command("DBSIZE") == b":0"

    play(build, valkey_server, tmp_path, scene)


@both
def test_a_host_nobody_owns_is_404(build: Build, valkey_server: ValkeyServer, tmp_path: Path) -> None:
    async def scene(service: Service) -> None:
        for _ in range(2):
            assert (await service.get("nobody.example"))[0] == 404

    play(build, valkey_server, tmp_path, scene)


@both
def test_a_region_is_never_guessed_503_says_when_to_ask_again(
    build: Build, valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    async def scene(service: Service) -> None:
        service.directory.down = True
        status, said, headers = await service.get(service.tenants[0].hosts[0])
        assert status == 503
        assert headers["retry-after"] == "1"
        assert said not in REGIONS

    play(build, valkey_server, tmp_path, scene)


@pytest.mark.parametrize("break_it", [ValkeyServer.kill, ValkeyServer.freeze])
def test_the_resilient_router_answers_from_the_record_while_the_cache_is_gone(
    break_it: Callable[[ValkeyServer], None], valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    async def scene(service: Service) -> None:
        break_it(valkey_server)
        for tenant in service.tenants * 2:
            assert (await service.get(tenant.hosts[1]))[:2] == (200, tenant.region)

    play(resilient, valkey_server, tmp_path, scene)


@pytest.mark.parametrize("break_it", [ValkeyServer.kill, ValkeyServer.freeze])
def test_the_naive_router_fails_with_its_cache(
    break_it: Callable[[ValkeyServer], None], valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    async def scene(service: Service) -> None:
        host = service.tenants[0].hosts[0]
        assert (await service.get(host))[0] == 200
        break_it(valkey_server)
        assert (await service.get(host))[0] == 500

    play(naive, valkey_server, tmp_path, scene)


def test_the_resilient_router_serves_old_answers_while_the_record_is_down_and_says_so(
    valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    async def scene(service: Service) -> None:
        tenant = service.tenants[0]
        await service.get(tenant.hosts[0])
        await asyncio.sleep(0.4)
        service.directory.down = True
        status, said, headers = await service.get(tenant.hosts[0])
        assert (status, said, headers["x-region-source"]) == (200, tenant.region, "stale")

    play(resilient, valkey_server, tmp_path, scene)


def test_a_tenant_that_moved_while_the_cache_was_cut_off_goes_to_its_new_region_at_once_and_ever_after(
    valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    async def scene(service: Service) -> None:
        tenant = service.tenants[0]
        for host in tenant.hosts:
            assert (await service.get(host))[1] == tenant.region
        await asyncio.sleep(0.05)
        service.wire.inject(WireFault.CUT)
        assert await service.move(tenant, other(tenant.region)) == 200
        assert (await service.get(tenant.hosts[0]))[1] == other(tenant.region)
        assert int(valkey_server.command("DBSIZE")[1:]) >= 2
        service.wire.heal()
        for _ in range(20):
            for host in tenant.hosts:
                assert (await service.get(host))[1] == other(tenant.region)
            await asyncio.sleep(0.01)

    play(resilient, valkey_server, tmp_path, scene)


def test_a_move_says_whether_the_other_routers_know(valkey_server: ValkeyServer, tmp_path: Path) -> None:
    async def scene(service: Service) -> None:
        async def moved(tenant: Tenant) -> tuple[int, str]:
            asked = {"tenant": tenant.name, "region": other(tenant.region)}
            async with service.http.post(f"{service.base}/-/move", params=asked) as reply:
                return reply.status, await reply.text()

        assert await moved(service.tenants[0]) == (200, "moved, confirmed\n")
        service.wire.inject(WireFault.CUT)
        assert await moved(service.tenants[1]) == (200, "moved, pending\n")

    play(resilient, valkey_server, tmp_path, scene)


MOVES = [
    ({"region": "eu"}, 400), ({"tenant": "?"}, 400), ({"tenant": "?", "region": "mars"}, 400),
    ({"tenant": "?", "region": ""}, 400), ({"tenant": "nobody", "region": "eu"}, 404),
]  # fmt: skip


@both
def test_a_move_of_nobody_or_to_nowhere_changes_nothing(
    build: Build, valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    async def scene(service: Service) -> None:
        tenant = service.tenants[0]
        for asked, status in MOVES:
            named = {name: value.replace("?", tenant.name) for name, value in asked.items()}
            async with service.http.post(f"{service.base}/-/move", params=named) as reply:
                assert (reply.status, await reply.text() == "") == (status, False), asked
        assert (await service.get(tenant.hosts[0]))[:2] == (200, tenant.region)
        service.directory.down = True
        assert await service.move(tenant, other(tenant.region)) == 503

    play(build, valkey_server, tmp_path, scene)


@pytest.mark.parametrize("ends", [False, True])
def test_a_move_that_has_begun_is_carried_through_though_who_asked_for_it_has_gone(
    ends: bool, valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    """Between record and cache: else every router would name the old region until `ttl` is over."""
    (tenant, *_) = seeded(tmp_path / "record", seed=3, count=1)
    host = tenant.hosts[0]

    async def scene(directory: Directory) -> None:
        router = ResilientRouter(directory, valkey_server.url)
        for _ in range(2):
            assert (await router.resolve(host)).region.name == tenant.region
        directory.delay = 0.1
        moving = asyncio.ensure_future(router.move(tenant.name, other(tenant.region)))
        await asyncio.sleep(0.05)
        moving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await moving
        await (router.aclose() if ends else asyncio.sleep(0.3))
        after = ResilientRouter(directory, valkey_server.url) if ends else router
        assert (await after.resolve(host)).region.name == other(tenant.region)
        await after.aclose()

    with closing(Directory(tmp_path / "record")) as directory:
        asyncio.run(scene(directory))


def test_the_naive_router_sends_a_moved_tenant_to_its_old_region(valkey_server: ValkeyServer, tmp_path: Path) -> None:
    async def scene(service: Service) -> None:
        tenant = service.tenants[0]
        assert (await service.get(tenant.hosts[0]))[1] == tenant.region
        service.wire.inject(WireFault.CUT)
        assert await service.move(tenant, other(tenant.region)) == 500
        service.wire.heal()
        assert (await service.get(tenant.hosts[0]))[1] == tenant.region

    play(naive, valkey_server, tmp_path, scene)


def test_spoilt_values_break_the_naive_router_and_not_the_resilient_one(
    valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    async def seen(service: Service) -> list[bool]:
        for tenant in service.tenants:
            await service.get(tenant.hosts[0])
        await asyncio.sleep(0.05)
        damage = Damage(valkey_server.url, ["*"])
        assert await damage.spoil() - len(service.tenants) in (0, 1)  # the mark of the namespace as well
        assert await damage.spoil() == 0
        await damage.aclose()
        return [(await service.get(tenant.hosts[0]))[:2] == (200, tenant.region) for tenant in service.tenants]

    async def all_well(service: Service) -> None:
        assert all(await seen(service))

    async def not_well(service: Service) -> None:
        assert not all(await seen(service))

    for build, scene in ((resilient, all_well), (naive, not_well)):
        folder = tmp_path / scene.__name__
        folder.mkdir()
        play(build, valkey_server, folder, scene)
        valkey_server.command("FLUSHALL")


def test_the_same_seed_gives_the_same_record(tmp_path: Path) -> None:
    first, again, different = (seeded(tmp_path / name, seed, 20) for name, seed in [("a", 1), ("b", 1), ("c", 2)])
    assert first == again != different
    assert len({host for tenant in first for host in tenant.hosts}) == 40
    assert {tenant.region for tenant in first} == set(REGIONS)


def test_every_host_is_asked_for_in_the_second_half_of_an_act(tmp_path: Path) -> None:
    tenants = seeded(tmp_path / "record", 1, 10)
    asks = Crowd(tenants, random.Random(5)).draw(60)
    assert len(asks) == 60
    wanted = {host for tenant in tenants for host in tenant.hosts} | set(NOBODYS)
    assert wanted <= {ask.host for ask in asks[30:]}
    assert asks == Crowd(tenants, random.Random(5)).draw(60)


def test_a_lane_tells_a_wrong_region_and_a_wrong_404_from_a_failure() -> None:
    async def scene() -> None:
        lane = Lane("naive", Truth([Tenant("acme", "eu", ("acme.example",))]), 0.0)
        due = asyncio.get_running_loop().time()
        async with serving(region_app("us")) as base:
            await lane.aim(base)
            await lane.ask(Ask("acme.example", "acme.example"), due)
            await lane.ask(Ask("nobody-1.example", "nobody-1.example", 404), due)
            lane.truth.moving(Tenant("acme", "eu", ("acme.example",)), "us")
            await lane.ask(Ask("acme.example", "acme.example"), due)
        await lane.ask(Ask("acme.example", "acme.example"), due)
        await lane.aclose()
        assert [sample.wrong for sample in lane.samples] == [True, True, False, False]
        assert [sample.failed for sample in lane.samples] == [False, False, False, True]

    asyncio.run(scene())
