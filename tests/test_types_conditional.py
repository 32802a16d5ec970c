"""Conditional loaders as callers see them typed. mypy and pyright check this file; running it checks the calls."""

from __future__ import annotations

import asyncio
from typing import assert_type

from resilient_cache import NOT_MODIFIED, AsyncResilientCache, Entry, Known, NotModified, ResilientCache, conditional


@conditional
def find(host: str, known: Known[int] | None) -> int | NotModified:
    return NOT_MODIFIED if known is not None and known.age < 60 else 1


@conditional
def find_briefly(host: str, known: Known[int] | None) -> Entry[int] | Entry[NotModified]:
    return Entry(1, ttl=5) if known is None else Entry(NOT_MODIFIED, ttl=5)


@conditional
async def afind(host: str, known: Known[int] | None) -> int | NotModified:
    return NOT_MODIFIED if known else 1


def test_the_sync_face_is_typed() -> None:
    cache = ResilientCache[str, int](None, name="typed", type=int)
    assert_type(cache.get_or_load("host", find), int)
    assert_type(cache.get_or_load("host", find_briefly), int)
    assert cache.refresh("host", find) == find("host") == 1


def test_the_async_face_is_typed() -> None:
    async def main() -> None:
        async with AsyncResilientCache[str, int](None, name="typed", type=int) as cache:
            assert_type(await cache.get_or_load("host", afind), int)
            assert await cache.refresh("host", afind) == await afind("host") == 1

    asyncio.run(main())
