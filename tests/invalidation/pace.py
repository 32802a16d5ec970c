"""The numbers of a run: what the caches are given, how many keys, and for how long the store is gone."""

from __future__ import annotations

from dataclasses import dataclass

from resilient_cache import BreakerPolicy, CachePolicy
from resilient_cache.policy import float_of

__all__ = ["NAME", "PACES", "Pace"]

NAME = "moves"
LONGEST_PAUSE = 5.0


@dataclass(frozen=True)
class Pace:
    """`held`: the seconds for which the store is gone. `count`: how many invalidations of a dead store."""

    policy: CachePolicy
    breaker: BreakerPolicy
    keys: int
    held: float
    count: int

    @property
    def timeout(self) -> float:
        return float_of(self.policy.timeout)

    @property
    def again(self) -> float:
        """When the second delete comes."""
        return float_of(self.policy.inflight_max)

    @property
    def replay(self) -> float:
        """By when an invalidation is promised to be confirmed once the store is back: hold, pause, timeout."""
        return min(float_of(self.breaker.max_hold), 2 * self.held + 1) + LONGEST_PAUSE + self.timeout


PACES = {
    "quick": Pace(
        CachePolicy(ttl=3, stale_for=20, jitter=0, timeout=0.25, inflight_max=0.5),
        BreakerPolicy(hold=0.1, max_hold=0.2), keys=20, held=0.3, count=20_000,
    ),
    "defaults": Pace(
        CachePolicy(ttl=30, jitter=0), BreakerPolicy(), keys=200, held=3.0, count=1_000_000,
    ),
}  # fmt: skip
