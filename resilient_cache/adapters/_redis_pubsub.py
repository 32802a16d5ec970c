"""Pub/sub over redis-py's connections, such as it is: a message is lost with the connection it was on its way on.

Publishing is a command like any other and goes through the fail-fast clients. Listening holds a connection of its own,
and all that it has to get right is to end in time. A server that dies closes the connection; one that is frozen, or
behind a network that drops everything, just falls silent. So silence is asked about: after `ping_every` seconds of it a
PING goes out on the subscribed connection itself, and with nothing heard `timeout` seconds later the connection is
given up. A reply cut short by that question is not lost: redis-py's RESP2 parsers begin it anew when more has come.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from socket import SHUT_RDWR
from threading import RLock
from typing import Any, Final, final

from ..errors import FailureKind, StoreError
from ..forking import protect
from ._redis_clients import OF_PARENTS, AsyncClient, Client
from ._redis_deadline import Deadline
from ._redis_errors import failure

__all__ = ["AsyncPubSub", "PubSub"]

CLOSED: Final = "closed"
PONG: Final = [b"pong", b""]


@final
class PubSub:
    """Publishes and listens; each within its time, whatever the server does."""

    __slots__ = ("__weakref__", "_client", "_closed", "_ping_every", "_subscriptions", "_timeout", "lock")

    def __init__(self, url: str, timeout: float, ping_every: float, options: dict[str, Any]) -> None:
        self._client = Client(url, timeout, options)
        self._timeout = timeout
        self._ping_every = ping_every
        self._subscriptions: set[_Subscription] = set()
        self._closed = False
        self.lock = RLock()
        protect(self)

    def publish(self, channel: str, message: bytes) -> None:
        if self._closed:
            raise StoreError(FailureKind.CONNECTION, CLOSED)
        self._client.publish(channel, message)

    def listen(self, channel: str, ready: Callable[[], object], receive: Callable[[bytes], object]) -> None:
        subscription = self._begin()
        try:
            subscription.subscribe(channel)
            ready()
            while True:
                receive(subscription.next())
        finally:
            with self.lock:  # nobody cuts a socket whose number may be another's by now
                self._subscriptions.discard(subscription)
                subscription.close()

    def close(self) -> None:
        with self.lock:
            self._closed = True
            for subscription in self._subscriptions:
                subscription.cut()
        self._client.close()

    def forked(self) -> None:
        """Start over in a child: the subscriptions are its parent's, and so are the threads that listen to them."""
        self._subscriptions = set()

    def _begin(self) -> _Subscription:
        with self.lock:
            if self._closed:
                raise StoreError(FailureKind.CONNECTION, CLOSED)
            connection = self._client.dial()
            subscription = _Subscription(connection, self._client.deadline, self._timeout, self._ping_every)
            self._subscriptions.add(subscription)
        return subscription


@final
class _Subscription:
    """One connection that listens. All raise `StoreError`; after that it is of no more use."""

    __slots__ = ("_channel", "_connection", "_deadline", "_is_cut", "_ping_every", "_timeout")

    def __init__(self, connection: Any, deadline: Deadline, timeout: float, ping_every: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._timeout = timeout
        self._ping_every = ping_every
        self._channel = b""
        self._is_cut = False

    def subscribe(self, channel: str) -> None:
        """Connect, and wait for the word that no message is lost from now on; both within `timeout`."""
        try:
            self._channel = channel.encode()
            self._deadline.start(self._timeout)
            self._connection.connect()
            if self._is_cut:  # before there was a socket to cut
                raise StoreError(FailureKind.CONNECTION, CLOSED)
            _check_subscribed(self._ask(b"SUBSCRIBE", self._channel), self._channel)
        except Exception as error:
            raise failure(error) from error

    def next(self) -> bytes:
        """The next message, however long it takes to come, as long as the server is there."""
        while True:
            try:
                message = _carried(self._heard(), self._channel)
            except Exception as error:
                raise failure(error) from error
            if message is not None:
                return message

    def cut(self) -> None:
        """Make whoever waits for it stop, from another thread."""
        self._is_cut = True
        connected = self._connection._sock
        if connected is not None:
            with contextlib.suppress(OSError):  # the server was faster
                connected.shutdown(SHUT_RDWR)

    def close(self) -> None:
        self._connection.disconnect()

    def _heard(self) -> object:
        self._deadline.start(self._ping_every)
        try:
            return self._reply()
        except Exception as error:
            if failure(error).kind is not FailureKind.TIMEOUT:
                raise
        self._deadline.start(self._timeout)
        return self._ask(b"PING")

    def _ask(self, *words: bytes) -> object:
        self._connection.send_command(*words, check_health=False)
        return self._reply()

    def _reply(self) -> object:
        return self._connection.read_response(disconnect_on_error=False)


@final
class AsyncPubSub:
    """The same for asyncio."""

    __slots__ = ("__weakref__", "_client", "_closed", "_ping_every", "_subscriptions", "_timeout", "lock")

    def __init__(self, url: str, timeout: float, ping_every: float, options: dict[str, Any]) -> None:
        self._client = AsyncClient(url, timeout, options)
        self._timeout = timeout
        self._ping_every = ping_every
        self._subscriptions: set[_AsyncSubscription] = set()
        self._closed = False
        self.lock = RLock()
        protect(self)

    async def publish(self, channel: str, message: bytes) -> None:
        async with asyncio.timeout(self._timeout):
            await self._client.publish(channel, message)

    async def listen(self, channel: str, ready: Callable[[], object], receive: Callable[[bytes], object]) -> None:
        if self._closed:
            raise StoreError(FailureKind.CONNECTION, CLOSED)
        subscription = _AsyncSubscription(self._client.dial(), self._timeout, self._ping_every)
        subscriptions = self._subscriptions
        subscriptions.add(subscription)
        try:
            await subscription.subscribe(channel)
            ready()
            while True:
                receive(await subscription.next())
        finally:
            subscriptions.discard(subscription)
            subscription.close()

    async def aclose(self) -> None:
        self._closed = True
        for subscription in list(self._subscriptions):
            subscription.cut()
        await self._client.aclose()

    def forked(self) -> None:
        """Start over in a child: the subscriptions are its parent's, and so is the loop that listens to them."""
        OF_PARENTS.append(self._subscriptions)
        self._subscriptions = set()


@final
class _AsyncSubscription:
    """One connection that listens. All raise `StoreError` but for a cancellation; after that it is of no more use."""

    __slots__ = ("_channel", "_connection", "_is_cut", "_ping_every", "_timeout")

    def __init__(self, connection: Any, timeout: float, ping_every: float) -> None:
        self._connection = connection
        self._timeout = timeout
        self._ping_every = ping_every
        self._channel = b""
        self._is_cut = False

    async def subscribe(self, channel: str) -> None:
        """Connect, and wait for the word that no message is lost from now on; both within `timeout`."""
        try:
            self._channel = channel.encode()
            async with asyncio.timeout(self._timeout):
                await self._connection.connect()
                if self._is_cut:  # before there was a socket to cut
                    raise StoreError(FailureKind.CONNECTION, CLOSED)
                _check_subscribed(await self._ask(b"SUBSCRIBE", self._channel), self._channel)
        except Exception as error:
            raise failure(error) from error

    async def next(self) -> bytes:
        """The next message, however long it takes to come, as long as the server is there."""
        while True:
            try:
                message = _carried(await self._heard(), self._channel)
            except Exception as error:
                raise failure(error) from error
            if message is not None:
                return message

    def cut(self) -> None:
        """Cut the connection where it stands, without TLS's farewell; whoever waits for it stops."""
        self._is_cut = True
        writer = self._connection._writer
        if writer is not None:
            with contextlib.suppress(RuntimeError):  # its loop has ended, and it with that
                writer.transport.abort()

    def close(self) -> None:
        self.cut()
        self._connection._writer = self._connection._reader = None

    async def _heard(self) -> object:
        try:
            async with asyncio.timeout(self._ping_every):
                return await self._reply()
        except TimeoutError:
            async with asyncio.timeout(self._timeout):
                return await self._ask(b"PING")

    async def _ask(self, *words: bytes) -> object:
        await self._connection.send_command(*words, check_health=False)
        return await self._reply()

    async def _reply(self) -> object:
        return await self._connection.read_response(disconnect_on_error=False)


def _check_subscribed(reply: object, channel: bytes) -> None:
    if reply != [b"subscribe", channel, 1]:
        raise StoreError(FailureKind.CONNECTION, f"a {type(reply).__name__} in answer to SUBSCRIBE")


def _carried(reply: object, channel: bytes) -> bytes | None:
    """What a message carries; None for a sign of life. Raises for all else: it may stand for messages that are lost."""
    if reply == PONG:
        return None
    match reply:
        case [b"message", bytes(name), bytes(message)] if name == channel:
            return message
        case _:
            raise StoreError(FailureKind.CONNECTION, f"a {type(reply).__name__} that is no message")
