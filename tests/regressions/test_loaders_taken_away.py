"""A loader that ends by a cancellation that is none of its caller's: a pool that is closed cancels who waits for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from resilient_cache.testing import Fault

from ..laws.tasks import POLICY, Room
from ..virtual import pass_time


@pytest.mark.parametrize("seconds", [0.0, 0.01])
@pytest.mark.parametrize(
    ("policy", "fault"),
    [
        (replace(POLICY, load_timeout=1.0), None),
        (replace(POLICY, hedge_after=0.05), Fault.slow(0.2)),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_what_its_loader_was_cancelled_by_is_its_own_error(
    policy: Any, fault: Fault | None, many: bool, seconds: float
) -> None:
    """L3: it ran behind, and was begun anew by each who inherited it: 490 times, until Python gave up."""
    if fault is not None and many:
        return  # what is asked for many keys is not hedged
    room = Room(memory=0, policy=policy)
    loads: list[asyncio.CancelledError] = []

    async def load(_: Any) -> Any:
        await pass_time(seconds)
        loads.append(asyncio.CancelledError("the pool was closed"))
        raise loads[-1]

    async def main() -> None:
        if fault is not None:
            room.plan.during(fault)
        call = room.cache.get_or_load_many(["k"], load) if many else room.cache.get_or_load("k", load)
        with pytest.raises(asyncio.CancelledError) as caught:
            await call
        assert loads == [caught.value]
        assert room.cache.health()["flights"] == 0

    room.run(main)


def test_a_load_behind_that_is_cancelled_is_still_handed_over() -> None:
    """Its task was taken away, by a closing loop or whoever: the next of its callers loads."""
    room = Room(memory=0, policy=replace(POLICY, load_timeout=1.0))

    async def main() -> None:
        one = asyncio.ensure_future(room.load("k", 0.5))
        await pass_time(0.1)
        (behind,) = asyncio.all_tasks() - {asyncio.current_task(), one}
        behind.cancel()
        assert await one == 2

    room.run(main)
