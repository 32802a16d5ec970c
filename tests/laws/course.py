"""The course of a scenario, written once for both colours, and what its callers see on the way."""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine, Generator
from dataclasses import dataclass, field
from typing import Any

from resilient_cache import Entry, Lookup, Mode, NotFound
from resilient_cache.fences import Fences
from resilient_cache.testing import DictStore, FaultPlan, ManualClock, StoreCall

from .scenario import BREAKER, KEYS, Load, Setup, Step

ANSWERS = ("hits", "stale", "negative", "loads", "misses", "errors")
READS = ("get", "lookup", "get_or_load", "lookup_or_load", "refresh")


class OriginDown(Exception):
    """The origin's own error."""


@dataclass
class Loading:
    """One call of the loader: its version is its moment in the order of everything that happened."""

    version: int
    began: float
    ended: float = 0.0
    kind: str = ""
    ttl: float | None = None
    stale_for: float | None = None


@dataclass
class Seen:
    """What a step came to, as its caller sees it, with what the driver knows around it."""

    step: Step
    mode: Mode
    began: float
    moment: int  # as the step began
    circuits: dict[str, dict[str, Any]]
    result: Any = None
    error: str = ""
    own_error: bool = False  # the very object that the loader raised in this step
    outcome: dict[str, int] = field(default_factory=dict)
    ended: float = 0.0
    loadings: list[Loading] = field(default_factory=list)
    calls: list[StoreCall] = field(default_factory=list)
    behind: list[StoreCall] = field(default_factory=list)  # by probes that ran after the step
    invalidated: list[int] = field(default_factory=list)  # moments of the invalidations of the key within the step
    placed: list[tuple[int, float]] = field(default_factory=list)  # (version, when) of the sets within the step
    meddled: bool = False
    others: list[StoreCall] = field(default_factory=list)  # of those who came between

    def visible(self) -> tuple[Any, ...]:
        """What must be the same in both colours."""
        return (
            self.step,
            self.result,
            self.error,
            self.own_error,
            self.outcome,
            self.began,
            self.ended,
            self.calls,
            self.others,
        )


class Driver:
    """One colour's way through a scenario."""

    cache: Any
    adapter: Any
    meddled: Any
    seen_now: Seen

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.clock = ManualClock()
        self.plan = FaultPlan.seeded(setup.seed, rate=setup.rate, faults=setup.faults)
        self.entries = DictStore(self.clock)
        self.behind: list[Any] = []
        self.caches: list[Any] = []
        self.moment = 0
        self.mode = Mode.ON
        self.snapshot: dict[str, tuple[bytes, float]] = {}
        self.seen: list[Seen] = []
        self.totals: dict[str, int] = {}

    # A colour

    def make(self) -> Any:
        raise NotImplementedError

    async def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    def loader(self, load: Load, seen: Seen) -> Any:
        raise NotImplementedError

    async def run_behind(self, work: Any) -> None:
        raise NotImplementedError

    # The course

    def options(self) -> dict[str, Any]:
        return {
            "name": "laws",
            "policy": self.setup.policy,
            "memory": self.setup.memory,
            "breaker": BREAKER,
            "clock": self.clock,
            "random": lambda: 0.5,
            "spawn": self.behind.append,
            "hooks": self.setup.hooks,
            "mode": (lambda: self.mode) if self.setup.mode_function else self.mode,
        }

    def started(self) -> Any:
        cache = self.make()
        self.caches.append(cache)
        local = cache._rules.local
        if self.setup.fences != 10_000:
            local.fences = Fences(local.fences._life, self.setup.fences)
        return cache

    async def play(self, steps: list[Step]) -> None:
        self.cache = self.started()
        for step in steps:
            self.seen.append(await self.take(step))
        self._add_up()

    def _add_up(self) -> None:
        for name, count in self.cache.stats().items():
            self.totals[name] = self.totals.get(name, 0) + count

    async def take(self, step: Step) -> Seen:
        mode = Mode.BYPASS if step.bypass else self.mode
        seen = Seen(step, mode, self.clock.monotonic(), self.moment, self.cache.health()["circuits"])
        self.seen_now = seen
        before, calls = self.cache.stats(), len(self.adapter.calls)
        perform = getattr(self, f"_{step.op}", None)
        with self.cache.bypassed() if step.bypass else contextlib.nullcontext():
            if perform is not None:
                await perform(step, seen)
            else:
                await self._ask(step, seen)
        seen.ended = self.clock.monotonic()
        seen.calls = [call for call in self.adapter.calls[calls:] if not any(call is other for other in seen.others)]
        if step.op != "restart":
            after = self.cache.stats()
            seen.outcome = {n: after[n] - before[n] for n in ANSWERS if after[n] != before[n]}
        calls = len(self.adapter.calls)
        while self.behind:
            await self.run_behind(self.behind.pop(0))
        seen.behind = self.adapter.calls[calls:]
        return seen

    async def _ask(self, step: Step, seen: Seen) -> None:
        args: list[Any] = [step.key]
        options: dict[str, Any] = {}
        if step.op in ("get_or_load", "lookup_or_load", "refresh"):
            args.append(self.loader(step.load, seen))
            if step.op != "refresh":
                options["deadline"] = step.deadline
        try:
            result = await self.call(step.op.replace("lookup_or_load", "lookup"), *args, **options)
        except Exception as error:
            seen.error = type(error).__name__
            seen.own_error = getattr(error, "mine", None) is seen
            return
        seen.result = result
        if isinstance(result, Lookup):
            seen.result = (bool(result), result.value, str(result.source), str(result.reason), result.age, result.stale)

    async def origin(self, key: str, load: Load, seen: Seen) -> Any:
        self.moment += 1
        loading = Loading(self.moment, self.clock.monotonic(), kind=load.kind, ttl=load.ttl, stale_for=load.stale_for)
        seen.loadings.append(loading)
        try:
            if load.during:
                await self._come_between(load.during, key, seen)
            await self.sleep(load.seconds)
        finally:
            loading.ended = self.clock.monotonic()
        if load.kind != "value":
            error: Any = OriginDown() if load.kind == "raise" else NotFound(key)
            error.mine = seen
            raise error
        value = [key, loading.version]
        return value if load.ttl is None and load.stale_for is None else Entry(value, load.ttl, load.stale_for)

    async def _come_between(self, what: str, key: str, seen: Seen) -> None:
        calls = len(self.adapter.calls)
        await (self._place if what == "set" else self._revoke)(key, None, seen)
        seen.others += self.adapter.calls[calls:]

    async def _place(self, key: str, ttl: float | None, seen: Seen) -> Any:
        self.moment += 1
        seen.placed.append((self.moment, self.clock.monotonic()))
        return await self.call("set", key, [key, self.moment], ttl=ttl)

    async def _revoke(self, key: str, _: None, seen: Seen) -> str:
        self.moment += 1
        seen.invalidated.append(self.moment)
        return str(await self.call("invalidate", key))

    async def _set(self, step: Step, seen: Seen) -> None:
        seen.result = await self._place(step.key, step.ttl, seen)

    async def _invalidate(self, step: Step, seen: Seen) -> None:
        seen.result = await self._revoke(step.key, None, seen)

    async def _advance(self, step: Step, _: Seen) -> None:
        await self.sleep(step.seconds)

    async def _jump(self, step: Step, _: Seen) -> None:
        self.clock.jump(step.seconds)

    async def _fault(self, step: Step, _: Seen) -> None:
        self.plan.then(step.at, step.fault)

    async def _outage(self, step: Step, _: Seen) -> None:
        assert step.fault is not None
        self.plan.during(step.fault)

    async def _recover(self, _: Step, __: Seen) -> None:
        self.plan.calm()

    async def _mode(self, step: Step, _: Seen) -> None:
        self.mode = step.mode
        if not self.setup.mode_function:
            self.cache.mode = step.mode

    async def _meddle(self, _: Step, seen: Seen) -> None:
        async def meddle(key: str) -> None:
            if key != self.seen_now.step.key:
                return  # a replay of another key, which no step has asked for
            self.seen_now.meddled = True
            await self._come_between("invalidate", key, self.seen_now)

        self.meddled.meddle[seen.step.at] = meddle

    async def _evict(self, _: Step, __: Seen) -> None:
        with self.cache._rules.guard.lock:
            for key in KEYS:
                self.cache._rules.local.memory.drop_locked(key)

    async def _snapshot(self, _: Step, __: Seen) -> None:
        self.snapshot = dict(self.entries.entries)

    async def _restore(self, _: Step, __: Seen) -> None:
        self.entries.entries.clear()
        self.entries.entries.update(self.snapshot)

    async def _restart(self, _: Step, __: Seen) -> None:
        self._add_up()
        self.cache = self.started()


def run_now(course: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine that never suspends returns."""
    waiting: Generator[Any, Any, Any] | Any = course
    try:
        waiting.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it suspended")
