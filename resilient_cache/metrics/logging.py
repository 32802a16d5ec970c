"""A hook that writes a log a person can read during an outage: transitions at once, everything else as sums."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from threading import Lock
from typing import Final, final

from ..entry import Duration, seconds
from ..events import CircuitChanged, CircuitState, EntryRefused, Event, ModeChanged, Served, StoreCalled
from ..outcome import Source

__all__ = ["LoggingHook"]

OPENED: Final = (CircuitState.OPEN, CircuitState.FORCED_OPEN)


@final
class LoggingHook:
    """One line per change of a circuit or of the mode, and at most every `interval` seconds a summary per cache.

    Never a key or value. `logger`: by default "resilient_cache.events". An opened circuit and another mode are a
    WARNING, everything else INFO; a summary is written with the event that finds it due, so a cache that nobody uses
    says nothing.
    """

    def __init__(
        self,
        logger: logging.Logger | None = None,
        *,
        interval: Duration = 30.0,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        self._logger = logger or logging.getLogger("resilient_cache.events")
        self._interval = seconds("interval", interval)
        self._monotonic = monotonic or time.monotonic
        self._lock = Lock()
        self._counts: dict[str, Counter[str]] = {}
        self._summed: dict[str, float] = {}

    def __call__(self, event: Event, /) -> None:
        """Take note of `event`."""
        if isinstance(event, CircuitChanged):
            self._transition(event)
        elif isinstance(event, ModeChanged):
            self._logger.warning("cache %s: mode %s -> %s", event.cache, event.before, event.after)
        else:
            self._count(event)

    def _transition(self, event: CircuitChanged) -> None:
        level = logging.WARNING if event.after in OPENED else logging.INFO
        wait = f", next probe in {event.retry_in:.1f} s" if event.retry_in else ""
        whose = f" of {event.shard}" if event.shard else ""
        said = "cache %s: %s circuit%s %s -> %s%s"
        self._logger.log(level, said, event.cache, event.direction, whose, event.before, event.after, wait)

    def _count(self, event: Event) -> None:
        now = self._monotonic()
        with self._lock:
            counts = self._counts.setdefault(event.cache, Counter())
            for name in _names(event):
                counts[name] += 1
            since = self._summed.setdefault(event.cache, now)
            if now - since < self._interval:
                return
            self._counts[event.cache], self._summed[event.cache] = Counter(), now
        summary = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        self._logger.info("cache %s: in %.0f s: %s", event.cache, now - since, summary)


def _names(event: Event) -> list[str]:
    if isinstance(event, Served):
        if event.error:
            return ["error"]
        return ["miss" if event.source is Source.NONE else str(event.source)]
    if isinstance(event, StoreCalled):
        called = f"store {event.operation}"
        return [called] if event.failure is None else [called, f"{called} failed ({event.failure})"]
    if isinstance(event, EntryRefused):
        return [f"refused ({event.reason})"]
    return [type(event).__name__]
