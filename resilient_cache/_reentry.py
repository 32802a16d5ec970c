"""Looking at a container that a signal handler, or a finalizer, of the same thread may change at that very moment.

The lock of the cache is re-entrant, so it does not keep them out. They come where a call returns and where a loop goes
round, and nowhere else: a condition and the step that rests on it, with no call in between, are one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

__all__ = ["first"]

K = TypeVar("K")


def first(things: Mapping[K, object]) -> K | None:
    """The first key of `things`, None of nothing; by the time the caller looks it may be gone."""
    while True:
        try:
            return next(iter(things), None)
        except RuntimeError:  # changed in between
            continue
