"""The proxy that makes a wire bad does what its table says, to open connections and to new ones, and leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import random
import socket
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import pytest

from resilient_cache.testing import ChaosProxy, WireFault
from resilient_cache.testing import proxy as proxies

from .servers import FakeServer, free_port

pytestmark = pytest.mark.realtime

T = TypeVar("T")

REPLY = b"0123456789"


@contextmanager
def echoing() -> Iterator[tuple[ChaosProxy, FakeServer]]:
    with FakeServer.replying(REPLY) as server, ChaosProxy(server.port) as proxy:
        yield proxy, server


@contextmanager
def dialled(proxy: ChaosProxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=2) as connection:
        yield connection


def asked(connection: socket.socket, size: int = len(REPLY)) -> bytes:
    """What comes in answer to one question: up to `size` bytes, less when the connection ends before."""
    connection.sendall(b"?")
    return received(connection, size)


def received(connection: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size and (more := connection.recv(size - len(got))):
        got += more
    return got


def first_byte(proxy: ChaosProxy) -> bytes:
    with dialled(proxy) as line:
        return line.recv(1)


def test_all_is_well_until_a_fault_is_injected_and_after_it_is_healed() -> None:
    with echoing() as (proxy, _), dialled(proxy) as line:
        assert asked(line) == REPLY
        proxy.inject(WireFault.GARBAGE)
        assert asked(line, 8) == b"HTTP/1.1"
        proxy.heal()
        received(line, 20)
        assert asked(line) == REPLY


def test_a_reply_is_delayed() -> None:
    with echoing() as (proxy, _), dialled(proxy) as line:
        proxy.inject(WireFault.DELAY, 0.1)
        began = time.monotonic()
        assert asked(line) == REPLY
        assert 0.1 <= time.monotonic() - began < 1


def test_a_reply_drips_and_flows_again_when_healed() -> None:
    with echoing() as (proxy, _), dialled(proxy) as line:
        proxy.inject(WireFault.DRIP, 0.02)
        began = time.monotonic()
        assert asked(line) == REPLY
        assert time.monotonic() - began >= 0.02 * (len(REPLY) - 1)
        proxy.inject(WireFault.DRIP, 0.2)
        assert asked(line, 1) == REPLY[:1]
        proxy.heal()
        began = time.monotonic()
        assert received(line, len(REPLY) - 1) == REPLY[1:]
        assert time.monotonic() - began < 1


def test_a_hole_holds_what_is_sent_and_gives_it_back() -> None:
    with echoing() as (proxy, _), dialled(proxy) as line:
        proxy.inject(WireFault.HOLE)
        line.settimeout(0.1)
        with pytest.raises(TimeoutError):
            asked(line)
        line.settimeout(2)
        proxy.heal()
        assert received(line, len(REPLY)) == REPLY


def test_half_of_a_reply_and_then_a_reset() -> None:
    with echoing() as (proxy, _), dialled(proxy) as line:
        proxy.inject(WireFault.RESET)
        assert asked(line, 5) == REPLY[:5]
        with pytest.raises(ConnectionResetError):
            line.recv(1)


def test_a_cut_resets_what_is_open_and_what_comes_and_a_healed_wire_takes_calls() -> None:
    with echoing() as (proxy, server), dialled(proxy) as line:
        assert asked(line) == REPLY
        proxy.inject(WireFault.CUT)
        with pytest.raises(ConnectionResetError):
            line.recv(1)
        with pytest.raises(ConnectionResetError):
            first_byte(proxy)
        assert server.accepted == 1
        proxy.heal()
        with dialled(proxy) as other:
            assert asked(other) == REPLY


def test_a_wire_that_flaps_is_cut_and_well_in_turns() -> None:
    def outcome() -> bool:
        try:
            with dialled(proxy) as line:
                return asked(line) == REPLY
        except OSError:
            return False

    with echoing() as (proxy, _):
        proxy.inject(WireFault.FLAP, 0.1)
        assert not outcome()
        until, seen = time.monotonic() + 5, [False]
        while len(seen) < 4 and time.monotonic() < until:
            now = outcome()
            seen += [now] if now != seen[-1] else []
            time.sleep(0.005)
    assert seen == [False, True, False, True]


def test_a_flap_reaches_a_connection_that_was_made_while_all_was_well() -> None:
    def replies() -> int:
        """How many a new connection gets until it is reset."""
        count = 0
        with contextlib.suppress(ConnectionError), dialled(proxy) as line:
            while asked(line) == REPLY:
                count += 1
                assert count < 500, "it is never reset"
                time.sleep(0.01)
        return count

    with echoing() as (proxy, _):
        proxy.inject(WireFault.FLAP, 0.1)
        assert any(replies() for _ in range(5_000))


def test_without_a_server_connections_are_closed() -> None:
    with ChaosProxy(free_port()) as proxy, dialled(proxy) as line:
        assert received(line, 1) == b""


def test_a_client_that_resets_and_one_that_hangs_up_disturb_nobody() -> None:
    with echoing() as (proxy, _), dialled(proxy) as line:
        for linger in (b"", struct.pack("ii", 1, 0)):
            with dialled(proxy) as other:
                assert asked(other) == REPLY
                if linger:
                    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        assert asked(line) == REPLY


def test_an_asyncio_client_may_inject_from_within_its_loop() -> None:
    async def main(proxy: ChaosProxy) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"?")
        assert await reader.readexactly(len(REPLY)) == REPLY
        proxy.inject(WireFault.CUT)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()

    with echoing() as (proxy, _):
        asyncio.run(main(proxy))


def test_nothing_is_left() -> None:
    before = set(threading.enumerate())
    with FakeServer.silent() as server:
        with ChaosProxy(server.port) as proxy:
            lines = [socket.create_connection(("127.0.0.1", proxy.port), timeout=2) for _ in range(3)]
            lines[0].sendall(b"?")
            proxy.inject(WireFault.HOLE)
            lines[1].sendall(b"?")
        for line in lines:
            with line, contextlib.suppress(ConnectionResetError):  # of a proxy that had not read everything
                assert line.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", proxy.port), timeout=2)
    assert set(threading.enumerate()) == before


def test_a_port_that_cannot_be_had_leaves_nothing_either(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("no port")

    before = set(threading.enumerate())
    monkeypatch.setattr(socket, "create_server", refused)
    with pytest.raises(OSError, match="no port"), ChaosProxy(1):
        raise AssertionError("entered")
    assert set(threading.enumerate()) == before


def test_seconds_are_above_none() -> None:
    with pytest.raises(ValueError, match="seconds must be above 0, not 0"):
        ChaosProxy(1).inject(WireFault.FLAP, 0)


# A well wire is as none


@contextmanager
def serving(serve: Callable[[socket.socket], object]) -> Iterator[ChaosProxy]:
    """A proxy before a server that does `serve` with its one connection, and closes it."""

    def accept() -> None:
        connection, _ = listener.accept()
        with connection:
            serve(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        with ChaosProxy(listener.getsockname()[1]) as proxy:
            yield proxy
        thread.join()


def test_who_has_said_all_is_still_answered() -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"got " + received(connection, 100))

    with serving(serve) as proxy, dialled(proxy) as line:
        line.sendall(b"hello")
        line.shutdown(socket.SHUT_WR)
        assert received(line, 100) == b"got hello"


def test_a_reply_is_whole_for_a_slow_reader_although_the_server_has_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def narrow(*args: Any, **options: Any) -> socket.socket:
        listener = create(*args, **options)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # of what it accepts too
        return listener

    create, size = socket.create_server, 60_000
    monkeypatch.setattr(socket, "create_server", narrow)
    with serving(lambda connection: connection.sendall(bytes(size))) as proxy, socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.settimeout(5)
        line.connect(("127.0.0.1", proxy.port))
        line.shutdown(socket.SHUT_WR)
        time.sleep(0.3)
        assert len(received(line, size + 1)) == size


@pytest.mark.parametrize("slow", [WireFault.DRIP, WireFault.DELAY])
@pytest.mark.parametrize("fault", [WireFault.HOLE, WireFault.GARBAGE, WireFault.RESET, WireFault.CUT])
def test_a_fault_counts_for_the_reply_that_is_under_way(slow: WireFault, fault: WireFault) -> None:
    with echoing() as (proxy, _), dialled(proxy) as line:
        proxy.inject(slow, 0.4)
        line.sendall(b"?")
        head = received(line, 1) if slow is WireFault.DRIP else b""
        time.sleep(0.1)
        proxy.inject(fault)
        if fault is WireFault.HOLE:
            line.settimeout(0.6)
            with pytest.raises(TimeoutError):
                line.recv(1)
            line.settimeout(2)
            proxy.heal()
            assert head + received(line, len(REPLY) - len(head)) == REPLY
        elif fault is WireFault.GARBAGE:
            assert received(line, 8) == b"HTTP/1.1"
        else:
            rest = REPLY[len(head) :]
            half = len(rest) // 2 if fault is WireFault.RESET else 0
            assert received(line, half) == rest[:half]
            with pytest.raises(ConnectionResetError):
                line.recv(1)


def test_a_flap_cuts_at_each_of_its_turns_whoever_is_idle_too() -> None:
    with echoing() as (proxy, _):
        proxy.inject(WireFault.FLAP, 0.2)
        for _ in range(2):
            time.sleep(0.1)
            while True:
                with contextlib.suppress(ConnectionError), dialled(proxy) as line:
                    if asked(line) == REPLY:
                        with pytest.raises(ConnectionResetError):
                            line.recv(1)
                        break
                time.sleep(0.01)


def test_who_leaves_right_after_a_connect_leaves_nothing() -> None:
    with warnings.catch_warnings(record=True) as told, socket.create_server(("127.0.0.1", 0)) as listener:
        warnings.simplefilter("always")
        for _ in range(40):
            with ChaosProxy(listener.getsockname()[1]) as proxy, dialled(proxy):
                pass
        gc.collect()
    assert not told


# Ends


BIG = random.Random(1).randbytes(1 << 20)


def all_of(line: socket.socket) -> tuple[bytes, type[OSError] | None]:
    """What comes until the end, and the error that is the end."""
    got = bytearray()
    try:
        while more := line.recv(65_536):
            got += more
    except OSError as error:
        return bytes(got), type(error)
    return bytes(got), None


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def soon(seen: list[T]) -> list[T]:
    """What is seen, once there is something."""
    until = time.monotonic() + 5
    while not seen and time.monotonic() < until:
        time.sleep(0.01)
    return seen


@contextmanager
def dialled_wide(proxy: ChaosProxy) -> Iterator[socket.socket]:
    """A connection that takes in a whole reply, whoever reads it and when."""
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        line.settimeout(5)
        line.connect(("127.0.0.1", proxy.port))
        yield line


@pytest.mark.parametrize("fault", [None, WireFault.DELAY, WireFault.HOLE])
@pytest.mark.parametrize("asked", [b"?", b"??"])
def test_a_reply_and_then_a_reset_by_the_server_is_both(fault: WireFault | None, asked: bytes) -> None:
    """Or a reply that ends with its connection is cut short and looks whole."""

    def serve(connection: socket.socket) -> None:
        connection.recv(1)
        connection.sendall(BIG[:200_000])
        time.sleep(0.1)
        if len(asked) == 1:
            reset(connection)  # else it closes with a byte unread, and the system resets

    with serving(serve) as proxy, dialled_wide(proxy) as line:
        if fault:
            proxy.inject(fault, 0.2)
        line.sendall(asked)
        time.sleep(0.4)
        proxy.heal()
        assert all_of(line) == (BIG[:200_000], ConnectionResetError)


def test_a_reset_is_seen_by_who_is_sending() -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(1)
        connection.sendall(REPLY)

    with serving(serve) as proxy, dialled(proxy) as line:
        line.sendall(bytes(100_000))
        assert all_of(line) == (REPLY, ConnectionResetError)


def test_a_reset_by_the_client_is_one_for_the_server() -> None:
    seen: list[object] = []
    with serving(lambda connection: seen.append(all_of(connection))) as proxy, dialled(proxy) as line:
        line.sendall(b"?")
        time.sleep(0.1)
        reset(line)
        assert soon(seen) == [(b"?", ConnectionResetError)]


@pytest.mark.parametrize("end", [reset, socket.socket.close])
def test_no_end_gets_out_of_a_hole(end: Callable[[socket.socket], None]) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(1)
        holed.wait(5)
        end(connection)

    holed = threading.Event()
    with serving(serve) as proxy, dialled(proxy) as line:
        line.sendall(b"?")
        time.sleep(0.1)
        proxy.inject(WireFault.HOLE)
        holed.set()
        line.settimeout(0.2)
        assert all_of(line) == (b"", TimeoutError)
        proxy.heal()
        line.settimeout(2)
        assert all_of(line) == (b"", ConnectionResetError if end is reset else None)


def test_what_was_said_in_a_hole_arrives_although_who_said_it_has_left() -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(1)
        asked.wait(5)
        connection.sendall(REPLY)  # to nobody
        seen.append(all_of(connection)[0])

    seen: list[bytes] = []
    asked = threading.Event()
    with serving(serve) as proxy:
        with dialled(proxy) as line:
            line.sendall(b"?")
            time.sleep(0.1)
            proxy.inject(WireFault.HOLE)
            asked.set()
            line.sendall(BIG[:200_000])
        time.sleep(0.1)
        proxy.heal()
        assert soon(seen) == [BIG[:200_000]]


@pytest.mark.parametrize("asked", [1, 20])
def test_a_delay_is_once_for_each_reply(asked: int) -> None:
    """However large it is, and however many come within it."""

    def serve(connection: socket.socket) -> None:
        connection.recv(1)
        for number in range(asked):
            connection.sendall(BIG[number * size :][:size])
            time.sleep(0.02)
        connection.recv(1)

    size = len(BIG) if asked == 1 else 1
    with serving(serve) as proxy, dialled(proxy) as line:
        proxy.inject(WireFault.DELAY, 0.5)
        line.sendall(b"?")
        began = time.monotonic()
        for number in range(asked):
            assert received(line, size) == BIG[number * size :][:size]
            assert 0.49 <= time.monotonic() - began - 0.02 * number < 0.8


def test_who_sends_without_end_into_a_hole_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(1)
        connection.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            while len(sent) < 100:
                connection.sendall(BIG)
                sent.append(len(BIG))

    sent: list[int] = []
    monkeypatch.setattr(proxies, "AHEAD", 2)
    with serving(serve) as proxy, dialled(proxy) as line:
        line.sendall(b"?")
        time.sleep(0.05)
        proxy.inject(WireFault.HOLE)
        time.sleep(0.5)
        assert len(sent) < 100


# Life


def test_who_injects_while_the_context_ends_does_not_hang() -> None:
    def chaos(proxy: ChaosProxy) -> None:
        with contextlib.suppress(RuntimeError):  # it is over
            while True:
                proxy.inject(WireFault.CUT)
                proxy.heal()

    for _ in range(50):
        with ChaosProxy(free_port()) as proxy:
            thread = threading.Thread(target=chaos, args=[proxy], daemon=True)
            thread.start()
            time.sleep(0.003)
        thread.join(5)
        assert not thread.is_alive()


def test_a_wire_that_several_threads_let_flap_is_healed() -> None:
    with FakeServer.silent() as server, ChaosProxy(server.port) as proxy, contextlib.ExitStack() as lines:
        for _ in range(10):
            for _ in range(20):
                lines.enter_context(dialled(proxy))
            time.sleep(0.02)
            threads = [threading.Thread(target=proxy.inject, args=(WireFault.FLAP, 0.02)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            proxy.heal()
            with dialled(proxy) as line:
                line.settimeout(0.1)
                assert all_of(line) == (b"", TimeoutError)


def test_without_a_file_descriptor_for_a_connection_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(listener: socket.socket) -> Any:
        if threading.current_thread().name != "chaos proxy":
            return accept(listener)
        refusals.append(1)
        raise OSError(errno.EMFILE, "too many open files")

    accept, refusals = socket.socket.accept, list[int]()
    with echoing() as (proxy, _):
        with monkeypatch.context() as patched:
            patched.setattr(socket.socket, "accept", refused)
            line = socket.create_connection(("127.0.0.1", proxy.port), timeout=2)
            time.sleep(0.35)
        with line:
            assert asked(line) == REPLY
    assert 2 <= len(refusals) <= 5


@pytest.mark.parametrize("host", ["a" * 70, "x..y"])
def test_what_is_no_name_of_a_host_is_one_that_nobody_knows(host: str) -> None:
    with pytest.raises(OSError, match="is no name of a host"), ChaosProxy(1, host):
        raise AssertionError("entered")


def test_every_address_of_a_host_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def addresses(_: str, port: int, *kind: int) -> list[Any]:
        return [known("127.0.0.1", each, *kind)[0] for each in (free_port(), port)]

    known = socket.getaddrinfo
    with FakeServer.replying(REPLY) as server, contextlib.ExitStack() as entered:
        with monkeypatch.context() as patched:
            patched.setattr(socket, "getaddrinfo", addresses)
            proxy = entered.enter_context(ChaosProxy(server.port, "two.example"))
        with dialled(proxy) as line:
            assert asked(line) == REPLY


def test_a_fault_may_be_given_by_its_name() -> None:
    name: Any = "garbage"
    with echoing() as (proxy, _), dialled(proxy) as line:
        proxy.inject(name)
        assert asked(line, 8) == b"HTTP/1.1"
        with pytest.raises(ValueError, match=r"fault must be one of delay, .*, flap, not 'nonsense'"):
            proxy.inject(cast("Any", "nonsense"))


def test_outside_its_context_there_is_no_wire() -> None:
    with FakeServer.replying(REPLY) as server:
        proxy = ChaosProxy(server.port)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="only within its context"):
                proxy.inject(WireFault.CUT)
            with pytest.raises(RuntimeError, match="only within its context"):
                proxy.heal()
            with proxy, dialled(proxy) as line:
                assert asked(line) == REPLY  # what it had before is forgotten
                proxy.inject(WireFault.FLAP)
                with pytest.raises(RuntimeError, match="entered already"):
                    proxy.__enter__()
            proxy.__exit__()


@pytest.mark.parametrize(
    ("port", "host", "error", "said"),
    [
        ("abc", "127.0.0.1", TypeError, "port must be int, not 'abc'"),
        (0, "127.0.0.1", ValueError, "port must be from 1 to 65535, not 0"),
        (65_536, "127.0.0.1", ValueError, "port must be from 1 to 65535, not 65536"),
        (1, None, TypeError, "host must be str, not None"),
    ],
)
def test_a_place_that_cannot_be_is_said(port: Any, host: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        ChaosProxy(port, host)


def test_a_host_that_nobody_knows_is_no_server_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror("not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(socket.gaierror, match="not known"), ChaosProxy(1, "nowhere.invalid"):
        raise AssertionError("entered")
