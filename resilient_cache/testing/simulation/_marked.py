"""The rules about marks: what other processes heed of an invalidation of many keys, and what they ask for before."""

from __future__ import annotations

from collections import defaultdict

from ...outcome import Operation, Source
from .histories import EVERYTHING, NEVER, Call, Command, Ending, History, Load, read_value
from .limits import GRAIN, Limits, Violation, Violations
from .network import name_in
from .swarm import MANY, MARKS
from .weather import Trouble

__all__ = ["check_marks"]

UNTRUE = (Trouble.CORRUPT, Trouble.WRONG_KEY)


def check_marks(history: History, limits: Limits) -> Violations:
    """G2, G3: an invalidation of many keys is heeded by all once all has been well; nothing is trusted unasked.

    What is read in the store is judged, not what was in memory: that is there for its life, or until a peer tells.
    """
    life = limits.epoch_ttl
    if life is None:
        return
    words: defaultdict[tuple[int, str], list[Command]] = defaultdict(list)
    for command in history.asked():
        if command.key == name_in(command.key) and command.operation is not Operation.DELETE:
            if command.ending is Ending.DONE and command.fault not in UNTRUE:
                words[command.process, command.key].append(command)
    invalidations = [call for call in history.calls if call.operation in MANY]
    restarts = [event.number for event in history.events if event.what.startswith("weather: restart_")]
    for call in history.calls:
        found = read_value(call.value) if call.source is Source.STORE and call.ending is Ending.VALUE else None
        birth = history.born.get(found[1]) if found is not None else None
        if birth is None:
            continue
        for mark in (MARKS[0], *(MARKS[1] + tag for tag in birth.tags)):
            if not any(_is_word(word, call, life) for word in words[call.process, mark]):
                what = f"{call.value} to p{call.process}, which had not heard of {mark} for {life} s"
                yield Violation("trusted a mark unasked", what, (call.number,))
        if limits.replay is not None and history.healed < NEVER:
            for revoked in invalidations:
                last = max(restarts, default=0)
                over = max(revoked.ended, history.healed) + limits.replay + limits.inflight_max + life
                if _concerns(revoked, birth) and last < revoked.number and call.began > over + GRAIN:
                    what = f"{call.value} read by p{call.process}, older than #{revoked.number} of p{revoked.process}"
                    numbers = (call.number, birth.number, revoked.number)
                    yield Violation("an invalidation of many was not heeded", what, numbers)


def _is_word(word: Command, call: Call, life: float) -> bool:
    return word.number < call.last and word.began >= call.began - life - GRAIN


def _concerns(revoked: Call, birth: Load) -> bool:
    return birth.number < revoked.number and (revoked.key == EVERYTHING or revoked.key in birth.tags)
