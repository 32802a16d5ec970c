# pyright: reportMissingImports=false, reportMissingModuleSource=false
# Its libraries are installed for `make bench` only.
"""The memory tier when it is large: bytes for an entry, the garbage collector, stalls, hit ratios, threads."""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import threading
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from random import Random
from time import perf_counter, thread_time
from typing import Any, Final

import cachetools
import theine

from resilient_cache import AsyncResilientCache, CachePolicy, ResilientCache
from resilient_cache.memory import Memory

from .results import Check, Section

__all__ = ["run"]

ENTRIES: Final = 1_000_000
POPULATION: Final = 100_000
CAPACITY: Final = POPULATION // 100
REQUESTS: Final = 400_000
SLICE: Final = 200_000


def run(random: Random, rounds: int) -> list[Section]:
    """Size, garbage collection, stalls, hit ratios and threads."""
    return [_size(), _ratios(random), _threads(max(3, rounds // 5))]


def _keys() -> list[str]:
    return [f"tenant-{number:07}" for number in range(ENTRIES)]


def _collection() -> float:
    times = []
    for _ in range(5):
        began = perf_counter()
        gc.collect()
        times.append(perf_counter() - began)
    return statistics.median(times)


def _size() -> Section:
    keys = _keys()
    gc.collect()
    idle = _collection()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tier: Memory[int] = Memory(ENTRIES)
    for key in keys:
        tier.put_locked(key, 1, 1e9, 1e9, 1)
    each = (tracemalloc.get_traced_memory()[0] - before) / ENTRIES
    tracemalloc.stop()
    ours = _collection() - idle
    del tier
    other = cachetools.TTLCache[str, int](ENTRIES, 1e9)
    for key in keys:
        other[key] = 1
    theirs = _collection() - idle
    del other
    gc.collect()
    stall = asyncio.run(_stall())
    section = Section(
        f"Memory tier at {ENTRIES:,} entries",
        "Without keys and values; a full collection beyond that of an empty process; the longest step of a loop.",
        ("case", "figure"),
        [
            ("bytes for an entry", f"{each:.0f}"),
            ("gc.collect, resilient_cache", f"{ours * 1e3:.0f} ms"),
            ("gc.collect, cachetools.TTLCache", f"{theirs * 1e3:.0f} ms"),
            ("longest stall of the event loop while 100 000 entries expire and are replaced", f"{stall * 1e3:.1f} ms"),
        ],
    )
    section.checks.append(Check("memory tier at 10^6 entries", "bytes for an entry", each, 220.0, "B"))
    section.checks.append(Check("memory tier at 10^6 entries: gc.collect", "cachetools", ours / theirs, 0.15))
    section.checks.append(Check("memory tier: longest stall", "nothing", stall * 1e3, 5.0, "ms"))
    return section


async def _stall() -> float:
    """The longest single `set` of 300 000 in room for 100 000, all of which expire meanwhile: processor time of it."""
    policy = CachePolicy(ttl=0.05, stale_for=0, jitter=0.0)
    longest = 0.0
    async with AsyncResilientCache[str, int](None, name="stall", memory=100_000, policy=policy) as cache:
        for number in range(300_000):
            began = thread_time()  # other processes on this machine stall a loop, too
            await cache.set(f"k{number}", number)
            longest = max(longest, thread_time() - began)
    return longest


def _zipf(random: Random, population: int, requests: int) -> list[int]:
    weights = list(accumulate(1.0 / rank for rank in range(1, population + 1)))
    return random.choices(range(population), cum_weights=weights, k=requests)


def _traces(random: Random) -> dict[str, list[int]]:
    plain = _zipf(random, POPULATION, REQUESTS)
    scanned = list(plain)
    for start in range(0, REQUESTS, 100_000):  # now and then somebody reads everything once
        scanned[start : start + 10_000] = range(POPULATION + start, POPULATION + start + 10_000)
    drifting = [(key + number // 50_000 * 500) % POPULATION for number, key in enumerate(plain)]
    return {"zipf 1.0": plain, "zipf 1.0 with scans": scanned, "drifting zipf 1.0": drifting}


def _hits(trace: Iterable[int], has: Callable[[str], bool], put: Callable[[str], object]) -> float:
    hits = asked = 0
    for number in trace:
        key = f"k{number}"
        asked += 1
        if has(key):
            hits += 1
        else:
            put(key)
    return 100.0 * hits / asked


def _policies() -> Iterator[tuple[str, Callable[[str], bool], Callable[[str], object]]]:
    cache: ResilientCache[str, int] = ResilientCache(None, name="ratio", memory=CAPACITY)
    yield "resilient_cache", lambda key: cache.get(key) is not None, lambda key: cache.set(key, 1)
    lru: OrderedDict[str, int] = OrderedDict()

    def seen(key: str) -> bool:
        if key not in lru:
            return False
        lru.move_to_end(key)
        return True

    def put(key: str) -> None:
        lru[key] = 1
        if len(lru) > CAPACITY:
            lru.popitem(last=False)

    yield "LRU", seen, put
    tiny: Any = theine.Cache(CAPACITY)
    yield "theine (W-TinyLFU)", lambda key: tiny.get(key)[1], lambda key: tiny.set(key, 1)


def _ratios(random: Random) -> Section:
    section = Section(
        f"Hit ratio, room for 1 % of {POPULATION:,} keys", f"{REQUESTS:,} requests each.", ("trace", "cache", "hits %")
    )
    for name, trace in _traces(random).items():
        found = {who: _hits(trace, has, put) for who, has, put in _policies()}
        section.lines.extend((name, who, f"{ratio:.1f}") for who, ratio in found.items())
        ours = found["resilient_cache"]
        if name == "zipf 1.0":
            above, below = ours - found["LRU"], found["theine (W-TinyLFU)"] - ours
            section.checks.append(Check("hit ratio, zipf 1.0", "above LRU", above, 8.0, "points", least=True))
            section.checks.append(Check("hit ratio, zipf 1.0", "below theine", below, 1.5, "points"))
    return section


def _threads(rounds: int) -> Section:
    cache: ResilientCache[str, int] = ResilientCache(None, name="threads", memory=1_000)
    for number in range(1_000):
        cache.set(f"k{number}", number)
    keys = [f"k{number}" for number in range(1_000)]
    rates: dict[int, list[float]] = {count: [] for count in (1, 2, 4, 8)}
    for _ in range(rounds):
        for count, each in rates.items():
            each.append(_throughput(cache, keys, count))
    found = {count: statistics.median(each) for count, each in rates.items()}
    section = Section(
        "Threads",
        f"Hits in memory on {sys.implementation.name} with its interpreter lock.",
        ("threads", "hits/s"),
        [(str(count), f"{rate:,.0f}") for count, rate in found.items()],
    )
    section.checks.append(Check("memory tier, 8 threads", "1 thread", found[8] / found[1], 0.9, least=True))
    return section


def _throughput(cache: ResilientCache[str, int], keys: list[str], count: int) -> float:
    get, each = cache.get, SLICE // count // len(keys)
    ready = threading.Barrier(count + 1)

    def work() -> None:
        ready.wait()
        for _ in range(each):
            for key in keys:
                get(key)

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    ready.wait()
    began = perf_counter()
    for thread in threads:
        thread.join()
    return each * count * len(keys) / (perf_counter() - began)
