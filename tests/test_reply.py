"""A reply wakes whoever waits for it at once, however it ends, and is a future to everybody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest

from resilient_cache._asyncio import Seat
from resilient_cache._reply import Reply


def looped(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @wraps(test)
    def run() -> None:
        asyncio.run(test())

    return run


@looped
async def test_value() -> None:
    reply = Reply()
    told: list[object] = []
    reply.at_once = lambda: told.append(reply.result())
    reply.give(b"v", None)
    assert told == [b"v"], "within the same turn"
    assert await reply == b"v"


@looped
async def test_error() -> None:
    reply = Reply()
    told: list[object] = []
    reply.at_once = lambda: told.append(reply.exception())
    error = OSError("gone")
    reply.give(None, error)
    assert told == [error]
    with pytest.raises(OSError, match="gone"):
        await reply


@looped
async def test_cancelled() -> None:
    """Once: who cancels what has ended changes nothing, and nobody is told again."""
    reply = Reply()
    told: list[bool] = []
    reply.at_once = lambda: told.append(reply.cancelled())
    assert reply.cancel()
    assert not reply.cancel()
    assert told == [True]


@looped
async def test_nobody_waits() -> None:
    reply = Reply()
    reply.give(1, None)
    assert await reply == 1


@looped
async def test_a_seat_that_was_woken_before_anybody_waits_needs_no_timer() -> None:
    seat = Seat()
    seat.wake()
    await seat.wait(3_600)
    assert seat._timer is None


@looped
async def test_a_seat_lets_go_of_its_timer() -> None:
    """When it is woken, and when whoever waits is taken away: or a cancelled crowd would be held for as long."""
    woken, left = Seat(), Seat()
    waiting = woken.wait(3_600)
    woken.wake()
    await waiting
    leaving = asyncio.ensure_future(left.wait(3_600))
    leaving.cancel()
    left.leave()
    timers = [seat._timer for seat in (woken, left)]
    assert [timer is not None and timer.cancelled() for timer in timers] == [True, True]
