"""Calls to what stands beside the store, a durable journal or a backplane, for tasks. Twin: `_thread_calls`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any, Final, TypeVar

__all__ = ["FAILED", "aside", "attempt", "hand_over", "perform", "put_off", "running"]

T = TypeVar("T")

FAILED: Final = object()
"""In place of a result."""

MOMENT: Final = 0.05
"""Seconds. A loop that was about to close has done so by then."""


def running() -> asyncio.AbstractEventLoop | None:
    """The loop that runs, None where none does, and for a coroutine that is closed, not awaited to its end.

    What a loop leaves unfinished is closed outside of it, or by a collection amid whatever another loop is doing.
    """
    return None if isinstance(sys.exception(), GeneratorExit) else asyncio._get_running_loop()


def put_off(loop: asyncio.AbstractEventLoop, action: Callable[[], object]) -> bool:
    """Have `action` called in a moment, when the task that runs here is being taken away.

    Its loop may be about to close, and asyncio complains of a task that was begun so late and never ended. A timer
    goes quietly.
    """
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        return False
    loop.call_later(MOMENT, action, context=Context())  # of nobody's request
    return True


async def aside(function: Callable[..., T], *args: Any) -> T:
    """What `function(*args)` gives or raises, from a thread: it works with files. Given up, it goes on to its end."""
    return await asyncio.to_thread(function, *args)


async def attempt(function: Callable[..., Any], *args: object) -> Any:
    """What a call of a durable journal gives, `FAILED` when it fails. In a thread: a disk may take its time."""
    try:
        return await asyncio.to_thread(function, *args)
    except Exception:  # noqa: BLE001 - around a store
        return FAILED


async def perform(function: Callable[..., Awaitable[Any]] | None, *args: object) -> Any:
    """What a coroutine function of a backplane gives, `FAILED` when it fails; None where there is none."""
    try:
        return None if function is None else await function(*args)
    except Exception:  # noqa: BLE001 - around a store
        return FAILED


async def hand_over(limit: float, function: Callable[..., Awaitable[Any]], *args: object) -> Any:
    """What publishing to a backplane gives, `FAILED` when it fails or takes longer than `limit` seconds."""
    try:
        async with asyncio.timeout(limit):
            return await perform(function, *args)
    except TimeoutError:
        return FAILED
