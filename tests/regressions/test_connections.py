"""Connections to Redis and Valkey: places that were lost, deadlines that began anew, hang-ups that were none."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from resilient_cache import deadline
from resilient_cache.adapters._redis_wire import Wire
from resilient_cache.adapters.redis import AsyncRedisAdapter, RedisAdapter
from resilient_cache.adapters.redis_cluster import AsyncRedisClusterAdapter, RedisClusterAdapter
from resilient_cache.errors import FailureKind, MisuseError, StoreError

from ..colours import OpenRedis
from ..servers import FakeServer, ValkeyServer

pytestmark = pytest.mark.realtime


@pytest.fixture
def unclosed() -> Iterator[None]:
    """For what ends before its connections do, a loop or redis-py's `connect`: heard of in the test, and forgiven."""
    yield
    gc.collect()


def test_bytes_that_drip_share_a_deadline_after_a_connection_was_looked_at_by_reading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(select, "poll")  # as on Windows; with TLS it may happen anywhere

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"$-1\r\n")
        connection.recv(65536)
        for byte in b"$8\r\nvvvvvvvv\r\n":
            if server.stopping.wait(0.05):
                return
            connection.sendall(bytes([byte]))

    with FakeServer(serve) as server:
        adapter = RedisAdapter.from_url(server.url, timeout=0.2)
        assert adapter.get("k") is None
        start = time.monotonic()
        with pytest.raises(StoreError) as caught:
            adapter.get("k")
        assert caught.value.kind is FailureKind.TIMEOUT
        assert time.monotonic() - start < 0.35
        adapter.close()


class Interrupt(BaseException):
    """What the handler of a signal raises."""


def interrupted(adapter: RedisAdapter, after: int) -> bool:
    """Whether a `get` was interrupted when the interpreter looked for signals for the so manieth time."""
    left = after

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal left
        if event == "c_return" and "_redis_" in frame.f_code.co_filename:
            left -= 1
            if left == 0:
                raise Interrupt

    sys.setprofile(profile)
    try:
        adapter.get("k")
    except Interrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.usefixtures("unclosed")
@pytest.mark.parametrize("connected", [True, False])
def test_an_interruption_costs_the_pool_no_place(valkey: str, connected: bool) -> None:
    after, goes_on = 0, True
    while goes_on:
        after += 1
        adapter = RedisAdapter.from_url(valkey, timeout=5.0, max_connections=1)
        if connected:
            adapter.get("k")
        goes_on = interrupted(adapter, after)
        assert adapter.get("k") is None, f"interrupted after {after} steps"
        adapter.close()
    assert after > 5


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.usefixtures("unclosed")
def test_calls_that_a_loop_left_behind_cost_the_next_loop_no_place() -> None:
    with FakeServer.silent() as server:
        adapter = AsyncRedisAdapter.from_url(server.url, timeout=0.01, max_connections=1)
        for _ in range(3):
            with pytest.raises(StoreError) as caught:
                asyncio.run(adapter.get("k"))
            assert caught.value.kind is FailureKind.TIMEOUT, "not POOL"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.usefixtures("unclosed")
def test_what_is_left_behind_is_cut_though_an_earlier_loop_was_to_do_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilient_cache.adapters._redis_clients.SHORTEST_LEASE", 0.05)

    async def left_behind(adapter: AsyncRedisAdapter) -> None:
        with pytest.raises(StoreError) as caught:
            await adapter.get("k")
        assert caught.value.kind is FailureKind.TIMEOUT

    async def later(adapter: AsyncRedisAdapter) -> None:
        await left_behind(adapter)
        assert await asyncio.to_thread(cut.wait, 5)
        await adapter.aclose()

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        if not connection.recv(65536):
            cut.set()

    cut = threading.Event()
    with FakeServer(serve) as server:
        adapter = AsyncRedisAdapter.from_url(server.url, timeout=0.01)
        asyncio.run(left_behind(adapter))
        cut.clear()
        asyncio.run(later(adapter))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.usefixtures("unclosed")
def test_loops_of_other_threads_lose_no_place_and_leave_no_connection(valkey_server: ValkeyServer) -> None:
    async def beside() -> None:
        await adapter.get("k")
        valkey_server.freeze()
        with contextlib.suppress(StoreError):
            await asyncio.to_thread(asyncio.run, adapter.get("k"))
        valkey_server.thaw()
        for _ in range(3):
            assert await adapter.get("k") is None
            assert await asyncio.to_thread(asyncio.run, adapter.get("k")) is None
        while valkey_server.connections() > 2:  # and the one that asks
            gc.collect()  # what loops that ended left
            await asyncio.sleep(0.001)
        await adapter.aclose()

    adapter = AsyncRedisAdapter.from_url(valkey_server.url, timeout=0.2, max_connections=1)
    asyncio.run(asyncio.wait_for(beside(), 5.0))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.usefixtures("unclosed")
def test_closing_in_another_loop_raises_nothing(valkey: str) -> None:
    adapter = AsyncRedisAdapter.from_url(valkey)

    async def twice() -> None:
        await asyncio.gather(adapter.get("k"), adapter.get("k"))

    asyncio.run(twice())
    asyncio.run(adapter.aclose())


def test_a_connection_that_speaks_before_it_is_asked_is_closed_at_once() -> None:
    class Connection:
        is_connected = True

        def connect(self) -> None:
            pass

        def can_read(self) -> bool:
            return True

        def disconnect(self) -> None:
            self.is_connected = False

    connection: Any = Connection()
    with pytest.raises(ConnectionError, match="before it was asked"):
        Wire(connection)
    assert not connection.is_connected


def test_closing_waits_for_no_farewell_of_tls(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection.dup(), server_side=True) as wrapped:
            while wrapped.recv(65536):
                wrapped.sendall(b"$-1\r\n")
            server.stopping.wait()  # says nothing more

    async def main() -> None:
        adapter = AsyncRedisAdapter.from_url(url, timeout=2.0, ssl_ca_certs=str(certificate))
        assert await adapter.get("k") is None
        await adapter.aclose()

    with FakeServer(serve) as server:
        url = server.url.replace("redis:", "rediss:")
        asyncio.run(main())
        gc.collect()  # a connection that is still open would be complained of


@pytest.fixture
def speaks_tls(certificate: Path) -> Iterator[str]:
    """The URL of a server that answers one question on each connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection.dup(), server_side=True) as wrapped:
            asked = wrapped.recv(65536)
            slots = b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\nlocalhost\r\n:%d\r\n" % server.port
            wrapped.sendall(slots if b"CLUSTER" in asked else b"$3\r\nyes\r\n")

    with FakeServer(serve) as server:
        yield server.url.replace("redis:", "rediss:")


@pytest.fixture
def contexts(monkeypatch: pytest.MonkeyPatch) -> list[ssl.SSLContext]:
    """Every context that is made."""
    made: list[ssl.SSLContext] = []

    def create(create: Any = ssl.create_default_context) -> ssl.SSLContext:
        made.append(create())
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", create)
    return made


def test_the_context_of_tls_is_made_once_before_anybody_waits_for_it(
    open_redis: OpenRedis, certificate: Path, speaks_tls: str, contexts: list[ssl.SSLContext]
) -> None:
    """It takes 20 ms: 60 cold calls of one loop waited 1.6 s, and a store in good health was given up."""
    store = open_redis(speaks_tls, ssl_ca_certs=str(certificate))
    assert len(contexts) == 1
    assert [store.get("k") for _ in range(3)] == [b"yes"] * 3
    assert len(contexts) == 1


def test_the_nodes_of_a_cluster_share_the_context_of_tls(
    certificate: Path, speaks_tls: str, contexts: list[ssl.SSLContext]
) -> None:
    async def main() -> None:
        store = AsyncRedisClusterAdapter.from_url(speaks_tls, **options)
        assert await store.get("k") == b"yes"
        await store.aclose()

    options: dict[str, Any] = {"timeout": 2.0, "ssl_ca_certs": str(certificate), "ssl_check_hostname": False}
    store = RedisClusterAdapter.from_url(speaks_tls, **options)
    assert store.get("k") == b"yes"
    store.close()
    asyncio.run(main())
    assert len(contexts) == 2


def test_a_certificate_that_is_not_there_is_named_at_once(open_redis: OpenRedis) -> None:
    with pytest.raises(MisuseError, match=r"options cannot be used: .*No such file"):
        open_redis("rediss://127.0.0.1", ssl_ca_certs="/not/there")


def test_a_certificate_is_asked_about_where_that_was_wished_for(certificate: Path, speaks_tls: str) -> None:
    store = RedisAdapter.from_url(speaks_tls, timeout=2.0, ssl_ca_certs=str(certificate), ssl_validate_ocsp=True)
    with pytest.raises(StoreError):  # it names nobody to ask
        store.get("k")
    store.close()


def test_a_server_that_hangs_up_instead_of_answering_has_failed(open_redis: OpenRedis) -> None:
    with FakeServer(lambda connection: connection.recv(65536)) as server:
        with pytest.raises(StoreError, match="server closed the connection") as caught:
            open_redis(server.url).get("k")
        assert caught.value.kind is FailureKind.CONNECTION


def test_a_server_that_says_more_than_it_was_asked_while_it_logs_in_is_not_ready(open_redis: OpenRedis) -> None:
    with FakeServer.replying(b"+OK\r\n+MORE\r\n") as server:
        store = open_redis(server.url, password="secret")
        with pytest.raises(StoreError, match="not ready"):
            store.get("k")


def test_an_idle_connection_that_says_something_is_not_used_again(open_redis: OpenRedis) -> None:
    said = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"$-1\r\n")
        time.sleep(0.02)
        connection.sendall(b"$5\r\nother\r\n")
        said.set()
        connection.recv(65536)

    with FakeServer(serve) as server:
        store = open_redis(server.url)
        assert store.get("k") is None
        assert said.wait(5)
        time.sleep(0.02)
        assert store.get("k") is None
        assert server.accepted == 2


def test_each_call_left_behind_has_a_lease_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilient_cache.adapters._redis_clients.SHORTEST_LEASE", 0.05)

    async def lasts(adapter: AsyncRedisAdapter, left: float) -> float:
        start = time.monotonic()
        token = deadline.CURRENT.set((start + left, time.monotonic))
        call = asyncio.ensure_future(adapter.futures.get("k"))
        deadline.CURRENT.reset(token)
        with pytest.raises(StoreError) as caught:
            await call
        assert caught.value.kind is FailureKind.CONNECTION
        return time.monotonic() - start

    async def main(url: str) -> None:
        adapter = AsyncRedisAdapter.from_url(url, timeout=5.0)
        short, long = await asyncio.gather(lasts(adapter, 0.01), lasts(adapter, 0.1))
        assert 0.04 < short < long
        assert long > 0.35
        await adapter.aclose()

    with FakeServer.silent() as server:
        asyncio.run(main(server.url))


def test_the_futures_of_a_closed_adapter_are_a_failed_store(valkey: str) -> None:
    async def main() -> None:
        adapter = AsyncRedisAdapter.from_url(valkey)
        futures = adapter.futures
        await adapter.aclose()
        with pytest.raises(StoreError, match="closed"):
            futures.get("k")

    asyncio.run(main())


def test_a_child_takes_no_connection_of_its_parents(valkey: str) -> None:
    """In one process, which only takes itself for two."""
    adapter = RedisAdapter.from_url(valkey)
    assert adapter.get("k") is None
    inherited = adapter._owned._places
    adapter._owned.forked()
    assert adapter.get("k") is None
    assert inherited[-1].is_silent(), "it is whole, and was not used"
    inherited[-1].close()
    adapter.close()


def test_an_existing_client_is_not_asked_when_no_time_is_left() -> None:
    with (
        FakeServer.replying(b"$-1\r\n") as server,
        redis.Redis(
            port=server.port, socket_timeout=0.2, socket_connect_timeout=0.2, retry=Retry(NoBackoff(), 0)
        ) as client,
    ):
        adapter = RedisAdapter(client)
        token = deadline.CURRENT.set((0.0, time.monotonic))
        try:
            with pytest.raises(StoreError, match="no time left"):
                adapter.get("k")
        finally:
            deadline.CURRENT.reset(token)
        assert server.accepted == 0
