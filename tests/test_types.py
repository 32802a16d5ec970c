"""The types that callers see. mypy and pyright check this file; running it checks that the same calls work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NewType, assert_type

from resilient_cache import AsyncResilientCache, Entry, Invalidation, Lookup, Mode, ResilientCache, fallback
from resilient_cache.adapters import AsyncMappingAdapter, MappingAdapter
from resilient_cache.bulk import Loaded
from resilient_cache.fallback import AsyncFallback, Fallback

Host = NewType("Host", str)


@dataclass(frozen=True)
class Region:
    """Where a tenant lives."""

    name: str


def find(host: Host) -> Region:
    return Region(f"home of {host}")


def find_briefly(host: Host) -> Entry[Region]:
    return Entry(Region(f"home of {host}"), ttl=5)


def find_all(hosts: list[Host]) -> dict[Host, Region]:
    return {host: find(host) for host in hosts}


def find_some(hosts: Iterable[Host]) -> Mapping[Host, Region | Entry[Region] | Exception]:
    return {host: find_briefly(host) for host in hosts}


async def afind(host: str) -> Region:
    return Region(f"home of {host}")


typed: ResilientCache[Host, Region] = ResilientCache(MappingAdapter(), name="typed", type=Region)
inferred = ResilientCache(MappingAdapter(), name="inferred", type=Region)


@inferred.cached
def briefly_of(host: str) -> Entry[Region]:
    return Entry(Region(f"home of {host}"), ttl=5)


@inferred.cached(key="either:{host}")
def either_of(host: str) -> Region | Entry[Region]:
    return Entry(Region(f"home of {host}"), ttl=5) if host else Region("nowhere")


@inferred.cached
def region_of(host: str, *, strict: bool = False) -> Region:
    return Region(f"home of {host}, {strict}")


def test_a_cached_function_that_gives_an_entry_gives_its_value() -> None:
    assert_type(briefly_of("shop.example"), Region)
    assert_type(either_of("shop.example"), Region)
    assert_type(either_of.refresh(""), Region)
    assert_type(briefly_of.__name__, str)
    assert (briefly_of("a"), either_of("a"), briefly_of.__name__) == (Region("home of a"),) * 2 + ("briefly_of",)


def test_what_is_set_may_be_an_entry() -> None:
    assert inferred.set("set", Entry(Region("eu"), tags=("acme",)))
    assert inferred.set_many({"a": Entry(Region("eu")), "b": Region("us")})
    plain: dict[str, Region] = {"a": Region("eu")}
    assert inferred.set_many(plain)


def test_circuits_and_health_are_asked_for_by_name() -> None:
    """As the documents do."""
    with inferred.circuits["read"].force_open():
        assert inferred.health()["circuits"]["read"]["state"] == "forced_open"


def test_the_sync_face_is_typed() -> None:
    host = Host("shop.example")
    assert_type(inferred, ResilientCache[str, Region])
    assert_type(typed.get_or_load(host, find), Region)
    assert_type(typed.get_or_load(host, find_briefly), Region)
    assert_type(typed.get(host), Region | None)
    assert_type(typed.get(host, 5), Region | int)
    assert_type(typed.lookup(host), Lookup[Region])
    assert_type(typed.refresh(host, find), Region)
    assert_type(typed.set(host, Region("eu")), bool)
    assert_type(typed.invalidate(host), Invalidation)
    assert_type(typed.get_or_load_many([host], find_all), Loaded[Host, Region])
    assert_type(typed.get_or_load_many([host], find_some)[host], Region)
    assert_type(typed.get_many([host]), dict[Host, Region])
    assert_type(typed.set_many({host: Region("eu")}), bool)
    assert_type(typed.invalidate_many([host]), Invalidation)
    assert_type(typed.mode, Mode)
    assert_type(region_of("shop.example", strict=True), Region)
    assert_type(region_of.lookup("shop.example"), Lookup[Region])
    assert_type(region_of.key("shop.example"), str)
    assert_type(fallback(MappingAdapter()), Fallback)
    assert typed.get(host) is None


def test_the_async_face_is_typed() -> None:
    async def main() -> None:
        async with AsyncResilientCache(AsyncMappingAdapter(), name="typed", type=Region) as cache:
            assert_type(cache, AsyncResilientCache[str, Region])
            assert_type(await cache.get_or_load("shop.example", afind), Region)
            assert_type(await cache.get_or_load("shop.example", lambda host: afind(host)), Region)
            assert_type(await cache.get("shop.example", "none"), Region | str)

            @cache.cached(key="region:{host}")
            async def region_of(host: str) -> Region:
                return await afind(host)

            assert_type(await region_of("shop.example"), Region)
            assert_type(await region_of.invalidate("shop.example"), Invalidation)
            assert_type(fallback(AsyncMappingAdapter()), AsyncFallback)

    asyncio.run(main())
