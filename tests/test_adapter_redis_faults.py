"""Redis and Valkey as a store while the server freezes, drips, dies and comes back, and callers give up."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from resilient_cache import deadline
from resilient_cache.adapters import _redis_clients as clients
from resilient_cache.adapters._redis_deadline import Deadline
from resilient_cache.adapters.redis import AsyncRedisAdapter, RedisAdapter
from resilient_cache.errors import FailureKind, StoreError

from .colours import OpenRedis
from .servers import FakeServer, ValkeyServer

pytestmark = pytest.mark.realtime

TIMEOUT = 0.2
SLACK = 0.15
"""What a loaded machine may add; a byte that resets the timer would add a second."""


@contextmanager
def operation(seconds: float) -> Iterator[None]:
    """As a cache does around every call to a store."""
    token = deadline.CURRENT.set((time.monotonic() + seconds, time.monotonic))
    try:
        yield
    finally:
        deadline.CURRENT.reset(token)


def assert_cut(call: Callable[[], object], after: float = TIMEOUT) -> None:
    start = time.monotonic()
    with pytest.raises(StoreError) as caught:
        call()
    elapsed = time.monotonic() - start
    assert caught.value.kind is FailureKind.TIMEOUT
    assert after * 0.9 <= elapsed < after + SLACK


# Deadlines


def test_a_frozen_server_is_cut_at_the_deadline_and_its_late_reply_reaches_nobody(
    valkey_server: ValkeyServer, open_redis: OpenRedis
) -> None:
    store = open_redis(valkey_server.url, timeout=TIMEOUT)
    store.set("a", b"a", 60.0)
    store.set("b", b"b", 60.0)
    for _ in range(3):
        valkey_server.freeze()
        assert_cut(lambda: store.get("a"))
        assert_cut(lambda: store.get("a"))  # on a new connection, which the kernel of a frozen server accepts
        valkey_server.thaw()
        assert store.get("b") == b"b"


@pytest.mark.parametrize("reply", [b"$100\r\n" + b"v" * 100, b"+" + b"v" * 100], ids=["bulk", "line"])
def test_a_dripping_server_is_cut_at_the_total_deadline(open_redis: OpenRedis, reply: bytes) -> None:
    with FakeServer.dripping(reply) as server:
        store = open_redis(server.url, timeout=TIMEOUT)
        assert_cut(lambda: store.get("k"))


def test_a_handshake_that_drips_is_cut_at_the_total_deadline(open_redis: OpenRedis) -> None:
    with FakeServer.dripping(b"+" + b"v" * 100) as server:
        store = open_redis(f"{server.url}/1", timeout=TIMEOUT, password="secret")
        assert_cut(lambda: store.get("k"))


def test_a_server_that_reads_nothing_is_cut_at_the_total_deadline(open_redis: OpenRedis) -> None:
    def serve(connection: socket.socket) -> None:
        server.stopping.wait(10)

    with FakeServer(serve) as server:
        store = open_redis(server.url, timeout=TIMEOUT)
        assert_cut(lambda: store.set("k", b"v" * 16_000_000, 60.0))


def test_the_time_left_of_an_operation_shortens_the_timeout() -> None:
    with FakeServer.dripping(b"$100\r\n" + b"v" * 100) as server:
        adapter = RedisAdapter.from_url(server.url, timeout=5.0)
        with operation(TIMEOUT):
            assert_cut(lambda: adapter.get("k"))
        adapter.close()


@pytest.mark.parametrize("drips", [False, True])
def test_tls_is_spoken_and_cut_at_the_total_deadline(open_redis: OpenRedis, certificate: Path, drips: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection.dup(), server_side=True) as wrapped:
            while wrapped.recv(65536):
                for byte in b"$3\r\nyes\r\n":
                    wrapped.sendall(bytes([byte]))
                    if drips and server.stopping.wait(0.05):
                        return

    with FakeServer(serve) as server:
        url = server.url.replace("redis:", "rediss:")
        store = open_redis(url, timeout=TIMEOUT if drips else 2.0, ssl_ca_certs=str(certificate))
        if drips:
            assert_cut(lambda: store.get("k"))
        else:
            assert [store.get("k") for _ in range(3)] == [b"yes"] * 3
            assert server.accepted == 1


def test_tls_that_never_shakes_hands_is_cut_and_one_that_is_not_trusted_fails(
    open_redis: OpenRedis, certificate: Path
) -> None:
    with FakeServer.silent() as server:
        store = open_redis(server.url.replace("redis:", "rediss:"), timeout=TIMEOUT)
        assert_cut(lambda: store.get("k"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with FakeServer(lambda connection: context.wrap_socket(connection.dup(), server_side=True).close()) as server:
        store = open_redis(server.url.replace("redis:", "rediss:"), timeout=2.0)
        with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            store.get("k")
        assert caught.value.kind is FailureKind.CONNECTION


def test_nothing_is_sent_or_received_once_the_deadline_has_passed() -> None:
    limit = Deadline()
    with pytest.raises(TimeoutError):
        limit.left()
    limit.start(60.0)
    assert 59.0 < limit.left() <= 60.0


# Left behind by a cache


def test_in_an_operation_a_slow_read_goes_on_and_its_connection_survives(valkey_server: ValkeyServer) -> None:
    async def main() -> None:
        adapter = AsyncRedisAdapter.from_url(valkey_server.url, timeout=0.05)
        await adapter.set("k", b"v", 60.0)
        before = valkey_server.connections_ever()
        valkey_server.freeze()
        with operation(0.05):
            read = asyncio.create_task(adapter.get("k"))
        done, _ = await asyncio.wait({read}, timeout=0.3)
        assert not done
        valkey_server.thaw()
        assert await read == b"v"
        assert await adapter.get("k") == b"v"
        assert valkey_server.connections_ever() == before + 1, "the one that asks"
        await adapter.aclose()

    asyncio.run(main())


def test_what_was_left_behind_is_cut_when_its_lease_ends(
    valkey_server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "SHORTEST_LEASE", 0.1)

    async def main() -> None:
        adapter = AsyncRedisAdapter.from_url(valkey_server.url, timeout=0.05)
        await adapter.set("k", b"v", 60.0)
        valkey_server.freeze()
        start = time.monotonic()
        with operation(0.05), pytest.raises(StoreError) as caught:
            await adapter.get("k")
        assert caught.value.kind is FailureKind.CONNECTION
        assert 0.15 < time.monotonic() - start < 0.2 + SLACK
        valkey_server.thaw()
        assert await adapter.get("k") == b"v"
        await adapter.aclose()

    asyncio.run(main())


def test_in_an_operation_connecting_is_bounded_all_the_same() -> None:
    async def main(url: str) -> None:
        adapter = AsyncRedisAdapter.from_url(url, timeout=TIMEOUT, password="secret")
        start = time.monotonic()
        with operation(5.0), pytest.raises(StoreError) as caught:
            await adapter.get("k")
        assert caught.value.kind is FailureKind.TIMEOUT
        assert time.monotonic() - start < TIMEOUT + SLACK
        await adapter.aclose()

    with FakeServer.silent() as server:
        asyncio.run(main(server.url))


# Servers that die and come back


def test_a_restart_costs_no_idle_connection_a_failure(valkey_server: ValkeyServer) -> None:
    adapter = RedisAdapter.from_url(valkey_server.url, timeout=5.0)
    valkey_server.freeze()
    threads = [threading.Thread(target=adapter.get, args=("k",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    valkey_server.thaw()
    for thread in threads:
        thread.join()
    assert valkey_server.connections() == 9
    valkey_server.restart()
    for _ in range(16):
        assert adapter.get("k") is None
    adapter.close()


def test_a_restart_costs_no_idle_async_connection_a_failure(valkey_server: ValkeyServer) -> None:
    async def main() -> None:
        adapter = AsyncRedisAdapter.from_url(valkey_server.url)
        await asyncio.gather(*(adapter.get("k") for _ in range(8)))
        assert valkey_server.connections() == 9
        await asyncio.to_thread(valkey_server.restart)
        assert await asyncio.gather(*(adapter.get("k") for _ in range(8))) == [None] * 8
        await adapter.aclose()

    asyncio.run(main())


def test_a_killed_server_fails_at_once_and_is_used_again_when_it_is_back(
    valkey_server: ValkeyServer, open_redis: OpenRedis
) -> None:
    store = open_redis(valkey_server.url)
    store.set("k", b"v", 60.0)
    valkey_server.kill()
    times: list[float] = []
    for _ in range(3):
        start = time.monotonic()
        with pytest.raises(StoreError) as caught:
            store.get("k")
        assert caught.value.kind is FailureKind.CONNECTION
        times.append(time.monotonic() - start)
    assert min(times) < 0.05
    valkey_server.start()
    assert store.get("k") is None


# Callers that give up


def serve_slowly(connection: socket.socket) -> None:
    """Answers GET with its key, after a moment: a reply of somebody else shows."""
    reader = connection.makefile("rb")
    with reader:
        while reader.readline():
            for _ in range(3):
                reader.readline()
            key = reader.readline().strip()
            time.sleep(0.002)
            connection.sendall(b"$%d\r\n%b\r\n" % (len(key), key))


def test_two_hundred_cancelled_readers_disturb_nobody() -> None:
    async def main(url: str) -> None:
        adapter = AsyncRedisAdapter.from_url(url, timeout=5.0)
        accepted = 0
        for number in range(200):
            read = asyncio.create_task(adapter.get(f"cancelled-{number}"))
            for _ in range(number % 10):
                await asyncio.sleep(0)
            in_time = read.cancel()
            other = f"kept-{number}"
            assert await adapter.get(other) == other.encode()
            await asyncio.wait({read})
            assert read.cancelled() == in_time, "an accepted cancellation is never swallowed"
            accepted += in_time
        assert accepted > 100
        await adapter.aclose()

    with FakeServer(serve_slowly) as server:
        asyncio.run(main(server.url))


def test_a_sync_reader_that_is_interrupted_leaves_no_reply_behind(valkey_server: ValkeyServer) -> None:
    class Interrupt(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupt

    adapter = RedisAdapter.from_url(valkey_server.url, timeout=5.0)
    adapter.set("a", b"a", 60.0)
    adapter.set("b", b"b", 60.0)
    valkey_server.freeze()
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(Interrupt):
            adapter.get("a")
    finally:
        signal.signal(signal.SIGALRM, before)
        valkey_server.thaw()
    assert adapter.get("b") == b"b"
    adapter.close()


def test_threads_share_an_adapter_and_get_their_own_replies() -> None:
    wrong: list[object] = []

    def read(number: int) -> None:
        for turn in range(20):
            key = f"{number}-{turn}"
            got = adapter.get(key)
            if got != key.encode():
                wrong.append((key, got))

    with FakeServer(serve_slowly) as server:
        adapter = RedisAdapter.from_url(server.url, timeout=5.0)
        threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        adapter.close()
        assert server.accepted <= 8
    assert wrong == []


@contextmanager
def one_slow_answer() -> Iterator[tuple[str, threading.Event, threading.Event]]:
    """The URL of a server that answers nil after a while; set when it was asked, and when the client hung up."""
    asked, left = threading.Event(), threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        asked.set()
        time.sleep(0.05)
        connection.sendall(b"$-1\r\n")
        if not connection.recv(65536):
            left.set()

    with FakeServer(serve) as server:
        yield server.url, asked, left


def test_closing_lets_a_busy_call_end_and_then_closes_its_connection() -> None:
    with one_slow_answer() as (url, asked, left):
        adapter = RedisAdapter.from_url(url, timeout=5.0)
        results: list[object] = []
        thread = threading.Thread(target=lambda: results.append(adapter.get("k")))
        thread.start()
        assert asked.wait(5)
        adapter.close()
        thread.join()
        assert results == [None]
        assert left.wait(5)


def test_closing_lets_a_busy_async_call_end_and_then_closes_its_connection() -> None:
    async def main(url: str, asked: threading.Event, left: threading.Event) -> None:
        adapter = AsyncRedisAdapter.from_url(url, timeout=5.0)
        read = asyncio.create_task(adapter.get("k"))
        assert await asyncio.to_thread(asked.wait, 5)
        await adapter.aclose()
        assert await read is None
        assert await asyncio.to_thread(left.wait, 5)

    with one_slow_answer() as served:
        asyncio.run(main(*served))
