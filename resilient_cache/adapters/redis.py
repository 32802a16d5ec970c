"""Redis and Valkey as a store.

`RedisAdapter.from_url("redis://host")` makes its own client and bounds every operation; `RedisAdapter(client)` takes a
client of redis-py or valkey-py as it is, and is as fast or as slow to give up as that client is. The extra
`resilient-cache[redis]` is needed for `from_url` only. Cluster and Sentinel clients are not supported yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, Final, Self, TypeVar, final

from ..deadline import remaining
from ..errors import FailureKind, MisuseError, StoreError
from ._redis_advice import check_client, warn_if_slow
from ._redis_errors import failure
from ._redis_wire import milliseconds

__all__ = ["AsyncRedisAdapter", "RedisAdapter"]

T = TypeVar("T")

MAX_CONNECTIONS: Final = 128  # twice the 64 calls that a cache leaves behind at most


class _Closed:
    """Stands in for the client of a closed adapter."""

    def get(self, *_: object) -> Any:
        raise StoreError(FailureKind.CONNECTION, "closed")

    set = delete = get


@final
class _Existing:
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

    def _in_time(self) -> Any:
        if remaining() == 0.0:
            raise StoreError(FailureKind.TIMEOUT, "no time left")
        return self._client


@final
class RedisAdapter:
    """A Redis or Valkey server for the sync API. Threads may share it, and so may a process and its forks.

    `client` is a `redis.Redis` or `valkey.Valkey` that returns bytes. It keeps its own timeouts: a `RuntimeWarning`
    says what to change in one that may take longer than `timeout` seconds. It is not closed with the adapter.

    Every method raises `StoreError`, with the kind of the failure, and nothing else for a store that fails; a reply
    that no table knows is of kind UNKNOWN. Raises `MisuseError` for a client that decodes or is asynchronous.
    """

    __slots__ = ("_client", "_owned")

    def __init__(self, client: Any, *, timeout: float | timedelta = 0.25) -> None:
        seconds = _seconds(timeout)
        check_client(client, is_async=False)
        warn_if_slow(client, seconds, is_async=False)
        self._client: Any = _Existing(client)
        self._owned: Any = None

    @classmethod
    def from_url(
        cls, url: str, *, timeout: float | timedelta = 0.25, max_connections: int = MAX_CONNECTIONS, **options: Any
    ) -> Self:
        """An adapter with a client of its own that fails fast; no connection is made yet.

        `url` is `redis://`, `rediss://` (TLS), `valkey://`, `valkeys://` or `unix://`. An operation takes at most
        `timeout` seconds, or what the current operation of the cache has left: connecting, sending and every byte of
        the reply together. Resolving a host name is the one thing that cannot be bounded. Nothing is retried, no call
        waits for a connection beyond `max_connections`, RESP2 is spoken. `options` go to redis-py's connections
        (`ssl_ca_certs`, `client_name`, `credential_provider` and so on).

        A connection that the server closed while it was idle is replaced before use, so a restart costs nothing.
        Raises `MisuseError` for a URL or an option that cannot work and `ImportError` without redis-py.
        """
        from ._redis_clients import Client  # noqa: PLC0415 - redis-py is optional

        adapter = object.__new__(cls)
        client = Client(url, _seconds(timeout), {"max_connections": max_connections, **options})
        adapter._client = adapter._owned = client
        return adapter

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


@final
class AsyncRedisAdapter:
    """The same as `RedisAdapter` for the async API, with a `redis.asyncio.Redis`; for one event loop.

    Outside a cache an operation takes at most `timeout` seconds. Within one it has no timeout: a cache leaves a slow
    call behind rather than cancel it, because redis-py pays a cancellation with a new connection (33 -> 510 us).
    Cancelling is safe all the same: a connection with an unread reply is closed.
    """

    __slots__ = ("_client", "_owned", "_timeout")

    def __init__(self, client: Any, *, timeout: float | timedelta = 0.25) -> None:
        self._timeout = _seconds(timeout)
        check_client(client, is_async=True)
        warn_if_slow(client, self._timeout, is_async=True)
        self._client: Any = _Existing(client)
        self._owned: Any = None

    @classmethod
    def from_url(
        cls, url: str, *, timeout: float | timedelta = 0.25, max_connections: int = MAX_CONNECTIONS, **options: Any
    ) -> Self:
        """An adapter with a client of its own, as `RedisAdapter.from_url` makes it.

        Connecting, handshake included, takes at most `timeout` seconds in a cache as well.
        """
        from ._redis_clients import AsyncClient  # noqa: PLC0415 - redis-py is optional

        adapter = object.__new__(cls)
        adapter._timeout = _seconds(timeout)
        client = AsyncClient(url, adapter._timeout, {"max_connections": max_connections, **options})
        adapter._client = adapter._owned = client
        return adapter

    @property
    def futures(self) -> Any:
        """The same store as plain functions that give futures, which spares a cache a task for every call."""
        return self._owned

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


def _seconds(timeout: float | timedelta) -> float:
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if not seconds > 0:
        raise MisuseError(f"timeout must be above 0 s, not {timeout!r}")
    return seconds
