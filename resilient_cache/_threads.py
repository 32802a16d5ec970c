"""Waiting, for threads: a store call with its deadline, a seat in a flight, work behind, closing.

Theory. A thread cannot be taken off a blocking call, so the deadline of a store call is handed to the adapter
(`deadline.remaining()`), which gives it to its client; an answer that comes too late all the same is a timeout. Stores
that cannot bound themselves are given daemon threads by `from_functions(..., threads=n)`.

Invariants: an admitted call is settled exactly once, whatever ends it; a seat is a lock that is released at most once;
nothing here holds the cache's lock.

Twin of `_asyncio.py`.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar, cast, final

from . import _colours, locks
from ._colours import is_async
from ._guard import NOT_ASKED, Answer, Call, Guard
from ._reporting import Reporter
from .conditional import bare
from .deadline import CURRENT
from .errors import MisuseError
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
    "daemon",
    "load",
    "many_of",
    "marks_of",
    "quickest",
]

K = TypeVar("K")
V = TypeVar("V")

PLAIN: Final = frozenset({bool, bytes, dict, float, int, list, str, tuple, type(None)})
"""What is not to be awaited, without looking: `hasattr` takes 0.16 us where there is nothing."""

PROBING: Final = NOT_ASKED[Reason.OPEN]
"""For the caller whose call became the probe: a miss at once, while the probe runs behind."""

Spawn: TypeAlias = Callable[[Callable[[], object]], object]
"""Runs a function behind: takes it and returns at once."""

check_adapter: Final = functools.partial(_colours.check_adapter, awaited=False)
check_backplane: Final = functools.partial(_colours.check_backplane, awaited=False)
"""They raise `MisuseError` for what lacks a method or is of the other colour."""

many_of: Final = functools.partial(_colours.many_of, awaited=False)
marks_of: Final = functools.partial(_colours.marks_of, awaited=False)
"""Which methods for many keys an adapter has, what to call for a mark; `MisuseError` for one of the other colour."""


def check_loader(loader: object, name: str = "loader") -> None:
    """Raises `MisuseError` for a loader that can never work here."""
    code = getattr(loader, "__code__", None)
    if code is not None and not code.co_flags & inspect.CO_COROUTINE:
        return  # a plain function: 0.1 us instead of 1
    loader = bare(loader)
    if not callable(loader):
        raise MisuseError(f"{name} must be a function of the key, not {type(loader).__name__}")
    if is_async(loader):
        raise MisuseError(f"{name} must be a plain function here; use AsyncResilientCache for a coroutine function")


def load(loader: Callable[[K], V], key: K) -> V:
    """What the loader gives; its exceptions are its own. Raises `MisuseError` when that is yet to be awaited."""
    value = loader(key)
    if _to_be_awaited(value):
        raise MisuseError(f"loader must give its value, not something to await; use AsyncResilientCache: {loader!r}")
    return value


def close(adapter: Any, reporter: Reporter) -> None:
    """Close a store that can be closed; one that fails in it is counted."""
    method = _colours.method_of(adapter, "close")
    if callable(method):
        try:
            method()
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
) -> Answer:
    """Call the store, if it may be called, within its timeout and `until`. Never raises an `Exception`.

    The first of `args` is the key, which says what part of the store to ask. A probe runs behind, unless the caller is
    there already and says `here`.
    """
    call = guard.admit(operation, until, args[0])
    if not isinstance(call, Call):
        return NOT_ASKED[call]
    if (
        call.ticket < 0
        and not here
        and behind.spawn(
            lambda: _perform(guard, behind, guard.restarted(call), function, args), lambda: guard.ended(call)
        )
    ):
        return PROBING
    return _perform(guard, behind, call, function, args)


def _perform(guard: Guard, _: Behind, call: Call, function: Callable[..., Any], args: tuple[object, ...]) -> Answer:
    token = CURRENT.set((call.until, guard.monotonic))
    try:
        value = function(*args)
    except Exception as error:  # noqa: BLE001 - around a store
        return guard.failed(call, error)
    except BaseException:
        guard.ended(call)
        raise
    finally:
        CURRENT.reset(token)
    if _to_be_awaited(value):  # nothing has been done yet, and nobody here can wait for it
        return guard.failed(call, TypeError("the store's methods are asynchronous; use AsyncResilientCache"))
    now = guard.monotonic()
    if now > call.until:  # a timeout, as it is where the call is cut off
        return guard.failed(call, TimeoutError())
    return guard.answered(call, value, now)


def quickest(adapter: Any) -> Any:
    """What to call for a store: itself, as there are no futures here."""
    return adapter


def _to_be_awaited(value: object) -> bool:
    if type(value) in PLAIN or not hasattr(cast("object", type(value)), "__await__"):
        return False
    _colours.forget(value)
    return True


@final
class Seat:
    """Where one caller waits for a flight."""

    __slots__ = ("_lock", "verdict")

    def __init__(self) -> None:
        self._lock = locks.make_lock()
        self._lock.acquire()
        self.verdict: str | None = None

    def wake(self) -> bool:
        """Let the waiting thread go on."""
        self._lock.release()
        return True

    def wait(self, seconds: float) -> None:
        """Until woken, at most `seconds`."""
        self._lock.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))

    def leave(self) -> None:
        """Nobody waits here any more."""


@final
class Behind:
    """What runs behind the callers: daemon threads, each for one piece of work."""

    __slots__ = ("_closed", "_spawn")

    def __init__(self, spawn: Spawn | None) -> None:
        _colours.check_spawn(spawn)
        self._spawn = spawn or daemon
        self._closed = False

    def spawn(self, work: Callable[[], object], gone: Callable[[], object]) -> bool:
        """Run `work` behind; False when nothing can run there, and then it has not begun.

        `gone` is for work that is cancelled before it has begun, which cannot happen to a thread.
        """
        context = contextvars.copy_context()
        try:
            self._spawn(lambda: context.run(work))
        except Exception:  # noqa: BLE001 - around the caller's spawn, or no more threads can be started
            return False
        return True

    def strikes(self, error: BaseException) -> bool:
        """Whether `error` ended only the work behind that it came from, and not somebody who is to be taken away."""
        return not isinstance(error, Exception)  # no thread of ours is ever cancelled: it is the loader's own

    def close(self) -> None:
        """Nothing to wait for: daemon threads end with their work or the process."""


def daemon(work: Callable[[], object]) -> None:
    """Run `work` in a thread that does not keep the process from ending."""
    threading.Thread(target=work, name="resilient_cache", daemon=True).start()
