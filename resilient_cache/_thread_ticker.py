"""One daemon thread that does, when it is due, what many caches have to do behind their callers. Twin: `_task_ticker`.

It starts when there is something to do and ends when there is nothing. Caches are held weakly: one that is dropped
without being closed is not kept alive by what it is owed.

Invariants: a step that was asked for is called no later than asked, if the thread runs; a thread that is lost is
replaced by the next one who asks, at the latest when its lease is over.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from contextvars import Context
from typing import Final, Protocol, final

from ._threads import Seat, Spawn, daemon
from .forking import protect

__all__ = ["BATCH", "Occasion", "Stepper", "Ticker", "idle", "ticker_for"]

BATCH: Final = 100
LEASE: Final = 60.0
"""Seconds after which a step that has not come back is given up: 100 store calls of 0.25 s take 25."""

NEVER: Final = float("-inf")
UNASKED: Final = float("inf")


class Stepper(Protocol):
    """Has something to do from time to time."""

    def step(self, most: int = BATCH) -> float | None:
        """Do what is due, at most so much; seconds until the next time, None for not again."""
        ...


@final
class Ticker:
    """Calls steps when they are due, one after another, in real time."""

    __slots__ = ("__weakref__", "_alive_until", "_due", "_woken", "lock")

    def __init__(self) -> None:
        self.lock = threading.RLock()  # and no lock of `locks`: a test that makes its own cannot schedule this thread
        self._due: weakref.WeakKeyDictionary[Stepper, float] = weakref.WeakKeyDictionary()
        self._woken = threading.Event()
        self._alive_until = NEVER
        protect(self)

    def at(self, pause: float, stepper: Stepper) -> None:
        """Call `stepper.step()` in at most `pause` seconds, if a thread can run."""
        now = time.monotonic()
        with self.lock:
            alive = now < self._alive_until
            if alive and self._due.get(stepper, UNASKED) <= now + pause:
                return
            self._due[stepper] = now + pause
            if alive:
                self._woken.set()
                return
            self._alive_until = now + LEASE
        try:
            daemon(self._run)
        except Exception:  # noqa: BLE001 - no more threads can be started
            self._alive_until = NEVER

    def forked(self) -> None:
        """Start over in a child process, where the thread does not run."""
        self._woken = threading.Event()
        self._alive_until = NEVER

    def _run(self) -> None:
        while True:
            self._woken.clear()
            with self.lock:
                now = time.monotonic()
                stepper = min(self._due, key=self._due.__getitem__, default=None)
                if stepper is None:
                    self._alive_until = NEVER
                    return
                pause = self._due[stepper] - now
                self._alive_until = now + max(pause, 0.0) + LEASE
                if pause <= 0:
                    del self._due[stepper]
            if pause > 0:
                del stepper  # not held while waiting
                self._woken.wait(pause)
                continue
            again = stepper.step()
            if again is not None:
                self.at(again, stepper)
            del stepper


@final
class Occasion:
    """Calls the step of one cache, through its own `spawn`, when a caller comes by and it is due.

    For where neither threads nor timers run: nothing sleeps here.
    """

    __slots__ = ("_alive_until", "_monotonic", "_most", "_pid", "_spawn")

    def __init__(self, spawn: Spawn, monotonic: Callable[[], float], most: int = BATCH) -> None:
        self._spawn = spawn
        self._most = most
        self._monotonic = monotonic
        self._pid: int = 0
        self._alive_until = NEVER

    def at(self, pause: float, stepper: Stepper) -> None:
        """Call `stepper.step()` if it is due, unless that is being done."""
        now, pid = self._monotonic(), os.getpid()
        if pause > 0 or (now < self._alive_until and pid == self._pid):
            return
        self._pid, self._alive_until = pid, now + LEASE

        def step() -> None:
            try:
                stepper.step(self._most)
            finally:
                self._alive_until = NEVER

        try:
            self._spawn(lambda: Context().run(step))  # of nobody's request
        except Exception:  # noqa: BLE001 - around the caller's spawn
            self._alive_until = NEVER


THE_ONE: Final = Ticker()


def ticker_for(spawn: Spawn | None, _: object, monotonic: Callable[[], float]) -> Ticker | Occasion:
    """The process's own, or what works with the `spawn` of a cache, by its clock.

    Nothing can wait for a clock that is not the system's, and a thread would make a test that has one a game of chance:
    there the caller who comes by does it, and does one thing only.
    """
    if spawn is not None:
        return Occasion(spawn, monotonic)
    return THE_ONE if monotonic is time.monotonic else Occasion(_now, monotonic, most=1)


def _now(work: Callable[[], object]) -> None:
    work()


def idle(seconds: float) -> None:
    """Let time pass."""
    Seat().wait(seconds)
