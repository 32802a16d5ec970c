"""One store, several parts that fail one by one: a pair of circuits for each, so that a dead one closes no other.

An adapter names the part that a key lives on, its shard. Names are the adapter's and may change for ever, as addresses
do, so their number is bounded: a pair nobody has used for a while makes room for another, and while there is none, and
for a key that has no shard, calls share one pair. A pair that has made room still hears of its calls' endings, and
nobody minds.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Final, final

from ._reporting import Reporter
from .breaker import Breaker
from .flights import Waiter
from .outcome import Direction

__all__ = ["IDLE", "MOST_SHARDS", "Pair", "Partition"]

MOST_SHARDS: Final = 64
"""Circuits are kept for so many shards; it also bounds the values of the label."""

SIDES: Final = (Direction.READ, Direction.WRITE)

IDLE: Final = 600.0
"""Seconds without a call after which a shard's circuits may make room for another's."""


@final
class Pair:
    """The circuits of a store or of a shard of it, and who waits for calls through them."""

    __slots__ = ("circuits", "shard", "shut", "used", "waiting")

    def __init__(self, make: Callable[[Direction], Breaker], shard: str = "") -> None:
        self.shard = shard
        self.circuits = {direction: make(direction) for direction in SIDES}
        self.waiting: dict[Direction, dict[Waiter, None]] = {direction: {} for direction in SIDES}
        self.used = 0.0
        self.shut = False  # whether what is behind was not to be asked when it was last to be read

    def health(self, now: float) -> dict[str, object]:
        """The circuits as plain data."""
        return {
            str(direction): {"state": str(circuit.state), "retry_in": circuit.retry_in(now)}
            for direction, circuit in self.circuits.items()
        }


@final
class Partition:
    """Which pair of circuits a key's calls go through."""

    __slots__ = ("_lock", "_make", "_reporter", "_shard", "_shared", "pairs")

    def __init__(
        self,
        shard: Callable[[str], object],
        shared: Pair,
        make: Callable[[Direction], Breaker],
        reporter: Reporter,
        lock: RLock,
    ) -> None:
        self._shard = shard
        self._shared = shared
        self._make = make
        self._reporter = reporter
        self._lock = lock
        self.pairs: dict[str, Pair] = {}

    def pair(self, key: str, now: float) -> Pair:
        """The pair of the shard that `key` lives on. Never raises an `Exception`, whatever the adapter does."""
        try:
            shard = self._shard(key)
        except Exception:  # noqa: BLE001 - around a store
            shard = None
        if type(shard) is not str:
            self._reporter.count("shard_errors")
            return self._shared
        pair = self.pairs.get(shard) or self._new(shard, now)
        pair.used = now
        return pair

    def _new(self, shard: str, now: float) -> Pair:
        if not shard:
            return self._shared
        with self._lock:
            if len(self.pairs) >= MOST_SHARDS and shard not in self.pairs:
                oldest = min(self.pairs.values(), key=lambda pair: pair.used)
                if now - oldest.used < IDLE:
                    return self._shared
                del self.pairs[oldest.shard]
            return self.pairs.setdefault(shard, Pair(self._make, shard))
