"""The record of what happened to a cache: who asked what, who answered what, what reached the store and the origin.

Two orders are kept. `number` counts every event of a history, across processes, in the order in which they happened;
`began` and `ended` are seconds of one global clock that no process sees.

Values tell where they come from: `value_of(key, number)` is what the load (or the `set`) with that number gave for that
key. So whoever finds a value in an answer knows its key and the moment it came into being, and no search is needed to
decide whether it may have been served. `check` decides.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, cast, final

from ...events import CircuitState
from ...outcome import Direction, Invalidation, Lookup, Mode, Operation, Source

__all__ = [
    "EVERYTHING",
    "LAST",
    "NEVER",
    "Call",
    "Command",
    "Ending",
    "Event",
    "History",
    "Load",
    "Rest",
    "Spell",
    "Transition",
    "Word",
    "read_value",
    "value_of",
]

NEVER: Final = float("inf")
EVERYTHING: Final = "*"
"""In place of a key: of all of them."""
LAST: Final = 2**62
"""The number of an end that has not come."""
SECOND: Final = "second"
"""The name of a caller whose every call comes right after another one's, when all is well: it is to hit."""


class Ending(StrEnum):
    """How a call, a load or a command ended."""

    OPEN = "open"  # it has not
    VALUE = "value"
    NOTHING = "nothing"  # a miss, or the origin's "there is none"
    DONE = "done"  # a `set` that the store acknowledged; a command
    NOT_DONE = "not_done"
    CONFIRMED = "confirmed"
    PENDING = "pending"
    RAISED = "raised"
    CANCELLED = "cancelled"


def value_of(key: str, number: int) -> str:
    """The value for `key` of the load, or the `set`, with that number."""
    return f"{key}@{number}"


def read_value(value: object) -> tuple[str, int] | None:
    """The key and the number in `value`; None when no load and no `set` of a history gave it."""
    if not isinstance(value, str):
        return None
    key, _, number = value.rpartition("@")
    whole = number.isascii() and number.isdigit() and len(number) <= len(str(LAST))
    return (key, int(number)) if whole else None


@dataclass(slots=True, eq=False)
class Spell:
    """Something that takes time."""

    number: int
    process: int
    key: str
    began: float
    ended: float = NEVER
    last: int = LAST  # the number of the end
    ending: Ending = Ending.OPEN
    error: BaseException | None = None  # what it raised, the object itself


@final
@dataclass(slots=True, eq=False)
class Call(Spell):
    """One call of a caller."""

    caller: str = ""
    operation: str = "get"  # the method's name; "lookup" with a loader is "get_or_load"
    mode: Mode = Mode.ON
    value: object = None
    source: Source | None = None
    served: int = 0  # how often hooks were told of its end
    cancelled: int = LAST  # the number of its caller's own cancellation
    cancelled_at: float = NEVER


@final
@dataclass(slots=True, eq=False)
class Load(Spell):
    """One run of a loader. `fresh_for` and `stale_for` are the windows, in seconds, that its value is given."""

    call: int = 0  # the number of the call that leads it
    mode: Mode = Mode.ON
    fresh_for: float = 0.0
    stale_for: float = 0.0
    none: bool = False  # it raised `NotFound`
    tags: tuple[str, ...] = ()


@final
@dataclass(slots=True, eq=False)
class Command(Spell):
    """One call of the cache to its store, as the adapter sees it."""

    operation: Operation = Operation.GET
    call: int = 0
    state: CircuitState = CircuitState.CLOSED  # of its circuit, when it began
    fault: str = ""  # what went wrong with it
    gives: int = 0  # of a `set`, the birth of the value that it writes
    effect: float = NEVER  # when the store carried it out
    store: str = ""  # the name of the vendor; of the cache's own call, whether or not there are vendors, none
    within: int = 0  # the number of the cache's own call that asked the vendor; 0: nobody's, it was asked behind
    gave: int = 0  # of a `get`, the birth of the value in the answer
    life: float = 0.0  # of a `set`, in seconds


@final
@dataclass(slots=True, frozen=True)
class Transition:
    """A circuit changed; `hold` is for how long it is to stay open."""

    number: int
    at: float
    process: int
    direction: Direction
    before: CircuitState
    after: CircuitState
    hold: float
    store: str = ""  # of which vendor; none: the cache's own


@final
@dataclass(slots=True, frozen=True)
class Event:
    """Anything else: a fault begins or ends, a mode is switched, a clock jumps."""

    number: int
    at: float
    what: str


@final
@dataclass(slots=True, frozen=True)
class Word:
    """Something about the backplane, as process `process` knows it.

    `what`: it "told" the others of `names` (keys, tags, or `EVERYTHING`), was refused ("untold") or does not know that
    it did ("unheard"); or it "heard" of them from process `by`, who told it with number `told`; from now on it misses
    nothing ("ready"), or has missed something ("lost").
    """

    number: int
    at: float
    process: int
    what: str
    names: tuple[str, ...] = ()
    by: int = -1
    told: int = 0


@final
@dataclass(slots=True, frozen=True)
class Rest:
    """What a process says of itself when all has ended: its `stats()` and its `health()`."""

    process: int
    stats: dict[str, int]
    health: dict[str, object]


@final
@dataclass(slots=True)
class History:
    """What happened. `now` reads the global clock.

    Safe to record from several threads. `healed` is the moment from which on no fault lasts and callers keep asking,
    `NEVER` without one; `complaints` are what the runtime itself reported: an exception nobody took, a task left over.
    """

    now: Callable[[], float]
    calls: list[Call] = field(default_factory=list[Call])
    loads: list[Load] = field(default_factory=list[Load])
    commands: list[Command] = field(default_factory=list[Command])
    transitions: list[Transition] = field(default_factory=list[Transition])
    events: list[Event] = field(default_factory=list[Event])
    words: list[Word] = field(default_factory=list[Word])
    rests: list[Rest] = field(default_factory=list[Rest])
    complaints: list[str] = field(default_factory=list[str])
    born: dict[int, Load] = field(default_factory=dict[int, Load])
    healed: float = NEVER
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def next(self) -> int:
        """The number of the event that happens now."""
        return next(self._numbers)

    def call(self, process: int, caller: str, operation: str, key: str, mode: Mode = Mode.ON) -> Call:
        """A call begins."""
        call = Call(self.next(), process, key, self.now(), caller=caller, operation=operation, mode=mode)
        self.calls.append(call)
        return call

    def gives(self, call: Call, fresh_for: float, stale_for: float, tags: tuple[str, ...] = ()) -> str:
        """The value that a `set` is to write, how long it may be served, and the tags that it has."""
        self.born[call.number] = Load(
            call.number, call.process, call.key, call.began, call=call.number,
            fresh_for=fresh_for, stale_for=stale_for, tags=tags,
        )  # fmt: skip
        return value_of(call.key, call.number)

    def load(self, call: Call, fresh_for: float, stale_for: float, tags: tuple[str, ...] = ()) -> Load:
        """A loader starts, led by `call`. What it is to give is `value_of(load.key, load.number)`."""
        load = Load(
            self.next(), call.process, call.key, self.now(), call=call.number, mode=call.mode,
            fresh_for=fresh_for, stale_for=stale_for, tags=tags,
        )  # fmt: skip
        self.loads.append(load)
        self.born[load.number] = load
        return load

    def command(
        self, process: int, operation: Operation, key: str, state: CircuitState = CircuitState.CLOSED, call: int = 0
    ) -> Command:
        """The cache calls its store, while the circuit of that direction is in `state`."""
        command = Command(self.next(), process, key, self.now(), operation=operation, call=call, state=state)
        self.commands.append(command)
        return command

    def end(self, spell: Spell, ending: Ending, error: BaseException | None = None) -> None:
        """A call, a load or a command ends."""
        spell.last, spell.ended, spell.ending, spell.error = self.next(), self.now(), ending, error

    def answer(self, call: Call, result: object) -> None:
        """A call ends with what the method returned."""
        value: object = result
        if isinstance(result, Lookup):
            found = cast("Lookup[object]", result)
            call.source, value = found.source, found.value
        call.value = value
        self.end(call, _ending_of(value))

    def cancel(self, call: Call) -> None:
        """The caller of `call` is being cancelled."""
        call.cancelled, call.cancelled_at = self.next(), self.now()

    def transition(
        self,
        process: int,
        direction: Direction,
        before: CircuitState,
        after: CircuitState,
        hold: float,
        *,
        store: str = "",
    ) -> None:
        """A circuit changed."""
        self.transitions.append(Transition(self.next(), self.now(), process, direction, before, after, hold, store))

    def word(self, process: int, what: str, names: tuple[str, ...] = (), by: int = -1, told: int = 0) -> Word:
        """Something happened on the backplane."""
        word = Word(self.next(), self.now(), process, what, names, by, told)
        self.words.append(word)
        return word

    def asked(self) -> list[Command]:
        """What the cache asked of its store, of several vendors as of one."""
        return [command for command in self.commands if not command.store]

    def sent(self) -> list[Command]:
        """What reached a store."""
        return [command for command in self.commands if command.store] or self.commands

    def event(self, what: str) -> None:
        """Anything else happened."""
        self.events.append(Event(self.next(), self.now(), what))

    def text(self, until: int = LAST) -> str:
        """The history in its order, to the event with the number `until`, one a line: number, time, process, what."""
        lines = sorted(self._lines())
        return "\n".join(f"{number:5} {at:9.4f} {line}" for number, at, line in lines if number <= until)

    def _lines(self) -> Iterable[tuple[int, float, str]]:
        spells: list[Spell] = [*self.calls, *self.loads, *self.commands]
        for spell in spells:
            yield spell.number, spell.began, f"{_who(spell)} {spell.key} ..."
            if spell.last < LAST:
                yield spell.last, spell.ended, f"{_who(spell)} {spell.key} -> {_how(spell)}"
        for call in self.calls:
            if call.cancelled < LAST:
                yield call.cancelled, call.cancelled_at, f"{_who(call)} {call.key} is cancelled"
        for turn in self.transitions:
            held = f" for {turn.hold:.3f} s" if turn.hold else ""
            where = " ".join(filter(None, ("circuit", turn.store, turn.direction)))
            line = f"p{turn.process}   {where}: {turn.before} -> {turn.after}{held}"
            yield turn.number, turn.at, line
        for word in self.words:
            about = f" of {','.join(word.names)}" * bool(word.names) + f" from p{word.by}" * (word.by >= 0)
            yield word.number, word.at, f"p{word.process}   backplane: {word.what}{about}"
        for event in self.events:
            yield event.number, event.at, event.what


def _ending_of(result: object) -> Ending:
    if isinstance(result, Invalidation):
        return Ending.CONFIRMED if result is Invalidation.CONFIRMED else Ending.PENDING
    if isinstance(result, bool):
        return Ending.DONE if result else Ending.NOT_DONE
    return Ending.NOTHING if result is None else Ending.VALUE


def _who(spell: Spell) -> str:
    if isinstance(spell, Call):
        mode = "" if spell.mode is Mode.ON else f" [{spell.mode}]"
        return f"p{spell.process} {spell.caller}: {spell.operation}{mode} #{spell.number}"
    if isinstance(spell, Command):
        where = spell.store or "store"
        return f"p{spell.process}   {where} {spell.operation} #{spell.number} for #{spell.call} [{spell.state}]"
    assert isinstance(spell, Load)
    return f"p{spell.process}   load #{spell.number} for #{spell.call}"


def _how(spell: Spell) -> str:
    said = str(spell.ending)
    if spell.error is not None:
        said += f" {type(spell.error).__name__}({spell.error})"
    if isinstance(spell, Call) and spell.ending is Ending.VALUE:
        said = f"{spell.value} from {spell.source}"
    if isinstance(spell, Command) and spell.fault:
        said += f" ({spell.fault})"
    return said
