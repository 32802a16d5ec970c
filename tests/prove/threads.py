"""Schedules of threads, as two kinds for `make prove`: they switch at locks, or at lines as well."""

from __future__ import annotations

import functools
import multiprocessing
import os
from contextlib import AbstractContextManager, nullcontext

from resilient_cache.testing import Switch
from resilient_cache.testing.simulation import Run
from resilient_cache.testing.simulation.threaded import shorten_threads, simulate_threads
from resilient_cache.testing.tracing import modules_of_the_package

from ..schedules import broken as caches

__all__ = ["BROKEN", "explain", "run"]

BROKEN = {
    Switch.LOCKS: ("board", "keep"),
    Switch.LINES: ("board", "keep", "invalidate", "acquire", "admit_probe"),
}
"""The caches without a lock that are to be caught; `success` needs a scene of its own, in `tests/schedules`."""

MODULES = [*modules_of_the_package(), caches]


def _breaking(name: str) -> AbstractContextManager[None]:
    return caches.broken(name) if name else nullcontext()


@functools.cache
def _stay_on_one_core() -> None:
    """A baton goes from thread to thread three times as fast on one core; each worker of the pool takes its own."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        number = multiprocessing.current_process().name.rpartition("-")[2]
        os.sched_setaffinity(0, {cores[int(number) % len(cores)]} if number.isdigit() else cores)


def run(switch: Switch, seed: int, broken: str = "") -> Run:
    """One schedule, with a cache that is `broken` in that way, "" for the real one."""
    _stay_on_one_core()
    with _breaking(broken):
        return simulate_threads(caches.real, seed, switch=switch, modules=MODULES)


def explain(switch: Switch, seed: int, broken: str = "") -> str:
    """What is wrong with a seed, as short as can be; its history when nothing is."""
    with _breaking(broken):
        found = simulate_threads(caches.real, seed, switch=switch, modules=MODULES)
        if not found.violations:
            return f"seed {seed} keeps every promise:\n{found.history.text()}"
        short = shorten_threads(caches.real, found, switch=switch, modules=MODULES)
    shown = short.violations[0]
    lines = [f"seed {seed}: {found.violations[0]}"]
    lines.append(f"shortened from {len(found.choices)} choices to {len(short.choices)}: {shown}")
    return "\n".join([*lines, str(short.swarm), short.history.text()])
