"""The router most of us have written: a cache in two lines, with timeouts, and no word about the day it fails."""

from __future__ import annotations

import json
from dataclasses import asdict

from redis.asyncio import Redis

from resilient_cache import Invalidation

from .directory import Directory, Region
from .web import Answer

__all__ = ["NaiveRouter"]


class NaiveRouter:
    """Asks the cache, then the record. Works on every day but one."""

    def __init__(self, directory: Directory, cache_url: str, *, ttl: float = 300.0, timeout: float = 1.0) -> None:
        """Connects to nothing yet. `timeout` in seconds, for connecting and for each reply."""
        self.directory = directory
        self.ttl = ttl
        self.redis = Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
            cache_url, socket_timeout=timeout, socket_connect_timeout=timeout
        )

    async def start(self) -> None:
        """Begins with nothing."""

    async def resolve(self, host: str) -> Answer:
        """The home region of `host`. Raises what the record raised, and what the cache raised."""
        cached = await self.redis.get(f"region:{host}")
        if cached is not None:
            return Answer(Region(**json.loads(cached)), "cache")
        region = await self.directory.lookup(host)
        await self.redis.set(f"region:{host}", json.dumps(asdict(region)), px=int(self.ttl * 1000))
        return Answer(region, "record")

    async def move(self, tenant: str, region: str) -> Invalidation:
        """A tenant moves: the record first, then the cache, which raises if it cannot be told."""
        for host in await self.directory.move(tenant, region):
            await self.redis.delete(f"region:{host}")
        return Invalidation.CONFIRMED

    async def misdirected(self, host: str, region: Region) -> None:
        """Believes its cache all the same."""

    async def aclose(self) -> None:
        """Closes the connections."""
        await self.redis.aclose()
