"""G2, G3 with a backplane: whatever is lost, cut or down, 1 s after the replay no process serves the old value.

With loads in the air that began before, it is 1 s after the second delete: their writes may come after the first one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from resilient_cache import AsyncResilientCache, BreakerPolicy, CachePolicy
from resilient_cache.testing import (
    AsyncFaultyAdapter,
    AsyncLocalBackplane,
    BackplaneHub,
    Fault,
    FaultKind,
    FaultPlan,
    ManualClock,
    run_virtual,
)

from ..virtual import pass_time

POLICY = CachePolicy(ttl=3600, stale_for=3600, jitter=0.0, timeout=0.25)
BREAKER = BreakerPolicy(consecutive=3, span=0.0, hold=0.5, max_hold=0.5)
PROMISED = 1.0
SKEWS = (0.0, 0.25, -0.25)

STEP = st.one_of(
    st.tuples(st.just("move"), st.integers(0, 2), st.sampled_from("ab")),
    st.tuples(st.just("ask"), st.integers(0, 2), st.sampled_from("ab")),
    st.tuples(st.just("ask"), st.integers(0, 2), st.sampled_from("ab")),
    st.tuples(st.just("ask behind"), st.integers(0, 2), st.sampled_from("ab")),
    st.tuples(st.sampled_from(["lose", "cut", "down", "mute", "heal"])),
    st.tuples(st.just("store"), st.sampled_from(["well", "down", "silent", "no deletes"])),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.01, 0.3, 1.0, 6.0])),
    st.tuples(st.just("settle")),
)
FAULTS: dict[str, tuple[Any, ...]] = {
    "down": (Fault(FaultKind.RAISE),),
    "silent": (Fault(FaultKind.HANG),),
    "no deletes": (Fault(FaultKind.RAISE), "delete"),
}


class Skewed:
    """One process's clock: the same seconds, another wall time."""

    def __init__(self, clock: ManualClock, by: float) -> None:
        self._clock, self._by = clock, by

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def time(self) -> float:
        return self._clock.time() + self._by


class Mutable:
    """A backplane whose publishing can fail by itself."""

    def __init__(self, hub: BackplaneHub) -> None:
        self._plane = AsyncLocalBackplane(hub)
        self.listen, self.aclose = self._plane.listen, self._plane.aclose
        self.mute = False

    async def publish(self, channel: str, message: bytes, /) -> None:
        if self.mute:
            raise ConnectionError("mute")
        await self._plane.publish(channel, message)


class Fleet:
    """Three processes over one store and one hub, and a record that moves."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.plan = FaultPlan()
        self.store = AsyncFaultyAdapter(self.clock, plan=self.plan)
        self.hub = BackplaneHub()
        self.planes = [Mutable(self.hub) for _ in SKEWS]
        self.behind: set[asyncio.Task[Any]] = set()
        self.record: Counter[str] = Counter()
        self.caches = [self.another(by, plane) for by, plane in zip(SKEWS, self.planes, strict=True)]

    def another(self, by: float, plane: Mutable) -> AsyncResilientCache[str, Any]:
        return AsyncResilientCache(
            self.store,
            name="fleet",
            memory=10,
            policy=POLICY,
            breaker=BREAKER,
            clock=Skewed(self.clock, by),
            random=lambda: 0.5,
            backplane=plane,
        )

    async def ask(self, number: int, key: str) -> Any:
        async def loader(key: str) -> int:
            value = self.record[key]
            return await pass_time(0.1, value)

        return await self.caches[number].get_or_load(key, loader)

    async def move(self, number: int, key: str) -> None:
        self.record[key] += 1
        await self.caches[number].invalidate(key)
        assert await self.ask(number, key) == self.record[key], "the process that invalidated serves the old value"

    async def settle(self) -> None:
        """All is well: once nothing is pending any more, the promised time later all agree."""
        self.plan.calm()
        self._heal()
        promised = PROMISED + (float(POLICY.inflight_max) if self.behind else 0.0)  # type: ignore[arg-type]
        if self.behind:
            await asyncio.wait(self.behind)
        self.behind.clear()
        waited = 0.0
        while waited < promised or any(cache.health()["pending_invalidations"] for cache in self.caches):
            pending = any(cache.health()["pending_invalidations"] for cache in self.caches)
            waited = 0.0 if pending else waited + 0.1
            await pass_time(0.1)
        for number in range(len(self.caches)):
            for key in "ab":
                assert await self.ask(number, key) == self.record[key], (number, key)

    def _heal(self) -> None:
        self.hub.heal()
        for plane in self.planes:
            plane.mute = False

    async def take(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("move", number, key):
                await self.move(number, key)
            case ("ask", number, key):
                await self.ask(number, key)
            case ("lose",):
                self.hub.drop()
            case ("cut",):
                self.hub.cut()
            case ("down",):
                self.hub.down()
            case ("mute",):
                self.planes[0].mute = True
            case ("heal",):
                self._heal()
            case ("ask behind", number, key):
                self.behind.add(asyncio.create_task(self.ask(number, key)))
            case ("store", how):
                self.plan.calm()
                if how in FAULTS:
                    self.plan.during(*FAULTS[how])
            case ("wait", seconds):
                await pass_time(seconds)
            case _:
                await self.settle()


@given(st.lists(STEP, max_size=25))
def test_all_agree_once_the_replay_is_done(steps: list[tuple[Any, ...]]) -> None:
    fleet = Fleet()

    async def main() -> None:
        for step in steps:
            await fleet.take(step)
        await fleet.settle()
        for cache in fleet.caches:
            await cache.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main(), fleet.clock)
