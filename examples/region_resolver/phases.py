"""The incident, act by act."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from .fleet import Fleet
from .stage import Stage

__all__ = ["FLEET_PHASES", "PHASES", "Phase"]

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Phase(Generic[S]):
    """One act. `begin` is awaited before its traffic, `meanwhile` runs beside it while the stage is `playing`."""

    name: str
    says: str
    seconds: float
    fast: float
    begin: Callable[[S], Coroutine[Any, Any, None]]
    meanwhile: Callable[[S], Coroutine[Any, Any, None]] | None = None
    own_server: bool = False  # kills or freezes the server: only if it is ours
    owned: bool = False  # only hosts that somebody owns: that there is none is not handed on
    cold: bool = False  # hosts never asked for before while the record is down: the one act where a 5xx is right


PHASES: Final[tuple[Phase[Stage], ...]] = (
    Phase("healthy", "both caches empty at first", 5, 0.6, Stage.nothing),
    Phase("killed", "SIGKILL: the cache is gone, and all it held", 5, 0.5, Stage.kill, own_server=True),
    Phase("back", "an empty cache on the same port", 4, 0.6, Stage.restart, own_server=True),
    Phase("record down", "entries outlive their ttl, nobody to ask", 8, 1.8, Stage.record_off),
    Phase("corrupted", "every stored value flipped, cut or swapped", 4, 0.6, Stage.record_on, Stage.spoil),
    Phase("frozen", "SIGSTOP: connections stay open, no reply", 6, 1.0, Stage.freeze, own_server=True),
    Phase(
        "rush",
        "still frozen, record slow; thousands of hosts more",
        6,
        1.2,
        Stage.slow_record,
        Stage.rush,
        own_server=True,
    ),
    Phase("thawed", "SIGCONT: it goes on with what was sent meanwhile", 5, 0.7, Stage.thaw, own_server=True),
    Phase("slow", "300 ms more for every reply", 5, 0.5, Stage.slow),
    Phase("swift", "and quick again", 4, 0.7, Stage.swift),
    Phase("bypassed", "BYPASS by a file, moves meanwhile, and back", 3, 1.0, Stage.nothing, Stage.bypass),
    Phase("moved", "cache cut off; six tenants change region", 2.5, 0.3, Stage.cut, Stage.move),
    Phase("old data", "cache reachable again, old regions inside", 4, 0.6, Stage.mend),
    Phase("cold start", "new routers, cache dead", 4, 0.8, Stage.cold_start),
    Phase("snapshot", "new ones again, cache and record dead", 3, 0.5, Stage.inherit, owned=True),
    Phase("nothing", "hosts never seen before, record down", 3, 0.3, Stage.nothing_known, cold=True),
)

FLEET_PHASES: Final[tuple[Phase[Fleet], ...]] = (
    Phase("three", "three processes, copies in memory, one store", 3, 0.5, Fleet.ready, own_server=True),
    Phase("told one", "store killed; one of them is told of moves", 2, 0.7, Fleet.outage, Fleet.move, own_server=True),
    Phase("old disk", "store back with its disk: the old regions", 5, 1.6, Fleet.mend, own_server=True),
    Phase(
        "told again", "store killed; more moves, told to it again", 2, 0.4, Fleet.outage, Fleet.move, own_server=True
    ),
    Phase("kill -9", "of that router; store back: the old regions", 2, 0.5, Fleet.lose, Fleet.find, own_server=True),
    Phase("its journal", "it is back too, with its journal", 5, 1.8, Fleet.rejoin, own_server=True),
)
