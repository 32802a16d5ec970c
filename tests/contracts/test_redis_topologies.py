"""The contract of adapters, kept by those for clusters and for what sentinels guard, on real servers."""

from __future__ import annotations

from typing import ClassVar

import pytest

from resilient_cache import StoreError
from resilient_cache.adapters.redis import AsyncRedisAdapter, RedisAdapter
from resilient_cache.adapters.redis_cluster import AsyncRedisClusterAdapter, RedisClusterAdapter
from resilient_cache.testing import AdapterContract, AsyncAdapterContract

from ..topologies import Cluster, Guarded

pytestmark = pytest.mark.realtime


class OnCluster:
    """A cluster of three, all of which freeze."""

    raises: ClassVar[type[Exception]] = StoreError
    deadline: ClassVar[float] = 0.1

    @pytest.fixture(autouse=True)
    def _servers(self, cluster: Cluster, dripping_url: str) -> None:
        self.cluster, self.dripping_url = cluster, dripping_url

    def break_store(self) -> None:
        self.cluster.freeze()

    def heal_store(self) -> None:
        self.cluster.thaw()


class TestCluster(OnCluster, AdapterContract):
    def open(self) -> RedisClusterAdapter:
        return RedisClusterAdapter.from_url(self.cluster.urls)

    def open_dripping(self) -> RedisClusterAdapter:
        return RedisClusterAdapter.from_url(self.dripping_url)


class TestAsyncCluster(OnCluster, AsyncAdapterContract):
    async def open(self) -> AsyncRedisClusterAdapter:
        return AsyncRedisClusterAdapter.from_url(self.cluster.urls)

    async def open_dripping(self) -> AsyncRedisClusterAdapter:
        return AsyncRedisClusterAdapter.from_url(self.dripping_url)


class OnSentinel:
    """A master and its sentinel; what breaks is the master."""

    raises: ClassVar[type[Exception]] = StoreError
    deadline: ClassVar[float] = 0.1

    @pytest.fixture(autouse=True)
    def _servers(self, outage_sentinel: Guarded, dripping_url: str) -> None:
        self.master, self.addresses = outage_sentinel.master, outage_sentinel.addresses
        self.dripping = [("127.0.0.1", int(dripping_url.rpartition(":")[2]))]

    def break_store(self) -> None:
        self.master.kill()

    def heal_store(self) -> None:
        self.master.start()


class TestSentinel(OnSentinel, AdapterContract):
    def open(self) -> RedisAdapter:
        return RedisAdapter.from_sentinel("main", self.addresses)

    def open_dripping(self) -> RedisAdapter:
        return RedisAdapter.from_sentinel("main", self.dripping)


class TestAsyncSentinel(OnSentinel, AsyncAdapterContract):
    async def open(self) -> AsyncRedisAdapter:
        return AsyncRedisAdapter.from_sentinel("main", self.addresses)

    async def open_dripping(self) -> AsyncRedisAdapter:
        return AsyncRedisAdapter.from_sentinel("main", self.dripping)
