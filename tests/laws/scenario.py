"""Scenarios as text: lists of plain records, made by Hypothesis, carried out by the drivers, judged by the model.

All times are multiples of 1/8 s and no window ends on a multiple of 1/4 s, where everything happens: no boundary is
ever hit by chance, and floats are exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from hypothesis import strategies as st

from resilient_cache import BreakerPolicy, CachePolicy, FailureKind, Mode, StoreError
from resilient_cache.testing import Fault, FaultKind

KEYS = ("a", "b")
TIMEOUT = 0.25


@dataclass(frozen=True)
class Load:
    """What the origin does when it is asked: "value", "raise" or "missing", after `seconds`.

    `during`: what somebody else does to the key meanwhile, "invalidate" or "set".
    """

    kind: str = "value"
    seconds: float = 0.0
    ttl: float | None = None
    stale_for: float | None = None
    during: str = ""


@dataclass(frozen=True)
class Step:
    """One thing that happens. Which fields count depends on `op`."""

    op: str
    key: str = "a"
    load: Load = Load()
    seconds: float = 0.0
    deadline: float | None = None
    ttl: float | None = None
    fault: Fault | None = None
    at: str = "get"
    mode: Mode = Mode.ON
    bypass: bool = False

    def __repr__(self) -> str:
        """Without the fields that are as by default."""
        told = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self)[1:] if getattr(self, f.name) != f.default)
        return f"Step({', '.join([repr(self.op), *told])})"


FAULTS = (
    *(Fault.raising(StoreError(kind)) for kind in FailureKind),
    Fault.raising(OSError("reset")),
    Fault.raising(TimeoutError()),
    Fault.raising(RuntimeError("can't start new thread")),
    Fault(FaultKind.RAISE_AT_CALL),
    Fault(FaultKind.HANG),
    Fault.slow(0.09375),  # no number of them ends at the very moment at which the timeout does
    Fault.slow(0.5),
    Fault.slow(2.0),
    Fault(FaultKind.CORRUPT),
    Fault(FaultKind.TRUNCATE),
    Fault(FaultKind.WRONG_KEY),
    Fault(FaultKind.WRONG_TYPE, value="text"),
    Fault(FaultKind.WRONG_TYPE, value=7),
    Fault(FaultKind.WRONG_TYPE, value=b""),
    Fault(FaultKind.LOST),
    Fault.late(1.0),
    Fault.late(5.0),
    Fault(FaultKind.JUMP, 3600.0),
    Fault(FaultKind.JUMP, -3600.0),
)


@dataclass(frozen=True)
class Setup:
    """One cache under test."""

    memory: int = 10
    policy: CachePolicy = field(default_factory=lambda: CachePolicy(epoch_ttl=None, jitter=0, timeout=TIMEOUT))
    fences: int = 10_000
    store: bool = True
    seed: int = 0
    rate: float = 0.0
    mode_function: bool = False
    hooks: tuple[Any, ...] = ()
    faults: tuple[Fault, ...] = FAULTS


UNMARKED = CachePolicy(epoch_ttl=None, jitter=0, timeout=TIMEOUT)  # marks have laws of their own
POLICIES = (
    replace(UNMARKED, ttl=4.125, stale_for=8, negative_ttl=2.125, stale_retry=1.125),
    replace(UNMARKED, ttl=4.125, stale_for=0, negative_ttl=2.125, stale_retry=1.125),
    replace(UNMARKED, ttl=1.125, stale_for=30, negative_ttl=0, stale_retry=0),
)
BREAKER = BreakerPolicy(consecutive=3, span=0, hold=1, max_hold=4, probes=2, min_calls=8, window=5)
LONGEST_OPEN = 4.0

OUTAGES = (
    Fault(FaultKind.RAISE),
    Fault(FaultKind.HANG),
    Fault(FaultKind.LOST),
    Fault.late(2.0),
    Fault(FaultKind.CORRUPT),
)

GAPS = (0.25, 0.5, 1.0, 2.5, 4.0, 6.0, 12.0)
VALUE, DOWN, MISSING = Load(), Load("raise"), Load("missing")
ENTRIES = (Load(ttl=1.125), Load(ttl=9.125, stale_for=0.0), Load(stale_for=2.0))
BUSY = tuple(
    Load(kind, seconds, during=during)
    for kind in ("value", "raise", "missing")
    for seconds in (0.0, 0.5, 3.0)
    for during in ("", "invalidate", "set")
)
LOADING = ("get_or_load", "lookup_or_load")
Steps = tuple[Step, ...]

READ: Steps = tuple(Step(op, key) for key in KEYS for op in ("get", "lookup"))
LOAD: Steps = tuple(Step(op, key, load) for key in KEYS for op in LOADING for load in (VALUE, VALUE, DOWN, MISSING))
LOAD_ENTRY: Steps = tuple(Step("get_or_load", key, load) for key in KEYS for load in ENTRIES)
REFRESH: Steps = tuple(Step("refresh", key, load) for key in KEYS for load in (VALUE, DOWN, MISSING))
SET: Steps = tuple(Step("set", key, ttl=ttl) for key in KEYS for ttl in (None, 1.125, 9.125))
INVALIDATE: Steps = tuple(Step("invalidate", key) for key in KEYS)
ADVANCE: Steps = tuple(Step("advance", seconds=gap) for gap in GAPS)
LOAD_BUSY: Steps = tuple(
    Step(op, key, load, deadline=deadline)
    for key in KEYS
    for op in LOADING
    for load in BUSY
    for deadline in (None, None, 0.0, 0.1875, 1.0625)
)
LATE: Steps = (
    *(Step("fault", at=at, fault=Fault.late(1.0)) for at in ("set", "delete")),
    *(Step(op) for op in ("set", "invalidate", "get")),
    Step("advance", seconds=1.0),
)
FAULT: Steps = tuple(Step("fault", at=at, fault=fault) for at in ("get", "set", "delete") for fault in FAULTS)
OUTAGE: Steps = (*(Step("outage", fault=fault) for fault in OUTAGES), *[Step("recover")] * 3)
JUMP: Steps = tuple(Step("jump", seconds=seconds) for seconds in (-7200.0, -1.0, 2.0, 7200.0))
MEDDLE: Steps = tuple(Step("meddle", at=at) for at in ("get", "set", "delete"))
EVICT: Steps = (Step("evict"),)
RESTORE: Steps = (Step("snapshot"), *[Step("restore")] * 2, *INVALIDATE, Step("invalidate"))
MODE: Steps = (*[Step("mode")] * 3, *(Step("mode", mode=mode) for mode in Mode))
BYPASS: Steps = tuple(Step(op, bypass=True) for op in ("get", "get_or_load", "refresh", "set", "invalidate"))
RESTART: Steps = (Step("restart"),)

CALM = (READ, LOAD, LOAD, LOAD_ENTRY, REFRESH, SET, INVALIDATE, ADVANCE, ADVANCE)
"""What happens where nothing fails."""

LONELY = (*CALM, LOAD_BUSY, FAULT, FAULT, LATE, OUTAGE, OUTAGE, JUMP, EVICT, RESTORE, RESTORE, MODE, BYPASS, RESTART)
"""What happens in this world."""

ROUGH = (*LONELY, MEDDLE)
"""The same, with others coming between a store's answer and its arrival."""

calm_setups = st.builds(Setup, memory=st.sampled_from([0, 1, 10]), policy=st.sampled_from(POLICIES))
rough_setups = st.builds(
    Setup,
    memory=st.sampled_from([0, 0, 1, 10]),
    policy=st.sampled_from([*POLICIES, *(replace(policy, jitter=0.1) for policy in POLICIES)]),
    fences=st.sampled_from([10_000, 2, 1]),
    seed=st.integers(0, 1_000),
    rate=st.sampled_from([0.0, 0.0, 0.1, 0.5]),
    mode_function=st.booleans(),
)


@st.composite
def scenarios(draw: st.DrawFn, kinds: tuple[Steps, ...], longest: int = 40) -> list[Step]:
    """Lists of steps, each over its own random choice of a few kinds: such a scenario goes deeper than one of all."""
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=4))
    step = st.one_of(*map(st.sampled_from, (LOAD, READ, *chosen)))
    return draw(st.lists(step, min_size=longest // 4, max_size=longest))
