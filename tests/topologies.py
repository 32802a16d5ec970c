"""Several real servers that are one store: a cluster of primaries, and a master with a replica and a sentinel."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from .servers import ValkeyServer, free_port

__all__ = ["Cluster", "Guarded", "until"]

MEMBER = ["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no", "--cluster-node-timeout", "1000"]


def until(true: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Wait for something that the servers do by themselves."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.02)


class _Several:
    """Ends all of its servers, in whatever state."""

    def __init__(self) -> None:
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.close()


class Cluster(_Several):
    """Primaries on loopback that share the slots evenly, without replicas; a failed one takes its own slots with it.

    They wait so long for each other that none is voted out during a test. Each takes 2 s to speak after a start.
    """

    def __init__(self, size: int = 3) -> None:
        super().__init__()
        buses = [free_port() for _ in range(size)]
        self.nodes = [self.stack.enter_context(ValkeyServer(*MEMBER, "--cluster-port", str(bus))) for bus in buses]
        self.urls = [node.url for node in self.nodes]
        self.names = [f"127.0.0.1:{node.port}" for node in self.nodes]
        for number, node in enumerate(self.nodes):
            first, after = (REDIS_CLUSTER_HASH_SLOTS * at // size for at in (number, number + 1))
            assert node.command("CLUSTER", "ADDSLOTSRANGE", str(first), str(after - 1)) == b"+OK"
            node.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            if number:
                node.command("CLUSTER", "MEET", "127.0.0.1", str(self.nodes[0].port), str(buses[0]))
        until(lambda: all(self.is_well(node, size) for node in self.nodes), "the nodes do not find each other")

    def freeze(self) -> None:
        """All of it."""
        for node in self.nodes:
            node.freeze()

    def thaw(self) -> None:
        for node in self.nodes:
            node.thaw()

    @staticmethod
    def is_well(node: ValkeyServer, size: int) -> bool:
        """Whether the node knows so many that are well."""
        told = node.text("CLUSTER", "INFO")
        wanted = ("cluster_state:ok", f"cluster_known_nodes:{size}", "cluster_slots_ok:16384")
        return all(f"{line}\r" in told for line in wanted)

    def node_of(self, key: str) -> int:
        """Which of `nodes` owned the key's slot in the beginning."""
        return key_slot(key.encode()) * len(self.nodes) // REDIS_CLUSTER_HASH_SLOTS

    def keys_on(self, number: int, count: int, prefix: str = "") -> list[str]:
        """Keys of that node, with `prefix` put before them in the store."""
        found: list[str] = []
        tried = 0
        while len(found) < count:
            if self.node_of(f"{prefix}k{tried}") == number:
                found.append(f"k{tried}")
            tried += 1
        return found


class Guarded(_Several):
    """A master with a replica, and a sentinel that puts it in the master's place when that is gone for 0.3 s."""

    def __init__(self, *, down_after: float = 0.3, replica: bool = True) -> None:
        super().__init__()
        self.master = self.stack.enter_context(ValkeyServer("--repl-diskless-sync-delay", "0"))
        port = self.master.port
        self.replica = (
            self.stack.enter_context(ValkeyServer("--replicaof", "127.0.0.1", str(port))) if replica else None
        )
        words = f"sentinel monitor main 127.0.0.1 {port} 1\nsentinel failover-timeout main 2000\n"
        words += f"sentinel down-after-milliseconds main {down_after * 1000:.0f}\n"
        self.sentinel = self.stack.enter_context(_Sentinel(words))
        self.addresses = [("127.0.0.1", self.sentinel.port)]
        until(lambda: self.sentinel.command("SENTINEL", "CKQUORUM", "main").startswith(b"+OK"), "no sentinel")
        if replica:
            until(lambda: self.replicates(), "no replica")

    def replicates(self) -> bool:
        """Whether the sentinel knows a replica that has everything."""
        known = "slaves=1" in self.sentinel.text("INFO", "sentinel")
        return known and "state=online" in self.master.text("INFO", "replication")


class _Sentinel(ValkeyServer):
    """A server that watches others."""

    def __init__(self, words: str) -> None:
        self._words = words
        super().__init__()

    def start(self, *options: str) -> None:
        path = Path(self._folder, "sentinel.conf")
        path.write_text(f"{self._words}port {self.port}\nbind 127.0.0.1\ndir {self._folder}\n")
        binary = self._command[0]
        self._command = [binary, str(path), "--sentinel"]
        super().start(*options)
