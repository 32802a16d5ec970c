"""A TCP proxy in front of a real server, whose wire can be made bad while a test runs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import socket
import struct
import threading
from asyncio import Queue, TaskGroup
from collections.abc import Callable, Coroutine, Iterator
from enum import StrEnum
from numbers import Real
from typing import Any, Final, Self, TypeVarTuple, final

from ._given import is_a, one_of

__all__ = ["ChaosProxy", "WireFault"]

Ts = TypeVarTuple("Ts")

NOT_A_PROTOCOL: Final = b"HTTP/1.1 400 Bad Request\r\n\r\n"
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # linger for 0 seconds
PIECE: Final = 65_536
AHEAD: Final = 1_024
"""Pieces that may be held back each way, 64 MiB: who sends more waits, as on any wire."""
RETRY: Final = 0.1
"""Seconds until connections are accepted again, where there was no file descriptor for one."""


class WireFault(StrEnum):
    """What can be wrong with a wire. `seconds` is what `ChaosProxy.inject` was given."""

    DELAY = "delay"  # every reply comes `seconds` later
    DRIP = "drip"  # replies come a byte at a time, one every `seconds`
    HOLE = "hole"  # nothing passes either way; what was sent arrives afterwards, as TCP sends it again
    GARBAGE = "garbage"  # in place of a reply, bytes that belong to no store's protocol
    RESET = "reset"  # half of a reply, then the connection is reset
    CUT = "cut"  # every connection is reset, a new one as soon as it is made; what was on its way is lost
    FLAP = "flap"  # cut and well in turns, for `seconds` each, cut first


NOTHING_PASSES: Final = (WireFault.HOLE, WireFault.CUT)


@final
class ChaosProxy:
    """Passes what clients send to `host:port` and the replies back, until a fault is injected.

    Clients connect to 127.0.0.1 at `port`, which is known once the context is entered. The proxy runs in a thread of
    its own, so it serves blocking and asyncio clients alike, and any thread may inject and heal. When the context ends,
    every connection is closed and the thread has ended. Entering raises `OSError` when no port can be had or nobody
    knows `host`; while the server is away, connections are closed as soon as they are made. A reset by either side is
    one for the other, after what was said before it.
    """

    __slots__ = (
        "_accepting",
        "_addresses",
        "_changed",
        "_fault",
        "_lines",
        "_listener",
        "_lock",
        "_loop",
        "_seconds",
        "_target",
        "_thread",
        "_turning",
        "port",
    )

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        is_a("port", port, int)
        if not 0 < port < 65_536:
            raise ValueError(f"port must be from 1 to 65535, not {port!r}")
        is_a("host", host, str)
        self.port = 0
        self._target = host, port
        self._lock = threading.RLock()  # held until the loop has done what it was asked: it does not end before
        self._thread: threading.Thread | None = None
        self._lines: dict[asyncio.Task[None], socket.socket] = {}
        self._changed = asyncio.Event()

    def inject(self, fault: WireFault, seconds: float = 0.05) -> None:
        """From now on the wire has `fault`, in place of the one before; connections that are open have it too.

        It may be given by its name. Raises `ValueError` for another, and unless `seconds` is above 0; `RuntimeError`
        outside the context.
        """
        fault = one_of("fault", fault, WireFault)
        is_a("seconds", seconds, Real)
        if not seconds > 0:
            raise ValueError(f"seconds must be above 0, not {seconds!r}")
        self._do(self._inject, fault, seconds)

    def heal(self) -> None:
        """From now on all is well; what was held back arrives. Raises `RuntimeError` outside the context."""
        self._do(self._inject, None, 0.0)

    def __enter__(self) -> Self:
        """The proxy, listening."""
        if self._thread is not None:
            raise RuntimeError("this ChaosProxy is entered already: make another one")
        try:
            self._addresses = socket.getaddrinfo(*self._target, 0, socket.SOCK_STREAM)
        except UnicodeError as error:
            raise socket.gaierror(socket.EAI_NONAME, f"{self._target[0]!r} is no name of a host: {error}") from error
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._loop = asyncio.SelectorEventLoop()  # whatever loops the tests have
        self._turning = self._loop.call_soon(self._change, None, 0.0)
        self._accepting = self._loop.call_soon(self._listen)
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos proxy", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        """Close everything. Again is harmless."""
        with self._lock:
            if self._thread is not None:
                self._do(self._close)
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
                self._loop.close()
                self._thread = None

    def _do(self, work: Callable[[*Ts], Coroutine[Any, Any, None]], *args: *Ts) -> None:
        with self._lock:
            if self._thread is None:
                raise RuntimeError("a ChaosProxy has a wire only within its context: with ChaosProxy(port) as proxy")
            asyncio.run_coroutine_threadsafe(work(*args), self._loop).result()

    async def _close(self) -> None:
        self._turning.cancel()
        self._accepting.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for line in self._lines:
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)

    async def _inject(self, fault: WireFault | None, seconds: float) -> None:
        self._turning.cancel()
        if fault is WireFault.FLAP:
            self._flap(itertools.cycle((WireFault.CUT, None)), seconds)
        else:
            self._change(fault, seconds)
        if self._fault is WireFault.CUT:
            await asyncio.gather(*self._lines, return_exceptions=True)

    def _flap(self, turns: Iterator[WireFault | None], seconds: float) -> None:
        self._change(next(turns), seconds)
        self._turning = self._loop.call_later(seconds, self._flap, turns, seconds)

    def _change(self, fault: WireFault | None, seconds: float) -> None:
        self._fault, self._seconds = fault, seconds
        if fault is WireFault.CUT:
            self._cut()
        self._changed.set()  # whatever is held back looks again
        self._changed = asyncio.Event()

    def _listen(self) -> None:
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        """Not by `asyncio.start_server`: of its connections, one that comes while it is closed is left open."""
        try:
            connection, _ = self._listener.accept()
        except OSError:  # asked again at once, it would be this one for ever
            self._loop.remove_reader(self._listener)
            self._accepting = self._loop.call_later(RETRY, self._listen)
            return
        connection.setblocking(False)
        line = self._loop.create_task(self._join(connection))
        self._lines[line] = connection
        line.add_done_callback(lambda line: self._lines.pop(line).close())  # its own code may never have begun
        if self._fault is WireFault.CUT:
            self._cut()

    def _cut(self) -> None:
        for line, connection in self._lines.items():
            _reset(connection)
            line.cancel()

    async def _join(self, near: socket.socket) -> None:
        failed = set[socket.socket]()
        with contextlib.ExitStack() as ends:
            try:
                far = await self._dialled(ends)
                async with TaskGroup() as line:
                    line.create_task(self._pass(line, (near, far), failed, reply=False))
                    line.create_task(self._pass(line, (far, near), failed, reply=True))
            except* EOFError:
                pass  # it is over both ways

    async def _dialled(self, ends: contextlib.ExitStack) -> socket.socket:
        """A connection to the server, closed with `ends`."""
        for family, kind, protocol, _, address in self._addresses:
            with contextlib.suppress(OSError):
                far = ends.enter_context(socket.socket(family, kind, protocol))
                far.setblocking(False)
                await self._loop.sock_connect(far, address)
                return far
        raise EOFError

    async def _pass(
        self, line: TaskGroup, way: tuple[socket.socket, socket.socket], failed: set[socket.socket], *, reply: bool
    ) -> None:
        """Let all that comes from one end reach the other in its order, and then its end: a reset, where it failed."""
        reader, writer = way
        pieces = Queue[tuple[float, bytes]](AHEAD)
        reading = line.create_task(self._read(reader, pieces, failed))
        try:
            writer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a byte does not wait for the next
            data = b"?"
            while data:
                arrived, data = await pieces.get()
                await self._send(writer, data, arrived, reply=reply)
            if reader in failed:
                _reset(writer)
                raise EOFError
            writer.shutdown(socket.SHUT_WR)
        except OSError:
            failed.add(writer)  # what it has said before still passes the other way
        finally:
            reading.cancel()

    async def _read(
        self, reader: socket.socket, pieces: Queue[tuple[float, bytes]], failed: set[socket.socket]
    ) -> None:
        """Put what comes, and when it came; nothing is the end."""
        data = b"?"
        while data:
            try:
                data = await self._loop.sock_recv(reader, PIECE)
            except OSError:
                failed.add(reader)
                data = b""
            await pieces.put((self._loop.time(), data))
            await asyncio.sleep(0)  # who sends without a pause leaves the loop to others, too

    async def _send(self, writer: socket.socket, data: bytes, arrived: float, *, reply: bool) -> None:
        """Let what `arrived` then pass, each byte as the wire is when its turn comes."""
        while True:
            fault = await self._passable(arrived, reply=reply)
            if not data:
                return
            if fault is WireFault.GARBAGE:
                data = NOT_A_PROTOCOL
            whole = len(data)
            size = 1 if fault is WireFault.DRIP else whole // 2 if fault is WireFault.RESET else whole
            await self._loop.sock_sendall(writer, data[:size])
            data = data[size:]
            if fault is WireFault.RESET:
                _reset(writer)
                raise EOFError
            if fault is WireFault.DRIP:
                await self._lasts(self._seconds)

    async def _passable(self, arrived: float, *, reply: bool) -> WireFault | None:
        """Wait until what `arrived` then may pass; the fault that it meets. A request meets none but holes and cuts."""
        while True:
            fault = self._fault if reply or self._fault in NOTHING_PASSES else None
            held = math.inf if fault in NOTHING_PASSES else self._seconds if fault is WireFault.DELAY else 0.0
            left = arrived + held - self._loop.time()
            if left <= 0:
                return fault
            await self._lasts(left)

    async def _lasts(self, seconds: float) -> None:
        """Wait so long, or until the wire is changed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()


def _reset(connection: socket.socket) -> None:
    """Let its end be a reset."""
    with contextlib.suppress(OSError):  # it is closed already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
