"""The router to copy: host -> home region, with a cache that may die, hang, lie or come back from the dead."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from resilient_cache import (
    AsyncResilientCache,
    BreakerPolicy,
    CachePolicy,
    Invalidation,
    LoadTimeout,
    Mode,
    NoSafeValue,
    NotFound,
    OriginOverloaded,
)
from resilient_cache.adapters.redis import AsyncRedisAdapter
from resilient_cache.adapters.redis_backplane import AsyncRedisBackplane
from resilient_cache.adapters.sqlite_journal import SqliteJournal
from resilient_cache.control import ModeFile
from resilient_cache.events import Hook
from resilient_cache.failover import AsyncFailover
from resilient_cache.protocols import AsyncCacheAdapter

from .directory import REGIONS, Directory, Region
from .web import Answer, NotKnown

__all__ = ["ResilientRouter"]

POLICY: Final = CachePolicy(ttl=300, stale_for=86_400, timeout=0.25, load_timeout=1)  # a record may hang, too


class ResilientRouter:
    """Asks the cache, then the record; an old answer only while the record is down; never guesses a region."""

    def __init__(
        self,
        directory: Directory,
        cache_url: str,
        *,
        policy: CachePolicy = POLICY,
        breaker: BreakerPolicy | None = None,
        memory: int = 10_000,
        second_url: str | None = None,
        journal: str | Path | None = None,
        regions: Collection[str] = REGIONS,
        control: ModeFile | None = None,
        snapshot: str | Path | None = None,
        hooks: Sequence[Hook] = (),
    ) -> None:
        """Connects to nothing yet.

        `memory`: regions kept in process. Who keeps any hears from the other routers what they invalidate.
        `second_url`: a store of a second vendor, which stands in while the first is gone, and carries those messages.
        `regions`: those that there are; whatever cache or record say, nobody is sent anywhere else.
        `journal`: a file of its own, which remembers what the store has not confirmed even if this process is killed.
        `control`: a file by which the cache is switched while this process runs.
        `snapshot`: a file that this process leaves its regions in when it ends, and takes them from when it starts.
        """

        def exists(host: str, region: Region) -> bool:
            return region.name in regions

        self._moving: set[asyncio.Future[Invalidation]] = set()
        self.directory = directory
        self.snapshot = snapshot
        store: AsyncCacheAdapter = AsyncRedisAdapter.from_url(cache_url)
        if second_url:
            far = AsyncRedisAdapter.from_url(second_url)
            store = AsyncFailover(store, far, names=("near", "far"), breaker=breaker)
        self.cache = AsyncResilientCache(
            store,
            name="regions",
            policy=replace(policy, accept=exists),
            breaker=breaker,
            type=Region,
            memory=memory,
            hooks=hooks,
            mode=control or Mode.ON,
            backplane=AsyncRedisBackplane.from_url(second_url or cache_url) if memory else None,
            journal=SqliteJournal(journal) if journal else None,
        )

    async def start(self) -> None:
        """Begins with what the process before it knew, as far as that may still be served."""
        if self.snapshot:
            await self.cache.restore(self.snapshot)

    async def resolve(self, host: str) -> Answer:
        """The home region of `host` with its provenance. Raises `NotFound`, `NotKnown`, or what the record raised."""
        try:
            found = await self.cache.lookup(host, self.directory.lookup)
        except (NoSafeValue, LoadTimeout) as error:
            raise NotKnown(host) from error
        except OriginOverloaded as error:
            raise NotKnown(host, error.retry_after) from error
        if found.value is None:
            raise NotFound(host)
        return Answer(found.value, found.source)

    async def move(self, tenant: str, region: str) -> Invalidation:
        """A tenant moves: the record first, then the cache. Then this router names the old region no more.

        `CONFIRMED`: nor do the others, as soon as they have heard of it; a write that lands late is deleted within 5 s.
        `PENDING`: they may, until the store has confirmed. A move that has begun is carried through, even if who asked
        for it is cancelled. Raises `NotFound` for an unknown tenant, or what the record raised.
        """
        moving = asyncio.ensure_future(self._move(tenant, region))
        self._moving.add(moving)
        moving.add_done_callback(self._moving.discard)
        return await asyncio.shield(moving)

    async def _move(self, tenant: str, region: str) -> Invalidation:
        return await self.cache.invalidate_many(await self.directory.move(tenant, region))

    async def misdirected(self, host: str, region: Region) -> None:
        """`region` says that it does not serve `host`: if the cache still says it does, the record is asked again."""
        await self.cache.report_mistake(host, region)

    async def aclose(self) -> None:
        """Leaves what it knows to the next process, and ends what runs behind; moves that have begun end first."""
        await asyncio.gather(*self._moving, return_exceptions=True)
        if self.snapshot:
            with suppress(OSError):  # a disk that is full must not keep it from ending
                await self.cache.snapshot(self.snapshot)
        await self.cache.aclose()
