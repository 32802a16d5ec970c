"""The region resolver as an edge: what a region is sent, what a visitor is answered, and nothing of anybody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import ClientResponse, ClientSession, DummyCookieJar
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from yarl import URL

from examples.region_resolver.directory import Region
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

        return Starlette(routes=[Route("/{path:path}", Anything(answer))])

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


@dataclass
class Anything:
    """An app that a route gives every method to."""

    app: Callable[[Scope, Receive, Send], Awaitable[None]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


@asynccontextmanager
async def standing(homes: Mapping[str, str] = HOMES) -> AsyncGenerator[Edge]:
    plain = ClientSession(cookie_jar=DummyCookieJar(), auto_decompress=False)
    async with plain as http:
        edge = Edge("", http, Known(homes))
        async with serving(edge.region("eu")) as eu, serving(edge.region("us")) as us:
            named = {name: base.replace("127.0.0.1", "localhost") for name, base in (("eu", eu), ("us", us))}
            edge.bases = {**named, "down": "http://127.0.0.1:1"}
            async with serving(router_app(edge.router, edge.bases)) as edge.base:
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
