"""Collecting what one store owes, for tasks: all that is due, in rounds. Twin of `_sync_collector.py`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from ._asyncio import Behind, Spawn
from ._debts import BREATH, Debts
from ._task_ticker import BATCH, idle, ticker_for
from .entry import Duration, seconds
from .journal import Debt

__all__ = ["Collector"]

CLOSING: Final = 1.0
FOREVER: Final = float("inf")
IMPATIENT: Final = 0.25
"""Seconds after which whoever waits has everything asked for again."""


class Collector(ABC):
    """Asks one store for what it owes. Subclasses know how to ask."""

    __slots__ = ("__weakref__", "_closed", "_debts", "_monotonic", "_ticker")

    def __init__(self, debts: Debts, behind: Behind, spawn: Spawn | None, monotonic: Callable[[], float]) -> None:
        self._debts = debts
        self._monotonic = monotonic
        self._ticker = ticker_for(spawn, behind, monotonic)
        self._closed = False

    def soon(self) -> None:
        """See to it that what is due is done in time."""
        pause = self._pause(self._debts.pause())
        if pause is not None:
            self._ticker.at(pause, self)

    async def step(self, most: int = BATCH) -> float | None:
        """Ask for what is due; the seconds until there is more to do, None when nothing is owed."""
        if self._closed:
            return None
        return self._pause(self._debts.pause(await self._turn(most)))

    async def flush(self, timeout: Duration) -> int:
        """Ask for everything that is owed until it is confirmed or the time is over; how many are left."""
        debts, left = self._debts, seconds("timeout", timeout)
        debts.hurry()
        while debts.owed() and left > 0:
            began = self._monotonic()
            pause = debts.pause(await self._round(began + left)) or 0.0
            if pause > BREATH:  # each of them has been asked for
                pause = min(pause, IMPATIENT)
                debts.hurry()
            pause = min(pause, left) if debts.owed() else 0.0
            if pause:
                await idle(pause)
            left -= max(pause, self._monotonic() - began)  # a clock may stand still
        self.soon()
        return debts.owed()

    async def close(self) -> int:
        """Ask once more for everything, for as long as the store answers and at most CLOSING seconds; what is left."""
        self._closed = True
        self._debts.hurry(confirmed=True)
        until = self._monotonic() + CLOSING
        while await self._round(until):
            pass
        return self._debts.left()

    async def _turn(self, most: int) -> int:
        """What one step does; how often the store did as asked."""
        return await self._round(FOREVER, most)

    async def _round(self, until: float, most: int = BATCH) -> int:
        """Ask for at most `most` of what is due; how often the store did as asked."""
        settled = 0
        for _ in range(most):
            debt = self._debts.next() if self._monotonic() < until else None
            if debt is None:
                break
            settled += await self._settle(debt)
        return settled

    def _pause(self, pause: float | None) -> float | None:
        """The sooner of `pause` and of when there is something else to do."""
        return pause

    @abstractmethod
    async def _settle(self, debt: Debt) -> bool:
        """Ask for one; whether the store did as asked."""
