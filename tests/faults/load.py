"""Callers of a cache, in threads or in tasks, who check every answer they get."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, Self

from resilient_cache import AsyncResilientCache, BreakerPolicy, CachePolicy, ResilientCache
from resilient_cache.outcome import Direction

from .watch import KEYS, Origin, Watch

__all__ = ["LOADS", "NAME", "Load", "Pace"]

NAME = "faults"
THREADS, TASKS = 8, 32
LOADING = 0.002
CHANGES = 0.1
"""The share of requests that change the record and invalidate; all others read."""


@dataclass(frozen=True)
class Pace:
    """The numbers of one run: what the cache is given; how often the store answers before it fails, and for how many
    seconds the fault is held once the circuits have had time to open."""

    timeout: float
    breaker: BreakerPolicy
    hits: int
    held: float


class Load(Protocol):
    """Callers of either colour; they begin with the context and have ended after it."""

    watch: Watch
    origin: Origin

    def __init__(self, adapter: Any, pace: Pace) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *raised: object) -> None: ...

    def give_up(self, count: int) -> None:
        """Let `count` more readers ask and lose patience, each at another moment of its call."""

    def read_all(self) -> bool:
        """Read every key, in a process where these callers are not; whether each was right and some were hits."""
        ...


def patience(number: int) -> float:
    """The time after which that reader gives up."""
    return 0.0005 * (number % 40)


class _Load:
    def __init__(self) -> None:
        self.watch, self.origin = Watch(), Origin()
        self.stop = threading.Event()

    def options(self, pace: Pace) -> dict[str, Any]:
        policy = CachePolicy(ttl=600, stale_for=0, timeout=pace.timeout)
        return {"name": NAME, "policy": policy, "breaker": pace.breaker, "hooks": [self.watch]}


class Threads(_Load):
    def __init__(self, adapter: Any, pace: Pace) -> None:
        super().__init__()
        self.cache = ResilientCache[str, str](self.watch.watched(adapter), **self.options(pace))
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(THREADS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()
        self.cache.close()

    def give_up(self, count: int) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            calls = [pool.submit(self._read, KEYS[n % len(KEYS)], patience(n)) for n in range(count)]
        for call in calls:
            call.result()

    def read_all(self) -> bool:
        began = self.watch.begin_anew()
        for key in KEYS:
            self._read(key)
        return self.watch.was_of_use(began)

    def _call(self, number: int) -> None:
        chance = random.Random(number)
        while not self.stop.wait(0.016):
            if chance.random() < CHANGES:
                self._change(chance.choice(KEYS))
            else:
                self._read(chance.choice(KEYS))

    def _change(self, key: str) -> None:
        with self.watch.request(Direction.WRITE):
            version = self.origin.change(key)
            self.cache.invalidate(key)
            self.origin.invalidated(key, version)

    def _read(self, key: str, deadline: float | None = None) -> None:
        with self.watch.request(Direction.READ):
            least = self.origin.least(key)
            self.watch.judge(key, self.cache.get_or_load(key, self._load, deadline=deadline), least)

    def _load(self, key: str) -> str:
        value = self.origin.value(key)
        time.sleep(LOADING)
        return value


class Tasks(_Load):
    def __init__(self, adapter: Any, pace: Pace) -> None:
        super().__init__()
        self.cache = AsyncResilientCache[str, str](self.watch.watched(adapter), **self.options(pace))
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._begun = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._begun.wait(10)
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop.set()
        self._thread.join()

    def give_up(self, count: int) -> None:
        asyncio.run_coroutine_threadsafe(self._cancel(count), self._loop).result(30)

    def read_all(self) -> bool:
        began = self.watch.begin_anew()
        asyncio.run(self._read_each())
        return self.watch.was_of_use(began)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with self.cache, asyncio.TaskGroup() as group:
            for number in range(TASKS):
                group.create_task(self._call(number))
            self._begun.set()

    async def _call(self, number: int) -> None:
        chance = random.Random(number)
        while not self.stop.is_set():
            await asyncio.sleep(0.064)
            if chance.random() < CHANGES:
                await self._change(chance.choice(KEYS))
            else:
                await self._read(chance.choice(KEYS))

    async def _change(self, key: str) -> None:
        with self.watch.request(Direction.WRITE):
            version = self.origin.change(key)
            await self.cache.invalidate(key)
            self.origin.invalidated(key, version)

    async def _read(self, key: str) -> None:
        with self.watch.request(Direction.READ):
            least = self.origin.least(key)
            self.watch.judge(key, await self.cache.get_or_load(key, self._load), least)

    async def _cancel(self, count: int) -> None:
        async def cancelled(number: int) -> bool:
            reading = asyncio.create_task(self._read(KEYS[number % len(KEYS)]))
            await asyncio.sleep(patience(number))
            accepted = reading.cancel()
            await asyncio.wait({reading})
            return accepted == reading.cancelled()

        for first in range(0, count, len(KEYS)):  # for each key once at a time, or they would share flights
            if not all(await asyncio.gather(*map(cancelled, range(first, first + len(KEYS))))):
                self.watch.errors.append(RuntimeError("a cancellation was swallowed"))

    async def _read_each(self) -> None:
        for key in KEYS:
            await self._read(key)

    async def _load(self, key: str) -> str:
        value = self.origin.value(key)
        await asyncio.sleep(LOADING)
        return value


LOADS: dict[str, type[Load]] = {"sync": Threads, "async": Tasks}
