"""What a cache does behind its callers, for tasks: collect what the store owes. Twin of `_sync_upkeep.py`."""

from __future__ import annotations

from typing import Final, final

from ._async_marks import MarkStore
from ._async_store import Store
from ._asyncio import Behind, Spawn, idle
from ._local import KEY, MARK
from ._request import Request
from ._rules import Rules
from ._task_ticker import ticker_for
from .entry import Duration, seconds
from .journal import Debt
from .outcome import Invalidation

__all__ = ["Upkeep"]

BATCH: Final = 100
CLOSING: Final = 1.0
FOREVER: Final = float("inf")


@final
class Upkeep:
    """The work behind one cache."""

    __slots__ = ("__weakref__", "_closed", "_marks", "_rules", "_store", "_ticker")

    def __init__(self, rules: Rules, store: Store, marks: MarkStore, behind: Behind, spawn: Spawn | None) -> None:
        self._rules = rules
        self._store = store
        self._marks = marks
        self._ticker = ticker_for(spawn, behind, rules.monotonic)
        self._closed = False

    def soon(self) -> None:
        """See to it that what is owed is asked for in time."""
        pause = self._rules.debts.pause()
        if pause is not None:
            self._ticker.at(pause, self)

    async def revoke(self, request: Request) -> Invalidation:
        """Have a mark changed, now and if need be behind; the word to give for it."""
        outcome = await self._marks.revoke(request)
        self.soon()
        return outcome

    async def step(self) -> float | None:
        """Ask for what is due; the seconds until there is more to do, None when nothing is owed."""
        if self._closed:
            return None
        return self._rules.debts.pause(await self._round(FOREVER))

    async def flush(self, timeout: Duration) -> int:
        """Ask for everything that is owed until it is confirmed or the time is over; how many are left."""
        debts, left = self._rules.debts, seconds("timeout", timeout)
        debts.hurry()
        while debts.owed() and left > 0:
            began = self._rules.monotonic()
            pause = debts.pause(await self._round(began + left)) or 0.0
            pause = min(pause, left) if debts.owed() else 0.0
            if pause:
                await idle(pause)
            left -= max(pause, self._rules.monotonic() - began)  # a clock may stand still
        self.soon()
        return debts.owed()

    async def close(self) -> int:
        """Ask once more for everything, for as long as the store answers and at most CLOSING seconds; what is left."""
        self._closed = True
        self._rules.debts.hurry(confirmed=True)
        until = self._rules.monotonic() + CLOSING
        while await self._round(until):
            pass
        return self._rules.debts.left()

    async def _round(self, until: float) -> int:
        """Ask for at most BATCH of what is due; how often the store did as asked."""
        debts, settled = self._rules.debts, 0
        for _ in range(BATCH):
            debt = debts.next() if self._rules.monotonic() < until else None
            if debt is None:
                break
            settled += await self._settle(debt)
        return settled

    async def _settle(self, debt: Debt) -> bool:
        began = self._rules.monotonic()
        if debt.name.startswith(MARK):
            answer = await self._marks.replay(debt, debt.name[len(MARK) :])
        else:
            answer = await self._store.delete_behind(debt.name[len(KEY) :])
        return self._rules.debts.answered(debt, answer, began)
