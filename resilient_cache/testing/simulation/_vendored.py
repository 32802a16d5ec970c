"""The rules about several vendors: who may be asked, what they may give, and who serves in the end."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from typing import Final, cast, final

from ...outcome import Operation
from .histories import Command, Ending, History
from .limits import GRAIN, Limits, Violation, Violations
from .vendors import serving
from .weather import Trouble

__all__ = ["check_vendors"]

UNTRUE: Final = (Trouble.CORRUPT, Trouble.WRONG_KEY)


def check_vendors(history: History, limits: Limits) -> Violations:
    """No vendor is asked for a key that it owes, or gives what was replaced; a confirmed delete was confirmed by all.

    Entries in a stand-in are short-lived; and when all is well the first one serves, and nobody owes anything.
    """
    if not limits.vendors:
        return
    for command in history.commands:
        if command.store in limits.vendors[1:] and command.life > limits.stand_in_ttl + GRAIN:
            yield Violation("a stand-in was given a long life", f"{command.life} s", (command.number,))
    yield from _confirmed(history, limits)
    keys: defaultdict[tuple[int, str], list[Command]] = defaultdict(list)
    for command in history.commands:
        keys[command.process, command.key].append(command)
    for commands in keys.values():
        yield from _Key(commands, history, limits).check()
    yield from _in_the_end(history, limits)


def _confirmed(history: History, limits: Limits) -> Violations:
    acknowledged = {
        (command.within, command.store)
        for command in history.commands
        if command.operation is Operation.DELETE and command.ending is Ending.DONE
    }
    for command in history.commands:
        if command.store or command.operation is not Operation.DELETE or command.ending is not Ending.DONE:
            continue
        for name in limits.vendors:
            if (command.number, name) not in acknowledged:
                yield Violation("confirmed without a word of each vendor", f"{name} {command.key}", (command.number,))


def _in_the_end(history: History, limits: Limits) -> Violations:
    if history.healed > history.now():
        return
    for rest in history.rests:
        told = rest.health.get("store")
        if serving(told) != limits.vendors[0]:
            yield Violation("the first vendor does not serve again", f"in p{rest.process}: {told}")
        vendors = cast("dict[str, dict[str, dict[str, object]]]", told)["vendors"]
        for name, vendor in vendors.items():
            if vendor["pending_invalidations"]:
                yield Violation("a vendor still owes", f"{name} of p{rest.process}: {vendor}")


@final
class _Key:
    """One key as one process knows it: what the cache asked of all vendors, and what each of them was asked."""

    def __init__(self, commands: list[Command], history: History, limits: Limits) -> None:
        self._limits = limits
        self._history = history
        self._whole = {command.number: command for command in commands if not command.store}
        self._of: defaultdict[str, list[Command]] = defaultdict(list)
        for command in commands:
            self._of[command.store].append(command)
        self._restarts = [event.number for event in history.events if event.what.startswith("weather: restart_old")]

    def check(self) -> Violations:
        """What is wrong with it."""
        for name in self._limits.vendors:
            debts = self._debts(name)
            good = [command for command in self._of[name] if _is_good(command)]
            for get in self._of[name]:
                whole = self._whole.get(get.within)
                if get.operation is not Operation.GET or whole is None:
                    continue
                index = bisect_left(debts, (whole.number, 0))
                owed, since = debts[index - 1] if index else (0, 0)
                if owed and not any(since < command.number and command.last < whole.number for command in good):
                    what = f"{name} of p{get.process} for {get.key}"
                    yield Violation("a vendor was asked that owes", what, (get.number, owed))
                elif get.gave and get.ending is Ending.DONE and get.fault not in UNTRUE:
                    yield from self._gave(name, get, whole)

    def _debts(self, name: str) -> list[tuple[int, int]]:
        """The commands from which on the vendor owes the delete of the key, and those after which one counts."""
        deletes = [command.number for command in self._of[""] if command.operation is Operation.DELETE]
        debts = [(number, number) for number in deletes]
        if name == self._limits.vendors[0]:  # it may hold anything
            others = (command for other in self._limits.vendors[1:] for command in self._of[other])
            # Owed since the value was to be set: a delete of the first's that comes between leaves it with nothing.
            sets = [command for command in others if command.operation is Operation.SET]
            debts += [(command.number, command.within or command.number) for command in sets]
        return sorted(debts)

    def _gave(self, name: str, get: Command, whole: Command) -> Violations:
        writes = [
            command
            for command in self._history.commands
            if command.store == name and command.operation is Operation.SET and command.gives == get.gave
        ]
        for by in self._of[""]:
            replaced = by.operation is Operation.SET and by.ending is Ending.DONE and by.last < whole.number
            deleted = by.operation is Operation.DELETE and by.number < whole.number
            if not replaced and not deleted:
                continue
            forgot = any(by.number < restart < get.number for restart in self._restarts)
            if by.gives != get.gave and not forgot and all(self._is_before(w, by, deleted=deleted) for w in writes):
                what = f"{name} gave p{get.process} #{get.gave} of {get.key}"
                yield Violation("a vendor gave what was replaced", what, (get.number, get.gave, by.number))

    def _is_before(self, write: Command, by: Command, *, deleted: bool) -> bool:
        if write.number > by.number:
            return False
        if write.process == by.process:  # of two that overlap either may be the later one
            whole = self._whole.get(write.within)
            over = whole is not None and whole.last < by.number
            return over and write.effect <= write.began + self._limits.inflight_max - GRAIN
        return deleted and write.effect <= by.began


def _is_good(command: Command) -> bool:
    return command.operation is not Operation.GET and command.ending is Ending.DONE
