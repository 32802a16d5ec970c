"""The cache, for tasks: what its users call. Twin of `_sync.py`, and held equal to it by a test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Generic, Self, final, overload

from typing_extensions import TypeVar

from . import _build
from ._async_batches import Batches
from ._async_bulk import Bulk
from ._async_flow import Flow
from ._async_marks import MarkStore
from ._async_store import Store
from ._async_upkeep import Upkeep
from ._async_warm import Warmed
from ._asyncio import Behind, Spawn, check_adapter, check_backplane, check_loader, close
from ._colours import shard_of
from ._switch import ModeSetting
from .bulk import Loaded
from .decorators import MakeAsyncCached, make_async_cached
from .entry import Duration, Entry, Slot
from .events import Hook
from .outcome import Invalidation, Lookup, Mistake, Mode
from .policy import BreakerPolicy, CachePolicy
from .protocols import AsyncBackplane, AsyncCacheAdapter, Clock, Codec, DurableJournal
from .stamps import SYSTEM_CLOCK, SYSTEM_RANDOM

__all__ = ["AsyncResilientCache"]

K = TypeVar("K", bound=str, default=str)
V = TypeVar("V", default=Any)
D = TypeVar("D", default=None)


@final
class AsyncResilientCache(Warmed[K, V], Generic[K, V]):
    """A cache whose store may fail in any way at the cost of a miss.

    Safe to share between tasks, and between event loops in several threads.

    `adapter`: the store, or None for memory only; it is closed with the cache. `name` starts every key in the store and
    labels the metrics. `type` picks the codec (`codec` overrides it). `memory`: entries kept in process. `mode` is a
    `Mode` or a function asked at every request. `clock`, `random` and `spawn` are what the cache reads time and chance
    from and runs work behind with. `journal`: where it is written down what the store has not confirmed, so that the
    next process knows. `backplane`: tells the memory of other processes what is invalidated here, and the reverse.
    Both are closed with the cache.

    Annotated like a dict: `AsyncResilientCache[str, Region]`, of keys and of values.

    Raises `MisuseError` for an argument that can never be right. No store, clock or loop is touched.
    """

    __slots__ = ("_behind", "_bulk", "_flow")

    def __init__(
        self,
        adapter: AsyncCacheAdapter | None,
        *,
        name: str,
        policy: CachePolicy | None = None,
        type: type[V] | None = None,
        memory: int = 0,
        hooks: Iterable[Hook] = (),
        mode: ModeSetting = Mode.ON,
        breaker: BreakerPolicy | None = None,
        codec: Codec[V] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        random: Callable[[], float] = SYSTEM_RANDOM,
        spawn: Spawn | None = None,
        journal: DurableJournal | None = None,
        backplane: AsyncBackplane | None = None,
    ) -> None:
        if adapter is not None:
            check_adapter(adapter)
        if backplane is not None:
            check_backplane(backplane)
        self._adapter = adapter
        self._behind = Behind(spawn)
        self._rules = _build.build(
            name=name,
            has_store=adapter is not None,
            shard=shard_of(adapter),
            policy=policy,
            breaker=breaker,
            type=type,
            codec=codec,
            memory=memory,
            hooks=hooks,
            mode=mode,
            clock=clock,
            random=random,
            has_peers=backplane is not None,
        )
        durable = _build.check_journal(journal, adapter)
        store = Store(self._rules, adapter, self._behind)
        marks = MarkStore(self._rules, adapter, self._behind)
        self._upkeep = Upkeep(store, marks, self._behind, spawn=spawn, durable=durable, backplane=backplane)
        self._flow = Flow(store, marks, self._upkeep, self._behind)
        batches = Batches(store, marks, self._upkeep, adapter, self._behind)
        self._bulk = Bulk(self._rules, batches, self._behind)

    # Reading

    @overload
    async def get(self, key: K) -> V | None: ...
    @overload
    async def get(self, key: K, default: D) -> V | D: ...
    async def get(self, key: K, default: Any = None) -> Any:
        """A fresh value, else `default`. Never raises for a store; costs at most `timeout`.

        `NoSafeValue` when there is nothing and the policy's `accept` refuses a `default` other than None.
        """
        rules = self._rules
        if type(key) is str:
            try:
                entry: Slot[V] = rules.shown[key]
            except KeyError:
                pass
            else:
                now = rules.monotonic
                if now() < entry[1]:
                    rules.marks[entry[4]] = 1
                    rules.memory_hits += 1
                    return entry[0]
        found = await self._flow.look_up(key)
        return found.value if found else rules.screening.default(key, default)

    async def lookup(
        self,
        key: K,
        loader: Callable[[K], Awaitable[V | Entry[V]]] | None = None,
        *,
        policy: CachePolicy | None = None,
        deadline: Duration | None = None,
    ) -> Lookup[V]:
        """The answer with its provenance, falsy when there is none; with a `loader`, what `get_or_load` would give.

        Never raises for a store; with a loader, raises what `get_or_load` raises.
        """
        if loader is None:
            return await self._flow.look_up(key, policy, deadline)
        return await self._flow.resolve(key, loader, policy, deadline)

    @overload
    async def get_or_load(self, key: K, loader: Callable[[K], Awaitable[V | Entry[V]]]) -> V: ...
    @overload
    async def get_or_load(
        self,
        key: K,
        loader: Callable[[K], Awaitable[V | Entry[V]]],
        *,
        policy: CachePolicy | None = ...,
        deadline: Duration | None = ...,
    ) -> V: ...
    async def get_or_load(
        self,
        key: K,
        loader: Callable[[K], Awaitable[V | Entry[V]]],
        policy: CachePolicy | None = None,  # to be given by name: the interpreter takes 20 ns more to insist on that
        deadline: Duration | None = None,
    ) -> V:
        """The value, from the cache or from `loader(key)`, which then runs once for everyone who asks meanwhile.

        `deadline`: the seconds that the caller has; store operations are given no more. Raises what the loader raises,
        as it is, unless a stale entry stands in; `LoadTimeout`, `NotFound`, `NoSafeValue`. Never raises for a store.
        """
        rules = self._rules
        if type(key) is str and (policy is None or rules.screening.may_peek(policy)):
            try:
                entry: Slot[V] = rules.shown[key]
            except KeyError:
                pass
            else:
                now = rules.monotonic  # called by another name: as a method it takes 10 ns more
                if now() < entry[1]:
                    rules.marks[entry[4]] = 1
                    rules.memory_hits += 1
                    return entry[0]
        found: Any = await self._flow.resolve(key, loader, policy, deadline)
        value: V = found.value
        return value

    async def refresh(
        self, key: K, loader: Callable[[K], Awaitable[V | Entry[V]]], *, policy: CachePolicy | None = None
    ) -> V:
        """The value of a load that begins now, in place of whatever the cache has. Raises what the loader raises."""
        found: Any = await self._flow.resolve(key, loader, policy, None, forced=True)
        value: V = found.value
        return value

    # Writing

    async def set(self, key: K, value: V | Entry[V], *, ttl: Duration | None = None) -> bool:
        """Put `value` in place of whatever the cache has; True when the store acknowledged it.

        False: the store does not have it or may not, and what it had before is not served again. To hold also against
        a store that acknowledges and then comes back with older data, invalidate. False as well for a value that the
        policy's `accept` refuses: then the key is invalidated, for what it had before is over, too.
        Never raises for a store; costs at most `timeout`.
        """
        rules = self._rules
        request = rules.begin(key, forced=True)
        draft = rules.place(request, value, ttl)
        if request.withheld:
            rules.invalidated(request, await self._flow.delete(request))
            return False
        return await self._flow.write(request, draft)

    async def invalidate(self, key: K) -> Invalidation:
        """From now on nothing whose load began before this call is served for `key` in this process.

        `CONFIRMED` when the store deleted it too, `PENDING` when it could not be asked or did not answer: then it is
        asked again, behind, until it does. Never raises for a store; costs at most `timeout`.
        """
        rules = self._rules
        request = rules.begin(key)
        request.stamp = rules.local.invalidate(request.key)
        return rules.invalidated(request, await self._flow.delete(request))

    async def report_mistake(self, key: K, seen: V | None) -> Mistake:
        """Tell the cache that `seen`, which it gave for `key`, is wrong: as when a region answers 421.

        If that is what it would still give, the key is invalidated and the next request loads it: `CONFIRMED` or
        `PENDING`, as by `invalidate`. `OTHER`: something else is there by now, or nothing; nothing was done.
        `TOO_SOON`: nothing was done, for a key is invalidated this way once per `stale_retry` at most, and no more than
        1 000 of them. `seen` is compared by `==`; None stands for `NotFound`, too. What cannot be compared, or not be
        asked for as the store is silent, counts as current. Never raises for a store; costs at most `timeout`.
        """
        return await self._flow.correct(key, seen)

    # Many keys at once

    async def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """The fresh values there are, by key. Never raises for a store.

        Asks the store once for every 500 keys, and takes at most `timeout` for each time: where the adapter has no
        `get_many`, each key is asked for by itself within that time.
        """
        return await self._bulk.get(keys)

    async def get_or_load_many(
        self,
        keys: Iterable[K],
        load_many: Callable[[list[K]], Awaitable[Mapping[K, V | Entry[V] | Exception]]],
        *,
        policy: CachePolicy | None = None,
        deadline: Duration | None = None,
    ) -> Loaded[K, V]:
        """The values by key, from the cache or from one `load_many(missing)` for those that nobody loads yet.

        It gives a mapping of keys to values. What it leaves out there is none of: absent here, and remembered for
        `negative_ttl`. An exception in place of a value is that key's error: the key is absent, and the error is in
        `errors` of what is returned, whose `[key]` raises it. What `load_many` raises is raised as it is, and nothing
        is remembered, unless stale entries stand in for all it was to load; `LoadTimeout` likewise.
        """
        return await self._bulk.load(keys, load_many, policy, deadline)

    async def set_many(self, values: Mapping[K, V | Entry[V]], *, ttl: Duration | None = None) -> bool:
        """The same as `set` for each; True when the store acknowledged all of them. Never raises for a store."""
        return await self._bulk.set(values, ttl)

    async def invalidate_many(self, keys: Iterable[K]) -> Invalidation:
        """The same as `invalidate` for each; `CONFIRMED` when the store deleted all. Never raises for a store."""
        return await self._bulk.invalidate(keys)

    # Around it

    @property
    def cached(self) -> MakeAsyncCached:
        """`@cache.cached` or `@cache.cached(key=..., ttl=..., policy=...)`: a function whose results are cached.

        `key`: a template of its arguments like "region:{host}", or a function of them; by default all of them. The
        function gets `.lookup`, `.invalidate`, `.refresh` and `.key`. Raises `MisuseError` for a method without a key.
        """
        return make_async_cached(self, self._rules, check_loader)

    async def explain(self, key: K) -> dict[str, object]:
        """Why `key` answers as it does; looks into the store as `lookup` does. Never holds the value."""
        return _build.explain(self._rules, key, await self._flow.look_up(key))

    async def aclose(self) -> int:
        """Stop what runs behind and close the adapter; how many invalidations the store has not confirmed.

        It is asked for each of them once more, for a second at most. Later use is `MisuseError`; closing again is
        nothing.
        """
        if self._rules.close():
            return 0
        left = await self._upkeep.close()
        await self._behind.close()
        await close(self._adapter, self._rules.reporter)
        return left

    async def __aenter__(self) -> Self:
        """The cache itself."""
        return self

    async def __aexit__(self, *raised: object) -> None:
        """Close it."""
        await self.aclose()
