"""What the adapters for one server and for a cluster share: three operations, and closing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar, final

from ..deadline import remaining
from ..errors import FailureKind, MisuseError, StoreError
from ._redis_errors import failure
from ._redis_wire import milliseconds

__all__ = ["Adapter", "AsyncAdapter", "Existing", "in_seconds"]

T = TypeVar("T")


class _Closed:
    """Stands in for the client of a closed adapter."""

    def get(self, *_: object) -> Any:
        raise StoreError(FailureKind.CONNECTION, "closed")

    set = delete = get_many = set_many = delete_many = get


@final
class Existing:
    """A client that was given to us, of either colour, with the methods of ours."""

    __slots__ = ("_client",)

    def __init__(self, client: Any) -> None:
        self._client = client

    def get(self, key: str) -> Any:
        return self._in_time().get(key)

    def set(self, key: str, value: bytes, ttl: float) -> Any:
        return self._in_time().set(key, value, px=milliseconds(ttl))

    def delete(self, key: str) -> Any:
        return self._in_time().delete(key)

    def get_many(self, keys: Sequence[str]) -> Any:
        return self._in_time().mget(keys)

    def set_many(self, entries: Mapping[str, tuple[bytes, float]]) -> Any:
        pipeline = self._in_time().pipeline(transaction=False)
        for key, (value, ttl) in entries.items():
            pipeline.set(key, value, px=milliseconds(ttl))
        return pipeline.execute()

    def delete_many(self, keys: Sequence[str]) -> Any:
        return self._in_time().delete(*keys)

    def _in_time(self) -> Any:
        if remaining() == 0.0:
            raise StoreError(FailureKind.TIMEOUT, "no time left")
        return self._client


class Adapter:
    """The sync API over a client of ours, or one that was given to us."""

    __slots__ = ("_client", "_owned")

    _client: Any
    _owned: Any

    def get(self, key: str, /) -> bytes | None:
        """The bytes stored under `key`, or None when there are none."""
        try:
            reply: object = self._client.get(key)
        except Exception as error:
            raise failure(error) from error
        return _bytes(reply)

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        """Store `value` for `ttl` seconds, to the millisecond and at least one; the server has acknowledged it."""
        try:
            self._client.set(key, value, ttl)
        except Exception as error:
            raise failure(error) from error

    def delete(self, key: str, /) -> None:
        """Remove `key`, whether it is there or not; the server has acknowledged it."""
        try:
            self._client.delete(key)
        except Exception as error:
            raise failure(error) from error

    def close(self) -> None:
        """Close what `from_url` made; later calls raise `StoreError`. Again is harmless; never raises for the store."""
        owned, self._owned = self._owned, None
        self._client = _Closed()
        if owned is not None:
            owned.close()


class AsyncAdapter:
    """The same for the async API. `_timeout` bounds an operation outside a cache."""

    __slots__ = ("_client", "_owned", "_timeout")

    _client: Any
    _owned: Any
    _timeout: float

    async def get(self, key: str, /) -> bytes | None:
        """The bytes stored under `key`, or None when there are none."""
        try:
            reply: object = await self._bounded(self._client.get(key))
        except Exception as error:
            raise failure(error) from error
        return _bytes(reply)

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        """Store `value` for `ttl` seconds, to the millisecond and at least one; the server has acknowledged it."""
        try:
            await self._bounded(self._client.set(key, value, ttl))
        except Exception as error:
            raise failure(error) from error

    async def delete(self, key: str, /) -> None:
        """Remove `key`, whether it is there or not; the server has acknowledged it."""
        try:
            await self._bounded(self._client.delete(key))
        except Exception as error:
            raise failure(error) from error

    async def aclose(self) -> None:
        """Close what `from_url` made; later calls raise `StoreError`. Again is harmless; never raises for the store."""
        owned, self._owned = self._owned, None
        self._client = _Closed()
        if owned is not None:
            await owned.aclose()

    async def _bounded(self, call: Awaitable[T]) -> T:
        if remaining() is not None:
            return await call
        async with asyncio.timeout(self._timeout):
            return await call


def _bytes(reply: object) -> bytes | None:
    if reply is None or isinstance(reply, bytes):
        return reply
    raise StoreError(FailureKind.CONNECTION, f"a {type(reply).__name__} in answer to GET")


def in_seconds(timeout: float | timedelta) -> float:
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if not seconds > 0:
        raise MisuseError(f"timeout must be above 0 s, not {timeout!r}")
    return seconds
