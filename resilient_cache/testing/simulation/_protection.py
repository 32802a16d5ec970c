"""The rules about what reaches the store and the origin."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from ...errors import OriginOverloaded
from ...events import CircuitState
from ...outcome import Direction, Mode, Operation, Source
from .histories import NEVER, SECOND, Call, Command, Ending, History, Load, Spell, Transition
from .limits import GRAIN, Limits, Violation, Violations
from .network import is_mark
from .swarm import MANY

__all__ = ["check_circuits", "check_loads", "check_modes", "check_permits", "check_recovery", "direction_of"]

ALLOWED: Final = {
    Mode.ON: frozenset(Operation),
    Mode.FROZEN: frozenset(Operation),
    Mode.READ_ONLY: frozenset({Operation.GET}),
    Mode.BYPASS: frozenset[Operation](),
    Mode.MEMORY_ONLY: frozenset[Operation](),
}

HITS: Final = (Source.MEMORY, Source.STORE)
HEARD: Final = 0.9
"""A call that is given less than this share of the timeout says nothing when it runs out of time."""
NOT_BEFORE: Final[Mapping[int, float]] = MappingProxyType({})
TURNING: Final = frozenset({"invalidate", "set", "refresh"})


def direction_of(operation: Operation) -> Direction:
    """Which circuit hears of `operation`."""
    return Direction.READ if operation is Operation.GET else Direction.WRITE


def check_loads(history: History, limits: Limits) -> Violations:
    """C6, L14: one load at a time per process, key, mode and fence generation; a stuck one is replaced by one."""
    turns: defaultdict[tuple[int, str], list[Spell]] = defaultdict(list)
    for call in history.calls:
        if call.operation in TURNING:
            turns[call.process, "" if limits.floors else call.key].append(call)
    news = _news(history)
    for load in history.loads:
        if load.none:  # what the origin had before is no more: fenced
            turns[load.process, "" if limits.floors else load.key].append(load)
    running: dict[tuple[int, str, Mode], list[Load]] = {}
    for load in history.loads:
        others = running.setdefault((load.process, load.key, load.mode), [])
        others[:] = [other for other in others if other.last > load.number]
        for other in others[-1:]:
            between = _overlaps if limits.threads else _turns_between
            turned = any(between(turn, other, load) for turn in turns[load.process, "" if limits.floors else load.key])
            turned = turned or any(_between(other, word, load) for word in news[load.process])
            stuck = load.began - other.began >= _stuck_after(limits)
            if not turned and not stuck:
                yield Violation("two loads at once", f"of {load.key}", (other.number, load.number))
        others.append(load)
    if limits.max_loads is not None:
        rule = "more loads at once than max_loads"
        yield from _at_most(limits.max_loads, _stuck_after(limits), rule, history.loads)


def _stuck_after(limits: Limits) -> float:
    """A flight counts as stuck so long after it took off, which is that much after its load began at the earliest."""
    return limits.flight_age - limits.timeout - limits.load_wait - GRAIN - limits.blur


def _between(earlier: Load, news: tuple[int, float], later: Load) -> bool:
    """Whether a process may have learned the news while `earlier` ran; that is a little after the answer has come."""
    return news[0] < later.number and news[1] >= earlier.began - GRAIN


def _news(history: History) -> defaultdict[int, list[tuple[int, float]]]:
    """When each process may have heard of an invalidation elsewhere, or missed one: nobody joins a flight of before."""
    news: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
    for call in history.calls:
        if call.operation in MANY:
            news[call.process].append((call.number, call.began))
    for command in history.asked():
        if command.ending is Ending.DONE and is_mark(command.key):
            news[command.process].append((command.last, command.ended))
    for word in history.words:
        if word.what in ("heard", "ready", "lost"):
            news[word.process].append((word.number, word.at))
    return news


def _turns_between(turn: Spell, earlier: Load, later: Load) -> bool:
    if isinstance(turn, Call) and turn.operation == "refresh":  # a generation of its own, from some moment of it on
        return turn.number != earlier.call and turn.number < later.number and turn.last > earlier.number
    return earlier.number < turn.number < later.number


def _overlaps(turn: Spell, earlier: Load, later: Load) -> bool:
    own = turn.number == earlier.call and later.call > earlier.number
    return not own and turn.number < later.number and turn.last > min(earlier.call, later.call)


def check_permits(history: History, limits: Limits) -> Violations:
    """L15: no more store calls at once than there are permits; a permit is held until the work ends."""
    rule = "more store calls at once than max_store_calls"
    commands = history.asked()
    taken: dict[int, float] = {}
    if limits.threads:  # one that stood still between its permit and its store call may have lost the permit meanwhile
        asked = {call.number: call.began for call in history.calls}
        taken = {command.number: asked.get(command.call, command.began) for command in commands}
    yield from _at_most(limits.max_store_calls, limits.permit_life - GRAIN, rule, commands, taken)


def _at_most(
    most: int, life: float, rule: str, spells: Sequence[Spell], taken: Mapping[int, float] = NOT_BEFORE
) -> Violations:
    """No more of one process at once, but for those `life` seconds old. `taken`: when one was begun at the earliest."""
    running: defaultdict[int, list[Spell]] = defaultdict(list)
    for spell in spells:
        mine = running[spell.process]
        mine.append(spell)
        mine[:] = [
            other
            for other in mine
            if other.last > spell.number and spell.began - taken.get(other.number, other.began) < life
        ]
        if len(mine) > most:
            yield Violation(rule, f"{len(mine)}, allowed {most}", (spell.number,))


def check_modes(history: History, _limits: Limits) -> Violations:
    """L20: what a mode forbids does not reach the store."""
    modes = {call.number: call.mode for call in history.calls}
    for command in history.asked():
        mode = modes.get(command.call, Mode.ON)
        if command.operation not in ALLOWED[mode]:
            yield Violation("a mode was not obeyed", f"store {command.operation} under {mode}", (command.number,))


class _Circuit:
    """One circuit's transitions and the commands through it."""

    def __init__(self) -> None:
        self.turns: list[Transition] = []
        self.commands: list[Command] = []

    def opened_around(self, moment: float, blur: float) -> bool:
        """Whether a call that was admitted at `moment` may have been so before it opened."""
        return any(turn.after is CircuitState.OPEN and abs(turn.at - moment) <= blur for turn in self.turns)

    def told_in_order(self) -> bool:
        """Whether each turn fits the one before: a thread may tell of one after another thread told of the next."""
        states = [CircuitState.CLOSED, *(turn.after for turn in self.turns)]
        return all(
            (turn.before is CircuitState.CLOSED) == (state is CircuitState.CLOSED)
            for state, turn in zip(states, self.turns, strict=False)
        )


def _circuits(history: History) -> dict[tuple[int, str, Direction], _Circuit]:
    circuits: defaultdict[tuple[int, str, Direction], _Circuit] = defaultdict(_Circuit)
    for turn in history.transitions:
        circuits[turn.process, turn.store, turn.direction].turns.append(turn)
    for command in history.commands:
        circuits[command.process, command.store, direction_of(command.operation)].commands.append(command)
    return circuits


def check_circuits(history: History, limits: Limits) -> Violations:
    """C7, L16: nothing but probes, one at a time, through a circuit that is open; each turn has its reasons."""
    of_vendors = replace(limits, timeout=limits.vendor_timeout)
    for (_, store, _), circuit in _circuits(history).items():
        yield from _check_circuit(circuit, of_vendors if store else limits)


def _check_circuit(circuit: _Circuit, limits: Limits) -> Violations:
    probe: Command | None = None
    for command in circuit.commands:
        if command.state is CircuitState.OPEN:
            if not circuit.opened_around(command.began, GRAIN + limits.blur):
                yield Violation("a call through an open circuit", str(command.operation), (command.number,))
        elif command.state is CircuitState.HALF_OPEN:
            if probe is not None and _out(probe, command, limits):
                yield Violation("two probes at once", str(command.operation), (probe.number, command.number))
            probe = command
    yield from _turns(circuit, limits)


def _out(probe: Command, command: Command, limits: Limits) -> bool:
    return command.number < probe.last and command.began < probe.began + limits.timeout - limits.blur


def _turns(circuit: _Circuit, limits: Limits) -> Violations:
    if limits.threads and (limits.blur or not circuit.told_in_order()):
        return
    several = min(limits.consecutive, limits.min_failures)
    for before, turn in zip([None, *circuit.turns], circuit.turns, strict=False):
        late = limits.threads and turn.after is CircuitState.OPEN  # the turn before may have been told after a failure
        since = 0 if before is None or late else before.number
        heard = circuit.commands[bisect_left(circuit.commands, since, key=lambda command: command.number) :]
        if turn.after is CircuitState.CLOSED:
            good = sum(command.ending is Ending.DONE and command.last < turn.number for command in heard)
            if good < limits.probes:
                yield Violation("closed without its successes", f"{good} of {limits.probes}", (turn.number,))
        else:
            least = several if turn.before is CircuitState.CLOSED else 1
            bad = sum(_failed(command, turn, limits) for command in heard)
            if bad < least:
                yield Violation("opened without its failures", f"{bad} of {least}", (turn.number,))


def _failed(command: Command, turn: Transition, limits: Limits) -> bool:
    if command.number > turn.number:
        return False
    patience = HEARD * limits.timeout - GRAIN - limits.blur
    over = command.began + patience <= turn.at
    late = command.last > turn.number or command.ended > command.began + patience
    return (command.ending is Ending.RAISED and command.last < turn.number) or (over and late)


def _crowded(history: History, second: Call, limits: Limits) -> bool:
    """Whether other calls or loads may have had all the permits while a key was asked for twice."""
    pair = [call for call in history.calls if call.key == second.key and call.process == second.process]
    if any(isinstance(call.error, OriginOverloaded) for call in pair):
        return True
    own = {call.number for call in pair}
    others = [
        command
        for command in history.asked()
        if command.process == second.process
        and command.call not in own
        and command.number < second.last
        and command.last > pair[0].number
    ]
    return len(others) >= limits.max_store_calls


def _told(history: History, second: Call) -> bool:
    """Whether peers told of something since the key was loaded: a few fences overflow, and the floor is for all."""
    began = min(call.number for call in history.calls if call.key == second.key and call.process == second.process)
    return any(
        word.what == "heard" and word.process == second.process and began < word.number < second.last
        for word in history.words
    )


def _marked_anew(history: History, second: Call) -> bool:
    """Whether a mark was written, or could not be had, after all was well and before `second` ended.

    Or whether `second` itself asked for one: it may have been another than the one that the value was stored under.
    """
    return any(
        is_mark(command.key)
        and command.number < second.last
        and (
            command.operation is Operation.SET
            or command.ending is not Ending.DONE
            or (command.call == second.number and command.process == second.process)
        )
        for command in history.asked()
        if command.ended > history.healed
    )


def check_recovery(history: History, limits: Limits) -> Violations:
    """C8, L16: once the store is well no circuit opens anew, and each is closed again within one hold.

    Only of a history whose callers kept asking after `healed`, until `history.rests` was taken.
    """
    if history.healed == NEVER:
        return
    for call in history.calls:
        if call.caller != SECOND or call.source in HITS or _crowded(history, call, limits):
            continue
        if not _marked_anew(history, call) and not (limits.floors and _told(history, call)):
            yield Violation("a second read did not hit", f"{call.key} from {call.source}", (call.number,))
    for (process, store, direction), circuit in _circuits(history).items():
        if not circuit.turns or store in limits.vendors[1:]:  # nobody need ask a stand-in
            continue
        last = circuit.turns[-1]
        where = f"{store} {direction} of p{process}".lstrip()
        if last.after is not CircuitState.CLOSED and (not limits.threads or circuit.told_in_order()):
            yield Violation("a circuit did not close again", where, (last.number,))
        for turn in circuit.turns:
            if turn.after is CircuitState.OPEN and turn.at > history.healed + limits.timeout + GRAIN + limits.blur:
                yield Violation("opened although the store is well", where, (turn.number,))
