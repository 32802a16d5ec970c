"""What a cache needs of an adapter, as tests: subclass one of these in a test module and say how yours is opened.

    class TestFileAdapter(AdapterContract):
        excused = {"break_store": "...", "heal_store": "...", "open_dripping": "...", "close": "..."}

        def open(self):
            return FileAdapter(folder)

pytest and unittest run the `test_` methods; they can be called as well. What an adapter cannot show is excused with a
reason and skipped; what is neither shown nor excused fails. Open your servers in the class's own fixtures or `setUp`.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, Final
from unittest import SkipTest

from ..protocols import AsyncCacheAdapter, CacheAdapter
from ._faces import PATIENCE, AwaitedFace, Face, PlainFace, awaited
from ._laws import LIFE, Laws

__all__ = ["AdapterContract", "AsyncAdapterContract"]

OPERATIONS: Final = {"get": b"old", "set": b"new", "delete": None}
"""What may stand where b"old" stood, if the operation took effect."""
SHARERS: Final = 8
MOST_SUSPENSIONS: Final = 30
READERS: Final = 200


class AdapterContract(Laws):
    """The contract of a synchronous adapter. Subclasses write `open`, and what else of the store they can show.

    `break_store` and `heal_store` start and end an outage, `open_dripping` gives an adapter on a server that is slow
    byte by byte. `excused` names what cannot be shown, of these and of "close" and "fork", with the reason.
    """

    def open(self) -> CacheAdapter:
        """A new adapter on the store, which is well."""
        raise NotImplementedError(f"write {type(self).__name__}.open(): it returns a new adapter")

    def open_dripping(self) -> CacheAdapter:
        """An adapter on a server that drips: a byte each 0.05 s or so, and no reply complete within a second."""
        self._write("open_dripping")

    @contextmanager
    def opened(self, open_store: Callable[[], CacheAdapter]) -> Generator[PlainFace]:
        """An adapter by `open_store` that is closed afterwards."""
        store = PlainFace(open_store(), self.monotonic)
        try:
            yield store
        finally:
            _close(store)

    def test_threads_may_share_it(self) -> None:
        """A cache is shared between threads, and so is its adapter."""
        with self.opened(self.open) as store, ThreadPoolExecutor(SHARERS) as threads:
            users = [threads.submit(self.use, store, f"thread {number}") for number in range(SHARERS)]
            for user in users:
                user.result()

    def test_a_forked_child_may_use_it_too(self) -> None:
        """Used, forked, used by both at once: each reads its own bytes, and nobody waits for a lock of the other."""
        self._needs("fork")
        if not hasattr(os, "fork"):
            raise SkipTest("fork: there is none on this platform")
        with self.opened(self.open) as store:
            self.use(store, "parent before")
            child = multiprocessing.get_context("fork").Process(target=self.use, args=(store, "child"))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of threads: the child needs none
                child.start()
            try:
                self.use(store, "parent")
            finally:
                child.join(PATIENCE)
                child.kill()
                child.join()
            assert child.exitcode == 0, f"a forked child must be able to use it, too; it ended with {child.exitcode}"


class AsyncAdapterContract(Laws):
    """The contract of an async adapter: that of `AdapterContract`, and what cancellation and one loop ask for.

    `open` and `open_dripping` are coroutines, run in the loop that the adapter is then used in, one loop for each test.
    The tests are plain functions: no plugin for asyncio is needed. `excused` knows "cancellation" instead of "fork".
    """

    async def open(self) -> AsyncCacheAdapter:
        """A new adapter on the store, which is well."""
        raise NotImplementedError(f"write {type(self).__name__}.open(): it returns a new adapter")

    async def open_dripping(self) -> AsyncCacheAdapter:
        """An adapter on a server that drips: a byte each 0.05 s or so, and no reply complete within a second."""
        self._write("open_dripping")

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of one test."""
        return asyncio.new_event_loop()

    @contextmanager
    def opened(self, open_store: Callable[[], Coroutine[Any, Any, AsyncCacheAdapter]]) -> Generator[AwaitedFace]:
        """An adapter by `open_store` that is closed afterwards, with its loop."""
        with asyncio.Runner(loop_factory=self.new_loop) as runner:
            store = AwaitedFace(runner.run(open_store()), runner, self.slack)
            try:
                yield store
            finally:
                _close(store)

    def test_tasks_may_share_it(self) -> None:
        """Tasks that use it at once each read their own bytes."""
        with self.opened(self.open) as store:
            store.run(self._share(store.adapter))

    def test_a_cancelled_call_disturbs_nobody(self) -> None:
        """Cancelled wherever it suspends: the next calls get their own answers, not the one that was left unread."""
        for operation in OPERATIONS:
            self._at_every_suspension(partial(self._disturb, operation))

    def test_a_cancellation_gets_out(self) -> None:
        """A call that is cancelled ends as cancelled: it neither swallows that nor makes a failure of it."""
        self._needs("cancellation")
        for operation in OPERATIONS:
            self._at_every_suspension(partial(self._cancel, operation))

    def test_two_hundred_cancelled_readers_disturb_nobody(self) -> None:
        """Readers are cancelled at any moment, and whoever reads then gets the bytes of their own key."""
        with self.opened(self.open) as store:
            store.run(self._leave(store.adapter))

    def _at_every_suspension(self, scene: Callable[[AsyncCacheAdapter, int], Coroutine[Any, Any, bool]]) -> None:
        """Play `scene` on new adapters for the first suspension of a call, the second, until there are no more."""
        at = 1
        while at < MOST_SUSPENSIONS and self._play(scene, at):
            at += 1

    def _play(self, scene: Callable[[AsyncCacheAdapter, int], Coroutine[Any, Any, bool]], at: int) -> bool:
        with self.opened(self.open) as store:
            return store.run(scene(store.adapter, at))

    async def _disturb(self, operation: str, adapter: AsyncCacheAdapter, at: int) -> bool:
        key, other = self.key("cancelled"), self.key("other")
        cold, _ = await _cancelled_at(at, adapter, operation, key)
        await adapter.set(key, b"old", LIFE)
        await adapter.set(other, b"other", LIFE)
        assert await adapter.get(other) == b"other", _disturbed(operation, at)
        warm, _ = await _cancelled_at(at, adapter, operation, key)
        for _ in range(2):
            assert await adapter.get(other) == b"other", _disturbed(operation, at)
            assert await adapter.get(key) in (b"old", OPERATIONS[operation]), _disturbed(operation, at)
        return cold or warm

    async def _cancel(self, operation: str, adapter: AsyncCacheAdapter, at: int) -> bool:
        cancelled, end = await _cancelled_at(at, adapter, operation, self.key("cancelled"))
        told = f"{operation}, cancelled at suspension {at}, must end as cancelled, not with {end!r:.60}"
        assert not cancelled or isinstance(end, asyncio.CancelledError), told
        return cancelled

    async def _share(self, adapter: AsyncCacheAdapter) -> None:
        await asyncio.gather(*(self._use(adapter, f"task {number}") for number in range(SHARERS)))

    async def _use(self, adapter: AsyncCacheAdapter, name: str) -> None:
        for number in range(20):
            key, body = self.key(name), f"{name}-{number}".encode()
            await adapter.set(key, body, LIFE)
            assert await adapter.get(key) == body, f"{name} must read its own bytes"
            await adapter.delete(key)
            assert await adapter.get(key) is None, f"{name} must see its own delete"

    async def _leave(self, adapter: AsyncCacheAdapter) -> None:
        keys = [self.key(f"reader {number}") for number in range(READERS)]
        for key in keys:
            await adapter.set(key, key.encode(), LIFE)
        for number, key in enumerate(keys):
            reader = asyncio.ensure_future(awaited(adapter.get, key))
            for _ in range(number % 10):
                await asyncio.sleep(0)
            reader.cancel()
            other = keys[number - 1]
            assert await adapter.get(other) == other.encode(), _disturbed("get", number % 10)
            await asyncio.gather(reader, return_exceptions=True)


class _CancelledAt:
    """An awaitable whose task is cancelled when it suspends for the `at`-th time, as by somebody else."""

    def __init__(self, at: int, call: Awaitable[object]) -> None:
        self._call = call
        self._left = at
        self.reached = False

    def __await__(self) -> Generator[Any, Any, object]:
        steps = self._call.__await__()
        step: Callable[[], Any] = partial(next, steps)
        while True:
            try:
                waiting = step()
            except StopIteration as end:
                return end.value
            self._left -= 1
            if self._left == 0:
                self.reached = _cancel_current()
            try:
                yield waiting
                step = partial(next, steps)
            except BaseException as error:  # noqa: BLE001 - handed on, to where the call waits
                step = partial(_throw, steps, error)


def _throw(steps: Generator[Any, Any, object], error: BaseException) -> Any:
    return steps.throw(error)


def _cancel_current() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancel()


async def _cancelled_at(at: int, adapter: AsyncCacheAdapter, operation: str, key: str) -> tuple[bool, object]:
    """Whether the call suspended so often and was cancelled there, and its result or what it raised."""
    args = (key, OPERATIONS["set"], LIFE) if operation == "set" else (key,)
    call = _CancelledAt(at, getattr(adapter, operation)(*args))
    (end,) = await asyncio.gather(awaited(lambda: call), return_exceptions=True)
    return call.reached, end


def _disturbed(operation: str, at: int) -> str:
    return f"each key must read its own bytes, also after a {operation} that was cancelled at suspension {at}"


def _close(store: Face) -> None:
    """Let go of what the adapter holds; how it closes is asked by a test of its own."""
    if hasattr(store.adapter, store.closing):
        with contextlib.suppress(Exception):
            store.close()
