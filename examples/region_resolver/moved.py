"""Who sent visitors to a region that their tenant had left, and for how long: what was seen beside what is promised."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .fleet import Move
from .traffic import Sample

__all__ = ["BOUND", "Moved", "moved"]

BOUND: Final = 1.0  # s after the replay: the promise to the routers that were not told


@dataclass(frozen=True, slots=True)
class Moved:
    """One move of some tenants while the store was down. Counts of wrong answers for their hosts; times in seconds.

    `told`: of the router that was told; `before`, `within`, `later`: of the others, until the store confirmed the
    deletes, up to BOUND after that, and later. `last`: when the last of theirs was asked for after the confirmation.
    `replayed`: the confirmation, counted from the store's return; None if there was none. `asked`: requests that
    could have gone wrong later. `naive`: of all naive routers. `first`: the first answer of a router that was killed
    and is back, counted from the confirmation; None if it was not killed.
    """

    how: str
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


def moved(moves: Sequence[Move], samples: Mapping[str, Sequence[Sample]], zero: float) -> list[Moved]:
    """What became of each move; `samples` of the routers by name, `zero` the moment that they count from."""
    return [_moved(move, samples, zero) for move in moves]


def _moved(move: Move, samples: Mapping[str, Sequence[Sample]], zero: float) -> Moved:
    about = {name: [sample for sample in some if sample.host in move.hosts] for name, some in samples.items()}
    others = [sample for sample in about["resilient"] if sample.base not in move.bases]
    confirmed = move.confirmed()
    since = math.inf if confirmed is None else confirmed - zero
    late = [sample.due - since for sample in others if sample.wrong and sample.due >= since]
    return Moved(
        how="store and router" if move.killed else "store",
        pending=move.pending,
        replayed=None if confirmed is None else round(confirmed - move.back, 3),
        told=sum(sample.wrong for sample in about["resilient"]) - sum(sample.wrong for sample in others),
        before=sum(sample.wrong for sample in others) - len(late),
        within=sum(after <= BOUND for after in late),
        last=round(max(late, default=0.0), 3),
        later=sum(after > BOUND for after in late),
        asked=sum(sample.due > since + BOUND for sample in others),
        naive=sum(sample.wrong for sample in about["naive"]),
        first=_first(move, samples["resilient"], since),
    )


def _first(move: Move, samples: Sequence[Sample], since: float) -> float | None:
    if not move.killed:
        return None
    again = move.process.bases.get("resilient")
    answered = [sample.due + sample.latency - since for sample in samples if sample.base == again]
    return round(min(answered, default=-math.inf), 4)
