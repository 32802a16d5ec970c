"""Refreshes that met: found by the simulation, seed 1004615."""

from __future__ import annotations

import asyncio

import pytest

from resilient_cache import AsyncResilientCache, CachePolicy
from resilient_cache.testing import SeededLoop, Tape


@pytest.mark.parametrize("callers", [2, 3, 5])
def test_refreshes_that_run_behind_do_not_end_each_other_for_ever(callers: int) -> None:
    """With `load_timeout` loads start a turn later: each found its flight ended by another, and began anew."""

    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        cache = AsyncResilientCache[str, str](None, name="demo", memory=9, policy=CachePolicy(load_timeout=1.0))
        loads = 0

        async def load(key: str) -> str:
            nonlocal loads
            loads += 1
            return f"{key}{loads}"

        tasks = [loop.create_task(cache.refresh("k", load)) for _ in range(callers)]
        values = [await task for task in tasks]
        assert await cache.get("k") == f"k{loads}"
        await cache.aclose()
        return values

    loop = SeededLoop(Tape(), orderly=True)
    assert set(loop.run(main())) <= {f"k{number + 1}" for number in range(callers)}
    loop.close()
