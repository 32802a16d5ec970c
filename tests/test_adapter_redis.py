"""Redis and Valkey as a store: what comes back, and what each kind of failure is called."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from weakref import WeakKeyDictionary

import pytest
import redis
import redis.asyncio
import valkey as valkey_py
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis.backoff import NoBackoff
from redis.retry import Retry

from resilient_cache import deadline
from resilient_cache.adapters.redis import AsyncRedisAdapter, RedisAdapter
from resilient_cache.errors import FailureKind, MisuseError, StoreError
from resilient_cache.protocols import AsyncCacheAdapter, CacheAdapter

from .colours import OpenRedis, RedisStore
from .servers import FakeServer, ValkeyServer, free_port

pytestmark = pytest.mark.realtime

BLOCKING: Any = redis.BlockingConnectionPool
SHARED: WeakKeyDictionary[OpenRedis, RedisStore] = WeakKeyDictionary()
"""One store for all examples of a Hypothesis test."""

FAST: dict[str, Any] = {"socket_timeout": 0.25, "socket_connect_timeout": 0.25, "retry": Retry(NoBackoff(), 0)}


def key() -> str:
    return f"test:{uuid.uuid4()}"


def error_of(call: Callable[[], object]) -> StoreError:
    with pytest.raises(StoreError) as caught:
        call()
    return caught.value


# What comes back


def test_what_was_set_is_got_until_it_is_deleted_and_deleting_twice_is_harmless(
    valkey: str, open_redis: OpenRedis
) -> None:
    store, name = open_redis(valkey), key()
    assert store.get(name) is None
    store.set(name, b"v", 60.0)
    assert store.get(name) == b"v"
    store.delete(name)
    store.delete(name)
    assert store.get(name) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.binary(max_size=10_000), name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@example(value=b"\r\n$-1\r\n" * 3, name="k\r\n v")
@example(value=b"v" * 1_000_000, name="large")
def test_any_bytes_come_back_as_they_were(valkey: str, open_redis: OpenRedis, value: bytes, name: str) -> None:
    store = SHARED.get(open_redis) or SHARED.setdefault(open_redis, open_redis(valkey))
    store.set(f"any:{name}", value, 60.0)
    got = store.get(f"any:{name}")
    assert got == value
    assert type(got) is bytes


def test_an_entry_lives_for_its_ttl(valkey: str, open_redis: OpenRedis) -> None:
    store, name = open_redis(valkey), key()
    store.set(name, b"v", 0.08)
    assert store.get(name) == b"v"
    time.sleep(0.12)
    assert store.get(name) is None


@pytest.mark.parametrize(("ttl", "at_least", "at_most"), [(1.5, 1_000, 1_500), (1e-9, -2, 1), (1e300, 2**52, 2**53)])
def test_ttls_are_milliseconds_at_least_one_and_never_too_many(
    valkey_server: ValkeyServer, open_redis: OpenRedis, ttl: float, at_least: int, at_most: int
) -> None:
    open_redis(valkey_server.url).set("k", b"v", ttl)
    assert at_least <= int(valkey_server.command("PTTL", "k")[1:]) <= at_most


def test_unix_sockets_and_databases_and_valkey_urls(valkey_socket: ValkeyServer, open_redis: OpenRedis) -> None:
    store = open_redis(f"{valkey_socket.url}?db=3")
    store.set("k", b"v", 60.0)
    assert store.get("k") == b"v"
    assert open_redis(valkey_socket.url).get("k") is None


def test_urls_may_say_valkey(valkey_server: ValkeyServer, open_redis: OpenRedis) -> None:
    store = open_redis(valkey_server.url.replace("redis:", "valkey:"))
    store.set("k", b"v", 60.0)
    assert store.get("k") == b"v"


def test_connecting_costs_no_round_trip_besides_the_command(open_redis: OpenRedis) -> None:
    received: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            received.append(data)
            connection.sendall(b"$-1\r\n")

    with FakeServer(serve) as server:
        open_redis(server.url).get("k")
    assert received == [b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"]


# What failures are called


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"-NOAUTH Authentication required.", FailureKind.AUTH),
        (b"-WRONGPASS invalid username-password pair", FailureKind.AUTH),
        (b"-NOPERM this user has no permissions", FailureKind.AUTH),
        (b"-LOADING Valkey is loading the dataset in memory", FailureKind.UNAVAILABLE),
        (b"-CLUSTERDOWN The cluster is down", FailureKind.UNAVAILABLE),
        (b"-MASTERDOWN Link with MASTER is down", FailureKind.UNAVAILABLE),
        (b"-TRYAGAIN Multiple keys request during rehashing", FailureKind.UNAVAILABLE),
        (b"-BUSY Valkey is busy running a script", FailureKind.UNAVAILABLE),
        (b"-MOVED 3999 127.0.0.1:6381", FailureKind.UNAVAILABLE),
        (b"-ERR max number of clients reached", FailureKind.UNAVAILABLE),
        (b"-READONLY You can't write against a read only replica.", FailureKind.READ_ONLY),
        (b"-OOM command not allowed when used memory > 'maxmemory'.", FailureKind.READ_ONLY),
        (b"-MISCONF Errors writing to the AOF file", FailureKind.READ_ONLY),
        (b"-NOREPLICAS Not enough good replicas to write.", FailureKind.READ_ONLY),
        (b"-WRONGTYPE Operation against a key", FailureKind.PER_KEY),
        (b"-CROSSSLOT Keys in request don't hash", FailureKind.PER_KEY),
        (b"-ERR string exceeds maximum allowed size", FailureKind.PER_KEY),
        (b"-ERR upstream failure", FailureKind.UNKNOWN),
        (b"HTTP/1.1 400 Bad Request", FailureKind.CONNECTION),
        (b"$what", FailureKind.CONNECTION),
        (b":5", FailureKind.CONNECTION),
        (b"*1\r\n:5", FailureKind.CONNECTION),
    ],
)
@pytest.mark.parametrize("colour", ["from_url", "redis", "valkey"])
def test_a_reply_that_is_no_answer_has_its_kind(colour: str, reply: bytes, kind: FailureKind) -> None:
    with FakeServer.replying(reply + b"\r\n") as server, adapter_of(colour, server.url) as adapter:
        assert error_of(lambda: adapter.get("k")).kind is kind


@contextmanager
def adapter_of(colour: str, url: str) -> Iterator[RedisAdapter]:
    if colour == "from_url":
        adapter = RedisAdapter.from_url(url)
        yield adapter
        adapter.close()
        return
    module: Any = redis if colour == "redis" else valkey_py
    retry = {"retry": Retry(NoBackoff(), 0)} if colour == "redis" else {}
    with module.from_url(url, protocol=2, socket_timeout=0.25, socket_connect_timeout=0.25, **retry) as client:
        yield RedisAdapter(client)


@pytest.mark.parametrize(
    "reply", [b"+OK", b"-NOAUTH x", b"HTTP/1.1 400 Bad Request", b"$what", b"*0", b":1\r\n:1", b"$1\r\nabc"]
)
def test_after_a_reply_out_of_step_the_connection_is_not_used_again(open_redis: OpenRedis, reply: bytes) -> None:
    with FakeServer.replying(reply + b"\r\n") as server:
        store = open_redis(server.url)
        errors = [error_of(lambda: store.delete("k")) for _ in range(3)]
        assert server.accepted == 3
    assert {error.kind for error in errors} <= {FailureKind.CONNECTION, FailureKind.AUTH}


def test_after_an_error_reply_the_connection_is_used_again(open_redis: OpenRedis) -> None:
    with FakeServer.replying(b"-LOADING x\r\n") as server:
        store = open_redis(server.url)
        assert [error_of(lambda: store.delete("k")).kind for _ in range(3)] == [FailureKind.UNAVAILABLE] * 3
        assert server.accepted == 1


def test_errors_of_a_real_server_have_their_kinds(valkey_server: ValkeyServer, open_redis: OpenRedis) -> None:
    store = open_redis(valkey_server.url)
    valkey_server.command("LPUSH", "list", "1")
    assert error_of(lambda: store.get("list")).kind is FailureKind.PER_KEY
    valkey_server.command("CONFIG", "SET", "maxmemory", "1")
    assert error_of(lambda: store.set("k", b"v", 1.0)).kind is FailureKind.READ_ONLY
    assert store.get("k") is None, "reads go on"
    valkey_server.command("CONFIG", "SET", "maxmemory", "0")
    valkey_server.command("REPLICAOF", "127.0.0.1", str(free_port()))
    assert error_of(lambda: store.set("k", b"v", 1.0)).kind is FailureKind.READ_ONLY
    assert store.get("k") is None
    valkey_server.command("REPLICAOF", "NO", "ONE")
    valkey_server.command("CONFIG", "SET", "maxclients", "1")
    assert error_of(lambda: open_redis(valkey_server.url).get("k")).kind is FailureKind.UNAVAILABLE


def test_passwords(valkey_server: ValkeyServer, open_redis: OpenRedis) -> None:
    valkey_server.command("CONFIG", "SET", "requirepass", "secret")
    assert error_of(lambda: open_redis(valkey_server.url).get("k")).kind is FailureKind.AUTH
    right, wrong = (valkey_server.url.replace("://", f"://:{word}@") for word in ("secret", "guess"))
    error = error_of(lambda: open_redis(wrong).get("k"))
    assert error.kind is FailureKind.AUTH
    assert "guess" not in str(error)
    assert open_redis(right).get("k") is None


def test_a_refused_port_fails_at_once(open_redis: OpenRedis) -> None:
    store = open_redis(f"redis://127.0.0.1:{free_port()}")
    times: list[float] = []
    for _ in range(3):
        start = time.monotonic()
        assert error_of(lambda: store.get("k")).kind is FailureKind.CONNECTION
        times.append(time.monotonic() - start)
    assert min(times) < 0.05


def test_a_name_that_does_not_resolve_is_a_connection_failure(open_redis: OpenRedis) -> None:
    store = open_redis("redis://no-such-host.invalid", timeout=2.0)
    assert error_of(lambda: store.get("k")).kind in (FailureKind.CONNECTION, FailureKind.TIMEOUT)


def test_a_key_that_cannot_be_sent_fails_alone(valkey: str, open_redis: OpenRedis) -> None:
    assert error_of(lambda: open_redis(valkey).get("\ud800")).kind is FailureKind.PER_KEY


def test_a_full_pool_rejects_at_once(valkey_server: ValkeyServer) -> None:
    async def main() -> None:
        adapter = AsyncRedisAdapter.from_url(valkey_server.url, max_connections=2)
        busy = [asyncio.create_task(adapter.get("k")) for _ in range(2)]
        await asyncio.sleep(0.05)
        start = time.monotonic()
        with pytest.raises(StoreError) as caught:
            await adapter.get("k")
        assert caught.value.kind is FailureKind.POOL
        assert time.monotonic() - start < 0.05
        ends: list[Any] = await asyncio.gather(*busy, return_exceptions=True)
        assert [end.kind for end in ends] == [FailureKind.TIMEOUT] * 2
        await adapter.aclose()

    valkey_server.freeze()
    asyncio.run(main())
    sync = RedisAdapter.from_url(valkey_server.url, max_connections=1)
    busy = threading.Thread(target=lambda: error_of(lambda: sync.get("k")))
    busy.start()
    kinds = {error_of(lambda: sync.get("k")).kind}
    while busy.is_alive():
        kinds.add(error_of(lambda: sync.get("k")).kind)
    assert FailureKind.POOL in kinds


# Misuse and advice


def test_the_adapters_are_adapters(valkey: str) -> None:
    assert isinstance(RedisAdapter.from_url(valkey), CacheAdapter)
    assert isinstance(AsyncRedisAdapter.from_url(valkey), AsyncCacheAdapter)


@pytest.mark.parametrize("adapter", [RedisAdapter, AsyncRedisAdapter])
@pytest.mark.parametrize(
    ("url", "options", "text"),
    [
        ("http://host", {}, "url cannot be used"),
        ("redis://host?db=x", {}, "url cannot be used"),
        ("redis://host", {"decode_responses": True}, "decode_responses must be left out"),
        ("redis://host", {"connection_class": object}, "connection_class must be left out"),
        ("redis://host", {"no_such_option": 1}, "options cannot be used.*no_such_option"),
        ("redis://host", {"max_connections": -1}, "options cannot be used.*max_connections"),
        ("redis://host", {"timeout": 0}, "timeout must be above 0"),
        ("redis://host", {"timeout": float("nan")}, "timeout must be above 0"),
        ("redis://host", {"timeout": timedelta(seconds=-1)}, "timeout must be above 0"),
    ],
)
def test_from_url_refuses_what_cannot_work(adapter: Any, url: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(MisuseError, match=text):
        adapter.from_url(url, **options)


@pytest.fixture
def clients() -> Callable[..., Any]:
    """Makes clients that have not connected."""
    return lambda module=redis, **options: module.Redis(**FAST | options)


def test_clients_that_decode_or_are_of_the_other_colour_or_none_are_refused(clients: Callable[..., Any]) -> None:
    for adapter, module in ((RedisAdapter, redis), (AsyncRedisAdapter, redis.asyncio)):
        wrong: list[tuple[Any, str]] = [
            (clients(module, decode_responses=True), "decode_responses=False"),
            (clients(redis.asyncio if module is redis else redis), "this one belongs into"),
            (object(), r"has no get\(\)"),
        ]
        for client, text in wrong:
            with pytest.raises(MisuseError, match=text):
                adapter(client)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"socket_timeout": None}, "socket_timeout is None, set socket_timeout=0.25"),
        ({"socket_timeout": 5}, "socket_timeout is 5, set"),
        ({"socket_connect_timeout": 5}, "socket_connect_timeout is 5, set"),
        ({"retry": Retry(NoBackoff(), 3)}, "retries 3 times"),
        ({"retry_on_error": [OSError]}, "retries on errors"),
        ({"health_check_interval": 5}, "PING"),
        ({"connection_pool": BLOCKING(**FAST)}, "makes callers wait"),
    ],
)
def test_a_slow_client_is_warned_of_once(clients: Callable[..., Any], options: dict[str, Any], text: str) -> None:
    with pytest.warns(RuntimeWarning, match=text) as caught:
        RedisAdapter(clients(**options))
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_clients_that_are_fast_enough_or_bounded_by_us_are_not_warned_of(clients: Callable[..., Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RedisAdapter(clients())
        RedisAdapter(clients(socket_timeout=5, socket_connect_timeout=5), timeout=timedelta(seconds=5))
        AsyncRedisAdapter(clients(redis.asyncio, socket_timeout=None))
    with pytest.warns(RuntimeWarning, match="retries 3 times"):
        AsyncRedisAdapter(clients(redis.asyncio, retry=Retry(NoBackoff(), 3)))


def test_without_redis_py_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "resilient_cache.adapters._redis_clients", raising=False)
    monkeypatch.setitem(sys.modules, "redis.asyncio.connection", None)
    with pytest.raises(ImportError, match=r"resilient-cache\[redis\]"):
        RedisAdapter.from_url("redis://host")


# Existing clients, closing, forking


def test_an_existing_client_is_used_and_not_closed(valkey: str) -> None:
    for module in (redis, valkey_py):
        retry = {"retry": Retry(NoBackoff(), 0)} if module is redis else {}
        with module.from_url(valkey, socket_timeout=0.25, socket_connect_timeout=0.25, **retry) as client:
            adapter, name = RedisAdapter(client), key()
            adapter.set(name, b"v", 60.0)
            assert adapter.get(name) == b"v"
            adapter.delete(name)
            assert adapter.get(name) is None
            adapter.close()
            with pytest.raises(StoreError, match="closed"):
                adapter.get("k")
            assert client.ping()


def test_an_existing_async_client_is_used_and_not_closed(valkey: str) -> None:
    async def main() -> None:
        async with redis.asyncio.Redis.from_url(valkey, **FAST) as client:
            adapter, name = AsyncRedisAdapter(client), key()
            await adapter.set(name, b"v", 60.0)
            assert await adapter.get(name) == b"v"
            await adapter.delete(name)
            await adapter.aclose()
            assert await client.get(name) is None

    asyncio.run(main())


def test_closing_twice_is_harmless_and_a_closed_adapter_is_a_failed_store(valkey: str, open_redis: OpenRedis) -> None:
    store = open_redis(valkey)
    store.get("k")
    store.close()
    store.close()
    for call in (lambda: store.get("k"), lambda: store.set("k", b"v", 1.0), lambda: store.delete("k")):
        error = error_of(call)
        assert (error.kind, str(error)) == (FailureKind.CONNECTION, "closed")


def test_with_no_time_left_the_store_is_not_asked(open_redis: OpenRedis) -> None:
    with FakeServer.replying(b"$-1\r\n") as server:
        store = open_redis(server.url)
        token = deadline.CURRENT.set((0.0, time.monotonic))
        try:
            for call in (lambda: store.get("k"), lambda: store.set("k", b"v", 1.0), lambda: store.delete("k")):
                assert error_of(call).kind is FailureKind.TIMEOUT
        finally:
            deadline.CURRENT.reset(token)
        assert server.accepted == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_both_processes_go_on_after_a_fork(valkey: str) -> None:
    adapter, name = RedisAdapter.from_url(valkey), key()
    adapter.set(name, b"before", 60.0)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if adapter.get(name) == b"before":
                adapter.set(name, b"child", 60.0)
                status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert adapter.get(name) == b"child"
    adapter.close()
