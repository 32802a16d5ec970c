# pyright: reportMissingImports=false, reportMissingModuleSource=false
# Its libraries are installed for `make bench` only.
"""The other libraries, each set up as its own documentation advises for speed, with an entry that will be hit.

No hit is expected to do more than find the value: no statistics, no copies, no callbacks are switched on.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from threading import Condition, RLock
from typing import Any, Final, TypeVar

import aiocache
import async_lru
import cachebox
import cachetools
import cashews
import dogpile.cache
import moka_py
import theine

from resilient_cache import AsyncResilientCache, CachePolicy, ResilientCache

from .timing import Case

__all__ = ["KEY", "SIZE", "async_cases", "async_decorated", "decorated", "direct"]

Call = TypeVar("Call", bound=Callable[..., Any])

KEY: Final = "tenant-4711"
VALUE: Final = {"region": "eu", "tier": 3}
SIZE: Final = 10_000
TTL: Final = 3_600.0
FOREVER: Final = CachePolicy(ttl=TTL, jitter=0.0)
BOUNDED: Final = CachePolicy(ttl=TTL, jitter=0.0, load_timeout=1.0)


def loader(_: str) -> Any:
    """What is never called: all of these are hits."""
    return VALUE


async def aloader(_: str) -> Any:
    """The same for tasks."""
    return VALUE


def direct() -> list[Case]:
    """A hit by a call of a method of the cache."""
    ours: ResilientCache[str, Any] = ResilientCache(None, name="bench", memory=SIZE, policy=FOREVER)
    timed: ResilientCache[str, Any] = ResilientCache(None, name="timed", memory=SIZE, policy=BOUNDED)
    ours.set(KEY, VALUE)
    timed.set(KEY, VALUE)
    plain = cachetools.TTLCache[str, Any](SIZE, TTL)
    rust, tiny, moka = cachebox.TTLCache(SIZE, TTL), theine.Cache(SIZE), moka_py.Moka(SIZE, ttl=TTL)
    pile = dogpile.cache.make_region().configure("dogpile.cache.memory", expiration_time=TTL)
    plain[KEY] = rust[KEY] = VALUE
    tiny.set(KEY, VALUE, timedelta(seconds=TTL))
    moka.set(KEY, VALUE)
    pile.set(KEY, VALUE)
    base = {"key": KEY, "loader": loader}
    return [
        Case("dict", "cache[key]", {**base, "cache": {KEY: VALUE}}),
        Case("functools.lru_cache", "cache(key)", {**base, "cache": lru_cache(SIZE)(loader)}),
        Case("resilient_cache.get", "get(key)", {**base, "get": ours.get}),
        Case("resilient_cache.get_or_load", "get(key, loader)", {**base, "get": ours.get_or_load}),
        Case("resilient_cache.get_or_load, load_timeout", "get(key, loader)", {**base, "get": timed.get_or_load}),
        Case("cachetools.TTLCache", "cache[key]", {**base, "cache": plain}),
        Case("cachetools.TTLCache, RLock", "with lock: cache[key]", {**base, "cache": plain, "lock": RLock()}),
        Case("cachetools.TTLCache.get", "get(key)", {**base, "get": plain.get}),
        Case("cachetools.TTLCache.get, RLock", "with lock: get(key)", {**base, "get": plain.get, "lock": RLock()}),
        Case("cachebox.TTLCache.get", "get(key)", {**base, "get": rust.get}),
        Case("theine.Cache.get", "get(key)", {**base, "get": tiny.get}),
        Case("moka_py.Moka.get", "get(key)", {**base, "get": moka.get}),
        Case("dogpile.get_or_create", "get(key, loader)", {**base, "get": pile.get_or_create, "loader": dict}),
    ]


class Service:
    """Whose method is cached."""

    cache: ResilientCache[str, Any] = ResilientCache(None, name="method", memory=SIZE, policy=FOREVER)

    @cache.cached(key="service:{tenant}")
    def region(self, tenant: str) -> Any:
        """A value."""
        return VALUE


def decorated() -> list[Case]:
    """A hit by a call of a decorated function of one argument, of three, and of a method."""
    ours: ResilientCache[str, Any] = ResilientCache(None, name="cached", memory=SIZE, policy=FOREVER)
    pile = dogpile.cache.make_region().configure("dogpile.cache.memory", expiration_time=TTL)
    decorate: dict[str, Callable[[Any], Any]] = {
        "resilient_cache @cached": ours.cached,
        "functools @lru_cache": lru_cache(SIZE),
        "cachebox @cached": cachebox.cached(cachebox.TTLCache(SIZE, TTL)),
        "cachetools @cached": cachetools.cached(cachetools.TTLCache(SIZE, TTL)),
        "cachetools @cached, lock": cachetools.cached(cachetools.TTLCache(SIZE, TTL), lock=RLock()),
        "cachetools @cached, condition": cachetools.cached(cachetools.TTLCache(SIZE, TTL), condition=Condition()),
        "theine @Memoize": theine.Memoize(SIZE, timedelta(seconds=TTL)),
        "moka_py @cached": moka_py.cached(maxsize=SIZE, ttl=TTL),
        "dogpile @cache_on_arguments": pile.cache_on_arguments(),
    }
    service = Service()
    cases = [Case("resilient_cache @cached method", "call(key)", {"key": KEY, "call": service.region})]
    service.region(KEY)
    for name, decorator in decorate.items():
        one, three = decorator(_fresh_one()), decorator(_fresh_three())
        one(KEY)
        three(KEY, "eu", "gold")
        cases += [
            Case(name, "call(key)", {"key": KEY, "call": one}),
            Case(f"{name}, 3 arguments", "call(key, b, c)", {"key": KEY, "call": three, "b": "eu", "c": "gold"}),
        ]
    return cases


def _placed(function: Call, name: str) -> Call:
    """`function` as if a module had defined it: it needs no key."""
    made: Any = function
    made.__qualname__ = name
    made.__code__ = made.__code__.replace(co_qualname=name)
    return function


def _fresh_one() -> Callable[[str], Any]:
    def one(tenant: str) -> Any:
        return VALUE

    return _placed(one, "one")


def _fresh_three() -> Callable[[str, str, str], Any]:
    def three(tenant: str, region: str, tier: str) -> Any:
        return VALUE

    return _placed(three, "three")


def async_cases() -> list[Case]:
    """A hit by a call of a method of the cache, awaited; the bare coroutine beside it."""
    ours: AsyncResilientCache[str, Any] = AsyncResilientCache(None, name="abench", memory=SIZE, policy=FOREVER)
    ours._rules.local.replace(KEY, _found(ours))
    base = {"key": KEY, "loader": aloader}
    return [
        Case("bare coroutine", "await loader(key)", base, awaits=True),
        Case("resilient_cache.get", "await get(key)", {**base, "get": ours.get}, awaits=True),
        Case("resilient_cache.get_or_load", "await get(key, loader)", {**base, "get": ours.get_or_load}, awaits=True),
    ]


def _found(cache: Any) -> Any:
    from resilient_cache._request import Candidate

    stamp = cache._rules.local.stamps.next()
    until = cache._rules.monotonic() + TTL
    return Candidate(VALUE, until, until, stamp, (), stamp)


def async_decorated() -> list[Case]:
    """A hit by a call of a decorated coroutine function."""
    ours: AsyncResilientCache[str, Any] = AsyncResilientCache(None, name="acached", memory=SIZE, policy=FOREVER)
    cash = cashews.Cache()
    cash.setup("mem://", size=SIZE)
    decorate: dict[str, Callable[[Any], Any]] = {
        "resilient_cache @cached": ours.cached,
        "async_lru @alru_cache": async_lru.alru_cache(SIZE, ttl=TTL),
        "cachebox @cached": cachebox.cached(cachebox.TTLCache(SIZE, TTL)),
        "aiocache @cached": aiocache.cached(ttl=int(TTL)),
        "cashews @cache": cash(ttl=TTL),
    }
    cases: list[Case] = []
    for name, decorator in decorate.items():

        async def one(tenant: str) -> Any:
            return VALUE

        placed = _placed(one, f"one_{len(cases)}")
        cases.append(Case(name, "await call(key)", {"key": KEY, "call": decorator(placed)}, awaits=True))
    return cases
