"""What a cache needs of an adapter, as tests: subclass one of these in a test module and say how yours is opened.

    class TestFileAdapter(AdapterContract):  # for unittest: (AdapterContract, unittest.TestCase)
        excused = {"break_store": "...", "heal_store": "...", "open_dripping": "...", "close": "..."}

        def open(self):
            return FileAdapter(folder)

pytest runs the `test_` methods, and unittest does where its `TestCase` is a second base; they can be called as well. A
call that never returns fails its law, too: a thread is left behind with it. What an adapter cannot show is excused with
a reason and skipped; what is neither shown nor excused fails. Open your servers in the class's own fixtures or `setUp`.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import multiprocessing
import os
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from functools import partial
from threading import Barrier
from typing import Any, Final
from unittest import SkipTest

from ..errors import MisuseError
from ..protocols import AsyncCacheAdapter, CacheAdapter
from ._faces import METHODS, PATIENCE, AwaitedFace, Face, PlainFace, awaited
from ._laws import Laws
from ._laws.telling import LIFE, arguments, each_way

__all__ = ["AdapterContract", "AsyncAdapterContract"]

OUTCOMES: Final = {"get": b"old", "set": b"new", "delete": None}
"""What may stand where b"old" stood, if the operation took effect; the same for many keys."""
SHARERS: Final = 8
MOST_SUSPENSIONS: Final = 30
READERS: Final = 200
FORKED: Final = 50
"""Rounds of parent and child: in fewer, one may be done before the other has begun."""


class AdapterContract(Laws):
    """The contract of a synchronous adapter. Subclasses write `open`, and what else of the store they can show.

    `break_store` and `heal_store` start and end an outage, `open_dripping` gives an adapter on a server that is slow
    byte by byte. `excused` names what cannot be shown, of these and of "close" and "fork", with the reason. An adapter
    is opened in the thread that uses it, which is not the main one.
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
        store = PlainFace(self.monotonic, self.slack)
        try:
            store.adapter = store.scene(_named(open_store), open_store)
            if inspect.iscoroutine(store.adapter):
                store.adapter.close()
                raise MisuseError(f"{_named(open_store)} must not be async here: AsyncAdapterContract takes coroutines")
            what = "plain methods, or be held to AsyncAdapterContract"
            _check(open_store, store.adapter, inspect.iscoroutinefunction, what)
            try:
                yield store
            finally:
                _close(store)
        finally:
            store.end()

    def test_threads_may_share_it(self) -> None:
        """A cache is shared between threads, and so is its adapter."""
        with self.opened(self.open) as store:
            store.together(partial(self.use, store, f"thread {number}") for number in range(SHARERS))

    def test_a_forked_child_may_use_it_too(self) -> None:
        """Used, forked, used by both at once: each reads its own bytes, and nobody waits for a lock of the other."""
        self._needs("fork")
        if not hasattr(os, "fork"):
            raise SkipTest("fork: there is none on this platform")
        if multiprocessing.current_process().daemon:
            raise SkipTest("fork: this is a daemonic process of multiprocessing, which may have no children")
        with self.opened(self.open) as store:
            store.scene("the parent", partial(self._fork, store))

    def _fork(self, store: PlainFace) -> None:
        """Played by the thread that has used the adapter: it is the one that goes on in the child."""
        self.use(store, "parent before")
        forking = multiprocessing.get_context("fork")
        start = forking.Barrier(2)
        child = forking.Process(target=self._meet, args=(start, store, "child"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of threads: the child needs none
            child.start()
        try:
            self._meet(start, store, "parent")
        finally:
            child.join(PATIENCE)
            child.kill()
            child.join()
        assert child.exitcode == 0, f"a forked child must be able to use it, too; it ended with {child.exitcode}"

    def _meet(self, start: Barrier, store: PlainFace, name: str) -> None:
        start.wait(PATIENCE)
        self.use(store, name, FORKED)


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
        opening: object = open_store()
        if not inspect.isawaitable(opening):
            raise MisuseError(f"{_named(open_store)} must be async here: AdapterContract takes plain functions")
        store = AwaitedFace(self.new_loop(), self.slack)
        try:
            store.take(store.run(awaited(lambda: opening), what=_named(open_store)))
            _check(open_store, store.adapter, _is_plain, "coroutine methods, or be held to AdapterContract")
            self._has_futures = store.futures is not None
            store.by_futures = self._by_futures
            try:
                yield store
            finally:
                _close(store)
        finally:
            store.end()

    @each_way
    def test_tasks_may_share_it(self) -> None:
        """Tasks that use it at once each read their own bytes."""
        with self.opened(self.open) as store:
            store.run(self._share(store))

    @each_way
    def test_a_cancelled_call_disturbs_nobody(self) -> None:
        """Cancelled wherever it suspends: the next calls get their own answers, not the one that was left unread."""
        self._at_every_suspension(self._disturb)

    @each_way
    def test_a_cancellation_gets_out(self) -> None:
        """A call that is cancelled ends as cancelled: it neither swallows that nor makes a failure of it."""
        self._needs("cancellation")
        self._at_every_suspension(self._cancel)

    @each_way
    def test_two_hundred_cancelled_readers_disturb_nobody(self) -> None:
        """Readers are cancelled at any moment, and whoever reads then gets the bytes of their own key."""
        with self.opened(self.open) as store:
            store.run(self._leave(store))

    def _at_every_suspension(self, scene: Callable[[AwaitedFace, str, int], Coroutine[Any, Any, bool]]) -> None:
        """Play `scene` on new adapters for the first suspension of each call, the second, until there are no more."""
        with self.opened(self.open) as store:
            operations = store.operations
        for operation in operations:
            at = 1
            while at < MOST_SUSPENSIONS and self._play(scene, operation, at):
                at += 1

    def _play(
        self, scene: Callable[[AwaitedFace, str, int], Coroutine[Any, Any, bool]], operation: str, at: int
    ) -> bool:
        with self.opened(self.open) as store:
            return store.run(scene(store, operation, at))

    async def _disturb(self, store: AwaitedFace, operation: str, at: int) -> bool:
        key, other = self.key("cancelled"), self.key("other")
        cold, _ = await _cancelled_at(at, store, operation, key)
        await store.ask("set", key, b"old", LIFE)
        await store.ask("set", other, b"other", LIFE)
        assert await store.ask("get", other) == b"other", _disturbed(operation, at)
        warm, _ = await _cancelled_at(at, store, operation, key)
        for _ in range(2):
            assert await store.ask("get", other) == b"other", _disturbed(operation, at)
            left = (b"old", OUTCOMES[operation.removesuffix("_many")])
            assert await store.ask("get", key) in left, _disturbed(operation, at)
        return cold or warm

    async def _cancel(self, store: AwaitedFace, operation: str, at: int) -> bool:
        cancelled, end = await _cancelled_at(at, store, operation, self.key("cancelled"))
        told = f"{operation}, cancelled at suspension {at}, must end as cancelled, not with {end!r:.60}"
        assert not cancelled or isinstance(end, asyncio.CancelledError), told
        return cancelled

    async def _share(self, store: AwaitedFace) -> None:
        await asyncio.gather(*(self._use(store, f"task {number}") for number in range(SHARERS)))

    async def _use(self, store: AwaitedFace, name: str) -> None:
        for number in range(20):
            key, body = self.key(name), f"{name}-{number}".encode()
            await store.ask("set", key, body, LIFE)
            assert await store.ask("get", key) == body, f"{name} must read its own bytes"
            await store.ask("delete", key)
            assert await store.ask("get", key) is None, f"{name} must see its own delete"

    async def _leave(self, store: AwaitedFace) -> None:
        keys = [self.key(f"reader {number}") for number in range(READERS)]
        for key in keys:
            await store.ask("set", key, key.encode(), LIFE)
        for number, key in enumerate(keys):
            reader = asyncio.ensure_future(awaited(store.method("get"), key))
            for _ in range(number % 10):
                await asyncio.sleep(0)
            reader.cancel()
            other = keys[number - 1]
            assert await store.ask("get", other) == other.encode(), _disturbed("get", number % 10)
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


async def _cancelled_at(at: int, store: AwaitedFace, operation: str, key: str) -> tuple[bool, object]:
    """Whether the call suspended so often and was cancelled there, and its result or what it raised."""
    call = _CancelledAt(at, store.method(operation)(*arguments(operation, key, b"new")))
    ending = asyncio.gather(awaited(lambda: call), return_exceptions=True)
    (end,) = await store.bounded(awaited(lambda: ending), PATIENCE, operation)
    return call.reached, end


def _disturbed(operation: str, at: int) -> str:
    return f"each key must read its own bytes, also after a {operation} that was cancelled at suspension {at}"


def _close(store: Face) -> None:
    """Let go of what the adapter holds; how it closes is asked by a test of its own."""
    if hasattr(store.adapter, store.closing):
        with contextlib.suppress(Exception):
            store.close()


def _named(open_store: Callable[[], object]) -> str:
    return getattr(open_store, "__name__", "open")


def _is_plain(method: Any) -> bool:
    return inspect.isroutine(method) and not inspect.iscoroutinefunction(inspect.unwrap(method))


def _check(open_store: Callable[[], object], adapter: object, wrong: Callable[[Any], bool], what: str) -> None:
    """Raises `MisuseError` for an adapter of the other colour."""
    for name in METHODS:
        method = getattr(adapter, name, None)
        if not callable(method) or wrong(method):
            told = f"{_named(open_store)} must give an adapter with {what}; {name} is not one in {adapter!r:.80}"
            raise MisuseError(told)
