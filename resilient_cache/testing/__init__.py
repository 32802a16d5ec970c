"""For tests of code that caches: time that only moves when told to, and stores that fail on cue.

    clock = ManualClock()
    store = FaultyAdapter(clock, plan=FaultPlan().then("get", Fault.raising(OSError("down"))))
    cache = ResilientCache(store, name="demo", clock=clock)

Nothing here sleeps, and everything is repeatable.
"""

from .clock import Deadlock, ManualClock, ManualLoop, MovableClock, run_virtual
from .faults import Fault, FaultKind, FaultPlan
from .scheduling import Scheduler, Switch
from .stores import AsyncFaultyAdapter, DictStore, FaultyAdapter, StoreCall

__all__ = [
    "AsyncFaultyAdapter",
    "Deadlock",
    "DictStore",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "FaultyAdapter",
    "ManualClock",
    "ManualLoop",
    "MovableClock",
    "Scheduler",
    "StoreCall",
    "Switch",
    "run_virtual",
]
