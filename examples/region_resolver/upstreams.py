"""The regions, and how an app is served on loopback inside this process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

__all__ = ["region_app", "serving"]


def region_app(name: str, serves: Callable[[str], bool] = lambda host: True) -> Starlette:
    """A region's whole service: it answers every path with its own name, or 421 to a host that it does not serve."""

    async def answer(request: Request) -> Response:
        return PlainTextResponse(name, 200 if serves(request.headers.get("host", "")) else 421)

    return Starlette(routes=[Route("/{path:path}", answer)])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Says when it is over, however it went."""
        try:
            await super().startup(sockets)
        finally:
            self.ready.set()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Ctrl-C is the program's own business: several servers share this process."""
        yield


@asynccontextmanager
async def serving(app: Starlette) -> AsyncGenerator[str]:
    """Serve `app` on a free loopback port while the block runs; gives its base URL."""
    listener = _listener()
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        proxy_headers=False,  # by default uvicorn believes what a visitor from loopback says of where it comes from
        log_config=None,
        log_level=60,  # above everything: a 500 is counted, not printed
        timeout_keep_alive=60,  # longer than clients keep a connection, so that none is closed under a request
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    running = asyncio.create_task(server.serve([listener]))
    try:
        await server.ready.wait()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


def _listener() -> socket.socket:
    """Says that it is TCP, or asyncio would leave Nagle's algorithm on: 40 ms for an answer in two pieces."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    return listener
