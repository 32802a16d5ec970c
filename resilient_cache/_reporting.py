"""Counting and telling: plain integers, and hooks that can change nothing."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Final, TypeVar, final

from .errors import MisuseError
from .events import Event, Hook, Served
from .flights import LEADING
from .outcome import Reason, Source

__all__ = ["LOGGER", "Reporter", "Seldom"]

LOGGER: Final = logging.getLogger("resilient_cache")


Told = TypeVar("Told")


class _Telling(threading.local):
    """Set while hooks run in this thread: what a hook does with the cache is not told, or one that reads never ends.

    Of the thread, not of the context: a task that a hook starts would inherit that for ever.
    """

    now = False


TELLING: Final = _Telling()


@final
class Seldom:
    """Says yes at most once in `interval` seconds. A log line with its traceback costs 62 us, more than a request."""

    __slots__ = ("_interval", "_last")

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._last: float | None = None

    def due(self, now: float) -> bool:
        """Whether it is time again."""
        if self._last is not None and now - self._last < self._interval:
            return False
        self._last = now
        return True


@final
class Reporter:
    """The counters and the hooks of one cache. `tell` never raises an `Exception`, whatever a hook does."""

    __slots__ = ("_monotonic", "_seldom", "counts", "hooks", "name")

    def __init__(self, name: str, hooks: Iterable[Hook], monotonic: Callable[[], float]) -> None:
        self.name = name
        try:
            self.hooks = tuple(hooks)
        except TypeError:
            raise MisuseError(f"hooks must be a list of callables, not {type(hooks).__name__}") from None
        given: tuple[object, ...] = self.hooks
        for hook in given:
            if not callable(hook) or inspect.iscoroutinefunction(hook):
                raise MisuseError(f"hooks must be plain callables that take an event, not {hook!r}")
        self.counts: dict[str, int] = {}
        self._monotonic = monotonic
        self._seldom = Seldom(60.0)

    def count(self, name: str) -> None:
        """Add one. Atomic without a lock: CPython does not switch threads within this `+=` on a plain dict."""
        try:
            self.counts[name] += 1
        except KeyError:
            self.counts.setdefault(name, 0)
            self.counts[name] += 1

    def tell(self, event: Event) -> None:
        """Hand `event` to every hook. Not to be called under a lock."""
        if not self.hooks or TELLING.now:
            return
        leading = LEADING.get()
        TELLING.now = True
        LEADING.set(())
        try:
            for hook in self.hooks:
                self.hand_over(hook, event)
        finally:
            TELLING.now = False
            LEADING.set(leading)

    def tell_hit(self) -> None:
        """A request was answered from memory on the shortest way."""
        if self.hooks:
            self.tell(Served(self.name, Source.MEMORY, Reason.HIT))

    def hand_over(self, hook: Callable[[Told], object], event: Told) -> None:
        """Tell one function; what it raises is counted, and logged at most once a minute."""
        try:
            hook(event)
        except Exception:  # around a hook
            self.count("hook_errors")
            if self._seldom.due(self._monotonic()):
                LOGGER.warning("cache %s: a hook failed; it changed no outcome", self.name, exc_info=True)
