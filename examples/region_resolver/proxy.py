"""The wire between the routers and their cache: it can get slow, and it can be cut."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from typing import Self

__all__ = ["Wire"]


class Wire:
    """A TCP proxy on a loopback port of its own.

    `delay`, in seconds, holds back every reply. While it is cut, connections are dropped and none is made; what was
    on its way is lost, unlike in front of a frozen server, whose kernel keeps it and delivers it later.
    """

    def __init__(self, host: str, port: int) -> None:
        self.delay = 0.0
        self.port = 0
        self._target = host, port
        self._cut = False
        self._lines: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        await self.cut()

    async def cut(self) -> None:
        """Drop every connection and refuse new ones."""
        self._cut = True
        lines = list(self._lines)
        for line in lines:
            line.cancel()
        await asyncio.gather(*lines, return_exceptions=True)

    def mend(self) -> None:
        """Let connections through again."""
        self._cut = False

    async def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        line = asyncio.current_task()
        assert line is not None
        self._lines.add(line)
        try:
            if not self._cut:
                await self._join(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # one end is gone, or the wire was cut: either way the line ends here
        finally:
            self._lines.discard(line)
            writer.transport.abort()

    async def _join(self, reader: StreamReader, writer: StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        try:
            there = asyncio.create_task(self._pump(reader, far_writer, delayed=False))
            back = asyncio.create_task(self._pump(far_reader, writer, delayed=True))
            try:
                await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in (there, back):
                    pump.cancel()
                await asyncio.gather(there, back, return_exceptions=True)
        finally:
            far_writer.transport.abort()

    async def _pump(self, reader: StreamReader, writer: StreamWriter, *, delayed: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if delayed and self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(data)
                await writer.drain()
