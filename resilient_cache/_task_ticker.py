"""A task that does, when it is due, what a cache has to do behind its callers. Twin: `_thread_ticker`.

It starts, in the loop of whoever asks, when there is something to do, and ends when there is nothing. The cache is held
weakly: one that is dropped without being closed is not kept alive by what it is owed.

Invariants: a step that was asked for is called no later than asked, if its loop runs; a task that is lost (its loop was
closed, it is the parent process's) is replaced by the next one who asks, at the latest when its lease is over.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Final, Protocol, final

from ._asyncio import Behind, Seat, Spawn
from ._task_calls import put_off, running

__all__ = ["BATCH", "Occasion", "Stepper", "Ticker", "idle", "ticker_for"]

BATCH: Final = 100
LEASE: Final = 60.0
"""Seconds after which a step that has not come back is given up: 100 store calls of 0.25 s take 25."""

NEVER: Final = float("-inf")
UNASKED: Final = float("inf")


class Stepper(Protocol):
    """Has something to do from time to time."""

    def step(self, most: int = BATCH) -> Coroutine[Any, Any, float | None]:
        """Do what is due, at most so much; seconds until the next time, None for not again."""
        ...


@final
class Ticker:
    """Calls the steps of one cache when they are due."""

    __slots__ = ("_alive_until", "_behind", "_due", "_loop", "_monotonic", "_pid", "_seat")

    def __init__(self, behind: Behind, monotonic: Callable[[], float]) -> None:
        self._behind = behind
        self._monotonic = monotonic
        self._due = UNASKED
        self._seat: Seat | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid: int = 0
        self._alive_until = NEVER

    def at(self, pause: float, stepper: Stepper) -> None:
        """Call `stepper.step()` in at most `pause` seconds, if a task can run."""
        now, pid = self._monotonic(), os.getpid()
        alive = now < self._alive_until and pid == self._pid and self._loop is not None and not self._loop.is_closed()
        if alive and self._due <= now + pause:
            return
        loop = running()
        if loop is None or (not alive and put_off(loop, lambda: self.at(pause, stepper))):
            return
        self._due = now + pause
        if not alive:
            self._loop, self._pid, self._alive_until = loop, pid, now + LEASE
            held = weakref.ref(stepper)
            if not Context().run(self._behind.spawn, lambda: self._run(held), self.lost):  # of nobody's request
                self.lost()
        elif self._seat is not None:
            self._seat.wake()

    def lost(self) -> None:
        """The task is gone: the next one who asks starts another."""
        self._alive_until = NEVER

    async def _run(self, held: weakref.ref[Stepper]) -> None:
        while self._due < UNASKED:
            now = self._monotonic()
            pause = self._due - now
            self._alive_until = now + max(pause, 0.0) + LEASE
            if pause > 0:
                self._seat = seat = Seat()
                await seat.wait(pause)
                self._seat = None
                continue
            self._due = UNASKED
            stepper = held()
            again = None if stepper is None else await stepper.step()
            if again is not None:
                self._due = min(self._due, self._monotonic() + again)
            del stepper  # not held while waiting
        self.lost()


@final
class Occasion:
    """Calls the step of one cache, through its own `spawn`, when a caller comes by and it is due.

    For where no task outlives a request: nothing sleeps here.
    """

    __slots__ = ("_alive_until", "_monotonic", "_pid", "_spawn")

    def __init__(self, spawn: Spawn, monotonic: Callable[[], float]) -> None:
        self._spawn = spawn
        self._monotonic = monotonic
        self._pid: int = 0
        self._alive_until = NEVER

    def at(self, pause: float, stepper: Stepper) -> None:
        """Call `stepper.step()` if it is due, unless that is being done."""
        now, pid = self._monotonic(), os.getpid()
        if pause > 0 or (now < self._alive_until and pid == self._pid):
            return
        self._pid, self._alive_until = pid, now + LEASE

        async def step() -> None:
            try:
                await stepper.step()
            finally:
                self._alive_until = NEVER

        stepping = step()
        try:
            Context().run(self._spawn, stepping)  # of nobody's request
        except Exception:  # noqa: BLE001 - around the caller's spawn
            stepping.close()
            self._alive_until = NEVER


def ticker_for(spawn: Spawn | None, behind: Behind, monotonic: Callable[[], float]) -> Ticker | Occasion:
    """A task of its own, or what works with the `spawn` of a cache, by its clock."""
    return Ticker(behind, monotonic) if spawn is None else Occasion(spawn, monotonic)


async def idle(seconds: float) -> None:
    """Let time pass."""
    await Seat().wait(seconds)
