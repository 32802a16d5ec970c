"""RESP2, as far as three commands need it, over connections that redis-py has opened.

Connecting, TLS, AUTH and SELECT are its work, one request and one reply at a time are ours: its way from a pooled
connection to a reply costs 0.89 of a plain `Redis.get`, this one 0.44, of which the kernel takes 0.3. An async reply
is a plain future, so nobody needs a task to wait for it, and whoever stops waiting leaves the connection to read its
reply and be used again: replies cannot shift.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, TypeAlias, final

from .._reply import Reply
from ..errors import FailureKind, StoreError
from ._redis_errors import failure

__all__ = ["MORE", "Answers", "AsyncWire", "ManyReplies", "Refused", "Replies", "Wire", "milliseconds", "packed"]

Answers: TypeAlias = Callable[[object], bool]
"""Whether a reply can be one to the command; if not, the connection is out of step and is dropped."""

MORE: Final = object()
"""The reply is not there yet."""

ARRAY: Final = object()
"""The head of an array, no reply yet."""

SLACK: Final = 0.001
"""Seconds by which an operation may end too soon or too late."""

UNKNOWN: Final = -1.0
"""A socket's timeout that is set before it counts: not near any number of seconds that may be left."""

AT_ONCE: Final = 65_536
LONGEST_PX: Final = 2**53
LONGEST_LINE: Final = 65_536
UNASKED: Final = "Connection not ready: it spoke before it was asked"
BULK, STATUS, NUMBER, ERROR = b"$+:-"


class Refused(Exception):
    """An error reply, its text as it came: read to its end, so the connection is clean."""

    @property
    def is_clean(self) -> bool:
        """Whether the connection may be used again.

        Not after an error about who we are: the next one logs in anew. Not to a server that has become a replica: the
        next one may find its successor.
        """
        return failure(self).kind is not FailureKind.AUTH and not str(self).startswith("READONLY")


def packed(*words: bytes) -> bytes:
    """A command as RESP."""
    if len(words) == 2:  # 0.4 us less
        word, key = words
        return b"*2\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(word), word, len(key), key)
    return b"".join([b"*%d\r\n" % len(words), *[b"$%d\r\n%b\r\n" % (len(word), word) for word in words]])


def milliseconds(ttl: float) -> int:
    """A ttl as PX takes it: at least one."""
    return int(min(max(ttl * 1000, 1), LONGEST_PX))


@final
class Replies:
    """Bytes in, replies out, one after the other: bytes, None, int, str for a status, `Refused` for an error."""

    __slots__ = ("_data", "_need")

    def __init__(self) -> None:
        self._data = bytearray()
        self._need = 0

    def feed(self, data: bytes) -> object:
        """The reply that `data` ends, or `MORE`. Raises `ValueError` for what is no RESP, or more than one reply."""
        if data[:1] == b"$" and not self._data:  # a value, and mostly it has come as a whole
            start = data.find(b"\r\n") + 2
            size = data[1 : start - 2]
            if size.isdigit() and len(data) == start + int(size) + 2 and data[-2:] == b"\r\n":
                return data[start:-2]
        whole: bytes | bytearray = data
        if self._data:
            self._data += data
            whole = self._data
        reply, used = self.first(whole) if len(whole) >= self._need else (MORE, 0)
        if reply is MORE:
            if whole is data:
                self._data += data
            return MORE
        if used != len(whole):
            raise ValueError("more than one reply to one command")
        if self._data:
            self._data, self._need = bytearray(), 0
        return reply

    def first(self, data: bytes | bytearray, at: int = 0) -> tuple[object, int]:
        """The reply in `data` that begins at `at`, and its end there; `MORE` while it is not all there."""
        end = data.find(b"\r\n", at)
        if end < 0:
            if len(data) - at > LONGEST_LINE:
                raise ValueError("a line without end")
            return MORE, 0
        kind, line, used = data[at], bytes(data[at + 1 : end]), end + 2
        if kind == BULK:
            return (None, used) if line == b"-1" else self._value(data, used, used + _number(line) + 2)
        if kind == STATUS:
            return line.decode(errors="replace"), used
        if kind == NUMBER:
            return _number(line), used
        if kind == ERROR:
            return Refused(line.decode(errors="replace")), used
        raise ValueError(f"no RESP2: {bytes(data[at : at + 20])!r}")

    def _value(self, data: bytes | bytearray, start: int, end: int) -> tuple[object, int]:
        if len(data) < end:
            self._need = end
            return MORE, 0
        if data[end - 2 : end] != b"\r\n":
            raise ValueError("a value longer than it says")
        return bytes(data[start : end - 2]), end


@final
class ManyReplies:
    """Bytes in, a list of `count` replies out: those to commands that were sent together, or of one `array`.

    One error among them is the reply.
    """

    __slots__ = ("_array", "_at", "_count", "_data", "_one", "_replies")

    def __init__(self, count: int, *, array: bool = False) -> None:
        self._array = array
        self._at = 0
        self._count = count
        self._data = bytearray()
        self._one = Replies()
        self._replies: list[object] = []

    def feed(self, data: bytes) -> object:
        """As `Replies.feed`."""
        self._data += data
        while len(self._replies) < self._count:
            reply, used = self._next()
            if reply is MORE:
                return MORE
            self._at = used
            if reply is not ARRAY:
                self._replies.append(reply)
        if self._at != len(self._data):
            raise ValueError("more replies than commands")
        return next((reply for reply in self._replies if isinstance(reply, Refused)), self._replies)

    def _next(self) -> tuple[object, int]:
        if not self._array or not self._data.startswith(b"*"):
            reply = self._one.first(self._data, self._at)
            if self._array and isinstance(reply[0], Refused):
                self._count = 1
            return reply
        end = self._data.find(b"\r\n")
        if end < 0:
            return MORE, 0
        if _number(bytes(self._data[1:end])) != self._count:
            raise ValueError("not as many values as keys")
        self._array = False
        return ARRAY, end + 2


def _number(line: bytes) -> int:
    if not line.isdigit():
        raise ValueError(f"no number: {line[:20]!r}")
    return int(line)


def _answer(reply: object, answers: Answers) -> object:
    if isinstance(reply, Refused):
        raise reply
    if not answers(reply):
        raise StoreError(FailureKind.CONNECTION, f"a {type(reply).__name__} that answers another question")
    return reply


@final
class Wire:
    """One connection of a thread's, bounded by the deadline that its socket keeps to."""

    __slots__ = ("_connection", "_given", "_has_spoken", "_replies", "_socket")

    def __init__(self, connection: Any) -> None:
        connection.connect()
        if connection.can_read():
            connection.disconnect()
            raise ConnectionError(UNASKED)
        self._connection = connection
        self._socket = connection._sock.connected
        self._given = UNKNOWN
        self._has_spoken = _poll(self._socket, lambda _: True)
        self._replies = Replies()

    def is_silent(self) -> bool:
        """Whether the server is still there, as far as one can tell, and has said nothing of its own accord."""
        if not self._has_spoken(0):
            return True
        try:
            self._given = UNKNOWN
            self._socket.settimeout(0)
            self._socket.recv(1)  # the end, something unasked, or of TLS what is not for us to hear
        except BlockingIOError:
            return True
        except OSError as error:
            return type(error).__name__ == "SSLWantReadError"  # by name: Python may be built without ssl
        return False

    def ask(self, command: bytes, answers: Answers, until: float, many: ManyReplies | None = None) -> object:
        """The reply, by `until`. Raises `Refused` for an error reply; after anything else the wire is no more use."""
        feed = self._replies.feed if many is None else many.feed
        self._bound(until)
        self._socket.sendall(command)  # its timeout is a total one already (Python 3.5)
        while True:
            self._bound(until)
            data = self._socket.recv(AT_ONCE)
            if not data:
                raise ConnectionError("the server closed the connection")
            reply = feed(data)
            if reply is not MORE:
                return _answer(reply, answers)

    def _bound(self, until: float) -> None:
        left = until - monotonic()
        if left <= 0:
            raise TimeoutError("the operation's deadline has passed")
        if not -SLACK < left - self._given < SLACK:  # else not worth a call of the kernel
            self._given = left
            self._socket.settimeout(left)

    def close(self) -> None:
        """Hang up."""
        self._connection.disconnect()


def _unheard(_: int) -> object:
    return None


def _poll(connected: Any, otherwise: Callable[[int], object]) -> Callable[[int], object]:
    """Asks whether something can be read; a quarter of the price of finding out by reading."""
    if not hasattr(select, "poll"):  # Windows
        return otherwise
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    return poll.poll


@final
class AsyncWire(asyncio.Protocol):
    """One connection of an event loop's. `free` is called with it when the reply is there, or never will be."""

    __slots__ = (
        "_answers",
        "_feed",
        "_free",
        "_has_spoken",
        "_replies",
        "_waiter",
        "_writer",
        "is_open",
        "loop",
        "until",
    )

    def __init__(self, connection: Any, unasked: bool, free: Callable[[AsyncWire], object]) -> None:
        self.loop = asyncio.get_running_loop()
        self.is_open = True
        self.until = 0.0  # when whoever asks will have waited long enough
        self._free = free
        self._replies = Replies()
        self._feed = self._replies.feed
        self._answers: Answers = bool
        self._waiter: Reply | None = None
        self._writer = connection._writer  # kept, or it would close the transport with its last breath
        connection._writer = connection._reader = None
        transport = self._writer.transport
        transport.set_protocol(self)
        # What came while the loop was busy elsewhere is still in the socket. Of TLS it may not be for us to hear.
        plain = transport.get_extra_info("ssl_object") is None
        self._has_spoken = _poll(transport.get_extra_info("socket"), _unheard) if plain else _unheard
        if unasked:
            self.close()
            raise ConnectionError(UNASKED)

    def is_usable(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it is of `loop`, connected, and the server has said nothing of its own accord."""
        return self.is_open and self.loop is loop and not self._has_spoken(0)

    @property
    def is_forsaken(self) -> bool:
        """Whether nobody waits for the reply any more."""
        return self._waiter is None or self._waiter.done()

    def ask(self, command: bytes, answers: Answers, many: ManyReplies | None = None) -> Reply:
        """The reply, as a future that gives it or raises `StoreError`. Cancelling it leaves the wire in order."""
        self._answers = answers
        self._feed = self._replies.feed if many is None else many.feed
        self._waiter = waiter = Reply(loop=self.loop)
        self._writer.transport.write(command)
        return waiter

    def data_received(self, data: bytes) -> None:
        """Some of the reply, or all of it."""
        try:
            if self._waiter is None:
                raise ConnectionError(UNASKED)
            reply = self._feed(data)
            if reply is not MORE:
                self._end(_answer(reply, self._answers), None)
        except Exception as error:  # noqa: BLE001 - around a store: it said something that is no answer
            if not isinstance(error, Refused) or not error.is_clean:
                self.close()
            self._end(None, error)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of the connection, whoever ended it."""
        self.is_open = False
        self._end(None, exc or ConnectionError("the server closed the connection"))

    def close(self) -> None:
        """Cut the connection where it stands: whoever waits gets an error at once.

        Without TLS's farewell, for which the server would be waited for, longer than the loop may run.
        """
        self.is_open = False
        if not self.loop.is_closed():  # or it ends with this wire
            self._writer.transport.abort()

    def _end(self, reply: object, error: Exception | None) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            return
        self._free(self)
        if not waiter.done():  # else it was cancelled: nobody listens
            waiter.give(reply, error and failure(error))
