"""Calls to what stands beside the store, a durable journal or a backplane, for tasks. Twin: `_thread_calls`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from ._asyncio import Behind
from ._guard import Answer
from .entry import Duration, seconds

__all__ = ["FAILED", "attempt", "check_hedge", "each", "first", "hand_over", "perform", "turns"]

FAILED: Final = object()
"""In place of a result."""


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


T = TypeVar("T")


def check_hedge(hedge_after: Duration | None) -> float | None:
    """`hedge_after` in seconds. Raises `MisuseError` for what is none."""
    return None if hedge_after is None else seconds("hedge_after", hedge_after)


def turns(_: int) -> int:
    """How many calls share the time: they all have the same."""
    return 1


async def each(calls: Sequence[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
    """The answers of all."""
    return list(await asyncio.gather(*(call() for call in calls)))


async def first(
    asks: Sequence[Callable[[], Coroutine[Any, Any, Answer]]], hedge_after: float | None, behind: Behind
) -> Answer | None:
    """The first answer there is, None when none answered.

    With `hedge_after` the next is asked as well when those before have not answered by then. Whatever the first one
    says counts, and of the others what they have: that a stand-in has nothing is no reason to stop waiting. Who loses
    is left to end by itself.
    """
    if hedge_after is not None:
        return await _race(asks, hedge_after, behind)
    for ask in asks:
        answer = await ask()
        if answer.failed is None:
            return answer
    return None


async def _race(
    asks: Sequence[Callable[[], Coroutine[Any, Any, Answer]]], hedge_after: float, behind: Behind
) -> Answer | None:
    loop, tasks = asyncio.get_running_loop(), list[asyncio.Task[Answer]]()
    for ask in asks:
        tasks.append(loop.create_task(ask()))
        behind.keep(tasks[-1])
        until = loop.time() + hedge_after if len(tasks) < len(asks) else float("inf")
        while (winner := _winner(tasks)) is None and (waiting := [task for task in tasks if not task.done()]):
            left = until - loop.time()
            if left <= 0:
                break
            await asyncio.wait(waiting, timeout=min(left, 60.0), return_when=asyncio.FIRST_COMPLETED)
        if winner is not None:
            return winner
    return next((answer for answer in _answers(tasks) if answer is not None and answer.failed is None), None)


def _winner(tasks: Sequence[asyncio.Task[Answer]]) -> Answer | None:
    for place, answer in enumerate(_answers(tasks)):
        if answer is not None and answer.failed is None and (place == 0 or answer.value is not None):
            return answer
    return None


def _answers(tasks: Sequence[asyncio.Task[Answer]]) -> list[Answer | None]:
    """None for who has not answered; who is cancelled never will."""
    return [task.result() if task.done() and not task.cancelled() else None for task in tasks]
