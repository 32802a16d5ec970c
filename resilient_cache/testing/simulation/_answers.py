"""The rules about what callers are told."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from typing import Final, final

from ...errors import LoadTimeout, NoSafeValue, NotFound, OriginOverloaded
from ...outcome import Mode, Operation, Source
from .histories import EVERYTHING, LAST, NEVER, Call, Ending, History, Load, read_value
from .limits import GRAIN, Limits, Violation, Violations

__all__ = [
    "Fences",
    "check_age",
    "check_cancellation",
    "check_confirmed",
    "check_errors",
    "check_fences",
    "check_values",
    "check_waiting",
    "fence_of",
]

LOADING: Final = ("get_or_load", "refresh")


def check_values(history: History, _limits: Limits) -> Violations:
    """C1, C2: each value was made for its key, before it was served; `refresh` gives what began after it."""
    for call in history.calls:
        if call.ending is not Ending.VALUE:
            continue
        found = read_value(call.value)
        if found is None or found[1] not in history.born:
            yield Violation("unknown value", f"{call.value!r} for {call.key}", (call.number,))
        elif found[0] != call.key or history.born[found[1]].key != call.key:
            yield Violation("wrong key", f"{call.value!r} for {call.key}", (call.number, found[1]))
        elif found[1] > call.last:
            yield Violation("value from the future", f"{call.value!r} for {call.key}", (call.number, found[1]))
        elif call.operation == "refresh" and found[1] < call.number:
            yield Violation("refresh gave an older load", f"{call.value!r}", (call.number, found[1]))


@final
class Fences:
    """The fences of one key, or tag, in one process: (number of the return, number of the call), by the first."""

    def __init__(self) -> None:
        self._raised: list[tuple[int, int]] = []
        self._returns: list[int] = []
        self._highest: list[int] = []

    def add(self, returned: int, number: int) -> None:
        """The event `number` fences whatever is older, from the event `returned` on."""
        self._raised.append((returned, number))

    def settle(self) -> None:
        """All were added."""
        highest = 0
        for returned, number in sorted(self._raised):
            highest = max(highest, number)
            self._returns.append(returned)
            self._highest.append(highest)

    def before(self, number: int) -> int:
        """The latest invalidation that had returned when event `number` happened; 0 for none."""
        index = bisect_left(self._returns, number)
        return self._highest[index - 1] if index else 0


def _fences(history: History, *endings: Ending) -> dict[tuple[int, str], Fences]:
    fences: defaultdict[tuple[int, str], Fences] = defaultdict(Fences)
    for call in history.calls:
        if call.ending in endings:
            fences[call.process, call.key].add(call.last, call.number)
    for fence in fences.values():
        fence.settle()
    return fences


def fence_of(fences: Mapping[tuple[int, str], Fences], call: Call, birth: Load | None) -> int:
    """The latest fence of the key, of everything, or of one of the value's tags, when `call` began; 0 for none."""
    names = (call.key, EVERYTHING, *(birth.tags if birth is not None else ()))
    found = [fences.get((call.process, name)) for name in names]
    return max((fence.before(call.number) for fence in found if fence is not None), default=0)


def check_fences(history: History, limits: Limits) -> Violations:
    """C4, L9: nothing older than an invalidation that had returned, wherever it comes from.

    A `set` that the store did not acknowledge fences too; one that it did must not be undone by a flight.
    """
    fences = _fences(history, Ending.CONFIRMED, Ending.PENDING, Ending.NOT_DONE)
    sets = _fences(history, Ending.DONE)
    ends = {call.number: call.last for call in history.calls if limits.threads and call.operation == "set"}
    for call in history.calls:
        found = read_value(call.value) if call.ending is Ending.VALUE else None
        if found is None:
            continue
        where = (call.process, call.key)
        fence = fence_of(fences, call, history.born.get(found[1]))
        if ends.get(found[1], found[1]) < fence:  # a `set` takes effect at some moment before its end
            what = f"{call.value} from {call.source}, older than #{fence}, which had returned"
            yield Violation("served past a fence", what, (call.number, found[1], fence))
        elif call.source is Source.LOADER and where in sets and found[1] < sets[where].before(call.number):
            yield Violation("joined across a set", f"{call.value}", (call.number, found[1]))


def check_age(history: History, limits: Limits) -> Violations:
    """C3, G2, G3: nothing past its window, of another process by no more than the skew of the clocks.

    Also of "there is none": only while a load that said so is younger than `negative_ttl`.
    """
    for call in history.calls:
        found = read_value(call.value) if call.ending is Ending.VALUE else None
        birth = history.born.get(found[1]) if found is not None else None
        if birth is None or call.source in (Source.LOADER, None):
            continue
        life = birth.fresh_for + (birth.stale_for if call.source is Source.STALE else 0.0)
        allowed = life + GRAIN + limits.blur + (limits.skew if birth.process != call.process else 0.0)
        age = call.ended - birth.began
        if age > allowed:
            what = f"{call.value} from {call.source} after {age:.3f} s, allowed {allowed:.3f} s"
            yield Violation("served past its window", what, (call.number, birth.number))


def check_confirmed(history: History, _limits: Limits) -> Violations:
    """G2: `CONFIRMED` means that the store acknowledged a delete, or another mark, within the call."""
    deletes: defaultdict[int, list[int]] = defaultdict(list)
    for command in history.asked():
        if command.operation is not Operation.GET and command.ending is Ending.DONE:
            deletes[command.call].append(command.last)
    for call in history.calls:
        if call.ending is Ending.CONFIRMED and not any(call.number < end < call.last for end in deletes[call.number]):
            yield Violation("confirmed without a word of the store", call.key, (call.number,))


def check_errors(history: History, limits: Limits) -> Violations:
    """C5, L3: what raises is a loader's own error, the same object, or one of ours where the policy asks for it."""
    failed: defaultdict[int, list[Load]] = defaultdict(list)
    nones: defaultdict[tuple[int, str], list[Load]] = defaultdict(list)
    for load in history.loads:
        if load.error is not None:
            failed[id(load.error)].append(load)
            if load.none:
                nones[load.process, load.key].append(load)
    for call in history.calls:
        error = call.error
        if call.ending is not Ending.RAISED or error is None:
            continue
        if any(_of_its_flight(call, load, limits) for load in failed[id(error)]):
            continue
        if any(_remembered(call, load, limits) for load in failed[id(error)]):
            continue
        if isinstance(error, NotFound) and _known_none(call, nones[call.process, call.key], limits):
            continue
        if not _ours(call, error, limits):
            yield Violation("raised what is not the loader's", f"{call.operation}: {error!r}", (call.number,))


def _of_its_flight(call: Call, load: Load, limits: Limits) -> bool:
    same = load.process == call.process and load.key == call.key and call.operation in LOADING
    aboard = call.began <= load.ended + GRAIN + limits.blur  # its flight lands a little later than the loader ends
    return same and aboard and load.last < call.last


def _remembered(call: Call, load: Load, limits: Limits) -> bool:
    if limits.error_ttl is None or load.none or call.operation != "get_or_load":
        return False
    same = load.process == call.process and load.key == call.key and load.last < call.last
    return same and call.began <= load.ended + limits.error_ttl + GRAIN + limits.blur + limits.timeout


def _known_none(call: Call, nones: list[Load], limits: Limits) -> bool:
    since = call.ended - limits.negative_ttl - GRAIN - limits.blur
    return any(load.last < call.last and load.began >= since for load in nones)


def _ours(call: Call, error: BaseException, limits: Limits) -> bool:
    if isinstance(error, LoadTimeout):
        return limits.load_timeout is not None and call.operation in LOADING
    if isinstance(error, NoSafeValue):
        return call.mode is Mode.FROZEN and call.operation in LOADING
    return isinstance(error, OriginOverloaded) and limits.max_loads is not None


def check_cancellation(history: History, limits: Limits) -> Violations:
    """L2: who is cancelled ends cancelled, at once; nobody else does."""
    for call in history.calls:
        asked = call.cancelled < LAST
        if call.ending is Ending.CANCELLED and not asked:
            yield Violation("cancelled by nobody", f"{call.operation} {call.key}", (call.number,))
        elif asked and call.ending is not Ending.CANCELLED:
            yield Violation("a cancellation was swallowed", f"{call.operation} {call.key}", (call.number,))
        elif asked and call.ended > call.cancelled_at + GRAIN + limits.blur:
            yield Violation("a cancellation was kept waiting", f"{call.operation} {call.key}", (call.number,))


def check_waiting(history: History, limits: Limits) -> Violations:
    """L5: what loads nothing takes no longer than one timeout, whatever the store does; every call ends."""
    for call in history.calls:
        if call.ended == NEVER:
            yield Violation("a call never ended", f"{call.operation} {call.key}", (call.number,))
        elif call.operation not in LOADING and call.ended > call.began + limits.timeout + GRAIN + limits.blur:
            took = f"{call.operation} {call.key} took {call.ended - call.began:.3f} s"
            yield Violation("waited longer than the timeout", took, (call.number,))
