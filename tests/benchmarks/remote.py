# pyright: reportMissingImports=false, reportMissingModuleSource=false
# Its libraries are installed for `make bench` only.
"""Hits in a real store over loopback: what the library adds to the client, in processor time, and in latency."""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import Awaitable, Callable
from itertools import cycle
from random import Random
from time import perf_counter, process_time
from typing import Any, Final

import redis
import redis.asyncio
import valkey.asyncio

from resilient_cache import AsyncResilientCache, CachePolicy, ResilientCache, fallback
from resilient_cache.adapters.redis import AsyncRedisAdapter, RedisAdapter

from ..servers import ValkeyServer
from .peers import KEY, VALUE, aloader, loader
from .results import Check, Section
from .timing import spread

__all__ = ["run"]

POLICY: Final = CachePolicy(ttl=3_600, jitter=0.0, timeout=1.0)
RAW: Final = "raw client"
RAW_DICTS: Final = "raw client and json.loads"
BYTES: Final = "get_or_load of bytes"
DICTS: Final = "get_or_load of a dict"
PLAIN: Final = json.dumps(VALUE).encode()
MOST: Final = 50  # callers at once
CALLS: Final = 400
TOGETHER: Final = 2_000  # calls, where up to 1 000 callers share them
RATES: Final = (500, 2_000)
Calls = dict[str, Callable[[], Any]]


def run(random: Random, rounds: int) -> list[Section]:
    """Processor time of both colours, latency at fixed rates of arrival, and asyncio clients by themselves."""
    with ValkeyServer() as server:
        found = [_sync(server.url, random, rounds)]
        with asyncio.Runner() as runner:
            found += runner.run(_async(server.url, random, rounds))
            found.append(runner.run(_clients(server.url, rounds)))
    return found


def _table(title: str, about: str, samples: dict[str, list[float]]) -> Section:
    found = {name: spread(taken) for name, taken in samples.items()}
    lines: list[tuple[str, ...]] = [
        (name, f"{each.median:.1f}", f"{each.low:.1f}-{each.high:.1f}", f"{each.over(found[RAW]):.2f}")
        for name, each in sorted(found.items(), key=lambda item: item[1].median)
    ]
    section = Section(title, about, ("case", "CPU us", "quartiles", f"x {RAW}"), lines)
    for name, base in ((BYTES, RAW), (DICTS, RAW_DICTS)):  # like with like: what the caller has in hand then
        ratio = statistics.median([ours / raw for ours, raw in zip(samples[name], samples[base], strict=True)])
        section.checks.append(Check(f"remote hit: wrapper over {base}", f"{title}: {name}", ratio, 1.05))
    return section


def _sync(url: str, random: Random, rounds: int) -> Section:
    raw = redis.Redis.from_url(url, protocol=2, socket_timeout=1.0)
    adapter = RedisAdapter.from_url(url)
    guarded = fallback(RedisAdapter.from_url(url), timeout=1.0)
    options: dict[str, Any] = {"bytes": {"type": bytes}, "dicts": {}, "bare": {"type": bytes, "policy": _unmarked()}}
    caches: dict[str, ResilientCache[str, Any]] = {
        name: ResilientCache(RedisAdapter.from_url(url), name=name, **{"policy": POLICY, **given})
        for name, given in options.items()
    }
    for name, cache in caches.items():
        cache.set(KEY, VALUE if name == "dicts" else PLAIN)
    raw.set(KEY, PLAIN)
    calls: Calls = {
        RAW: lambda: raw.get(KEY),
        RAW_DICTS: lambda: json.loads(raw.get(KEY) or b""),
        "RedisAdapter.get": lambda: adapter.get(KEY),
        "fallback(RedisAdapter).get": lambda: guarded.get(KEY),
        "get": lambda: caches["bytes"].get(KEY),
        BYTES: lambda: caches["bytes"].get_or_load(KEY, loader),
        DICTS: lambda: caches["dicts"].get_or_load(KEY, loader),
        "get_or_load, no marks": lambda: caches["bare"].get_or_load(KEY, loader),
    }
    samples: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            call = calls[name]
            began = process_time()
            for _ in range(CALLS):
                call()
            samples[name].append((process_time() - began) / CALLS * 1e6)
    raw.close()
    adapter.close()
    for cache in caches.values():
        cache.close()
    return _table("Remote hit, sync", "One caller, one request after another, RESP2.", samples)


def _unmarked() -> CachePolicy:
    return CachePolicy(ttl=3_600, jitter=0.0, timeout=1.0, epoch_ttl=None)


async def _async(url: str, random: Random, rounds: int) -> list[Section]:
    raw = redis.asyncio.Redis.from_url(url, protocol=2)
    adapter = AsyncRedisAdapter.from_url(url)
    guarded = fallback(AsyncRedisAdapter.from_url(url), timeout=1.0)
    options: dict[str, Any] = {"abytes": {"type": bytes}, "adicts": {}, "abare": {"type": bytes, "policy": _unmarked()}}
    caches: dict[str, AsyncResilientCache[str, Any]] = {
        name: AsyncResilientCache(AsyncRedisAdapter.from_url(url), name=name, **{"policy": POLICY, **given})
        for name, given in options.items()
    }
    keys = [f"{KEY}-{number}" for number in range(MOST)]
    for name, cache in caches.items():
        for key in keys:
            await cache.set(key, VALUE if name == "adicts" else PLAIN)
    for key in keys:
        await raw.set(key, PLAIN)
    turns = cycle(keys)  # one key has one flight: what its followers cost is another table's

    async def loads() -> Any:
        return json.loads(await raw.get(next(turns)) or b"")

    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        RAW: lambda: raw.get(next(turns)),
        RAW_DICTS: loads,
        "AsyncRedisAdapter.get": lambda: adapter.get(next(turns)),
        "fallback(AsyncRedisAdapter).get": lambda: guarded.get(next(turns)),
        "get": lambda: caches["abytes"].get(next(turns)),
        BYTES: lambda: caches["abytes"].get_or_load(next(turns), aloader),
        DICTS: lambda: caches["adicts"].get_or_load(next(turns), aloader),
        "get_or_load, no marks": lambda: caches["abare"].get_or_load(next(turns), aloader),
    }
    sections = []
    for callers in (1, MOST):
        samples: dict[str, list[float]] = {name: [] for name in calls}
        order = list(calls)
        for _ in range(rounds):
            random.shuffle(order)
            for name in order:
                samples[name].append(await _cpu(calls[name], callers))
        about = f"{callers} at once, of keys of their own, RESP2."
        sections.append(_table(f"Remote hit, async, {callers} at once", about, samples))
    sections.append(await _latency({RAW: calls[RAW], BYTES: calls[BYTES]}, random))
    await raw.aclose()
    await adapter.aclose()
    for cache in caches.values():
        await cache.aclose()
    return sections


async def _cpu(call: Callable[[], Awaitable[Any]], callers: int, calls: int = CALLS) -> float:
    """Microseconds of processor time for one call, with `callers` of them at work at once."""

    async def work() -> None:
        for _ in range(calls // callers):
            await call()

    began = process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(work())
    return (process_time() - began) / (calls // callers * callers) * 1e6


async def _latency(calls: dict[str, Callable[[], Awaitable[Any]]], random: Random) -> Section:
    """Arrivals at a fixed rate, whatever the answers take: a slow answer does not slow the questions down."""
    lines: list[tuple[str, ...]] = []
    loop = asyncio.get_running_loop()
    for rate in RATES:
        for name in random.sample(list(calls), len(calls)):
            taken: list[float] = []
            start = loop.time()

            async def ask(due: float, call: Any, taken: list[float] = taken) -> None:
                await call()
                taken.append((loop.time() - due) * 1e3)  # from when it was to arrive, not from when it could be sent

            async with asyncio.TaskGroup() as group:
                for number in range(rate * 2):
                    due = start + number / rate
                    await asyncio.sleep(max(0.0, due - loop.time()))
                    group.create_task(ask(due, calls[name]))
            cuts = statistics.quantiles(taken, n=1_000)
            lines.append((f"{name}, {rate}/s", *(f"{cuts[at - 1]:.2f}" for at in (500, 990, 999))))
    return Section(
        "Latency at fixed rates of arrival, async",
        "Two seconds each, milliseconds from when a request was due until its answer.",
        ("case", "p50 ms", "p99 ms", "p99.9 ms"),
        lines,
    )


async def _clients(url: str, rounds: int) -> Section:
    from glide import GlideClient, GlideClientConfiguration, NodeAddress

    host, _, port = url.removeprefix("redis://").partition(":")
    glide = await GlideClient.create(GlideClientConfiguration([NodeAddress(host, int(port.split("/")[0]))]))
    redis_client = redis.asyncio.Redis.from_url(url, protocol=2, max_connections=2_000, socket_connect_timeout=30)
    valkey_client = valkey.asyncio.Valkey.from_url(url, protocol=2, max_connections=2_000, socket_connect_timeout=30)
    adapter = AsyncRedisAdapter.from_url(url)
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "redis-py": lambda: redis_client.get(KEY),
        "valkey-py": lambda: valkey_client.get(KEY),
        "valkey-glide": lambda: glide.get(KEY),
        "AsyncRedisAdapter": lambda: adapter.get(KEY),
    }
    lines: list[tuple[str, ...]] = []
    for callers in (1, 50, 1_000):
        for name, call in calls.items():
            if callers > 64 and name == "AsyncRedisAdapter":  # as many as a cache lets through to it
                continue
            cpu, wall = [], []
            for _ in range(max(3, rounds // 3)):
                began = perf_counter()
                cpu.append(await _cpu(call, callers, TOGETHER))
                wall.append(TOGETHER / (perf_counter() - began))
            lines.append(
                (f"{name}, {callers} at once", f"{statistics.median(cpu):.1f}", f"{statistics.median(wall):,.0f}")
            )
    await glide.close()
    for closing in (redis_client, valkey_client, adapter):
        await closing.aclose()
    return Section("asyncio clients by themselves", "GETs of one key.", ("case", "CPU us", "answers/s"), lines)
