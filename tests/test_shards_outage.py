"""One node of a real cluster fails, a real master is replaced: what callers of either colour see, and for how long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest

from resilient_cache import AsyncResilientCache, BreakerPolicy, CachePolicy, ResilientCache
from resilient_cache.adapters.redis import AsyncRedisAdapter, RedisAdapter
from resilient_cache.adapters.redis_cluster import AsyncRedisClusterAdapter, RedisClusterAdapter
from resilient_cache.events import CircuitChanged, CircuitState, Event

from .servers import ValkeyServer
from .topologies import Cluster, Guarded, until

pytestmark = pytest.mark.realtime

TIMEOUT = 0.1
HOLD = 0.5
BREAKER = BreakerPolicy(hold=HOLD, max_hold=HOLD)
OPTIONS: dict[str, Any] = {"policy": CachePolicy(timeout=TIMEOUT, ttl=600), "breaker": BREAKER}
EACH = 10
Cache = ResilientCache[str, Any] | AsyncResilientCache[str, Any]


class Colour:
    """A cache of either colour, called synchronously."""

    def __init__(
        self, name: str, cache: ResilientCache[str, Any] | AsyncResilientCache[str, Any], told: list[Event]
    ) -> None:
        self.name = name
        self.cache = cache
        self.told = told
        self.runner = asyncio.Runner()

    def get(self, key: str) -> object:
        return self.ended(self.cache.get(key))

    def set(self, key: str, value: object) -> object:
        return self.ended(self.cache.set(key, value))

    def ended(self, call: Any) -> object:
        return self.runner.run(call) if asyncio.iscoroutine(call) else call

    def keeps(self, key: str) -> bool:
        """Whether caching works: what is written is there."""
        return self.set(key, "new") is True and self.get(key) == "new"

    def opened(self) -> frozenset[str]:
        """The shards whose circuits ever opened; the empty one for keys without."""
        changes = [event for event in self.told if isinstance(event, CircuitChanged)]
        return frozenset(event.shard for event in changes if event.after is CircuitState.OPEN)

    def called(self) -> int:
        return self.cache.stats().get("store_get", 0)

    def close(self) -> None:
        if isinstance(self.cache, ResilientCache):
            self.cache.close()
        else:
            self.runner.run(self.cache.aclose())
        self.runner.close()


@contextmanager
def both(plain: Callable[[], Any], awaited: Callable[[], Any]) -> Iterator[list[Colour]]:
    """A cache of each colour, over the adapters that the two make."""
    with ExitStack() as stack:
        told: list[list[Event]] = [[], []]
        colours = [
            Colour("sync", ResilientCache(plain(), name="shards", hooks=[told[0].append], **OPTIONS), told[0]),
            Colour("async", AsyncResilientCache(awaited(), name="shards", hooks=[told[1].append], **OPTIONS), told[1]),
        ]
        for colour in colours:
            stack.callback(colour.close)
        yield colours


@pytest.mark.parametrize(("harm", "heal"), [(ValkeyServer.freeze, ValkeyServer.thaw), (ValkeyServer.kill, None)])
def test_a_dead_node_costs_the_keys_of_no_other(
    cluster: Cluster, harm: Callable[[ValkeyServer], None], heal: Callable[[ValkeyServer], None] | None
) -> None:
    """Every key of the other nodes is a hit all the time; one circuit opens, and closes when the node is back."""
    keys = {number: cluster.keys_on(number, EACH, "shards:") for number in range(3)}
    dead, name = cluster.nodes[0], cluster.names[0]
    adapters = (
        lambda: RedisClusterAdapter.from_url(cluster.urls, timeout=TIMEOUT),
        lambda: AsyncRedisClusterAdapter.from_url(cluster.urls, timeout=TIMEOUT),
    )
    with both(*adapters) as colours:
        for colour in colours:
            assert all(colour.set(key, key) is True for number in keys for key in keys[number])
        harm(dead)
        try:
            for colour in colours:
                misses_of_others(colour, keys)
        finally:
            (heal or ValkeyServer.start)(dead)
        until(lambda: cluster.is_well(dead, 3), "the node does not come back")
        healed = time.monotonic()
        for colour in colours:
            until(partial(colour.keeps, keys[0][0]), "caching does not come back")
            assert time.monotonic() - healed < 2 * HOLD + 0.5
            assert colour.opened() == {name}
            assert set(colour.cache.shards) == {*cluster.names}


def misses_of_others(colour: Colour, keys: dict[int, list[str]]) -> None:
    """Ask for all keys, again and again, until the circuit of the dead node is open, and then once more."""
    mixed = [(number, key) for row in zip(*keys.values(), strict=True) for number, key in enumerate(row)]
    for _ in range(10):
        was_open, before = bool(colour.opened()), colour.called()
        for number, key in mixed:
            began = time.monotonic()
            assert colour.get(key) == (None if number == 0 else key), (colour.name, number)
            assert number == 0 or time.monotonic() - began < TIMEOUT, "a healthy node's key took a timeout"
        if was_open:
            assert colour.called() - before <= 2 * EACH + 2, "an open circuit asks nobody, but for a probe"
            return
    raise AssertionError("the circuit does not open")


def test_a_new_master_is_found(valkey_binary: None) -> None:
    """Killed, the master is replaced by the sentinel: misses until then, and caching again within a hold."""
    with Guarded() as guarded:
        adapters = (
            lambda: RedisAdapter.from_sentinel("main", guarded.addresses, timeout=TIMEOUT),
            lambda: AsyncRedisAdapter.from_sentinel("main", guarded.addresses, timeout=TIMEOUT),
        )
        with both(*adapters) as colours:
            assert all(colour.set(colour.name, "old") is True for colour in colours)
            guarded.master.kill()
            for colour in colours:
                assert colour.get(colour.name) is None
            assert guarded.replica is not None
            replica = guarded.replica
            until(lambda: "role:master" in replica.text("INFO", "replication"), "nobody is made the master")
            promoted = time.monotonic()
            for colour in colours:
                until(partial(colour.keeps, f"{colour.name} again"), "caching does not come back")
                assert (
                    time.monotonic() - promoted < 2 * HOLD + 3.0
                )  # both colours, one after the other, on a busy machine
                assert colour.get(colour.name) in ("old", None)  # what was replicated is a hit again
