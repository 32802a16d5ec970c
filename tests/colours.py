"""Both colours of an adapter behind one face, so that a scenario is written once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from resilient_cache.adapters.redis import AsyncRedisAdapter, RedisAdapter

__all__ = ["AwaitedRedis", "OpenRedis", "RedisStore", "SyncRedis"]


class RedisStore(Protocol):
    """A Redis adapter of either colour, called synchronously."""

    def get(self, key: str, /) -> bytes | None: ...
    def set(self, key: str, value: bytes, ttl: float, /) -> None: ...
    def delete(self, key: str, /) -> None: ...
    def close(self) -> None: ...


OpenRedis = Callable[..., RedisStore]


class SyncRedis:
    """`RedisAdapter` as it is."""

    def __init__(self, url: str, **options: Any) -> None:
        self.adapter = RedisAdapter.from_url(url, **options)
        self.get = self.adapter.get
        self.set = self.adapter.set
        self.delete = self.adapter.delete
        self.close = self.adapter.close


class AwaitedRedis:
    """`AsyncRedisAdapter` on an event loop of its own, which runs while a call does."""

    def __init__(self, url: str, **options: Any) -> None:
        self.runner = asyncio.Runner()
        self.adapter = AsyncRedisAdapter.from_url(url, **options)

    def get(self, key: str) -> bytes | None:
        return self.runner.run(self.adapter.get(key))

    def set(self, key: str, value: bytes, ttl: float) -> None:
        self.runner.run(self.adapter.set(key, value, ttl))

    def delete(self, key: str) -> None:
        self.runner.run(self.adapter.delete(key))

    def close(self) -> None:
        self.runner.run(self.adapter.aclose())

    def release(self) -> None:
        self.close()
        self.runner.close()
