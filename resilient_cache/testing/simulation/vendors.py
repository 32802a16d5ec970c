"""Several simulated vendors behind one failover: how it is built, and how the cache's own calls of it are recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, final

from ...events import CircuitState
from ...outcome import Operation
from .histories import Command, Ending, History
from .network import WITHIN, SimulatedAdapter, birth_in, calling

__all__ = ["NAMES", "MakeFailover", "Together", "serving"]

MakeFailover: TypeAlias = Callable[..., Any]
"""Builds one adapter of several, as `AsyncFailover` does."""

NAMES: Final = ("first", "second")


def serving(health: object) -> object:
    """The name of the vendor that serves, in what a failover says of itself."""
    return health.get("serving") if isinstance(health, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


@final
class Together:
    """The vendors of one process as one store. What the cache asks is a command of its own, each vendor's another."""

    def __init__(self, history: History, process: int, vendors: Sequence[SimulatedAdapter], whole: Any) -> None:
        self.state: Callable[[Operation], CircuitState] = lambda _: CircuitState.CLOSED
        self._history = history
        self._process = process
        self._whole = whole
        for vendor in vendors:
            vendor.state = self._state_of(vendor.name)

    async def get(self, key: str, /) -> bytes | None:
        """What the failover has under `key`."""
        command = self._begin(Operation.GET, key)
        data: bytes | None = await self._call(command, self._whole.get, key)
        command.gave = birth_in(data) if data else 0
        return data

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        """Have the failover store `value`."""
        command = self._begin(Operation.SET, key)
        command.gives, command.life = birth_in(value), ttl
        await self._call(command, self._whole.set, key, value, ttl)

    async def delete(self, key: str, /) -> None:
        """Have the failover remove `key`."""
        await self._call(self._begin(Operation.DELETE, key), self._whole.delete, key)

    async def aclose(self) -> None:
        """Close the failover."""
        await self._whole.aclose()

    def health(self) -> Any:
        """What the failover says of itself."""
        return self._whole.health()

    def _begin(self, operation: Operation, key: str) -> Command:
        return self._history.command(self._process, operation, key, self.state(operation), calling())

    async def _call(self, command: Command, method: Callable[..., Any], *args: Any) -> Any:
        token = WITHIN.set(command.number)
        try:
            reply = await method(*args)
        except asyncio.CancelledError:
            self._history.end(command, Ending.CANCELLED)
            raise
        except Exception as error:
            self._history.end(command, Ending.RAISED, error)
            raise
        finally:
            WITHIN.reset(token)
        self._history.end(command, Ending.DONE)
        return reply

    def _state_of(self, name: str) -> Callable[[Operation], CircuitState]:
        def state(operation: Operation) -> CircuitState:
            circuits = self._whole.health()["vendors"][name]["circuits"]
            return CircuitState(circuits["read" if operation is Operation.GET else "write"]["state"])

        return state
