"""The marks in the store, for tasks: asked for, made where there are none, and changed. Twin of `_sync_marks.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, final

from ._asyncio import Behind, ask
from ._guard import Answer
from ._request import Request
from ._rules import Rules
from .outcome import Invalidation, Operation

__all__ = ["MarkStore"]


@final
class MarkStore:
    """The marks of one cache."""

    __slots__ = ("_behind", "_prefix", "_rules", "_store")

    def __init__(self, rules: Rules, store: Any, behind: Behind) -> None:
        self._rules = rules
        self._store = store
        self._behind = behind
        self._prefix = f"{rules.name}!"  # the keys of entries go on with a colon

    async def look(self, request: Request, names: Iterable[str], until: float) -> None:
        """Ask the store for marks, and write those which it does not have as they should be. Over at `until`."""
        for name in names:
            marking, asked = self._rules.marking, self._rules.monotonic()
            made = marking.heard(request, name, await self._get(name, until), asked)
            if made is not None:
                marking.written(name, made, await self._set(name, until, made.data), asked)

    async def revoke(self, request: Request) -> Invalidation:
        """Give the mark another version: what is stored with the one before is refused wherever that is known."""
        rules, name, answer = self._rules, request.key, None
        if request.gates.write:
            made = rules.marking.revoke(request, await self._get(name, request.until))
            answer = await self._set(name, request.until, made.data)
            rules.marking.written(name, made, answer, request.since, request.stamp)
        return rules.invalidated(request, answer)

    async def _get(self, name: str, until: float) -> Answer:
        return await self._ask(until, Operation.GET, self._store_get, name)

    async def _set(self, name: str, until: float, data: bytes) -> Answer:
        life = self._rules.marking.life
        return await self._ask(until, Operation.SET, self._store_set, name, data, life)

    async def _ask(
        self, until: float, operation: Operation, function: Callable[..., Any], name: str, *args: object
    ) -> Answer:
        return await ask(self._rules.guard, self._behind, operation, until, function, self._prefix + name, *args)

    def _store_get(self, key: str) -> Any:
        return self._store.get(key)  # the method is looked up inside the guard: a lazy client may fail in it

    def _store_set(self, key: str, data: bytes, life: float) -> Any:
        return self._store.set(key, data, life)
