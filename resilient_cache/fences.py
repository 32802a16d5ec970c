"""Fences: the remembered stamps of invalidations. What was stamped at or before its key's fence is never served.

Theory. Deleting is not enough: a delete can fail, a write that timed out can land after an acknowledged delete (50 of
50 in one measurement), a load that began earlier can finish later. A fence needs no store: it makes every older entry
unreadable in this process, wherever it comes from and however late. So it stands before the delete is tried and stays
after the delete is acknowledged.

Bounded. At most `capacity` fences are kept. The oldest goes first and leaves its stamp as the floor under all keys:
that costs misses for entries older than it and never serves an old value. A fence whose every possible victim has
outlived `life` (which readers enforce on every entry) is dropped without a trace.

Invariants.
  1 admits(key, stamp) implies stamp > every fence ever raised for key within `life`;
  2 the floor never falls, and rises before the fence it stands for goes, so a reader needs no lock;
  3 fences are kept in the order they were raised, which is that of their stamps but for calls that overlapped.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, final

from ._reentry import first

__all__ = ["CAPACITY", "Fences"]

CAPACITY: Final = 10_000


@final
class Fences:
    """The fences of one cache. Writers hold the cache's lock; readers need none. Stamps are microseconds."""

    __slots__ = ("_capacity", "_fences", "_life", "floor")

    def __init__(self, life: int, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._life = life
        self._fences: OrderedDict[str, int] = OrderedDict()
        self.floor = 0

    def at(self, key: str) -> int:
        """The stamp at or before which nothing of `key` may be served."""
        fence = self._fences.get(key, 0)
        floor = self.floor  # read after the fence: a fence that has gone meanwhile is in the floor already
        return max(fence, floor)

    def admits(self, key: str, stamp: int) -> bool:
        """Whether an entry or a flight stamped `stamp` may be served or shared."""
        return stamp > self._fences.get(key, 0) and stamp > self.floor  # in this order, as in `at`

    def raise_locked(self, key: str, stamp: int) -> None:
        """Refuse everything of `key` stamped at or before `stamp`. A later fence stays."""
        fences = self._fences
        if key not in fences or fences[key] < stamp:  # with no call in between: see `_reentry.py`
            fences[key] = stamp  # in place: a reader must not find it gone
        fences.move_to_end(key)
        oldest, full = first(fences), len(fences) > self._capacity  # one goes for one that comes
        if oldest is None or oldest not in fences:
            return
        fence = fences[oldest]
        if fence + self._life >= stamp:
            if not full:
                return
            if self.floor < fence:
                self.floor = fence
        del fences[oldest]

    def raise_floor_locked(self, stamp: int) -> None:
        """Refuse everything stamped at or before `stamp`, of whatever key; what is fenced before that is in it.

        Not what is fenced after it: a mark that an earlier process was owed may be older than one of its keys.
        """
        if self.floor < stamp:
            self.floor = stamp
        for key in list(self._fences):
            if key in self._fences and self._fences[key] <= self.floor:
                del self._fences[key]

    def __len__(self) -> int:
        """How many fences are kept."""
        return len(self._fences)
