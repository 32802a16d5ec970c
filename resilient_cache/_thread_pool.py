"""Many pieces of work, some at a time, for threads. Twin: `_task_pool.py`."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Any, Final, TypeAlias, TypeVar, final

__all__ = ["KINDS", "Keys", "Pool"]

K = TypeVar("K")

Keys: TypeAlias = Iterable[K]
"""What keys may come from."""

KINDS: Final[tuple[type, ...]] = (Iterable,)


@final
class Pool:
    """Threads for work on keys, at most `most`; with none to be had the caller does it. Good for one `each`."""

    __slots__ = ("_done", "_most", "_stop", "_threads", "_todo", "_work")

    def __init__(self, most: int, work: Callable[[Any], Any]) -> None:
        self._most = most
        self._work = work
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._todo: SimpleQueue[tuple[Any] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[Any, Any, BaseException | None]] = SimpleQueue()

    def nap(self, seconds: float) -> bool:
        """Wait; whether the work is to go on."""
        return not self._stop.wait(seconds)

    def each(self, keys: Iterable[Any], ended: Callable[[Any, Any], object]) -> None:
        """Do the work for each of `keys`. Here, in the caller's thread, keys are asked for and ends are told.

        Raises what the keys raise and what the work raises; whatever ends it, no thread is left and no work begins
        after that. What has begun is waited for: nobody can take a thread off its work.
        """
        busy = 0
        try:
            for key in keys:
                if busy == len(self._threads) and not self._another():
                    if not busy:
                        ended(key, self._work(key))
                        continue
                    busy -= self._land(ended)
                self._todo.put((key,))
                busy += 1
            while busy:
                busy -= self._land(ended)
        finally:
            self._stop.set()
            for _ in self._threads:
                self._todo.put(None)
            for thread in self._threads:
                thread.join()

    def _another(self) -> bool:
        if len(self._threads) == self._most:
            return False
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(self._run,), name="resilient_cache.warm", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more can be started
            self._most = len(self._threads)
            return False
        self._threads.append(thread)
        return True

    def _land(self, ended: Callable[[Any, Any], object]) -> int:
        key, outcome, error = self._done.get()
        if error is not None:
            raise error
        ended(key, outcome)
        return 1

    def _run(self) -> None:
        while (task := self._todo.get()) is not None:
            if self._stop.is_set():
                continue
            [key] = task
            outcome, error = None, None
            try:
                outcome = self._work(key)
            except BaseException as raised:  # noqa: BLE001 - it is raised in the caller's thread, as it is
                error = raised
            self._done.put((key, outcome, error))
