"""Backplanes without a network: what is published is received before `publish` returns, in the same thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import RLock
from typing import NamedTuple, final

from ..errors import FailureKind, StoreError

__all__ = ["AsyncLocalBackplane", "BackplaneHub", "LocalBackplane"]


class _Listener(NamedTuple):
    """Somebody who listens; `end` is told why it has to stop."""

    backplane: object
    channel: str
    receive: Callable[[bytes], object]
    end: Callable[[Exception], object]


@final
class BackplaneHub:
    """Where the backplanes of one process meet: give each cache one of its own on the same hub.

    `messages` are (channel, message), as they were published. `drop`, `cut`, `down` and `heal` make it fail, as a
    server and the network before it do.
    """

    __slots__ = ("_is_down", "_listeners", "_lock", "_to_lose", "messages")

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self._listeners: list[_Listener] = []
        self._to_lose = 0
        self._is_down = False
        self._lock = RLock()

    @property
    def listening(self) -> int:
        """How many listen now."""
        with self._lock:
            return len(self._listeners)

    def drop(self, count: int = 1) -> None:
        """Lose the next `count` messages: `publish` returns, nobody receives, and whoever listened to it is cut off."""
        self._to_lose = count

    def cut(self) -> None:
        """Cut off everybody who listens now; they may listen again at once."""
        self.end("cut by plan")

    def down(self) -> None:
        """From now on everybody is cut off, and every `publish` and `listen` is refused."""
        self._is_down = True
        self.end("down by plan")

    def heal(self) -> None:
        """From now on all is well."""
        self._is_down = False

    def carry(self, channel: str, message: bytes) -> None:
        """Hand `message` to those who listen to `channel`, as a backplane does."""
        with self._lock:
            self._check()
            self.messages.append((channel, message))
            lost, self._to_lose = self._to_lose > 0, max(self._to_lose - 1, 0)
            for listener in [listener for listener in self._listeners if listener.channel == channel]:
                if lost:
                    self._end(listener, _failed("a message was lost by plan"))
                else:
                    self._give(listener, message)

    @contextmanager
    def joined(self, listener: _Listener, ready: Callable[[], object]) -> Generator[None]:
        """Let `listener` hear everything from the moment `ready` is called; what others publish waits until it was."""
        try:
            with self._lock:
                self._check()
                self._listeners.append(listener)
                ready()
            yield
        finally:
            self._leave(listener)

    def end(self, why: str, backplane: object = None) -> None:
        """Cut off everybody, or everybody who listens at `backplane`."""
        with self._lock:
            for listener in list(self._listeners):
                if backplane in (None, listener.backplane):
                    self._end(listener, _failed(why))

    def _check(self) -> None:
        if self._is_down:
            raise _failed("down by plan")

    def _give(self, listener: _Listener, message: bytes) -> None:
        try:
            listener.receive(message)
        except Exception as error:  # noqa: BLE001 - the listener's to raise, not the publisher's
            self._end(listener, error)

    def _end(self, listener: _Listener, error: Exception) -> None:
        self._leave(listener)
        listener.end(error)

    def _leave(self, listener: _Listener) -> None:
        with self._lock:
            self._listeners = [other for other in self._listeners if other is not listener]


class _Place:
    """One cache's place at a hub."""

    __slots__ = ("_is_closed", "hub")

    def __init__(self, hub: BackplaneHub | None = None) -> None:
        self.hub = hub if hub is not None else BackplaneHub()
        self._is_closed = False

    def _check(self) -> None:
        if self._is_closed:
            raise _failed("closed")

    def _close(self) -> None:
        self._is_closed = True
        self.hub.end("closed", self)


@final
class LocalBackplane(_Place):
    """A backplane for tests and for several caches in one process; all on `hub`, by default one of its own.

    Like a real one it hands a message to everybody who listens, the publisher's own cache included.
    """

    __slots__ = ()

    def publish(self, channel: str, message: bytes, /) -> None:
        """Call everybody who listens to `channel`, in this thread. Raises `StoreError` while the hub is down."""
        self._check()
        self.hub.carry(channel, message)

    def listen(self, channel: str, ready: Callable[[], object], receive: Callable[[bytes], object], /) -> None:
        """Call `ready`, and block while whoever publishes calls `receive`. Ends as `RedisBackplane.listen` does."""
        self._check()
        over = SimpleQueue[Exception]()
        with self.hub.joined(_Listener(self, channel, receive, over.put), ready):
            raise over.get()

    def close(self) -> None:
        """End what listens here; later calls raise `StoreError`. Again is harmless."""
        self._close()


@final
class AsyncLocalBackplane(_Place):
    """The same with coroutines, for one event loop."""

    __slots__ = ()

    async def publish(self, channel: str, message: bytes, /) -> None:
        """Call everybody who listens to `channel`, in this task. Raises `StoreError` while the hub is down."""
        self._check()
        self.hub.carry(channel, message)

    async def listen(self, channel: str, ready: Callable[[], object], receive: Callable[[bytes], object], /) -> None:
        """Call `ready`, and wait while whoever publishes calls `receive`. May be cancelled."""
        self._check()
        loop = asyncio.get_running_loop()
        over = asyncio.Queue[Exception]()

        def end(error: Exception) -> None:
            loop.call_soon_threadsafe(over.put_nowait, error)  # a test may break the hub from any thread

        with self.hub.joined(_Listener(self, channel, receive, end), ready):
            raise await over.get()

    async def aclose(self) -> None:
        """End what listens here; later calls raise `StoreError`. Again is harmless."""
        self._close()


def _failed(why: str) -> StoreError:
    return StoreError(FailureKind.CONNECTION, why)
