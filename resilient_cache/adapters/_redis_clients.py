"""The fail-fast clients behind `from_url`: a few commands, each sent once and never again.

They go around `redis.Redis.get`, whose pool, retry, callback and metrics machinery costs more than the command does;
what opens a connection and logs in is redis-py's (see `_redis_wire`). No command is ever sent twice. None has to be: a
connection is looked at before it is used and replaced when the server has closed it, so a restart costs no call
anything.

A pool is a list of places, each with a connection or None. A call takes the last place and brings it back, to the end
with a connection that is in order, to the front without: so few connections are used, and a full pool is an empty
list. Both are one step of a list, so threads need no lock.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from threading import RLock
from time import monotonic
from typing import Any, Final, final

try:
    import redis.asyncio.connection as aio
    import redis.connection as sync
    from redis._parsers import _AsyncRESP2Parser, _RESP2Parser
except ImportError as error:
    raise ImportError("Redis adapters need redis-py: pip install 'resilient-cache[redis]'") from error

from ..deadline import remaining
from ..errors import FailureKind, StoreError
from ..forking import protect
from ._redis_deadline import ASYNC, SYNC, Deadline
from ._redis_dial import dialler
from ._redis_errors import failure
from ._redis_many import are_ok, are_values, encoded, sets
from ._redis_wire import Answers, AsyncWire, ManyReplies, Refused, Wire, milliseconds, packed

__all__ = ["AsyncClient", "Client"]

SHORTEST_LEASE = 2.0
OF_PARENTS: Final[list[Any]] = []
"""What a forked child must not touch, nor let go of: a word of its own on a connection is answered to the parent, and
closing one takes it out of the selector that both share, so that the parent never hears from it again."""

LAST: Final = (-1,)
FULL: Final = "every permitted connection is in use"


@final
class Client:
    """Commands that take `timeout` seconds in all at most, or what the current operation has left if less."""

    __slots__ = ("__weakref__", "_closed", "_places", "_timeout", "deadline", "dial", "lock")

    def __init__(self, url: str, timeout: float, options: dict[str, Any]) -> None:
        self.deadline = Deadline()
        self.dial = dialler(sync, SYNC, url, options, {"deadline": self.deadline, "parser_class": _RESP2Parser})
        self._places: list[Wire | None] = [None] * self.dial.max_connections
        self._timeout = timeout
        self._closed = False
        self.lock = RLock()
        protect(self)

    def get(self, key: str) -> object:
        return self._run(_is_value, packed(b"GET", key.encode()))

    def set(self, key: str, value: bytes, ttl: float) -> None:
        self._run(_is_ok, packed(b"SET", key.encode(), value, b"PX", b"%d" % milliseconds(ttl)))

    def delete(self, key: str) -> None:
        self._run(_is_count, packed(b"DEL", key.encode()))

    def get_many(self, keys: Sequence[str]) -> object:
        return self._run(are_values, packed(b"MGET", *encoded(keys)), ManyReplies(len(keys), array=True))

    def set_many(self, entries: Mapping[str, tuple[bytes, float]]) -> None:
        self._run(are_ok, sets(entries), ManyReplies(len(entries)))

    def delete_many(self, keys: Sequence[str]) -> None:
        self._run(_is_count, packed(b"DEL", *encoded(keys)))

    def publish(self, channel: str, message: bytes) -> None:
        self._run(_is_count, packed(b"PUBLISH", channel.encode(), message))

    def aside(self, seconds: float, *commands: tuple[str | bytes, ...]) -> object:
        """The reply to the last of `commands`, whatever it is, sent on a connection of their own."""
        self.deadline.start(seconds)
        connection, reply = self.dial(), None
        try:
            connection.connect()
            for words in commands:
                connection.send_command(*words)
                reply = connection.read_response()
        finally:
            connection.disconnect()
        return reply

    def close(self) -> None:
        """Disconnect what is idle now, and what is busy when it comes back."""
        self._closed = True
        _hang_up(self._places)

    def forked(self) -> None:
        """Start over in a child: its parent goes on using the connections."""
        self._places = [None] * self.dial.max_connections

    def _until(self) -> float:
        left = remaining()
        if left == 0.0:
            raise TimeoutError("no time left")
        return monotonic() + (self._timeout if left is None or left > self._timeout else left)

    def _run(self, answers: Answers, command: bytes, many: ManyReplies | None = None) -> object:
        until = self._until()
        places, wire, keep = self._places, None, False
        taken: list[Wire | None] = []
        try:
            try:
                taken.extend(map(places.pop, LAST))  # one step: an interruption comes before it, or finds what it took
            except IndexError:
                raise StoreError(FailureKind.POOL, FULL) from None
            wire = taken[0]
            if wire is not None and not wire.is_silent():
                wire.close()
                wire = None
            if wire is None:
                self.deadline.until = until
                wire = Wire(self.dial())
            reply = wire.ask(command, answers, until, many)
            keep = True
        except Refused as error:
            keep = error.is_clean
            raise
        finally:
            if keep:
                places.append(wire)
            elif taken:
                places.insert(0, None)
                if wire is not None:
                    wire.close()
                if self.dial.finds:
                    _start_over(places)
            if self._closed:
                _hang_up(places)
        return reply


@final
class AsyncClient:
    """The same for asyncio, as futures; connecting within `timeout` seconds, whoever awaits it bounds the rest.

    A call that was left behind must not keep its connection for ever, on a server that never answers or a network that
    drops everything (15 minutes, until TCP gives up): after a lease of 4 timeouts, at least 2 s, the connection is cut.
    One timer does that for all of them, and only while one is busy.
    """

    __slots__ = ("__weakref__", "_busy", "_closed", "_loop", "_places", "_sweeper", "_timeout", "dial", "lock")

    def __init__(self, url: str, timeout: float, options: dict[str, Any]) -> None:
        # No socket_timeout: redis-py would enter an asyncio.timeout for every read, 17 us.
        limits = {"connect_timeout": timeout, "socket_connect_timeout": timeout, "socket_timeout": None}
        self.dial = dialler(aio, ASYNC, url, options, limits | {"parser_class": _AsyncRESP2Parser})
        self._timeout = timeout
        self._closed = False
        self._begin()
        self.lock = RLock()
        protect(self)

    def get(self, key: str, /) -> asyncio.Future[Any]:
        return self._run(_is_value, b"GET", key)

    def set(self, key: str, value: bytes, ttl: float, /) -> asyncio.Future[Any]:
        return self._run(_is_ok, b"SET", key, value, b"PX", b"%d" % milliseconds(ttl))

    def delete(self, key: str, /) -> asyncio.Future[Any]:
        return self._run(_is_count, b"DEL", key)

    def get_many(self, keys: Sequence[str], /) -> asyncio.Future[Any]:
        return self._send(are_values, packed(b"MGET", *encoded(keys)), ManyReplies(len(keys), array=True))

    def set_many(self, entries: Mapping[str, tuple[bytes, float]], /) -> asyncio.Future[Any]:
        return self._send(are_ok, sets(entries), ManyReplies(len(entries)))

    def delete_many(self, keys: Sequence[str], /) -> asyncio.Future[Any]:
        return self._send(_is_count, packed(b"DEL", *encoded(keys)))

    def publish(self, channel: str, message: bytes, /) -> asyncio.Future[Any]:
        return self._run(_is_count, b"PUBLISH", channel, message)

    async def aside(self, *commands: tuple[str | bytes, ...]) -> object:
        """The reply to the last of `commands`, whatever it is, sent on a connection of their own; nothing bounds it."""
        connection, reply = self.dial(), None
        try:
            await connection.connect()
            for words in commands:
                await connection.send_command(*words)
                reply = await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)
        return reply

    async def aclose(self) -> None:
        """As `close`."""
        self.close()

    def close(self) -> None:
        """Disconnect what is idle or awaited by nobody, and what is busy when it comes back."""
        self._closed = True
        _hang_up(self._places)
        for wire in list(self._busy):
            if wire.is_forsaken:
                wire.close()

    def forked(self) -> None:
        """Start over in a child: its parent goes on using the connections."""
        OF_PARENTS.append((self._places, self._busy, self._sweeper))
        self._begin()

    def _begin(self) -> None:
        self._places: list[AsyncWire | None] = [None] * self.dial.max_connections
        self._busy: dict[AsyncWire, None] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def _run(self, answers: Answers, word: bytes, key: str, *words: bytes) -> asyncio.Future[Any]:
        try:
            command = packed(word, key.encode(), *words)
        except UnicodeEncodeError as error:
            raise failure(error) from error
        return self._send(answers, command)

    def _send(self, answers: Answers, command: bytes, many: ManyReplies | None = None) -> asyncio.Future[Any]:
        left = remaining()
        if self._closed:
            raise StoreError(FailureKind.CONNECTION, "closed")
        if left == 0.0:
            raise StoreError(FailureKind.TIMEOUT, "no time left")
        loop, lease = self._here(), max(SHORTEST_LEASE, 4 * (left or self._timeout))
        wire = self._idle(loop)
        if wire is not None:
            return self._ask(wire, command, answers, lease, many)
        return loop.create_task(self._connect(loop, command, answers, lease, many))

    def _here(self) -> asyncio.AbstractEventLoop:
        """The running loop; the timer of one that has ended will never ring."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop and (self._loop is None or self._loop.is_closed()):
            self._loop, self._sweeper = loop, None
        return loop

    def _reclaim(self) -> None:
        """Take back the places of what was busy when its loop ended: nobody will hear of it again."""
        for wire in [wire for wire in list(self._busy) if wire.loop.is_closed()]:
            del self._busy[wire]
            self._places.insert(0, None)

    def _idle(self, loop: asyncio.AbstractEventLoop) -> AsyncWire | None:
        """The last place's connection; None where one has to be made, because it has ended, perhaps with its loop."""
        while self._places:
            wire = self._places.pop()
            if wire is not None and wire.is_usable(loop):
                return wire
            self._places.insert(0, None)
            if wire is None:
                break
            with contextlib.suppress(RuntimeError):  # its loop has ended
                wire.loop.call_soon_threadsafe(wire.close)
        return None

    async def _connect(
        self, loop: asyncio.AbstractEventLoop, command: bytes, answers: Answers, lease: float, many: ManyReplies | None
    ) -> object:
        wire = self._idle(loop) or await self._connected()  # somebody may have come back meanwhile
        return await self._ask(wire, command, answers, lease, many)

    async def _connected(self) -> AsyncWire:
        if not self._places:
            self._reclaim()
        if not self._places:
            raise StoreError(FailureKind.POOL, FULL)
        self._places.pop()
        try:
            connection = self.dial()
            await connection.connect()
            return AsyncWire(connection, await connection.can_read(), self._free)
        except BaseException as error:
            self._places.insert(0, None)
            if isinstance(error, Exception):
                raise failure(error) from error
            raise

    def _ask(
        self, wire: AsyncWire, command: bytes, answers: Answers, lease: float, many: ManyReplies | None
    ) -> asyncio.Future[Any]:
        self._busy[wire] = None
        wire.until = wire.loop.time() + lease
        if self._sweeper is None:
            self._sweeper = wire.loop.call_at(wire.until, self._sweep)
        return wire.ask(command, answers, many)

    def _free(self, wire: AsyncWire) -> None:
        """A reply is there, or never will be."""
        del self._busy[wire]
        if wire.is_open:
            self._places.append(wire)
        else:
            self._places.insert(0, None)
            if self.dial.finds:
                _start_over(self._places)
        if self._closed:
            _hang_up(self._places)

    def _sweep(self) -> None:
        """Cut what has been busy for longer than its lease; look again when the next lease ends."""
        self._sweeper, loop = None, asyncio.get_running_loop()
        now = loop.time()
        for wire in [wire for wire in list(self._busy) if wire.until <= now]:
            wire.close()
        due = [wire.until for wire in list(self._busy) if wire.until > now]
        if due:
            self._sweeper = loop.call_at(min(due), self._sweep)


def _hang_up(places: list[Any]) -> None:
    with contextlib.suppress(IndexError):
        while True:
            wire = places.pop()
            if wire is not None:
                wire.close()


def _start_over(places: list[Any]) -> None:
    """Hang up on whoever is idle: the server has moved, perhaps, and the next connection is to find out."""
    with contextlib.suppress(IndexError):
        while (wire := places.pop()) is not None:  # those with a connection are at the end
            places.insert(0, None)
            wire.close()
        places.insert(0, None)


def _is_value(reply: object) -> bool:
    return reply is None or isinstance(reply, bytes)


def _is_ok(reply: object) -> bool:
    return reply == "OK"


def _is_count(reply: object) -> bool:
    return isinstance(reply, int)
