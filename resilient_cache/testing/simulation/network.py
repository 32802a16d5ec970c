"""A simulated store and the network to it: each process's adapter, connections that keep their order, time that passes.

What was sent takes effect when it arrives, whether or not anybody still waits for the answer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, final

from ...events import CircuitState
from ...outcome import Operation
from .histories import Call, Command, Ending, History
from .seeded import SeededLoop
from .tape import Tape
from .weather import Trouble, Weather, error_of

__all__ = [
    "CALL",
    "WITHIN",
    "Network",
    "SimulatedAdapter",
    "SimulatedStore",
    "birth_in",
    "calling",
    "is_mark",
    "name_in",
    "stored_as",
]

CALL: ContextVar[Call] = ContextVar("resilient_cache.testing.call")
WITHIN: ContextVar[int] = ContextVar("resilient_cache.testing.within", default=0)
"""The number of the cache's own call in the context in which its vendors are asked."""
NOBODY: Final = -1
"""In place of a call's number: what a cache does behind its callers."""


def calling() -> int:
    """The number of the call that is running."""
    call = CALL.get(None)
    return NOBODY if call is None else call.number


"""The call of whose doing everything is that runs in this context."""


def name_in(store_key: str) -> str:
    """The key of an entry in the store; of a mark, which no key is, the whole name that it has there."""
    return store_key.removeprefix(ENTRY)


def is_mark(store_key: str) -> bool:
    """Whether that is the name of a mark in the store."""
    return store_key.startswith(MARK)


def stored_as(call: Call) -> str:
    """The name in the store of the key, or of the mark, that an invalidation is about."""
    if call.operation == "invalidate_all":
        return MARK
    return f"{MARK}tag:{call.key}" if call.operation == "invalidate_tag" else ENTRY + call.key


def birth_in(data: bytes) -> int:
    """The birth of the value in an envelope; 0 when there is none to be seen."""
    found = BIRTH.search(data)
    return int(found[1]) if found else 0


BIRTH: Final = re.compile(rb'@(\d+)"')
ENTRY: Final = "sim:"
MARK: Final = "sim!"
SILENT: Final = (Trouble.LOST_REQUEST, Trouble.LOST_REPLY)
AT_ONCE: Final = (Trouble.REFUSED, Trouble.READ_ONLY, Trouble.PER_KEY, Trouble.ERROR)


@final
class SimulatedStore:
    """The server: bytes with the end of their life, and a copy of them as of some time ago."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.entries: dict[str, tuple[bytes, float]] = {}
        self._now = now
        self._saved: dict[str, tuple[bytes, float]] = {}

    def apply(self, operation: Operation, key: str, *args: Any) -> bytes | None:
        """Carry out a command."""
        if operation is Operation.GET:
            data, until = self.entries.get(key, (None, 0.0))
            return data if self._now() < until else None
        if operation is Operation.SET:
            self.entries[key] = (args[0], self._now() + args[1])
        else:
            self.entries.pop(key, None)
        return None

    def save(self) -> None:
        """Write the copy that a restart would come back with."""
        self._saved = dict(self.entries)

    def restart(self, *, empty: bool) -> None:
        """Come back with the copy, or with nothing."""
        self.entries = {} if empty else dict(self._saved)

    def other_than(self, key: str) -> bytes | None:
        """The bytes of another key."""
        return next((data for other, (data, _) in self.entries.items() if other != key), None)


@final
class Network:
    """Between the processes and the store. `latency` and `slow` are the delays to pick from, each for one way."""

    def __init__(
        self,
        loop: SeededLoop,
        tape: Tape,
        history: History,
        latency: tuple[float, ...],
        slow: tuple[float, ...],
        *,
        name: str = "",
    ) -> None:
        self.name = name
        self.loop = loop
        self.tape = tape
        self.history = history
        self.store = SimulatedStore(loop.time)
        self.weather = Weather(tape)
        self.well = False
        self._latency = latency
        self._slow = slow
        self._silent: list[asyncio.Future[Any]] = []
        self._frozen: list[Callable[[], None]] = []

    def delay(self, trouble: Trouble | None = None) -> float:
        """How long one way takes."""
        delays = self._slow if trouble in (Trouble.SLOW, Trouble.LATE) else self._latency
        return delays[0] if len(delays) == 1 else self.tape.pick(delays)

    def thaw(self) -> None:
        """Let what the frozen server was sent take effect."""
        frozen, self._frozen = self._frozen, []
        for go_on in frozen:
            go_on()

    def heal(self) -> None:
        """Let all be well: connections that are silent are reset, and the way is as short as it can be."""
        self.well = True
        self._latency = self._latency[:1]
        self.weather.fronts.clear()
        self.thaw()
        for future in self._silent:
            if not future.done():
                future.set_exception(ConnectionResetError("reset at last"))
        self._silent.clear()

    async def send(self, command: Command, arrives: float, trouble: Trouble | None, args: tuple[Any, ...]) -> Any:
        """The reply to `command`, which arrives at the server at the moment `arrives`."""
        if trouble is not None and trouble in AT_ONCE:
            if self._latency[-1]:
                await asyncio.sleep(self.delay())
            raise error_of(trouble)
        future = self.loop.create_future()
        if trouble in SILENT or trouble is Trouble.SLOW:
            self._silent.append(future)
        if trouble is Trouble.LOST_REQUEST:
            return await future
        if trouble is Trouble.LATE:
            self.loop.call_at(arrives, self._take_effect, command, args)
            raise error_of(trouble)
        if arrives > self.loop.now:
            self.loop.call_at(arrives, self._arrive, command, trouble, args, future)
        else:
            self._arrive(command, trouble, args, future)
        return await future

    def _arrive(
        self, command: Command, trouble: Trouble | None, args: tuple[Any, ...], future: asyncio.Future[Any]
    ) -> None:
        if trouble is Trouble.FROZEN:
            self._frozen.append(lambda: self._arrive(command, None, args, future))
            return
        reply = self._take_effect(command, args)
        if trouble is Trouble.WRONG_KEY:
            reply = self.store.other_than(command.key)
        elif trouble is Trouble.CORRUPT and reply:
            reply = reply[:-9] + bytes([reply[-9] ^ 1]) + reply[-8:]
        if trouble is Trouble.LOST_REPLY:
            return
        delay = self.delay(trouble)
        if delay:
            self.loop.call_later(delay, _settle, future, reply, trouble)
        else:
            _settle(future, reply, trouble)

    def _take_effect(self, command: Command, args: tuple[Any, ...]) -> bytes | None:
        command.effect = self.loop.now
        return self.store.apply(command.operation, command.key, *args)


def _settle(future: asyncio.Future[Any], reply: bytes | None, trouble: Trouble | None) -> None:
    if future.done():
        return
    if trouble is Trouble.RESET:
        future.set_exception(error_of(trouble))
    else:
        future.set_result(reply)


@final
class SimulatedAdapter:
    """One process's way to the store: an `AsyncCacheAdapter` over `connections` that keep their order each."""

    def __init__(self, network: Network, process: int, connections: int, name: str = "") -> None:
        self.name = name
        self.state: Callable[[Operation], CircuitState] = lambda _: CircuitState.CLOSED
        self._network = network
        self._process = process
        self._free = [0.0] * connections  # when the last command sent on each has arrived

    async def get(self, key: str, /) -> bytes | None:
        """The bytes under `key`."""
        data: bytes | None = await self._call(Operation.GET, key)
        return data

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        """Store `value` for `ttl` seconds."""
        await self._call(Operation.SET, key, value, ttl)

    async def delete(self, key: str, /) -> None:
        """Remove `key`."""
        await self._call(Operation.DELETE, key)

    async def _call(self, operation: Operation, key: str, *args: Any) -> Any:
        network = self._network
        history = network.history
        command = history.command(self._process, operation, key, self.state(operation), calling())
        command.store, command.within = self.name, WITHIN.get()
        trouble = network.weather.hits(self._process, operation, name_in(key))
        command.fault = "" if trouble is None else str(trouble)
        if operation is Operation.SET:
            command.gives, command.life = birth_in(args[0]), args[1]
        try:
            reply = await network.send(command, self._arrives(trouble), trouble, args)
        except asyncio.CancelledError:
            history.end(command, Ending.CANCELLED)
            raise
        except Exception as error:
            history.end(command, Ending.RAISED, error)
            raise
        command.gave = birth_in(reply) if reply else 0
        history.end(command, Ending.DONE)
        return reply

    def _arrives(self, trouble: Trouble | None) -> float:
        delay = self._network.delay(trouble)
        if trouble is Trouble.LATE or self._network.well:  # on a connection of its own
            return self._network.loop.now + delay
        index = self._network.tape.choose(len(self._free)) if len(self._free) > 1 else 0
        self._free[index] = max(self._free[index], self._network.loop.now + delay)
        return self._free[index]
