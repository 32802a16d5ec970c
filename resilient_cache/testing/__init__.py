"""For tests of code that caches: time that only moves when told to, and stores that fail on cue.

    clock = ManualClock()
    store = FaultyAdapter(clock, plan=FaultPlan().then("get", Fault.raising(OSError("down"))))
    cache = ResilientCache(store, name="demo", clock=clock)

Nothing here sleeps, and everything is repeatable. `simulate` runs whole processes through outages, and `check` holds
what happened to the promises.
"""

from .checker import check
from .clock import Deadlock, ManualClock, ManualLoop, MovableClock, run_virtual
from .faults import Fault, FaultKind, FaultPlan
from .histories import History
from .limits import Limits, Violation
from .scheduling import Scheduler, Switch
from .seeded import SeededLoop
from .simulation import Run, shorten, simulate
from .stores import AsyncFaultyAdapter, DictStore, FaultyAdapter, StoreCall
from .swarm import Setup
from .tape import Tape
from .threaded import shorten_threads, simulate_threads

__all__ = [
    "AsyncFaultyAdapter",
    "Deadlock",
    "DictStore",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "FaultyAdapter",
    "History",
    "Limits",
    "ManualClock",
    "ManualLoop",
    "MovableClock",
    "Run",
    "Scheduler",
    "SeededLoop",
    "Setup",
    "StoreCall",
    "Switch",
    "Tape",
    "Violation",
    "check",
    "run_virtual",
    "shorten",
    "shorten_threads",
    "simulate",
    "simulate_threads",
]
