"""Hits in memory: ours, other libraries', and the least that Python needs."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from .peers import async_cases, async_decorated, decorated, direct
from .results import Check, Section, timings
from .timing import Timing, compare

__all__ = ["run"]


def _against(path: str, ours: Timing, found: Mapping[str, Timing], targets: Mapping[str, float]) -> list[Check]:
    return [Check(path, name, ours.over(found[name]), target) for name, target in targets.items()]


def run(random: Random, rounds: int) -> list[Section]:
    """The four tables and their checks."""
    hit = compare(direct(), random, rounds=rounds)
    ours = hit["resilient_cache.get_or_load"]
    sync = timings(
        "Memory hit, sync",
        "One key that is there, asked for again and again. `cache[key]` is a question that raises when there is none.",
        hit,
        base="dict",
    )
    targets = {
        "functools.lru_cache": 5.5,
        "cachebox.TTLCache.get": 4.0,
        "cachetools.TTLCache.get, RLock": 0.17,
    }
    sync.checks.extend(_against("sync get_or_load, memory hit", ours, hit, targets))
    timed = hit["resilient_cache.get_or_load, load_timeout"].over(ours)
    sync.checks.append(Check("hit with a timeout configured", "the same without", timed, 1.1))

    cached = compare(decorated(), random, rounds=rounds)
    mine = cached["resilient_cache @cached"]
    wrapped = timings("Decorated function, memory hit, sync", "", cached, base="functools @lru_cache")
    targets = {
        "cachebox @cached": 0.6,
        "cachetools @cached, condition": 0.2,
        "theine @Memoize": 0.13,
        "dogpile @cache_on_arguments": 0.025,
    }
    wrapped.checks.extend(_against("sync @cached, memory hit", mine, cached, targets))

    awaited = compare(async_cases(), random, rounds=rounds)
    asynchronous = timings("Memory hit, async", "", awaited, base="bare coroutine")
    ratio = awaited["resilient_cache.get_or_load"].over(awaited["bare coroutine"])
    asynchronous.checks.append(Check("async get_or_load, memory hit", "bare coroutine", ratio, 3.6))

    both = compare(async_decorated(), random, rounds=rounds)
    mine = both["resilient_cache @cached"]
    decorated_async = timings("Decorated function, memory hit, async", "", both, base="resilient_cache @cached")
    targets = {
        "async_lru @alru_cache": 0.45,
        "cachebox @cached": 0.55,
        "aiocache @cached": 0.05,
        "cashews @cache": 0.01,
    }
    decorated_async.checks.extend(_against("async @cached, memory hit", mine, both, targets))
    return [sync, wrapped, asynchronous, decorated_async]
