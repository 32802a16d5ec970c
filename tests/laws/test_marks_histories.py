"""Histories of several processes over one store that loses and delays what is written: nothing invalidated comes back.

A value is the number of its load and says so; a history remembers when each load began and when each invalidation did.
Here: never, from the moment it returned. Elsewhere: never later than the bound after the store has confirmed it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_cache import AsyncResilientCache, BreakerPolicy, Entry, Invalidation, ResilientCache
from resilient_cache.testing import (
    AsyncFaultyAdapter,
    Fault,
    FaultKind,
    FaultPlan,
    FaultyAdapter,
    ManualClock,
    run_virtual,
)

from .course import run_now
from .stage import POLICY

EPOCH = 4.0
INFLIGHT = 2.0
MEMORY_TTL = 8.0
LATE = 1.5  # the most that a write is late, less than inflight_max as it must be
SKEWS = (0.0, 0.25, -0.25)
KEYS = ("a", "b")
NEVER = BreakerPolicy(consecutive=1_000, min_calls=1_000)
POLICIES = replace(POLICY, ttl=MEMORY_TTL, stale_for=4.0, epoch_ttl=EPOCH, inflight_max=INFLIGHT, flight_age=500)


@dataclass
class Skewed:
    """The clock of one process."""

    clock: ManualClock
    ahead: float

    def monotonic(self) -> float:
        return self.clock.monotonic()

    def time(self) -> float:
        return self.clock.time() + self.ahead


@dataclass
class Revoked:
    """An invalidation: of what, by whom, when it began, and when the store confirmed it."""

    process: int
    tagged: bool
    began: int  # loads numbered below are older
    confirmed: float | None


class History:
    """Processes that share a store, and what may be read in them."""

    def __init__(self, colour: str, memory: int, late: bool) -> None:
        self.clock, self.plan, self.memory = ManualClock(), FaultPlan(), memory
        self.adapter: Any = (FaultyAdapter if colour == "sync" else AsyncFaultyAdapter)(self.clock, plan=self.plan)
        make: Any = ResilientCache if colour == "sync" else AsyncResilientCache
        self.caches = [
            make(
                self.adapter,
                name="laws",
                policy=POLICIES,
                breaker=NEVER,
                memory=memory,
                clock=Skewed(self.clock, skew),
                random=lambda: 0.5,
                spawn=lambda work: None,
            )
            for skew in SKEWS
        ]
        self.colour = colour
        self.loads: list[bool] = []  # whether each was tagged
        self.revoked: list[Revoked] = []
        self.snapshot: dict[str, Any] = {}
        # elsewhere: what is known of a mark is `epoch_ttl` old at most; a write that lands late is found by the second
        # look, at most `inflight_max` later, and the step of time in which it is taken
        self.bound = EPOCH + (INFLIGHT + LATE + 4.0 + EPOCH if late else 0.0) + (MEMORY_TTL + 4.0 if memory else 0.0)

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        result = function(*args)
        return await result if inspect.isawaitable(result) else result

    async def load(self, process: int, key: str, tagged: bool, inside: Any) -> None:
        number: list[int] = []

        def begin() -> Any:
            number.append(len(self.loads))
            self.loads.append(tagged)
            return Entry(number[0], tags=("t",) if tagged else ())

        async def awaited(_: str) -> Any:
            entry = begin()
            if inside is not None:
                await self.do(inside)
            return entry

        def plain(_: str) -> Any:
            entry = begin()
            if inside is not None:
                run_now(self.do(inside))
            return entry

        began = len(self.revoked)
        cache = self.caches[process]
        found = await self.call(cache.lookup, key, plain if self.colour == "sync" else awaited)
        if found.value not in number:
            self.check(process, found.value, began)

    def check(self, process: int, value: Any, revocations: int) -> None:
        """`value` was read, by a call that began after so many invalidations had returned."""
        if value is None:
            return
        for revoked in self.revoked[:revocations]:
            if value >= revoked.began or (revoked.tagged and not self.loads[value]):
                continue
            assert process != revoked.process, f"{value} came back where it had been invalidated: {revoked}"
            late = revoked.confirmed is not None and self.clock.monotonic() > revoked.confirmed + self.bound
            assert not late, f"{value} came back elsewhere at {self.clock.monotonic()}: {revoked}"

    async def invalidate(self, process: int, tagged: bool) -> None:
        cache, began = self.caches[process], len(self.loads)
        done = await (self.call(cache.invalidate_tag, "t") if tagged else self.call(cache.invalidate_all))
        confirmed = self.clock.monotonic() if done is Invalidation.CONFIRMED else None
        self.revoked.append(Revoked(process, tagged, began, confirmed))

    async def upkeep(self) -> None:
        for process, cache in enumerate(self.caches):
            await self.call(cache._upkeep.step)
            if not cache.health()["pending_invalidations"]:
                for revoked in self.revoked:
                    if revoked.process == process and revoked.confirmed is None:
                        revoked.confirmed = self.clock.monotonic()

    async def do(self, step: tuple[Any, ...]) -> None:
        name, process, *rest = step
        entries = self.adapter.inner.entries
        if name == "load":
            await self.load(process, *rest)
        elif name == "get":
            began = len(self.revoked)
            self.check(process, await self.call(self.caches[process].get, rest[0]), began)
        elif name == "invalidate":
            await self.invalidate(process, rest[0])
        elif name == "pass":
            self.clock.advance(rest[0])
            await self.upkeep()
        elif name == "fault":
            self.plan.then(*rest)
        elif name == "evict":
            for key in [key for key in entries if key.startswith("laws!")]:
                del entries[key]
        elif name == "empty":
            entries.clear()

    def run(self, steps: list[tuple[Any, ...]]) -> None:
        async def main() -> None:
            for step in steps:
                await self.do(step)
            self.plan.calm()
            for _ in range(12):  # at rest all is confirmed, and past every bound
                await self.do(("pass", 0, 4.0))
                for process in range(len(self.caches)):
                    for key in KEYS:
                        await self.do(("get", process, key))
            assert all(revoked.confirmed is not None for revoked in self.revoked)

        if self.colour == "sync":
            run_now(main())
        else:
            run_virtual(main(), self.clock)


PROCESSES = st.integers(0, len(SKEWS) - 1)
ERROR = Fault.raising(OSError("down"))
LOST = Fault(FaultKind.LOST, error=OSError("lost"))
INVALIDATE = st.tuples(st.just("invalidate"), PROCESSES, st.booleans())
PASS = st.tuples(st.just("pass"), st.just(0), st.sampled_from([0.125, 1.0, 2.5, 4.0]))
GET = st.tuples(st.just("get"), PROCESSES, st.sampled_from(KEYS))


def steps(*faults: Fault) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """What happens: `faults` come upon writes, and errors upon reads."""
    fault = st.tuples(st.just("fault"), st.just(0), st.just("set"), st.sampled_from([ERROR, LOST, *faults]))
    unread = st.tuples(st.just("fault"), st.just(0), st.just("get"), st.just(ERROR))
    inside = st.one_of(st.none(), INVALIDATE, PASS, GET)
    load = st.tuples(st.just("load"), PROCESSES, st.sampled_from(KEYS), st.booleans(), inside)
    loss = st.tuples(st.sampled_from(["evict", "empty"]), st.just(0))
    return st.lists(st.one_of(load, load, GET, GET, INVALIDATE, PASS, PASS, fault, unread, loss), max_size=24)


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("memory", [0, 4])
@given(data=st.data())
@settings(max_examples=40)
def test_lost_words_and_lost_marks_revive_nothing(colour: str, memory: int, data: st.DataObject) -> None:
    History(colour, memory, late=False).run(data.draw(steps()))


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("memory", [0, 4])
@given(data=st.data())
@settings(max_examples=40)
def test_late_writes_revive_nothing_for_long(colour: str, memory: int, data: st.DataObject) -> None:
    History(colour, memory, late=True).run(data.draw(steps(Fault.late(0.5), Fault.late(LATE))))
