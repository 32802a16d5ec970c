"""Who sent visitors to a region that their tenant had left, and for how long: what was seen beside what is promised."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .fleet import Move
from .process import NAMES
from .traffic import Sample

__all__ = ["BOUND", "TWO", "Moved", "moved"]

BOUND: Final = 1.0  # s after they can know: the promise of the routers that were not told
TWO: Final = NAMES[2]


@dataclass(frozen=True, slots=True)
class Moved:
    """One move of some tenants while the store was down. Counts of wrong answers for their hosts; times in seconds.

    `told`: of the router that was told. The others can know when the store has confirmed the deletes, or, where a
    second vendor carries the messages, when that router was told. `before`, `within`, `later`: of the others, until
    then, up to BOUND after it, and later. `last`: when the last of theirs was asked for, counted from then. `asked`:
    requests that could have gone wrong later. `naive`: of all naive routers.

    `hits`: answers from a store while the first was down. `replayed`: the confirmation, counted from the store's
    return; None if there was none. `first`: the first region from a router that was killed and is back, counted
    from the confirmation; None if it was not killed.
    """

    router: str
    how: str
    hits: int
    pending: int
    replayed: float | None
    told: int
    before: int
    within: int
    last: float
    later: int
    asked: int
    naive: int
    first: float | None


def moved(moves: Iterable[Move], samples: Mapping[str, Sequence[Sample]], zero: float) -> list[Moved]:
    """What became of each move; `samples` of the routers by name, `zero` the moment that they count from."""
    return [_moved(move, samples, zero) for move in moves]


def _moved(move: Move, samples: Mapping[str, Sequence[Sample]], zero: float) -> Moved:
    about = {name: [sample for sample in some if sample.host in move.hosts] for name, some in samples.items()}
    told = [sample for sample in about[move.router] if sample.base in move.bases]
    others = [sample for sample in about[move.router] if sample.base not in move.bases]
    confirmed = move.confirmed()
    known = move.told if move.router == TWO else math.inf if confirmed is None else confirmed
    late = [sample.due + zero - known for sample in others if sample.wrong and sample.due + zero >= known]
    return Moved(
        router=move.router,
        how="store + router" if move.killed else "store",
        hits=sum(s.source == "store" and move.down <= s.due + zero < move.back for s in samples[move.router]),
        pending=move.pending,
        replayed=None if confirmed is None else round(confirmed - move.back, 3),
        told=sum(sample.wrong for sample in told),
        before=sum(sample.wrong for sample in others) - len(late),
        within=sum(after <= BOUND for after in late),
        last=round(max(late, default=0.0), 3),
        later=sum(after > BOUND for after in late),
        asked=sum(sample.due + zero > known + BOUND for sample in others),
        naive=sum(sample.wrong for sample in about["naive"]),
        first=_first(move, samples[move.router], zero),
    )


def _first(move: Move, samples: Sequence[Sample], zero: float) -> float | None:
    if not move.killed:
        return None
    again, confirmed = move.process.bases.get(move.router), move.confirmed()
    answered = [sample.due + sample.latency + zero for sample in samples if sample.base == again and sample.source]
    since = math.inf if confirmed is None else confirmed
    return round(min(answered) - since, 4) if answered else -math.inf
