"""The marks in the store, for tasks: asked for, made where there are none, and changed. Twin of `_sync_marks.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, final

from ._asyncio import Behind, ask, marks_of, quickest
from ._guard import Answer
from ._local import MARK
from ._request import Draft, Request
from ._rules import Rules
from .journal import Debt
from .outcome import Invalidation, Lookup, Operation

__all__ = ["MarkStore"]

FOREVER: Final = float("inf")


@final
class MarkStore:
    """The marks of one cache. Nothing here raises an `Exception`."""

    __slots__ = ("_behind", "_get_mark", "_prefix", "_quick", "_rules", "_set_mark", "_several")

    def __init__(self, rules: Rules, adapter: Any, behind: Behind) -> None:
        self._rules = rules
        self._quick = quickest(adapter)
        self._get_mark, self._set_mark, self._several = marks_of(adapter, self._quick)
        self._behind = behind
        self._prefix = f"{rules.name}!"  # the keys of entries go on with a colon

    async def look(self, request: Request, names: Iterable[str], since: float) -> None:
        """Ask for those of the marks that are to be known before something is written, unless that has been tried."""
        await self.ask(request, self._rules.marking.unsure(request, names), since)

    async def ask(self, request: Request, names: Iterable[str], since: float) -> None:
        """Ask for marks, and write those that the store does not have as they should be."""
        until = self._rules.within(request, since)
        for name in names:
            marking, asked = self._rules.marking, self._rules.monotonic()
            made = marking.heard(request, name, await self._get(name, until), asked)
            if made is not None:
                marking.written(name, made, await self._set(name, made.data, until), asked)

    async def judge(self, request: Request, answer: Answer) -> Lookup[Any] | None:
        """What the store said, judged again now that it has been asked for the marks in question."""
        await self.ask(request, request.unsure or (), request.since)
        return self._rules.judge(request, answer)

    async def sealed(self, request: Request, draft: Draft) -> bytes | None:
        """The bytes to write for `draft`, with the versions of its marks; None when it is not to be written."""
        names = self._rules.marking.of(draft)
        if names:
            since = self._rules.monotonic()
            await self.look(request, names, since)
            request.until = self._rules.within(request, since)
        return self._rules.sealing.seal(request, draft)

    async def revoke(self, request: Request) -> Invalidation:
        """Give the mark another version: what is stored with the one before is refused wherever that is known."""
        answer = None
        if request.gates.write:
            answer = await self._revoke(request.key, request.stamp, request.until)
            if answer.failed is None:
                self._rules.local.confirm(request.key, request.stamp, MARK)
        return self._rules.invalidated(request, answer)

    async def replay(self, debt: Debt, name: str) -> Answer:
        """Do what is owed; of what is confirmed, see whether it is still so: a write may have landed since.

        Nobody waits, so each call may take its timeout: a store that is slow would never confirm what takes three.
        """
        if debt.confirmed:
            answer = await self._get(name, FOREVER, here=True)
            if answer.failed is not None or self._rules.marking.holds(name, answer):
                return answer
        return await self._revoke(name, debt.stamp, FOREVER, here=True)

    async def _revoke(self, name: str, stamp: int, until: float, *, here: bool = False) -> Answer:
        marking, asked = self._rules.marking, self._rules.monotonic()
        answer = await self._get(name, until, here=here)
        made = marking.revoke(name, stamp, answer, asked, several=self._several)
        answer = await self._set(name, made.data, until, here=here)
        marking.written(name, made, answer, asked, own=True)
        return answer

    async def _get(self, name: str, until: float, *, here: bool = False) -> Answer:
        get = self._get_mark if self._rules.marking.knows(name) else self._store_get
        return await self._ask(until, Operation.GET, get, name, here=here)

    async def _set(self, name: str, data: bytes, until: float, *, here: bool = False) -> Answer:
        return await self._ask(until, Operation.SET, self._set_mark, name, data, self._rules.marking.life, here=here)

    async def _ask(
        self, until: float, operation: Operation, function: Callable[..., Any], name: str, *args: object, here: bool
    ) -> Answer:
        guard, key = self._rules.guard, self._prefix + name
        return await ask(guard, self._behind, operation, until, function, key, *args, here=here)

    def _store_get(self, key: str) -> Any:
        return self._quick.get(key)  # the method is looked up inside the guard: a lazy client may fail in it
