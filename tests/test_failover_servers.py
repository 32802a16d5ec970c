"""Two real servers, killed and frozen in turn under a cache: hits while one is gone, never an older value."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from resilient_cache import AsyncResilientCache, BreakerPolicy, CachePolicy, Invalidation, ResilientCache
from resilient_cache.adapters.redis import AsyncRedisAdapter, RedisAdapter
from resilient_cache.failover import AsyncFailover, Failover

from .servers import ValkeyServer

pytestmark = [pytest.mark.realtime, pytest.mark.usefixtures("valkey_binary")]

BREAKER = BreakerPolicy(hold=0.5, max_hold=0.5)
HOLD = 0.5
KEYS = 20
USUAL = 0.85
"""Hits among reads while all is well, at least: what is invalidated is deleted twice, and is a miss each time."""

POLICY = CachePolicy(ttl=600, stale_for=0, inflight_max=0.5)


class Service:
    """One writer and reader of `KEYS` keys, whose every answer is held against what was written or invalidated last."""

    def __init__(self, colour: str) -> None:
        self.servers = [ValkeyServer(), ValkeyServer()]
        self.runner = asyncio.Runner() if colour == "async" else None
        redis: Any = RedisAdapter if self.runner is None else AsyncRedisAdapter
        failover: Any = Failover if self.runner is None else AsyncFailover
        cache: Any = ResilientCache if self.runner is None else AsyncResilientCache
        vendors = [redis.from_url(server.url, timeout=0.1) for server in self.servers]
        self.failover = failover(*vendors, breaker=BREAKER)
        self.cache = cache(self.failover, name="two", type=int, policy=POLICY)
        self.latest: dict[str, int | None] = {}
        self.number = 0
        self.wrong: list[str] = []

    def call(self, name: str, *args: Any) -> Any:
        result = getattr(self.cache, name)(*args)
        return result if self.runner is None else self.runner.run(result)

    def write(self, key: str) -> None:
        self.number += 1
        self.latest[key] = self.number
        self.call("set", key, self.number)

    def invalidate(self, key: str) -> Invalidation:
        self.latest[key] = None
        outcome: Invalidation = self.call("invalidate", key)
        return outcome

    def read(self, key: str) -> bool:
        found = self.call("get", key)
        if found is not None and found != self.latest[key]:
            self.wrong.append(f"{key} is {found}, not {self.latest[key]}")
        return found is not None

    def live(self, seconds: float) -> list[tuple[float, bool]]:
        """Read, write and invalidate for so long; for each read of what there is, when it was and whether it hit."""
        began, reads, turn = time.monotonic(), list[tuple[float, bool]](), 0
        while (now := time.monotonic() - began) < seconds:
            turn += 1
            key = f"k{turn % KEYS}"
            hit = self.read(key)
            if self.latest[key] is not None:
                reads.append((now, hit))
            if not hit or turn % 7 == 0:
                self.write(key)
            elif turn % 31 == 0:
                self.invalidate(key)
            self.pause(0.001)
        return reads

    def pause(self, seconds: float) -> None:
        if self.runner is None:
            time.sleep(seconds)
        else:
            self.runner.run(asyncio.sleep(seconds))

    def serving(self) -> Any:
        return self.cache.health()["store"]["serving"]

    def owed(self, vendor: str) -> int:
        owed: int = self.cache.health()["store"]["vendors"][vendor]["pending_invalidations"]
        return owed

    def until_it_serves(self, vendor: str, seconds: float) -> None:
        """Live until `vendor` serves."""
        began = time.monotonic()
        while self.serving() != vendor:
            assert time.monotonic() - began < seconds, self.cache.health()
            self.live(0.05)

    def close(self) -> None:
        close = self.cache.close if self.runner is None else self.cache.aclose
        closing = close()
        if self.runner is not None:
            self.runner.run(closing)
            self.runner.close()
        for server in self.servers:
            server.close()


@pytest.fixture(params=["sync", "async"])
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    service = Service(request.param)
    for number in range(KEYS):
        service.write(f"k{number}")
    yield service
    service.close()


def share_of_hits(reads: list[tuple[float, bool]], after: float) -> float:
    late = [hit for at, hit in reads if at >= after]
    return sum(late) / len(late)


@pytest.mark.parametrize("outage", ["killed", "frozen"])
def test_a_first_that_is_gone_costs_hits_for_one_open_period_at_most(service: Service, outage: str) -> None:
    primary = service.servers[0]
    primary.command("SAVE")
    service.live(0.2)
    primary.kill() if outage == "killed" else primary.freeze()
    reads = service.live(5 * HOLD)  # so that each key's first miss there counts for little, however slow the machine is
    assert service.serving() == "secondary"
    assert share_of_hits(reads, HOLD) > USUAL
    assert service.owed("primary") > 0
    primary.restart("--dbfilename", "dump.rdb") if outage == "killed" else primary.thaw()
    service.until_it_serves("primary", 10)
    service.live(0.6)  # what was owed is deleted a second time
    assert share_of_hits(service.live(0.3), 0) > USUAL
    assert not service.wrong


def test_a_second_that_is_gone_costs_no_hit(service: Service) -> None:
    secondary = service.servers[1]
    secondary.freeze()
    reads = service.live(0.6)
    assert share_of_hits(reads, 0) > USUAL
    assert service.serving() == "primary"
    assert service.invalidate("k1") is Invalidation.PENDING
    secondary.thaw()
    began = time.monotonic()
    while service.owed("secondary") and time.monotonic() - began < 10:
        service.live(0.05)
    assert service.owed("secondary") == 0
    assert not service.wrong
