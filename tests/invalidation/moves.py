"""An invalidation while the store is gone, and the old data when it is back; three processes look."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from resilient_cache.testing import ChaosProxy, WireFault

from ..servers import ValkeyServer, free_port
from .pace import PACES, Pace

__all__ = ["OUTAGES", "Seen", "move"]

ROOT = Path(__file__).parents[2]
STEP = 0.02
OUTAGES = ("killed", "frozen", "black hole", "read-only")


class Worker:
    """Another process with a cache."""

    def __init__(self, colour: str, port: int, pace: str, memory: int) -> None:
        command = [sys.executable, "-m", "tests.invalidation.worker", colour, str(port), pace, str(memory)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, method: str, keys: list[str] | None = None) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([method, keys]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def old(self, keys: list[str]) -> int:
        """For how many keys it is given the old value."""
        return sum(value == "old" for value in self.ask("get", keys))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._process.communicate(timeout=30)


@dataclass
class Seen:
    """What was seen. Seconds from when the store was back, None for never; `own`, `after`: reads of the old value.

    `own` by the process that invalidated, at any time; `after` by the one without a memory, once nothing was pending.
    """

    pending: int
    readable: int  # old values in the store when it was back
    own: int
    after: int
    confirmed: float | None
    gone: float | None  # for the process without a memory
    forgotten: float | None  # for the one with a memory


def outage(kind: str, server: ValkeyServer, proxy: ChaosProxy) -> Iterator[None]:
    """Two parts: the store goes; it is back, with the data that was saved before."""
    if kind == "killed":
        server.kill()
    elif kind == "frozen":
        server.freeze()
    elif kind == "black hole":
        proxy.inject(WireFault.HOLE)
    else:
        server.command("REPLICAOF", "127.0.0.1", str(free_port()))
    yield
    if kind == "read-only":
        server.command("REPLICAOF", "NO", "ONE")
    else:
        server.restart()
    proxy.heal()
    yield


def move(kind: str, colour: str, pace: str) -> Seen:
    """Invalidate every key in a process of `colour` during an outage of `kind`, and look what others read."""
    given = PACES[pace]
    keys = [f"host{n}" for n in range(given.keys)]
    with ExitStack() as exits:
        server = exits.enter_context(ValkeyServer())
        proxy = exits.enter_context(ChaosProxy(server.port))
        other = "async" if colour == "sync" else "sync"
        here, plain, remembering = (
            exits.enter_context(Worker(of, proxy.port, pace, memory))
            for of, memory in ((colour, 100), ("sync", 0), (other, 1_000))
        )
        assert all(here.ask("set", keys))
        assert remembering.old(keys) == plain.old(keys) == len(keys)
        server.command("SAVE")
        weather = outage(kind, server, proxy)
        next(weather)
        began = time.monotonic()
        here.ask("invalidate", keys)
        own = here.old(keys)
        time.sleep(max(0.0, began + given.held - time.monotonic()))
        next(weather)
        return watched(given, keys, (here, plain, remembering), own)


def watched(given: Pace, keys: list[str], workers: tuple[Worker, Worker, Worker], own: int) -> Seen:
    here, plain, remembering = workers
    back = time.monotonic()
    seen = Seen(here.ask("pending"), 0, own, 0, None, None, None)
    until = back + given.replay + float_ttl(given)
    settled = None
    while time.monotonic() < until:
        now = time.monotonic() - back
        confirmed = here.ask("pending") == 0
        old, remembered = plain.old(keys), remembering.old(keys)
        seen.readable = max(seen.readable, old)
        if confirmed and seen.confirmed is None:
            seen.confirmed = now
        elif confirmed:
            seen.after += old
        seen.gone = None if old else now if seen.gone is None else seen.gone
        seen.forgotten = None if remembered else now if seen.forgotten is None else seen.forgotten
        if None not in (seen.confirmed, seen.gone, seen.forgotten):
            settled = settled or time.monotonic() + given.again + 1.0
            if time.monotonic() > settled:
                break
        time.sleep(STEP)
    seen.own += here.old(keys)
    return seen


def float_ttl(given: Pace) -> float:
    """How long a copy in memory is fresh."""
    return float(given.policy.ttl)  # type: ignore[arg-type]
