"""Two faulty vendors behind a failover of either colour, on a clock moved by hand, called as if it were synchronous."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from resilient_cache import BreakerPolicy, StoreError
from resilient_cache.failover import AsyncFailover, Failover
from resilient_cache.testing import AsyncFaultyAdapter, Fault, FaultPlan, FaultyAdapter, ManualClock, run_virtual

__all__ = ["BREAKER", "DEAD", "TIMEOUT", "Vendors"]

TIMEOUT = 0.1
BREAKER = BreakerPolicy(consecutive=3, span=0, hold=1, max_hold=4, probes=2)
DEAD = Fault.raising(ConnectionError("down"))


class Vendors:
    """`plans[n]` says what the n-th vendor does wrong, `stores[n]` holds what it has.

    `beside`: those of another process, which has ways of its own to the same stores.
    """

    def __init__(self, colour: str, count: int = 2, *, beside: Vendors | None = None, **options: Any) -> None:
        self.colour = colour
        self.clock: ManualClock = ManualClock() if beside is None else beside.clock
        self.behind: list[Any] = []
        self.plans = [FaultPlan() for _ in range(count)]
        faulty: Any = FaultyAdapter if colour == "sync" else AsyncFaultyAdapter
        inner = [None] * count if beside is None else [adapter.inner for adapter in beside.adapters]
        self.adapters: list[Any] = [
            faulty(self.clock, store, plan=plan) for store, plan in zip(inner, self.plans, strict=True)
        ]
        make: Any = Failover if colour == "sync" else AsyncFailover
        given = {"timeout": TIMEOUT, "breaker": BREAKER, "clock": self.clock, "random": lambda: 0.5}
        self.failover: Any = make(*self.adapters, **{**given, "spawn": self.behind.append, **options})

    @property
    def stores(self) -> list[dict[str, tuple[bytes, float]]]:
        return [adapter.inner.entries for adapter in self.adapters]

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """The result of a call of either colour."""
        if self.colour == "sync":
            return function(*args)

        async def main() -> Any:
            result = function(*args)
            return await result if inspect.isawaitable(result) else result

        return run_virtual(main(), self.clock)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """A method of the failover."""
        name = "aclose" if name == "close" and self.colour == "async" else name
        return lambda *args: self.run(getattr(self.failover, name), *args)

    def attempt(self, name: str, *args: Any) -> Any:
        """What a call gives, or the `StoreError` that it raises."""
        try:
            return getattr(self, name)(*args)
        except StoreError as error:
            return error

    def run_behind(self) -> None:
        """Let what was to run behind run now."""
        while self.behind:
            work = self.behind.pop(0)
            self.run(work if self.colour == "sync" else lambda work=work: work)

    def settle(self, seconds: float = 10.0, step: float = 0.5) -> None:
        """Let time pass, with somebody coming by now and then, so that what runs behind does."""
        for _ in range(int(seconds / step)):
            self.clock.advance(step)
            self.attempt("get", "somebody else's")
            self.run_behind()

    def calls(self, vendor: int, operation: str, key: str | None = None) -> int:
        """How many calls reached a vendor."""
        made = [call for call in self.adapters[vendor].calls if call.operation == operation]
        return sum(key is None or call.key == key for call in made)

    def owed(self, vendor: int) -> int:
        """How many deletes a vendor owes."""
        owed: int = list(self.failover.health()["vendors"].values())[vendor]["pending_invalidations"]
        return owed
