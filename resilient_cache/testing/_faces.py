"""An adapter of either colour as a contract sees it: called synchronously, and under a deadline as a cache does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias, TypeVar

from .. import deadline
from ..protocols import AsyncCacheAdapter, CacheAdapter

__all__ = ["Attempt", "AwaitedFace", "Face", "LeftBehind", "PlainFace", "awaited"]

T = TypeVar("T")
_Method: TypeAlias = Callable[..., Awaitable[object]]

PATIENCE = 5.0
"""Seconds that a call may take where time is not what is asked about."""


class LeftBehind(TimeoutError):
    """An async call that was given up and cancelled: how a cache bounds it, and no word of the adapter."""


class Attempt(NamedTuple):
    """What became of one call: the error if it raised one, else its answer, after `seconds`."""

    answer: object
    error: Exception | None
    seconds: float


class Face:
    """What the laws of both colours are written for."""

    adapter: Any
    closing = "close"
    close: Callable[[], None]
    """Closes the adapter, and raises what it raises."""
    attempt: Callable[..., Attempt]
    """`attempt(operation, *args, within=PATIENCE)`: a call as a cache makes it that gives it `within` seconds."""

    def get(self, key: str) -> object:
        return self.expect("get", key)

    def set(self, key: str, value: bytes, ttl: float) -> None:
        self.expect("set", key, value, ttl)

    def delete(self, key: str) -> None:
        self.expect("delete", key)

    def expect(self, operation: str, *args: object) -> object:
        """The answer; raises what the call raises."""
        attempt = self.attempt(operation, *args)
        if attempt.error is not None:
            raise attempt.error
        return attempt.answer


class PlainFace(Face):
    """A synchronous adapter, timed by `monotonic`."""

    def __init__(self, adapter: CacheAdapter, monotonic: Callable[[], float]) -> None:
        self.adapter = adapter
        self._monotonic = monotonic

    def attempt(self, operation: str, *args: object, within: float = PATIENCE) -> Attempt:
        began = self._monotonic()
        answer, error = None, None
        try:
            with _deadline(within, self._monotonic):
                answer = getattr(self.adapter, operation)(*args)
        except Exception as raised:  # noqa: BLE001 - what it raises is what is asked
            error = raised
        return Attempt(answer, error, self._monotonic() - began)

    def close(self) -> None:
        self.adapter.close()


class AwaitedFace(Face):
    """An async adapter in the loop of `runner`. Like a cache, it leaves a late call behind; and then cancels it."""

    closing = "aclose"

    def __init__(self, adapter: AsyncCacheAdapter, runner: asyncio.Runner, slack: float) -> None:
        self.adapter = adapter
        self._runner = runner
        self._slack = slack

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` returns, run in the loop."""
        return self._runner.run(work)

    def attempt(self, operation: str, *args: object, within: float = PATIENCE) -> Attempt:
        return self.run(self._attempt(getattr(self.adapter, operation), args, within))

    def close(self) -> None:
        self.run(awaited(self.adapter.aclose))

    async def _attempt(
        self, method: Callable[..., Awaitable[object]], args: tuple[object, ...], within: float
    ) -> Attempt:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with _deadline(within, loop.time):
            task = loop.create_task(awaited(method, *args))
        await asyncio.wait({task}, timeout=within)
        if task.done():
            error = task.exception()
            assert error is None or isinstance(error, Exception)
            return Attempt(None if error else task.result(), error, loop.time() - began)
        took = loop.time() - began
        task.cancel()
        await asyncio.wait({task}, timeout=self._slack)
        assert task.done(), f"a call that is left behind must be over {self._slack:g} s after it is cancelled"
        return Attempt(None, LeftBehind(f"no answer within {within:g} s"), took)


async def awaited(method: Callable[..., Awaitable[T]], *args: object) -> T:
    """A coroutine of any call that gives something to await."""
    return await method(*args)


@contextmanager
def _deadline(seconds: float, monotonic: Callable[[], float]) -> Generator[None]:
    token = deadline.CURRENT.set((monotonic() + seconds, monotonic))
    try:
        yield
    finally:
        deadline.CURRENT.reset(token)
