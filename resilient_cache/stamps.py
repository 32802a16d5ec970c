"""Stamps: the moments loads and invalidations began, in microseconds, from a clock that never goes back.

A hybrid logical clock: the wall clock, so that processes that share a store can compare, carried on by the monotonic
one where the wall clock stands still or is set back, and at least 1 more than the stamp before. Nothing is read until
the first stamp is asked for, so a cache may be made where clocks do not run yet.
"""

from __future__ import annotations

import random
import time
from threading import RLock
from typing import Final, final

from .entry import MICROS
from .forking import renew
from .protocols import Clock

__all__ = ["SYSTEM_CLOCK", "SYSTEM_RANDOM", "Stamps", "SystemClock"]


@final
class SystemClock:
    """The clocks of the operating system."""

    __slots__ = ()
    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)


SYSTEM_CLOCK: Final = SystemClock()

_OWN: Final = random.Random()  # the system's own costs 0.7 us a number, this one 0.03
SYSTEM_RANDOM: Final = _OWN.random
"""From 0 to 1. Not `random.random`: somebody may have seeded that and count on its order, as Hypothesis does, and what
runs behind would draw from it at any moment. Drawn anew from the system in a forked child, or all workers of a server
would load again at one moment."""

renew(_OWN.seed)


RECENT: Final = 0.1


@final
class Stamps:
    """One process's stamps. Invariants: each `next()` is greater than every stamp given before; `now()` never falls."""

    __slots__ = ("_lock", "_monotonic", "_read", "_time", "latest")

    def __init__(self, clock: Clock, lock: RLock) -> None:
        self._time = clock.time
        self._monotonic = clock.monotonic
        self._lock = lock
        self.latest = 0
        self._read: tuple[int, float] | None = None  # the latest at the last reading, and the monotonic clock then

    def now(self) -> int:
        """The present moment, without claiming it."""
        with self._lock:
            return self._advance()

    def at(self, monotonic: float) -> int:
        """The present moment as of a reading of the monotonic clock that the caller has, 0.4 us sooner than `now`.

        The wall clock is looked at as well if it was not within `RECENT` seconds.
        """
        read = self._read
        if read is None or not 0.0 <= monotonic - read[1] < RECENT:
            return self.now()
        moment, latest = read[0] + int((monotonic - read[1]) * MICROS), self.latest
        return moment if moment > latest else latest

    def next(self) -> int:
        """A stamp of its own: later than every one before it."""
        with self._lock:
            return self.next_locked()

    def next_locked(self) -> int:
        """The same, for who has the lock."""
        self.latest = self._advance() + 1
        return self.latest

    def tick_locked(self) -> int:
        """Later than every stamp before it and earlier than every one after, but no reading of the time."""
        self.latest += 1
        return self.latest

    def _advance(self) -> int:
        wall, monotonic = self._time(), self._monotonic()
        latest, now = self.latest, int(wall * MICROS)
        if self._read is not None:
            carried = latest + int((monotonic - self._read[1]) * MICROS)
            if carried > now:
                now = carried
        if now > latest:
            self.latest = latest = now
        self._read = latest, monotonic
        return latest
