"""The contract of adapters, kept by those for Redis and Valkey on a real server that is killed and frozen."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
import redis
import redis.asyncio
import valkey
import valkey.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from resilient_cache import StoreError
from resilient_cache.adapters.redis import AsyncRedisAdapter, RedisAdapter
from resilient_cache.testing import AdapterContract, AsyncAdapterContract

from ..servers import ValkeyServer

pytestmark = pytest.mark.realtime

FAST: dict[str, Any] = {"protocol": 2, "socket_timeout": 0.2, "socket_connect_timeout": 0.2}
NO_RETRY: dict[Any, dict[str, Any]] = {redis: {"retry": Retry(NoBackoff(), 0)}, valkey: {}}
OWN_TIMEOUT = {"open_dripping": "a client of the caller's keeps its own timeout, and that is one for each receive"}

SWALLOWS = {"cancellation": "the client uses asyncio.wait_for, which may swallow one before Python 3.12"}


class OnValkey:
    """A real server, and a false one that drips."""

    raises: ClassVar[type[Exception]] = StoreError
    deadline: ClassVar[float] = 0.1

    @pytest.fixture(autouse=True)
    def _servers(self, outage_server: ValkeyServer, dripping_url: str) -> None:
        self.server, self.dripping_url = outage_server, dripping_url

    def break_store(self) -> None:
        self.server.kill()

    def heal_store(self) -> None:
        self.server.start()


class TestFromUrl(OnValkey, AdapterContract):
    def open(self) -> RedisAdapter:
        return RedisAdapter.from_url(self.server.url)

    def open_dripping(self) -> RedisAdapter:
        return RedisAdapter.from_url(self.dripping_url)


class TestAsyncFromUrl(OnValkey, AsyncAdapterContract):
    async def open(self) -> AsyncRedisAdapter:
        return AsyncRedisAdapter.from_url(self.server.url)

    async def open_dripping(self) -> AsyncRedisAdapter:
        return AsyncRedisAdapter.from_url(self.dripping_url)


OUTAGE = ["test_a_broken_store_is_an_error", "test_a_store_that_is_back_is_used_again"]


@pytest.mark.parametrize("law", OUTAGE)
@pytest.mark.parametrize("contract", [TestFromUrl(), TestAsyncFromUrl()], ids=["sync", "async"])
def test_an_outage_of_another_kind(
    contract: TestFromUrl | TestAsyncFromUrl, law: str, outage_server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen, a server accepts and does not answer."""
    monkeypatch.setattr(contract, "server", outage_server, raising=False)
    monkeypatch.setattr(contract, "break_store", outage_server.freeze)
    monkeypatch.setattr(contract, "heal_store", outage_server.thaw)
    getattr(contract, law)()


@pytest.mark.parametrize("library", [redis, valkey], ids=["redis-py", "valkey-py"])
class TestClient(OnValkey, AdapterContract):
    excused: ClassVar[Mapping[str, str]] = OWN_TIMEOUT

    @pytest.fixture(autouse=True)
    def _client(self, _servers: None, library: Any) -> Iterator[None]:
        with library.from_url(self.server.url, **FAST, **NO_RETRY[library]) as self.client:
            yield

    def open(self) -> RedisAdapter:
        return RedisAdapter(self.client)


@pytest.mark.parametrize("library", [redis, valkey], ids=["redis-py", "valkey-py"])
class TestAsyncClient(OnValkey, AsyncAdapterContract):
    excused: ClassVar[Mapping[str, str]] = SWALLOWS if sys.version_info < (3, 12) else {}

    @pytest.fixture(autouse=True)
    def _library(self, _servers: None, library: Any) -> None:
        self.library = library

    async def open(self) -> AsyncRedisAdapter:
        return await self._open(self.server.url)

    async def open_dripping(self) -> AsyncRedisAdapter:
        return await self._open(self.dripping_url)

    async def _open(self, url: str) -> AsyncRedisAdapter:
        self.client = self.library.asyncio.from_url(url, protocol=2, **NO_RETRY[self.library])
        return AsyncRedisAdapter(self.client)

    @contextmanager
    def opened(self, open_store: Callable[[], Coroutine[Any, Any, Any]]) -> Generator[Any]:
        with super().opened(open_store) as store:
            try:
                yield store
            finally:
                store.run(self.client.aclose())  # the adapter leaves it to whoever made it
