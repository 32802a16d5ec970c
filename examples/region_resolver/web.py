"""HTTP around a router, the same for both: canonical host in, region out, request passed on to that region."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any, Protocol

from aiohttp import ClientResponse
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ExceptionHandler, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from resilient_cache import Invalidation, NotFound

from .directory import DirectoryDown, Region
from .forward import Asked, Regions, passed_back, read, while_there
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


def router_app(router: Router, upstreams: Mapping[str, str], *, patience: float = 30.0) -> Starlette:
    """A service around `router`, which it closes. `upstreams`: region name -> base URL.

    400 for no host name, 404 for a host nobody owns, 503 with `Retry-After` when nobody can say: a region is never
    guessed. 502 for a region that cannot be reached or understood, 504 for one that says nothing for `patience`
    seconds. A region that answers 421 does not serve the host: the router is told and asked once more. Anything else a
    router raises is a 500. `POST /-/move` would listen elsewhere, and ask who you are, in a real service.
    """
    proxy = _Proxy(router, Regions(upstreams, patience))
    refusals: dict[Any, ExceptionHandler] = {
        BadHost: _bad_host,
        NotFound: _nobodys,
        DirectoryDown: _not_known,
        NotKnown: _not_known,
        ClientDisconnect: _left,
    }
    app = Starlette(lifespan=proxy.lifespan, exception_handlers=refusals)
    app.router.default = proxy  # and no routes: they take a path decoded, and redirect what differs by a slash
    return app


class _Proxy:
    def __init__(self, router: Router, regions: Regions) -> None:
        self._router = router
        self._regions = regions
        self._moves = Route("/-/move", self.move, methods=["POST"])

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncGenerator[None]:
        async with aclosing(self._router), self._regions.open():
            await self._router.start()
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Any request, whatever its method: passed on, but for the one path that is the router's own."""
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
        elif scope["raw_path"] == self._moves.path.encode():
            await self._moves.handle(scope, receive, send)
        else:
            await self._passed_on(scope, receive, send)

    async def _passed_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        host = _host(request.headers.get("host", ""))
        asked = await read(request, host)
        async with while_there(receive):
            answer, reply = await self._asked(host, asked)
            if reply.status == MISDIRECTED:
                reply.release()
                await self._router.misdirected(host, answer.region)
                answer, reply = await self._asked(host, asked)
        async with reply:
            said = {"X-Region": answer.region.name, "X-Region-Source": answer.source}
            await passed_back(reply, said)(scope, receive, send)

    async def _asked(self, host: str, asked: Asked) -> tuple[Answer, ClientResponse]:
        answer = await self._router.resolve(host)
        return answer, await self._regions.ask(answer.region.name, asked)

    async def move(self, request: Request) -> Response:
        asked, regions = request.query_params, self._regions.bases
        if "tenant" not in asked or asked.get("region") not in regions:
            raise HTTPException(400, f"tenant=NAME and region=, one of {', '.join(regions)}\n")
        try:
            result = await self._router.move(asked["tenant"], asked["region"])
        except NotFound as error:
            raise HTTPException(404, "no such tenant\n") from error
        return PlainTextResponse(f"moved, {result}\n")


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


def _left(_: Request, error: Exception) -> Response:
    return Response(status_code=499)  # as nginx calls it in its log; nobody reads it
