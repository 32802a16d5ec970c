"""What the callers of a simulation of threads do: ask, set, invalidate; and change the weather meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from ...entry import Entry, seconds
from ...errors import NotFound
from ...outcome import Operation
from .callers import OriginError
from .histories import SECOND, Call, Ending, Load, value_of
from .network import CALL
from .weather import MISHAPS, Front, Trouble, possible

if TYPE_CHECKING:
    from .threaded import ThreadProcess, ThreadWorld

__all__ = ["Struck", "ThreadCaller"]

DEADLINES: Final = (None, None, 1.0, 1 / 16, 1 / 4, 0.0)
TURN_OF_WEATHER: Final = 0.2


class Struck(BaseException):
    """What strikes a thread in its loader: no `Exception`, as an interrupt is none."""


@final
class ThreadCaller:
    """One caller in one process."""

    def __init__(self, world: ThreadWorld, process: ThreadProcess, name: str) -> None:
        self.process = process
        self._world = world
        self._name = name
        self._tape = world.tape
        self._history = world.history
        policy = world.swarm.policy
        longest = seconds("max_ttl", policy.max_ttl)
        self._longest = longest
        self._ttl: Any = policy.ttl
        self._stale_for = min(seconds("stale_for", policy.stale_for), longest)

    def run(self) -> None:
        """All its calls."""
        for _ in range(self._world.swarm.calls):
            self.once()

    def once(self) -> None:
        """Wait a while, then one call, and perhaps another weather."""
        swarm, tape = self._world.swarm, self._tape
        self._world.threads.sleep(tape.pick(swarm.gaps))
        if swarm.troubles and tape.chance(TURN_OF_WEATHER):
            self._turn_weather()
        self._call(tape.pick(swarm.operations), tape.pick(swarm.keys))

    def knock(self) -> None:
        """Ask the store both ways, so that its circuits get their probes."""
        self._call("get", "nothing", plain=True)
        self._world.threads.sleep(1.0)  # or the probes of both directions want the same permit
        self._call("set", "rest", plain=True)

    def twice(self) -> None:
        """Load a key that nobody knows, and ask again: that is to be a hit."""
        self._call("get_or_load", "again", plain=True)
        self._name = SECOND
        self._call("get_or_load", "again", plain=True)

    def _call(self, operation: str, key: str, *, plain: bool = False) -> None:
        history = self._history
        call = history.call(self.process.number, self._name, operation, key)
        CALL.set(call)
        if not plain:
            self._note(call)
        try:
            history.answer(call, self._ask(call, plain=plain))
        except Struck as error:
            if call.served:  # the load ran behind, and its error is an outcome as any other
                history.end(call, Ending.RAISED, error)
            else:
                history.cancel(call)
                history.end(call, Ending.CANCELLED)
        except Exception as error:  # noqa: BLE001 - whatever it is, the checker judges it
            history.end(call, Ending.RAISED, error)

    def _ask(self, call: Call, *, plain: bool) -> Any:
        cache, key, tape = self.process.cache, call.key, self._tape
        if call.operation in ("get", "lookup", "invalidate"):
            return getattr(cache, call.operation)(key)
        if call.operation == "set":
            ttl = None if plain else tape.pick((None, None, 0.25))
            fresh_for = self._ttl if ttl is None else ttl
            return cache.set(key, self._history.gives(call, fresh_for, self._stale_for), ttl=ttl)
        load = self._load_plainly if plain else self._load
        if call.operation == "refresh":
            return cache.refresh(key, load)
        ask = cache.lookup if tape.choose(2) else cache.get_or_load
        return ask(key, load, deadline=None if plain else tape.pick(DEADLINES))

    # The origin

    def _load_plainly(self, key: str) -> str:
        load = self._begin(self._ttl)
        self._history.end(load, Ending.VALUE)
        return value_of(key, load.number)

    def _load(self, key: str) -> str | Entry[str]:
        swarm, tape = self._world.swarm, self._tape
        fails = swarm.failing and tape.chance(swarm.failing)
        struck = swarm.cancelling and tape.chance(swarm.cancelling)
        own = tape.pick((None, None, None, 0.25))
        load = self._begin(self._ttl if own is None else own)
        self._world.threads.pause()
        self._world.threads.sleep(tape.pick(swarm.loading))
        if fails or struck:
            load.none = not struck and not tape.choose(2)
            error = Struck() if struck else NotFound(key) if load.none else OriginError(f"load #{load.number}")
            self._history.end(load, Ending.RAISED, error)
            raise error
        self._history.end(load, Ending.VALUE)
        value = value_of(key, load.number)
        return value if own is None else Entry(value, ttl=own)

    def _begin(self, fresh_for: float) -> Load:
        return self._history.load(CALL.get(), min(fresh_for, self._longest), self._stale_for)

    # The weather

    def _turn_weather(self) -> None:
        world, tape = self._world, self._tape
        fronts = world.weather.fronts
        if fronts and tape.choose(2):
            gone = fronts.pop(tape.choose(len(fronts)))
            self._history.event(f"weather: {gone.trouble} is over")
            if gone.trouble is Trouble.FROZEN:
                world.thaw()
            return
        if len(fronts) >= 2:
            return
        trouble = tape.pick(world.swarm.troubles)
        keys = frozenset(world.swarm.keys if not tape.choose(3) else tape.some(world.swarm.keys))
        operations = frozenset(Operation if tape.choose(2) == 0 else tape.some(tuple(Operation))) & possible(trouble)
        front = Front(trouble, keys, frozenset({0, 1}), operations, tape.pick((1.0, 0.5)))
        fronts.append(front)
        hit = f"{','.join(sorted(keys))} {','.join(sorted(operations))}"
        self._history.event(f"weather: {trouble} for {front.share:.0%} of {hit}")
        if trouble in MISHAPS:
            self._strike(trouble)

    def _strike(self, trouble: Trouble) -> None:
        world = self._world
        if trouble is Trouble.JUMP:
            half = seconds("skew", world.swarm.policy.skew) / 2
            self.process.offset = self._tape.pick((-half, half, 0.0))
        else:
            world.store.restart(empty=trouble is Trouble.RESTART_EMPTY)
            world.store.save()

    def _note(self, call: Call) -> None:
        reads = call.operation not in ("set", "invalidate")
        state = self.process.state(Operation.GET if reads else Operation.SET)
        for front in self._world.weather.fronts:
            self._world.met[front.trouble, call.operation, state] += 1
