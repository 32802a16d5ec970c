"""Collecting what one vendor owes, for threads. Twin of `_async_replay.py`."""

from __future__ import annotations

from typing import final

from ._local import KEY
from ._sync_collector import Collector
from ._threads import Behind, Spawn, ask
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

    def _settle(self, debt: Debt) -> bool:
        vendor, key, began = self._vendor, debt.name[len(KEY) :], self._monotonic()
        until = began + vendor.guard.timeout
        answer = ask(vendor.guard, self._behind, Operation.DELETE, until, vendor.delete, key, here=True)
        return vendor.replayed(debt, answer, began)
