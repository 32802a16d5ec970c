"""For tests of code that caches: time that only moves when told to, and stores that fail on cue.

    clock = ManualClock()
    store = FaultyAdapter(clock, plan=FaultPlan().then("get", Fault.raising(OSError("down"))))
    cache = ResilientCache(store, name="demo", clock=clock)

Nothing here sleeps, and everything is repeatable. `simulate` runs whole processes through outages, and `check` holds
what happened to the promises.
"""

from .checker import check
from .clock import Deadlock, ManualClock, ManualLoop, run_virtual
from .faults import Fault, FaultKind, FaultPlan
from .histories import History
from .limits import Limits, Violation
from .seeded import SeededLoop
from .simulation import Run, shorten, simulate
from .stores import AsyncFaultyAdapter, DictStore, FaultyAdapter, StoreCall
from .swarm import Setup
from .tape import Tape

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
    "Run",
    "SeededLoop",
    "Setup",
    "StoreCall",
    "Tape",
    "Violation",
    "check",
    "run_virtual",
    "shorten",
    "simulate",
]
