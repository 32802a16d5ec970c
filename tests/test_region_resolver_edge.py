"""The region resolver as an edge: what a region is sent, what a visitor is answered, and nothing of anybody else's."""

from __future__ import annotations

import asyncio
import gzip
import io
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import ClientPayloadError, ClientResponse, ClientSession, DummyCookieJar
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send
from yarl import URL

from examples.region_resolver.directory import Region
from examples.region_resolver.forward import LARGEST
from examples.region_resolver.hosts import canonical_host
from examples.region_resolver.upstreams import serving
from examples.region_resolver.web import Answer, router_app
from resilient_cache import Invalidation, NotFound

pytestmark = pytest.mark.realtime

HOMES = {"acme.example": "eu", "usa.example": "us", "far.example": "ap", "gone.example": "down"}
Behaviour = Callable[[Request], Awaitable[Response]]


class Known:
    """A router that knows where everybody lives."""

    def __init__(self, homes: Mapping[str, str]) -> None:
        self.homes = dict(homes)
        self.told: list[tuple[str, str]] = []

    async def start(self) -> None: ...

    async def resolve(self, host: str) -> Answer:
        if host not in self.homes:
            raise NotFound(host)
        return Answer(Region("tenant", self.homes[host]), "record")

    async def move(self, tenant: str, region: str) -> Invalidation:
        return Invalidation.CONFIRMED

    async def misdirected(self, host: str, region: Region) -> None:
        self.told.append((host, region.name))
        self.homes[host] = "us"

    async def aclose(self) -> None: ...


@dataclass
class Arrived:
    """A request as a region got it."""

    region: str
    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass
class Edge:
    """A router before two regions of which one can be told how to behave; a third one is gone, a fourth unheard of."""

    base: str
    http: ClientSession
    router: Known
    arrived: list[Arrived] = field(default_factory=list[Arrived])
    behave: dict[str, Behaviour] = field(default_factory=dict[str, Behaviour])
    bases: dict[str, str] = field(default_factory=dict[str, str])

    def region(self, name: str) -> Starlette:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive)
            target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
            headers, body = list(scope["headers"]), await request.body()
            self.arrived.append(Arrived(name, request.method, target, headers, body))
            behave = self.behave.get(name)
            response = await behave(request) if behave else PlainTextResponse(name)
            await response(scope, receive, send)

        app = Starlette()
        app.router.default = answer
        return app

    async def ask(
        self,
        host: str,
        target: str = "/",
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: object = None,
    ) -> tuple[ClientResponse, bytes]:
        url = URL(self.base + target, encoded=True)
        sent = {"Host": host, **(headers or {})}
        async with self.http.request(method, url, headers=sent, data=body, allow_redirects=False) as reply:
            return reply, await reply.read()

    async def says(self, host: str, target: str = "/") -> tuple[int, bytes]:
        reply, body = await self.ask(host, target)
        return reply.status, body

    async def raw(self, request: bytes) -> bytes:
        """The whole answer to `request`, byte for byte."""
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(self.base).port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        return answer


@asynccontextmanager
async def standing(homes: Mapping[str, str] = HOMES) -> AsyncGenerator[Edge]:
    plain = ClientSession(cookie_jar=DummyCookieJar(), auto_decompress=False)
    async with plain as http:
        edge = Edge("", http, Known(homes))
        async with serving(edge.region("eu")) as eu, serving(edge.region("us")) as us:
            named = {name: base.replace("127.0.0.1", "localhost") for name, base in (("eu", eu), ("us", us))}
            edge.bases = {**named, "down": "http://127.0.0.1:1"}
            async with serving(router_app(edge.router, edge.bases, patience=0.5)) as edge.base:
                yield edge


def play(scene: Callable[[Edge], Awaitable[None]], homes: Mapping[str, str] = HOMES) -> None:
    async def whole() -> None:
        async with standing(homes) as edge:
            await scene(edge)

    asyncio.run(whole())


def test_a_redirect_is_the_visitors_to_follow() -> None:
    async def scene(edge: Edge) -> None:
        async def away(_: Request) -> Response:
            return RedirectResponse(f"{edge.bases['us']}/landed", 302)

        edge.behave["eu"] = away
        reply, _ = await edge.ask("acme.example")
        assert (reply.status, reply.headers["Location"]) == (302, f"{edge.bases['us']}/landed")
        assert [request.region for request in edge.arrived] == ["eu"]

    play(scene)


def test_what_one_visitor_is_given_to_keep_no_other_one_sends() -> None:
    """Regions have names here, for a cookie jar ignores addresses."""

    async def scene(edge: Edge) -> None:
        async def login(_: Request) -> Response:
            response = PlainTextResponse("eu")
            response.set_cookie("session", "first visitor")
            return response

        edge.behave["eu"] = login
        for host in ("acme.example", "acme.example", "usa.example"):
            await edge.ask(host)
        assert len(edge.arrived) == 3
        assert not [name for request in edge.arrived for name, _ in request.headers if name == b"cookie"]

    play(scene)


def test_a_host_header_that_is_not_ascii_is_400() -> None:
    """Read as Latin-1, the UTF-8 of the first one is the name of the second one's tenant."""
    pious, bakery = canonical_host("pío.example"), canonical_host("pão.example")

    async def scene(edge: Edge) -> None:
        assert (await edge.says("pío.example"))[0] == 400
        assert not edge.arrived
        assert await edge.says(pious) == (200, b"eu")

    play(scene, {pious: "eu", bakery: "us"})


TARGETS = [
    "/",
    "/a%252Fb%2Fc",
    "/a/../b/./c",
    "//usa.example/x",
    "/?q=1&q=%20%2B+&r",
    "/%ff%0d%0aX:1?%3F",
    "/a%3Fb%23c;d=e@f:80",
]


def test_a_target_arrives_as_it_was_sent() -> None:
    async def scene(edge: Edge) -> None:
        for target in TARGETS:
            assert await edge.says("acme.example", target) == (200, b"eu")
        assert [request.target for request in edge.arrived] == [target.encode() for target in TARGETS]

    play(scene)


def test_a_target_that_is_no_path_is_sent_to_nobody() -> None:
    """After the base URL of a region some would name another server: `http://eu:80` and `%2F@elsewhere/`."""

    async def scene(edge: Edge) -> None:
        for target in ("http://usa.example/x", "*", "%2F@usa.example/", "?q", "x", ":80/", "/a#b"):
            asked = f"GET {target} HTTP/1.1\r\nHost: acme.example\r\nConnection: close\r\n\r\n"
            assert (await edge.raw(asked.encode())).startswith(b"HTTP/1.1 400 "), target
        assert not edge.arrived

    play(scene)


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"]


def test_a_method_arrives_with_its_body() -> None:
    async def scene(edge: Edge) -> None:
        for method in METHODS:
            for body in (None, bytes(range(256))):
                assert (await edge.ask("acme.example", method=method, body=body))[0].status == 200
        sent = [(method, body) for method in METHODS for body in (b"", bytes(range(256)))]
        assert [(request.method, request.body) for request in edge.arrived] == sent

    play(scene)


def test_a_region_gets_the_headers_that_were_sent_and_who_asks() -> None:
    """What concerns the visitor's own connection stays there, and a visitor's word for who it is does not count.

    Nor does it in another spelling, of which a region may make the same variable.
    """
    sent = (
        b"POST /login HTTP/1.1\r\nHost: ACME.example.:8443\r\nCookie: a=b; c=d\r\nAuthorization: Bearer x\r\n"
        b"Accept: a\r\nAccept: b\r\nX-Name: p\xc3\xado\r\n"
        b"Connection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n"
        b"Upgrade: h2c\r\nTransfer-Encoding: chunked\r\nX-Forwarded-For: 192.0.2.7\r\nForwarded: for=192.0.2.7\r\n"
        b"X_Forwarded_For: 192.0.2.7\r\nX.Real-IP: 192.0.2.7\r\nContent_Length: 1\r\nX_Hop: 1\r\nX_Name: 1\r\n"
        b"Expect: 100-continue\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    )

    async def scene(edge: Edge) -> None:
        assert b"HTTP/1.1 200 OK" in await edge.raw(sent)
        assert sorted(edge.arrived[0].headers) == [
            (b"accept", b"a"),
            (b"accept", b"b"),
            (b"authorization", b"Bearer x"),
            (b"connection", b"close"),
            (b"content-length", b"3"),
            (b"cookie", b"a=b; c=d"),
            (b"host", b"acme.example"),
            (b"x-forwarded-for", b"127.0.0.1"),
            (b"x-forwarded-proto", b"http"),
            (b"x-name", "pío".encode()),
            (b"x_name", b"1"),
        ]
        assert edge.arrived[0].body == b"abc"

    play(scene)


def test_a_visitor_gets_the_answer_of_the_region_and_which_one_it_was() -> None:
    squeezed = gzip.compress(b"eu")

    async def scene(edge: Edge) -> None:
        async def created(_: Request) -> Response:
            response = Response(squeezed, 201, {"Content-Encoding": "gzip", "ETag": '"1"', "X-Region": "mars"})
            response.headers.append("Connection", "X-Hop")
            response.headers.append("X-Hop", "1")
            response.raw_headers.append((b"x-name", b"p\xedo"))
            for cookie in ("a", "b"):
                response.set_cookie(cookie, "1")
            return response

        edge.behave["eu"] = created
        reply, body = await edge.ask("acme.example")
        assert (reply.status, body) == (201, squeezed)
        names = [name.lower() for name, _ in reply.raw_headers]
        assert sorted(names) == [
            *(b"content-encoding", b"content-length", b"date", b"etag", b"server", b"set-cookie", b"set-cookie"),
            *(b"x-name", b"x-region", b"x-region-source"),
        ]
        assert (b"x-name", b"p\xedo") in [(name.lower(), value) for name, value in reply.raw_headers]
        assert (reply.headers["X-Region"], reply.headers["X-Region-Source"]) == ("eu", "record")
        reply, body = await edge.ask("acme.example", method="HEAD")
        assert (reply.status, reply.headers["Content-Length"], body) == (201, str(len(squeezed)), b"")

    play(scene)


def test_whatever_a_region_answers_is_its_answer() -> None:
    async def scene(edge: Edge) -> None:
        for status in (204, 304, 404, 500, 503):

            async def answer(_: Request, status: int = status) -> Response:
                return Response(None, status, {"Retry-After": "9"})

            edge.behave["eu"] = answer
            reply, body = await edge.ask("acme.example")
            assert (reply.status, reply.headers["Retry-After"], reply.headers["X-Region"]) == (status, "9", "eu")
            assert body == b""

    play(scene)


def test_no_way_to_a_region_is_502_and_a_silent_one_504() -> None:
    async def scene(edge: Edge) -> None:
        async def hang(_: Request) -> Response:
            await asyncio.sleep(60)
            return Response()

        edge.behave["eu"] = hang
        assert (await edge.says("gone.example"))[0] == 502
        assert (await edge.says("far.example"))[0] == 502
        assert (await edge.says("acme.example"))[0] == 504
        assert await edge.says("usa.example") == (200, b"us")
        assert [request.region for request in edge.arrived] == ["eu", "us"]

    play(scene)


def test_an_answer_flows_and_one_that_breaks_off_is_not_made_whole() -> None:
    async def scene(edge: Edge) -> None:
        seen = asyncio.Event()

        async def halves() -> AsyncGenerator[bytes]:
            yield b"first"
            await seen.wait()
            raise ConnectionError("gone")

        async def answer(_: Request) -> Response:
            return StreamingResponse(halves())

        edge.behave["eu"] = answer
        async with edge.http.get(edge.base, headers={"Host": "acme.example"}) as reply:
            assert await reply.content.readany() == b"first"
            seen.set()
            with pytest.raises(ClientPayloadError):
                await reply.content.read()

    play(scene)


def test_a_body_is_sent_again_to_the_region_that_serves_the_host() -> None:
    async def scene(edge: Edge) -> None:
        async def misdirected(_: Request) -> Response:
            return Response("not mine", 421)

        edge.behave["eu"] = misdirected
        reply, body = await edge.ask("acme.example", method="POST", body=b"order")
        assert (reply.status, reply.headers["X-Region"], body) == (200, "us", b"us")
        assert [(request.region, request.body) for request in edge.arrived] == [("eu", b"order"), ("us", b"order")]
        assert edge.router.told == [("acme.example", "eu")]
        edge.behave["us"] = misdirected
        assert await edge.says("usa.example") == (421, b"not mine")

    play(scene)


def test_what_cannot_be_passed_on_whole_is_refused() -> None:
    async def scene(edge: Edge) -> None:
        reply, _ = await edge.ask("acme.example", method="PUT", body=bytes(LARGEST))
        assert reply.status == 200
        reply, _ = await edge.ask("acme.example", method="PUT", body=io.BytesIO(bytes(LARGEST + 1)))
        assert reply.status == 413
        for value in (b"p\xedo", b"p\x01o", b"p\x7fo"):
            sent = b"GET / HTTP/1.1\r\nHost: acme.example\r\nX-Name: " + value + b"\r\nConnection: close\r\n\r\n"
            assert (await edge.raw(sent)).startswith(b"HTTP/1.1 400 "), value
        connect = b"CONNECT / HTTP/1.1\r\nHost: acme.example\r\nConnection: close\r\n\r\n"
        assert (await edge.raw(connect)).startswith(b"HTTP/1.1 400 ")
        assert [len(request.body) for request in edge.arrived] == [LARGEST]

    play(scene)


def test_of_all_paths_only_its_own_is_the_routers() -> None:
    """Any other spelling is a visitor's request like all others."""

    async def scene(edge: Edge) -> None:
        others = ("/-/move/", "/-%2Fmove", "/-/%6Dove", "/-/move/x", "//-/move", "/-/move%0A")
        for target in others:
            for method in ("GET", "POST"):
                assert (await edge.ask("acme.example", target, method))[0].status == 200, target
        assert [request.target for request in edge.arrived[::2]] == [target.encode() for target in others]
        reply, _ = await edge.ask("acme.example", "/-/move?tenant=a&region=eu")
        assert (reply.status, reply.headers["Allow"]) == (405, "POST")
        reply, body = await edge.ask("nobody.example", "/-/move?tenant=a&region=eu", "POST")
        assert (reply.status, body) == (200, b"moved, confirmed\n")
        assert len(edge.arrived) == 2 * len(others)

    play(scene)


def test_a_websocket_is_closed() -> None:
    """A server that speaks that protocol asks; here none does."""
    said: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        said.append(message)

    scope = {"type": "websocket", "path": "/", "raw_path": b"/", "query_string": b"", "headers": []}
    asyncio.run(router_app(Known(HOMES), {})(scope, receive, send))
    assert [message["type"] for message in said] == ["websocket.close"]


def test_a_visitor_that_leaves_amid_its_body_is_no_error() -> None:
    said: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        said.append(message)

    sent = {"method": "POST", "path": "/", "raw_path": b"/", "query_string": b"", "scheme": "http"}
    scope = {"type": "http", **sent, "headers": [(b"host", b"acme.example")], "client": None}
    asyncio.run(router_app(Known(HOMES), {})(scope, receive, send))
    assert said[0]["status"] == 499


def test_a_routers_own_timeout_is_no_visitor_that_leaves() -> None:
    class Slow(Known):
        async def resolve(self, host: str) -> Answer:
            raise TimeoutError

    async def scene() -> None:
        sent = {"Host": "acme.example"}
        async with (
            serving(router_app(Slow(HOMES), {})) as base,
            ClientSession() as http,
            http.get(base, headers=sent) as reply,
        ):
            assert reply.status == 500

    asyncio.run(scene())
