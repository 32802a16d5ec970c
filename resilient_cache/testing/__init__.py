"""For tests of code that caches: time that only moves when told to, and stores that fail on cue.

    clock = ManualClock()
    store = FaultyAdapter(clock, plan=FaultPlan().then("get", Fault.raising(OSError("down"))))
    cache = ResilientCache(store, name="demo", clock=clock)

Nothing here sleeps but `ChaosProxy`, which is for a real server, and a contract whose store runs on real time; all else
is repeatable. Hypothesis strategies are in `resilient_cache.testing.strategies`; pytest finds its fixtures by itself;
`resilient_cache.testing.simulation` runs whole processes through outages.
"""

from typing import TYPE_CHECKING

from .clock import Deadlock, ManualClock, ManualLoop, MovableClock, run_virtual
from .faults import Fault, FaultKind, FaultPlan
from .planes import AsyncLocalBackplane, BackplaneHub, LocalBackplane
from .playing import Advance, Call, Heal, Outage, Step, aplay, play
from .proxy import ChaosProxy, WireFault
from .scheduling import Scheduler, Switch
from .stores import AsyncFaultyAdapter, DictStore, FaultyAdapter, StoreCall
from .watching import CacheFaults, CacheRecorder

if TYPE_CHECKING:
    from .contracts import AdapterContract, AsyncAdapterContract
    from .plane_contracts import AsyncBackplaneContract, BackplaneContract

__all__ = [
    "AdapterContract",
    "Advance",
    "AsyncAdapterContract",
    "AsyncBackplaneContract",
    "AsyncFaultyAdapter",
    "AsyncLocalBackplane",
    "BackplaneContract",
    "BackplaneHub",
    "CacheFaults",
    "CacheRecorder",
    "Call",
    "ChaosProxy",
    "Deadlock",
    "DictStore",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "FaultyAdapter",
    "Heal",
    "LocalBackplane",
    "ManualClock",
    "ManualLoop",
    "MovableClock",
    "Outage",
    "Scheduler",
    "Step",
    "StoreCall",
    "Switch",
    "WireFault",
    "aplay",
    "play",
    "run_virtual",
]


def __getattr__(name: str) -> object:
    """The contracts, imported when asked for: only then can pytest show what is in their failed assertions."""
    if name in ("AdapterContract", "AsyncAdapterContract"):
        from . import contracts  # noqa: PLC0415 - see above

        return getattr(contracts, name)
    if name in ("AsyncBackplaneContract", "BackplaneContract"):
        from . import plane_contracts  # noqa: PLC0415 - see above

        return getattr(plane_contracts, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
