"""One process with a cache: `python -m tests.invalidation.worker COLOUR PORT PACE MEMORY`.

What it is to do is told line by line, as JSON: [method, keys]. So is the answer: what the method gave for each key.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from resilient_cache import AsyncResilientCache, ResilientCache
from resilient_cache.adapters.redis import AsyncRedisAdapter, RedisAdapter

from .pace import NAME, PACES


def options(pace: str, memory: str) -> dict[str, Any]:
    """What the cache is built with."""
    given = PACES[pace]
    return {"name": NAME, "policy": given.policy, "breaker": given.breaker, "memory": int(memory)}


def tell(given: object) -> None:
    sys.stdout.write(json.dumps(given) + "\n")
    sys.stdout.flush()


def main(port: str, pace: str, memory: str) -> None:
    adapter = RedisAdapter.from_url(f"redis://127.0.0.1:{port}", timeout=PACES[pace].timeout)
    cache: Any = ResilientCache(adapter, **options(pace, memory))
    while line := sys.stdin.readline():
        method, keys = json.loads(line)
        if method == "pending":
            tell(cache.health()["pending_invalidations"])
        elif method == "set":
            tell([cache.set(key, "old") for key in keys])
        else:
            tell([getattr(cache, method)(key) for key in keys])
    cache.close()


async def main_awaited(port: str, pace: str, memory: str) -> None:
    adapter = AsyncRedisAdapter.from_url(f"redis://127.0.0.1:{port}", timeout=PACES[pace].timeout)
    cache: Any = AsyncResilientCache(adapter, **options(pace, memory))
    while line := await asyncio.to_thread(sys.stdin.readline):
        method, keys = json.loads(line)
        if method == "pending":
            tell(cache.health()["pending_invalidations"])
        elif method == "set":
            tell([await cache.set(key, "old") for key in keys])
        else:
            tell([await getattr(cache, method)(key) for key in keys])
    await cache.aclose()


if __name__ == "__main__":
    if sys.argv[1] == "sync":
        main(*sys.argv[2:])
    else:
        asyncio.run(main_awaited(*sys.argv[2:]))
