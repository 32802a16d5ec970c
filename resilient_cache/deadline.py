"""The total deadline of the store operation that is running now, for adapters that can bound themselves.

A cache sets it around every store call; an adapter reads `remaining()` and gives its client no more than that. It
travels in a context variable because the adapter protocol is three plain methods and stays so.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

__all__ = ["remaining"]

CURRENT: ContextVar[tuple[float, Callable[[], float]] | None] = ContextVar("resilient_cache.deadline", default=None)
"""The moment the operation must be over and the monotonic clock that measures it, or None outside one."""


def remaining() -> float | None:
    """Seconds left for the current store operation, 0.0 when they are used up, None outside a guarded operation."""
    current = CURRENT.get()
    if current is None:
        return None
    until, monotonic = current
    return max(0.0, until - monotonic())
