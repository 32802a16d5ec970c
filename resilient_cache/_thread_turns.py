"""Several calls for one answer, for threads: one after another. Twin: `_task_turns.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from ._guard import Answer
from ._threads import Behind
from .entry import Duration
from .errors import MisuseError

__all__ = ["Asking", "check_hedge", "each", "first", "turns"]

Asking: TypeAlias = Callable[[], Answer]
"""Asks one vendor."""


def check_hedge(hedge_after: Duration | None) -> float | None:
    """None. Raises `MisuseError` for anything else."""
    if hedge_after is not None:
        raise MisuseError(
            "hedge_after needs AsyncFailover: here every read would have to start a thread to be left behind in,"
            " which costs as much as a read"
        )
    return None


def turns(count: int) -> int:
    """How many calls share the time."""
    return count


def each(calls: Sequence[Asking]) -> list[Answer]:
    """The answers of all."""
    return [call() for call in calls]


def first(asks: Sequence[Asking], _: float | None, __: Behind) -> Answer | None:
    """The first answer there is, None when none answered."""
    for ask in asks:
        answer = ask()
        if answer.failed is None:
            return answer
    return None
