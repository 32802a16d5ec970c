"""An adapter of either colour as a contract sees it: called synchronously, and under a deadline as a cache does."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeVar

from .. import deadline
from ._callers import Caller, endless

__all__ = ["FOR_MANY", "METHODS", "PATIENCE", "Attempt", "AwaitedFace", "Face", "LeftBehind", "PlainFace", "awaited"]

T = TypeVar("T")

METHODS: Final = ("get", "set", "delete")
FOR_MANY: Final = ("get_many", "set_many", "delete_many")
PATIENCE: Final = 5.0
"""Seconds that a call may take where time is not what is asked about."""
SCENE: Final = 60.0
"""Seconds that all calls of a scene may take together."""
BEAT: Final = 0.005
"""Seconds between two looks at whether the loop still turns: a tenth of the shortest stall that is looked for."""


class LeftBehind(TimeoutError):
    """An async call that was given up and cancelled: how a cache bounds it, and no word of the adapter."""


class Attempt(NamedTuple):
    """What became of one call: the error if it raised one, else its answer, after `seconds`.

    `stalled` is for how long the event loop stood still meanwhile.
    """

    answer: object
    error: Exception | None
    seconds: float
    stalled: float = 0.0


class Face:
    """What the laws of both colours are written for."""

    adapter: Any
    closing = "close"
    close: Callable[[], None]
    """Closes the adapter, and raises what it raises."""
    attempt: Callable[..., Attempt]
    """`attempt(operation, *args, within=PATIENCE)`: a call as a cache makes it that gives it `within` seconds."""
    plainly: Callable[[Callable[[], Any]], Any]
    """What a plain function gives, called where the adapter is."""

    @property
    def operations(self) -> list[str]:
        """What a cache calls: three methods, and those for many keys that the adapter has of its own."""
        return [*METHODS, *(name for name in FOR_MANY if callable(own(self.adapter, name)))]

    def get(self, key: str) -> object:
        return self.expect("get", key)

    def set(self, key: str, value: bytes, ttl: float) -> None:
        self.expect("set", key, value, ttl)

    def delete(self, key: str) -> None:
        self.expect("delete", key)

    def expect(self, operation: str, *args: object) -> object:
        """The answer; raises what the call raises."""
        return _answer(operation, self.attempt(operation, *args, within=PATIENCE))


class PlainFace(Face):
    """A synchronous adapter, timed by `monotonic`. Its calls are made by one thread, or by several that share it."""

    def __init__(self, monotonic: Callable[[], float], slack: float) -> None:
        self._monotonic = monotonic
        self._slack = slack
        self._caller = Caller()

    def attempt(self, operation: str, *args: object, within: float = PATIENCE) -> Attempt:
        patience = max(within, PATIENCE) + self._slack
        return self._call(operation, patience, lambda: self._attempt(getattr(self.adapter, operation), args, within))

    def plainly(self, function: Callable[[], T]) -> T:
        return self._call(str(function), PATIENCE, function)

    def close(self) -> None:
        self._call(self.closing, PATIENCE, self.adapter.close)

    def scene(self, name: str, act: Callable[[], T]) -> T:
        """What `act` gives, which makes its calls by itself, in the thread of this face."""
        return self._call(name, SCENE, act)

    def together(self, acts: Iterable[Callable[[], object]]) -> None:
        """Play all of `acts` at once, in a thread each."""
        callers = [(caller := Caller(), caller.begin(act)) for act in acts]
        try:
            for caller, begun in callers:
                caller.outcome("each thread", SCENE, begun)
        finally:
            for caller, begun in callers:
                caller.stuck = not begun.done()
                caller.end()

    def end(self) -> None:
        """Let go of the thread."""
        self._caller.end()

    def _call(self, what: str, within: float, function: Callable[[], T]) -> T:
        if isinstance(threading.current_thread(), Caller):
            return function()
        if self._caller.stuck:
            self._caller.end()
            self._caller = Caller()
        return self._caller.call(what, within, function)

    def _attempt(self, method: Callable[..., object], args: tuple[object, ...], within: float) -> Attempt:
        began = self._monotonic()
        answer, error = None, None
        try:
            with _deadline(within, self._monotonic):
                answer = method(*args)
        except Exception as raised:  # noqa: BLE001 - what it raises is what is asked
            error = raised
        return Attempt(answer, error, self._monotonic() - began)


class AwaitedFace(Face):
    """An async adapter in `loop`. Like a cache, it leaves a late call behind; and then cancels it.

    With `by_futures` it calls those of the adapter, as a cache does where there are any.
    """

    closing = "aclose"
    by_futures = False
    futures: Any = None
    """What a cache calls in place of the adapter's own methods, None where there is nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop, slack: float) -> None:
        self._loop = loop
        self._slack = slack
        self._caller = Caller()

    def take(self, adapter: Any) -> None:
        """Let `adapter` be the one; its futures are looked for once, as by a cache."""
        self.adapter = adapter
        futures = own(adapter, "futures")
        self.futures = futures if all(callable(getattr(futures, name, None)) for name in METHODS) else None

    def method(self, operation: str) -> Callable[..., Awaitable[object]]:
        """What is called for `operation`."""
        called = self.futures if self.by_futures and operation in METHODS else self.adapter
        method: Callable[..., Awaitable[object]] = getattr(called, operation)
        return method

    def run(self, work: Coroutine[Any, Any, T], within: float = SCENE, what: str = "the scene") -> T:
        """What `work` returns, run in the loop for at most `within` seconds."""
        if self._caller.stuck:
            work.close()
            raise AssertionError("the event loop stands still")
        bounded = self.bounded(work, within, what)
        return self._caller.call(what, within + PATIENCE, lambda: self._loop.run_until_complete(bounded))

    async def bounded(self, work: Coroutine[Any, Any, T], within: float, what: str) -> T:
        """What `work` returns. Raises `AssertionError` when it takes longer, also when it cannot be cancelled."""
        task = asyncio.ensure_future(work)
        await asyncio.wait({task}, timeout=within)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=self._slack)
            raise AssertionError(endless(what, within))
        return task.result()

    def attempt(self, operation: str, *args: object, within: float = PATIENCE) -> Attempt:
        return self.run(self._attempt(operation, args, within), within + PATIENCE, operation)

    async def ask(self, operation: str, *args: object) -> object:
        """The same as `expect`, for a scene that is played in the loop."""
        return _answer(operation, await self._attempt(operation, args, PATIENCE))

    def plainly(self, function: Callable[[], T]) -> T:
        async def call() -> T:
            return function()

        return self.run(call(), PATIENCE, str(function))

    def close(self) -> None:
        self.run(awaited(self.adapter.aclose), PATIENCE, self.closing)

    def end(self) -> None:
        """End the loop and what runs in it; what refuses to end is left behind."""
        ending = self._caller.begin(self._end)
        if not self._caller.stuck:
            with contextlib.suppress(AssertionError):
                self._caller.outcome("the loop", PATIENCE, ending)
        self._caller.end()

    def _end(self) -> None:
        self._loop.run_until_complete(self._rest())
        self._loop.close()

    async def _rest(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=self._slack)
        await self._loop.shutdown_asyncgens()

    async def _attempt(self, operation: str, args: tuple[object, ...], within: float) -> Attempt:
        loop = self._loop
        pulse = _Pulse(loop)
        began = loop.time()
        with _deadline(within, loop.time):
            task = loop.create_task(awaited(self.method(operation), *args))
        await asyncio.wait({task}, timeout=within)
        took, stalled = loop.time() - began, pulse.end()
        if task.done():
            error = task.exception()
            assert error is None or isinstance(error, Exception)
            return Attempt(None if error else task.result(), error, took, stalled)
        task.cancel()
        await asyncio.wait({task}, timeout=self._slack)
        if not task.done():
            raise AssertionError(f"a call that is left behind must be over {self._slack:g} s after it is cancelled")
        return Attempt(None, LeftBehind(f"no answer within {within:g} s"), took, stalled)


class _Pulse:
    """Measures for how long a loop stands still."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._last, self._longest = loop.time(), 0.0
        self._beat()

    def end(self) -> float:
        """The longest time between two looks."""
        self._timer.cancel()
        return self._look()

    def _beat(self) -> None:
        self._look()
        self._timer = self._loop.call_later(BEAT, self._beat)

    def _look(self) -> float:
        now = self._loop.time()
        self._longest = max(self._longest, now - self._last)
        self._last = now
        return self._longest


async def awaited(method: Callable[..., Awaitable[T]], *args: object) -> T:
    """A coroutine of any call that gives something to await."""
    return await method(*args)


def own(adapter: object, name: str) -> Any:
    """An attribute of the adapter, None when there is none. Not what `__getattr__` finds: a mock has everything."""
    return None if inspect.getattr_static(adapter, name, None) is None else getattr(adapter, name, None)


def _answer(operation: str, attempt: Attempt) -> object:
    if isinstance(attempt.error, LeftBehind):
        raise AssertionError(endless(operation, PATIENCE)) from attempt.error
    if attempt.error is not None:
        raise attempt.error
    return attempt.answer


@contextmanager
def _deadline(seconds: float, monotonic: Callable[[], float]) -> Generator[None]:
    token = deadline.CURRENT.set((monotonic() + seconds, monotonic))
    try:
        yield
    finally:
        deadline.CURRENT.reset(token)
