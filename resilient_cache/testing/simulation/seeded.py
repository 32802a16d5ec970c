"""An event loop in virtual time that also chooses, from a tape, which of the ready callbacks runs next.

asyncio runs them in the order in which they became ready; code that is right only in that order is wrong as soon as one
more await stands somewhere. Half of the choices keep that order all the same, for faults that need it.

Only tasks, futures and timers: whoever needs a socket or a thread is not simulated.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Generator
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from typing_extensions import TypeVarTuple

from ..clock import Deadlock
from .tape import Tape

if TYPE_CHECKING:
    from asyncio import SelectorEventLoop as EventLoop
else:
    from asyncio import AbstractEventLoop as EventLoop  # what is not below is not offered, and has no weight

__all__ = ["SeededLoop"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

SET_RUNNING: Final[Callable[[asyncio.AbstractEventLoop | None], None]] = vars(asyncio.events)["_set_running_loop"]
MOST_STEPS: Final = 50_000


@final
class _Handle(asyncio.TimerHandle):
    """A callback to come. The base class is what annotations ask for; none of its weight is used."""

    __slots__ = ("arguments", "at", "call", "gone", "surroundings")

    def __init__(
        self, call: Callable[..., object], arguments: tuple[Any, ...], context: contextvars.Context | None, at: float
    ) -> None:
        self.call = call
        self.arguments = arguments
        self.surroundings = context if context is not None else contextvars.copy_context()
        self.at = at
        self.gone = False

    def cancel(self) -> None:
        self.gone = True

    def cancelled(self) -> bool:
        return self.gone

    def when(self) -> float:
        return self.at


@final
class SeededLoop(EventLoop):
    """A loop whose time is virtual and whose order is on `tape`; `orderly` keeps asyncio's own order.

    `complaints` are what was given to the exception handler. `run` raises `Deadlock` where a real loop would hang, or
    when it takes more steps than any scenario needs.
    """

    def __init__(self, tape: Tape, *, orderly: bool = False, start: float = 1_000.0) -> None:
        self.now = start
        self.complaints: list[str] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.steps = 0
        self._tape = tape
        self._orderly = orderly
        self._ready: list[_Handle] = []
        self._timers: list[tuple[float, int, _Handle]] = []
        self._count = 0
        self._closed = False

    def time(self) -> float:
        """Virtual seconds."""
        return self.now

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Run `callback` in some order among what is ready."""
        handle = _Handle(callback, args, context, self.now)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run `callback` in `delay` seconds."""
        return self.call_at(self.now + max(0.0, delay), callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run `callback` at the moment `when`."""
        handle = _Handle(callback, args, context, when)
        self._count += 1
        heappush(self._timers, (when, self._count, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, T] | Generator[Any, Any, T], *, context: Any = None, **_named: Any
    ) -> asyncio.Task[T]:
        """A task of this loop."""
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, context=context)
        self.tasks.append(task)
        return task

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Whether it is open."""
        return not self._closed

    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Cancel what is left, let it end, and run nothing any more."""
        self._timers.clear()
        for task in self.tasks:
            task.cancel()
        SET_RUNNING(self)
        while self._ready:
            self._run(self._ready.pop(0))
        SET_RUNNING(None)
        self._closed = True

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Note what nobody took care of."""
        self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """What `main` returns."""
        task = self.create_task(main)
        hung = self.drive(task)
        if hung:
            raise Deadlock(hung)
        return task.result()

    def drive(self, task: asyncio.Task[Any]) -> str:
        """Run until `task` is done; else why it never will be. Raises what the task raised."""
        hung = ""
        SET_RUNNING(self)
        while not hung and not task.done():
            if self._ready or self._pass_time():
                self._step()
                hung = f"no end after {MOST_STEPS} steps" if self.steps > MOST_STEPS else ""
            else:
                hung = "every task waits for something that nothing left will bring, and no timer is set"
        SET_RUNNING(None)
        if not hung:
            task.result()
        return hung

    def _step(self) -> None:
        ready = self._ready
        waiting = len(ready)
        index = 0
        if waiting > 1 and not self._orderly:
            index = self._tape.choose(2 * waiting)
            index = index if index < waiting else 0
        handle = ready.pop(index)
        if not handle.gone:
            self.steps += 1
            self._run(handle)

    def _run(self, handle: _Handle) -> None:
        try:
            handle.surroundings.run(handle.call, *handle.arguments)
        except Exception as error:  # noqa: BLE001 - around a callback, as every event loop does
            self.call_exception_handler({"message": "a callback failed", "exception": error})

    def _pass_time(self) -> bool:
        timers = self._timers
        while timers and timers[0][2].gone:
            heappop(timers)
        if not timers:
            return False
        self.now = max(self.now, timers[0][0])
        while timers and timers[0][0] <= self.now:
            _, _, handle = heappop(timers)
            if not handle.gone:
                self._ready.append(handle)
        return True
