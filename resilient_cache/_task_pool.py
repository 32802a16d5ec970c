"""Many pieces of work, some at a time, for tasks. Twin: `_thread_pool.py`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from typing import Any, Final, TypeAlias, TypeVar, final

__all__ = ["KINDS", "Keys", "Pool"]

K = TypeVar("K")

Keys: TypeAlias = Iterable[K] | AsyncIterable[K]
"""What keys may come from."""

KINDS: Final[tuple[type, ...]] = (Iterable, AsyncIterable)


@final
class Pool:
    """Tasks for work on keys, at most `most`. Good for one `each`."""

    __slots__ = ("_most", "_tasks", "_work")

    def __init__(self, most: int, work: Callable[[Any], Coroutine[Any, Any, Any]]) -> None:
        self._most = most
        self._work = work
        self._tasks: dict[asyncio.Task[Any], Any] = {}

    async def nap(self, seconds: float) -> bool:
        """Wait; whether the work is to go on. Here it is cancelled if not."""
        await asyncio.sleep(seconds)
        return True

    async def each(self, keys: Iterable[Any] | AsyncIterable[Any], ended: Callable[[Any, Any], object]) -> None:
        """Do the work for each of `keys`, and tell of each end here.

        Raises what the keys raise and what the work raises; whatever ends it, no task is left.
        """
        try:
            if isinstance(keys, AsyncIterable):
                async for key in keys:
                    await self._begin(key, ended)
            else:
                for key in keys:
                    await self._begin(key, ended)
            while self._tasks:
                await self._land(ended)
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
            for task in self._tasks:
                if not task.cancelled():
                    task.exception()  # looked at, or asyncio complains that nobody did

    async def _begin(self, key: Any, ended: Callable[[Any, Any], object]) -> None:
        while len(self._tasks) >= self._most:
            await self._land(ended)
        self._tasks[asyncio.get_running_loop().create_task(self._work(key))] = key

    async def _land(self, ended: Callable[[Any, Any], object]) -> None:
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            ended(self._tasks.pop(task), task.result())
