"""Calls that may never return, made by threads that can be left behind: then a law fails instead of hanging."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextvars import copy_context
from queue import SimpleQueue
from typing import TypeVar

__all__ = ["Caller", "endless"]

T = TypeVar("T")


class Caller(threading.Thread):
    """A thread that makes one call after the other.

    The same for all calls of one user, for what an adapter keeps for each thread is to be met again.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stuck = False
        self._calls: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self.start()

    def begin(self, function: Callable[[], T]) -> Future[T]:
        """Let `function` be called, in a copy of the context of here."""
        outcome = Future[T]()
        context = copy_context()
        self._calls.put(lambda: context.run(_settle, outcome, function))
        return outcome

    def call(self, what: str, within: float, function: Callable[[], T]) -> T:
        """What `function` gives or raises. Raises `AssertionError` when it takes longer than `within` seconds."""
        return self.outcome(what, within, self.begin(function))

    def outcome(self, what: str, within: float, begun: Future[T]) -> T:
        """The same, of a call that was begun."""
        wait([begun], within)
        if not begun.done():
            self.stuck = True
            raise AssertionError(endless(what, within))
        return begun.result()

    def end(self) -> None:
        """Let the thread end, and wait for it unless it is stuck."""
        self._calls.put(None)
        if not self.stuck:
            self.join()

    def run(self) -> None:
        """Called by the thread."""
        while (call := self._calls.get()) is not None:
            call()


def _settle(outcome: Future[T], function: Callable[[], T]) -> None:
    try:
        outcome.set_result(function())
    except BaseException as error:  # noqa: BLE001 - for whoever waits for the outcome
        outcome.set_exception(error)


def endless(what: str, seconds: float) -> str:
    """What is said of something that does not end."""
    return f"{what} must end: it has not for {seconds:g} s"
