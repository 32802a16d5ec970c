"""For tests of code that caches: time that only moves when told to, and stores that fail on cue.

    clock = ManualClock()
    store = FaultyAdapter(clock, plan=FaultPlan().then("get", Fault.raising(OSError("down"))))
    cache = ResilientCache(store, name="demo", clock=clock)

Nothing of this sleeps, and everything is repeatable. `ChaosProxy` is for a real server, in real time.
"""

from .clock import Deadlock, ManualClock, ManualLoop, run_virtual
from .faults import Fault, FaultKind, FaultPlan
from .proxy import ChaosProxy, WireFault
from .stores import AsyncFaultyAdapter, DictStore, FaultyAdapter, StoreCall

__all__ = [
    "AsyncFaultyAdapter",
    "ChaosProxy",
    "Deadlock",
    "DictStore",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "FaultyAdapter",
    "ManualClock",
    "ManualLoop",
    "StoreCall",
    "WireFault",
    "run_virtual",
]
