"""The region resolver as an edge, byte for byte: answers of regions that no library would let them give."""

from __future__ import annotations

import asyncio
import re
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress

import pytest
from yarl import URL

from examples.region_resolver.upstreams import serving
from examples.region_resolver.web import router_app

from .test_region_resolver_edge import Known

pytestmark = pytest.mark.realtime

Behave = Callable[[StreamReader, StreamWriter], Awaitable[None]]
Ask = Callable[[bytes], Coroutine[None, None, bytes]]

GET = b"GET / HTTP/1.1\r\nHost: acme.example\r\nConnection: close\r\n\r\n"


@asynccontextmanager
async def before(region: Behave) -> AsyncGenerator[Ask]:
    """A router before one region, of which `region` is what it does with a connection; gives how it is asked."""

    async def connected(reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await region(reader, writer)
        writer.close()

    async def ask(request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(base).port)
        writer.write(request)
        try:
            return await reader.read()
        finally:
            writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        bases = {"eu": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}
        async with serving(router_app(Known({"acme.example": "eu"}), bases, patience=5)) as base:
            yield ask


async def head(reader: StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def answered(answer: bytes) -> bytes:
    """What a visitor gets of a region that gives `answer` to whatever it is asked."""

    async def region(reader: StreamReader, writer: StreamWriter) -> None:
        await head(reader)
        writer.write(answer)
        await reader.read()

    async def whole() -> bytes:
        async with before(region) as ask:
            return await ask(GET)

    return asyncio.run(whole())


def test_what_a_region_says_late_no_other_visitor_hears() -> None:
    """On a connection that is kept, a second answer to the first request would be the first one to the second."""

    async def region(reader: StreamReader, writer: StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst")
        await asyncio.sleep(0.02)
        writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: session=first\r\nContent-Length: 4\r\n\r\nlate")
        await head(reader)

    async def scene() -> None:
        async with before(region) as ask:
            for _ in range(3):
                assert (await ask(GET)).endswith(b"\r\n\r\nfirst")
                await asyncio.sleep(0.1)

    asyncio.run(scene())


def test_a_region_that_closes_after_an_answer_is_not_gone() -> None:
    """It may do so while the next request is on its way, and a POST is not sent twice."""

    async def region(reader: StreamReader, writer: StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        await head(reader)  # and then it closes

    async def scene() -> None:
        async with before(region) as ask:
            for _ in range(3):
                answer = await ask(GET.replace(b"GET", b"POST"))
                assert answer.startswith(b"HTTP/1.1 200 "), answer

    asyncio.run(scene())


@pytest.mark.parametrize(
    "lines",
    [
        b"Set-Cookie: a=" + b"x" * 60_000 + b"\r\n",
        b"".join(b"X-%d: a\r\n" % number for number in range(500)),
    ],
    ids=["long", "many"],
)
def test_headers_that_are_long_or_many_pass(lines: bytes) -> None:
    answer = answered(b"HTTP/1.1 200 OK\r\n" + lines + b"Content-Length: 2\r\n\r\nhi")
    assert lines.lower() in answer.lower()
    assert answer.endswith(b"\r\n\r\nhi")


@pytest.mark.parametrize("status", [b"000", b"099", b"101", b"600", b"999"])
def test_a_status_that_ends_no_request_is_502(status: bytes) -> None:
    answer = answered(b"HTTP/1.1 " + status + b" X\r\nContent-Length: 2\r\n\r\nhi")
    assert answer.startswith(b"HTTP/1.1 502 "), answer


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"gzip\r\nTransfer-Encoding: chunked", b"gzip", b"x, gzip"])
def test_a_body_in_a_coding_of_the_connection_is_502(coding: bytes) -> None:
    """To the visitor the coding is not named, and who cannot undo it must not pass on the bytes."""
    answer = answered(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + coding + b"\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 502 "), answer


def test_a_body_in_pieces_is_whole() -> None:
    answer = answered(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n")
    assert re.sub(rb"[0-9]\r\n|\r\n", b"", answer.partition(b"\r\n\r\n")[2]) == b"hi"


def test_a_visitor_that_leaves_is_asked_for_no_longer() -> None:
    """Or a crowd that comes and goes would leave as many requests open, each for `patience` seconds."""

    async def scene() -> None:
        came, ended = asyncio.Event(), asyncio.Event()

        async def region(reader: StreamReader, _: StreamWriter) -> None:
            await head(reader)
            came.set()
            await reader.read()
            ended.set()

        async with before(region) as ask:
            visitor = asyncio.create_task(ask(GET))
            await came.wait()
            visitor.cancel()
            async with asyncio.timeout(3):  # `patience` is 5
                await ended.wait()

    asyncio.run(scene())
