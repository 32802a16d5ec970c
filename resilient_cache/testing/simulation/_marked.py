"""The rules about marks: what other processes heed of an invalidation of many keys, and what they ask for before."""

from __future__ import annotations

from collections import defaultdict

from ...outcome import Operation, Source
from ._settling import HEARD
from .histories import EVERYTHING, NEVER, Call, Command, Ending, History, Load, read_value
from .limits import GRAIN, Limits, Violation, Violations
from .network import name_in
from .swarm import MANY, MARKS
from .weather import Trouble

__all__ = ["check_marks"]

UNTRUE = (Trouble.CORRUPT, Trouble.WRONG_KEY)


def check_marks(history: History, limits: Limits) -> Violations:
    """G2, G3: an invalidation of many keys is heeded by all once all has been well; nothing is trusted unasked.

    What is read in the store is judged; what was in memory is there for its life, unless there are peers to tell of it.
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
    settling = (limits.replay or NEVER) + limits.inflight_max + life + GRAIN
    sources = (Source.STORE, Source.MEMORY) if limits.peers else (Source.STORE,)
    for call in history.calls:
        found = read_value(call.value) if call.source in sources and call.ending is Ending.VALUE else None
        birth = history.born.get(found[1]) if found is not None else None
        if birth is None:
            continue
        for mark in (MARKS[0], *(MARKS[1] + tag for tag in birth.tags)) if call.source is Source.STORE else ():
            if not any(_is_word(word, call, life) for word in words[call.process, mark]):
                what = f"{call.value} to p{call.process}, which had not heard of {mark} for {life} s"
                yield Violation("trusted a mark unasked", what, (call.number,))
        since = call.began - settling - (HEARD if call.source is Source.MEMORY else 0.0)
        for revoked in invalidations if since > history.healed else ():
            known = revoked.number > max(restarts, default=0)
            if known and _concerns(revoked, birth) and since > revoked.ended:
                what = f"{call.value} read by p{call.process}, older than #{revoked.number} of p{revoked.process}"
                numbers = (call.number, birth.number, revoked.number)
                yield Violation("an invalidation of many was not heeded", what, numbers)


def _is_word(word: Command, call: Call, life: float) -> bool:
    return word.number < call.last and word.began >= call.began - life - GRAIN


def _concerns(revoked: Call, birth: Load) -> bool:
    return birth.number < revoked.number and (revoked.key == EVERYTHING or revoked.key in birth.tags)
