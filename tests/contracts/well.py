"""Adapters that keep the contract, to be broken in one way each, and what finds the laws that then fail."""

from __future__ import annotations

import asyncio
import unittest
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from resilient_cache.testing import AdapterContract, AsyncAdapterContract, DictStore, ManualClock, ManualLoop

__all__ = ["InVirtualTime", "OnStore", "Queued", "Store", "failed"]


def failed(contract: type[AdapterContract | AsyncAdapterContract]) -> set[str]:
    """The laws that the contract's adapter breaks."""
    found: set[str] = set()
    for law in (name for name in dir(contract) if name.startswith("test_")):
        try:
            getattr(contract(), law)()
        except unittest.SkipTest:
            continue
        except Exception:
            found.add(law.removeprefix("test_"))
    return found


class Store:
    """What a well synchronous adapter does."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.inner: Any = DictStore(clock)
        self.broken = self.closed = False

    def check(self) -> None:
        if self.broken or self.closed:
            raise ConnectionError("down")

    def get(self, key: str, /) -> bytes | None:
        self.check()
        found: bytes | None = self.inner.get(key)
        return found

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        self.check()
        self.inner.set(key, value, ttl)

    def delete(self, key: str, /) -> None:
        self.check()
        self.inner.delete(key)

    def close(self) -> None:
        self.closed = True


class OnStore(AdapterContract):
    """The contract of a `Store`."""

    excused: ClassVar[Mapping[str, str]] = {"open_dripping": "no network"}
    kind: Callable[[ManualClock], Any] = Store

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = type(self).kind(self.clock)

    def open(self) -> Any:
        return self.store

    def break_store(self) -> None:
        self.store.broken = True

    def heal_store(self) -> None:
        self.store.broken = False

    def monotonic(self) -> float:
        return self.clock.monotonic()

    def sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)


class InVirtualTime(AsyncAdapterContract):
    """The contract of an async adapter whose time is that of `clock`."""

    def __init__(self) -> None:
        self.clock = ManualClock()

    def new_loop(self) -> asyncio.AbstractEventLoop:
        return ManualLoop(self.clock)

    def monotonic(self) -> float:
        return self.clock.monotonic()

    def sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)


class Line:
    """A connection to a store: answers come in the order of the questions, a moment later."""

    def __init__(self, clock: ManualClock) -> None:
        self.store = DictStore(clock)
        self.answers: asyncio.Queue[Any] = asyncio.Queue()

    def send(self, operation: str, *args: Any) -> None:
        loop = asyncio.get_running_loop()
        answer = getattr(self.store, operation)(*args)
        loop.call_soon(loop.call_soon, self.answers.put_nowait, answer)


class Queued:
    """A well async adapter over one connection: one call at a time, and a new queue after one that was cancelled."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.line = Line(clock)
        self.lock = asyncio.Lock()
        self.broken = self.closed = self.drips = False

    async def ask(self, operation: str, *args: Any) -> Any:
        if self.broken or self.closed:
            raise ConnectionError("down")
        async with self.lock:
            self.line.send(operation, *args)
            try:
                return await self.answer()
            except BaseException:
                self.hang_up()
                raise

    async def answer(self) -> Any:
        return await (asyncio.Event().wait() if self.drips else self.line.answers.get())

    def hang_up(self) -> None:
        self.line.answers = asyncio.Queue()  # what is still to come goes to the old one

    async def get(self, key: str, /) -> bytes | None:
        found: bytes | None = await self.ask("get", key)
        return found

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        await self.ask("set", key, value, ttl)

    async def delete(self, key: str, /) -> None:
        await self.ask("delete", key)

    async def aclose(self) -> None:
        self.closed = True
