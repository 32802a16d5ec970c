"""Being of use: where nothing fails and calls come one after another, a cache answers as a plain model does.

"A miss is always allowed" is kept by a cache that never hits, too. So each answer's source and value are held against a
dict with windows. Where two moments are closer than clocks tell apart, either is right and the model follows the cache.
"""

from __future__ import annotations

from typing import NamedTuple

from ...outcome import Source
from .histories import NEVER, Call, Ending, History, Load, read_value
from .limits import GRAIN, Limits, Violation, Violations

__all__ = ["check_usefulness"]


class _Copy(NamedTuple):
    birth: Load
    trusted: float  # the moment of its birth, as far as this process trusts the clock it was taken from


class _Model:
    """One store and, per process, a memory and the fences."""

    def __init__(self, limits: Limits, remembers: tuple[bool, ...]) -> None:
        self.margin = 2 * limits.skew
        self.remembers = remembers
        self.store: dict[str, Load] = {}
        self.memory: dict[tuple[int, str], _Copy] = {}
        self.fences: dict[tuple[int, str], Call] = {}
        self.unsure: set[tuple[int, str]] = set()  # whose memory keeps one of two that are equally old

    def expected(self, call: Call) -> tuple[set[Source], Load | None]:
        """The sources that would be right, none where that cannot be told, and the birth of a hit's value."""
        if call.operation == "refresh":
            return {Source.LOADER}, None
        otherwise = Source.LOADER if call.operation == "get_or_load" else Source.NONE
        copy = self.memory.get((call.process, call.key))
        if (call.process, call.key) in self.unsure:
            return {Source.MEMORY, Source.STORE, otherwise}, None
        if copy is not None and call.began < copy.birth.began + copy.birth.fresh_for - GRAIN:
            return {Source.MEMORY}, copy.birth
        birth = self.store.get(call.key)
        left = -1.0 if birth is None else birth.began + birth.fresh_for - call.began
        if copy is not None and abs(copy.birth.began + copy.birth.fresh_for - call.began) <= GRAIN:
            return {Source.MEMORY, Source.STORE, otherwise}, None
        if birth is None or left < -GRAIN:
            return {otherwise}, None
        above = self._above_fence(birth, call.process)
        if abs(above) <= GRAIN:
            return set(), None
        if left <= GRAIN:
            return {Source.STORE, otherwise}, None
        return ({Source.STORE}, birth) if above > 0 else ({otherwise}, None)

    def follow(self, call: Call, birth: Load | None) -> None:
        """Let happen what the call did; `birth` is that of the value it gave or wrote."""
        where = (call.process, call.key)
        self.unsure.discard(where)
        if call.operation == "invalidate":
            self.fences[where] = call
            self.memory.pop(where, None)
            self.store.pop(call.key, None)
        elif birth is None:
            held = self.store.get(call.key)
            if held is not None and self._above_fence(held, call.process) < 0:
                del self.store[call.key]  # refused, so it is deleted
        else:
            if call.operation == "set" or call.source is Source.LOADER:
                self.store[call.key] = birth
            if self.remembers[call.process]:
                self._keep(where, _Copy(birth, self._trusted(birth, call.process)))

    def _keep(self, where: tuple[int, str], copy: _Copy) -> None:
        old = self.memory.get(where)
        if old is not None and old.birth is not copy.birth and abs(copy.trusted - old.trusted) <= GRAIN:
            self.unsure.add(where)
        if old is None or copy.trusted >= old.trusted:
            self.memory[where] = copy

    def _above_fence(self, birth: Load, process: int) -> float:
        """By how many seconds `birth` passes the fence of its key; of its own process stamps tell exactly."""
        fence = self.fences.get((process, birth.key))
        if fence is None:
            return NEVER
        if birth.process == process:
            return NEVER if birth.number > fence.number else -NEVER
        return self._trusted(birth, process) - fence.began

    def _trusted(self, birth: Load, process: int) -> float:
        return birth.began - (0.0 if birth.process == process else self.margin)


def check_usefulness(history: History, limits: Limits) -> Violations:
    """Hits and loads as the model has them; only of a history for which `limits.remembers` is given."""
    if limits.remembers is None:
        return
    model = _Model(limits, limits.remembers)
    for call in history.calls:
        found = read_value(call.value)
        given = history.born.get(found[1] if found is not None else call.number)
        if call.operation not in ("set", "invalidate"):
            sources, birth = model.expected(call)
            if not sources:
                return
            if call.ending is Ending.RAISED or call.source not in sources or (birth is not None and birth is not given):
                wanted = " or ".join(sorted(sources))
                what = f"{call.operation} {call.key} gave {call.value} from {call.source}, not {wanted}"
                yield Violation("not as useful as a dict", what, (call.number,))
                return
        model.follow(call, given)
