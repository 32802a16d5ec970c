"""What the directed law tests share: caches of both colours over one faulty store, and small origins."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from resilient_cache import AsyncResilientCache, CachePolicy, NotFound, ResilientCache
from resilient_cache.testing import AsyncFaultyAdapter, FaultPlan, FaultyAdapter, ManualClock, run_virtual

from .scenario import BREAKER, TIMEOUT

POLICY = CachePolicy(epoch_ttl=None, ttl=60, stale_for=300, jitter=0, timeout=TIMEOUT, degraded_ttl=0)


class Stage:
    """A cache of either colour over a faulty store on a manual clock, called as if it were synchronous.

    Each call of an async cache runs in a loop of its own.
    """

    def __init__(self, colour: str, *, memory: int = 0, policy: CachePolicy = POLICY, **options: Any) -> None:
        self.colour = colour
        self.clock = ManualClock()
        self.plan = FaultPlan()
        self.adapter: Any = (FaultyAdapter if colour == "sync" else AsyncFaultyAdapter)(self.clock, plan=self.plan)
        self.behind: list[Any] = []
        self.loads = 0
        self.options = {"memory": memory, "policy": policy, "breaker": BREAKER, "spawn": self.behind.append, **options}
        self.cache = self.another()

    def another(self, *, adapter: Any = None, **options: Any) -> Any:
        """Another cache over the same store: another process, as far as the library can tell."""
        make: Any = ResilientCache if self.colour == "sync" else AsyncResilientCache
        shared = {"name": "laws", "clock": self.clock, "random": lambda: 0.5}
        return make(adapter or self.adapter, **{**shared, **self.options, **options})

    @property
    def stored(self) -> dict[str, tuple[bytes, float]]:
        """What the store holds."""
        entries: dict[str, tuple[bytes, float]] = self.adapter.inner.entries
        return entries

    def poison(self, key: str, data: bytes) -> None:
        """Put bytes into the store, past the cache."""
        self.stored[f"laws:{key}"] = (data, self.clock.monotonic() + 3600)

    def run(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """The result of a call of either colour."""
        if self.colour == "sync":
            return function(*args, **options)

        async def main() -> Any:
            result = function(*args, **options)
            return await result if inspect.isawaitable(result) else result

        return run_virtual(main(), self.clock)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """A method of the cache."""
        return lambda *args, **options: self.run(getattr(self.cache, name), *args, **options)

    def loader(self, outcome: Any) -> Any:
        """A loader that gives `outcome`, or raises it, or calls it; `loads` counts its calls."""

        def give() -> Any:
            self.loads += 1
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome() if callable(outcome) else outcome

        async def awaited(_: str) -> Any:
            result = give()
            return await result if inspect.isawaitable(result) else result

        return (lambda _: give()) if self.colour == "sync" else awaited

    def load(self, key: str, outcome: Any, **options: Any) -> Any:
        """`get_or_load` with such a loader."""
        return self.get_or_load(key, self.loader(outcome), **options)

    def run_behind(self) -> None:
        """Let what was to run behind run now."""
        while self.behind:
            work = self.behind.pop(0)
            self.run(work if self.colour == "sync" else lambda work=work: work)


def find_none(there: Stage, way: str, key: str = "k") -> None:
    """Have the origin say that there is none: as a "value" that the policy's `negative` knows, to "many", or raised."""
    if way == "value":
        there.load(key, "none")
    elif way == "many":
        assert there.get_or_load_many([key], there.loader({})) == {}
    else:
        with pytest.raises(NotFound):
            getattr(there, way)(key, there.loader(NotFound(key)))
