"""A TCP proxy in front of a real server, whose wire can be made bad while a test runs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Coroutine, Iterable
from enum import StrEnum
from typing import Any, Final, Self, TypeVarTuple, final

from ._given import is_a, one_of

__all__ = ["ChaosProxy", "WireFault"]

Ts = TypeVarTuple("Ts")

NOT_A_PROTOCOL: Final = b"HTTP/1.1 400 Bad Request\r\n\r\n"
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # linger for 0 seconds


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
    knows `host`; while the server is away, connections are closed as soon as they are made.
    """

    __slots__ = (
        "_changed",
        "_fault",
        "_lines",
        "_listener",
        "_loop",
        "_seconds",
        "_target",
        "_thread",
        "_turns",
        "port",
    )

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        is_a("port", port, int)
        if not 0 < port < 65_536:
            raise ValueError(f"port must be from 1 to 65535, not {port!r}")
        is_a("host", host, str)
        self.port = 0
        self._target = host, port
        self._thread: threading.Thread | None = None
        self._fault: WireFault | None = None
        self._seconds = 0.0
        self._lines: dict[asyncio.Task[None], socket.socket] = {}
        self._turns: set[asyncio.Task[None]] = set()  # the one task of a wire that flaps
        self._changed = asyncio.Event()

    def inject(self, fault: WireFault, seconds: float = 0.05) -> None:
        """From now on the wire has `fault`, in place of the one before; connections that are open have it too.

        It may be given by its name. Raises `ValueError` for another, and unless `seconds` is above 0; `RuntimeError`
        outside the context.
        """
        fault = one_of("fault", fault, WireFault)
        is_a("seconds", seconds, int, float)
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
        socket.getaddrinfo(*self._target)  # a host that there is not is no server that is away
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos proxy", daemon=True)
        self._thread.start()
        self._do(self._listen)
        return self

    def __exit__(self, *raised: object) -> None:
        """Close everything. Again is harmless."""
        if self._thread is not None:
            self._do(self._close)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._thread = None

    def _do(self, work: Callable[[*Ts], Coroutine[Any, Any, None]], *args: *Ts) -> None:
        if self._thread is None:
            raise RuntimeError("a ChaosProxy has a wire only within its context: with ChaosProxy(port) as proxy")
        asyncio.run_coroutine_threadsafe(work(*args), self._loop).result()

    async def _listen(self) -> None:
        self._loop.add_reader(self._listener, self._accept)

    async def _close(self) -> None:
        self._loop.remove_reader(self._listener)
        self._listener.close()
        await _cancelled(self._lines)
        await self._inject(None, 0.0)

    async def _inject(self, fault: WireFault | None, seconds: float) -> None:
        await _cancelled(self._turns)
        flaps = fault is WireFault.FLAP
        await self._change(WireFault.CUT if flaps else fault, seconds)
        self._turns = {asyncio.create_task(self._flap(seconds))} if flaps else set()

    async def _flap(self, seconds: float) -> None:
        for turn in itertools.cycle((None, WireFault.CUT)):
            await asyncio.sleep(seconds)
            await self._change(turn, seconds)

    async def _change(self, fault: WireFault | None, seconds: float) -> None:
        self._fault, self._seconds = fault, seconds
        self._changed.set()  # whatever is under way looks again
        self._changed = asyncio.Event()
        if fault is WireFault.CUT:
            for connection in self._lines.values():
                _reset(connection)
            await _cancelled(self._lines)

    def _accept(self) -> None:
        """Not by `asyncio.start_server`: of its connections, one that comes while it is closed is left open."""
        connection, _ = self._listener.accept()
        if self._fault is WireFault.CUT:
            _reset(connection)
            connection.close()
            return
        line = self._loop.create_task(self._join(connection))
        self._lines[line] = connection
        line.add_done_callback(lambda line: self._lines.pop(line).close())  # its own code may never have begun

    async def _join(self, connection: socket.socket) -> None:
        try:
            with contextlib.ExitStack() as ends:
                far_reader, far_writer = await _opened(ends, *self._target)
                reader, writer = await _opened(ends, sock=connection)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._requests(reader, far_writer))
                    both.create_task(self._replies(far_reader, writer))
        except* OSError:
            pass  # one end is gone, or the wire was cut: the line ends here

    async def _requests(self, reader: StreamReader, writer: StreamWriter) -> None:
        while data := await self._received(reader):
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def _replies(self, reader: StreamReader, writer: StreamWriter) -> None:
        while data := await self._received(reader):
            await self._send(writer, data)
        writer.write_eof()

    async def _received(self, reader: StreamReader) -> bytes:
        """What came and may pass on; nothing at the end."""
        data = await reader.read(65_536)
        while self._fault in NOTHING_PASSES:
            await self._changed.wait()
        return data

    async def _send(self, writer: StreamWriter, data: bytes) -> None:
        """Let a reply pass, each byte as the wire is when its turn comes."""
        delayed = False
        while data:
            fault = self._fault
            if fault in NOTHING_PASSES or (fault is WireFault.DELAY and not delayed):
                delayed = await self._lasts()
                continue
            if fault is WireFault.GARBAGE:
                data = NOT_A_PROTOCOL
            whole = len(data)
            size = 1 if fault is WireFault.DRIP else whole // 2 if fault is WireFault.RESET else whole
            writer.write(data[:size])
            await writer.drain()
            data = data[size:]
            if fault is WireFault.RESET:
                _reset(writer.get_extra_info("socket"))
                raise ConnectionResetError
            if fault is WireFault.DRIP:
                await self._lasts()

    async def _lasts(self) -> bool:
        """Whether the wire stays as it is for its `seconds`; waits so long, or until it is changed."""
        try:
            async with asyncio.timeout(self._seconds):
                await self._changed.wait()
        except TimeoutError:
            return True
        return False


async def _opened(ends: contextlib.ExitStack, *to: Any, **over: Any) -> tuple[StreamReader, StreamWriter]:
    """A connection that is aborted when `ends` is over.

    What was written and drained is with the system: nothing is lost by the abort, or passes once the wire is bad.
    """
    reader, writer = await asyncio.open_connection(*to, **over)
    ends.callback(writer.transport.abort)
    writer.transport.set_write_buffer_limits(0)
    return reader, writer


def _reset(connection: socket.socket) -> None:
    """Let its end be a reset."""
    with contextlib.suppress(OSError):  # it is closed already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)


async def _cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel `tasks` and wait for their end."""
    ended = list(tasks)
    for task in ended:
        task.cancel()
    await asyncio.gather(*ended, return_exceptions=True)
