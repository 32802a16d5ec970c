"""Calls to what stands beside the store, a durable journal or a backplane, for threads. Twin: `_task_calls`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

__all__ = ["FAILED", "aside", "attempt", "hand_over"]

T = TypeVar("T")

FAILED: Final = object()
"""In place of a result."""


def aside(function: Callable[..., T], *args: Any) -> T:
    """What `function(*args)` gives or raises."""
    return function(*args)


def attempt(function: Callable[..., Any], *args: object) -> Any:
    """What a call of a durable journal gives, `FAILED` when it fails."""
    try:
        return function(*args)
    except Exception:  # noqa: BLE001 - around a store
        return FAILED


def hand_over(_limit: float, function: Callable[..., Any], *args: object) -> Any:
    """What publishing to a backplane gives, `FAILED` when it fails; it bounds itself, for nothing here can."""
    return attempt(function, *args)
