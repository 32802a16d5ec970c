"""Forks: several at once, and what a child makes of its parent's locks, calls and flights (real processes)."""

from __future__ import annotations

import asyncio
import os
import runpy
import threading
import time
import weakref
from typing import Any

import pytest

from resilient_cache import Invalidation, ResilientCache, deadline, fallback, forking
from resilient_cache.adapters import MappingAdapter, _redis_clients, from_functions
from resilient_cache.adapters.redis import AsyncRedisAdapter
from resilient_cache.errors import StoreError
from resilient_cache.testing import DictStore, Fault, FaultKind, FaultPlan, FaultyAdapter, ManualClock

from ..servers import ValkeyServer, in_child

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
pytestmark = [
    pytest.mark.realtime,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),  # the point of the test
]


@needs_fork
def test_threads_that_fork_at_once() -> None:
    """Any number of threads may fork at the same moment: none is left waiting, and no lock stays taken."""
    caches = [ResilientCache[str, int](MappingAdapter(), name=f"fork{n}", memory=10) for n in range(20)]
    together = threading.Barrier(3)
    statuses: list[int] = []

    def fork() -> None:
        together.wait(10)
        for _ in range(20):
            child = os.fork()
            if child == 0:
                os._exit(0)
            statuses.append(os.waitpid(child, 0)[1])

    forkers = [threading.Thread(target=fork, daemon=True) for _ in range(3)]
    for forker in forkers:
        forker.start()
    for forker in forkers:
        forker.join(30)
    assert not any(forker.is_alive() for forker in forkers), "they wait for each other"
    assert statuses == [0] * 60
    assert forking.HELD == []
    done: list[bool] = []
    user = threading.Thread(target=lambda: done.extend(cache.set("k", 1) for cache in caches), daemon=True)
    user.start()
    user.join(10)
    assert done == [True] * 20


class Watched:
    """Something protected that notes who takes its lock, and has another thread try to fork as it does."""

    def __init__(self, meanwhile: threading.Thread) -> None:
        self.lock: Any = self
        self.meanwhile = meanwhile
        self.seen: list[str] = []

    def acquire(self) -> None:
        self.seen.append(f"taken by {threading.current_thread().name}")
        if threading.current_thread() is not self.meanwhile:
            self.meanwhile.start()
            self.meanwhile.join(0.2)  # it waits for us to have forked

    def release(self) -> None:
        self.seen.append(f"given back by {threading.current_thread().name}")

    def forked(self) -> None:
        """Nothing to forget."""


def fork_in_parent() -> None:
    """Do what a fork does in the process that forks."""
    forking._before()
    forking._after_in_parent()


def test_a_fork_within_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """One fork is over before the next one begins to take the locks."""
    thing = Watched(threading.Thread(target=fork_in_parent, name="other", daemon=True))
    monkeypatch.setattr(forking, "PROTECTED", weakref.WeakSet([thing]))
    monkeypatch.setattr(threading.current_thread(), "name", "first")
    fork_in_parent()
    thing.meanwhile.join(10)
    assert thing.seen == [f"{done} by {who}" for who in ("first", "other") for done in ("taken", "given back")]


def as_in_a_child() -> None:
    """Do what a forked child does with everything that is protected."""
    forking._before()
    forking._after_in_child()


def test_what_a_child_forgets() -> None:
    """A child has no calls and no flights of its parent's, keeps the entries and the fences, and its locks are free."""
    clock, leading, done = ManualClock(), threading.Event(), threading.Event()
    cache: ResilientCache[str, str] = ResilientCache(FaultyAdapter(clock), name="child", memory=10, clock=clock)
    cache.set("kept", "v")
    assert cache.invalidate("gone") is Invalidation.CONFIRMED
    node = cache._rules.local.node

    def held(_: str) -> str:
        leading.set()
        assert done.wait(10)
        return "parent"

    leader = threading.Thread(target=cache.get_or_load, args=("k", held))
    leader.start()
    try:
        assert leading.wait(10)
        assert cache.health()["flights"] == 1
        as_in_a_child()
        health = cache.health()
        assert (health["flights"], health["store_calls_in_flight"], health["fences"]) == (0, 0, 1)
        assert cache.get_or_load("k", lambda _: "child") == "child"
        assert (cache.get("kept"), forking.HELD) == ("v", [])
        assert cache._rules.local.node != node
    finally:
        done.set()
        leader.join()


def test_a_guard_that_has_no_cache_forks_too() -> None:
    """The guard of a `fallback` has nothing to forget but its calls."""
    clock = ManualClock()
    plan = FaultPlan().then("get", Fault(FaultKind.RAISE))
    guarded = fallback(FaultyAdapter(clock, DictStore(clock), plan=plan), clock=clock)
    assert guarded.get("k") is None
    as_in_a_child()
    assert guarded.set("k", b"v", 60.0)
    assert guarded.get("k") == b"v"


def test_where_there_are_no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library can be imported where nothing can fork."""
    monkeypatch.delattr(os, "register_at_fork", raising=False)
    names = runpy.run_path(str(forking.__file__))
    assert names["HELD"] == []


class Hung:
    """A store whose `get` of "hangs" holds its thread until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.adapter = from_functions(self.get, self.set, self.delete, threads=1, timeout=10.0)
        token = deadline.CURRENT.set((time.monotonic() + 0.02, time.monotonic))
        with pytest.raises(StoreError, match="the call goes on"):
            self.adapter.get("hangs")
        deadline.CURRENT.reset(token)

    def get(self, key: str) -> bytes | None:
        if key == "hangs":
            self.let_go.wait(30)
        return b"v"

    def set(self, key: str, value: bytes, ttl: float) -> None:
        """Not asked."""

    def delete(self, key: str) -> None:
        """Not asked."""


@needs_fork
def test_a_child_has_the_permits_that_its_parents_threads_hold() -> None:
    """They were never given back there: the child's calls were rejected for as long as it lived."""
    store = Hung()
    try:
        assert in_child(lambda: store.adapter.get("k") == b"v")
        with pytest.raises(StoreError, match="still running"):
            store.adapter.get("k")
    finally:
        store.let_go.set()


def test_a_child_that_begins_anew_with_all_permits() -> None:
    """The same in one process: what goes on gives its permit back to the parent."""
    store = Hung()
    try:
        as_in_a_child()
        assert store.adapter.get("k") == b"v"
    finally:
        store.let_go.set()


@needs_fork
@pytest.mark.parametrize("closes", [False, True], ids=["reads", "closes"])
def test_an_async_child_leaves_its_parents_connections_alone(valkey_server: ValkeyServer, closes: bool) -> None:
    """What a child asked on its parent's connection was answered to the parent, who then heard nothing more on it."""
    adapter = AsyncRedisAdapter.from_url(valkey_server.url)

    async def in_child_too() -> bool:
        if closes:
            await adapter.aclose()
            return True
        return await adapter.get("of the child") == b"child"

    async def main() -> None:
        await adapter.set("of the parent", b"parent", 60.0)
        await adapter.set("of the child", b"child", 60.0)
        assert await asyncio.to_thread(in_child, lambda: asyncio.run(in_child_too()))
        assert await adapter.get("of the parent") == b"parent"
        assert valkey_server.connections_ever() == before + (1 if closes else 2) + 1, "the last one asks"
        await adapter.aclose()

    before = valkey_server.connections_ever()
    asyncio.run(main())


def test_another_process_gets_connections_of_its_own(valkey: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in one process, which only takes itself for two: what it inherited is kept, and not used."""
    monkeypatch.setattr(_redis_clients, "OF_PARENTS", kept := list[Any]())

    async def main() -> None:
        adapter = AsyncRedisAdapter.from_url(valkey)
        await adapter.delete("k")
        inherited = adapter._owned._places
        adapter._owned.forked()
        await adapter.delete("k")
        await adapter.delete("k")
        await adapter.aclose()
        assert kept[0][0] is inherited
        assert [wire.is_open for wire in inherited if wire] == [True]
        inherited[-1].close()

    asyncio.run(main())
