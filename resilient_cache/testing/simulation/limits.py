"""What a history is held to, and what is said of one that breaks it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias, final

__all__ = ["GRAIN", "Limits", "Violation", "Violations"]

GRAIN: Final = 1e-3
"""Seconds: less than the steps of any scenario, more than the microseconds to which stamps are rounded."""


@final
class Violation(NamedTuple):
    """A promise that was broken. `rule` is its short name, `numbers` are the events that show it."""

    rule: str
    text: str
    numbers: tuple[int, ...] = ()

    def __str__(self) -> str:
        """One line."""
        return f"{self.rule}: {self.text}"


Violations: TypeAlias = Iterator[Violation]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the caches of a history were built with, in seconds, and what its recording may blur.

    `permit_life`: after so long a store call's permit may be taken back. `min_failures`: of the circuit's rate rule,
    `min_calls * failure_rate`. `max_loads` None: loads are not limited, or those
    that get no permit in `load_wait` start all the same. `blur`: for how long a command may have been
    admitted before the adapter sees it, and a caller be told of an end after it; 0 where time stands still while
    anything runs. `threads`: what a call does may happen at any moment of it, and not only as it begins. `floors`:
    fences may overflow, so that an invalidation of one key ends the flights of others. `remembers`: given for a history
    without faults whose calls come one after another, which processes have a memory tier (with room for every key).
    `replay`: once all is well, so long until the store has confirmed what it owes, where that is asked for whether or
    not anybody calls: one hold of the circuit, one pause of 5 s, and the timeout. `inflight_max`: and so long after
    that, or after it was confirmed before, no write is on its way that could undo it. None: this is not judged.
    `epoch_ttl`: of marks, None without. `peers`: whether there is a backplane. `vendors`: their names, the first choice
    first; none where there is one store. `vendor_timeout`, `stand_in_ttl`: of each, and of entries in the others.
    """

    timeout: float = 0.25
    skew: float = 0.5
    flight_age: float = 10.0
    negative_ttl: float = 60.0
    error_ttl: float | None = None
    load_timeout: float | None = None
    max_store_calls: int = 64
    max_loads: int | None = None
    load_wait: float = 0.0
    permit_life: float = 5.0
    consecutive: int = 5
    min_failures: int = 10
    probes: int = 2
    max_hold: float = 30.0
    floors: bool = False
    blur: float = 0.0
    threads: bool = False
    remembers: tuple[bool, ...] | None = None
    replay: float | None = None
    inflight_max: float = 5.0
    epoch_ttl: float | None = None
    peers: bool = False
    vendors: tuple[str, ...] = ()
    vendor_timeout: float = 0.25
    stand_in_ttl: float = 60.0
