"""The kinds of schedules that `make prove` runs. A new kind is one more entry in `KINDS`, nothing else."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from resilient_cache.events import CircuitState
from resilient_cache.testing import Switch
from resilient_cache.testing.simulation import Run
from resilient_cache.testing.simulation.peers import Interference
from resilient_cache.testing.simulation.swarm import MANY, OPERATIONS
from resilient_cache.testing.simulation.weather import Trouble

from . import threads
from .caches import BROKEN, breaking, run, short

__all__ = ["KINDS", "Cell", "Kind", "Schedule"]

Cell = tuple[str, str, str]
"""What went wrong, what a caller asked for meanwhile, and the state of the circuit that this would go through."""


class Schedule(NamedTuple):
    """One schedule as it is counted: the rules it broke, the cells it met, the store calls that met each trouble."""

    violations: list[str]
    met: Counter[Cell]
    suffered: Counter[str]


class Kind(NamedTuple):
    """A kind of schedules.

    `run(seed, broken)` runs one, with the cache broken as `broken` says ("" for the real one); `explain(seed, broken)`
    gives the text of what is wrong with it, as short as can be. `broken` are the caches it is to catch, `cells` what
    all its schedules together are to meet, `share` its part of the time.
    """

    run: Callable[[int, str], Schedule]
    explain: Callable[[int, str], str]
    broken: tuple[str, ...]
    cells: frozenset[Cell]
    share: float = 1.0


def _count(ran: Run) -> Schedule:
    return Schedule([str(violation) for violation in ran.violations], ran.met, ran.suffered)


def _run_tasks(seed: int, broken: str) -> Schedule:
    with breaking(broken):
        return _count(run(seed))


def _explain_tasks(seed: int, broken: str) -> str:
    with breaking(broken):
        long = run(seed)
        if not long.violations:
            return f"seed {seed} keeps every promise:\n{long.history.text()}"
        found = long.violations[0]
        brief = short(long)
    shown = next(violation for violation in brief.violations if violation.rule == found.rule)
    lines = [f"seed {seed}: {found}", f"shortened from {len(long.choices)} choices to {len(brief.choices)}: {shown}"]
    return "\n".join([*lines, str(brief.swarm), brief.history.text(max(shown.numbers, default=10**9))])


def _run_threads(switch: Switch, seed: int, broken: str) -> Schedule:
    return _count(threads.run(switch, seed, broken))


STATES = (CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN)

CELLS = frozenset(itertools.product(map(str, Trouble), OPERATIONS, map(str, STATES)))
OF_TASKS = CELLS | frozenset(
    itertools.chain(
        itertools.product(map(str, Trouble), MANY, map(str, STATES)),
        itertools.product(map(str, Interference), OPERATIONS, map(str, STATES)),
    )
)

KINDS: dict[str, Kind] = {
    "tasks": Kind(_run_tasks, _explain_tasks, tuple(BROKEN), OF_TASKS),
    "threads": Kind(
        partial(_run_threads, Switch.LOCKS), partial(threads.explain, Switch.LOCKS), threads.BROKEN[Switch.LOCKS], CELLS
    ),
    "lines": Kind(
        partial(_run_threads, Switch.LINES),
        partial(threads.explain, Switch.LINES),
        threads.BROKEN[Switch.LINES],
        frozenset(),  # it is to find what locks do not show, and goes through too few schedules for every cell
    ),
}
"""By name."""
