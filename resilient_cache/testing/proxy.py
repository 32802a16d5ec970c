"""A TCP proxy in front of a real server, whose wire can be made bad while a test runs."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Coroutine, Iterable
from enum import StrEnum
from typing import Any, Final, Self, final

__all__ = ["ChaosProxy", "WireFault"]

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


@final
class ChaosProxy:
    """Passes what clients send to `host:port` and the replies back, until a fault is injected.

    Clients connect to 127.0.0.1 at `port`, which is known once the context is entered. The proxy runs in a thread of
    its own, so it serves blocking and asyncio clients alike, and any thread may inject and heal. When the context ends,
    every connection is closed and the thread has ended. Entering raises `OSError` when no port can be had; while the
    server is away, connections are closed as soon as they are made.
    """

    __slots__ = ("_fault", "_lines", "_loop", "_no_hole", "_seconds", "_server", "_since", "_target", "_thread", "port")

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.port = 0
        self._target = host, port
        self._fault: WireFault | None = None
        self._seconds = self._since = 0.0
        self._lines: set[asyncio.Task[None]] = set()
        self._no_hole = asyncio.Event()

    def inject(self, fault: WireFault, seconds: float = 0.05) -> None:
        """From now on the wire has `fault`, in place of the one before; connections that are open have it too.

        Raises `ValueError` unless `seconds` is above 0.
        """
        if not seconds > 0:
            raise ValueError(f"seconds must be above 0, not {seconds!r}")
        self._do(self._change(fault, seconds))

    def heal(self) -> None:
        """From now on all is well; what was held back arrives."""
        self._do(self._change(None, 0.0))

    def __enter__(self) -> Self:
        """The proxy, listening."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos proxy", daemon=True)
        self._thread.start()
        try:
            self._do(self._listen())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        """Close everything."""
        self._do(self._close())
        self._end()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        self._no_hole.set()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:  # one that was just made may make another
            await _cancelled(others)

    async def _change(self, fault: WireFault | None, seconds: float) -> None:
        self._fault, self._seconds, self._since = fault, seconds, self._loop.time()
        (self._no_hole.clear if fault is WireFault.HOLE else self._no_hole.set)()
        if self._is_cut():
            await _cancelled(self._lines)

    def _is_cut(self) -> bool:
        turn = int((self._loop.time() - self._since) / self._seconds) if self._fault is WireFault.FLAP else 1
        return self._fault is WireFault.CUT or turn % 2 == 0

    async def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        line = asyncio.current_task()
        assert line is not None
        self._lines.add(line)
        try:
            if not self._is_cut():
                await self._join(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # one end is gone, or the wire was cut: either way the line ends here
        finally:
            self._lines.discard(line)
            if self._fault in (WireFault.RESET, WireFault.CUT, WireFault.FLAP):
                connection: socket.socket = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            writer.transport.abort()

    async def _join(self, reader: StreamReader, writer: StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        try:
            there = asyncio.create_task(self._requests(reader, far_writer))
            back = asyncio.create_task(self._replies(far_reader, writer))
            try:
                await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
            finally:
                await _cancelled((there, back))
        finally:
            far_writer.transport.abort()

    async def _requests(self, reader: StreamReader, writer: StreamWriter) -> None:
        while data := await self._received(reader):
            writer.write(data)
            await writer.drain()

    async def _replies(self, reader: StreamReader, writer: StreamWriter) -> None:
        while data := await self._received(reader):
            if self._fault is WireFault.DELAY:
                await asyncio.sleep(self._seconds)
            if self._fault is WireFault.GARBAGE:
                data = NOT_A_PROTOCOL
            if self._fault is WireFault.RESET:
                writer.write(data[: len(data) // 2])
                return
            await self._send(writer, data)

    async def _received(self, reader: StreamReader) -> bytes:
        """What came and may pass on; nothing when the line is to end."""
        data = await reader.read(65_536)
        await self._no_hole.wait()
        return b"" if self._is_cut() else data

    async def _send(self, writer: StreamWriter, data: bytes) -> None:
        sent = 0
        while self._fault is WireFault.DRIP and sent < len(data):
            writer.write(data[sent : sent + 1])
            sent += 1
            await asyncio.sleep(self._seconds)
        writer.write(data[sent:])
        await writer.drain()


async def _cancelled(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    """Cancel `tasks` and wait for their end."""
    ended = [task for task in tasks if task is not None]
    for task in ended:
        task.cancel()
    await asyncio.gather(*ended, return_exceptions=True)
