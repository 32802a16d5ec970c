"""The rules about marks: what other processes heed of an invalidation of many keys, and what they ask for before."""

from __future__ import annotations

from collections import defaultdict

from ...outcome import Operation, Source
from ._settling import HEARD
from .histories import EVERYTHING, NEVER, Call, Command, Ending, History, Load, read_value
from .limits import GRAIN, Limits, Violation, Violations
from .network import is_mark
from .swarm import MANY, MARKS
from .weather import Trouble

__all__ = ["check_marks"]

UNTRUE = (Trouble.CORRUPT, Trouble.WRONG_KEY)


def check_marks(history: History, limits: Limits) -> Violations:
    """G2, G3: an invalidation of many keys is heeded by all once all has been well; nothing is trusted unasked.

    What is read in the store is judged; what was in memory is there for its life, unless there are peers to tell of it.
    """
    if limits.epoch_ttl is None:
        return
    words = _words(history)
    sources = (Source.STORE, Source.MEMORY) if limits.peers else (Source.STORE,)
    for call in history.calls:
        found = read_value(call.value) if call.source in sources and call.ending is Ending.VALUE else None
        birth = history.born.get(found[1]) if found is not None else None
        if birth is None:
            continue
        if call.source is Source.STORE:
            yield from _unasked(call, birth, words, limits.epoch_ttl)
        yield from _unheeded(history, call, birth, limits)


def _words(history: History) -> dict[tuple[int, str], list[Command]]:
    """What each process has heard of each mark, or made of it."""
    words: defaultdict[tuple[int, str], list[Command]] = defaultdict(list)
    for command in history.asked():
        true = command.ending is Ending.DONE and command.fault not in UNTRUE
        if true and is_mark(command.key) and command.operation is not Operation.DELETE:
            words[command.process, command.key].append(command)
    return words


def _unasked(call: Call, birth: Load, words: dict[tuple[int, str], list[Command]], life: float) -> Violations:
    since = call.began - life - GRAIN
    for mark in (MARKS[0], *(MARKS[1] + tag for tag in birth.tags)):
        if not any(word.number < call.last and word.began >= since for word in words.get((call.process, mark), ())):
            what = f"{call.value} to p{call.process}, which had not heard of {mark} for {life} s"
            yield Violation("trusted a mark unasked", what, (call.number,))


def _unheeded(history: History, call: Call, birth: Load, limits: Limits) -> Violations:
    settling = (limits.replay or NEVER) + limits.inflight_max + (limits.epoch_ttl or 0.0) + GRAIN
    since = call.began - settling - (HEARD if call.source is Source.MEMORY else 0.0)
    if since <= history.healed:
        return
    restarts = (event.number for event in history.events if event.what.startswith("weather: restart_"))
    forgot = max(restarts, default=0)  # what a store forgets after it had acknowledged it is no promise
    for revoked in history.calls:
        concerned = revoked.operation in MANY and (revoked.key == EVERYTHING or revoked.key in birth.tags)
        if concerned and max(birth.number, forgot) < revoked.number and since > revoked.ended:
            what = f"{call.value} read by p{call.process}, older than #{revoked.number} of p{revoked.process}"
            yield Violation("an invalidation of many was not heeded", what, (call.number, birth.number, revoked.number))
