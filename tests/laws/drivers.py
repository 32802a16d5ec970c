"""Carry out a scenario in one colour: a driver is how its colour calls, sleeps and runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from resilient_cache import AsyncResilientCache, ResilientCache
from resilient_cache.deadline import remaining
from resilient_cache.testing import AsyncFaultyAdapter, DictStore, FaultyAdapter, run_virtual

from ..virtual import pass_time
from .course import Driver, Seen, run_now
from .scenario import Load, Setup, Step


class Meddled:
    """A store in which somebody else's work can come between the answer and its arrival."""

    def __init__(self, store: DictStore) -> None:
        self.store = store
        self.meddle: dict[str, Callable[[str], Coroutine[Any, Any, None]]] = {}

    async def _run(self, operation: str, key: str, *args: Any) -> Any:
        answer = getattr(self.store, operation)(key, *args)
        if operation in self.meddle and remaining() != 0.0:  # a call that was given up belongs to no step any more
            await self.meddle.pop(operation)(key.partition(":")[2])
        return answer


class SyncMeddled(Meddled):
    """For threads."""

    def get(self, key: str, /) -> Any:
        return run_now(self._run("get", key))

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        run_now(self._run("set", key, value, ttl))

    def delete(self, key: str, /) -> None:
        run_now(self._run("delete", key))


class AsyncMeddled(Meddled):
    """For tasks."""

    async def get(self, key: str, /) -> Any:
        return await self._run("get", key)

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        await self._run("set", key, value, ttl)

    async def delete(self, key: str, /) -> None:
        await self._run("delete", key)


class SyncDriver(Driver):
    """Through `ResilientCache`, in this thread."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.meddled = inner = SyncMeddled(self.entries)
        self.adapter = FaultyAdapter(self.clock, inner, plan=self.plan)

    def make(self) -> Any:
        return ResilientCache[str, Any](self.adapter if self.setup.store else None, **self.options())

    async def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.cache, name)(*args, **kwargs)

    async def sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def loader(self, load: Load, seen: Seen) -> Any:
        return lambda key: run_now(self.origin(key, load, seen))

    async def run_behind(self, work: Any) -> None:
        work()

    def run(self, steps: list[Step]) -> None:
        run_now(self.play(steps))
        self.cache.close()


class AsyncDriver(Driver):
    """Through `AsyncResilientCache`, in one task of a loop in virtual time."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.meddled = inner = AsyncMeddled(self.entries)
        self.adapter = AsyncFaultyAdapter(self.clock, inner, plan=self.plan)

    def make(self) -> Any:
        return AsyncResilientCache[str, Any](self.adapter if self.setup.store else None, **self.options())

    async def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return await getattr(self.cache, name)(*args, **kwargs)

    async def sleep(self, seconds: float) -> None:
        await pass_time(seconds)

    def loader(self, load: Load, seen: Seen) -> Any:
        async def loader(key: str) -> Any:
            return await self.origin(key, load, seen)

        return loader

    async def run_behind(self, work: Any) -> None:
        await work

    def run(self, steps: list[Step]) -> None:
        async def main() -> None:
            await self.play(steps)
            for cache in self.caches:
                await cache.aclose()
            if any(step.op == "meddle" for step in steps):
                await pass_time(6)  # calls within calls end one after the other
            assert asyncio.all_tasks() == {asyncio.current_task()}, "something runs on after the caches were closed"

        run_virtual(main(), self.clock)


class Futures:
    """The methods of an adapter as plain functions that give futures."""

    def __init__(self, adapter: AsyncFaultyAdapter) -> None:
        self._adapter = adapter

    def get(self, key: str) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self._adapter.get(key))

    def set(self, key: str, value: bytes, ttl: float) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self._adapter.set(key, value, ttl))

    def delete(self, key: str) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self._adapter.delete(key))


class FuturesDriver(AsyncDriver):
    """Through `AsyncResilientCache`, over a store that gives futures."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        vars(self.adapter)["futures"] = Futures(self.adapter)


COLOURS = (SyncDriver, AsyncDriver)


def run(driver: type[SyncDriver] | type[AsyncDriver], setup: Setup, steps: list[Step]) -> SyncDriver | AsyncDriver:
    """A driver that has carried out `steps`."""
    driven = driver(setup)
    driven.run(steps)
    return driven
