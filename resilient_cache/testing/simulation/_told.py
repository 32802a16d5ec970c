"""The rules about a backplane: what a peer has told is as good as one's own word, and a gap is no silence."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from typing import Final

from ...outcome import Operation, Source
from ._answers import Fences, fence_of
from .histories import EVERYTHING, Command, Ending, History, Load, Word, read_value
from .limits import GRAIN, Limits, Violation, Violations
from .network import is_mark
from .swarm import LONGEST_PAUSE, MANY

__all__ = ["check_gaps", "check_retold", "check_told"]

INVALIDATING = ("invalidate", *MANY)
ASKED: Final = (Source.MEMORY, Source.STORE, Source.LOADER)
TOLD: Final = "told"
FAILED: Final = ("untold", "unheard")
FIRST_PAUSE: Final = 0.05
BUSY: Final = 2
"""Store timeouts: who asks for what is owed tells the peers after that."""


def check_told(history: History, _limits: Limits) -> Violations:
    """G2: who has heard of an invalidation serves nothing older than it, wherever it comes from."""
    fences = _told(history)
    for call in history.calls if fences else ():
        found = read_value(call.value) if call.ending is Ending.VALUE else None
        if found is None:
            continue
        fence = fence_of(fences, call, history.born.get(found[1]))
        if found[1] < fence:
            what = f"{call.value} from {call.source} in p{call.process}, which had heard of #{fence}"
            yield Violation("served although a peer had told", what, (call.number, found[1], fence))


def _told(history: History) -> dict[tuple[int, str], Fences]:
    made: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
    for call in history.calls:
        if call.operation in INVALIDATING:
            made[call.process, call.key].append(call.number)
    fences: defaultdict[tuple[int, str], Fences] = defaultdict(Fences)
    for word in history.words:
        for name in word.names if word.what == "heard" and word.by != word.process else ():
            before = made[word.by, name]
            index = bisect_left(before, word.told)
            if index:
                fences[word.process, name].add(word.number, before[index - 1])
    for fence in fences.values():
        fence.settle()
    return fences


def check_retold(history: History, limits: Limits) -> Violations:
    """G2: what could not be handed over is told again, after a pause of 0.05 s, 0.1 s ... 5 s at most."""
    tries: defaultdict[int, int] = defaultdict(int)  # in a row that failed, by process
    for index, word in enumerate(history.words):
        if word.what not in (TOLD, *FAILED):
            continue
        tries[word.process] = tries[word.process] + 1 if word.what in FAILED else 0
        if not tries[word.process]:
            continue
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (tries[word.process] - 1))
        until = word.at + pause + BUSY * limits.timeout + GRAIN
        again = {name for later in history.words[index + 1 :] if later.at <= until for name in _told_by(later, word)}
        for name in word.names if until < history.now() and EVERYTHING not in again else ():
            if name not in again:
                what = f"{name} by p{word.process} in {until - word.at:.3f} s"
                yield Violation("lost message not told again", what, (word.number,))


def _told_by(later: Word, word: Word) -> tuple[str, ...]:
    return later.names if later.process == word.process and later.what in (TOLD, *FAILED) else ()


def check_gaps(history: History, _limits: Limits) -> Violations:
    """G2: what is in memory when messages may have been missed is asked for again before it is served as fresh.

    So is what was being read or loaded then, for all but those who had asked for it by that time.
    """
    gaps: defaultdict[int, list[Word]] = defaultdict(list)
    for word in history.words:
        if word.what in ("ready", "lost"):
            gaps[word.process].append(word)
    if not gaps:
        return
    reads: defaultdict[tuple[int, int], list[Command]] = defaultdict(list)
    for command in history.asked():
        if command.operation is Operation.GET and command.gave and not is_mark(command.key):
            reads[command.process, command.gave].append(command)
    for call in history.calls:
        found = read_value(call.value) if call.source in ASKED and call.ending is Ending.VALUE else None
        birth = history.born.get(found[1]) if found is not None else None
        before = [gap for gap in gaps[call.process] if gap.number < call.number]
        if birth is not None and before and not _is_since(birth, call.process, before[-1], reads):
            what = f"{call.value} from {call.source} in p{call.process}, unasked since #{before[-1].number}"
            yield Violation("trusted across a gap", what, (call.number, birth.number, before[-1].number))


def _is_since(birth: Load, process: int, gap: Word, reads: dict[tuple[int, int], list[Command]]) -> bool:
    since = gap.at - GRAIN  # of what happens at one moment nobody can tell the order
    own = birth.process == process and birth.began >= since
    return own or any(read.began >= since for read in reads.get((process, birth.number), ()))
