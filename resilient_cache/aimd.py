"""How many loads at once are good for an origin, found out by watching it: a pure machine.

Theory. More loads at once than an origin can work on only wait inside it: their time grows and nothing else does. So
the limit grows by one while loads are as quick as ever and as many as allowed are running, and shrinks by a tenth when
they take more than twice the least they have taken (additive increase, multiplicative decrease, as in TCP). What is
compared are means over as many loads as may run at once: the loads of one origin differ, and one slow record among
them says nothing.

The least is forgotten only at the lower bound. There fewer loads cannot be the cure, so what is seen there is how the
origin is now. Forgetting it always would let it follow the mean of an overload, and the limit would creep up for ever.
"""

from __future__ import annotations

from typing import Final, final

__all__ = ["Adaptive"]

LEAST: Final = 20
MOST: Final = 200
"""Fewer than 20 starve a service whose loads take 50 ms at 400 a second; more than 200 are an origin's whole pool."""

TOLERANCE: Final = 2.0
DECREASE: Final = 0.9
FORGET: Final = 0.1
"""The share of the way to what is seen now that the least goes with every round at the lower bound."""


@final
class Adaptive:
    """The limit: from 20 up to 200, or from and up to `most` where that is less than the one or more than the other.

    It begins low, because loads that are slow from the first, for they are too many, would count as quick.
    """

    __slots__ = ("_base", "_busy", "_count", "_sum", "least", "limit", "most")

    def __init__(self, most: int) -> None:
        self.limit = self.least = min(LEAST, most)
        self.most = max(MOST, most)
        self._base = 0.0  # the least mean of a round; 0: there was none yet
        self._count = 0
        self._sum = 0.0
        self._busy = False  # whether as many ran as were allowed

    def observe(self, seconds: float, running: int, *, failed: bool = False) -> int:
        """A load took `seconds`, and with it `running` were; the limit from now on.

        One that `failed` late says that the origin is slow; one that failed soon says nothing of how quick it is.
        """
        if failed and (not self._base or seconds <= TOLERANCE * self._base):
            return self.limit
        self._count += 1
        self._sum += seconds
        self._busy = self._busy or running >= self.limit
        if self._count >= self.limit:
            self._end_round(self._sum / self._count)
        return self.limit

    def back_off(self) -> int:
        """The origin says that it is too much; the limit from now on."""
        self.limit = max(self.least, int(self.limit * DECREASE))
        self._begin_round()
        return self.limit

    def _begin_round(self) -> None:
        self._count = 0
        self._sum = 0.0
        self._busy = False

    def _end_round(self, mean: float) -> None:
        if not self._base or mean < self._base:
            self._base = mean
        if mean <= TOLERANCE * self._base:
            if self._busy:
                self.limit = min(self.most, self.limit + 1)
        elif self.limit > self.least:
            self.limit = max(self.least, int(self.limit * DECREASE))
        else:
            self._base += FORGET * (mean - self._base)
        self._begin_round()
