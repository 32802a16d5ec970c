"""What a simulated process is, of tasks or of threads: the clock that its cache reads, and the ears on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ...events import CircuitChanged, Event, Served
from ...outcome import Direction, Operation
from .histories import History
from .network import CALL
from .swarm import Swarm

__all__ = ["SimulatedProcess"]

NAME: Final = "sim"
WALL: Final = 1_750_000_000.0


class SimulatedProcess:
    """One process with its skewed clock. Whoever builds its cache calls `adopt` with it."""

    cache: Any
    circuits: Any

    def __init__(self, number: int, swarm: Swarm, history: History, monotonic: Callable[[], float]) -> None:
        self.number = number
        self.offset = swarm.offsets[number]
        self.monotonic = monotonic
        self._swarm = swarm
        self._history = history

    def options(self, random: Callable[[], float]) -> dict[str, Any]:
        """What its cache is built with, but for the store."""
        return {
            "name": NAME,
            "policy": self._swarm.policy,
            "breaker": self._swarm.breaker,
            "memory": self._swarm.memories[self.number],
            "hooks": [self.hear],
            "clock": self,
            "random": random,
        }

    def adopt(self, cache: Any) -> None:
        """From now on `cache` is its own."""
        self.cache, self.circuits = cache, cache.circuits
        rules = getattr(cache, "_rules", None)
        if rules is not None:  # drawn from the system otherwise, and part of each mark's version
            rules.local._node = self.number + 1

    def time(self) -> float:
        """The wall clock."""
        return WALL + self.monotonic() + self.offset

    def state(self, operation: Operation) -> Any:
        """The state of the circuit that hears of `operation`."""
        return self.circuits[Direction.READ if operation is Operation.GET else Direction.WRITE].state

    def hear(self, event: Event) -> None:
        """The hook."""
        if type(event) is Served:
            call = CALL.get()
            call.served += 1
            call.source = event.source
        elif type(event) is CircuitChanged:
            store = "" if event.cache == NAME else event.cache
            self._history.transition(
                self.number, event.direction, event.before, event.after, event.retry_in, store=store
            )
