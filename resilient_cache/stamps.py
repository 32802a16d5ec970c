"""Stamps: the moments loads and invalidations began, in microseconds, from a clock that never goes back.

A hybrid logical clock: the wall clock, so that processes that share a store can compare, carried on by the monotonic
one where the wall clock stands still or is set back, and at least 1 more than the stamp before. Nothing is read until
the first stamp is asked for, so a cache may be made where clocks do not run yet.
"""

from __future__ import annotations

import time
from threading import RLock
from typing import Final, final

from .entry import MICROS
from .protocols import Clock

__all__ = ["SYSTEM_CLOCK", "Stamps", "SystemClock"]


@final
class SystemClock:
    """The clocks of the operating system."""

    __slots__ = ()
    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)


SYSTEM_CLOCK: Final = SystemClock()


@final
class Stamps:
    """One process's stamps. Invariants: each `next()` is greater than every stamp given before; `now()` never falls."""

    __slots__ = ("_clock", "_last", "_lock", "_since")

    def __init__(self, clock: Clock, lock: RLock) -> None:
        self._clock = clock
        self._lock = lock
        self._last = 0
        self._since = 0.0

    def now(self) -> int:
        """The present moment, without claiming it."""
        with self._lock:
            return self._advance()

    def next(self) -> int:
        """A stamp of its own: later than every one before it."""
        with self._lock:
            self._last = self._advance() + 1
            return self._last

    def _advance(self) -> int:
        wall, monotonic = self._clock.time(), self._clock.monotonic()
        carried = self._last + int((monotonic - self._since) * MICROS) if self._last else 0
        self._last, self._since = max(self._last, carried, int(wall * MICROS)), monotonic
        return self._last
