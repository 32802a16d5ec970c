"""`fallback(adapter)`: the guard alone. Any adapter in, the same adapter out, whose failures are misses.

For code that has its own caching and only wants not to go down with its cache. There are no entries, no loading, and no
fences: a failed delete is told by its False, and nothing here keeps the old bytes from being read again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Final, final, overload

from . import _asyncio, _threads
from ._build import build_guard
from ._colours import is_async, method_of, shard_of
from ._guard import Guard
from ._reporting import Reporter
from .entry import Duration, seconds, text
from .errors import MisuseError
from .events import Hook
from .outcome import Operation
from .policy import BreakerPolicy, CachePolicy
from .protocols import AsyncCacheAdapter, CacheAdapter, Clock
from .stamps import SYSTEM_CLOCK, SYSTEM_RANDOM

__all__ = ["AsyncFallback", "Fallback", "fallback"]

FOREVER: Final = float("inf")
FINITE: Final = sys.float_info.max
"""The longest ttl: no adapter may refuse a long one, but a float that is none breaks most."""


@final
class Fallback:
    """A store whose failures are misses. Its methods raise no `Exception` but `MisuseError`, before the store is asked.

    Each takes at most `timeout`.
    """

    __slots__ = ("_adapter", "_behind", "_guard", "_reporter")

    def __init__(self, adapter: CacheAdapter, guard: Guard, reporter: Reporter) -> None:
        self._adapter = adapter
        self._guard = guard
        self._reporter = reporter
        self._behind = _threads.Behind(None)

    def get(self, key: str, /) -> bytes | None:
        """The bytes, or None: there are none, or the store cannot say."""
        checked = text("key", key)
        answer = _threads.ask(self._guard, self._behind, Operation.GET, FOREVER, self._store_get, checked)
        value: Any = answer.value
        return value if answer.failed is None else None

    def set(self, key: str, value: bytes, ttl: Duration, /) -> bool:
        """True when the store acknowledged. `ttl` in seconds, or a `timedelta`."""
        checked = _check(key, value, ttl)
        answer = _threads.ask(self._guard, self._behind, Operation.SET, FOREVER, self._store_set, *checked)
        return answer.failed is None

    def delete(self, key: str, /) -> bool:
        """True when the store acknowledged."""
        checked = text("key", key)
        answer = _threads.ask(self._guard, self._behind, Operation.DELETE, FOREVER, self._store_delete, checked)
        return answer.failed is None

    def health(self) -> dict[str, object]:
        """The circuits as plain data. Never touches the store."""
        return self._guard.health()

    def stats(self) -> dict[str, int]:
        """The counters: store calls and their failures by kind."""
        return dict(self._reporter.counts)

    def close(self) -> None:
        """Close the adapter, if it can be closed; never raises an `Exception`."""
        self._behind.close()
        _threads.close(self._adapter, self._reporter)

    def _store_get(self, key: str) -> Any:
        return self._adapter.get(key)  # the method is looked up inside the guard: a lazy client may fail in it

    def _store_set(self, key: str, value: bytes, ttl: float) -> Any:
        return self._adapter.set(key, value, ttl)

    def _store_delete(self, key: str) -> Any:
        return self._adapter.delete(key)


@final
class AsyncFallback:
    """A store whose failures are misses. Its methods raise no `Exception` but `MisuseError`, before the store is asked.

    Each takes at most `timeout`.
    """

    __slots__ = ("_adapter", "_behind", "_guard", "_reporter", "_store")

    def __init__(self, adapter: AsyncCacheAdapter, guard: Guard, reporter: Reporter) -> None:
        self._adapter = adapter
        self._store = _asyncio.quickest(adapter)
        self._guard = guard
        self._reporter = reporter
        self._behind = _asyncio.Behind(None)

    async def get(self, key: str, /) -> bytes | None:
        """The bytes, or None: there are none, or the store cannot say."""
        checked = text("key", key)
        answer = await _asyncio.ask(self._guard, self._behind, Operation.GET, FOREVER, self._store_get, checked)
        value: Any = answer.value
        return value if answer.failed is None else None

    async def set(self, key: str, value: bytes, ttl: Duration, /) -> bool:
        """True when the store acknowledged. `ttl` in seconds, or a `timedelta`."""
        checked = _check(key, value, ttl)
        answer = await _asyncio.ask(self._guard, self._behind, Operation.SET, FOREVER, self._store_set, *checked)
        return answer.failed is None

    async def delete(self, key: str, /) -> bool:
        """True when the store acknowledged."""
        checked = text("key", key)
        answer = await _asyncio.ask(self._guard, self._behind, Operation.DELETE, FOREVER, self._store_delete, checked)
        return answer.failed is None

    def health(self) -> dict[str, object]:
        """The circuits as plain data. Never touches the store."""
        return self._guard.health()

    def stats(self) -> dict[str, int]:
        """The counters: store calls and their failures by kind."""
        return dict(self._reporter.counts)

    async def aclose(self) -> None:
        """Cancel what runs behind and close the adapter, if it can be closed; never raises an `Exception`."""
        await self._behind.close()
        await _asyncio.close(self._adapter, self._reporter)

    def _store_get(self, key: str) -> Any:
        return self._store.get(key)  # the method is looked up inside the guard: a lazy client may fail in it

    def _store_set(self, key: str, value: bytes, ttl: float) -> Any:
        return self._store.set(key, value, ttl)

    def _store_delete(self, key: str) -> Any:
        return self._store.delete(key)


def _check(key: object, value: object, ttl: object) -> tuple[str, bytes, float]:
    """What is to be set. A mistake of the caller must not pass for one of the store: its circuit is everybody's."""
    checked = text("key", key)
    if not isinstance(value, bytes):
        raise MisuseError(f"value must be bytes, not {type(value).__name__}")
    return checked, value, seconds("ttl", ttl, most=FINITE)


@overload
def fallback(
    adapter: CacheAdapter,
    *,
    timeout: Duration = ...,
    breaker: BreakerPolicy | None = ...,
    hooks: Iterable[Hook] = ...,
    clock: Clock = ...,
) -> Fallback: ...
@overload
def fallback(
    adapter: AsyncCacheAdapter,
    *,
    timeout: Duration = ...,
    breaker: BreakerPolicy | None = ...,
    hooks: Iterable[Hook] = ...,
    clock: Clock = ...,
) -> AsyncFallback: ...
def fallback(
    adapter: CacheAdapter | AsyncCacheAdapter,
    *,
    timeout: Duration = 0.25,
    breaker: BreakerPolicy | None = None,
    hooks: Iterable[Hook] = (),
    clock: Clock = SYSTEM_CLOCK,
) -> Fallback | AsyncFallback:
    """`adapter` with its failures turned into misses: `get` gives None then, `set` and `delete` give False.

    Behind it are a total deadline (`timeout`), a circuit for reads and one for writes, and a cap on calls in flight.
    A key that is no text, a value that is no bytes and a `ttl` that is no duration are `MisuseError` at each call.

    Raises `MisuseError` for an adapter that lacks a method, or mixes coroutines with functions. A lazy client that
    fails while its methods are looked at counts as synchronous.
    """
    reporter = Reporter("fallback", hooks, clock.monotonic)
    guard = build_guard(
        policy=CachePolicy(timeout=timeout),
        breaker=breaker,
        reporter=reporter,
        clock=clock,
        random=SYSTEM_RANDOM,
        shard=shard_of(adapter),
    )
    given: Any = adapter
    if is_async(method_of(adapter, "get")):
        _asyncio.check_adapter(adapter)
        return AsyncFallback(given, guard, reporter)
    _threads.check_adapter(adapter)
    return Fallback(given, guard, reporter)
