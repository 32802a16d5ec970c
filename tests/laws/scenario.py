"""Scenarios as text: lists of plain records, made by Hypothesis, carried out by the drivers, judged by the model.

All times are multiples of 1/8 s and no window ends on a multiple of 1/4 s, where everything happens: no boundary is
ever hit by chance, and floats are exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
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


@dataclass(frozen=True)
class Setup:
    """One cache under test."""

    memory: int = 10
    policy: CachePolicy = field(default_factory=lambda: CachePolicy(jitter=0, timeout=TIMEOUT))
    fences: int = 10_000
    store: bool = True
    seed: int = 0
    rate: float = 0.0
    mode_function: bool = False
    hooks: tuple[Any, ...] = ()


POLICIES = (
    CachePolicy(ttl=4.125, stale_for=8, negative_ttl=2.125, stale_retry=1.125, jitter=0, timeout=TIMEOUT),
    CachePolicy(ttl=4.125, stale_for=0, negative_ttl=2.125, stale_retry=1.125, jitter=0, timeout=TIMEOUT),
    CachePolicy(ttl=1.125, stale_for=30, negative_ttl=0, stale_retry=0, jitter=0, timeout=TIMEOUT),
)
BREAKER = BreakerPolicy(consecutive=3, span=0, hold=1, max_hold=4, probes=2, min_calls=8, window=5)
LONGEST_OPEN = 4.0

FAULTS = (
    *(Fault.raising(StoreError(kind)) for kind in FailureKind),
    Fault.raising(OSError("reset")),
    Fault.raising(TimeoutError()),
    Fault.raising(RuntimeError("can't start new thread")),
    Fault(FaultKind.RAISE_AT_CALL),
    Fault(FaultKind.HANG),
    Fault.slow(0.125),
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
OUTAGES = (
    Fault(FaultKind.RAISE),
    Fault(FaultKind.HANG),
    Fault(FaultKind.LOST),
    Fault.late(2.0),
    Fault(FaultKind.CORRUPT),
)

keys = st.sampled_from(KEYS)
gaps = st.sampled_from([0.25, 0.5, 1.0, 2.5, 4.0, 6.0, 12.0])
plain_loads = st.builds(Load, st.sampled_from(["value", "value", "value", "raise", "raise", "missing"]))
entry_loads = st.builds(Load, ttl=st.sampled_from([None, 1.125, 9.125]), stale_for=st.sampled_from([None, 0.0, 2.0]))
loads = plain_loads | entry_loads
busy_loads = st.builds(
    Load,
    st.sampled_from(["value", "value", "raise", "missing"]),
    seconds=st.sampled_from([0.0, 0.5, 3.0]),
    during=st.sampled_from(["", "invalidate", "set"]),
)

gets = st.builds(Step, st.sampled_from(["get", "lookup"]), keys)
get_or_loads = st.builds(Step, st.sampled_from(["get_or_load", "lookup_or_load"]), keys, loads)
refreshes = st.builds(Step, st.just("refresh"), keys, loads)
sets = st.builds(Step, st.just("set"), keys, ttl=st.sampled_from([None, 1.125, 9.125]))
invalidations = st.builds(Step, st.just("invalidate"), keys)
advances = st.builds(Step, st.just("advance"), seconds=gaps)

calm_steps = st.one_of(gets, get_or_loads, get_or_loads, refreshes, sets, invalidations, advances, advances)
"""What happens where nothing fails."""

busy = st.builds(
    Step,
    st.sampled_from(["get_or_load", "lookup_or_load"]),
    keys,
    busy_loads,
    deadline=st.sampled_from([None, None, 0.0, 0.125, 1.0]),
    bypass=st.sampled_from([False, False, False, True]),
)
faults = st.builds(
    Step, st.just("fault"), at=st.sampled_from(["get", "get", "set", "delete"]), fault=st.sampled_from(FAULTS)
)
outages = st.builds(Step, st.just("outage"), fault=st.sampled_from(OUTAGES))
recoveries = st.just(Step("recover"))
jumps = st.builds(Step, st.just("jump"), seconds=st.sampled_from([-7200.0, -1.0, 2.0, 7200.0]))
meddling = st.builds(
    Step,
    st.just("meddle"),
    at=st.sampled_from(["get", "set", "delete"]),
    load=st.builds(Load, during=st.just("invalidate")),
)
evictions = st.just(Step("evict"))
restores = st.builds(Step, st.sampled_from(["snapshot", "restore"]))
modes = st.builds(Step, st.just("mode"), mode=st.sampled_from([Mode.ON, *Mode]))
reads_bypassed = st.builds(Step, st.sampled_from(["get", "refresh", "set", "invalidate"]), keys, bypass=st.booleans())

lonely_steps = st.one_of(
    calm_steps,
    busy,
    faults,
    faults,
    outages,
    recoveries,
    jumps,
    evictions,
    restores,
    modes,
    reads_bypassed,
    st.just(Step("restart")),
)
"""What happens in this world."""

rough_steps = lonely_steps | meddling
"""The same, with others coming between a store's answer and its arrival."""

calm_setups = st.builds(Setup, memory=st.sampled_from([0, 1, 10]), policy=st.sampled_from(POLICIES))
rough_setups = st.builds(
    Setup,
    memory=st.sampled_from([0, 1, 10]),
    policy=st.sampled_from(POLICIES).flatmap(lambda p: st.sampled_from([p, replace(p, jitter=0.1)])),
    fences=st.sampled_from([1, 2, 10_000]),
    seed=st.integers(0, 1_000),
    rate=st.sampled_from([0.0, 0.0, 0.1, 0.5]),
    mode_function=st.booleans(),
)


def scenarios(steps: st.SearchStrategy[Step], longest: int = 40) -> st.SearchStrategy[list[Step]]:
    """Lists of steps, each over a random choice of kinds: a scenario of few kinds goes deeper than one of all."""
    return st.lists(steps, min_size=1, max_size=longest)
