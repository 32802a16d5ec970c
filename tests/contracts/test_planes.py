"""The contract of backplanes, kept by those in one process and by Redis pub/sub on a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest

from resilient_cache import StoreError
from resilient_cache.adapters.redis_backplane import AsyncRedisBackplane, RedisBackplane
from resilient_cache.testing import (
    AsyncBackplaneContract,
    AsyncLocalBackplane,
    BackplaneContract,
    BackplaneHub,
    ChaosProxy,
    LocalBackplane,
    WireFault,
)

from ..servers import ValkeyServer

pytestmark = pytest.mark.realtime

TIMEOUT, PING_EVERY = 1.0, 0.1  # of seconds: a machine at work has let a connection on loopback wait for 0.2


class OnHub:
    raises: ClassVar[type[Exception]] = StoreError
    within: ClassVar[float] = 0.5

    @pytest.fixture(autouse=True)
    def _hub(self) -> None:
        self.hub = BackplaneHub()

    def break_backplane(self) -> None:
        self.hub.down()

    def heal_backplane(self) -> None:
        self.hub.heal()


class TestLocal(OnHub, BackplaneContract):
    def open(self) -> LocalBackplane:
        return LocalBackplane(self.hub)


class TestAsyncLocal(OnHub, AsyncBackplaneContract):
    async def open(self) -> AsyncLocalBackplane:
        return AsyncLocalBackplane(self.hub)


class OnValkey:
    """Killed, it closes its connections."""

    raises: ClassVar[type[Exception]] = StoreError
    within: ClassVar[float] = TIMEOUT + PING_EVERY + 0.3

    @pytest.fixture(autouse=True)
    def _server(self, outage_server: ValkeyServer) -> Iterator[None]:
        self.server = outage_server
        with ChaosProxy(outage_server.port) as self.proxy:
            yield

    @property
    def url(self) -> str:
        return self.server.url

    def break_backplane(self) -> None:
        self.server.kill()

    def heal_backplane(self) -> None:
        self.server.start()


class TestRedis(OnValkey, BackplaneContract):
    def open(self) -> RedisBackplane:
        return RedisBackplane.from_url(self.url, timeout=TIMEOUT, ping_every=PING_EVERY)


class TestAsyncRedis(OnValkey, AsyncBackplaneContract):
    async def open(self) -> AsyncRedisBackplane:
        return AsyncRedisBackplane.from_url(self.url, timeout=TIMEOUT, ping_every=PING_EVERY)


def freeze(contract: OnValkey) -> None:
    """It accepts, and does not answer."""
    contract.server.freeze()


def thaw(contract: OnValkey) -> None:
    contract.server.thaw()


def swallow(contract: OnValkey) -> None:
    """The network before it drops everything, silently."""
    contract.proxy.inject(WireFault.HOLE)


def pass_on(contract: OnValkey) -> None:
    contract.proxy.heal()


def babble(contract: OnValkey) -> None:
    """It says what is no Redis."""
    contract.proxy.inject(WireFault.GARBAGE)


@pytest.mark.parametrize(("begin", "end"), [(freeze, thaw), (swallow, pass_on), (babble, pass_on)])
@pytest.mark.parametrize("kind", [TestRedis, TestAsyncRedis], ids=["sync", "async"])
def test_an_outage_of_another_kind(
    kind: type[TestRedis | TestAsyncRedis],
    begin: Callable[[OnValkey], None],
    end: Callable[[OnValkey], None],
    outage_server: ValkeyServer,
) -> None:
    class Outage(kind):  # type: ignore[valid-type,misc]
        url = property(lambda self: f"redis://127.0.0.1:{self.proxy.port}")
        break_backplane = begin
        heal_backplane = end

    contract = Outage()
    contract.server = outage_server
    with ChaosProxy(outage_server.port) as contract.proxy:
        contract.test_a_broken_backplane_is_noticed()
