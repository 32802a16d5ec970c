"""The store of one cache, for threads: calls through the guard, each outcome an `Answer`. Twin: `_async_store.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

from ._guard import Answer
from ._request import Request
from ._rules import Rules
from ._threads import Behind, ask, quickest
from .outcome import Operation

__all__ = ["Store"]

_GET: Final = Operation.GET  # see `_rules.py`


@final
class Store:
    """What a cache may do with its store. Nothing here raises an `Exception`."""

    __slots__ = ("_adapter", "_behind", "_prefix", "_quick", "rules")

    def __init__(self, rules: Rules, adapter: Any, behind: Behind) -> None:
        self.rules = rules
        self._adapter = adapter
        self._quick = quickest(adapter)
        self._behind = behind
        self._prefix = f"{rules.name}:"

    def get(self, request: Request) -> Answer:
        """What the store has for the key."""
        return self._ask(request, _GET, self.fetch)

    def set(self, request: Request, data: bytes) -> Answer:
        """Put `data` there for `request.life` seconds."""
        return self._ask(request, Operation.SET, self.put, data, request.life)

    def delete(self, request: Request) -> Answer:
        """Delete the key; a word of the store that comes late counts too."""
        stamp = request.stamp or self.rules.local.stamps.now()

        def delete(store_key: str) -> object:
            gave: object = self._adapter.delete(store_key)
            done = 0 if hasattr(gave, "__await__") else stamp  # what is yet to be awaited has confirmed nothing
            self.rules.local.confirm(request.key, done)
            return gave

        return self._ask(request, Operation.DELETE, delete)

    def delete_behind(self, key: str) -> Answer:
        """Delete `key`, where nobody waits for it; if it is the probe of the circuit, here and now."""
        guard = self.rules.guard
        until = guard.monotonic() + guard.timeout
        return ask(guard, self._behind, Operation.DELETE, until, self._delete, self._prefix + key, here=True)

    def get_behind(self, key: str) -> Answer:
        """What the store has for `key`, where nobody waits for it."""
        guard = self.rules.guard
        until = guard.monotonic() + guard.timeout
        return ask(guard, self._behind, Operation.GET, until, self.fetch, self._prefix + key, here=True)

    def fetch(self, store_key: str) -> Any:
        """What to ask the store for `store_key` with; to be called inside the guard, as `put` is."""
        return self._quick.get(store_key)  # the method is looked up inside the guard: a lazy client may fail in it

    def put(self, store_key: str, data: bytes, life: float) -> Any:
        """What to put `data` there with, for `life` seconds."""
        return self._quick.set(store_key, data, life)

    def _delete(self, store_key: str) -> Any:
        return self._quick.delete(store_key)

    def _ask(self, request: Request, operation: Operation, function: Callable[..., Any], *args: object) -> Answer:
        guard, until = self.rules.guard, request.until
        return ask(guard, self._behind, operation, until, function, self._prefix + request.key, *args)
