"""Writes that a proxy holds back until the delete that came after them was acknowledged."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from resilient_cache import AsyncResilientCache, BreakerPolicy, CachePolicy, Invalidation, ResilientCache
from resilient_cache.adapters import from_functions
from resilient_cache.adapters.redis import AsyncRedisAdapter, RedisAdapter
from resilient_cache.testing import ChaosProxy, WireFault

from ..servers import ValkeyServer
from .pace import NAME, PACES, Pace

__all__ = ["Late", "late"]

NEVER_OPENS = BreakerPolicy(consecutive=100_000, failure_rate=1.0, min_calls=100_000)


@dataclass
class Late:
    """How many old values: that landed; that this process was given, at any time; that others were, after a while."""

    keys: int
    landed: int
    here: int
    others: int


def late(colour: str, pace: str) -> Late:
    given = PACES[pace]
    with ValkeyServer() as server, ChaosProxy(server.port) as proxy:
        policy = CachePolicy(
            ttl=60, timeout=0.05, jitter=0, inflight_max=given.again, max_store_calls=10_000, epoch_ttl=None
        )
        made = {"name": NAME, "policy": policy, "breaker": NEVER_OPENS}
        return (_late if colour == "sync" else _run_late)(given, server, proxy, made)


def _late(given: Pace, server: ValkeyServer, proxy: ChaosProxy, made: dict[str, Any]) -> Late:
    read, unread = keys_of(given)
    straight, held = (
        RedisAdapter.from_url(f"redis://127.0.0.1:{port}", timeout=0.05) for port in (server.port, proxy.port)
    )
    here: Any = ResilientCache(from_functions(straight.get, held.set, straight.delete, close=straight.close), **made)
    here.set("first", "old")  # before the wire is bad: what a cache reads and writes once
    before = stored(server)
    proxy.inject(WireFault.HOLE)
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(lambda key: here.get_or_load(key, lambda _: "old"), read + unread)) == {"old"}
    assert {here.invalidate(key) for key in read + unread} == {Invalidation.CONFIRMED}
    asked = time.monotonic()
    proxy.heal()
    wait_for(server, before + 2 * len(read), asked + given.again / 2)
    landed = stored(server) - before
    mine = sum(here.get(key) == "old" for key in read)
    time.sleep(max(0.0, asked + given.again + 0.5 - time.monotonic()))
    with ResilientCache(RedisAdapter.from_url(f"redis://127.0.0.1:{server.port}"), **made) as there:
        others = sum(there.get(key) == "old" for key in unread)
    mine += sum(here.get(key) == "old" for key in read + unread)
    here.close()
    held.close()
    return Late(len(unread), landed, mine, others)


def _run_late(given: Pace, server: ValkeyServer, proxy: ChaosProxy, made: dict[str, Any]) -> Late:
    return asyncio.run(_late_awaited(given, server, proxy, made))


async def _late_awaited(given: Pace, server: ValkeyServer, proxy: ChaosProxy, made: dict[str, Any]) -> Late:
    read, unread = keys_of(given)
    straight, held = (
        AsyncRedisAdapter.from_url(f"redis://127.0.0.1:{port}", timeout=0.05, max_connections=1_000)
        for port in (server.port, proxy.port)
    )
    here: Any = AsyncResilientCache(
        from_functions(straight.get, held.set, straight.delete, close=straight.aclose), **made
    )

    async def load(_: str) -> str:
        return "old"

    await here.set("first", "old")  # before the wire is bad: what a cache reads and writes once
    before = stored(server)
    proxy.inject(WireFault.HOLE)
    for first in range(0, 2 * len(read), 16):
        await asyncio.gather(*(here.get_or_load(key, load) for key in (read + unread)[first : first + 16]))
    assert {await here.invalidate(key) for key in read + unread} == {Invalidation.CONFIRMED}
    asked = time.monotonic()
    proxy.heal()
    await asyncio.to_thread(wait_for, server, before + 2 * len(read), asked + given.again / 2)
    landed = stored(server) - before
    mine = sum([await here.get(key) == "old" for key in read])
    await asyncio.sleep(max(0.0, asked + given.again + 0.5 - time.monotonic()))
    async with AsyncResilientCache(AsyncRedisAdapter.from_url(f"redis://127.0.0.1:{server.port}"), **made) as there:
        others = sum([await there.get(key) == "old" for key in unread])
    mine += sum([await here.get(key) == "old" for key in read + unread])
    await here.aclose()
    await held.aclose()
    return Late(len(unread), landed, mine, others)


def keys_of(given: Pace) -> tuple[list[str], list[str]]:
    """Those that this process reads as soon as they have landed, which deletes them, and those that it leaves alone."""
    return [f"read{n}" for n in range(given.keys)], [f"left{n}" for n in range(given.keys)]


def stored(server: ValkeyServer) -> int:
    """How many entries the store has."""
    return int(server.command("DBSIZE")[1:])


def wait_for(server: ValkeyServer, count: int, until: float) -> None:
    while stored(server) < count and time.monotonic() < until:
        time.sleep(0.005)
