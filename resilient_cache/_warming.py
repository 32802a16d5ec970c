"""The decisions about a warm-up: what counts as loaded, what is tried again, and what the caller is told meanwhile."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sized
from dataclasses import replace
from typing import Any, final

from ._rules import Rules
from .errors import MisuseError, NotFound
from .outcome import Lookup, Progress, Source
from .policy import CachePolicy

__all__ = ["Tally", "patient"]

MOST = 1_000
"""Loads at once: each is a thread in one of the colours."""


def patient(rules: Rules, policy: Any) -> Any:
    """`policy`, with what is stale being loaded and waited for: whoever warms a cache has no use for an old value."""
    own = rules.policy if policy is None else policy
    return replace(own, refresh_behind=False) if isinstance(own, CachePolicy) and own.refresh_behind else policy


@final
class Tally:
    """What came of the keys of one warm-up. Raises `MisuseError` for arguments that can never be right."""

    __slots__ = ("_done", "_failed", "_progress", "_retries", "_rules", "_total", "concurrency", "loaded")

    def __init__(  # noqa: PLR0917 - the arguments of `warm`
        self, rules: Rules, keys: object, kinds: tuple[type, ...], concurrency: object, retries: object, progress: Any
    ) -> None:
        rules.check_open()
        if isinstance(keys, str | bytes) or not isinstance(keys, kinds):
            raise MisuseError(f"keys must be several keys, like a list or a generator of str, not {keys!r:.99}")
        self.concurrency = _whole("concurrency", concurrency, 1)
        self._retries = _whole("retries", retries, 0)
        if progress is not None and (not callable(progress) or inspect.iscoroutinefunction(progress)):
            raise MisuseError(f"progress must be a plain function of a Progress, not {progress!r}")
        self._rules = rules
        self._progress: Callable[[Progress], object] | None = progress
        self._total = len(keys) if isinstance(keys, Sized) else None
        self._done = 0
        self._failed = 0
        self.loaded = 0

    def again(self, outcome: Lookup[Any] | Exception, tries: int) -> float | None:
        """Seconds to wait before a key is tried again after `tries` retries, None when it is not."""
        return self._rules.pause(tries) if tries < self._retries and _failed(outcome) else None

    def ended(self, key: Any, outcome: Lookup[Any] | Exception) -> None:
        """One key is through; the caller is told. What its function raises changes nothing."""
        self._done += 1
        self._failed += _failed(outcome)
        self.loaded += isinstance(outcome, Lookup) and outcome.source is Source.LOADER
        if self._progress is not None:
            error = outcome if isinstance(outcome, Exception) and not isinstance(outcome, NotFound) else None
            said = Progress(self._done, self.loaded, self._failed, self._total, key, error)
            self._rules.reporter.hand_over(self._progress, said)


def _failed(outcome: Lookup[Any] | Exception) -> bool:
    """Whether the origin gave no answer; that there is none is one."""
    if isinstance(outcome, Lookup):
        return outcome.stale
    return not isinstance(outcome, NotFound)


def _whole(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST:
        raise MisuseError(f"{name} must be a whole number, {least} to {MOST}, not {value!r}")
    return value
