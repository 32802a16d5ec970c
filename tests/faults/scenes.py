"""The faults, each told once, for both colours. A row of the failure matrix is a scene here.

A scene is a generator of three parts: what the cache talks to; the fault; its end. Between the first two all is well,
between the last two the fault is held; what the second `yield` gives is done again and again meanwhile.
"""

from __future__ import annotations

import resource
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from resilient_cache import FailureKind
from resilient_cache.outcome import Direction
from resilient_cache.testing import WireFault

from ..servers import ask, free_port, in_child
from .load import NAME
from .stage import Stage
from .watch import KEYS

__all__ = ["FAULTS", "Fault"]

Scene: TypeAlias = Iterator[Callable[[], object] | None]

READ, WRITE = frozenset({Direction.READ}), frozenset({Direction.WRITE})
BOTH = READ | WRITE
NONE: frozenset[Direction] = frozenset()


@dataclass(frozen=True)
class Fault:
    """A fault by its name in the matrix, and what the contract says of it."""

    name: str
    scene: Callable[[Stage], Scene]
    opens: frozenset[Direction]  # circuits that must open
    may_open: frozenset[Direction]  # those that may
    kind: FailureKind | None  # a kind of failure that the store must be heard to have
    alone: bool  # in a process of its own, whose limits it changes
    well_first: bool


FAULTS: dict[str, Fault] = {}


def fault(
    name: str,
    kind: FailureKind | None,
    *,
    opens: frozenset[Direction] = NONE,
    may_open: frozenset[Direction] = NONE,
    alone: bool = False,
    well_first: bool = True,
) -> Callable[[Callable[[Stage], Scene]], Callable[[Stage], Scene]]:
    def register(scene: Callable[[Stage], Scene]) -> Callable[[Stage], Scene]:
        FAULTS[name] = Fault(name, scene, opens, may_open | opens, kind, alone, well_first)
        return scene

    return register


# The server's process


@fault("server killed (SIGKILL)", FailureKind.CONNECTION, opens=BOTH)
def killed(stage: Stage) -> Scene:
    server = stage.valkey()
    yield None
    server.kill()
    yield None
    server.start()


@fault("server frozen (SIGSTOP)", FailureKind.TIMEOUT, opens=BOTH)
def frozen(stage: Stage) -> Scene:
    server = stage.valkey()
    yield None
    server.freeze()
    yield None
    server.thaw()


@fault("server down when the service starts", FailureKind.CONNECTION, opens=BOTH, well_first=False)
def down_at_first(stage: Stage) -> Scene:
    server = stage.valkey()
    server.kill()
    yield None
    yield None
    server.start()


@fault("server restarted with an old RDB file", None, may_open=BOTH)
def old_data(stage: Stage) -> Scene:
    server = stage.valkey()
    yield None
    server.command("SAVE")
    time.sleep(0.3)  # meanwhile keys are invalidated and loaded anew
    server.restart()
    yield None


@fault("server loading its data (LOADING)", FailureKind.UNAVAILABLE, opens=BOTH)
def loading(stage: Stage) -> Scene:
    server = stage.valkey("--rdbcompression", "no")
    server.command("MSET", *(word for number in range(1_000) for word in (f"other{number}", "x" * 1_024)))
    yield None
    server.command("SAVE")
    delay = int((0.6 + stage.pace.held) * 1_000)  # in microseconds, for each of 1 000 keys; it answers after each
    server.restart("--key-load-delay", str(delay), "--loading-process-events-interval-bytes", "1024")
    yield None
    while server.command("PING").startswith(b"-LOADING"):
        time.sleep(0.005)


# The wire


@fault("connection reset inside a reply", FailureKind.CONNECTION, opens=BOTH)
def reset(stage: Stage) -> Scene:
    return on_the_wire(stage, WireFault.RESET)


@fault("replies drip, a byte every 50 ms", FailureKind.TIMEOUT, opens=READ, may_open=WRITE)
def drip(stage: Stage) -> Scene:
    return on_the_wire(stage, WireFault.DRIP, 0.05)


@fault("black hole", FailureKind.TIMEOUT, opens=BOTH)
def hole(stage: Stage) -> Scene:
    return on_the_wire(stage, WireFault.HOLE)


@fault("replies that are not RESP", FailureKind.CONNECTION, opens=BOTH)
def garbage(stage: Stage) -> Scene:
    return on_the_wire(stage, WireFault.GARBAGE)


@fault("network flapping every 200 ms", FailureKind.CONNECTION, may_open=BOTH)
def flapping(stage: Stage) -> Scene:
    return on_the_wire(stage, WireFault.FLAP, 0.2)


def on_the_wire(stage: Stage, kind: WireFault, seconds: float = 0.05) -> Scene:
    wire = stage.wire()
    yield None
    wire.inject(kind, seconds)
    yield None
    wire.heal()


# What the server says


@fault("values of another type (WRONGTYPE)", FailureKind.PER_KEY)
def wrong_type(stage: Stage) -> Scene:
    server = stage.valkey()

    def spoil() -> None:
        with server.dial() as line:
            for key in KEYS:
                ask(line, "DEL", f"{NAME}:{key}")
                ask(line, "RPUSH", f"{NAME}:{key}", "a list")

    yield None
    yield spoil


@fault("server out of memory (OOM, noeviction)", FailureKind.READ_ONLY, opens=WRITE)
def out_of_memory(stage: Stage) -> Scene:
    server = stage.valkey("--maxmemory-policy", "noeviction")
    yield None
    server.command("CONFIG", "SET", "maxmemory", "1")
    yield None
    server.command("CONFIG", "SET", "maxmemory", "0")


@fault("server became a replica (READONLY)", FailureKind.READ_ONLY, opens=WRITE)
def replica(stage: Stage) -> Scene:
    server = stage.valkey()
    yield None
    server.command("REPLICAOF", "127.0.0.1", str(free_port()))
    yield None
    server.command("REPLICAOF", "NO", "ONE")


@fault("password rotated (NOAUTH, WRONGPASS)", FailureKind.AUTH, opens=BOTH)
def rotated(stage: Stage) -> Scene:
    server = stage.valkey("--requirepass", "old", password="old")
    with server.dial() as line:
        ask(line, "AUTH", "old")
        yield None
        ask(line, "CONFIG", "SET", "requirepass", "new")
        ask(line, "CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")
        yield None
        ask(line, "CONFIG", "SET", "requirepass", "old")


@fault("too many clients (maxclients)", FailureKind.UNAVAILABLE, opens=BOTH)
def max_clients(stage: Stage) -> Scene:
    server = stage.valkey()
    with server.dial() as line:
        yield None
        ask(line, "CONFIG", "SET", "maxclients", "1")
        ask(line, "CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")
        yield None
        ask(line, "CONFIG", "SET", "maxclients", "1000")


# The callers' own process


@fault("fork after use", None)
def forked(stage: Stage) -> Scene:
    stage.valkey()
    yield None
    if not in_child(stage.load.read_all):
        stage.load.watch.errors.append(RuntimeError("the child could not use the cache"))
    yield None


@fault("200 readers give up, each at another moment", None)
def cancelled(stage: Stage) -> Scene:
    wire = stage.wire()
    yield None
    wire.inject(WireFault.DELAY, 0.02)  # longer than any of them waits
    stage.load.give_up(200)
    yield None
    wire.heal()


@fault("file descriptors exhausted (EMFILE)", FailureKind.CONNECTION, opens=BOTH, alone=True)
def no_descriptors(stage: Stage) -> Scene:
    server = stage.valkey()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with server.dial() as line:
        yield None
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        ask(line, "CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")
        yield None
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@fault("a store over SQLite, its disk full", FailureKind.UNKNOWN, opens=WRITE, alone=True)
def disk_full(stage: Stage) -> Scene:
    stage.table()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield None
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # no file can be written to
    yield None
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@fault("a store over SQLite, its file locked", FailureKind.UNKNOWN, opens=BOTH)
def locked(stage: Stage) -> Scene:
    path = stage.table()
    yield None
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        other.execute("PRAGMA busy_timeout = 1000")
        other.execute("BEGIN EXCLUSIVE")
        yield None
    finally:
        other.close()
