"""The rule about what other processes find in the store once an invalidation has been confirmed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from ...events import CircuitState
from ...outcome import Operation, Source
from .histories import NEVER, Call, Command, Ending, History, Load, read_value
from .limits import GRAIN, Limits, Violation, Violations
from .network import name_in, stored_as
from .weather import Trouble

__all__ = ["HEARD", "check_owed", "check_settled"]

HEARD: Final = 1.0
"""Seconds after which every process knows that what it has in memory is no longer in the store."""
REVOKED: Final = frozenset({Ending.CONFIRMED, Ending.PENDING, Ending.NOT_DONE})
UNHEARD: Final = frozenset({Trouble.LATE, Trouble.RESET, Trouble.LOST_REPLY, Trouble.SLOW})
"""The troubles after which a write that has failed may be in the store."""


class _Writes:
    """What was sent to the store for one key, and when it went back to what it had some time before."""

    def __init__(
        self, commands: Sequence[Command], restarts: Sequence[int], left: frozenset[int], limits: Limits
    ) -> None:
        self.sets: defaultdict[int, list[Command]] = defaultdict(list)
        self._done: defaultdict[int, list[int]] = defaultdict(list)
        self._restarts = restarts
        self._left = left  # the calls that were cancelled: nobody there hears what came of their writes
        self._longest = limits.inflight_max
        for command in commands:
            if command.operation is Operation.SET:
                self.sets[command.gives].append(command)
            if command.operation is not Operation.GET and command.ending is Ending.DONE:
                self._done[command.process].append(command.number)

    def undone(self, call: Call) -> bool:
        """Whether the store forgot, after it had acknowledged it, that it was to have nothing older than `call`.

        That is no promise: nobody asks again what has been confirmed.
        """
        done = [number for number in self._done[call.process] if number > call.number]
        return any(number < restart for number in done for restart in self._restarts)

    def only_before(self, birth: Load, call: Call) -> bool:
        """Whether the value was written in time: before `call` by others, and not for longer than a write may take.

        Another process may still put in what it had loaded before. That is no promise either.
        """
        return all(
            (write.number < call.number or write.process == call.process) and self._in_time(write)
            for write in self.sets[birth.number]
        )

    def never_confirmed(self, birth: Load) -> float:
        """When the last write of the value failed, with nobody knowing what came of it; `NEVER` if any was known of."""
        writes = self.sets[birth.number]
        unknown = all(
            write.ending is Ending.RAISED
            and write.fault in UNHEARD
            and write.state is CircuitState.CLOSED  # of a probe nobody waits for the answer
            and write.call not in self._left
            and self._in_time(write)
            for write in writes
        )
        return max(write.ended for write in writes) if writes and unknown else NEVER

    def _in_time(self, write: Command) -> bool:
        return write.effect == NEVER or write.effect <= write.began + self._longest - GRAIN


def check_owed(history: History, _limits: Limits) -> Violations:
    """G3: nothing is owed any more only when the store has acknowledged a delete, or a value, that was sent after."""
    latest: defaultdict[tuple[int, str], int] = defaultdict(int)
    for command in history.asked():
        if command.operation is not Operation.GET and command.ending is Ending.DONE:
            latest[command.process, command.key] = command.number
    nothing_owed = {rest.process for rest in history.rests if rest.health.get("pending_invalidations") == 0}
    for call in history.calls:
        pending = call.ending is Ending.PENDING and call.process in nothing_owed
        if pending and latest[call.process, stored_as(call)] < call.number:
            yield Violation("settled without a word of the store", f"{call.key} of p{call.process}", (call.number,))


def check_settled(history: History, limits: Limits) -> Violations:
    """G2, G3: once all has been well for `replay`, the store has nothing older than an invalidation, for anybody.

    With a backplane, memory has none either, `HEARD` later. And no value of which no write was ever confirmed,
    `inflight_max` later. Only what is read there is judged.
    """
    if limits.replay is None:
        return
    commands: defaultdict[str, list[Command]] = defaultdict(list)
    for command in history.sent():
        commands[name_in(command.key)].append(command)
    restarts = [
        event.number for event in history.events if event.what.startswith(f"weather: {Trouble.RESTART_OLD} for")
    ]
    left = frozenset(call.number for call in history.calls if call.ending is Ending.CANCELLED)
    writes = {key: _Writes(sent, restarts, left, limits) for key, sent in commands.items()}
    nothing = _Writes((), restarts, left, limits)
    sources = (Source.STORE, Source.MEMORY) if limits.peers else (Source.STORE,)
    for call in history.calls:
        found = read_value(call.value) if call.source in sources and call.ending is Ending.VALUE else None
        birth = history.born.get(found[1]) if found is not None else None
        if birth is not None and call.began > history.healed + limits.replay:
            yield from _judge(history, limits, call, birth, writes.get(call.key) or nothing)


def _judge(history: History, limits: Limits, read: Call, birth: Load, writes: _Writes) -> Violations:
    settling = limits.inflight_max + (limits.replay or 0.0) + (HEARD if read.source is Source.MEMORY else 0.0)
    for call in history.calls:
        if call.key != read.key or call.ending not in REVOKED or call.number <= birth.number:
            continue
        over = read.began > max(call.ended, history.healed) + settling
        if over and not writes.undone(call) and writes.only_before(birth, call):
            what = f"{read.value} read by p{read.process}, older than #{call.number} of p{call.process}"
            yield Violation("the store was left with an old value", what, (read.number, birth.number, call.number))
    if read.source is Source.STORE and read.began > max(writes.never_confirmed(birth), history.healed) + settling:
        what = f"{read.value} read by p{read.process}"
        yield Violation("a write of unknown outcome was left", what, (read.number, birth.number))
