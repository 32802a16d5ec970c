"""One request passed on to a region, and its answer back, both as they came: target, end-to-end headers, bytes.

A body of a request is read before anybody is asked, so that it can be sent again after a 421; a body of an answer
flows through. What only concerns one connection stays there (RFC 9110, 7.6.1). A `?` with nothing after it is lost, and
a method is made upper case: so the libraries on both sides have it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive
from yarl import URL

__all__ = ["Asked", "Regions", "passed_back", "read", "while_there"]

Headers: TypeAlias = list[tuple[bytes, bytes]]

LARGEST: Final = 1 << 20  # bytes of a request's body, which is kept in memory; 1 MiB as in nginx
HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding"
    b" upgrade".split()
)
SAID_ANEW: Final = frozenset(  # by us to a region: a visitor's word for where it comes from is not passed on
    b"host content-length expect forwarded x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto"
    b" x-real-ip".split()
)
SAID_BACK: Final = frozenset(b"date server x-region x-region-source".split())  # by us or our server to a visitor
CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # no part of a header's value (RFC 9110, 5.5)
LONGEST: Final = 64 << 10  # bytes of one line of an answer; by default cookies and policies over 8 KiB would be 502
ODD: Final = re.compile(rb"[^0-9a-z]")  # in a variable's name: RFC 3875 makes _ of -, some servers of all these
AUTOMATIC: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")  # what aiohttp would add


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that may be sent to one region after another."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes


async def read(request: Request, host: str) -> Asked:
    """`request` as it will be sent, for `host`. Raises `HTTPException`: 400 or 413."""
    scope = request.scope
    sent = end_to_end(scope["headers"], SAID_ANEW)
    sent += [(b"host", host.encode()), (b"x-forwarded-proto", scope["scheme"].encode())]
    sent += [(b"x-forwarded-for", request.client.host.encode())] if request.client else []
    try:
        target = (scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")).decode()
        headers = [(name.decode(), _text(value)) for name, value in sent]
    except ValueError as error:
        raise HTTPException(400, "a header that is not UTF-8, or has control characters\n") from error
    # After a base URL such a target would name another server, or be cut off. CONNECT has no path.
    if not target.startswith("/") or "#" in target or request.method == "CONNECT":
        raise HTTPException(400, "the target of a request begins with / and has no #\n")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST:
            raise HTTPException(413, f"more than {LARGEST} bytes\n")
    return Asked(request.method, target, headers, bytes(body))


@asynccontextmanager
async def while_there(receive: Receive) -> AsyncGenerator[None]:
    """Ends the block when the visitor, whose body has been read, leaves: raises `ClientDisconnect`."""
    staying = asyncio.timeout(None)

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        staying.reschedule(0.0)  # long ago, on any loop's clock: the block is cancelled as if its time were over

    try:
        async with staying:
            watching = asyncio.create_task(watch())
            try:
                yield
            finally:
                watching.cancel()
    except TimeoutError as error:
        if not staying.expired():
            raise
        raise ClientDisconnect from error


def _text(value: bytes) -> str:
    """What aiohttp will make the same bytes of: it encodes headers as UTF-8, and sends no control characters."""
    if CONTROL.search(value):
        raise ValueError("control characters")
    return value.decode()


def end_to_end(headers: Iterable[tuple[bytes, bytes]], ours: frozenset[bytes]) -> Headers:
    """Those of `headers` that are meant for the other end, without `ours`, however they are spelt."""
    given = [(name.lower(), value) for name, value in headers]
    listed = {_plain(word.strip()) for name, value in given if name == b"connection" for word in value.split(b",")}
    return [(name, value) for name, value in given if _plain(name) not in HOP_BY_HOP | ours | listed]


def _plain(name: bytes) -> bytes:
    """The same for all names of which CGI and WSGI make one variable: `X_Forwarded_For` is `x-forwarded-for`, too."""
    return ODD.sub(b"-", name.lower())


def passed_back(reply: ClientResponse, said: Mapping[str, str]) -> StreamingResponse:
    """`reply` to the visitor, with the headers `said`; its body flows as it arrives."""
    response = StreamingResponse(reply.content.iter_any(), reply.status, said)
    response.raw_headers += end_to_end(reply.raw_headers, SAID_BACK)
    return response


class Regions:
    """The way to the regions: name -> base URL. Whatever is wrong with it is 502, or 504 after `patience` seconds."""

    def __init__(self, bases: Mapping[str, str], patience: float) -> None:
        self.bases = bases
        self._patience = patience
        self._http: ClientSession

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Ready to be asked while the block runs."""
        async with ClientSession(
            # Of a connection that is kept, whatever arrives late is taken for the answer to the next visitor. A connect
            # for each request is the price; nor is a POST lost on a connection that the region closes just then.
            connector=TCPConnector(limit=0, force_close=True),
            cookie_jar=DummyCookieJar(),  # a cookie is one visitor's: kept here it would go out with the next request
            timeout=ClientTimeout(sock_read=self._patience),
            max_line_size=LONGEST,
            max_field_size=LONGEST,
            max_headers=1_000,
            auto_decompress=False,
            skip_auto_headers=AUTOMATIC,
        ) as self._http:
            yield

    async def ask(self, region: str, asked: Asked) -> ClientResponse:
        """The beginning of `region`'s own answer, whatever it is; to be closed. Raises `HTTPException`: 502 or 504."""
        if region not in self.bases:
            raise HTTPException(502, "no way to the home region\n")
        url = URL(self.bases[region] + asked.target, encoded=True)
        body = asked.body or None
        try:
            async with asyncio.timeout(self._patience):
                reply = await self._http.request(
                    asked.method, url, headers=asked.headers, data=body, allow_redirects=False
                )
        except TimeoutError as error:
            raise HTTPException(504, "the home region does not answer\n") from error
        except ClientError as error:
            raise HTTPException(502, "the home region cannot be reached\n") from error
        codings = [coding.lower() for coding in reply.headers.getall("Transfer-Encoding", ["chunked"])]
        if not 200 <= reply.status < 600 or codings != ["chunked"]:  # no last answer; bytes that nobody could decode
            reply.close()
            raise HTTPException(502, "the home region answers what cannot be passed on\n")
        return reply
