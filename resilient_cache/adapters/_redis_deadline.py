"""redis-py connections whose every operation ends at one deadline.

redis-py's `socket_timeout` starts anew with every receive: a server that sends a byte every 50 ms holds a call with a
timeout of 0.25 s for as long as it likes. Here the socket is given the time that is left before each send and each
receive, so connecting and the handshake (TLS, AUTH, SELECT) share one deadline, as sending and every byte of the reply
do in `_redis_wire`.

Resolving a host name cannot be bounded: `getaddrinfo` takes no timeout. Use an address, or a local resolver, where a
slow name server must not be felt.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from socket import socket
from typing import TYPE_CHECKING, Any, TypeAlias, final

import redis.asyncio.connection as aio
import redis.connection as sync

__all__ = ["ASYNC", "SYNC", "Address", "Deadline", "tls"]

Address: TypeAlias = tuple[str, int]
"""Host and port. `find` gives it anew for every connection, where servers change places."""


class Deadline(threading.local):
    """The moment at which this thread's operation must be over, by `time.monotonic`."""

    until = 0.0

    def start(self, seconds: float) -> None:
        """Give this thread's next operation that many seconds from now. Raises `TimeoutError` for none."""
        if seconds <= 0:
            raise TimeoutError("no time left")
        self.until = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds left, above 0. Raises `TimeoutError`, as a socket does, when none are."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the operation's deadline has passed")
        return left


@final
class DeadlineSocket:
    """A connected socket that sends and receives only until the deadline; in all else the socket itself."""

    __slots__ = ("_deadline", "_polls", "connected")

    def __init__(self, connected: socket, deadline: Deadline) -> None:
        self.connected = connected
        self._deadline = deadline
        self._polls = False

    def settimeout(self, seconds: float | None) -> None:
        """0 makes it poll until it sends, to find stale connections; any other time is the deadline's to say."""
        self._polls = seconds == 0
        self.connected.settimeout(seconds)

    def sendall(self, data: bytes) -> None:
        # sendall's timeout is a total one already (Python 3.5)
        self._polls = False
        self.connected.settimeout(self._deadline.left())
        self.connected.sendall(data)

    def recv(self, size: int) -> bytes:
        if not self._polls:
            self.connected.settimeout(self._deadline.left())
        return self.connected.recv(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connected, name)


if TYPE_CHECKING:
    from ssl import SSLContext  # Python may be built without

    class _Connection:
        """What the mixins use of a redis-py connection."""

        def __init__(self, **options: object) -> None: ...
        def _connect(self) -> socket: ...
        def _wrap_socket_with_ssl(self, sock: socket) -> socket: ...
        def connect(self) -> None: ...
        def disconnect(self) -> None: ...

    class _AsyncConnection:
        """The same for asyncio."""

        def __init__(self, **options: object) -> None: ...
        async def connect(self) -> None: ...
        async def disconnect(self, nowait: bool = False) -> None: ...
else:
    _Connection = _AsyncConnection = object


class _Bounded(_Connection):
    def __init__(self, *, deadline: Deadline, find: Callable[[], Address] | None = None, **options: object) -> None:
        self._deadline = deadline
        self._find = find
        super().__init__(**options)

    @property
    def socket_timeout(self) -> float:
        """Bounds connecting and the TLS handshake. Never raises and never 0: redis-py reads it between the two."""
        return max(self._deadline.until - time.monotonic(), 0.001)

    @socket_timeout.setter
    def socket_timeout(self, seconds: float | None) -> None:
        """redis-py's constructors assign it; the deadline alone counts."""

    socket_connect_timeout = socket_timeout

    def _connect(self) -> Any:
        return DeadlineSocket(super()._connect(), self._deadline)

    def connect(self) -> None:
        """Connect. A handshake cut short leaves no connection without its AUTH or SELECT behind."""
        try:
            if self._find is not None:
                self.host, self.port = self._find()
            super().connect()
        except BaseException:
            self.disconnect()
            raise


class _AsyncBounded(_AsyncConnection):
    def __init__(
        self, *, connect_timeout: float, find: Callable[[], Awaitable[Address]] | None = None, **options: object
    ) -> None:
        self._connect_timeout = connect_timeout
        self._find = find
        super().__init__(**options)

    async def connect(self) -> None:
        """Connect, handshake included, within the timeout; raises `TimeoutError` otherwise."""
        try:
            async with asyncio.timeout(self._connect_timeout):
                if self._find is not None:
                    self.host, self.port = await self._find()
                await super().connect()
        except BaseException:
            await self.disconnect(nowait=True)
            raise


class _BoundedTLS(_Bounded):
    host: str
    ssl_validate_ocsp: bool
    ssl_validate_ocsp_stapled: bool

    def __init__(self, *, tls: SSLContext, **options: Any) -> None:
        self._tls = tls
        super().__init__(**options)

    def _wrap_socket_with_ssl(self, sock: socket) -> socket:
        if self.ssl_validate_ocsp or self.ssl_validate_ocsp_stapled:  # nothing but redis-py's own way does that
            return super()._wrap_socket_with_ssl(sock)
        return self._tls.wrap_socket(sock, server_hostname=self.host)


class _AsyncBoundedTLS(_AsyncBounded):
    ssl_context: aio.RedisSSLContext

    def __init__(self, *, tls: SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = tls


def tls(options: dict[str, Any]) -> SSLContext:
    """The context for all connections that are made with `options`: to make one takes 20 ms of the event loop's time.

    For both colours, whose options are the same as far as a context is concerned.
    """
    named = inspect.signature(aio.SSLConnection).parameters
    connection: Any = aio.SSLConnection(**{name: options[name] for name in named if name in options})
    context: SSLContext = connection.ssl_context.get()
    return context


SYNC: dict[type, type] = {
    base: type(f"Bounded{base.__name__}", (bounded, base), {})
    for base, bounded in (
        (sync.Connection, _Bounded),
        (sync.SSLConnection, _BoundedTLS),
        (sync.UnixDomainSocketConnection, _Bounded),
    )
}
"""redis-py's connection classes and what stands in for them."""

ASYNC: dict[type, type] = {
    base: type(f"Bounded{base.__name__}", (bounded, base), {})
    for base, bounded in (
        (aio.Connection, _AsyncBounded),
        (aio.SSLConnection, _AsyncBoundedTLS),
        (aio.UnixDomainSocketConnection, _AsyncBounded),
    )
}
"""The same for asyncio."""
