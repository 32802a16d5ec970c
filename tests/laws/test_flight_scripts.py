"""L2, L14, L17 as one script text, carried out by threads and by tasks and held against a small model of flights.

The model knows groups of callers that wait for one load. It does not know who of a group leads, only that one does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_cache import AsyncResilientCache, ResilientCache
from resilient_cache.testing import ManualClock, run_virtual

from ..virtual import pass_time
from .course import run_now

PATIENCE = 10.0
SCRIPTS = st.lists(
    st.sampled_from(["ask", "ask", "ask", "value", "error", "struck", "invalidate"]), min_size=6, max_size=16
)


class Struck(BaseException):
    """What takes a leader away, in either colour."""


@dataclass
class Loading:
    """A load in progress, for one caller."""

    caller: int
    number: int
    event: Any
    error: BaseException | None = None

    def give(self) -> int:
        """What the loader comes to."""
        if self.error is not None:
            raise self.error
        return self.number


@dataclass
class Group:
    """The model: callers who share a load."""

    callers: set[int] = field(default_factory=set)


class Threads:
    """Callers are threads."""

    def __init__(self) -> None:
        self.cache: Any = ResilientCache(None, name="laws", clock=ManualClock())
        self.pool = ThreadPoolExecutor(16)
        self.loads: list[Loading] = []
        self.lock = threading.Lock()

    def ask(self, caller: int) -> Any:
        def loader(_: str) -> int:
            with self.lock:
                load = Loading(caller, len(self.loads), threading.Event())
                self.loads.append(load)
            assert load.event.wait(PATIENCE)
            return load.give()

        return self.pool.submit(self.cache.get_or_load, "k", loader)

    async def invalidate(self) -> None:
        self.cache.invalidate("k")

    async def settle(self, settled: Callable[[], bool]) -> None:
        tick = threading.Event()
        for _ in range(int(PATIENCE * 1_000)):
            if settled():
                return
            tick.wait(0.001)
        raise AssertionError("it never settled")

    async def outcome(self, call: Any) -> Any:
        error = call.exception(PATIENCE)
        return call.result() if error is None else error

    @classmethod
    def run(cls, play: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        stage = cls()
        try:
            run_now(play(stage))
        finally:
            for load in stage.loads:
                load.event.set()
            stage.pool.shutdown()


class Tasks:
    """Callers are tasks of a loop in virtual time."""

    def __init__(self, clock: ManualClock) -> None:
        self.cache: Any = AsyncResilientCache(None, name="laws", clock=clock)
        self.loads: list[Loading] = []

    def ask(self, caller: int) -> Any:
        async def loader(_: str) -> int:
            load = Loading(caller, len(self.loads), asyncio.Event())
            self.loads.append(load)
            await load.event.wait()
            return load.give()

        return asyncio.ensure_future(self.cache.get_or_load("k", loader))

    async def invalidate(self) -> None:
        await self.cache.invalidate("k")

    async def settle(self, settled: Callable[[], bool]) -> None:
        for _ in range(100):
            if settled():
                return
            await pass_time(0)
        raise AssertionError("it never settled")

    async def outcome(self, call: Any) -> Any:
        await asyncio.wait([call])
        return call.result() if call.exception() is None else call.exception()

    @classmethod
    def run(cls, play: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        clock = ManualClock()

        async def main() -> None:
            await play(cls(clock))

        run_virtual(main(), clock)


class Play:
    """Carries a script out on a stage, and checks every step against the model."""

    def __init__(self, stage: Threads | Tasks) -> None:
        self.stage = stage
        self.calls: dict[int, Any] = {}
        self.groups: list[Group] = []  # those whose load is in progress; the last is joined unless `cut`
        self.cut = True
        self.begun = 0
        self.requests = 0

    def flight(self) -> Any:
        return next(iter(self.stage.cache._rules.local.flights.live.values()), None)

    def waiting(self) -> int:
        flight = self.flight()
        return -1 if flight is None else len(flight.waiters)

    async def step(self, op: str) -> None:
        if op == "ask":
            await self.ask({len(self.calls)}, ask=True)
        elif op == "invalidate":
            await self.stage.invalidate()
            self.cut = True
        elif self.groups:
            await self.end(op)

    async def ask(self, callers: set[int], *, ask: bool = False) -> None:
        """`callers` come aboard, one of them to lead if nobody does."""
        if self.cut:
            self.groups.append(Group())
            self.begun += 1
            self.cut = False
        group = self.groups[-1]
        group.callers |= callers
        if ask:
            (caller,) = callers
            self.calls[caller] = self.stage.ask(caller)
        waiting = len(group.callers) - 1
        await self.stage.settle(lambda: len(self.stage.loads) == self.begun and self.waiting() == waiting)

    async def end(self, op: str) -> None:
        load = next(load for load in self.stage.loads if not load.event.is_set())
        group = next(group for group in self.groups if load.caller in group.callers)
        joinable = group is self.groups[-1] and not self.cut
        load.error = {"value": None, "error": OSError("down"), "struck": Struck()}[op]
        self.groups.remove(group)
        load.event.set()
        gone = {load.caller} if op == "struck" else group.callers
        for caller in gone:
            outcome = await self.stage.outcome(self.calls[caller])
            assert outcome is (load.error or outcome), "L2, L3: not the same error"
            assert load.error is not None or outcome == load.number, "L14: not the value of the flight"
        self.requests += 0 if op == "struck" else len(gone)
        left = group.callers - gone
        if joinable:
            self.cut = True
        if left:  # of a flight that was cut off they ask again, else one of them leads on: one new load, or none
            await self.ask(left)

    async def all(self, script: list[str]) -> None:
        for op in script:
            await self.step(op)
            running = [load for load in self.stage.loads if not load.event.is_set()]
            assert len(running) == len(self.groups), "L14: one load for each flight"
        while self.groups:
            await self.end("value")
        health, stats = self.stage.cache.health(), self.stage.cache.stats()
        assert (health["flights"], health["store_calls_in_flight"], health["stuck_flights"]) == (0, 0, 0), "L17"
        assert stats["requests"] == self.requests == stats["loads"] + stats["errors"], "L2, L7"


@pytest.mark.parametrize("stage", [Threads, Tasks])
@given(script=SCRIPTS)
def test_every_flight_has_one_load(stage: type[Threads] | type[Tasks], script: list[str]) -> None:
    """L2, L14, L17: whoever asks, leaves, lands or invalidates, each flight has one load and all aboard get its end."""

    async def play(made: Any) -> None:
        await Play(made).all(script)

    stage.run(play)
