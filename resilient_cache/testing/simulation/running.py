"""The simulation of several processes with a cache each, on one store, behind one network, in front of one origin.

`simulate` runs one seed: callers ask, cancel and switch while the weather changes; then all is well again and callers
go on asking until the circuits are closed; then nobody asks, and nothing may be left. What happened is one `History`.
Every decision comes from one tape: a seed gives the same history, byte for byte, whenever and wherever it is run.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeAlias, final

from .callers import Caller
from .checker import check
from .histories import History, Rest
from .limits import Limits, Violation
from .network import Network, SimulatedAdapter
from .peers import Hub, Place
from .process import SimulatedProcess
from .seeded import SeededLoop
from .swarm import Setup, Swarm, Vendors, draw
from .tape import Tape, shrink
from .vendors import NAMES, MakeFailover, Together, serving

__all__ = ["Make", "Run", "broken_by", "shorten", "simulate"]

Make: TypeAlias = Callable[[Setup], Any]
"""Builds the cache of one simulated process: an `AsyncResilientCache`, or whatever has its methods."""

LONGEST: Final = 3600.0  # of a life in the first vendor: none is cut
STEP: Final = 1 / 8
AFTERLIFE: Final = 8.0  # longer than any store call is left to itself


@final
@dataclass(slots=True)
class Run:
    """One simulation: its choices, what happened, and the promises it broke.

    `met` counts (trouble, operation of a caller, state of its circuit); `suffered` the store calls by their trouble.
    """

    choices: list[int]
    swarm: Swarm
    history: History
    violations: list[Violation]
    met: Counter[tuple[str, str, str]] = field(default_factory=Counter[tuple[str, str, str]])
    suffered: Counter[str] = field(default_factory=Counter[str])


@final
class Process(SimulatedProcess):
    """One process of tasks."""

    def __init__(self, world: World, number: int, make: Make) -> None:
        swarm = world.swarm
        super().__init__(number, swarm, world.history, world.loop.time)
        self.doubled = swarm.vendors is not None
        options = self.options(world.tape.random)
        stores = [SimulatedAdapter(network, number, swarm.connections, network.name) for network in world.networks]
        adapter = stores[0] if swarm.vendors is None else self._together(world, swarm.vendors, stores, options)
        if world.hub is not None:
            options["backplane"] = Place(world.hub, number)
        self.adopt(make(Setup(adapter, options, swarm.fences)))
        adapter.state = self.state

    def is_served(self) -> bool:
        """Whether its circuits are closed, and those of its first vendor."""
        closed = all(circuit.state == "closed" for circuit in self.circuits.values())
        return closed and (not self.doubled or serving(self.cache.health()["store"]) == NAMES[0])

    def _together(
        self, world: World, vendors: Vendors, stores: Sequence[SimulatedAdapter], options: Mapping[str, Any]
    ) -> Together:
        assert world.failover is not None
        whole = world.failover(
            *stores,
            names=NAMES,
            timeout=vendors.timeout,
            stand_in_ttl=vendors.stand_in_ttl,
            max_ttl=LONGEST,
            hedge_after=vendors.hedge_after,
            **{name: options[name] for name in ("breaker", "hooks", "clock", "random")},
        )
        return Together(world.history, self.number, stores, whole)


@final
class World:
    """Everything of one simulation."""

    def __init__(self, tape: Tape, make: Make, failover: MakeFailover | None) -> None:
        self.tape = tape
        self.failover = failover
        drawn = draw(tape)
        self.swarm = swarm = drawn if failover is not None else replace(drawn, vendors=None)
        self.loop = SeededLoop(tape, orderly=self.swarm.orderly)
        self.history = History(self.loop.time)
        self.networks = [
            Network(self.loop, tape, self.history, swarm.latency, swarm.slow, name=name)
            for name in (NAMES if swarm.vendors is not None else ("",))
        ]
        self.hub = None
        if swarm.peers is not None:
            self.hub = Hub(self.loop, tape, self.history, swarm.keys, swarm.tags)
        self.met: Counter[tuple[str, str, str]] = Counter()
        self.processes = [Process(self, number, make) for number in range(len(self.swarm.offsets))]

    def run(self) -> Run:
        """Run it and judge it."""
        history, loop = self.history, self.loop
        try:
            hung = loop.drive(loop.create_task(self._main()))
        except Exception as error:  # noqa: BLE001 - of what a cache says of itself, or of its end
            history.complaints.append(f"a cache raised {type(error).__name__}: {error}")
        else:
            left = 0 if hung else sum(not task.done() for task in loop.tasks)
            history.complaints += [f"deadlock: {hung}"] * bool(hung) + [f"{left} tasks are left"] * bool(left)
        history.complaints += loop.complaints
        suffered = Counter(command.fault for command in history.commands if command.fault)
        violations = check(history, self.swarm.limits)
        loop.close()
        return Run(self.tape.choices, self.swarm, history, violations, self.met, suffered)

    async def _main(self) -> None:
        swarm = self.swarm
        callers = [
            Caller(self, process, f"c{index}") for process in self.processes for index in range(swarm.callers)
        ]  # fmt: skip
        if swarm.calm:
            await self._in_turn(callers)
        else:
            tasks = [self.loop.create_task(caller.run()) for caller in callers]
            for task in tasks:
                await task
            await self._recover()
        await asyncio.sleep(AFTERLIFE)
        for process in self.processes:
            cache = process.cache
            self.history.rests.append(Rest(process.number, cache.stats(), cache.health()))
            await cache.aclose()

    async def _in_turn(self, callers: Sequence[Caller]) -> None:
        for _ in range(self.swarm.calls):
            for caller in callers:
                await caller.once()

    async def _recover(self) -> None:
        """All is well: ask until every circuit has had the time to close, and in the end what the store has."""
        for network in self.networks:
            network.heal()
        if self.hub is not None:
            self.hub.heal()
        self.history.event("all is well")
        self.history.healed = self.loop.now
        callers = [Caller(self, process, "after") for process in self.processes]
        limits = self.swarm.limits
        for caller in callers:
            caller.process.cache.mode = "on"
        await self._knock(callers, limits)
        for caller in callers:
            await caller.twice()
        await asyncio.sleep(limits.inflight_max + (limits.replay or 0.0) + (limits.epoch_ttl or 0.0))
        if limits.epoch_ttl is not None and self.tape.choose(2):
            callers.reverse()  # who invalidated deletes what it refuses, and is not to come first always
        for caller in callers:
            for key in self.swarm.keys:
                await caller.look(key)

    async def _knock(self, callers: Sequence[Caller], limits: Limits) -> None:
        until = self.history.healed + limits.timeout + STEP
        pace = STEP + 2 * max(self.swarm.latency)
        step, longest = STEP, limits.max_hold + (limits.probes + 1) * pace
        if limits.vendors:  # one after the other: what it owes, its circuit, the one of the cache
            longest, step = (limits.replay or 0.0) + 2 * longest, 4 * STEP
        for caller in callers:
            await caller.knock()
        while self.loop.now <= until or not all(map(_served, callers)):
            if self.loop.now > until + longest:
                break
            await asyncio.sleep(step)
            for caller in callers:
                if not _served(caller):
                    await caller.knock()


def _served(caller: Caller) -> bool:
    return caller.process.is_served()


def broken_by(run: Run) -> str:
    """The promise that `run` broke first."""
    if not run.violations:
        raise ValueError("run must have broken a promise: a good one cannot be shortened")
    return run.violations[0].rule


def simulate(
    make: Make, seed: int = 0, choices: Sequence[int] | None = None, *, failover: MakeFailover | None = None
) -> Run:
    """Run `seed`, or the tape `choices`, with the caches that `make` builds.

    Never raises for what a cache does: of what raises where callers do not see it, a complaint is in the history.
    `failover`: builds one adapter of several, as `AsyncFailover` does; without it no cache has two vendors.
    """
    return World(Tape(seed, choices), make, failover).run()


def shorten(make: Make, run: Run, tries: int = 400, *, failover: MakeFailover | None = None) -> Run:
    """A shorter run that breaks the same promise as the first violation of `run`. Raises `ValueError` without one."""
    rule = broken_by(run)

    def fails(choices: list[int]) -> bool:
        return any(violation.rule == rule for violation in again(choices).violations)

    again = partial(simulate, make, 0, failover=failover)
    return again(shrink(run.choices, fails, tries))
