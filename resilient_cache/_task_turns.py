"""Several calls for one answer, for tasks: at once, or the next when one takes long. Twin: `_thread_turns.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias

from ._asyncio import Behind
from ._guard import Answer
from .entry import Duration, seconds

__all__ = ["Asking", "check_hedge", "each", "first", "turns"]

Asking: TypeAlias = Callable[[], Coroutine[Any, Any, Answer]]
"""Asks one vendor."""


def check_hedge(hedge_after: Duration | None) -> float | None:
    """`hedge_after` in seconds. Raises `MisuseError` for what is none."""
    return None if hedge_after is None else seconds("hedge_after", hedge_after)


def turns(_: int) -> int:
    """How many calls share the time: they all have the same."""
    return 1


async def each(calls: Sequence[Asking]) -> list[Answer]:
    """The answers of all."""
    return list(await asyncio.gather(*(call() for call in calls)))


async def first(asks: Sequence[Asking], hedge_after: float | None, behind: Behind) -> Answer | None:
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


async def _race(asks: Sequence[Asking], hedge_after: float, behind: Behind) -> Answer | None:
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
