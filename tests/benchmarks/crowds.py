"""Thousands at once: as many keys while the store hangs, as many callers of one key. Prints JSON.

`outage` runs it in an interpreter of its own. What a crowd costs is to a third what the garbage collector takes to walk
it, and in one interpreter with ten other caches it would walk those as well, for nobody's sake.
"""

from __future__ import annotations

import asyncio
import json
import sys
from time import perf_counter, process_time
from typing import Final

from resilient_cache import AsyncResilientCache, CachePolicy

__all__ = ["KEYS", "LOAD", "WAITERS"]

KEYS: Final = 10_000
WAITERS: Final = 10_000
LOAD: Final = 0.05
PATIENT: Final = CachePolicy(ttl=60, timeout=0.05, max_loads=KEYS)  # as many loads at once as without a cache


class Hanging:
    """A store that never answers, and counts who asked."""

    def __init__(self) -> None:
        self.calls = 0

    async def get(self, _: str, /) -> bytes | None:
        """Nothing, for an hour."""
        self.calls += 1
        await asyncio.sleep(3_600)
        return None

    async def set(self, _: str, __: bytes, ___: float, /) -> None:
        """Nothing either."""
        await asyncio.sleep(3_600)

    async def delete(self, _: str, /) -> None:
        """Nothing either."""
        await asyncio.sleep(3_600)


async def _slow_load(key: str) -> str:
    await asyncio.sleep(LOAD)
    return key


async def _bare() -> float:
    began = perf_counter()
    await asyncio.gather(*(_slow_load(f"k{number}") for number in range(KEYS)))
    return perf_counter() - began


async def _hanging() -> tuple[float, int]:
    store = Hanging()
    cache: AsyncResilientCache[str, str] = AsyncResilientCache(store, name="hanging", policy=PATIENT)
    began = perf_counter()
    await asyncio.gather(*(cache.get_or_load(f"k{number}", _slow_load) for number in range(KEYS)))
    taken = perf_counter() - began
    await cache.aclose()
    return taken, store.calls


async def _waiters() -> tuple[float, int]:
    loads = 0

    async def load(key: str) -> str:
        nonlocal loads
        loads += 1
        return await _slow_load(key)

    async with AsyncResilientCache[str, str](None, name="waiters") as cache:
        began = process_time()
        await asyncio.gather(*(cache.get_or_load("a key", load) for _ in range(WAITERS)))
        return (process_time() - began) / WAITERS * 1e6, loads


def _turns(rounds: int) -> dict[str, list[float]]:
    """The three in turns: seconds without and with a cache, store calls; microseconds for a waiter, loads."""
    found: dict[str, list[float]] = {name: [] for name in ("without", "within", "calls", "waiting", "loads")}
    for _ in range(rounds):
        found["without"].append(asyncio.run(_bare()))
        taken, called = asyncio.run(_hanging())
        found["within"].append(taken)
        found["calls"].append(called)
        cost, loaded = asyncio.run(_waiters())
        found["waiting"].append(cost)
        found["loads"].append(loaded)
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_turns(int(sys.argv[1]))))
