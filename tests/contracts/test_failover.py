"""The contract of adapters, kept by several: both well, and with a first one that can neither read nor write."""

from __future__ import annotations

import types
from collections.abc import Generator, Mapping
from typing import Any, ClassVar

import pytest

from resilient_cache import BreakerPolicy, StoreError
from resilient_cache.failover import AsyncFailover, Failover
from resilient_cache.testing import AdapterContract, AsyncAdapterContract, ManualClock

from .well import Store

LENIENT = BreakerPolicy(consecutive=1_000, min_calls=1_000)
"""A store that is back is used again at once: that a circuit takes its time is not the adapter's doing."""


class Dead(Store):
    """What can be deleted from, and nothing else: while it owes a delete, every delete is told as pending."""

    def get(self, key: str, /) -> bytes | None:
        raise ConnectionError("down")

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        raise ConnectionError("down")


@types.coroutine
def turn() -> Generator[None]:
    """One turn of the loop."""
    yield


class Awaited:
    """A `Store` behind coroutines that suspend once before each call."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, key: str, /) -> bytes | None:
        await turn()
        return self._store.get(key)

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        await turn()
        self._store.set(key, value, ttl)

    async def delete(self, key: str, /) -> None:
        await turn()
        self._store.delete(key)

    async def aclose(self) -> None:
        self._store.close()


class TwoVendors:
    """Two stores on a clock moved by hand."""

    excused: ClassVar[Mapping[str, str]] = {"open_dripping": "no network"}
    raises: ClassVar[type[Exception]] = StoreError

    @pytest.fixture(autouse=True, params=[Store, Dead], ids=["both well", "one dead"])
    def _stores(self, request: pytest.FixtureRequest) -> None:
        self.clock = ManualClock()
        self.stores = [request.param(self.clock), Store(self.clock)]

    def options(self) -> dict[str, Any]:
        for store in self.stores:
            store.closed = False
        return {"breaker": LENIENT, "clock": self.clock, "stand_in_ttl": 3_600.0}

    def monotonic(self) -> float:
        return self.clock.monotonic()

    def sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def break_store(self) -> None:
        for store in self.stores:
            store.broken = True

    def heal_store(self) -> None:
        for store in self.stores:
            store.broken = False


class TestFailover(TwoVendors, AdapterContract):
    def open(self) -> Failover:
        return Failover(*self.stores, **self.options())


class TestAsyncFailover(TwoVendors, AsyncAdapterContract):
    async def open(self) -> AsyncFailover:
        return AsyncFailover(*map(Awaited, self.stores), **self.options())

    def test_a_cancelled_call_disturbs_nobody(self) -> None:
        if isinstance(self.stores[0], Dead):
            pytest.skip("the only vendor left is not written to while a write that was cut off may yet land over it")
        super().test_a_cancelled_call_disturbs_nobody()
