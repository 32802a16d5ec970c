"""Whole processes through outages, every decision from one seed, and what happened held to the promises.

    run = simulate(make, seed=7)            # `make(setup)` builds each process its cache
    assert run.violations == []

`simulate` is for tasks, `simulate_threads` for threads; `check` judges any `History`, `shorten` makes one readable.
"""

from .checker import check
from .histories import History
from .limits import Limits, Violation
from .running import Run, shorten, simulate
from .seeded import SeededLoop
from .swarm import Setup
from .tape import Tape
from .threaded import shorten_threads, simulate_threads

__all__ = [
    "History",
    "Limits",
    "Run",
    "SeededLoop",
    "Setup",
    "Tape",
    "Violation",
    "check",
    "shorten",
    "shorten_threads",
    "simulate",
    "simulate_threads",
]
