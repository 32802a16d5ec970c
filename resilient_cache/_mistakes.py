"""Values that their users found wrong: which reports are heeded, and how often.

Theory. A report is a compare-and-invalidate. Whoever was given `seen` and learned that it is wrong says so; if that is
what the cache would still give, the key is invalidated and the next request loads it. If something else is there by
now, somebody was quicker, and nothing happens. What nobody can look at counts as `seen`: a miss is always allowed.

Whoever reports may be mistaken, for ever and about everything, and must not turn the cache off by it. So a key is
invalidated at most once per `stale_retry`, and at most `MOST` of them are in that time; single flight makes of each of
these one load. Reports beyond that are turned away; none is remembered and heeded later.
"""

from __future__ import annotations

from typing import Any, Final, final

from ._reentry import first
from ._request import Failure, Request
from ._rules import Rules
from .outcome import Lookup, Mistake
from .policy import float_of

__all__ = ["Mistakes"]

MOST: Final = 1_000


@final
class Mistakes:
    """The reports to one cache. `==` of values is called outside the lock."""

    __slots__ = ("_every", "_heeded", "_rules")

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._every = float_of(rules.policy.stale_retry)
        self._heeded: dict[str, float] = {}  # when, the earliest first

    def recall(self, request: Request) -> Lookup[Any] | Failure | None:
        """What this process would answer by itself."""
        request.loads = True  # to one who has a loader: what stands in counts, too
        return self._rules.recall(request)

    def may_heed(self, key: str) -> bool:
        """Whether a report about `key` would be heeded now: else there is no need to ask the store."""
        with self._rules.guard.lock:
            return self._may_heed_locked(key)

    def judge(self, request: Request, found: Lookup[Any] | Failure | None, seen: object, since: int) -> Mistake | None:
        """None when the key is invalidated now, in this process, and the store is to be told; else what to say.

        `since` is the stamp of the moment the report was made.
        """
        if not self._is_current(request, found, seen):
            return Mistake.OTHER
        local, key = self._rules.local, request.key
        with self._rules.guard.lock:
            if not self._may_heed_locked(key):
                return Mistake.TOO_SOON
            if local.fences.at(key) > since or local.latest_locked(key) > since:
                return Mistake.OTHER
            self._heeded[key] = local.now()
            request.stamp = local.invalidate(key)
        return None

    def told(self, mistake: Mistake) -> Mistake:
        """Count what came of a report."""
        self._rules.reporter.count(f"mistakes_{mistake}")
        return mistake

    def _is_current(self, request: Request, found: Lookup[Any] | Failure | None, seen: object) -> bool:
        if isinstance(found, Failure):  # the origin said that there is none
            return seen is None
        held = found if found is not None else request.stand_in
        if held is not None and self._is_same(held.value, seen):
            return True
        return found is None and self._is_unknown(request)

    def _is_same(self, held: Any, seen: object) -> bool:
        try:
            return held is seen or bool(held == seen)
        except Exception:  # noqa: BLE001 - around the values' own function
            self._rules.reporter.count("compare_errors")
            return True

    def _is_unknown(self, request: Request) -> bool:
        if not request.gates.memory:
            return True
        return self._rules.has_store and not request.answered

    def _may_heed_locked(self, key: str) -> bool:
        now = self._rules.monotonic()
        while (oldest := first(self._heeded)) is not None and now - self._heeded.get(oldest, now) >= self._every:
            self._heeded.pop(oldest, None)
        return key not in self._heeded and len(self._heeded) < MOST
