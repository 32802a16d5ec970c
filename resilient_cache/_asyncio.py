"""Waiting, for tasks: a store call with its deadline, a seat in a flight, work behind, closing.

Theory. A store call runs in a task of its own and is *abandoned* at its deadline, not cancelled: a cancelled read has
cost its connection (33 -> 510 us for the next) and, with an older client, the next reader's answer (197 of 200). What
is still running `inflight_max` later is cancelled after all. A circuit that opens wakes whoever waits for a call
through it: nobody waits for a store that is known to be gone. `asyncio.wait_for` is never used, it swallowed an
accepted cancellation in 300 of 300 tries; `asyncio.timeout` costs 2-3 us and swallows one when entered too late.

Every waiter makes its own future, in its own loop, when it waits, and is woken through that loop: nothing of asyncio
lives on the cache, so one cache serves loops in several threads and runtimes that forbid sharing between requests.

Invariants: an admitted call is settled exactly once, whatever ends it; a caller's cancellation always gets out. Twin of
`_threads.py`.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from types import CoroutineType
from typing import Any, Final, TypeAlias, TypeVar, cast, final

from . import _colours
from ._colours import METHODS, is_plain
from ._guard import DIRECTIONS, NOT_ASKED, Answer, Call, Guard
from ._reply import Reply
from ._reporting import Reporter
from .conditional import bare
from .deadline import CURRENT
from .errors import FailureKind, MisuseError, StoreError
from .outcome import Operation, Reason

__all__ = [
    "Behind",
    "Seat",
    "Spawn",
    "ask",
    "check_adapter",
    "check_backplane",
    "check_loader",
    "close",
    "load",
    "many_of",
    "marks_of",
    "quickest",
]

K = TypeVar("K")
V = TypeVar("V")

PROBING: Final = NOT_ASKED[Reason.OPEN]
"""For the caller whose call became the probe: a miss at once, while the probe runs behind."""

LATE: Final = 0.005
TURNS: Final = 3
"""When the loop was held up past a deadline by more than LATE seconds, the reply may lie in the socket: reading it
takes TURNS turns. Without them a stall of 0.4 s opened the circuit of a healthy store."""

FUTURES: Final = (asyncio.Future, asyncio.Task, Reply)
"""What may be waited for as it is. All else may lie, also a subclass, and is awaited by a task."""

ROUNDS: Final = 3
"""How often closing asks again: a task that is cancelled may abandon another; one may refuse to end."""

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, object]], object]
"""Runs a coroutine behind: takes it and returns at once."""

check_adapter: Final = functools.partial(_colours.check_adapter, awaited=True)
check_backplane: Final = functools.partial(_colours.check_backplane, awaited=True)
"""They raise `MisuseError` for what lacks a method or is of the other colour."""

many_of: Final = functools.partial(_colours.many_of, awaited=True)
marks_of: Final = functools.partial(_colours.marks_of, awaited=True)
"""Which methods for many keys an adapter has, what to call for a mark; `MisuseError` for one of the other colour."""


def check_loader(loader: object, name: str = "loader") -> None:
    """Raises `MisuseError` for a loader that can never work here. What a lambda gives shows when it is called."""
    code = getattr(loader, "__code__", None)
    if code is not None and code.co_flags & inspect.CO_COROUTINE:
        return  # a coroutine function: 0.1 us instead of 1
    loader = bare(loader)
    if not callable(loader):
        raise MisuseError(f"{name} must be a coroutine function of the key, not {type(loader).__name__}")
    if is_plain(loader) and getattr(loader, "__name__", "") != "<lambda>":
        raise MisuseError(f"{name} must be a coroutine function (async def) here; {loader!r} is a plain function")


def load(loader: Callable[[K], Awaitable[V]], key: K) -> Awaitable[V]:
    """What the loader gives; its exceptions are its own. Raises `MisuseError` when it gives nothing to await."""
    loading = loader(key)
    kind = type(loading)
    if kind is not CoroutineType and not inspect.isawaitable(loading):  # the first saves 0.2 us
        raise MisuseError(f"loader must be a coroutine function here; {loader!r} gave a {kind.__name__}")
    return loading


async def close(adapter: Any, reporter: Reporter) -> None:
    """Close a store that can be closed; one that fails in it is counted."""
    method = _colours.method_of(adapter, "aclose")
    if callable(method):
        try:
            await cast("Awaitable[object]", method())
        except Exception:  # noqa: BLE001 - around a store
            reporter.count("close_errors")


def ask(
    guard: Guard,
    behind: Behind,
    operation: Operation,
    until: float,
    function: Callable[..., Any],
    *args: Any,
    here: bool = False,
) -> Coroutine[Any, Any, Answer]:
    """Call the store, if it may be called, within its timeout and `until`. Never raises an `Exception`.

    The first of `args` is the key, which says what part of the store to ask. A probe runs behind, unless the caller is
    there already and says `here`.
    """
    call = guard.admit(operation, until, args[0])
    if not isinstance(call, Call):
        return _not_asked(NOT_ASKED[call])
    if (
        call.ticket < 0
        and not here
        and behind.spawn(
            lambda: _perform(guard, behind, guard.restarted(call), function, args), lambda: guard.ended(call)
        )
    ):
        return _not_asked(PROBING)
    return _perform(guard, behind, call, function, args)


async def _not_asked(answer: Answer) -> Answer:
    return answer


async def _perform(
    guard: Guard, behind: Behind, call: Call, function: Callable[..., Any], args: tuple[object, ...]
) -> Answer:
    loop, seat = asyncio.get_running_loop(), Seat()
    token = CURRENT.set((call.until, guard.monotonic))
    try:
        task = _begin(loop, seat, function, args)
    except Exception as error:  # noqa: BLE001 - around a store
        return guard.failed(call, error)
    except BaseException:
        guard.ended(call)
        raise
    finally:
        CURRENT.reset(token)
    waiting = call.pair.waiting[DIRECTIONS[call.operation]]
    waiting[seat] = None  # a dict: woken in the order they came, so that a run can be repeated
    try:
        await seat.wait(call.until - guard.monotonic())
        now = guard.monotonic()
        turns = TURNS if now > call.until + LATE else 0
        while turns and not task.done():
            turns -= 1
            await asyncio.sleep(0)
    except BaseException:
        seat.leave()
        if loop.is_closed() or not behind.abandon(task, guard, call, unheard=True):
            guard.ended(call)
        raise
    finally:
        waiting.pop(seat, None)
    if not task.done() and behind.abandon(task, guard, call, unheard=call.short):
        return guard.failed(call, TimeoutError(), running=True)
    if task.cancelled():  # not by our caller, who would not be here: the client cancelled its own work
        return guard.failed(call, StoreError(FailureKind.UNKNOWN, "the client cancelled the call"))
    ended = task.exception()
    if ended is None:
        return guard.answered(call, task.result(), now)
    if isinstance(ended, Exception):
        return guard.failed(call, ended)
    guard.ended(call)
    raise ended


def _begin(
    loop: asyncio.AbstractEventLoop, seat: Seat, function: Callable[..., Any], args: tuple[object, ...]
) -> asyncio.Future[Any]:
    begun: Any = function(*args)
    if type(begun) in FUTURES and begun.get_loop() is loop:  # it goes on by itself: a task would cost 12 us more
        future: asyncio.Future[Any] = begun
        if isinstance(future, Reply) and not future.done():
            future.at_once = seat.rise
        else:
            future.add_done_callback(seat.rise)
        return future
    return loop.create_task(_run(seat, begun))


async def _run(seat: Seat, call: Awaitable[Any]) -> object:
    try:
        return await call
    finally:
        seat.rise()  # from within: a done callback would wake the caller one turn of the loop later


def quickest(adapter: Any) -> Any:
    """What to call for a store: its `futures`, where it has them of its own.

    Not what `__getattr__` finds: a wrapper would be gone round, and a mock has everything.
    """
    if inspect.getattr_static(adapter, "futures", None) is None:
        return adapter
    futures = _colours.method_of(adapter, "futures")
    return futures if all(callable(_colours.method_of(futures, name)) for name in METHODS) else adapter


@final
class Seat:
    """Where one caller waits, in its own loop."""

    __slots__ = ("_future", "_timer", "verdict")

    def __init__(self) -> None:
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._timer: asyncio.TimerHandle | None = None
        self.verdict: str | None = None

    def wake(self) -> bool:
        """Let the waiting task go on; it may wait in another thread's loop, or that loop may be gone."""
        loop = self._future.get_loop()
        if loop is asyncio._get_running_loop():  # None where none runs
            self.rise()
            return True
        try:
            loop.call_soon_threadsafe(self.rise)
        except RuntimeError:  # closed
            return False
        return True

    def rise(self, _: object = None) -> None:
        """Let the waiting task go on; to be called in its loop, or after it."""
        if not self._future.done() and not self._future.get_loop().is_closed():
            self._future.set_result(None)
        self.leave()

    def wait(self, seconds: float) -> Awaitable[None]:
        """Until woken, at most `seconds`. Whoever is taken away meanwhile is to `leave`."""
        if not self._future.done():
            loop = self._future.get_loop()  # its `call_later` takes 0.2 us more
            self._timer = loop.call_at(loop.time() + seconds, self.rise)
        return self._future  # and no coroutine of our own, which takes 0.5 us

    def leave(self) -> None:
        """Nobody waits here any more: let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()


@final
class Behind:
    """What runs behind the callers: tasks, and store calls that nobody waits for any more."""

    __slots__ = ("_closed", "_spawn", "_tasks")

    def __init__(self, spawn: Spawn | None) -> None:
        _colours.check_spawn(spawn)
        self._closed = False
        self._spawn = spawn
        self._tasks: dict[asyncio.Future[Any], None] = {}

    def spawn(self, work: Callable[[], Coroutine[Any, Any, object]], gone: Callable[[], object]) -> bool:
        """Run `work` behind; False when nothing can run there, and then it has not begun.

        `gone` is called when the task is cancelled, perhaps before it has begun.
        """
        if self._closed:
            return False
        coroutine = work()
        try:
            if self._spawn is not None:
                self._spawn(coroutine)
            else:
                self._task(coroutine, gone)
        except Exception:  # noqa: BLE001 - around the caller's spawn
            coroutine.close()
            return False
        return True

    def strikes(self, error: BaseException) -> bool:
        """Whether `error` ended only the work behind that it came from, and not somebody who is to be taken away."""
        if isinstance(error, asyncio.CancelledError):  # of what the loader waited for, when nobody cancels this task
            return (task := asyncio.current_task()) is not None and not task.cancelling()
        return not isinstance(error, Exception | GeneratorExit)

    def abandon(self, task: asyncio.Future[Any], guard: Guard, call: Call, *, unheard: bool) -> bool:
        """Leave a store call to itself if it still runs, for `inflight_max` seconds at most.

        `unheard`: the circuit has not been told of it, and is if the call outlives the whole timeout.
        """
        if task.done():
            self._forget(task)
            return False
        loop = task.get_loop()
        timers = [loop.call_later(guard.inflight_max, task.cancel)]
        if unheard:
            left = call.began + guard.timeout - guard.monotonic()
            timers.append(loop.call_later(max(0.0, left), guard.overdue, call))

        def end(ended: asyncio.Future[Any]) -> None:
            for timer in timers:
                timer.cancel()
            guard.ended(call)
            self._forget(ended)

        self._tasks[task] = None
        task.add_done_callback(end)
        return True

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Let `task` go on when nobody waits for it any more; it knows its own end."""
        self._tasks[task] = None
        task.add_done_callback(self._forget)

    async def close(self) -> None:
        """Cancel what runs behind in this loop, and what that leaves behind, and wait for it to end."""
        self._closed = True
        here, me = asyncio.get_running_loop(), asyncio.current_task()
        for _ in range(ROUNDS):
            mine = [task for task in list(self._tasks) if task.get_loop() is here and task is not me]
            if not mine:
                return
            for task in mine:
                task.cancel()
            await asyncio.wait(mine, timeout=1.0)

    def _task(self, work: Coroutine[Any, Any, object], gone: Callable[[], object]) -> None:
        task = asyncio.get_running_loop().create_task(work)

        def end(ended: asyncio.Task[Any]) -> None:
            if ended.cancelled():
                gone()
            self._forget(ended)

        self._tasks[task] = None
        task.add_done_callback(end)

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled():
            task.exception()  # looked at, or asyncio complains that nobody did
