"""A time limit for synchronous stores that have none of their own.

Nothing in Python can stop a blocked thread, so the caller stops waiting and the thread goes on. Invariants:

- a call has a permit or is rejected at once; nothing is ever queued;
- a permit is given back when the *work* ends, not when the caller gives up, so `threads` is what it says;
- threads are daemons: a store that hangs for ever does not keep the process alive.

A thread is started for every call, 50 to 100 microseconds. A pool of idle ones lost: its threads do not survive a fork,
and a call handed to one that is gone would wait out its limit, every time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Generic, ParamSpec, TypeVar, final

from ..deadline import remaining
from ..errors import FailureKind, StoreError
from ..forking import protect
from ..protocols import CacheAdapter

__all__ = ["ThreadedAdapter"]

P = ParamSpec("P")
R = TypeVar("R")


class _Work(Generic[R]):
    """One call and what became of it."""

    __slots__ = ("_call", "_claims", "_done", "_error", "_result")

    def __init__(self, call: Callable[[], R]) -> None:
        self._call = call
        self._claims = [True]
        self._done = threading.Event()
        self._result: R
        self._error: BaseException | None = None

    def is_mine(self) -> bool:
        """Whether nobody asked before: the thread that runs it, or the caller that was interrupted starting one.

        Its permit is given back by that one alone, and a call whose caller has gone is not begun.
        """
        try:
            return self._claims.pop()
        except IndexError:
            return False

    def run(self, permits: list[None]) -> None:
        if not self.is_mine():
            return
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001 - the caller's to judge, not this thread's
            self._error = error
        permits.append(None)  # before the caller wakes: its next call must find the permit
        self._done.set()

    def result(self, timeout: float) -> R:
        if not self._done.wait(timeout):
            raise StoreError(FailureKind.TIMEOUT, f"no answer within {timeout:g} s; the call goes on")
        try:
            if self._error is not None:
                raise self._error
            return self._result
        finally:
            self._error = None  # no cycle between the error and this frame


@final
class ThreadedAdapter:
    """The same store, whose calls take at most `timeout` seconds and no more than the current operation has left.

    At most `threads` calls run at once, those nobody waits for any more included. Raises `StoreError` of kind TIMEOUT
    when time is up, of kind POOL when all permits are taken or no thread can be started, and what the store raises.
    Context variables of the caller are visible to the store. Costs a thread start per call. It has the methods for
    many keys that the store has.
    """

    __slots__ = (
        "__weakref__",
        "_adapter",
        "_permits",
        "_threads",
        "_timeout",
        "delete_many",
        "get_many",
        "lock",
        "set_many",
    )

    def __init__(self, adapter: CacheAdapter, threads: int, timeout: float) -> None:
        self._adapter = adapter
        self._threads = threads
        self._permits: list[None] = [None] * threads  # taking one is one step, so threads need no lock
        self._timeout = timeout
        for name in ("get_many", "set_many", "delete_many"):
            method = getattr(adapter, name, None)
            if method is not None:
                setattr(self, name, partial(self._bounded, method))
        self.lock = threading.RLock()
        protect(self)

    def get(self, key: str, /) -> bytes | None:
        """The bytes stored under `key`, or None when there are none."""
        return self._bounded(self._adapter.get, key)

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        """Store `value` for `ttl` seconds. After a timeout it may still be stored, later."""
        self._bounded(self._adapter.set, key, value, ttl)

    def delete(self, key: str, /) -> None:
        """Remove `key`. After a timeout it may still be removed, later."""
        self._bounded(self._adapter.delete, key)

    def close(self) -> None:
        """Close the store, in the caller's thread. Calls still running are not waited for."""
        close: Callable[[], object] | None = getattr(self._adapter, "close", None)
        if close is not None:
            close()

    def forked(self) -> None:
        """Start over in a child, where none of the parent's calls goes on."""
        self._permits = [None] * self._threads

    def _bounded(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        left = remaining()
        timeout = self._timeout if left is None else min(self._timeout, left)
        if timeout <= 0:
            raise StoreError(FailureKind.TIMEOUT, "no time left")
        context = copy_context()
        work = _Work(lambda: context.run(call, *args, **kwargs))
        self._start(work)
        return work.result(timeout)

    def _start(self, work: _Work[R]) -> None:
        permits = self._permits
        try:
            permits.pop()
        except IndexError:
            raise StoreError(FailureKind.POOL, "every permitted call is still running") from None
        try:
            threading.Thread(target=work.run, args=(permits,), name="resilient-cache-store", daemon=True).start()
        except BaseException as error:
            if work.is_mine():
                permits.append(None)
            if isinstance(error, RuntimeError):  # "can't start new thread"
                raise StoreError(FailureKind.POOL, str(error)) from error
            raise
