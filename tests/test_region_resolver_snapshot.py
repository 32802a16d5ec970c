"""The resilient router hands on what it knows: who starts while cache and record are gone sends visitors home."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from examples.region_resolver.directory import Directory, DirectoryDown, seeded
from examples.region_resolver.resilient import ResilientRouter

pytestmark = pytest.mark.realtime

NOWHERE = "redis://127.0.0.1:1"


def test_a_router_leaves_its_regions_to_the_next_one(tmp_path: Path) -> None:
    tenants = seeded(tmp_path / "record.sqlite", seed=3, count=6)
    left = tmp_path / "regions.snapshot"

    async def scene() -> None:
        with closing(Directory(tmp_path / "record.sqlite")) as directory:
            first = ResilientRouter(directory, NOWHERE, snapshot=left)
            await first.start()  # there is no file yet
            for tenant in tenants:
                assert (await first.resolve(tenant.hosts[0])).region.name == tenant.region
            await first.aclose()
            directory.down = True
            second = ResilientRouter(directory, NOWHERE, snapshot=left)
            await second.start()
            for tenant in tenants:
                answer = await second.resolve(tenant.hosts[0])
                assert (answer.region.name, answer.source) == (tenant.region, "stale")
            with pytest.raises(DirectoryDown):
                await second.resolve(tenants[0].hosts[1])
            await second.aclose()

    asyncio.run(scene())


def test_a_disk_that_takes_nothing_keeps_no_router_from_ending(tmp_path: Path) -> None:
    async def scene() -> None:
        seeded(tmp_path / "record.sqlite", seed=3, count=1)
        with closing(Directory(tmp_path / "record.sqlite")) as directory:
            router = ResilientRouter(directory, NOWHERE, snapshot=tmp_path / "no such folder" / "file")
            await router.start()
            await router.aclose()
            assert router.cache.health()["closed"] is True

    asyncio.run(scene())
