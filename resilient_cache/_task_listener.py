"""A task that listens to a backplane for as long as its cache is open. Twin: `_thread_listener`.

It starts with the first call that touches the store, and again in another loop when its own was closed, or was that of
the parent process. A subscription that ends is made anew after a pause; in between the cache does without it.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Any, final

from ._plane import Plane
from ._task_calls import perform, put_off, running

__all__ = ["Listener"]


@final
class Listener:
    """One cache's ear on its backplane."""

    __slots__ = ("_backplane", "_closed", "_forks", "_plane", "_task")

    def __init__(self, plane: Plane, backplane: Any) -> None:
        self._plane = plane
        self._backplane = backplane
        self._closed = False
        self._forks = 0
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """See to it that somebody listens."""
        task, forks = self._task, self._plane.forks
        if self._closed or (
            task is not None and self._forks == forks and not task.done() and not task.get_loop().is_closed()
        ):
            return
        loop = running()
        if loop is None or put_off(loop, self.wake):
            return
        self._forks = forks
        self._task = loop.create_task(self._listen(), context=Context())  # of nobody's request

    def end(self) -> None:
        """Listen no more."""
        self._closed = True
        if self._task is not None and self._task.get_loop() is running():
            self._task.cancel()

    async def close(self) -> None:
        """Wait until nobody listens, and close the backplane."""
        if self._task is not None and self._task.get_loop() is running():
            await asyncio.wait([self._task], timeout=1.0)
        await perform(getattr(self._backplane, "aclose", None))

    async def _listen(self) -> None:
        plane, tries = self._plane, 0
        while not self._closed:
            try:
                await perform(self._backplane.listen, plane.channel, plane.ready, plane.receive)
            finally:  # also when it is taken away
                tries = 0 if plane.listening else tries + 1
                plane.lost()
            await asyncio.sleep(plane.pause_after(tries))
