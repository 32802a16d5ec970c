"""How a cache is put together, for both flows; and what it tells of itself."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from ._debts import Debts
from ._guard import Guard
from ._local import Local
from ._plane import Plane
from ._reporting import Reporter
from ._rules import Rules
from ._switch import ModeSetting, Switch
from .backoff import backoff
from .codecs import codec_for
from .entry import MICROS
from .errors import MisuseError
from .events import Hook
from .journal import Journal
from .outcome import AfterOutage, Lookup
from .policy import BreakerPolicy, CachePolicy, float_of
from .protocols import Clock, Codec
from .ramp import Ramp

__all__ = ["build", "build_guard", "explain", "health", "stats"]

NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
SOON: Final = 0.5
"""Seconds at most between two tries to reach a backplane: what it misses is served until then."""

MOST_MEMORY: Final = 100_000_000
ANSWERS: Final = ("hits", "stale", "negative", "loads", "misses", "errors")


def build(
    *,
    name: object,
    has_store: bool,
    shard: Callable[[str], object] | None,
    policy: CachePolicy | None,
    breaker: BreakerPolicy | None,
    type: type[Any] | None,
    codec: Codec[Any] | None,
    memory: int,
    hooks: Iterable[Hook],
    mode: ModeSetting,
    clock: Clock,
    random: Callable[[], float],
    has_peers: bool = False,
) -> Rules:
    """The rules of a new cache. Raises `MisuseError` for an argument that can never be right."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise MisuseError(f"name must be 1 to 64 letters, digits or _ . - (it starts every key), not {name!r}")
    if isinstance(memory, bool) or not is_a(memory, int) or not 0 <= memory <= MOST_MEMORY:
        raise MisuseError(f"memory must be a number of entries, 0 to {MOST_MEMORY}, not {memory!r}")
    for what, parts in ((clock, ("monotonic", "time")), (random, ("__call__",))):
        if not all(callable(getattr(what, part, None)) for part in parts):
            raise MisuseError(f"clock must have monotonic() and time(), random must be callable; {what!r} is not")
    policy = policy if policy is not None else CachePolicy()
    if not is_a(policy, CachePolicy):
        raise MisuseError(f"policy must be a CachePolicy, not {policy!r}")
    reporter = Reporter(name, hooks, clock.monotonic)
    guard = build_guard(policy=policy, breaker=breaker, reporter=reporter, clock=clock, random=random, shard=shard)
    timeout, pause = guard.timeout, backoff(random)
    journal = Journal(float_of(policy.inflight_max), lambda tries: timeout + pause(tries))
    local = Local(memory, policy, clock, guard.lock, journal if has_store else None)
    ramp = Ramp(policy.ramp if policy.ramp is None else float_of(policy.ramp))
    guard.on_recovery = partial(_recovered, local, ramp, clock.monotonic, policy.after_outage)
    plane = Plane(guard, local, reporter, backoff(random, longest=SOON)) if has_peers else None
    guard.on_fork = partial(_forked, local, plane)
    switch = Switch(mode, reporter, clock.monotonic)
    return Rules(
        policy=policy,
        codec=check_codec(codec) if codec is not None else codec_for(type),
        random=random,
        reporter=reporter,
        switch=switch,
        guard=guard,
        local=local,
        plane=plane,
        debts=Debts(journal, guard, local, reporter, switch),
        ramp=ramp,
        has_store=has_store,
    )


def build_guard(
    *,
    policy: CachePolicy,
    breaker: BreakerPolicy | None,
    reporter: Reporter,
    clock: Clock,
    random: Callable[[], float],
    shard: Callable[[str], object] | None = None,
) -> Guard:
    """The guard of a store. Raises `MisuseError` when `breaker` is not a `BreakerPolicy`."""
    breaker = breaker if breaker is not None else BreakerPolicy()
    if not is_a(breaker, BreakerPolicy):
        raise MisuseError(f"breaker must be a BreakerPolicy, not {breaker!r}")
    for rule in ("slow_after", "lost_time"):
        limit = getattr(breaker, rule)
        if limit is not None and limit >= float_of(policy.timeout):
            raise MisuseError(f"{rule} must be less than timeout ({policy.timeout:g}), or no call is ever so slow")
    return Guard(
        timeout=float_of(policy.timeout),
        inflight_max=float_of(policy.inflight_max),
        breaker=breaker,
        max_calls=policy.max_store_calls,
        reporter=reporter,
        monotonic=clock.monotonic,
        random=random,
        shard=shard,
    )


def _recovered(local: Local, ramp: Ramp, monotonic: Callable[[], float], after_outage: object) -> None:
    local.recovered(trusted=after_outage is AfterOutage.TRUST)
    ramp.begin(monotonic())


def _forked(local: Local, plane: Plane | None) -> None:
    local.forked()
    if plane is not None:
        plane.forked()


def is_a(value: object, kind: type) -> bool:
    """`isinstance`, of what the caller's annotations promise but need not hold."""
    return isinstance(value, kind)


def check_codec(codec: Codec[Any]) -> Codec[Any]:
    """`codec` itself. Raises `MisuseError` when it lacks a method or its id is none."""
    name = getattr(codec, "id", None)
    if not isinstance(name, str) or not name.isascii() or not 1 <= len(name) <= 32:
        raise MisuseError(f"codec must have an id of 1 to 32 ASCII characters, not {name!r}")
    if not callable(getattr(codec, "encode", None)) or not callable(getattr(codec, "decode", None)):
        raise MisuseError("codec must have the methods encode and decode")
    return codec


def check_journal(journal: object, adapter: object) -> Any:
    """`journal` itself. Raises `MisuseError` when it lacks a method, or when there is no store that could owe."""
    if journal is not None and adapter is None:
        raise MisuseError("journal is for what a store owes: give an adapter, or no journal")
    if journal is not None and not all(callable(getattr(journal, name, None)) for name in ("load", "add", "strike")):
        raise MisuseError(f"journal must have the methods load, add and strike; {journal!r} has not")
    return journal


def stats(rules: Rules) -> dict[str, int]:
    """The counters at one moment: requests = hits + stale + negative + loads + misses + errors."""
    with rules.guard.lock:
        counts = dict(rules.reporter.counts)
        memory = counts.pop("hits_memory", 0) + rules.memory_hits
    store = counts.pop("hits_store", 0)
    shown = {name: counts.pop(name, 0) for name in ANSWERS[1:]}
    hits = {"hits": memory + store, "hits_memory": memory, "hits_store": store}
    requests = memory + store + sum(shown.values())
    return {"requests": requests, **hits, **shown, **dict(sorted(counts.items()))}


def health(rules: Rules, adapter: object) -> dict[str, object]:
    """The state at one moment, as plain data; touches no store, but asks an adapter that has one for its own."""
    local = rules.local
    return {
        "name": rules.name,
        **_mode(rules),
        "closed": rules.switch.closed,
        "circuits": rules.guard.health() if rules.has_store else {},
        **rules.debts.health(),
        "backplane": None if rules.plane is None else rules.plane.health(),
        "stuck_flights": local.flights.stuck(rules.monotonic()),
        "flights": len(local.flights),
        "origin": rules.loads.origin.health(),
        "store_calls_in_flight": rules.guard.in_flight(),
        "memory_entries": len(local.memory),
        "fences": len(local.fences),
        **store_health(adapter, rules.reporter),
    }


def _mode(rules: Rules) -> dict[str, object]:
    mode = rules.mode()
    return {
        "mode": str(mode),
        "mode_ends_in": rules.switch.ends_in,
        "admitted": rules.ramp.share(rules.monotonic()),
    }


def store_health(adapter: Any, reporter: Reporter) -> dict[str, object]:
    """What an adapter tells of itself, if it does. Not what `__getattr__` finds: a mock has everything."""
    if inspect.getattr_static(adapter, "health", None) is None:
        return {}
    try:
        told: object = adapter.health()
    except Exception:  # noqa: BLE001 - around a store
        reporter.count("health_errors")
        return {}
    return {"store": told} if isinstance(told, dict) else {}


def explain(rules: Rules, key: str, found: Lookup[Any]) -> dict[str, object]:
    """Why `key` answers as it does: `found` is what a look-up gave just now. Never the value itself."""
    fence = rules.local.fences.at(key)
    return {
        "key": key,
        "found": bool(found),
        "source": str(found.source),
        "reason": str(found.reason),
        "stale": found.stale,
        "age": found.age,
        "fenced_before": fence / MICROS if fence else None,
        "in_memory": key in rules.local.memory.entries,
        **_mode(rules),
        "circuits": rules.guard.health() if rules.has_store else {},
        "policy": rules.policy.explain(),
    }
