"""When a key may be loaded again behind its callers: not at every request, or a failing origin would be asked at each.

A pause is for one entry, named by its stamp: whatever replaces that entry ends the pause with it. Bounded: the oldest
go first, which costs a load that comes too early.
"""

from __future__ import annotations

from typing import Final, final

from ._reentry import first

__all__ = ["MOST", "Pauses"]

MOST: Final = 10_000


@final
class Pauses:
    """The pauses of one cache. Called under the cache's lock. Times are monotonic seconds."""

    __slots__ = ("_pauses",)

    def __init__(self) -> None:
        self._pauses: dict[str, tuple[int, float]] = {}

    def paused(self, key: str, stamp: int, now: float) -> bool:
        """Whether the entry of `key` with `stamp`, or an older one, is not to be loaded again yet."""
        pause = self._pauses.get(key)
        return pause is not None and stamp <= pause[0] and now < pause[1]

    def put_locked(self, key: str, stamp: int, until: float, now: float) -> None:
        """Let the entry of `key` with `stamp` wait until `until`."""
        self._pauses.pop(key, None)
        self._pauses[key] = (stamp, until)
        oldest, full = first(self._pauses), len(self._pauses) > MOST  # one that is over goes for one that comes
        if oldest is not None and oldest in self._pauses and (full or self._pauses[oldest][1] <= now):
            del self._pauses[oldest]

    def __len__(self) -> int:
        """How many are kept, some that are over included."""
        return len(self._pauses)
