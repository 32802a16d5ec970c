"""Letting time pass where it costs none."""

from __future__ import annotations

import asyncio
from typing import TypeVar, cast

from resilient_cache.testing import ManualLoop
from resilient_cache.testing.simulation.seeded import SeededLoop

__all__ = ["pass_time"]

T = TypeVar("T")


async def pass_time(seconds: float, result: T | None = None) -> T:
    """`asyncio.sleep`, in a loop whose time is virtual and in no other."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ManualLoop | SeededLoop), "this would really wait: mark the file as realtime"
    return cast("T", await asyncio.sleep(seconds, result))
