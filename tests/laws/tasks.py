"""For tests of tasks: a cache in virtual time, an origin that takes time, cancelling at the n-th suspension."""

from __future__ import annotations

import asyncio
import types
from collections import Counter
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from resilient_cache import AsyncResilientCache, CachePolicy
from resilient_cache.testing import AsyncFaultyAdapter, FaultPlan, ManualClock, run_virtual

from ..virtual import pass_time
from .course import ANSWERS
from .scenario import BREAKER, TIMEOUT

POLICY = CachePolicy(epoch_ttl=None, ttl=60, stale_for=300, jitter=0, timeout=TIMEOUT)


class Room:
    """A cache for tasks, with an origin whose loads are counted and may be held up."""

    def __init__(self, memory: int = 10, policy: CachePolicy = POLICY, **options: Any) -> None:
        self.clock = ManualClock()
        self.plan = FaultPlan()
        self.store = AsyncFaultyAdapter(self.clock, plan=self.plan)
        settings = {"name": "laws", "policy": policy, "memory": memory, "breaker": BREAKER, **options}
        self.cache: Any = AsyncResilientCache(self.store, clock=self.clock, random=lambda: 0.5, **settings)
        self.started = 0
        self.loading: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    async def load(self, key: str, seconds: float = 1.0, outcome: Any = None) -> Any:
        """`get_or_load`; the loader takes `seconds`, and gives its number unless it is to raise `outcome`."""

        async def loader(_: str) -> Any:
            self.started += 1
            number = self.started
            self.loading[key] += 1
            self.most[key] = max(self.most[key], self.loading[key])
            try:
                await pass_time(seconds)
            finally:
                self.loading[key] -= 1
            if outcome is not None:
                raise outcome
            return number

        return await self.cache.get_or_load(key, loader)

    def run(self, main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Run `main` in virtual time; at its end nothing may be left over once all timers are over."""

        async def whole() -> Any:
            result = await main()
            self.plan.calm()  # or what a dead store owes would be asked for until it is back
            await pass_time(20)
            assert asyncio.all_tasks() == {asyncio.current_task()}, "a task is left over"
            health = self.cache.health()
            assert (health["flights"], health["store_calls_in_flight"]) == (0, 0)
            return result

        return run_virtual(whole(), self.clock)

    def requests(self) -> int:
        """How many requests were counted."""
        stats = self.cache.stats()
        return sum(stats[name] for name in ANSWERS)


class Cancelling:
    """Awaits a coroutine and cancels the task it runs in as it suspends for the `at`-th time."""

    def __init__(self, course: Coroutine[Any, Any, Any], at: int) -> None:
        self._course = course
        self._at = at
        self.points = 0

    async def run(self) -> Any:
        """The coroutine's result."""
        return await self._steps()

    @types.coroutine
    def _steps(self) -> Generator[Any, Any, Any]:
        step: Callable[[Any], Any] = self._course.send
        given: Any = None
        while True:
            try:
                waited_for = step(given)
            except StopIteration as end:
                return end.value
            self.points += 1
            task = asyncio.current_task()
            if self.points == self._at and task is not None:
                task.cancel()
            try:
                given = yield waited_for
                step = self._course.send
            except BaseException as error:
                given, step = error, self._course.throw
