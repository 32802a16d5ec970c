"""The contract of adapters, kept by three functions as a store and by the faulty stores of the testing kit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, ParamSpec, TypeVar

import pytest

from resilient_cache.adapters import MappingAdapter, from_functions
from resilient_cache.protocols import AsyncCacheAdapter, CacheAdapter
from resilient_cache.testing import (
    AdapterContract,
    AsyncAdapterContract,
    AsyncFaultyAdapter,
    Fault,
    FaultKind,
    FaultPlan,
    FaultyAdapter,
    ManualClock,
    ManualLoop,
)

from ..virtual import pass_time

P = ParamSpec("P")
T = TypeVar("T")

DOWN = Fault.raising(ConnectionError("down"))
HANG = Fault(FaultKind.HANG)
NOTHING_TO_CLOSE = {"close": "it holds nothing"}


class OnManualClock:
    """A store that fails as a plan says, whose time is moved by hand."""

    @pytest.fixture(autouse=True)
    def _plan(self) -> None:
        self.clock, self.plan = ManualClock(), FaultPlan()

    def break_store(self) -> None:
        self.plan.during(DOWN)

    def heal_store(self) -> None:
        self.plan.calm()

    def monotonic(self) -> float:
        return self.clock.monotonic()

    def sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def new_loop(self) -> asyncio.AbstractEventLoop:
        return ManualLoop(self.clock)


class Once:
    """A store that is open once."""

    def __init__(self, inner: Any) -> None:
        self.inner: Any = inner

    def close(self) -> None:
        self.inner = None

    async def aclose(self) -> None:
        self.inner = None


class TestFaultyAdapter(OnManualClock, AdapterContract):
    excused: ClassVar[Mapping[str, str]] = NOTHING_TO_CLOSE

    def open(self) -> CacheAdapter:
        return FaultyAdapter(self.clock, plan=self.plan)

    def open_dripping(self) -> CacheAdapter:
        self.plan.during(HANG)
        return self.open()


class TestAsyncFaultyAdapter(OnManualClock, AsyncAdapterContract):
    excused: ClassVar[Mapping[str, str]] = NOTHING_TO_CLOSE

    async def open(self) -> AsyncCacheAdapter:
        return AsyncFaultyAdapter(self.clock, plan=self.plan)

    async def open_dripping(self) -> AsyncCacheAdapter:
        self.plan.during(HANG)
        return await self.open()


class TestFunctions(TestFaultyAdapter):
    excused: ClassVar[Mapping[str, str]] = {}

    def open(self) -> CacheAdapter:
        store = Once(FaultyAdapter(self.clock, plan=self.plan))
        return from_functions(
            lambda key: store.inner.get(key),
            lambda key, value, ttl: store.inner.set(key, value, ttl),
            lambda key: store.inner.delete(key),
            close=store.close,
        )


class TestAsyncFunctions(TestAsyncFaultyAdapter):
    excused: ClassVar[Mapping[str, str]] = {}

    async def open(self) -> AsyncCacheAdapter:
        store = Once(AsyncFaultyAdapter(self.clock, plan=self.plan))

        async def get(key: str) -> bytes | None:
            await pass_time(0.001)
            found: bytes | None = await store.inner.get(key)
            return found

        async def set_(key: str, value: bytes, ttl: float) -> None:
            await pass_time(0.001)
            await store.inner.set(key, value, ttl)

        async def delete(key: str) -> None:
            await pass_time(0.001)
            await store.inner.delete(key)

        return from_functions(get, set_, delete, close=store.aclose)


class TestFunctionsInThreads(AdapterContract):
    """A client without timeouts: only the threads bound it. This one waits for real, 0.6 s in all."""

    deadline: ClassVar[float] = 0.1

    @pytest.fixture(autouse=True)
    def _store(self) -> Iterator[None]:
        self.fails, self.ends = False, threading.Event()
        yield
        self.ends.set()

    def break_store(self) -> None:
        self.fails = True

    def heal_store(self) -> None:
        self.fails = False

    def open(self) -> CacheAdapter:
        store, closed = MappingAdapter(), threading.Event()

        def well(operation: Callable[P, T]) -> Callable[P, T]:
            def call(*args: P.args, **kwargs: P.kwargs) -> T:
                if self.fails or closed.is_set():
                    raise ConnectionError("down")
                return operation(*args, **kwargs)

            return call

        return from_functions(well(store.get), well(store.set), well(store.delete), close=closed.set, threads=8)

    def open_dripping(self) -> CacheAdapter:
        def drip(*_: object) -> None:
            self.ends.wait()

        return from_functions(drip, drip, drip, threads=8)
