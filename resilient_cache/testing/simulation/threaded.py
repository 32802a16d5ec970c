"""The simulation for threads: the same swarms, weather, histories and rules, in an order that the tape draws.

`simulate_threads` runs one seed, as `simulate` does for tasks: callers in threads of one or two processes ask the
synchronous cache while the weather changes, some loaders are struck by what no loader catches; sometimes all is well
again then, and the circuits must close. A seed gives the same history, byte for byte, on one version of Python; under
`Switch.LOCKS` on all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any, Final, final

from ... import deadline
from ...outcome import Operation
from ..clock import Deadlock
from ..scheduled import FOREVER
from ..scheduling import Scheduler, Switch
from .checker import check
from .histories import Command, Ending, History, Rest
from .network import SimulatedStore, calling
from .process import SimulatedProcess
from .running import Make, Run, broken_by
from .swarm import OPERATIONS, Setup, Swarm, draw
from .tape import Tape, shrink
from .thread_callers import Struck, ThreadCaller
from .weather import Front, Trouble, Weather, error_of

__all__ = ["shorten_threads", "simulate_threads"]

PAUSE: Final = 2.5  # longer than any hold
AT_ONCE: Final = (Trouble.REFUSED, Trouble.READ_ONLY, Trouble.PER_KEY, Trouble.ERROR)


@final
class ThreadProcess(SimulatedProcess):
    """One process of threads."""

    def __init__(self, world: ThreadWorld, number: int, make: Make) -> None:
        swarm = world.swarm
        super().__init__(number, swarm, world.history, world.threads.clock.monotonic)
        options = self.options(world.tape.random) | {"spawn": partial(world.threads.start, name="behind")}
        self.adopt(make(Setup(ThreadAdapter(world, self), options, swarm.fences)))


@final
class ThreadAdapter:
    """One process's way to the store: a call may lose its turn on the way there and on the way back."""

    def __init__(self, world: ThreadWorld, process: ThreadProcess) -> None:
        self._world = world
        self._process = process

    def get(self, key: str, /) -> bytes | None:
        """The bytes under `key`."""
        data: bytes | None = self._call(Operation.GET, key)
        return data

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        """Store `value` for `ttl` seconds."""
        self._call(Operation.SET, key, value, ttl)

    def delete(self, key: str, /) -> None:
        """Remove `key`."""
        self._call(Operation.DELETE, key)

    def _call(self, operation: Operation, key: str, *args: Any) -> Any:
        world, number = self._world, self._process.number
        command = world.history.command(number, operation, key, self._process.state(operation), calling())
        trouble = world.weather.hits(number, operation, key.partition(":")[2])
        command.fault = "" if trouble is None else str(trouble)
        try:
            reply = self._send(command, trouble, args)
        except Exception as error:
            world.history.end(command, Ending.RAISED, error)
            raise
        world.history.end(command, Ending.DONE)
        return reply

    def _send(self, command: Command, trouble: Trouble | None, args: tuple[Any, ...]) -> bytes | None:
        world = self._world
        effect = partial(world.store.apply, command.operation, command.key, *args)
        if trouble is not None and trouble in AT_ONCE:
            self._travel(world.delay())
            raise error_of(trouble)
        if trouble is Trouble.LOST_REQUEST:
            self._travel(FOREVER)
        if trouble is Trouble.LATE:
            self._land(world.delay(trouble), effect)
            raise error_of(trouble)
        if trouble is Trouble.FROZEN:
            world.frozen.append(effect)
            self._travel(FOREVER)
        self._travel(world.delay(trouble), effect)
        reply = self._spoilt(effect(), command.key, trouble)
        self._travel(FOREVER if trouble is Trouble.LOST_REPLY else world.delay(trouble))
        if trouble is Trouble.RESET:
            raise error_of(trouble)
        return reply

    def _travel(self, seconds: float, effect: Callable[[], object] | None = None) -> None:
        """Let time pass, as much as the deadline leaves; an `effect` that is then still on its way comes late."""
        threads, left = self._world.threads, deadline.remaining() or 0.0
        threads.sleep(min(seconds, left))
        if seconds > left:
            if effect is not None:
                self._land(seconds - left, effect)
            raise TimeoutError("silent")

    def _land(self, seconds: float, effect: Callable[[], object]) -> None:
        def land() -> None:
            threads.sleep(seconds)
            effect()

        threads = self._world.threads
        threads.start(land, name="late")

    def _spoilt(self, reply: bytes | None, key: str, trouble: Trouble | None) -> bytes | None:
        if trouble is Trouble.WRONG_KEY:
            return self._world.store.other_than(key)
        if trouble is Trouble.CORRUPT and reply:
            return reply[:-9] + bytes([reply[-9] ^ 1]) + reply[-8:]
        return reply


@final
class ThreadWorld:
    """Everything of one simulation."""

    def __init__(self, tape: Tape, make: Make, switch: Switch, modules: Sequence[ModuleType] | None) -> None:
        self.tape = tape
        self.swarm = _for_threads(tape, draw(tape, plain=True))
        self.threads = Scheduler(tape.choose, switch=switch, modules=modules)
        self.history = History(self._now)
        self.weather = Weather(tape)
        self.store = SimulatedStore(self._now)
        self.frozen: list[Callable[[], object]] = []
        self.met: Counter[tuple[str, str, str]] = Counter()
        self._latency = self.swarm.latency
        with self.threads:
            self.processes = [ThreadProcess(self, number, make) for number in range(len(self.swarm.offsets))]

    def delay(self, trouble: Trouble | None = None) -> float:
        """How long one way takes."""
        return self.tape.pick(self.swarm.slow if trouble in (Trouble.SLOW, Trouble.LATE) else self._latency)

    def thaw(self) -> None:
        """Let what the frozen server was sent take effect."""
        frozen, self.frozen = self.frozen, []
        for effect in frozen:
            effect()

    def run(self) -> Run:
        """Run it and judge it. Where time may pass while somebody could run, only orders are judged, and no times."""
        blur = FOREVER if self.threads.stalls else 0.0
        try:
            with self.threads:
                self._play()
        except (Exception, Struck) as error:  # noqa: BLE001 - of a thread that nobody waits for
            kind = "deadlock" if isinstance(error, Deadlock) else f"a thread raised {type(error).__name__}"
            self.history.complaints.append(f"{kind}: {error}")
        limits = replace(self.swarm.limits, threads=True, blur=blur)
        suffered = Counter(command.fault for command in self.history.commands if command.fault)
        return Run(self.tape.choices, self.swarm, self.history, check(self.history, limits), self.met, suffered)

    def _play(self) -> None:
        if self.swarm.gaps == (0.5,):
            everything = frozenset(self.swarm.keys), frozenset({0}), frozenset(Operation)
            self.weather.fronts.append(Front(self.swarm.troubles[0], *everything, 1.0))
        for process in self.processes:
            for index in range(self.swarm.callers):
                caller = ThreadCaller(self, process, f"c{index}")
                self.threads.start(caller.run, name=f"p{process.number} c{index}")
        self.threads.run()
        if self.tape.choose(4) == 3:
            self._recover()
        for process in self.processes:
            self.history.rests.append(Rest(process.number, process.cache.stats(), process.cache.health()))
            process.cache.close()

    def _recover(self) -> None:
        """All is well: ask until every circuit has had the time to close."""
        self._latency = self._latency[:1]
        self.weather.fronts.clear()
        self.thaw()
        self.threads.stalls = False
        self.history.event("all is well")
        self.history.healed = self._now()
        for process in self.processes:
            caller = ThreadCaller(self, process, "after")
            for _ in range(self.swarm.breaker.probes + 1):
                self.threads.sleep(PAUSE)
                self.threads.start(caller.knock, name="after")
                self.threads.run()
            self.threads.start(caller.twice, name="after")
            self.threads.run()

    def _now(self) -> float:
        return self.threads.now


def _for_threads(tape: Tape, swarm: Swarm) -> Swarm:
    """The swarm with few processes and many calls at the same moments, for races are within a process.

    Half of them are duels, of few calls over one key; one in four is a storm, whose callers come back together after a
    hold.
    """
    style = tape.pick((_duel, _duel, _storm, _crowd))
    # No modes are switched: which one a call is under that meets a switch, nobody can say from outside.
    return style(tape, replace(swarm, calm=False, switching=False, callers=2 + tape.choose(3)))


def _duel(tape: Tape, swarm: Swarm) -> Swarm:
    return replace(
        swarm,
        keys=swarm.keys[:1],
        operations=("get_or_load", tape.pick(("invalidate", "invalidate", "set", "refresh")), tape.pick(OPERATIONS)),
        troubles=swarm.troubles[: tape.choose(2)],
        offsets=swarm.offsets[:1],
        memories=(tape.pick((64, 64, 0)),),
        calls=4,
        gaps=(0.0, 1 / 8),
        latency=(0.0,),
        loading=(tape.pick((1 / 8, 1 / 8, 0.0)),),
        failing=0.0,
        cancelling=0.0,
        policy=replace(swarm.policy, max_store_calls=tape.pick((64, 1))),
    )


def _storm(tape: Tape, swarm: Swarm) -> Swarm:
    return replace(
        swarm,
        troubles=(tape.pick((Trouble.REFUSED, Trouble.LOST_REPLY)),),
        offsets=swarm.offsets[:1],
        memories=(0,),
        calls=6,
        gaps=(0.5,),
        latency=(0.0,),
        loading=(0.0,),
        breaker=replace(swarm.breaker, consecutive=2, span=0.0, hold=0.25, probes=tape.pick((2, 1)), max_hold=0.5),
    )


def _crowd(tape: Tape, swarm: Swarm) -> Swarm:
    processes = 2 if tape.choose(4) == 3 else 1
    return replace(
        swarm,
        offsets=(swarm.offsets * 2)[:processes],
        memories=(swarm.memories * 2)[:processes],
        calls=tape.pick((4, 8, 12)),
    )


def simulate_threads(
    make: Make,
    seed: int = 0,
    choices: Sequence[int] | None = None,
    *,
    switch: Switch = Switch.LOCKS,
    modules: Sequence[ModuleType] | None = None,
) -> Run:
    """Run `seed`, or the tape `choices`, with the caches that `make` builds: `ResilientCache(adapter, **options)`.

    Threads switch where `switch` says, within `modules`, by default those of this package. Never raises for what a
    cache does: a thread that hangs or raises is a complaint in the history.
    """
    return ThreadWorld(Tape(seed, choices), make, switch, modules).run()


def shorten_threads(
    make: Make,
    run: Run,
    *,
    switch: Switch = Switch.LOCKS,
    modules: Sequence[ModuleType] | None = None,
    tries: int = 400,
) -> Run:
    """A shorter run that breaks the same promise as the first violation of `run`, found in at most `tries` runs.

    Raises `ValueError` for a run that broke none.
    """
    rule = broken_by(run)

    def again(choices: Sequence[int]) -> Run:
        return simulate_threads(make, choices=choices, switch=switch, modules=modules)

    def fails(choices: list[int]) -> bool:
        return any(violation.rule == rule for violation in again(choices).violations)

    return again(shrink(run.choices, fails, tries))
