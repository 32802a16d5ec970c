"""HTTP around a router, the same for both: canonical host in, region out, request passed on to that region."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any, Protocol

from aiohttp import ClientSession, DummyCookieJar, TCPConnector
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ExceptionHandler

from resilient_cache import Invalidation, NotFound

from .directory import DirectoryDown, Region
from .hosts import BadHost, canonical_host

__all__ = ["Answer", "NotKnown", "Router", "router_app"]

MISDIRECTED = 421


@dataclass(frozen=True, slots=True)
class Answer:
    """A region, and where that knowledge came from."""

    region: Region
    source: str


class NotKnown(Exception):
    """No region may be named for a host now. `retry_after`: seconds after which it may be, 0.0 when nobody knows."""

    def __init__(self, host: str, retry_after: float = 0.0) -> None:
        super().__init__(host)
        self.retry_after = retry_after


class Router(Protocol):
    """What both routers are."""

    async def start(self) -> None:
        """Get ready for the first request."""
        ...

    async def resolve(self, host: str) -> Answer:
        """The home region of a canonical host."""
        ...

    async def move(self, tenant: str, region: str) -> Invalidation:
        """Give a tenant another home region; `PENDING` while other routers may still name the old one."""
        ...

    async def misdirected(self, host: str, region: Region) -> None:
        """Hear that `region`, which was given for `host`, does not serve it."""
        ...

    async def aclose(self) -> None:
        """Let go of everything."""
        ...


def router_app(router: Router, upstreams: Mapping[str, str]) -> Starlette:
    """A service around `router`, which it closes. `upstreams`: region name -> base URL.

    400 for no host name, 404 for a host nobody owns, 503 with `Retry-After` when nobody can say: a region is never
    guessed. A region that answers 421 does not serve the host: the router is told and asked once more. Anything else a
    router raises is a 500. `POST /-/move` would listen elsewhere, and ask who you are, in a real service.
    """
    proxy = _Proxy(router, upstreams)
    routes = [Route("/-/move", proxy.move, methods=["POST"]), Route("/{path:path}", proxy.pass_on)]
    refusals: dict[Any, ExceptionHandler] = {
        BadHost: _bad_host,
        NotFound: _nobodys,
        DirectoryDown: _not_known,
        NotKnown: _not_known,
    }
    return Starlette(routes=routes, lifespan=proxy.lifespan, exception_handlers=refusals)


class _Proxy:
    def __init__(self, router: Router, upstreams: Mapping[str, str]) -> None:
        self._router = router
        self._upstreams = upstreams
        self._http: ClientSession

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncGenerator[None]:
        jar = DummyCookieJar()  # a cookie is one visitor's: kept here it would be sent with the next one's request
        session = ClientSession(connector=TCPConnector(limit=0), cookie_jar=jar)
        async with aclosing(self._router), session as self._http:
            await self._router.start()
            yield

    async def pass_on(self, request: Request) -> Response:
        host = _host(request.headers.get("host", ""))
        return await self._answer(request, host)

    async def _answer(self, request: Request, host: str) -> Response:
        answer = await self._router.resolve(host)
        response = await self._forward(request, host, answer)
        if response.status_code == MISDIRECTED:
            await self._router.misdirected(host, answer.region)
            response = await self._forward(request, host, await self._router.resolve(host))
        return response

    async def move(self, request: Request) -> Response:
        asked = request.query_params
        if "tenant" not in asked or asked.get("region") not in self._upstreams:
            raise HTTPException(400, f"tenant=NAME and region=, one of {', '.join(self._upstreams)}\n")
        try:
            result = await self._router.move(asked["tenant"], asked["region"])
        except NotFound as error:
            raise HTTPException(404, "no such tenant\n") from error
        return PlainTextResponse(f"moved, {result}\n")

    async def _forward(self, request: Request, host: str, answer: Answer) -> Response:
        url = self._upstreams[answer.region.name] + request.url.path
        async with self._http.get(url, headers={"Host": host}, allow_redirects=False) as reply:
            body = await reply.read()
        told = {"X-Region": answer.region.name, "X-Region-Source": answer.source}
        told |= {name: reply.headers[name] for name in reply.headers if name.lower() == "location"}
        return Response(body, reply.status, told, reply.content_type)


def _host(spelling: str) -> str:
    """Of what a header holds: bytes that were read as Latin-1, in which the UTF-8 of one name may spell another."""
    if not spelling.isascii():
        raise BadHost("not ASCII; an internationalised name is sent as xn--")
    return canonical_host(spelling)


def _bad_host(_: Request, error: Exception) -> Response:
    return PlainTextResponse(f"bad host: {error}\n", 400)


def _nobodys(_: Request, error: Exception) -> Response:
    return PlainTextResponse("nobody owns this host\n", 404)


def _not_known(_: Request, error: Exception) -> Response:
    later = max(1, ceil(getattr(error, "retry_after", 0.0)))
    return PlainTextResponse("the home region is not known now\n", 503, {"Retry-After": str(later)})
