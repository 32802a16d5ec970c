"""Waiting, for tasks: a store call with its deadline, a seat in a flight, work behind, closing.

Theory. A store call runs in a task of its own and is *abandoned* at its deadline, not cancelled: a cancelled read costs
its connection (33 -> 510 us for the next), and with an older client it cost the next reader's answer (197 of 200). What
is still running `INFLIGHT_MAX` later is cancelled after all. `asyncio.wait_for` is never used, it swallowed an accepted
cancellation in 300 of 300 tries; `asyncio.timeout` costs 2-3 us and swallows one when entered with no time left.

Every waiter makes its own future, in its own loop, when it waits, and is woken through that loop: nothing of asyncio
lives on the cache, so one cache serves loops in several threads and runtimes that forbid sharing between requests.

Invariants: an admitted call is settled exactly once, whatever ends it; a caller's cancellation always gets out.

Twin of `_threads.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeAlias, TypeVar, final

from ._guard import INFLIGHT_MAX, Answer, Call, Guard
from ._reporting import Reporter
from .deadline import CURRENT
from .errors import FailureKind, MisuseError, StoreError
from .outcome import Operation, Reason

__all__ = ["Behind", "Seat", "Spawn", "ask", "check_adapter", "check_loader", "close", "load"]

K = TypeVar("K")
V = TypeVar("V")

PROBING: Final = Answer(Reason.OPEN)
"""For the caller whose call became the probe: a miss at once, while the probe runs behind."""

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, object]], object]
"""Runs a coroutine behind: takes it and returns at once."""


def is_async(function: object) -> bool:
    """Whether calling `function` is known to give a coroutine; sees through `functools.partial` and `wraps`."""
    while isinstance(function, functools.partial):
        function = function.func
    if not callable(function):
        return False
    return any(map(inspect.iscoroutinefunction, (function, inspect.unwrap(function), type(function).__call__)))


def _is_plain(function: object) -> bool:
    return inspect.isroutine(function) and not is_async(function)


def check_loader(loader: object) -> None:
    """Raises `MisuseError` for a loader that can never work here. What a lambda gives shows when it is called."""
    code = getattr(loader, "__code__", None)
    if code is not None and code.co_flags & inspect.CO_COROUTINE:
        return  # a coroutine function: 0.1 us instead of 1
    if not callable(loader):
        raise MisuseError(f"loader must be a coroutine function of the key, not {type(loader).__name__}")
    if _is_plain(loader) and getattr(loader, "__name__", "") != "<lambda>":
        raise MisuseError(f"loader must be a coroutine function (async def) here; {loader!r} is a plain function")


def check_adapter(adapter: object) -> None:
    """Raises `MisuseError` for an adapter that lacks a method or blocks."""
    for name in ("get", "set", "delete"):
        try:
            method: object = getattr(adapter, name, None)
        except Exception:  # noqa: BLE001, S112 - around a store: a lazy client may fail to connect
            continue
        if not callable(method):
            raise MisuseError(f"adapter must have the methods get, set and delete; {adapter!r} has no {name}")
        if _is_plain(method):
            raise MisuseError(f"adapter must have coroutine methods here (its {name} is none); use ResilientCache")


async def load(loader: Callable[[K], Awaitable[V]], key: K) -> V:
    """What the loader gives; its exceptions are its own. Raises `MisuseError` when it gives nothing to await."""
    loading: Any = loader(key)
    if not inspect.isawaitable(loading):
        raise MisuseError(f"loader must be a coroutine function here; {loader!r} gave a {type(loading).__name__}")
    value: V = await loading
    return value


async def close(adapter: Any, reporter: Reporter) -> None:
    """Close a store that can be closed; one that fails in it is counted."""
    method = getattr(adapter, "aclose", None)
    if method is not None:
        try:
            await method()
        except Exception:  # noqa: BLE001 - around a store
            reporter.count("close_errors")


async def ask(
    guard: Guard, behind: Behind, operation: Operation, time_left: float, function: Callable[..., Any], *args: object
) -> Answer:
    """Call the store, if it may be called, within its deadline. Never raises an `Exception`."""
    call = guard.admit(operation, time_left)
    if not isinstance(call, Call):
        return Answer(call)
    if call.ticket < 0 and behind.spawn(lambda: _perform(guard, behind, call, function, args)):
        return PROBING
    return await _perform(guard, behind, call, function, args)


async def _perform(
    guard: Guard, behind: Behind, call: Call, function: Callable[..., Any], args: tuple[object, ...]
) -> Answer:
    loop = asyncio.get_running_loop()
    seat = Seat()
    token = CURRENT.set((call.until, guard.monotonic))
    task = loop.create_task(_run(seat, function, args))
    CURRENT.reset(token)
    try:
        await seat.wait(call.until - guard.monotonic())
    except BaseException:
        guard.cancelled(call, running=not loop.is_closed() and behind.abandon(task, guard, call))
        raise
    if behind.abandon(task, guard, call):
        return guard.failed(call, TimeoutError(), running=True)
    if task.cancelled():  # not by our caller, who would not be here: the client cancelled its own work
        return guard.failed(call, StoreError(FailureKind.UNKNOWN, "the client cancelled the call"))
    error = task.exception()
    if error is None:
        return guard.answered(call, task.result())
    if isinstance(error, Exception):
        return guard.failed(call, error)
    guard.cancelled(call)
    raise error


async def _run(seat: Seat, function: Callable[..., Any], args: tuple[object, ...]) -> object:
    try:
        return await function(*args)
    finally:
        seat.rise()  # from within: a done callback would wake the caller one turn of the loop later


@final
class Seat:
    """Where one caller waits, in its own loop."""

    __slots__ = ("_future", "verdict")

    def __init__(self) -> None:
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.verdict: str | None = None

    def wake(self) -> None:
        """Let the waiting task go on; it may wait in another thread's loop, or that loop may be gone."""
        loop = self._future.get_loop()
        if loop is _running_loop():
            self.rise()
        elif not loop.is_closed():
            with contextlib.suppress(RuntimeError):  # closed since
                loop.call_soon_threadsafe(self.rise)

    def rise(self) -> None:
        """Let the waiting task go on; to be called in its loop, or after it."""
        if not self._future.done() and not self._future.get_loop().is_closed():
            self._future.set_result(None)

    async def wait(self, seconds: float) -> None:
        """Until woken, at most `seconds`."""
        timer = self._future.get_loop().call_later(seconds, self.rise)
        try:
            await self._future
        finally:
            timer.cancel()


@final
class Behind:
    """What runs behind the callers: tasks, and store calls that nobody waits for any more."""

    __slots__ = ("_spawn", "_tasks")

    def __init__(self, spawn: Spawn | None) -> None:
        self._spawn = spawn or self._task
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Callable[[], Coroutine[Any, Any, object]]) -> bool:
        """Run `work` behind; False when nothing can run there, and then it has not begun."""
        coroutine = work()
        try:
            self._spawn(coroutine)
        except Exception:  # noqa: BLE001 - around the caller's spawn
            coroutine.close()
            return False
        return True

    def abandon(self, task: asyncio.Task[Any], guard: Guard, call: Call) -> bool:
        """Leave a store call to itself if it still runs, for `INFLIGHT_MAX` seconds at most."""
        if task.done():
            return False
        timer = task.get_loop().call_later(INFLIGHT_MAX, task.cancel)

        def end(ended: asyncio.Task[Any]) -> None:
            timer.cancel()
            guard.ended(call)
            self._forget(ended)

        self._tasks.add(task)
        task.add_done_callback(end)
        return True

    async def close(self) -> None:
        """Cancel what runs behind in this loop, and wait for it to end."""
        here = asyncio.get_running_loop()
        mine = [task for task in self._tasks if task.get_loop() is here]
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)

    def _task(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, or asyncio complains that nobody did


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
