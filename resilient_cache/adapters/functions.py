"""Three functions as a store, and up to three more for many keys at once."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias, final, overload

from ..errors import MisuseError
from ..protocols import AsyncCacheAdapter, CacheAdapter
from .threads import ThreadedAdapter

__all__ = ["from_functions"]

Get: TypeAlias = Callable[[str], bytes | None]
Set: TypeAlias = Callable[[str, bytes, float], object]
Delete: TypeAlias = Callable[[str], object]
AsyncGet: TypeAlias = Callable[[str], Awaitable[bytes | None]]
AsyncSet: TypeAlias = Callable[[str, bytes, float], Awaitable[object]]
AsyncDelete: TypeAlias = Callable[[str], Awaitable[object]]
GetMany: TypeAlias = Callable[[Sequence[str]], Mapping[str, bytes]]
SetMany: TypeAlias = Callable[[Mapping[str, tuple[bytes, float]]], object]
DeleteMany: TypeAlias = Callable[[Sequence[str]], object]
AsyncGetMany: TypeAlias = Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]]
AsyncSetMany: TypeAlias = Callable[[Mapping[str, tuple[bytes, float]]], Awaitable[object]]
AsyncDeleteMany: TypeAlias = Callable[[Sequence[str]], Awaitable[object]]


@overload
def from_functions(
    get: Get,
    set: Set,
    delete: Delete,
    *,
    get_many: GetMany | None = None,
    set_many: SetMany | None = None,
    delete_many: DeleteMany | None = None,
    close: Callable[[], object] | None = None,
    threads: int | None = None,
    timeout: float = 0.25,
) -> CacheAdapter: ...


@overload
def from_functions(
    get: AsyncGet,
    set: AsyncSet,
    delete: AsyncDelete,
    *,
    get_many: AsyncGetMany | None = None,
    set_many: AsyncSetMany | None = None,
    delete_many: AsyncDeleteMany | None = None,
    close: Callable[[], Awaitable[object]] | None = None,
) -> AsyncCacheAdapter: ...


def from_functions(
    get: Any,
    set: Any,
    delete: Any,
    *,
    get_many: Any = None,
    set_many: Any = None,
    delete_many: Any = None,
    close: Any = None,
    threads: int | None = None,
    timeout: float = 0.25,
) -> CacheAdapter | AsyncCacheAdapter:
    """An adapter made of `get(key)`, `set(key, value, ttl)` and `delete(key)`: async for coroutine functions.

    `ttl` is in seconds; `get` gives bytes, or None when there are none; each raises when the store fails. `close`, of
    the same colour, is called by the adapter's `close()` or `aclose()`. For many keys in one call, where the store has
    that: `get_many(keys)` gives a mapping of those that are there to their bytes, `set_many(entries)` is given a
    mapping of keys to (value, ttl), `delete_many(keys)`.

    `threads=N` is for synchronous stores whose client has no timeout of its own: every call runs in a daemon thread
    and takes at most `timeout` seconds, or what the current operation has left; at most N run at once, and one more
    is rejected with `StoreError` of kind POOL. It costs 50 to 100 microseconds a call: prefer the client's timeout.

    Raises `MisuseError` for an argument that cannot be called, for a mixture of colours and for senseless numbers.
    """
    many = {"get_many": get_many, "set_many": set_many, "delete_many": delete_many}
    optional = {name: function for name, function in (many | {"close": close}).items() if function is not None}
    functions = {"get": get, "set": set, "delete": delete} | optional
    if _all_coroutines(functions):
        if threads is not None:
            raise MisuseError("threads is for synchronous functions; a coroutine is bounded by the cache")
        return _AsyncFunctions(get, set, delete, close, many)
    adapter = _Functions(get, set, delete, close, many)
    if threads is None:
        return adapter
    if threads < 1 or not timeout > 0:
        raise MisuseError(f"threads must be at least 1 and timeout above 0 s, not {threads!r} and {timeout!r}")
    return ThreadedAdapter(adapter, threads, timeout)


def _all_coroutines(functions: dict[str, Any]) -> bool:
    """Whether all are coroutine functions; `MisuseError` names the first argument that spoils the set."""
    for name, function in functions.items():
        if not callable(function):
            raise MisuseError(f"{name} must be a function, not {type(function).__name__}")
    colours = {name: _is_coroutine_function(function) for name, function in functions.items()}
    for name, is_async in colours.items():
        if is_async != colours["get"]:
            have, want = ("async def", "def") if is_async else ("def", "async def")
            raise MisuseError(f"{name} is `{have}` but get is `{want}`: make all of them `{want}`, or all `{have}`")
    return colours["get"]


def _is_coroutine_function(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


class _Many:
    """What is there for many keys, as attributes; a slot that is left empty is as good as no method."""

    __slots__ = ("delete_many", "get_many", "set_many")

    def __init__(self, many: Mapping[str, Any]) -> None:
        for name, function in many.items():
            if function is not None:
                setattr(self, name, function)


@final
class _Functions(_Many):
    __slots__ = ("_close", "_delete", "_get", "_set")

    def __init__(
        self, get: Get, set: Set, delete: Delete, close: Callable[[], object] | None, many: Mapping[str, Any]
    ) -> None:
        super().__init__(many)
        self._get = get
        self._set = set
        self._delete = delete
        self._close = close

    def get(self, key: str, /) -> bytes | None:
        return self._get(key)

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        self._set(key, value, ttl)

    def delete(self, key: str, /) -> None:
        self._delete(key)

    def close(self) -> None:
        if self._close is not None:
            self._close()


@final
class _AsyncFunctions(_Many):
    __slots__ = ("_close", "_delete", "_get", "_set")

    def __init__(
        self,
        get: AsyncGet,
        set: AsyncSet,
        delete: AsyncDelete,
        close: Callable[[], Awaitable[object]] | None,
        many: Mapping[str, Any],
    ) -> None:
        super().__init__(many)
        self._get = get
        self._set = set
        self._delete = delete
        self._close = close

    async def get(self, key: str, /) -> bytes | None:
        return await self._get(key)

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        await self._set(key, value, ttl)

    async def delete(self, key: str, /) -> None:
        await self._delete(key)

    async def aclose(self) -> None:
        if self._close is not None:
            await self._close()
