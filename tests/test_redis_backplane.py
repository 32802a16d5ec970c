"""Redis pub/sub as a backplane, beyond its contract: what false servers say, closing, slow subscribers, forks."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from resilient_cache.adapters._redis_pubsub import _AsyncSubscription
from resilient_cache.adapters.redis_backplane import AsyncRedisBackplane, RedisBackplane
from resilient_cache.errors import FailureKind, MisuseError, StoreError
from resilient_cache.testing.plane_contracts import _AwaitedFace, _Face, _Listening

from .servers import FakeServer, ValkeyServer, in_child

pytestmark = pytest.mark.realtime

SLACK = 0.3
SUBSCRIBED = b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"
MESSAGE = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5\r\nhello\r\n"
PONG = b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"
OpenPlane = Callable[..., _Face]


@pytest.fixture(params=["sync", "async"])
def open_plane(request: pytest.FixtureRequest) -> Iterator[OpenPlane]:
    """`from_url` of either colour; what it opened is closed after the test."""
    faces: list[_Face] = []

    def open_one(url: str, **options: Any) -> _Face:
        async def make() -> AsyncRedisBackplane:
            return AsyncRedisBackplane.from_url(url, **options)

        is_sync = request.param == "sync"
        faces.append(_Face(RedisBackplane.from_url(url, **options)) if is_sync else _AwaitedFace(make))
        return faces[-1]

    yield open_one
    for face in faces:
        face.close()
        if isinstance(face, _AwaitedFace):
            face.end()


def failed(call: Callable[[], object]) -> tuple[FailureKind, float]:
    began = time.monotonic()
    with pytest.raises(StoreError) as caught:
        call()
    return caught.value.kind, time.monotonic() - began


def saying(*parts: bytes) -> FakeServer:
    """A server that answers each thing it is told with the next of `parts`, then with nothing."""

    def serve(connection: socket.socket) -> None:
        for part in parts:
            if not connection.recv(65536):
                return
            connection.sendall(part)
        while connection.recv(65536):
            pass

    return FakeServer(serve)


# Made and misused


@pytest.mark.parametrize("kind", [RedisBackplane, AsyncRedisBackplane])
def test_what_cannot_work_is_misuse_and_nothing_is_connected(kind: type[Any]) -> None:
    with pytest.raises(MisuseError, match=f"{kind.__name__}.from_url"):
        kind()
    for options, told in (
        ({"timeout": 0}, "timeout must be above 0 s"),
        ({"ping_every": timedelta(0)}, "ping_every must be above 0 s"),
        ({"ping_every": float("nan")}, "ping_every must be above 0 s"),
        ({"decode_responses": True}, "decode_responses"),
        ({"no_such_option": 1}, "options cannot be used"),
    ):
        with pytest.raises(MisuseError, match=told):
            kind.from_url("redis://127.0.0.1", **options)
    with pytest.raises(MisuseError, match="url cannot be used"):
        kind.from_url("http://127.0.0.1")
    with FakeServer.silent() as server:
        kind.from_url(server.url, timeout=timedelta(seconds=1), ping_every=timedelta(seconds=1))
        assert server.accepted == 0


# Publishing


def test_publishing_keeps_one_connection(open_plane: OpenPlane, valkey_server: ValkeyServer) -> None:
    plane = open_plane(valkey_server.url)
    plane.call("publish", "c", b"m")
    before = valkey_server.connections_ever()
    for _ in range(20):
        plane.call("publish", "c", b"m")
    assert valkey_server.connections_ever() == before + 1, "the one that asks"


@pytest.mark.parametrize("drips", [False, True])
def test_a_publish_that_is_not_acknowledged_is_cut_at_the_total_deadline(open_plane: OpenPlane, drips: bool) -> None:
    with FakeServer.dripping(b":" + b"1" * 100) if drips else FakeServer.silent() as server:
        plane = open_plane(server.url, timeout=0.15)
        kind, seconds = failed(lambda: plane.call("publish", "c", b"m"))
        assert kind is FailureKind.TIMEOUT
        assert 0.14 <= seconds < 0.15 + SLACK


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"-NOPERM no rights to the channel\r\n", FailureKind.AUTH),
        (b"-LOADING the dataset\r\n", FailureKind.UNAVAILABLE),
        (b"+OK\r\n", FailureKind.CONNECTION),
        (b"HTTP/1.1 400\r\n\r\n", FailureKind.CONNECTION),
    ],
)
def test_what_is_no_acknowledgement_fails(open_plane: OpenPlane, reply: bytes, kind: FailureKind) -> None:
    with FakeServer.replying(reply) as server:
        plane = open_plane(server.url)
        assert failed(lambda: plane.call("publish", "c", b"m"))[0] is kind
        assert failed(lambda: plane.call("listen", "c", list, list))[0] is kind


def test_a_channel_that_cannot_be_sent_fails(open_plane: OpenPlane) -> None:
    with FakeServer.silent() as server:
        plane = open_plane(server.url)
        assert failed(lambda: plane.call("publish", "\ud800", b"m"))[0] is FailureKind.PER_KEY
        assert failed(lambda: plane.call("listen", "\ud800", list, list))[0] is FailureKind.PER_KEY


# Listening to false servers


@pytest.mark.parametrize("said", [b"+OK\r\n", MESSAGE, SUBSCRIBED.replace(b"$1\r\nc", b"$1\r\nd")])
def test_it_is_not_ready_when_something_else_is_said(open_plane: OpenPlane, said: bytes) -> None:
    called: list[int] = []
    with saying(said) as server:
        plane = open_plane(server.url)
        kind, _ = failed(lambda: plane.call("listen", "c", lambda: called.append(1), list))
    assert (kind, called) == (FailureKind.CONNECTION, [])


@pytest.mark.parametrize(
    "said",
    [
        b"+PONG\r\n",
        b":1\r\n",
        b"*3\r\n$7\r\nmessage\r\n$5\r\nother\r\n$1\r\nm\r\n",
        b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n:1\r\n",
        b"*3\r\n$11\r\nunsubscribe\r\n$1\r\nc\r\n:0\r\n",
        b"$-1\r\n",
        b"rubbish\r\n",
    ],
)
def test_what_is_no_message_ends_it_after_what_was_one(open_plane: OpenPlane, said: bytes) -> None:
    with saying(SUBSCRIBED + MESSAGE + said) as server:
        listening = _Listening(open_plane(server.url), "c")
        error = listening.outcome.exception(2)
        assert isinstance(error, StoreError)
        assert error.kind is FailureKind.CONNECTION
        assert listening.received == [b"hello"]


def test_it_is_not_ready_before_it_is_subscribed(open_plane: OpenPlane) -> None:
    with FakeServer.silent() as server:
        called: list[int] = []
        plane = open_plane(server.url, timeout=0.1)
        kind, seconds = failed(lambda: plane.call("listen", "c", lambda: called.append(1), list))
        assert (kind, called) == (FailureKind.TIMEOUT, [])
        assert seconds < 0.1 + SLACK


def test_a_message_that_comes_in_two_halves_with_a_question_between_them_is_whole(open_plane: OpenPlane) -> None:
    with saying(SUBSCRIBED + MESSAGE[:20], MESSAGE[20:] + PONG + MESSAGE) as server:
        listening = _Listening(open_plane(server.url, timeout=0.3, ping_every=0.1), "c").wait()
        error = listening.outcome.exception(3)
        assert listening.received == [b"hello", b"hello"]
        assert isinstance(error, StoreError)
        assert error.kind is FailureKind.TIMEOUT


def test_a_server_that_drips_is_given_up(open_plane: OpenPlane) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(SUBSCRIBED)
        for byte in b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$99\r\n" + b"m" * 99:
            if server.stopping.wait(0.03):
                return
            connection.sendall(bytes([byte]))

    with FakeServer(serve) as server:
        listening = _Listening(open_plane(server.url, timeout=0.1, ping_every=0.1), "c").wait()
        kind, seconds = failed(lambda: listening.outcome.result(3))
        assert kind is FailureKind.TIMEOUT
        assert seconds < 0.2 + SLACK


def test_silence_is_asked_about_and_answered(open_plane: OpenPlane, valkey_server: ValkeyServer) -> None:
    listening = _Listening(plane := open_plane(valkey_server.url, ping_every=0.02), "c").wait()
    before = valkey_server.connections_ever()
    time.sleep(0.3)
    assert not listening.outcome.done()
    plane.call("publish", "c", b"m")
    assert listening.up_to(b"m") == [b"m"]
    assert valkey_server.connections_ever() == before + 2, "the one that publishes, and the one that asks"
    assert b"cmd=ping" in client_list(valkey_server)


def client_list(server: ValkeyServer) -> bytes:
    with server.dial() as connection:
        connection.sendall(b"CLIENT LIST TYPE pubsub\r\n")
        return connection.recv(65536)


def test_a_subscriber_too_slow_for_the_server_is_told(open_plane: OpenPlane, valkey_server: ValkeyServer) -> None:
    valkey_server.command("CONFIG", "SET", "client-output-buffer-limit", "pubsub 32768 0 0")
    slow, is_ready = threading.Event(), threading.Event()
    outcome = open_plane(valkey_server.url, timeout=2.0).start("listen", "c", is_ready.set, lambda _: slow.wait(5))
    assert is_ready.wait(5)
    publisher = RedisBackplane.from_url(valkey_server.url, timeout=2.0)
    for _ in range(300):  # more than the kernel's buffers hold
        publisher.publish("c", b"m" * 100_000)
    slow.set()
    error = outcome.exception(5)
    assert isinstance(error, StoreError)
    assert error.kind is FailureKind.CONNECTION
    publisher.close()


# Closing


def test_closing_ends_a_listen_that_waits_at_once(open_plane: OpenPlane, valkey_server: ValkeyServer) -> None:
    plane = open_plane(valkey_server.url, timeout=5.0, ping_every=60.0)
    listening = _Listening(plane, "c").wait()
    began = time.monotonic()
    plane.close()
    assert isinstance(listening.outcome.exception(5), StoreError)
    assert time.monotonic() - began < SLACK
    assert_disconnected(valkey_server)


def test_a_listen_that_the_cache_ends_is_disconnected(open_plane: OpenPlane, valkey_server: ValkeyServer) -> None:
    outcome = open_plane(valkey_server.url).start("listen", "c", {}.popitem, list)
    assert isinstance(outcome.exception(5), KeyError)  # and kept, with all that its frames hold
    assert_disconnected(valkey_server)


def assert_disconnected(valkey_server: ValkeyServer) -> None:
    until = time.monotonic() + 2
    while valkey_server.connections() > 1 and time.monotonic() < until:
        time.sleep(0.005)
    assert valkey_server.connections() == 1, "the one that asks"


def test_closing_ends_a_listen_that_logs_in(open_plane: OpenPlane) -> None:
    asked = threading.Event()

    def serve(connection: socket.socket) -> None:
        while connection.recv(65536):
            asked.set()

    with FakeServer(serve) as server:
        plane = open_plane(server.url, timeout=5.0, password="secret")
        outcome = plane.start("listen", "c", list, list)
        assert asked.wait(5)
        began = time.monotonic()
        plane.close()
        assert isinstance(outcome.exception(8), StoreError)
        assert time.monotonic() - began < (SLACK if isinstance(plane.backplane, RedisBackplane) else 5 + SLACK)


def test_closing_before_there_is_a_connection_ends_it(
    valkey_server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    backplane = RedisBackplane.from_url(valkey_server.url)
    resolve = socket.getaddrinfo

    def close_first(*args: Any, **options: Any) -> Any:
        backplane.close()
        return resolve(*args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", close_first)
    called: list[int] = []
    with pytest.raises(StoreError, match="closed"):
        backplane.listen("c", lambda: called.append(1), called.append)  # type: ignore[arg-type]
    assert called == []


def test_closing_an_async_one_before_there_is_a_connection_ends_it(valkey_server: ValkeyServer) -> None:
    async def main() -> None:
        backplane = AsyncRedisBackplane.from_url(valkey_server.url)
        called: list[int] = []
        listen = asyncio.ensure_future(backplane.listen("c", lambda: called.append(1), lambda _: None))
        await asyncio.sleep(0)
        await backplane.aclose()
        with pytest.raises(StoreError, match="closed"):
            await listen
        assert called == []

    asyncio.run(main())


def test_a_subscription_whose_loop_has_ended_can_be_cut() -> None:
    class Ended:
        transport = property(lambda self: self)
        _writer = property(lambda self: self)

        def abort(self) -> None:
            raise RuntimeError("Event loop is closed")

    _AsyncSubscription(Ended(), 1.0, 1.0).cut()


def test_a_server_that_was_faster_does_not_disturb_closing(valkey_server: ValkeyServer) -> None:
    """The socket of a connection that both ends have left cannot be shut down any more."""
    backplane = RedisBackplane.from_url(valkey_server.url)
    is_ready, go_on = threading.Event(), threading.Event()

    def ready() -> None:
        is_ready.set()
        go_on.wait(5)

    outcome = _Face(backplane).start("listen", "c", ready, list)
    assert is_ready.wait(5)
    valkey_server.kill()
    for subscription in backplane._pubsub._subscriptions:
        subscription._connection._sock.shutdown(socket.SHUT_RDWR)
        subscription._connection._sock.close()
    backplane.close()
    go_on.set()
    assert isinstance(outcome.exception(5), StoreError)


# TLS, forks


def test_tls(open_plane: OpenPlane, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection.dup(), server_side=True) as wrapped:
            for part in (SUBSCRIBED + MESSAGE[:9], MESSAGE[9:] + PONG, PONG, PONG, PONG):
                if not wrapped.recv(65536):
                    return
                wrapped.sendall(part)

    with FakeServer(serve) as server:
        url = server.url.replace("redis:", "rediss:")
        plane = open_plane(url, timeout=2.0, ping_every=0.1, ssl_ca_certs=str(certificate))
        listening = _Listening(plane, "c").wait()
        assert listening.up_to(b"hello") == [b"hello"]
        began = time.monotonic()
        plane.close()
        assert isinstance(listening.outcome.exception(5), StoreError)
        assert time.monotonic() - began < SLACK


def heard(plane: RedisBackplane, channel: str) -> list[bytes]:
    """What one hears of one's own message."""
    listening = _Listening(_Face(plane), channel).wait()
    plane.publish(channel, b"mine")
    return listening.up_to(b"mine")


def test_what_a_child_starts_with_is_closed_by_its_parent(open_plane: OpenPlane, valkey_server: ValkeyServer) -> None:
    """What a fork calls in the child, called here, where it can be seen that nothing is cut."""
    plane = open_plane(valkey_server.url)
    listening = _Listening(plane, "c").wait()
    plane.backplane._pubsub.forked()
    plane.close()
    valkey_server.command("PUBLISH", "c", "m")
    assert listening.up_to(b"m") == [b"m"]
    valkey_server.kill()
    assert isinstance(listening.outcome.exception(5), StoreError)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_has_connections_of_its_own(valkey_server: ValkeyServer) -> None:
    plane = RedisBackplane.from_url(valkey_server.url, ping_every=0.05)
    listening = _Listening(_Face(plane), "c").wait()
    plane.publish("c", b"before")

    def work() -> bool:
        plane.publish("c", b"from the child")
        done = heard(plane, "child") == [b"mine"]
        plane.close()
        return done

    assert in_child(work)
    plane.publish("c", b"after")
    assert listening.up_to(b"after") == [b"before", b"from the child", b"after"]
    plane.close()
    assert isinstance(listening.outcome.exception(5), StoreError)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_has_async_connections_of_its_own(valkey_server: ValkeyServer) -> None:
    plane = AsyncRedisBackplane.from_url(valkey_server.url, ping_every=0.05)
    got: list[bytes] = []

    async def listen(channel: str, own: list[bytes]) -> asyncio.Task[None]:
        is_ready = asyncio.Event()
        task = asyncio.ensure_future(plane.listen(channel, is_ready.set, own.append))
        await is_ready.wait()
        return task

    async def until(own: list[bytes], last: bytes) -> list[bytes]:
        for _ in range(2500):
            if last in own:
                break
            await asyncio.sleep(0.002)
        return own

    async def in_the_child() -> bool:
        own: list[bytes] = []
        task = await listen("child", own)
        await plane.publish("c", b"from the child")
        await plane.publish("child", b"mine")
        done = await until(own, b"mine") == [b"mine"]
        await plane.aclose()
        await asyncio.wait({task})
        return done and isinstance(task.exception(), StoreError)

    def work() -> bool:
        asyncio._set_running_loop(None)
        return asyncio.run(in_the_child())

    async def main() -> None:
        task = await listen("c", got)
        await plane.publish("c", b"before")
        assert in_child(work)
        await plane.publish("c", b"after")
        assert await until(got, b"after") == [b"before", b"from the child", b"after"]
        await plane.aclose()
        await asyncio.wait({task})

    asyncio.run(main())
