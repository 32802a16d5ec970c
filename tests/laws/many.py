"""What the laws of bulk calls share: stores that know no bulk calls, and many single calls in place of one for many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resilient_cache import Entry, Invalidation, NoSafeValue, NotFound

from .stage import Stage

KEYS = ("a", "b", "c", "d", "e")


class Bare:
    """A store with the three methods, and no others."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.entries = store.inner.entries

    def get(self, key: str, /) -> Any:
        return self.store.get(key)

    def set(self, key: str, value: bytes, ttl: float, /) -> Any:
        return self.store.set(key, value, ttl)

    def delete(self, key: str, /) -> Any:
        return self.store.delete(key)


class AsyncBare(Bare):
    """The same with coroutines."""

    async def get(self, key: str, /) -> Any:
        return await self.store.get(key)

    async def set(self, key: str, value: bytes, ttl: float, /) -> Any:
        return await self.store.set(key, value, ttl)

    async def delete(self, key: str, /) -> Any:
        return await self.store.delete(key)


class OriginDown(Exception):
    """The origin's own error."""


def answer(key: str, kind: str, number: int) -> Any:
    """What the origin gives for one key: a value, or an exception that stands for it."""
    value = [key, number]
    answers: dict[str, Callable[[], Any]] = {
        "value": lambda: value,
        "entry": lambda: Entry(value, ttl=1.125, stale_for=20),
        "none": lambda: None,
        "error": lambda: OriginDown(key),
        "missing": lambda: NotFound(key),
        "left out": lambda: NotFound(key),
    }
    return answers[kind]()


class Together(Stage):
    """A cache that is asked for many keys at once."""

    def get_all(self, keys: list[str]) -> Any:
        return self.get_many(keys)

    def load_all(self, keys: list[str], kinds: dict[str, str], number: int, down: Exception | None) -> Any:
        """The values and the keys of errors; or the error that was raised."""

        def give(missing: list[str]) -> Any:
            assert len(set(missing)) == len(missing)
            if down is not None:
                raise down
            return {key: answer(key, kinds[key], number) for key in missing if kinds[key] != "left out"}

        try:
            loaded = self.get_or_load_many(keys, self.many_loader(give))
        except OriginDown as error:
            return error
        assert all(isinstance(error, OriginDown | NoSafeValue) for error in loaded.errors.values())
        return dict(loaded), set(loaded.errors)

    def many_loader(self, give: Callable[[list[str]], Any]) -> Any:
        async def awaited(missing: list[str]) -> Any:
            return give(missing)

        return give if self.colour == "sync" else awaited

    def set_all(self, values: dict[str, Any], ttl: float | None) -> bool:
        stored: bool = self.set_many(values, ttl=ttl)
        return stored

    def invalidate_all_of(self, keys: list[str]) -> Any:
        return self.invalidate_many(keys)


class OneByOne(Together):
    """The model: a cache that is asked for one key after the other, which other laws are about."""

    def get_all(self, keys: list[str]) -> Any:
        nothing = object()
        found = {key: self.get(key, nothing) for key in dict.fromkeys(keys)}
        return {key: value for key, value in found.items() if value is not nothing}

    def load_all(self, keys: list[str], kinds: dict[str, str], number: int, down: Exception | None) -> Any:
        values: dict[str, Any] = {}
        errors: set[str] = set()
        raised: list[Exception] = []
        for key in dict.fromkeys(keys):
            given = answer(key, kinds[key], number) if down is None else down
            try:
                values[key] = self.load(key, given)
            except NotFound:
                continue
            except (OriginDown, NoSafeValue) as error:
                errors.add(key)
                raised.append(error)
        return down if down is not None and down in raised else (values, errors)

    def set_all(self, values: dict[str, Any], ttl: float | None) -> bool:
        return min([self.set(key, value, ttl=ttl) for key, value in values.items()], default=True)  # each is set

    def invalidate_all_of(self, keys: list[str]) -> Any:
        words = {self.invalidate(key) for key in dict.fromkeys(keys)}
        return Invalidation.PENDING if Invalidation.PENDING in words else Invalidation.CONFIRMED
