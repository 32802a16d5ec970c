"""The way back after an outage: the share of the keys that a store is given again, which grows step by step.

A store that comes back is cold and has everybody's refills to take at once. With a ramp it is given 1, 5, 25, then all
of 100 keys. Which keys come first follows from their bytes alone, so all processes pick the same ones: what one of them
writes, the others find. Pure: `now` is handed in, in monotonic seconds.
"""

from __future__ import annotations

import zlib
from typing import Final, final

__all__ = ["SHARES", "Ramp"]

SHARES: Final = (0.01, 0.05, 0.25, 1.0)
HASHES: Final = 2.0**32


@final
class Ramp:
    """Admits all keys until it begins, then the share of its step, each `step` seconds long; without a `step`, all."""

    __slots__ = ("_since", "_step")

    def __init__(self, step: float | None) -> None:
        self._step = step
        self._since: float | None = None

    def begin(self, now: float) -> None:
        """Start from the bottom, also where it is under way: what came back has gone again in between."""
        self._since = now

    def share(self, now: float) -> float:
        """The share of the keys that is admitted."""
        since, step = self._since, self._step
        if since is None or step is None:
            return 1.0
        return SHARES[int(min(max(0.0, now - since) / step, len(SHARES) - 1))]

    def admits(self, key: str, now: float) -> bool:
        """Whether `key` is among that share. Not by `hash`, which each process salts anew."""
        return zlib.crc32(key.encode()) < self.share(now) * HASHES
