"""What an outage costs: an open circuit, a store that hangs under many keys, many who wait for one key."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from random import Random
from typing import Any

from resilient_cache import CachePolicy, ResilientCache
from resilient_cache.adapters import MappingAdapter
from resilient_cache.breaker import Breaker
from resilient_cache.locks import make_rlock
from resilient_cache.outcome import Direction
from resilient_cache.policy import BreakerPolicy

from .crowds import KEYS, LOAD, WAITERS
from .peers import KEY, loader
from .results import Check, Section, timings
from .timing import Case, compare

__all__ = ["run"]


def run(random: Random, rounds: int) -> list[Section]:
    """The circuit's own cost, a miss past an open one, the crowd of keys and the crowd on one key."""
    return [_circuit(random, rounds), _crowds(max(3, rounds // 5))]


def _circuit(random: Random, rounds: int) -> Section:
    breaker = Breaker(BreakerPolicy(), random.random, make_rlock())
    plain = CachePolicy(degraded_ttl=0)  # or a miss while the circuit is open would be kept, and be the last one
    cache: ResilientCache[str, Any] = ResilientCache(MappingAdapter(), name="outage", policy=plain)
    alone: ResilientCache[str, Any] = ResilientCache(None, name="alone")
    with cache.circuits[Direction.READ].force_open(), cache.circuits[Direction.WRITE].force_open():
        base = {"key": KEY, "loader": loader}
        found = compare(
            [
                Case("the loader", "loader(key)", base),
                Case("closed circuit: admit, success", "success(admit(1.0), 1.0)", _ports(breaker)),
                Case("open circuit: get_or_load, a miss", "get(key, loader)", {**base, "get": cache.get_or_load}),
                Case("no store: get_or_load, a miss", "get(key, loader)", {**base, "get": alone.get_or_load}),
            ],
            random,
            rounds=rounds,
        )
    section = timings(
        "Around the circuit", "Nothing is kept in memory here, so every call is a load.", found, base="the loader"
    )
    closed = found["closed circuit: admit, success"].median
    section.checks.append(Check("circuit closed, admit + report", "nothing", closed, 150.0, "ns"))
    over = found["open circuit: get_or_load, a miss"].median - found["the loader"].median
    section.checks.append(Check("circuit open, memory miss", "the loader", over / 1e3, 1.5, "us"))
    return section


def _ports(breaker: Breaker) -> dict[str, Any]:
    return {"admit": breaker.admit, "success": breaker.success}


def _crowds(rounds: int) -> Section:
    command = [sys.executable, "-m", "tests.benchmarks.crowds", str(rounds)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    without, within, calls, waiting, loads = (found[n] for n in ("without", "within", "calls", "waiting", "loads"))
    section = Section(
        "Crowds",
        f"{KEYS:,} keys at once while the store hangs, {LOAD:g} s a load; {WAITERS:,} callers of one key. "
        "In an own process.",
        ("case", "median"),
        [
            ("keys at once, no cache", f"{statistics.median(without):.3f} s"),
            ("keys at once, the store hangs", f"{statistics.median(within):.3f} s"),
            ("store calls", f"{max(calls)}"),
            ("one key: CPU for each who waits", f"{statistics.median(waiting):.1f} us"),
            ("one key: loads", f"{max(loads)}"),
        ],
    )
    ratio = statistics.median([ours / bare for ours, bare in zip(within, without, strict=True)])
    section.checks.append(Check("10 000 keys at once, store hangs", "no cache", ratio, 2.0))
    section.checks.append(Check("10 000 keys at once, store hangs", "store calls", float(max(calls)), 100.0, ""))
    section.checks.append(Check("10 000 waiters on one key", "CPU each", statistics.median(waiting), 16.0, "us"))
    section.checks.append(Check("10 000 waiters on one key", "loads", float(max(loads)), 1.0, ""))
    return section
