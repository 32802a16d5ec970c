"""A daemon thread that listens to a backplane for as long as its cache is open. Twin: `_task_listener`.

It starts with the first call that touches the store, and again in a forked child. A subscription that ends is made anew
after a pause; in between the cache does without it.
"""

from __future__ import annotations

import threading
from contextvars import Context
from typing import Any, final

from ._plane import Plane
from ._thread_calls import attempt

__all__ = ["Listener"]


@final
class Listener:
    """One cache's ear on its backplane."""

    __slots__ = ("_backplane", "_closing", "_plane", "_thread")

    def __init__(self, plane: Plane, backplane: Any) -> None:
        self._plane = plane
        self._backplane = backplane
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """See to it that somebody listens. Where no thread can run nobody does."""
        if self._closing.is_set() or (self._thread is not None and self._thread.is_alive()):
            return
        with self._plane.lock:  # or each of the first callers would start one
            if self._thread is None or not self._thread.is_alive():
                self._start()

    def end(self) -> None:
        """Listen no more, once what is listened to now has ended."""
        self._closing.set()

    def close(self) -> None:
        """Close the backplane, or the thread would go on until it hears something."""
        attempt(getattr(self._backplane, "close", list))  # or nothing

    def _start(self) -> None:
        listen = lambda: Context().run(self._listen)  # noqa: E731 - of nobody's request
        self._thread = threading.Thread(target=listen, name="resilient_cache listens", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no more threads can be started
            self._thread = None

    def _listen(self) -> None:
        plane, tries = self._plane, 0
        while not self._closing.is_set():
            try:
                attempt(self._backplane.listen, plane.channel, plane.ready, plane.receive)
            finally:  # also when it is taken away
                tries = 0 if plane.listening else tries + 1
                plane.lost()
            self._closing.wait(plane.pause_after(tries))
