"""The store, for threads, many keys at a time: a call for each chunk of them. Twin: `_async_batches.py`.

Where the adapter has no method for many, each key is a call of its own, and all of a chunk share its time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, cast, final

from ._bulk import split
from ._bulk_loads import is_a
from ._colours import forget, part_of, shard_of
from ._guard import NOT_ASKED, Answer
from ._local import KEY
from ._request import Draft, Request
from ._sync_marks import MarkStore
from ._sync_store import Store
from ._sync_upkeep import Upkeep
from ._thread_bench import spread
from ._threads import Behind, ask, many_of
from .errors import FailureKind, StoreError
from .marks import NAMESPACE
from .outcome import Lookup, Operation, Reason

__all__ = ["Batches"]

CHUNKS_AT_ONCE: Final = 4
KEYS_AT_ONCE: Final = 16
"""Store calls of one caller at once: others need some of the `max_store_calls` as well."""


@final
class Batches:
    """What a cache may do with its store, for many keys. Nothing here raises an `Exception`."""

    __slots__ = ("_adapter", "_behind", "_many", "_marks", "_prefix", "_rules", "_shard", "_store", "_upkeep")

    def __init__(self, store: Store, marks: MarkStore, upkeep: Upkeep, adapter: Any, behind: Behind) -> None:
        self._rules = store.rules
        self._store = store
        self._marks = marks
        self._upkeep = upkeep
        self._adapter = adapter
        self._behind = behind
        self._many = many_of(adapter)
        self._shard = shard_of(adapter)
        self._prefix = f"{self._rules.name}:"

    def read(self, requests: list[Request]) -> dict[str, Lookup[Any]]:
        """The entries that may be served as they are, by key; the other requests know why not."""
        if not requests:
            return {}
        answers = dict.fromkeys((request.key for request in requests), NOT_ASKED[Reason.BUSY])
        for request in requests:
            request.asked = True
        try:
            if not self._rules.debts.unread or self._upkeep.recover():
                self._spread("get_many", requests, partial(self._get, answers=answers))
        finally:
            self._upkeep.soon()
        since, judge = self._rules.monotonic(), self._rules.judge
        found = {request.key: judge(request, answers[request.key]) for request in requests}
        unsure = [request for request in requests if request.unsure]
        if unsure:  # asked for once, whatever the number of keys
            names = dict.fromkeys(name for request in unsure for name in request.unsure or ())
            self._marks.ask(unsure[0], names, since)
            found.update((request.key, judge(request, answers[request.key])) for request in unsure)
        return {key: entry for key, entry in found.items() if entry is not None}

    def look(self, requests: Iterable[Request]) -> None:
        """Ask for the namespace's mark if something that is loaded now is to be written."""
        self._look([(request, (NAMESPACE,)) for request in requests])

    def write(self, drafts: list[tuple[Request, Draft | None]], ended: Callable[[Request, bool], object]) -> None:
        """Write what is to be written; `ended` hears of each key whether the store has its value now."""
        if not drafts:
            return
        marking, seal = self._rules.marking, self._rules.sealing.seal
        try:
            self._look([(request, marking.of(draft)) for request, draft in drafts if draft is not None])
            sealed = [(request, draft and seal(request, draft)) for request, draft in drafts]
            for request, data in sealed:
                if data is None:
                    self._written(request, None, ended)
            entries = [(request, data) for request, data in sealed if data is not None]
            self._spread("set_many", entries, partial(self._set, ended=ended))
        finally:
            self._upkeep.soon()

    def delete(self, requests: list[Request]) -> dict[str, Answer]:
        """Have the store delete the keys; what it said of each that it was asked for."""
        answers: dict[str, Answer] = {}
        if not requests:
            return answers
        try:
            for request in requests:
                if request.stamp:
                    self._upkeep.note(KEY + request.key)
            asked = [request for request in requests if request.gates.write]
            self._spread("delete_many", asked, partial(self._delete, answers=answers))
        finally:
            self._upkeep.soon()
        return answers

    def _spread(self, method: str, items: list[Any], call: Callable[[list[Any]], Any]) -> None:
        together = method in self._many
        chunks = split(items, self._part if together else type, self._size)
        spread([partial(call, chunk) for chunk in chunks], CHUNKS_AT_ONCE if together else 1)

    def _get(self, chunk: list[Request], answers: dict[str, Answer]) -> None:
        until, keys = self._until(chunk[0]), [self._prefix + request.key for request in chunk]
        if "get_many" in self._many:
            answer = self._ask(until, Operation.GET, self._get_many, keys[0], keys)
            gave: Any = answer.value
            for request, key in zip(chunk, keys, strict=True):
                answers[request.key] = answer if answer.failed is not None else Answer(None, gave[key])
            return

        def get(request: Request, key: str) -> None:
            answers[request.key] = self._ask(until, Operation.GET, self._store.fetch, key)

        spread([partial(get, *pair) for pair in zip(chunk, keys, strict=True)], KEYS_AT_ONCE)

    def _set(self, chunk: list[tuple[Request, bytes]], ended: Callable[[Request, bool], object]) -> None:
        until = self._until(chunk[0][0])
        if "set_many" in self._many:
            entries = {self._prefix + request.key: (data, request.life) for request, data in chunk}
            answer = self._ask(until, Operation.SET, self._set_many, next(iter(entries)), entries)
            for request, _ in chunk:
                self._written(request, answer, ended)
            return

        def set_(request: Request, data: bytes) -> None:
            key = self._prefix + request.key
            answer = self._ask(until, Operation.SET, self._store.put, key, data, request.life)
            self._written(request, answer, ended)

        spread([partial(set_, *entry) for entry in chunk], KEYS_AT_ONCE)

    def _delete(self, chunk: list[Request], answers: dict[str, Answer]) -> None:
        until = self._until(chunk[0])
        for request in chunk:
            request.until = until
        if "delete_many" in self._many:
            call = partial(self._delete_many, {r: r.stamp or self._rules.local.stamps.now() for r in chunk})
            answer = self._ask(until, Operation.DELETE, call, self._prefix + chunk[0].key)
            answers.update((request.key, answer) for request in chunk)
            return

        def delete(request: Request) -> None:
            answers[request.key] = self._store.delete(request)

        spread([partial(delete, request) for request in chunk], KEYS_AT_ONCE)

    def _written(self, request: Request, answer: Answer | None, ended: Callable[[Request, bool], object]) -> None:
        stored = self._rules.written(request, answer)
        if not stored:
            self._upkeep.note(KEY + request.key)
        ended(request, stored)

    def _look(self, wanted: list[tuple[Request, Iterable[str]]]) -> None:
        unsure, since = self._rules.marking.unsure, self._rules.monotonic()
        names = dict.fromkeys(name for request, names in wanted for name in unsure(request, names))
        if names:
            self._marks.ask(wanted[0][0], names, since)

    def _ask(self, until: float, operation: Operation, function: Callable[..., Any], key: str, *args: object) -> Answer:
        return ask(self._rules.guard, self._behind, operation, until, function, key, *args)

    def _get_many(self, _: str, keys: list[str]) -> object:
        gave: object = self._adapter.get_many(keys)
        if not is_a(gave, Mapping):
            forget(gave)
            raise StoreError(FailureKind.UNKNOWN, f"get_many must give a mapping, not {type(gave).__name__}")
        values = cast("Mapping[str, object]", gave)
        return {key: values.get(key) for key in keys}

    def _set_many(self, _: str, entries: dict[str, tuple[bytes, float]]) -> object:
        gave: object = self._adapter.set_many(entries)
        return gave

    def _delete_many(self, stamps: dict[Request, int], _: str) -> object:
        gave: object = self._adapter.delete_many([self._prefix + request.key for request in stamps])
        if not hasattr(gave, "__await__"):  # else it has confirmed nothing yet
            for request, stamp in stamps.items():
                self._rules.local.confirm(request.key, stamp)
        return gave

    def _until(self, request: Request) -> float:
        return self._rules.within(request, self._rules.monotonic())

    def _part(self, item: Request | tuple[Request, bytes]) -> str:
        """The part of the store that hears of it: a call's outcome says nothing about another."""
        request = item if isinstance(item, Request) else item[0]
        return part_of(self._shard, self._prefix + request.key)

    @staticmethod
    def _size(item: Request | tuple[Request, bytes]) -> int:
        return 0 if isinstance(item, Request) else len(item[1])
