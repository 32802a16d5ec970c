"""What the callers of a simulation do: ask, set, invalidate, cancel, switch modes; and change the weather meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, final

from ...entry import Entry, seconds
from ...errors import NotFound
from ...outcome import Mode, Operation
from .histories import EVERYTHING, LAST, SECOND, Call, Ending, Load, value_of
from .network import CALL, SimulatedStore
from .peers import Disturbance, Hub, Interference
from .swarm import MANY
from .weather import HIT_TOGETHER, MISHAPS, Front, Trouble, possible

if TYPE_CHECKING:
    from .running import Process, World

__all__ = ["Caller", "OriginError"]

DEADLINES: Final = (None, None, 1.0, 1 / 16, 1 / 4, 0.0)
CANCELLED_AFTER: Final = (1 / 8, 0.0, 1 / 64, 1 / 4, 1 / 1024)
ABOUT: Final[Mapping[str, Sequence[str]]] = {MANY[0]: (EVERYTHING,), MANY[1]: ()}
"""What an operation is about, if not a key; for a tag none, any of the swarm's."""
TURN_OF_WEATHER: Final = 0.2


class OriginError(Exception):
    """What the simulated origin fails with."""


@final
class Caller:
    """One caller in one process."""

    def __init__(self, world: World, process: Process, name: str) -> None:
        self.process = process
        self._world = world
        self._name = name
        self._tape = world.tape
        self._history = world.history
        policy = world.swarm.policy
        self._longest = seconds("max_ttl", policy.max_ttl)
        self._ttl = seconds("ttl", policy.ttl)  # pyright: ignore[reportArgumentType]
        self._stale_for = seconds("stale_for", policy.stale_for)

    async def run(self) -> None:
        """All its calls."""
        for _ in range(self._world.swarm.calls):
            await self.once()

    async def once(self) -> None:
        """Wait a while, then one call, and perhaps another weather."""
        swarm, tape = self._world.swarm, self._tape
        gap = tape.pick(swarm.gaps)
        if gap:
            await asyncio.sleep(gap)
        if swarm.troubles and tape.chance(TURN_OF_WEATHER):
            self._turn_weather()
        if swarm.peers and self._world.hub is not None and tape.chance(TURN_OF_WEATHER):
            self._turn_planes(self._world.hub, swarm.peers)
        if swarm.switching and tape.chance(0.125):
            mode = tape.pick((Mode.ON, *Mode))
            self._history.event(f"p{self.process.number} mode {mode}")
            self.process.cache.mode = mode
        operation = tape.pick(swarm.operations)
        await self._call(operation, tape.pick(ABOUT.get(operation, swarm.keys) or swarm.tags))

    async def knock(self) -> None:
        """Ask the store both ways, so that its circuits get their probes."""
        await self._call("get", "nothing", plain=True)
        await self._call("set", "rest", plain=True)

    async def look(self, key: str) -> None:
        """Ask for what there is, and load nothing."""
        self._name = "last"
        await self._call("get", key, plain=True)

    async def twice(self) -> None:
        """Load a key that nobody knows, and ask again: that is to be a hit."""
        key = f"again{self.process.number}"
        await self._call("get_or_load", key, plain=True)
        self._name = SECOND
        await self._call("get_or_load", key, plain=True)

    async def _call(self, operation: str, key: str, *, plain: bool = False) -> None:
        cache = self.process.cache
        call = self._history.call(self.process.number, self._name, operation, key, cache.mode)
        CALL.set(call)
        if not plain:
            self._note(call)
            if self._world.swarm.cancelling and self._tape.chance(self._world.swarm.cancelling):
                task = asyncio.current_task()
                self._world.loop.call_later(self._tape.pick(CANCELLED_AFTER), self._cancel, call, task)
        try:
            result = await self._ask(call, plain=plain)
        except asyncio.CancelledError:
            self._history.end(call, Ending.CANCELLED)
        except Exception as error:  # noqa: BLE001 - whatever it is, the checker judges it
            self._history.end(call, Ending.RAISED, error)
        else:
            self._history.answer(call, result)

    def _ask(self, call: Call, *, plain: bool) -> Any:
        cache, key, tape = self.process.cache, call.key, self._tape
        if call.operation == "get":
            return cache.get(key)
        if call.operation == "lookup":
            return cache.lookup(key)
        if call.operation == "invalidate":
            return cache.invalidate(key)
        if call.operation in MANY:
            return cache.invalidate_tag(key) if key != EVERYTHING else cache.invalidate_all()
        if call.operation == "set":
            ttl = None if plain else tape.pick((None, None, 0.25))
            fresh_for = self._ttl if ttl is None else ttl
            tags = self._tags() if not plain else ()
            value = self._history.gives(call, fresh_for, self._stale_for, tags)
            return cache.set(key, Entry(value, tags=tags) if tags else value, ttl=ttl)
        load = self._load_plainly if plain else self._load
        if call.operation == "refresh":
            return cache.refresh(key, load)
        deadline = None if plain or self._world.swarm.calm else tape.pick(DEADLINES)
        ask = cache.lookup if tape.choose(2) else cache.get_or_load
        return ask(key, load, deadline=deadline)

    def _cancel(self, call: Call, task: asyncio.Task[Any] | None) -> None:
        if task is not None and call.last == LAST:
            self._history.cancel(call)
            task.cancel()

    # The origin

    async def _load_plainly(self, key: str) -> str:
        load = self._begin(key, self._ttl, self._stale_for)
        self._history.end(load, Ending.VALUE)
        return value_of(key, load.number)

    async def _load(self, key: str) -> str | Entry[str]:
        swarm, tape = self._world.swarm, self._tape
        fails = swarm.failing and tape.chance(swarm.failing)
        own = None if swarm.calm else tape.pick((None, None, None, 0.25))
        load = self._begin(key, self._ttl if own is None else own, self._stale_for, self._tags())
        try:
            takes = tape.pick(swarm.loading)
            if takes:
                await asyncio.sleep(takes)
        except asyncio.CancelledError:
            self._history.end(load, Ending.CANCELLED)
            raise
        if fails:
            load.none = not tape.choose(2)
            error = NotFound(key) if load.none else OriginError(f"load #{load.number}")
            self._history.end(load, Ending.RAISED, error)
            raise error
        self._history.end(load, Ending.VALUE)
        value = value_of(key, load.number)
        return value if own is None and not load.tags else Entry(value, ttl=own, tags=load.tags)

    def _tags(self) -> tuple[str, ...]:
        given = self._world.swarm.tags
        return tuple(self._tape.some(given)) if given else ()

    def _begin(self, key: str, fresh_for: float, stale_for: float, tags: tuple[str, ...] = ()) -> Load:
        call = CALL.get()
        load = self._history.load(call, min(fresh_for, self._longest), min(stale_for, self._longest), tags)
        if key != call.key:
            self._history.complaints.append(f"the loader of {call.key} was asked for {key}")
        return load

    # The weather

    def _turn_weather(self) -> None:
        world, tape = self._world, self._tape
        network = world.networks[0] if len(world.networks) == 1 else tape.pick(world.networks)
        fronts = network.weather.fronts
        if fronts and tape.choose(2):
            gone = fronts.pop(tape.choose(len(fronts)))
            self._history.event(f"weather: {gone.trouble} is over" + f" at {network.name}" * bool(network.name))
            if gone.trouble is Trouble.FROZEN:
                network.thaw()
            return
        if len(fronts) >= 3:
            return
        trouble = tape.pick(world.swarm.troubles)
        keys = frozenset(world.swarm.exposed if tape.choose(3) < 2 else tape.some(world.swarm.exposed))
        numbers = [process.number for process in world.processes]
        processes = frozenset(numbers if tape.choose(3) < 2 else tape.some(numbers))
        operations = tape.pick(HIT_TOGETHER) & possible(trouble)
        front = Front(trouble, keys, processes, operations, tape.pick((1.0, 0.5)))
        fronts.append(front)
        hit = f"p{','.join(map(str, sorted(processes)))} {','.join(sorted(keys))} {','.join(sorted(front.operations))}"
        hit += f" at {network.name}" * bool(network.name)
        self._history.event(f"weather: {trouble} for {front.share:.0%} of {hit}")
        if trouble in MISHAPS:
            self._strike(trouble, network.store)

    def _turn_planes(self, hub: Hub, peers: Sequence[Interference]) -> None:
        tape = self._tape
        if hub.weather and tape.choose(2):
            gone = hub.weather.pop(tape.choose(len(hub.weather)))
            self._history.event(f"weather: {gone.trouble} is over")
            return
        numbers = [process.number for process in self._world.processes]
        processes = frozenset(numbers if tape.choose(3) < 1 else tape.some(numbers))
        disturbance = Disturbance(tape.pick(peers), processes)
        self._history.event(f"weather: {disturbance.trouble} of p{','.join(map(str, sorted(processes)))}")
        hub.begin(disturbance)

    def _strike(self, trouble: Trouble, store: SimulatedStore) -> None:
        world, tape = self._world, self._tape
        if trouble is Trouble.JUMP:
            process = tape.pick(world.processes)
            half = seconds("skew", world.swarm.policy.skew) / 2
            process.offset = tape.pick((-half, half, 0.0))
        else:
            store.restart(empty=trouble is Trouble.RESTART_EMPTY)
            store.save()

    def _note(self, call: Call) -> None:
        world = self._world
        fronts: list[Front | Disturbance] = [front for network in world.networks for front in network.weather.fronts]
        if world.hub is not None:
            fronts += world.hub.weather
        if fronts:
            reads = call.operation not in ("set", "invalidate", *MANY)
            state = self.process.state(Operation.GET if reads else Operation.SET)
            for front in fronts:
                if self.process.number in front.processes:
                    world.met[front.trouble, call.operation, state] += 1
