"""Adapters for clusters: who is asked, what a node's word about another does, and what clients of others' make cost."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
import redis.asyncio.cluster
import redis.cluster
import valkey.asyncio.cluster
import valkey.cluster
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisClusterException, SlotNotCoveredError
from redis.retry import Retry

from resilient_cache import CachePolicy, FailureKind, MisuseError, ResilientCache, StoreError
from resilient_cache.adapters._redis_errors import failure
from resilient_cache.adapters._redis_sentinel import AsyncMaster, Master
from resilient_cache.adapters._redis_slots import PAUSE, Slots
from resilient_cache.adapters.redis import AsyncRedisAdapter, RedisAdapter
from resilient_cache.adapters.redis_cluster import AsyncRedisClusterAdapter, RedisClusterAdapter

from .servers import FakeServer, in_child
from .topologies import Cluster

pytestmark = pytest.mark.realtime

LAST = 16383


class Node:
    """A false node: says who owns what, and answers with what it holds or with what it is told to say."""

    def __init__(self, stack: ExitStack) -> None:
        self.server = stack.enter_context(FakeServer(self._serve))
        self.name = f"127.0.0.1:{self.server.port}"
        self.url = self.server.url
        self.map: list[tuple[int, int, bytes | None, int]] | bytes = [(0, LAST, b"127.0.0.1", self.server.port)]
        self.says: dict[bytes, bytes] = {}
        self.heard: list[list[bytes]] = []
        self.silent = False
        self.pause = 0.0

    def count(self, word: bytes) -> int:
        return sum(words[0] == word for words in self.heard)

    def _serve(self, connection: Any) -> None:
        while data := connection.recv(65536):
            words = data.split(b"\r\n")[2::2]
            self.heard.append(words)
            if self.silent:
                self.server.stopping.wait()
            self.server.stopping.wait(self.pause)
            connection.sendall(self._reply(words))

    def _reply(self, words: list[bytes]) -> bytes:
        if words[0] == b"CLUSTER":
            return self.map if isinstance(self.map, bytes) else as_slots(self.map)
        told = {b"GET": b"$1\r\nv\r\n", b"SET": b"+OK\r\n", b"DEL": b":1\r\n", b"ASKING": b"+OK\r\n"}
        return self.says.get(words[0], told[words[0]])


def as_slots(owners: list[tuple[int, int, bytes | None, int]]) -> bytes:
    """A reply to CLUSTER SLOTS."""
    parts = [b"*%d\r\n" % len(owners)]
    for first, last, host, port in owners:
        place = b"$-1\r\n" if host is None else b"$%d\r\n%b\r\n" % (len(host), host)
        parts.append(b"*3\r\n:%d\r\n:%d\r\n*3\r\n%b:%d\r\n$2\r\nid\r\n" % (first, last, place, port))
    return b"".join(parts)


class Awaited:
    """`AsyncRedisClusterAdapter` called synchronously, on a loop of its own."""

    def __init__(self, url: Any, **options: Any) -> None:
        self.runner = asyncio.Runner()
        self.adapter = AsyncRedisClusterAdapter.from_url(url, **options)
        self.shard = self.adapter.shard

    def get(self, key: str) -> bytes | None:
        return self.runner.run(self.adapter.get(key))

    def set(self, key: str, value: bytes, ttl: float) -> None:
        self.runner.run(self.adapter.set(key, value, ttl))

    def delete(self, key: str) -> None:
        self.runner.run(self.adapter.delete(key))

    def close(self) -> None:
        self.runner.run(self.adapter.aclose())


@pytest.fixture
def nodes() -> Iterator[Callable[[], Node]]:
    """Makes false nodes."""
    with ExitStack() as stack:
        yield lambda: Node(stack)


Open = Callable[..., Any]


@pytest.fixture(params=[RedisClusterAdapter.from_url, Awaited], ids=["sync", "async"])
def open_cluster(request: pytest.FixtureRequest) -> Iterator[Open]:
    """`from_url` of either colour."""
    opened: list[Any] = []

    def open_one(url: Any, **options: Any) -> Any:
        opened.append(request.param(url, **{"timeout": 2.0, **options}))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()
        if isinstance(store, Awaited):
            store.runner.close()


def kind_of(call: Callable[[], object]) -> FailureKind:
    with pytest.raises(StoreError) as caught:
        call()
    return caught.value.kind


# Who is asked


def test_the_map_is_asked_for_once_and_each_key_goes_to_its_owner(nodes: Any, open_cluster: Open) -> None:
    one, two = nodes(), nodes()
    slot = key_slot(b"a")
    one.map = [(0, slot - 1, b"127.0.0.1", two.server.port), (slot, LAST, b"127.0.0.1", one.server.port)]
    store = open_cluster(one.url)
    assert store.shard("a") == ""
    keys = ["a", *(f"k{number}" for number in range(20))]
    for key in keys:
        store.set(key, b"v", 60.0)
        assert store.get(key) == b"v"
        store.delete(key)
    assert store.shard("a") == one.name
    mine = sum(key_slot(key.encode()) >= slot for key in keys)
    assert (one.count(b"GET"), two.count(b"GET")) == (mine, len(keys) - mine)
    assert (one.count(b"CLUSTER"), two.count(b"CLUSTER")) == (1, 0)
    assert store.shard("{a}1") == store.shard("{a}2") == one.name


@pytest.mark.parametrize("host", [None, b"", b"?"])
def test_a_node_that_does_not_know_its_host_is_where_it_was_asked(nodes: Any, open_cluster: Open, host: Any) -> None:
    node = nodes()
    node.map = [(0, LAST, host, node.server.port)]
    store = open_cluster(node.url)
    assert store.get("k") == b"v"
    assert store.shard("k") == node.name


def test_a_node_given_by_name_and_without_a_port(open_cluster: Open) -> None:
    """6379 it is then, and nobody is there."""
    store = open_cluster("redis://localhost/0", timeout=0.05)
    assert kind_of(lambda: store.get("k")) in (FailureKind.UNAVAILABLE, FailureKind.TIMEOUT)


def test_the_first_url_that_answers_is_enough(nodes: Any, open_cluster: Open) -> None:
    silent, node = nodes(), nodes()
    silent.silent = True
    store = open_cluster(["redis://127.0.0.1:1", silent.url, node.url], timeout=0.9)
    began = time.monotonic()
    assert store.get("k") == b"v"
    assert time.monotonic() - began < 0.9


@pytest.mark.parametrize("reply", [b"-ERR This instance has cluster support disabled\r\n", b"*1\r\n:5\r\n", b"+OK\r\n"])
def test_who_is_no_node_of_a_cluster_is_a_failure(nodes: Any, open_cluster: Open, reply: bytes) -> None:
    node = nodes()
    node.map = reply
    store = open_cluster(node.url)
    assert kind_of(lambda: store.get("k")) is FailureKind.UNAVAILABLE
    assert store.shard("k") == ""


def test_a_slot_that_nobody_owns_is_a_failure_and_asks_once_a_second(
    nodes: Any, open_cluster: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = nodes()
    node.map = [(key_slot(b"a"), key_slot(b"a"), b"127.0.0.1", node.server.port)]
    store = open_cluster(node.url)
    assert store.get("a") == b"v"
    for _ in range(3):
        assert kind_of(lambda: store.get("b")) is FailureKind.UNAVAILABLE
    assert node.count(b"CLUSTER") == 1
    monkeypatch.setattr("resilient_cache.adapters._redis_slots.PAUSE", 0.0)
    node.map = [(0, LAST, b"127.0.0.1", node.server.port)]
    assert store.get("b") == b"v"


def test_half_a_surrogate_pair_is_the_keys_fault(nodes: Any, open_cluster: Open) -> None:
    store = open_cluster(nodes().url)
    assert kind_of(lambda: store.get("\ud800")) is FailureKind.PER_KEY
    assert store.shard("\ud800") != ""


# What a node says of another


def moved(key: bytes, to: Node | str, word: bytes = b"MOVED") -> bytes:
    name = to if isinstance(to, str) else to.name
    return b"-%b %d %b\r\n" % (word, key_slot(key), name.encode())


def test_a_moved_slot_is_followed_and_learnt(nodes: Any, open_cluster: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """One redirection for the slot; with the next call to who said it, the whole map is asked for again."""
    one, two = nodes(), nodes()
    one.says = dict.fromkeys([b"GET", b"SET", b"DEL"], moved(b"k", two))
    store = open_cluster(one.url)
    store.set("k", b"v", 60.0)
    for _ in range(3):
        assert store.get("k") == b"v"
    assert store.shard("k") == two.name
    assert (one.count(b"SET"), two.count(b"SET"), one.count(b"GET"), two.count(b"GET")) == (1, 1, 0, 3)
    assert store.shard("other") == one.name
    one.says = {}
    assert one.count(b"CLUSTER") == 1
    monkeypatch.setattr("resilient_cache.adapters._redis_slots.PAUSE", 0.0)
    store.get("other")
    assert one.count(b"CLUSTER") + two.count(b"CLUSTER") == 2


def test_a_redirection_without_a_host_is_to_the_same_one(nodes: Any, open_cluster: Open) -> None:
    one, two = nodes(), nodes()
    one.says[b"GET"] = moved(b"k", f":{two.server.port}")
    assert open_cluster(one.url).get("k") == b"v"
    assert two.count(b"GET") == 1


def test_a_slot_on_its_way_is_asked_for_and_not_learnt(nodes: Any, open_cluster: Open) -> None:
    one, two = nodes(), nodes()
    one.says = dict.fromkeys([b"GET", b"SET", b"DEL"], moved(b"k", two, b"ASK"))
    store = open_cluster(one.url)
    store.set("k", b"v", 1.5)
    assert store.get("k") == b"v"
    store.delete("k")
    assert store.shard("k") == one.name
    words = [heard for heard in two.heard if heard[0] != b"ASKING"]
    assert words == [[b"SET", b"k", b"v", b"PX", b"1500"], [b"GET", b"k"], [b"DEL", b"k"]]
    assert two.count(b"ASKING") == 3


def test_who_is_sent_in_circles_gives_up(nodes: Any, open_cluster: Open) -> None:
    one, two = nodes(), nodes()
    one.says[b"GET"], two.says[b"GET"] = moved(b"k", two), moved(b"k", one)
    store = open_cluster(one.url)
    assert kind_of(lambda: store.get("k")) is FailureKind.UNAVAILABLE
    assert one.count(b"GET") + two.count(b"GET") == 3


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"-CLUSTERDOWN The cluster is down", FailureKind.UNAVAILABLE),
        (b"-TRYAGAIN Multiple keys request during rehashing of slot", FailureKind.UNAVAILABLE),
        (b"-MASTERDOWN Link with MASTER is down", FailureKind.UNAVAILABLE),
        (b"-LOADING Valkey is loading the dataset in memory", FailureKind.UNAVAILABLE),
        (b"-READONLY You can't write against a read only replica.", FailureKind.READ_ONLY),
        (b"-WRONGTYPE Operation against a key", FailureKind.PER_KEY),
        (b"-MOVED", FailureKind.UNAVAILABLE),
    ],
)
def test_a_reply_that_is_no_answer_has_its_kind_and_is_not_waited_for(
    nodes: Any, open_cluster: Open, reply: bytes, kind: FailureKind
) -> None:
    node = nodes()
    node.says[b"GET"] = reply + b"\r\n"
    store = open_cluster(node.url)
    began = time.monotonic()
    assert kind_of(lambda: store.get("k")) is kind
    assert time.monotonic() - began < 0.2, "redis-py's client sleeps for 0.25 s after CLUSTERDOWN"
    assert node.count(b"GET") == 1


# A node that fails


def test_a_node_that_is_gone_is_looked_for_by_its_own_calls_only(
    nodes: Any, open_cluster: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its slots have gone to another: the next call to it asks, when it may, and goes there; nobody else asks."""
    monkeypatch.setattr("resilient_cache.adapters._redis_slots.PAUSE", 0.0)
    one, two = nodes(), nodes()
    slot = key_slot(b"a")
    both = [(0, slot, b"127.0.0.1", one.server.port), (slot + 1, LAST, b"127.0.0.1", two.server.port)]
    one.map = two.map = both
    there = next(key for key in map(str, range(99)) if key_slot(key.encode()) > slot)
    store = open_cluster([one.url, two.url], timeout=0.1)
    assert (store.get("a"), store.get(there)) == (b"v", b"v")
    one.silent = True
    two.map = [(0, LAST, b"127.0.0.1", two.server.port)]
    began = time.monotonic()
    assert kind_of(lambda: store.get("a")) is FailureKind.TIMEOUT
    assert time.monotonic() - began < 0.2
    asked = one.count(b"CLUSTER") + two.count(b"CLUSTER")
    assert store.get(there) == b"v"
    assert one.count(b"CLUSTER") + two.count(b"CLUSTER") == asked == 1
    assert store.get("a") == b"v"
    assert store.shard("a") == two.name
    assert two.count(b"CLUSTER") in (1, 2)
    store.get("a")
    assert one.count(b"CLUSTER") + two.count(b"CLUSTER") == 2, "the suspect is none any more"


def test_a_node_that_answers_again_is_no_suspect(
    nodes: Any, open_cluster: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = nodes()
    store = open_cluster(node.url)
    node.says[b"GET"] = b"-LOADING\r\n"
    assert kind_of(lambda: store.get("k")) is FailureKind.UNAVAILABLE
    del node.says[b"GET"]
    assert store.get("k") == b"v"
    monkeypatch.setattr("resilient_cache.adapters._redis_slots.PAUSE", 0.0)
    store.get("k")
    assert node.count(b"CLUSTER") == 1


def test_who_has_no_time_to_ask_leaves_asking_to_the_next(
    nodes: Any, open_cluster: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its look at the map was the one of that second, and had asked nobody."""
    node = nodes()
    store = open_cluster(node.url)
    assert store.get("k") == b"v"
    adapter: Any = getattr(store, "adapter", store)
    slots = adapter._client.slots
    slots._looked = 0.0
    for least, asked in ((10.0, 1), (0.005, 2)):
        monkeypatch.setattr("resilient_cache.adapters._redis_cluster.LEAST", least)
        slots.failed(node.name, FailureKind.CONNECTION)
        assert store.get("k") == b"v"
        assert node.count(b"CLUSTER") == asked


def test_nobody_at_all_costs_one_timeout(nodes: Any, open_cluster: Open) -> None:
    silent = [nodes() for _ in range(3)]
    for node in silent:
        node.silent = True
    store = open_cluster([node.url for node in silent], timeout=0.1)
    began = time.monotonic()
    assert kind_of(lambda: store.get("k")) in (FailureKind.UNAVAILABLE, FailureKind.TIMEOUT)
    assert time.monotonic() - began < 0.2


def test_threads_that_find_no_map_wait_for_the_one_who_asks(nodes: Any) -> None:
    node = nodes()
    with RedisClusterAdapterOf(node.url, timeout=5) as store:
        threads = [threading.Thread(target=store.get, args=("k",)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (node.count(b"GET"), node.count(b"CLUSTER")) == (8, 1)


def test_a_suspects_callers_do_not_wait_for_the_one_who_asks(nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go on with the map there is."""
    monkeypatch.setattr("resilient_cache.adapters._redis_slots.PAUSE", 0.0)
    node = nodes()
    with RedisClusterAdapterOf(node.url) as store:
        assert store.get("k") == b"v"
        client: Any = store._client
        client.slots.failed(node.name, FailureKind.TIMEOUT)
        with client._looking:
            assert store.get("k") == b"v"
    assert node.count(b"CLUSTER") == 1


def test_threads_that_wait_for_a_map_have_a_deadline(nodes: Any) -> None:
    with RedisClusterAdapterOf(nodes().url, timeout=0.05) as store:
        client: Any = store._client
        with client._looking:
            assert kind_of(lambda: store.get("k")) is FailureKind.TIMEOUT


def test_a_thread_that_waits_for_a_map_uses_the_one_that_another_has_found(nodes: Any) -> None:
    node = nodes()
    with RedisClusterAdapterOf(node.url, timeout=5) as store, ThreadPoolExecutor(1) as pool:
        client: Any = store._client
        with client._looking:
            waiting = pool.submit(store.get, "k")
            time.sleep(0.05)  # it waits now; if it does not yet it finds the map at once
            client.slots.looked()
            assert any(client._told_by(name, 1.0) for name in list(client.slots.candidates()))
        assert waiting.result(5) == b"v"
    assert node.count(b"CLUSTER") == 1


class RedisClusterAdapterOf:
    """Closes it."""

    def __init__(self, url: str, **options: Any) -> None:
        self.adapter = RedisClusterAdapter.from_url(url, **options)

    def __enter__(self) -> RedisClusterAdapter:
        return self.adapter

    def __exit__(self, *raised: object) -> None:
        self.adapter.close()


def test_tasks_that_find_no_map_wait_for_one_question(nodes: Any) -> None:
    """And one of them that is cancelled does not take the answer from the others."""
    node = nodes()

    async def main() -> None:
        store = AsyncRedisClusterAdapter.from_url(node.url, timeout=5)
        tasks = [asyncio.create_task(store.get("k")) for _ in range(8)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        assert (await asyncio.gather(*tasks, return_exceptions=True))[1:] == [b"v"] * 7
        await store.aclose()

    asyncio.run(main())
    assert node.count(b"CLUSTER") == 1


def test_closing_stops_the_question(nodes: Any) -> None:
    node = nodes()
    node.silent = True

    async def main() -> None:
        store = AsyncRedisClusterAdapter.from_url(node.url)
        call = asyncio.create_task(store.get("k"))
        await asyncio.sleep(0.02)
        await store.aclose()
        await asyncio.gather(call, return_exceptions=True)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_each_loop_asks_for_itself(nodes: Any) -> None:
    """A question that was begun in a loop that has ended is nobody's any more."""
    node = nodes()
    node.silent = True
    store = AsyncRedisClusterAdapter.from_url(node.url, timeout=2)

    async def begin() -> None:
        asyncio.create_task(store.get("k"))  # noqa: RUF006 - it ends with the loop
        await asyncio.sleep(0.02)

    async def go_on() -> None:
        assert await store.get("k") == b"v"
        await store.aclose()

    asyncio.run(begin())
    node.silent = False
    asyncio.run(go_on())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this platform")
def test_a_child_forked_while_a_thread_asks_asks_itself(nodes: Any) -> None:
    node = nodes()
    with RedisClusterAdapterOf(node.url) as store:
        client: Any = store._client
        with client._looking:
            assert in_child(lambda: store.get("k") == b"v")
            client.forked()
            assert store.get("k") == b"v"


def test_a_node_that_has_left_the_cluster_is_hung_up_on(
    nodes: Any, open_cluster: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resilient_cache.adapters._redis_slots.PAUSE", 0.0)
    one, two, never_asked = nodes(), nodes(), nodes()
    slot = key_slot(b"a")
    one.map = [(0, slot, b"127.0.0.1", one.server.port), (slot + 1, slot + 1, b"127.0.0.1", never_asked.server.port)]
    two.map = [(0, LAST, b"127.0.0.1", two.server.port)]
    store = open_cluster([one.url])
    assert store.get("a") == b"v"
    client: Any = store.adapter._client if isinstance(store, Awaited) else store._client
    client.learn([(0, LAST, ("127.0.0.1", two.server.port))], two.name)
    assert store.get("a") == b"v"
    assert set(client._clients) == {two.name}


def test_closing_what_was_never_used_is_nothing(nodes: Any, open_cluster: Open) -> None:
    open_cluster(nodes().url).close()


def test_what_a_cache_has_left_bounds_the_question(nodes: Any) -> None:
    node = nodes()
    node.silent = True
    with ResilientCache(
        RedisClusterAdapter.from_url(node.url, timeout=5), name="left", policy=CachePolicy(timeout=0.1)
    ) as cache:
        began = time.monotonic()
        assert cache.get("k") is None
        assert time.monotonic() - began < 0.2


# The map alone


def test_whom_to_ask_is_drawn_and_suspects_come_last() -> None:
    slots = Slots(["s:1", "a:1"])
    assert slots.candidates() == ["s:1", "a:1"]
    slots.learn([(0, 9, (b"a", 1, b"id")), (10, 19, ("b", 1)), (20, 29, (b"c", 1))], "s:1")
    seen = {tuple(slots.candidates()) for _ in range(200)}
    assert {order[-1] for order in seen} == {"s:1"}
    assert len(seen) == 6
    slots.failed("b:1", FailureKind.CONNECTION)
    slots.failed("c:1", FailureKind.PER_KEY)
    assert {order[-1] for order in (slots.candidates() for _ in range(50))} == {"b:1"}
    assert slots.learn([(0, LAST, (b"a", 1))], "a:1") == ["b:1", "c:1"]
    assert not slots.is_due("b:1")


def test_the_map_is_due_for_suspects_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("resilient_cache.adapters._redis_slots.time.monotonic", lambda: now[0])
    slots = Slots(["a:1"])
    assert slots.is_due("")
    slots.looked()
    assert slots.is_due(""), "there is none yet"
    slots.learn([(0, 5, ("a", 1))], "a:1")
    assert (slots.is_due(""), slots.is_due("a:1")) == (False, False)
    slots.failed("a:1", FailureKind.TIMEOUT)
    assert not slots.is_due("a:1")
    now[0] += PAUSE
    assert slots.is_due("a:1")
    assert slots.is_due("")
    slots.answered("a:1")
    slots.answered("a:1")
    assert not slots.is_due("a:1")


@pytest.mark.parametrize("reply", [5, None, [5], [(0, 1)], [(0, 1, ("a", "no port"))], [("x", 1, ("a", 1))]])
def test_what_is_no_map_is_a_failure(reply: Any) -> None:
    slots = Slots(["a:1"])
    with pytest.raises(StoreError):
        slots.learn(reply, "a:1")
    assert slots.owner("k") == ""


# Misuse, and clients that others made


@pytest.mark.parametrize("adapter", [RedisClusterAdapter, AsyncRedisClusterAdapter])
@pytest.mark.parametrize(
    ("url", "options", "text"),
    [
        ([], {}, "a list of some"),
        ("unix:///run/s", {}, "no unix socket"),
        ("redis://node/1", {}, "no database but 0"),
        ("redis://node:port", {}, "cannot be used"),
        ("http://node", {}, "cannot be used"),
        ("redis://node", {"colour": "blue"}, "colour"),
        ("redis://node", {"decode_responses": True}, "decode_responses"),
    ],
)
def test_from_url_refuses_what_cannot_work(adapter: Any, url: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(MisuseError, match=text):
        adapter.from_url(url, **options)


def test_an_ipv6_address_and_a_password_are_kept() -> None:
    store = RedisClusterAdapter.from_url("rediss://user:secret@[::1]:7000")
    client: Any = store._client
    arguments = client.client("2001:db8::1:7001").dial._pool.connection_kwargs
    assert (arguments["host"], arguments["port"]) == ("2001:db8::1", 7001)
    assert (arguments["username"], arguments["password"]) == ("user", "secret")
    store.close()
    assert kind_of(lambda: store.get("k")) is FailureKind.CONNECTION
    with pytest.raises(StoreError, match="closed"):
        client.client("other:1")


PATIENT: dict[str, Any] = {"protocol": 2, "socket_timeout": 0.2, "socket_connect_timeout": 0.2}
NEVER: dict[Any, dict[str, Any]] = {
    redis: {"retry": Retry(NoBackoff(), 0)},
    valkey: {"cluster_error_retry_attempts": 0},
}


@pytest.mark.parametrize("library", [redis, valkey], ids=["redis-py", "valkey-py"])
def test_a_client_of_ones_own(cluster: Cluster, library: Any) -> None:
    """It serves, tells the shards, is not closed, and what it raises has its kind."""
    make = library.cluster.RedisCluster if library is redis else library.cluster.ValkeyCluster
    with make.from_url(cluster.urls[0], **PATIENT, **NEVER[library]) as client:
        store = RedisClusterAdapter(client)
        for number in range(3):
            (key,) = cluster.keys_on(number, 1)
            store.set(key, b"v", 60)
            assert store.get(key) == b"v"
            store.delete(key)
            assert store.shard(key) == cluster.names[number]
        cluster.freeze()
        try:
            assert kind_of(lambda: store.get("k")) in (FailureKind.TIMEOUT, FailureKind.CONNECTION)
        finally:
            cluster.thaw()
        store.close()
        assert client.get("k") is None


@pytest.mark.parametrize("library", [redis, valkey], ids=["redis-py", "valkey-py"])
def test_an_async_client_of_ones_own(cluster: Cluster, library: Any) -> None:
    module = library.asyncio.cluster
    make = module.RedisCluster if library is redis else module.ValkeyCluster

    async def main() -> None:
        # Made by default, it leaves the connection open that it had asked for the slots on.
        own: dict[str, Any] = {"dynamic_startup_nodes": False, **(NEVER[redis] if library is redis else {})}
        client = make.from_url(cluster.urls[0], protocol=2, socket_timeout=2, socket_connect_timeout=2, **own)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # valkey-py's nodes retry, whatever they are told
            store = AsyncRedisClusterAdapter(client, timeout=2)
        (key,) = cluster.keys_on(1, 1)
        assert store.shard(key) == ""
        await store.set(key, b"v", 60)
        assert await store.get(key) == b"v"
        await store.delete(key)
        assert store.shard(key) == cluster.names[1]
        await store.aclose()
        assert await client.get(key) is None
        await client.aclose()

    asyncio.run(main())


def test_a_client_that_retries_is_warned_of(cluster: Cluster) -> None:
    with redis.cluster.RedisCluster.from_url(cluster.urls[0], protocol=2) as client:
        with pytest.warns(RuntimeWarning, match=r"socket_timeout is .*; it retries \d+ times"):
            RedisClusterAdapter(client)
        with pytest.raises(MisuseError, match="belongs into"):
            AsyncRedisClusterAdapter(client)


def test_a_cluster_client_that_found_nobody_failed_as_its_last_try_did() -> None:
    error = RedisClusterException("Redis Cluster cannot be connected")
    assert failure(error).kind is FailureKind.UNKNOWN
    error.__cause__ = redis.TimeoutError("Timeout connecting to server")
    assert failure(error).kind is FailureKind.TIMEOUT
    assert failure(SlotNotCoveredError("Slot 5")).kind is FailureKind.UNAVAILABLE


def test_a_connection_to_a_replica_is_not_kept() -> None:
    """READONLY says that the server was demoted: another connection may find its successor."""
    with FakeServer.replying(b"-READONLY You can't write against a read only replica.\r\n") as server:
        store = RedisAdapter.from_url(server.url)
        for _ in range(3):
            assert kind_of(lambda: store.set("k", b"v", 1)) is FailureKind.READ_ONLY
        store.close()
        assert server.accepted == 3


# Sentinels


@pytest.mark.parametrize("adapter", [RedisAdapter, AsyncRedisAdapter])
def test_from_sentinel_refuses_what_cannot_work(adapter: Any) -> None:
    for service, sentinels in (("", [("127.0.0.1", 1)]), ("main", [])):
        with pytest.raises(MisuseError, match="service must name the master"):
            adapter.from_sentinel(service, sentinels)
    with pytest.raises(MisuseError, match="colour"):
        adapter.from_sentinel("main", [("127.0.0.1", 1)], colour="blue")
    with pytest.raises(MisuseError, match="timeout"):
        adapter.from_sentinel("main", [("127.0.0.1", 1)], timeout=0)
    with pytest.raises(MisuseError, match="colour"):
        adapter.from_sentinel("main", [("127.0.0.1", 1)], sentinel_options={"colour": "blue"})


def test_sentinels_that_do_not_answer_cost_half_of_the_time(nodes: Any) -> None:
    with FakeServer.silent() as one, FakeServer.silent() as two:
        addresses = [("127.0.0.1", one.port), ("127.0.0.1", two.port)]
        store = RedisAdapter.from_sentinel("main", addresses, timeout=0.2)
        began = time.monotonic()
        assert kind_of(lambda: store.get("k")) is FailureKind.CONNECTION
        assert 0.05 < time.monotonic() - began < 0.2
        store.close()
        began = time.monotonic()

        async def main() -> None:
            awaited = AsyncRedisAdapter.from_sentinel("main", addresses, timeout=0.2)
            with pytest.raises(StoreError):
                await awaited.get("k")
            await awaited.aclose()

        asyncio.run(main())
        assert 0.05 < time.monotonic() - began < 0.25


def states(port: int, name: bytes = b"main", flags: bytes = b"master") -> bytes:
    """A reply to SENTINEL MASTERS."""
    words = [b"name", name, b"ip", b"127.0.0.1", b"port", b"%d" % port, b"flags", flags]
    return b"*1\r\n*8\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def awaited(service: str, sentinels: list[tuple[str, int]], timeout: float) -> Callable[[], tuple[str, int]]:
    """`AsyncMaster` called synchronously."""
    master = AsyncMaster(service, sentinels, timeout, {})
    return lambda: asyncio.run(master())


def synchronous(service: str, sentinels: list[tuple[str, int]], timeout: float) -> Callable[[], tuple[str, int]]:
    return Master(service, sentinels, timeout, {})


@pytest.mark.parametrize("find", [synchronous, awaited])
def test_another_sentinel_is_asked_when_one_tells_nothing_or_of_a_master_that_it_does_not_reach(find: Any) -> None:
    says = [states(1, flags=b"master,s_down,o_down"), states(1, b"other"), b"-NOPERM no\r\n", b"+OK\r\n", states(7)]
    with ExitStack() as stack:
        sentinels = [stack.enter_context(FakeServer.replying(reply)) for reply in says]
        master = find("main", [("127.0.0.1", sentinel.port) for sentinel in sentinels], 5.0)
        assert [master(), master()] == [("127.0.0.1", 7)] * 2
        assert [sentinel.accepted for sentinel in sentinels] == [1, 1, 1, 1, 2], "the one that told is asked first"


@pytest.mark.parametrize("find", [synchronous, awaited])
def test_a_sentinel_that_drips_uses_up_its_share_and_no_more(find: Any) -> None:
    """It held a call with a timeout of 0.25 s for 20 s, or all the time there was."""
    with FakeServer.dripping(states(1)) as slow, FakeServer.replying(states(7)) as quick:
        master = find("main", [("127.0.0.1", slow.port), ("127.0.0.1", quick.port)], 1.2)
        assert master() == ("127.0.0.1", 7)


class Moving:
    """A server that changes places: where it was, nothing is answered any more."""

    def __init__(self, old: Node, new: Node) -> None:
        self.old, self.new = old, new
        old.pause = 0.05  # so that calls at once need a connection each

    def find(self) -> tuple[str, int]:
        return "127.0.0.1", (self.new if self.old.silent else self.old).server.port

    async def found(self) -> tuple[str, int]:
        return self.find()


def test_idle_connections_to_where_the_server_was_are_not_used_any_more(nodes: Any) -> None:
    """One call pays for the move, not one for each connection that was idle."""
    moving = Moving(nodes(), nodes())
    store = RedisAdapter.from_url("redis://", timeout=0.2, find=moving.find)
    threads = [threading.Thread(target=store.get, args=("k",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    moving.old.silent = True
    assert moving.old.server.accepted == 3
    assert kind_of(lambda: store.get("k")) is FailureKind.TIMEOUT
    assert [store.get("k") for _ in range(3)] == [b"v"] * 3
    assert moving.new.server.accepted == 1
    store.close()


def test_the_same_for_asyncio(nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilient_cache.adapters._redis_clients.SHORTEST_LEASE", 0.05)
    moving = Moving(nodes(), nodes())

    async def main() -> None:
        store = AsyncRedisAdapter.from_url("redis://", timeout=0.2, find=moving.found)
        await asyncio.gather(*(store.get("k") for _ in range(3)))
        moving.old.silent = True
        assert moving.old.server.accepted == 3
        client: Any = store._client
        with pytest.raises(StoreError, match="closed"):
            await client.get("k")  # as in a cache: cut when its lease is over
        assert [await store.get("k") for _ in range(3)] == [b"v"] * 3
        assert moving.new.server.accepted == 1
        await store.aclose()

    asyncio.run(main())


def test_every_place_may_have_been_in_use(nodes: Any) -> None:
    """The one connection that is permitted fails, and a new one takes its place."""
    moving = Moving(nodes(), nodes())
    store = RedisAdapter.from_url("redis://", timeout=0.2, max_connections=1, find=moving.find)
    store.get("k")
    moving.old.silent = True
    assert kind_of(lambda: store.get("k")) is FailureKind.TIMEOUT
    assert store.get("k") == b"v"
    store.close()
