"""Redis and Valkey clusters as a store of shards: a node that fails closes no other's circuit.

`RedisClusterAdapter.from_url("redis://node")` makes its own client and bounds every operation;
`RedisClusterAdapter(client)` takes the cluster client of redis-py or valkey-py as it is. The extra
`resilient-cache[redis]` is needed for `from_url` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, Self, final

from ._redis_adapter import Adapter, AsyncAdapter, Existing, in_seconds
from ._redis_advice import check_client, warn_if_slow

__all__ = ["AsyncRedisClusterAdapter", "RedisClusterAdapter"]

MAX_CONNECTIONS: Final = 128


@final
class RedisClusterAdapter(Adapter):
    """A Redis or Valkey cluster for the sync API. Threads may share it.

    `client` is a `RedisCluster` of redis-py or valkey-py that returns bytes. It keeps its own timeouts, retries and
    habits: when a node fails, it asks another for the slots within the failing call, and after CLUSTERDOWN it sleeps
    for 0.25 s there. A `RuntimeWarning` says what to change in one that may take longer than `timeout` seconds. It is
    not closed with the adapter.

    Every method raises `StoreError`, with the kind of the failure, and nothing else for a store that fails. Raises
    `MisuseError` for a client that decodes or is asynchronous.
    """

    __slots__ = ("_shard",)

    def __init__(self, client: Any, *, timeout: float | timedelta = 0.25) -> None:
        seconds = in_seconds(timeout)
        check_client(client, is_async=False)
        warn_if_slow(client, seconds, is_async=False)
        self._client = Existing(client)
        self._owned = None
        self._shard: Any = Owners(client)

    @classmethod
    def from_url(
        cls,
        url: str | Sequence[str],
        *,
        timeout: float | timedelta = 0.25,
        max_connections: int = MAX_CONNECTIONS,
        **options: Any,
    ) -> Self:
        """An adapter with a client of its own that fails fast; no connection is made yet. Forks may use it, too.

        `url` is that of a node, or a list of some to begin with: `redis://`, `rediss://` (TLS), `valkey://` or
        `valkeys://`; user, password and everything else that is not the address are the first one's, for all nodes.
        An operation takes at most `timeout` seconds, or what the current operation of the cache has left: asking for
        the slots, following a redirection, connecting, sending and every byte of the reply together. Resolving a host
        name, where the cluster gives names, is the one thing that cannot be bounded. Only primaries are asked.
        `max_connections` is for each node; `options` go to redis-py's connections.

        Who owns a slot is asked at the first call, and again, at most once a second, by calls to a node that has
        failed or moved a slot, never by those to others. Raises `MisuseError` for a URL or an option that cannot work
        and `ImportError` without redis-py.
        """
        from ._redis_cluster import ClusterClient  # noqa: PLC0415 - redis-py is optional

        adapter = object.__new__(cls)
        urls = [url] if isinstance(url, str) else url
        client = ClusterClient(urls, in_seconds(timeout), {"max_connections": max_connections, **options})
        adapter._client = adapter._owned = client
        adapter._shard = client.slots.owner
        return adapter

    def shard(self, key: str, /) -> str:
        """The node that owns `key`, "host:port", as far as it is known; empty before the first call."""
        shard: str = self._shard(key)
        return shard


@final
class AsyncRedisClusterAdapter(AsyncAdapter):
    """The same as `RedisClusterAdapter` for the async API, with an async `RedisCluster`; for one event loop.

    An existing client asks for the slots in whichever call comes after a failure, to whatever shard, and of a node
    picked at random: with a frozen node that call may time out. `from_url` has no such habit. Outside a cache an
    operation takes at most `timeout` seconds; within one, a cache leaves a slow call behind.
    """

    __slots__ = ("_shard",)

    def __init__(self, client: Any, *, timeout: float | timedelta = 0.25) -> None:
        self._timeout = in_seconds(timeout)
        check_client(client, is_async=True)
        warn_if_slow(client, self._timeout, is_async=True)
        self._client = Existing(client)
        self._owned = None
        self._shard: Any = Owners(client)

    @classmethod
    def from_url(
        cls,
        url: str | Sequence[str],
        *,
        timeout: float | timedelta = 0.25,
        max_connections: int = MAX_CONNECTIONS,
        **options: Any,
    ) -> Self:
        """An adapter with a client of its own, as `RedisClusterAdapter.from_url` makes it.

        Connecting, and asking for the slots, take at most `timeout` seconds in a cache as well.
        """
        from ._redis_cluster import AsyncClusterClient  # noqa: PLC0415 - redis-py is optional

        adapter = object.__new__(cls)
        adapter._timeout = in_seconds(timeout)
        urls = [url] if isinstance(url, str) else url
        client = AsyncClusterClient(urls, adapter._timeout, {"max_connections": max_connections, **options})
        adapter._client = adapter._owned = client
        adapter._shard = client.slots.owner
        return adapter

    def shard(self, key: str, /) -> str:
        """The node that owns `key`, "host:port", as far as it is known; empty before the first call."""
        shard: str = self._shard(key)
        return shard


class Owners:
    """Who owns a key, as somebody else's cluster client has it at the moment."""

    __slots__ = ("_client",)

    def __init__(self, client: Any) -> None:
        self._client = client

    def __call__(self, key: str) -> str:
        """The node's name; empty while the client does not know, and it is the call that fails."""
        try:
            return str(self._client.get_node_from_key(key).name)
        except Exception:  # noqa: BLE001 - around a store
            return ""
