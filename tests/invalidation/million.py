"""Very many invalidations of a store that is dead: what a call costs, what is kept of them, and whether they hold.

`python -m tests.invalidation.million COLOUR PACE`, for a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from array import array
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resilient_cache import AsyncResilientCache, ResilientCache
from resilient_cache.adapters.redis import AsyncRedisAdapter, RedisAdapter

from ..servers import ValkeyServer
from .pace import NAME, PACES

__all__ = ["Flood", "flood"]

ROOT = Path(__file__).parents[2]
SETTLING = 0.1  # the share of the calls after which memory is full


@dataclass
class Flood:
    """Seconds, and bytes of the process. `old`: reads of what the store held, for the first and the last keys."""

    count: int
    p50: float
    p99: float
    longest: float
    grown: int
    pending: int
    old: int


def flood(colour: str, pace: str) -> Flood:
    """What was measured, in a process of its own."""
    command = [sys.executable, "-m", "tests.invalidation.million", colour, pace]
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return Flood(**json.loads(ended.stdout))


def resident() -> int:
    """The bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def drown(colour: str, pace: str) -> Flood:
    given = PACES[pace]
    sync = colour == "sync"
    kind: Any = RedisAdapter if sync else AsyncRedisAdapter
    make: Any = ResilientCache if sync else AsyncResilientCache
    with ValkeyServer() as server:
        cache = make(kind.from_url(f"redis://127.0.0.1:{server.port}"), name=NAME, policy=given.policy)

        async def call(method: str, *args: Any) -> Any:
            gave = getattr(cache, method)(*args)
            return gave if sync else await gave

        asked = [f"k{n}" for n in (*range(50), *range(given.count - 50, given.count))]
        for key in asked:
            assert await call("set", key, "old")
        server.command("SAVE")
        server.kill()
        while cache.circuits["write"].state != "open":
            await call("invalidate", "warm")
        took = array("d")
        before = 0
        for n in range(given.count):
            began = time.perf_counter()
            await call("invalidate", f"k{n}")
            took.append(time.perf_counter() - began)
            if not sync and n % 100 == 0:
                await asyncio.sleep(0)  # others have their turn, too
            if n == int(SETTLING * given.count):
                before = resident()
        grown, pending = resident() - before, cache.health()["pending_invalidations"]
        server.start()
        with cache.circuits["read"].force_closed():
            old = sum([await call("get", key) is not None for key in asked])
        await call("close" if sync else "aclose")
        ordered = sorted(took)
        return Flood(
            given.count, ordered[len(took) // 2], ordered[int(0.99 * len(took))], ordered[-1], grown, pending, old
        )


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(asyncio.run(drown(*sys.argv[1:3])))))
