"""The crowd: the same requests, at the same moments, to both routers, and the right answer to each of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from .directory import Tenant

__all__ = ["Ask", "Crowd", "Lane", "Sample", "Truth", "play"]

NO_ANSWER: Final = 599
NOBODYS: Final = tuple(f"nobody-{number}.example" for number in range(4))
BAD: Final = ("under_score.example", "[::1]:443", "192.0.2.7", "two..dots.example", "-dash.example", "no host")


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: what goes into its Host header, the host that is meant, the status that is right."""

    spelling: str
    host: str
    right: int = 200


@dataclass(frozen=True, slots=True)
class Sample:
    """How one request ended. Times in seconds: `due` since the demo began, `latency` from that moment on."""

    due: float
    latency: float
    status: int
    wrong: bool
    source: str
    retry_after: bool
    host: str = ""
    base: str = ""  # of the router that was asked

    @property
    def failed(self) -> bool:
        """A 5xx, or no answer at all."""
        return self.status >= 500


class Truth:
    """Which regions are right for a host at this moment; two of them while its tenant is on the move."""

    def __init__(self, tenants: Sequence[Tenant]) -> None:
        self._right = {host: {tenant.region} for tenant in tenants for host in tenant.hosts}

    def right(self, host: str) -> frozenset[str]:
        """The regions that are right now; none for a host nobody owns."""
        return frozenset(self._right.get(host, ()))

    def moving(self, tenant: Tenant, region: str) -> None:
        """From now on the new region is right too."""
        for host in tenant.hosts:
            self._right[host].add(region)

    def moved(self, tenant: Tenant, region: str) -> None:
        """From now on only the new region is."""
        for host in tenant.hosts:
            self._right[host] = {region}


class Crowd:
    """Draws requests: hosts by Zipf's law, spelled in several ways; some that nobody owns, some that are none."""

    def __init__(self, tenants: Sequence[Tenant], dice: random.Random, *, nobodys: tuple[str, ...] = NOBODYS) -> None:
        """The first of `tenants` are asked for most. `nobodys`: hosts that nobody owns."""
        self._nobodys = nobodys
        self._dice = dice
        self._hosts = [host for tenant in tenants for host in tenant.hosts]
        self._weights = list(accumulate(1 / rank for rank in range(1, len(self._hosts) + 1)))

    def draw(self, count: int) -> list[Ask]:
        """`count` requests; every host is among the second half of them, if there is room."""
        asks = [self._any() for _ in range(count)]
        everyone = [Ask(self._spelled(host), host) for host in self._hosts] + [
            Ask(host, host, 404) for host in self._nobodys
        ]
        self._dice.shuffle(everyone)
        places = range(count // 2, count)
        step = max(1, len(places) // len(everyone))
        for place, ask in zip(places[::step], everyone, strict=False):
            asks[place] = ask
        return asks

    def _any(self) -> Ask:
        lot = self._dice.random()
        if lot < 0.01:
            return Ask(self._dice.choice(BAD), "", 400)
        if lot < 0.03 and self._nobodys:
            return Ask(nobodys := self._dice.choice(self._nobodys), nobodys, 404)
        [host] = self._dice.choices(self._hosts, cum_weights=self._weights)
        return Ask(self._spelled(host), host)

    def _spelled(self, host: str) -> str:
        return self._dice.choice((host, host, host, host.upper(), f"{host}.", f"{host}:443"))


class Lane:
    """Keeps one router, or several alike, under way with requests, and a record of how they ended."""

    def __init__(self, name: str, truth: Truth, clock_zero: float) -> None:
        self.name = name
        self.truth = truth
        self.samples: list[Sample] = []
        self._zero = clock_zero
        self._bases: tuple[str, ...] = ()
        self._asked = 0
        self._http: ClientSession | None = None

    async def aim(self, *bases: str) -> None:
        """Send what follows to `bases` in turn, over new connections."""
        await self.aclose()
        self.steer(*bases)
        self._http = ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(total=15))

    def steer(self, *bases: str) -> None:
        """Send what follows to `bases` in turn."""
        self._bases = bases

    async def aclose(self) -> None:
        """Closes the connections."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def ask(self, ask: Ask, due: float) -> None:
        """Send `ask` and note how it ended. Never raises for an answer that failed."""
        right = self.truth.right(ask.host)
        status, said, source, retry_after = NO_ANSWER, "", "", False
        self._asked += 1
        base = self._bases[self._asked % len(self._bases)]
        try:
            async with self._session.get(base, headers={"Host": ask.spelling}) as reply:
                said, status = await reply.text(), reply.status
                source, retry_after = reply.headers.get("X-Region-Source", ""), "Retry-After" in reply.headers
        except (ClientError, TimeoutError):
            pass
        latency = asyncio.get_running_loop().time() - due
        wrong = status < 500 and status != ask.right
        wrong |= status == 200 and said not in right | self.truth.right(ask.host)
        self.samples.append(Sample(due - self._zero, latency, status, wrong, source, retry_after, ask.host, base))

    async def move(self, tenant: Tenant, region: str) -> int:
        """Move `tenant` through the first router; the status of its answer. After it only the new region is right."""
        asked = {"tenant": tenant.name, "region": region}
        try:
            async with self._session.post(f"{self._bases[0]}/-/move", params=asked) as reply:
                status = reply.status
        except (ClientError, TimeoutError):
            status = NO_ANSWER
        self.truth.moved(tenant, region)
        return status

    @property
    def _session(self) -> ClientSession:
        assert self._http is not None
        return self._http


async def play(lanes: Sequence[Lane], asks: Sequence[Ask], rate: float) -> None:
    """Send `asks` to every lane, `rate` a second to each, whether or not answers keep up; ends with the last answer."""
    loop = asyncio.get_running_loop()
    start = loop.time() + 0.01
    async with asyncio.TaskGroup() as under_way:
        for number, ask in enumerate(asks):
            for place, lane in enumerate(lanes):
                due = start + (number + place / len(lanes)) / rate
                await asyncio.sleep(due - loop.time())
                under_way.create_task(lane.ask(ask, due))
