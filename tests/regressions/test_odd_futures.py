"""Stores that give futures which are none, or have an attribute `futures` that is something else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from resilient_cache import AsyncResilientCache
from resilient_cache.testing import ManualClock, run_virtual


class Store:
    """Has `futures`, whose methods all do the same."""

    def __init__(self, futures: object) -> None:
        self.futures = futures
        self.gets = 0

    async def get(self, key: str) -> bytes | None:
        self.gets += 1
        return None

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        pass

    async def delete(self, key: str) -> None:
        pass


class Futures:
    """Methods that all do the same."""

    def __init__(self, give: Callable[[], object]) -> None:
        self.get = self.set = self.delete = lambda *_: give()


class Claims:
    """Claims to be a future, as far as asyncio asks, and is none."""

    _asyncio_future_blocking = False

    def add_done_callback(self, callback: Callable[[object], object]) -> None:
        callback(self)

    def done(self) -> bool:
        raise RuntimeError("no future")


class Lying(asyncio.Future[Any]):
    """A future that raises when it is asked whether it is over."""

    def done(self) -> bool:
        raise RuntimeError("not saying")


def of_another_loop() -> asyncio.Future[Any]:
    loop = asyncio.new_event_loop()
    future: asyncio.Future[Any] = loop.create_future()
    loop.close()
    return future


@pytest.mark.parametrize("give", [Claims, Lying, of_another_loop])
def test_what_is_no_future_of_this_loop_is_a_failure_of_the_store(give: Callable[[], object]) -> None:
    async def load(key: str) -> str:
        return key

    async def main() -> None:
        cache: AsyncResilientCache[str, str] = AsyncResilientCache(Store(Futures(give)), name="odd", memory=0)
        assert await cache.get_or_load("k", load) == "k"
        assert sum(number for name, number in cache.stats().items() if name.startswith("store_get_")) == 1
        await cache.aclose()
        assert cache.health()["store_calls_in_flight"] == 0

    run_virtual(main(), ManualClock())


class Wrapper:
    """Does something of its own to get, and hands on all else."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self.gets = 0

    async def get(self, key: str) -> bytes | None:
        self.gets += 1
        return await self._inner.get(key)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def never() -> object:
    raise AssertionError("gone round")


@pytest.mark.parametrize(
    "adapter", [Wrapper(Store(Futures(never))), Store({}), Store([])], ids=["wrapper", "dict", "list"]
)
def test_a_store_is_called_itself_where_the_futures_are_not_its_own(adapter: Any) -> None:
    async def main() -> None:
        cache: AsyncResilientCache[str, str] = AsyncResilientCache(adapter, name="odd", memory=0)
        assert await cache.get("k") is None
        assert adapter.gets == 1

    run_virtual(main(), ManualClock())
