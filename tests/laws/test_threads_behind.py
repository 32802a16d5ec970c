"""What a `ResilientCache` does behind its callers in the one thread of the process (real threads, real time, forks)."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from resilient_cache import BreakerPolicy, CachePolicy, Invalidation, ResilientCache, _thread_ticker
from resilient_cache._thread_ticker import Ticker
from resilient_cache.events import Settled

from ..servers import in_child

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),  # the point of the test
]

AGAIN = 0.2
POLICY = CachePolicy(timeout=0.05, inflight_max=AGAIN, epoch_ttl=None)
BREAKER = BreakerPolicy(hold=0.05, max_hold=0.1)
PATIENCE = 10.0


class Store:
    """A dict that deletes nothing while `down`."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.down = False
        self.deletes = 0

    def get(self, key: str, /) -> bytes | None:
        return self.entries.get(key)

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        self.entries[key] = value

    def delete(self, key: str, /) -> None:
        self.deletes += 1
        if self.down:
            raise ConnectionRefusedError
        self.entries.pop(key, None)


@pytest.fixture(autouse=True)
def ticker(monkeypatch: pytest.MonkeyPatch) -> Ticker:
    """One of its own for each test."""
    made = Ticker()
    monkeypatch.setattr(_thread_ticker, "THE_ONE", made)
    return made


def made(store: Store, **options: Any) -> ResilientCache[str, str]:
    return ResilientCache(store, name="behind", policy=POLICY, breaker=BREAKER, **options)


def happens(what: Callable[[], bool]) -> bool:
    """Whether it does, in the end."""
    until = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


def threads(ticker: Ticker) -> int:
    """How many threads the ticker has."""
    return sum(getattr(thread, "_target", None) == ticker._run for thread in threading.enumerate())


def owing(store: Store, **options: Any) -> ResilientCache[str, str]:
    """A cache that the store owes one delete."""
    cache = made(store, **options)
    assert cache.set("k", "old")
    store.down = True
    assert cache.invalidate("k") is Invalidation.PENDING
    return cache


def test_a_store_that_is_back_is_asked_by_itself(ticker: Ticker) -> None:
    """G3: the delete is confirmed, told, and done a second time; then the thread ends."""
    told: list[object] = []
    store = Store()
    cache = owing(store, hooks=[told.append])
    assert happens(lambda: store.deletes > 2)
    assert store.entries
    assert threads(ticker) == 1
    late = store.entries["behind:k"]
    store.down = False
    assert happens(lambda: cache.health()["pending_invalidations"] == 0)
    assert happens(lambda: any(type(event) is Settled for event in told))
    store.entries["behind:k"] = late  # a write that was on its way
    assert happens(lambda: not store.entries)
    assert happens(lambda: threads(ticker) == 0)
    assert cache.get("k") is None


def test_many_caches_have_one_thread(ticker: Ticker) -> None:
    """And each is served in its time."""
    stores = [Store() for _ in range(20)]
    caches = [owing(store) for store in stores]
    assert threads(ticker) == 1
    for store in stores:
        store.down = False
    assert happens(lambda: not any(cache.health()["pending_invalidations"] for cache in caches))
    assert happens(lambda: threads(ticker) == 0)


def test_a_sooner_debt_wakes_the_thread(ticker: Ticker) -> None:
    """One that sleeps until a second delete is due does not oversleep a first."""
    store = Store()
    cache: Any = ResilientCache(store, name="behind", policy=CachePolicy(timeout=0.05, inflight_max=60))
    cache.invalidate("other")
    assert threads(ticker) == 1
    store.down = True
    cache.invalidate("k")
    store.down = False
    assert happens(lambda: cache.health()["pending_invalidations"] == 0)


def test_a_cache_that_is_dropped_is_not_kept_by_what_it_is_owed(ticker: Ticker) -> None:
    """Neither it nor the thread, once that wakes."""
    cache = owing(Store())
    gone = weakref.ref(cache._upkeep)
    assert threads(ticker) == 1
    del cache

    def is_gone() -> bool:
        gc.collect()
        return gone() is None

    assert happens(is_gone)  # not while a step of it runs
    assert happens(lambda: threads(ticker) == 0)


def test_a_thread_that_sleeps_holds_no_cache() -> None:
    """However long it is going to sleep."""
    cache: Any = ResilientCache(Store(), name="behind", policy=CachePolicy(timeout=0.05, inflight_max=3600))
    cache.invalidate("k")
    gone = weakref.ref(cache._upkeep)
    time.sleep(0.3)  # until it sleeps for long
    del cache

    def is_gone() -> bool:
        gc.collect()
        return gone() is None

    assert happens(is_gone)


def test_flush_waits_as_long_as_it_is_told_and_no_longer() -> None:
    """And says what is left; the last try may take one timeout longer."""
    store = Store()
    cache = owing(store)
    began = time.monotonic()
    assert cache.flush(0.3) == 1
    assert 0.3 <= time.monotonic() - began < 2.0
    healer = threading.Timer(0.2, lambda: setattr(store, "down", False))
    healer.start()
    assert cache.flush(PATIENCE) == 0
    assert not store.entries
    healer.join()


class StandingClock:
    """A clock that stands still, as in runtimes that let no time be measured."""

    def monotonic(self) -> float:
        return 5.0

    def time(self) -> float:
        return 1_750_000_000.0


@pytest.mark.parametrize("comes_back", [False, True])
def test_flush_ends_where_the_clock_stands_still(comes_back: bool) -> None:
    """And asks again all the same."""
    store = Store()
    cache = owing(store, clock=StandingClock(), spawn=lambda _: None)
    healer = threading.Timer(0.1, lambda: setattr(store, "down", not comes_back))
    healer.start()
    assert cache.flush(0.6) == (0 if comes_back else 1)
    healer.join()


def test_no_more_threads_can_be_started(ticker: Ticker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost: the next one who asks starts one."""

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    store = Store()
    with monkeypatch.context() as patch:
        patch.setattr(_thread_ticker, "daemon", refuse)
        cache = owing(store)
        store.down = False
        assert threads(ticker) == 0
        assert cache.get("another") is None
        assert cache.health()["pending_invalidations"] == 1
    assert cache.get("another") is None
    assert happens(lambda: cache.health()["pending_invalidations"] == 0)


def test_close_asks_once_more_and_ends() -> None:
    """At once where the store refuses; and nothing is asked afterwards."""
    store = Store()
    cache = owing(store)
    began = time.monotonic()
    assert cache.close() == 1
    assert time.monotonic() - began < 2.0
    time.sleep(0.1)  # a step that was under way
    asked = store.deletes
    time.sleep(0.3)
    assert store.deletes == asked


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_inherits_what_is_owed_and_asks_for_it_at_its_next_call() -> None:
    """Its parent's thread does not run there."""
    store = Store()
    cache = owing(store)

    def work() -> bool:
        store.down = False
        quiet = not happens_within(0.3, lambda: not store.entries)
        cache.get("another")
        return quiet and happens(lambda: not store.entries and cache.health()["pending_invalidations"] == 0)

    assert in_child(work)
    assert store.entries  # the child had a store of its own
    store.down = False
    assert happens(lambda: not store.entries)


def test_a_forked_ticker_starts_another_thread(ticker: Ticker) -> None:
    """What the child does with its copy, seen in the parent: the old thread is not counted on."""
    store = Store()
    cache = owing(store)
    with ticker.lock:
        ticker.forked()
    cache.get("another")
    assert threads(ticker) == 2
    store.down = False
    assert happens(lambda: threads(ticker) == 0)


def happens_within(seconds: float, what: Callable[[], bool]) -> bool:
    time.sleep(seconds)
    return what()


def die(_: str) -> None:
    raise SystemExit


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_step_that_dies_takes_the_thread_with_it_until_its_lease_is_over(
    ticker: Ticker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L17: the store raised what ends threads."""
    monkeypatch.setattr(_thread_ticker, "LEASE", 0.3)
    store = Store()
    cache = owing(store)
    with monkeypatch.context() as patch:
        patch.setattr(store, "delete", die)
        assert happens(lambda: threads(ticker) == 0)
    store.down = False
    assert happens(lambda: cache.get("another") is None and cache.health()["pending_invalidations"] == 0)
