"""Refreshes that met: found by the simulation, seed 1004615."""

from __future__ import annotations

import asyncio

from resilient_cache import AsyncResilientCache, CachePolicy
from resilient_cache.testing.simulation import SeededLoop, Tape

from ..virtual import pass_time


def test_refreshes_that_run_behind_do_not_end_each_other_for_ever() -> None:
    """With `load_timeout` loads start a turn later: each found its flight ended by the next refresh, and began anew."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        cache = AsyncResilientCache[str, int](None, name="demo", memory=9, policy=CachePolicy(load_timeout=1.0))
        loads = 0

        async def load(_: str) -> int:
            nonlocal loads
            loads += 1
            return loads

        async def refresh(turns: int) -> int:
            for _ in range(turns):
                await pass_time(0)
            return await cache.refresh("k", load)

        values = [await task for task in [loop.create_task(refresh(turns)) for turns in (0, 0, 1, 2)]]
        assert await cache.get("k") == loads == max(values)
        await cache.aclose()

    loop = SeededLoop(Tape(), orderly=True)
    loop.run(main())
    loop.close()
