"""Redis and Valkey as a store.

`RedisAdapter.from_url("redis://host")` makes its own client and bounds every operation; `RedisAdapter(client)` takes a
client of redis-py or valkey-py as it is, and is as fast or as slow to give up as that client is. The extra
`resilient-cache[redis]` is needed for what makes its own client: `from_url`, and `from_sentinel` for a master that the
sentinels tell of. Clusters have adapters of their own, in `redis_cluster`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Self, final

from ._redis_adapter import Existing, in_seconds
from ._redis_advice import check_client, warn_if_slow
from ._redis_many import AsyncManyAdapter, ManyAdapter

__all__ = ["AsyncRedisAdapter", "RedisAdapter"]

MAX_CONNECTIONS: Final = 128  # twice the 64 calls that a cache leaves behind at most


@final
class RedisAdapter(ManyAdapter):
    """A Redis or Valkey server for the sync API. Threads may share it, and so may a process and its forks.

    `client` is a `redis.Redis` or `valkey.Valkey` that returns bytes. It keeps its own timeouts: a `RuntimeWarning`
    says what to change in one that may take longer than `timeout` seconds. It is not closed with the adapter.

    Every method raises `StoreError`, with the kind of the failure, and nothing else for a store that fails; a reply
    that no table knows is of kind UNKNOWN. Raises `MisuseError` for a client that decodes or is asynchronous.
    """

    __slots__ = ()

    def __init__(self, client: Any, *, timeout: float | timedelta = 0.25) -> None:
        seconds = in_seconds(timeout)
        check_client(client, is_async=False)
        warn_if_slow(client, seconds, is_async=False)
        self._client: Any = Existing(client)
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
        client = Client(url, in_seconds(timeout), {"max_connections": max_connections, **options})
        adapter._client = adapter._owned = client
        return adapter

    @classmethod
    def from_sentinel(
        cls,
        service: str,
        sentinels: Sequence[tuple[str, int]],
        *,
        timeout: float | timedelta = 0.25,
        max_connections: int = MAX_CONNECTIONS,
        ssl: bool = False,
        sentinel_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """An adapter on the master that the sentinels tell of, with a client as `from_url` makes it.

        `service`: what the sentinels call the master. `sentinels`: (host, port) of each. Before every new connection
        they are asked one after the other, until one answers, in half of the operation's time at most; so a failover
        costs misses until they agree on another master, and nothing has to be restarted. When an operation fails, the
        idle connections are made anew as well. `sentinel_options` go to the connections to the sentinels
        (`username`, `password`, `ssl` and so on), `ssl` and `options` to those to the master.

        Raises `MisuseError` for options that cannot work and `ImportError` without redis-py.
        """
        from ._redis_sentinel import Master  # noqa: PLC0415 - redis-py is optional

        find = Master(service, sentinels, in_seconds(timeout), dict(sentinel_options or {}))
        url = "rediss://" if ssl else "redis://"
        return cls.from_url(url, timeout=timeout, max_connections=max_connections, **options, find=find)


@final
class AsyncRedisAdapter(AsyncManyAdapter):
    """The same as `RedisAdapter` for the async API, with a `redis.asyncio.Redis`; for one event loop.

    Outside a cache an operation takes at most `timeout` seconds. Within one it has no timeout: a cache leaves a slow
    call behind rather than cancel it, because redis-py pays a cancellation with a new connection (33 -> 510 us).
    Cancelling is safe all the same: a connection with an unread reply is closed.
    """

    __slots__ = ()

    def __init__(self, client: Any, *, timeout: float | timedelta = 0.25) -> None:
        self._timeout = in_seconds(timeout)
        check_client(client, is_async=True)
        warn_if_slow(client, self._timeout, is_async=True)
        self._client: Any = Existing(client)
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
        adapter._timeout = in_seconds(timeout)
        client = AsyncClient(url, adapter._timeout, {"max_connections": max_connections, **options})
        adapter._client = adapter._owned = client
        return adapter

    @classmethod
    def from_sentinel(
        cls,
        service: str,
        sentinels: Sequence[tuple[str, int]],
        *,
        timeout: float | timedelta = 0.25,
        max_connections: int = MAX_CONNECTIONS,
        ssl: bool = False,
        sentinel_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """An adapter on the master that the sentinels tell of, as `RedisAdapter.from_sentinel` makes it."""
        from ._redis_sentinel import AsyncMaster  # noqa: PLC0415 - redis-py is optional

        find = AsyncMaster(service, sentinels, in_seconds(timeout), dict(sentinel_options or {}))
        url = "rediss://" if ssl else "redis://"
        return cls.from_url(url, timeout=timeout, max_connections=max_connections, **options, find=find)

    @property
    def futures(self) -> Any:
        """The same store as plain functions that give futures, which spares a cache a task for every call."""
        return self._owned
