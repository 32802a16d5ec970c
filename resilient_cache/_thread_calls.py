"""Calls to what stands beside the store, a durable journal or a backplane, for threads. Twin: `_task_calls`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from ._guard import Answer
from ._threads import Behind
from .entry import Duration
from .errors import MisuseError

__all__ = ["FAILED", "attempt", "check_hedge", "each", "first", "hand_over", "turns"]

FAILED: Final = object()
"""In place of a result."""


def attempt(function: Callable[..., Any], *args: object) -> Any:
    """What a call of a durable journal gives, `FAILED` when it fails."""
    try:
        return function(*args)
    except Exception:  # noqa: BLE001 - around a store
        return FAILED


def hand_over(_limit: float, function: Callable[..., Any], *args: object) -> Any:
    """What publishing to a backplane gives, `FAILED` when it fails; it bounds itself, for nothing here can."""
    return attempt(function, *args)


T = TypeVar("T")


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


def each(calls: Sequence[Callable[[], T]]) -> list[T]:
    """The answers of all."""
    return [call() for call in calls]


def first(asks: Sequence[Callable[[], Answer]], _: float | None, __: Behind) -> Answer | None:
    """The first answer there is, None when none answered."""
    for ask in asks:
        answer = ask()
        if answer.failed is None:
            return answer
    return None
