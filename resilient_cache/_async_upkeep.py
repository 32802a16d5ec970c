"""What a cache does behind its callers, for tasks: collect what the store owes. Twin of `_sync_upkeep.py`."""

from __future__ import annotations

from typing import final

from ._async_collector import Collector
from ._async_store import Store
from ._asyncio import Behind, Spawn
from ._local import KEY
from ._rules import Rules
from .journal import Debt

__all__ = ["Upkeep"]


@final
class Upkeep(Collector):
    """The work behind one cache."""

    __slots__ = ("_store",)

    def __init__(self, rules: Rules, store: Store, behind: Behind, spawn: Spawn | None) -> None:
        super().__init__(rules.debts, behind, spawn, rules.monotonic)
        self._store = store

    async def _settle(self, debt: Debt) -> bool:
        began = self._monotonic()
        return self._debts.answered(debt, await self._store.delete_behind(debt.name[len(KEY) :]), began)
