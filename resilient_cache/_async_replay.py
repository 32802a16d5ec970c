"""Collecting what one vendor owes, for tasks. Twin of `_sync_replay.py`."""

from __future__ import annotations

from typing import final

from ._async_collector import Collector
from ._asyncio import Behind, Spawn, ask
from ._local import KEY
from ._vendors import Vendor
from .journal import Debt
from .outcome import Operation

__all__ = ["Replay"]


@final
class Replay(Collector):
    """Asks one vendor again for the deletes that it has not acknowledged."""

    __slots__ = ("_behind", "_vendor")

    def __init__(self, vendor: Vendor, behind: Behind, spawn: Spawn | None) -> None:
        super().__init__(vendor.debts, behind, spawn, vendor.guard.monotonic)
        self._vendor = vendor
        self._behind = behind

    async def _settle(self, debt: Debt) -> bool:
        vendor, key, began = self._vendor, debt.name[len(KEY) :], self._monotonic()
        until = began + vendor.guard.timeout
        answer = await ask(vendor.guard, self._behind, Operation.DELETE, until, vendor.delete, key, here=True)
        return vendor.replayed(debt, answer, began)
