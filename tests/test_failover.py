"""`Failover` and `AsyncFailover`: who is asked, who owes what, and when the first is back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from resilient_cache import (
    AsyncResilientCache,
    BreakerPolicy,
    FailureKind,
    Invalidation,
    MisuseError,
    ResilientCache,
    StoreError,
    deadline,
    fallback,
)
from resilient_cache.adapters import AsyncMappingAdapter, MappingAdapter
from resilient_cache.events import CircuitChanged, Settled, StoreCalled
from resilient_cache.failover import AsyncFailover, Failover
from resilient_cache.outcome import Direction
from resilient_cache.testing import Fault, FaultKind

from .servers import in_child
from .vendors import BREAKER, DEAD, TIMEOUT, Vendors

Make = Callable[..., Vendors]
HANG = Fault(FaultKind.HANG)
READ_ONLY = Fault.raising(StoreError(FailureKind.READ_ONLY))
PER_KEY = Fault.raising(StoreError(FailureKind.PER_KEY))
CALLS: list[tuple[Any, ...]] = [("get", "k"), ("set", "k", b"v", 1.0), ("delete", "k")]


@contextmanager
def within(vendors: Vendors, seconds: float) -> Iterator[None]:
    """As a cache does around every call to a store."""
    token = deadline.CURRENT.set((vendors.clock.monotonic() + seconds, vendors.clock.monotonic))
    try:
        yield
    finally:
        deadline.CURRENT.reset(token)


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Any:
    made: list[Vendors] = []

    def make_one(*args: Any, **options: Any) -> Vendors:
        made.append(Vendors(request.param, *args, **options))
        return made[-1]

    yield make_one
    for each in made:
        each.run_behind()


def state(vendors: Vendors) -> Any:
    """That of the first one's circuit for reads."""
    return vendors.failover.health()["vendors"]["primary"]["circuits"]["read"]["state"]


def kill(vendors: Vendors, vendor: int = 0) -> None:
    """Let a vendor fail until its circuit for reads is open."""
    vendors.plans[vendor].during(DEAD)
    for _ in range(3):
        vendors.attempt("get", "k")


# Who is asked


def test_when_all_is_well_the_first_alone_is_read_and_written(make: Make) -> None:
    vendors = make()
    vendors.set("k", b"v", 60.0)
    assert vendors.get("k") == b"v"
    assert (vendors.calls(0, "get"), vendors.calls(1, "get"), vendors.calls(1, "set")) == (1, 0, 0)
    vendors.delete("k")
    assert vendors.get("k") is None
    assert (vendors.calls(0, "delete"), vendors.calls(1, "delete")) == (1, 1)
    assert (len(vendors.behind), vendors.owed(0), vendors.owed(1)) == (0, 0, 0)


def test_a_failing_first_costs_what_its_circuit_takes_to_open(make: Make) -> None:
    vendors = make()
    vendors.plans[0].during(DEAD)
    for _ in range(100):
        assert vendors.get("k") is None
    assert (vendors.calls(0, "get"), vendors.calls(1, "get")) == (3, 100)


def test_a_silent_first_leaves_the_second_its_time(make: Make) -> None:
    vendors = make()
    vendors.plans[0].during(HANG)
    vendors.plans[1].during(Fault.slow(0.9 * TIMEOUT))
    began = vendors.clock.monotonic()
    assert vendors.get("k") is None
    assert vendors.clock.monotonic() - began == pytest.approx(1.9 * TIMEOUT)


def test_of_less_time_each_has_its_share(make: Make) -> None:
    vendors = make()
    vendors.plans[0].during(HANG)
    vendors.plans[1].during(Fault.slow(0.04))
    with within(vendors, 0.1):
        assert vendors.get("k") is None
    with within(vendors, 0.1):
        vendors.set("k", b"v", 60.0)


def test_three_vendors_share_the_time_and_the_last_one_stands_in(make: Make) -> None:
    vendors = make(3)
    for vendor in (0, 1):
        vendors.plans[vendor].during(HANG)
    began = vendors.clock.monotonic()
    vendors.set("k", b"v", 60.0)
    assert vendors.clock.monotonic() - began == pytest.approx(2 * TIMEOUT)
    assert vendors.stores[2]["k"][0] == b"v"
    assert list(vendors.failover.stats()) == ["primary", "secondary", "vendor3"]


@pytest.mark.parametrize(("error", "kind"), [(OSError(), "connection"), (TimeoutError(), "timeout")])
def test_when_nobody_serves_it_says_why(make: Make, error: Exception, kind: str) -> None:
    vendors = make()
    for plan in vendors.plans:
        plan.during(Fault.raising(error))
    for name, *args in CALLS:
        assert vendors.attempt(name, *args).kind == kind


def test_when_nobody_may_be_asked_no_circuit_of_the_whole_hears_of_it(make: Make) -> None:
    vendors = make()
    kill(vendors, 1)
    kill(vendors, 0)
    calls = vendors.calls(0, "get"), vendors.calls(1, "get")
    assert vendors.attempt("get", "k").kind is FailureKind.NOT_ASKED
    assert (vendors.calls(0, "get"), vendors.calls(1, "get")) == calls


def test_only_when_all_refuse_everything_is_it_not_for_the_sake_of_the_key(make: Make) -> None:
    vendors = make()
    kill(vendors, 1)
    vendors.plans[0].then("delete", DEAD)
    vendors.attempt("delete", "k")
    vendors.plans[0].during(READ_ONLY, "set", "delete")
    for key in "abc":
        vendors.attempt("delete", key)
    assert vendors.get("other") is None, "the first can be read"
    assert vendors.attempt("get", "k").kind is FailureKind.PER_KEY
    assert vendors.attempt("set", "other", b"1", 60.0).kind is FailureKind.NOT_ASKED


def test_an_entry_in_a_stand_in_has_a_short_life(make: Make) -> None:
    vendors = make(stand_in_ttl=20.0, max_ttl=100.0)
    vendors.set("k", b"v", 1e6)
    assert vendors.stores[0]["k"][1] == vendors.clock.monotonic() + 100
    kill(vendors)
    vendors.set("k", b"w", 1e6)
    vendors.set("l", b"w", 5.0)
    assert vendors.stores[1]["k"][1] == vendors.clock.monotonic() + 20
    assert vendors.stores[1]["l"][1] == vendors.clock.monotonic() + 5


# What is owed


def test_the_first_is_back_only_when_it_has_made_good(make: Make) -> None:
    vendors = make()
    vendors.set("k", b"old", 600.0)
    kill(vendors)
    vendors.set("k", b"new", 600.0)
    assert vendors.get("k") == b"new"
    assert vendors.failover.health()["serving"] == "secondary"
    vendors.run_behind()  # asks the first once more, in vain
    vendors.plans[0].during(READ_ONLY, "set", "delete")
    vendors.plans[0].during(Fault.slow(0.0), "get")
    reads = vendors.calls(0, "get")
    vendors.settle(20)
    assert (vendors.owed(0), vendors.calls(0, "get")) == (1, reads), "it is asked before it has made good"
    assert vendors.failover.health()["vendors"]["primary"]["aside"] is True
    vendors.plans[0].calm()
    vendors.settle(20)
    assert (vendors.owed(0), vendors.get("k")) == (0, None)
    vendors.set("other", b"", 600.0)  # in a stand-in still: the first has a probe to pass that nothing was left for
    vendors.settle(2)
    assert vendors.failover.health()["serving"] == "primary"
    vendors.set("k", b"newer", 600.0)
    assert vendors.stores[0]["k"][0] == b"newer"
    assert vendors.get("k") == b"newer"


def test_what_is_owed_since_it_is_well_does_not_keep_it_aside(make: Make) -> None:
    vendors = make()
    kill(vendors)
    vendors.set("a", b"1", 60.0)
    vendors.attempt("delete", "b")
    vendors.plans[0].calm()
    vendors.clock.advance(2)
    assert vendors.flush(5.0) == 0
    vendors.run_behind()
    vendors.failover._replays.clear()  # from now on nothing is made good
    vendors.set("c", b"2", 60.0)  # in a stand-in still: the first owes "c"
    assert (vendors.owed(0), vendors.stores[1]["c"][0]) == (1, b"2")
    assert state(vendors) != "closed"
    for _ in range(3):
        vendors.attempt("get", "d")
        vendors.run_behind()  # probes
    assert state(vendors) == "closed"
    assert vendors.get("c") == b"2"
    assert vendors.calls(1, "get", "c") == 1


def test_a_stand_in_that_was_overtaken_is_not_read(make: Make) -> None:
    vendors = make()
    vendors.plans[0].then("set", DEAD)
    vendors.set("k", b"1", 60.0)  # in the second
    vendors.settle(8)
    vendors.set("k", b"2", 60.0)  # in the first
    assert (vendors.stores[0]["k"][0], vendors.stores[1]["k"][0]) == (b"2", b"1")
    vendors.plans[0].during(DEAD)
    assert isinstance(vendors.attempt("get", "k"), StoreError)
    vendors.run_behind()
    assert "k" not in vendors.stores[1]


def test_a_write_that_lands_late_is_deleted_and_never_read(make: Make) -> None:
    vendors = make()
    vendors.plans[0].then("set", Fault.late(2.0))
    vendors.set("k", b"1", 60.0)
    assert vendors.get("k") == b"1"
    vendors.run_behind()
    assert vendors.owed(0) == 0
    vendors.delete("k")
    vendors.clock.advance(3)
    vendors.get("other")
    assert vendors.stores[0]["k"][0] == b"1", "now it has landed"
    assert vendors.get("k") is None
    vendors.settle(10)
    assert "k" not in vendors.stores[0]


def test_a_write_to_a_stand_in_may_land_after_its_life(make: Make) -> None:
    vendors = make(stand_in_ttl=20.0)
    vendors.plans[0].then("set", DEAD)
    vendors.plans[1].then("set", Fault.late(40.0))  # as from the queue of a frozen server
    assert isinstance(vendors.attempt("set", "k", b"1", 60.0), StoreError)
    vendors.settle(10)
    vendors.clock.advance(20)
    vendors.set("k", b"2", 60.0)
    assert vendors.stores[0]["k"][0] == b"2"
    vendors.clock.advance(11)
    vendors.plans[0].during(DEAD)
    vendors.attempt("get", "other")
    assert vendors.stores[1]["k"][0] == b"1", "now it has landed"
    assert isinstance(vendors.attempt("get", "k"), StoreError)


def test_a_doubt_is_resolved_when_the_key_is_wanted(make: Make) -> None:
    vendors = make()
    vendors.plans[0].then("set", DEAD)
    vendors.plans[1].during(DEAD)
    assert isinstance(vendors.attempt("set", "k", b"1", 60.0), StoreError)
    vendors.failover._vendors[0]._journal._owed.clear()
    assert isinstance(vendors.attempt("set", "k", b"2", 60.0), StoreError)
    vendors.settle(8)
    vendors.set("k", b"3", 60.0)
    assert vendors.get("k") == b"3"


def test_a_key_that_all_still_owe_is_a_miss(make: Make) -> None:
    vendors = make()
    vendors.set("k", b"1", 60.0)
    for plan in vendors.plans:
        plan.then("delete", DEAD)
    assert isinstance(vendors.attempt("delete", "k"), StoreError)
    assert vendors.get("k") is None
    vendors.set("k", b"2", 60.0)
    assert vendors.get("k") == b"2"


def test_without_time_nobody_is_asked_and_nothing_doubted(make: Make) -> None:
    vendors = make()
    with within(vendors, 0.0):
        assert vendors.attempt("set", "k", b"1", 60.0).kind is FailureKind.PER_KEY
    assert vendors.calls(0, "set") == 0
    vendors.set("k", b"1", 60.0)
    assert vendors.stores[0]["k"][0] == b"1"


def test_doubts_are_bounded(make: Make) -> None:
    vendors = make()
    primary = vendors.failover._vendors[0]
    for number in range(10_001):
        primary.doubt(str(number))
    assert (primary.may_be_written("0"), primary.may_be_written("1")) == (True, False)


def test_a_key_that_was_delayed_nowhere_is_not_deleted_twice(make: Make) -> None:
    vendors = make()
    kill(vendors)
    vendors.set("k", b"1", 60.0)
    vendors.plans[0].calm()
    vendors.settle(20)
    assert vendors.owed(0) == 0
    assert vendors.calls(0, "delete", "k") == 1


def test_a_delete_is_acknowledged_by_all_or_asked_for_again(make: Make) -> None:
    vendors = make()
    vendors.plans[1].then("delete", DEAD)
    error = vendors.attempt("delete", "k")
    assert error.kind is FailureKind.PER_KEY, "one vendor acknowledged: the store is not gone"
    assert (vendors.owed(0), vendors.owed(1)) == (0, 1)
    vendors.settle(3)
    assert vendors.owed(1) == 0
    assert vendors.attempt("delete", "k") is None


def test_a_key_that_one_vendor_never_deletes_keeps_it_not_aside(make: Make) -> None:
    vendors = make()
    vendors.plans[0].then("delete", PER_KEY)
    vendors.attempt("delete", "bad")
    kill(vendors)
    vendors.attempt("delete", "k")
    vendors.plans[0].calm()
    vendors.clock.advance(2)
    vendors.plans[0].then("delete", *[PER_KEY] * 100)
    vendors.settle(20)
    assert vendors.owed(0) == 2
    assert vendors.failover.health()["vendors"]["primary"]["aside"] is False
    assert state(vendors) == "closed"


def test_what_it_forgot_keeps_a_vendor_from_being_asked(make: Make) -> None:
    vendors = make(max_ttl=100.0)
    vendors.set("k", b"old", 100.0)
    vendors.plans[0].during(DEAD, "delete")
    vendors.attempt("delete", "k")
    for number in range(10_000):
        vendors.failover._vendors[0].owe(str(number))
    assert vendors.get("k") is None
    told = vendors.failover.health()
    assert told["serving"] == "secondary"
    assert told["vendors"]["primary"]["distrusted_for"] == pytest.approx(105)
    assert vendors.calls(0, "get") == 0
    vendors.clock.advance(106)
    assert vendors.get("k") is None
    assert vendors.calls(0, "get") == 1


def test_many_doubts_stand_for_every_key() -> None:
    from resilient_cache._vendors import Spans

    spans = Spans(2)
    for number, key in enumerate("abc"):
        spans.put_locked(key, 10.0 + number)
    assert spans.covers_locked("other", 9.9)
    assert not spans.covers_locked("other", 10.0)
    spans.put_locked("c", 5.0)
    assert spans.covers_locked("c", 11.9)


def test_a_circuit_of_which_nothing_is_owed_is_probed_all_the_same(make: Make) -> None:
    vendors = make(breaker=BreakerPolicy(consecutive=1, span=0, hold=1, probes=2))
    kill(vendors, 0)
    vendors.plans[1].then("set", DEAD)
    assert isinstance(vendors.attempt("set", "k", b"1", 60.0), StoreError)
    assert vendors.owed(1) == 0
    for number in range(3):
        vendors.clock.advance(2)
        assert isinstance(vendors.attempt("set", str(number), b"1", 60.0), StoreError) is (number < 2)
        vendors.run_behind()
    assert "2" in vendors.stores[1]


# In a cache


def cache_over(vendors: Vendors, **options: Any) -> Any:
    make: Any = ResilientCache if vendors.colour == "sync" else AsyncResilientCache
    return make(vendors.failover, name="c", clock=vendors.clock, spawn=vendors.behind.append, **options)


def test_a_cache_hits_again_while_the_first_is_dead(make: Make) -> None:
    vendors = make()
    cache = cache_over(vendors)
    vendors.plans[0].during(DEAD)
    for _ in range(5):
        vendors.run(cache.set, "k", 1)
        assert vendors.run(cache.get, "k") == 1
        assert vendors.run(cache.get, "other") is None
    assert cache.health()["circuits"]["read"]["state"] == "closed"
    assert cache.health()["store"]["serving"] == "secondary"
    assert cache.health()["store"]["vendors"]["primary"]["circuits"]["read"]["state"] == "open"


@pytest.mark.parametrize("known", ["by another cache", "by its own calls"])
def test_when_all_vendors_are_gone_a_cache_remembers_by_itself(make: Make, known: str) -> None:
    """One that had not opened the vendors' circuits itself sent everything to the origin: its own stayed closed."""
    vendors = make()
    for plan in vendors.plans:
        plan.during(DEAD)
    cache = cache_over(vendors)
    if known == "by another cache":
        for _ in range(4):
            vendors.attempt("get", "k")
    else:
        for number in range(9):
            vendors.run(cache.get, str(number))
            vendors.clock.advance(0.05)
    loads: list[str] = []

    def load(key: str) -> int:
        loads.append(key)
        return 1

    async def load_async(key: str) -> int:
        return load(key)

    for _ in range(3):
        for key in "abc":
            assert vendors.run(cache.get_or_load, key, load if vendors.colour == "sync" else load_async) == 1
    assert loads == ["a", "b", "c"]
    vendors.behind.clear()
    for plan in vendors.plans:
        plan.calm()
    for _ in range(30):
        vendors.clock.advance(0.5)
        vendors.run(cache.get, "other")
        vendors.run_behind()
    assert cache.health()["circuits"]["read"]["state"] == "closed"
    assert vendors.run(cache.get, "a") is None, "what it remembered is forgotten: the store may know better"


def test_a_probe_that_finds_nobody_to_be_asked_has_had_its_turn(make: Make) -> None:
    """The next request was the next probe: a thread for each, for as long as the outage took."""
    vendors = make()
    for plan in vendors.plans:
        plan.during(DEAD)
    cache = cache_over(vendors, breaker=BreakerPolicy(consecutive=3, span=0, hold=1, max_hold=1))
    for vendor in vendors.failover._vendors:
        for circuit in vendor.guard.circuits.values():
            circuit.force_open()
    cache._rules.guard.circuits[Direction.READ]._open_locked(vendors.clock.monotonic())
    vendors.clock.advance(1.0)
    vendors.behind.clear()
    probes = 0
    for number in range(50):
        vendors.run(cache.get, str(number))
        probes += len(vendors.behind)
        vendors.run_behind()
    assert probes == 1
    vendors.clock.advance(0.125)
    vendors.run(cache.get, "k")
    assert len(vendors.behind) == 1, "soon another one goes: those behind are probed by it"
    vendors.run_behind()


@pytest.mark.parametrize("outage", [2.0, 20.0])
def test_when_all_vendors_are_back_so_is_caching(make: Make, outage: float) -> None:
    """Each probe that they needed of the cache took one of its leases, 2 s: they were back for 10 s, and not asked."""
    vendors = make()
    cache = cache_over(vendors, breaker=BREAKER)

    def come_by(seconds: float) -> None:
        for number in range(int(seconds / 0.0625)):
            vendors.clock.advance(0.0625)
            if vendors.run(cache.get, "abcdef"[number % 6]) is None:
                vendors.run(cache.set, "abcdef"[number % 6], 1)
            vendors.run_behind()

    for plan in vendors.plans:
        plan.during(DEAD)
    come_by(outage)
    for plan in vendors.plans:
        plan.calm()
    come_by(4.0 + 1.0)  # the longest hold, the probes of one of them, and those of the whole
    assert cache.health()["circuits"]["read"]["state"] == "closed"
    assert cache.health()["circuits"]["write"]["state"] == "closed"


def test_an_invalidation_is_pending_until_every_vendor_knows(make: Make) -> None:
    vendors = make()
    cache = cache_over(vendors)
    vendors.plans[1].during(DEAD)
    for _ in range(10):
        assert vendors.run(cache.invalidate, "k") is Invalidation.PENDING
    assert cache.health()["circuits"]["write"]["state"] == "closed", "one vendor acknowledged every time"
    vendors.plans[1].calm()
    for _ in range(20):
        vendors.clock.advance(0.5)
        vendors.run(cache.get, "other")
        vendors.run_behind()
    assert cache.health()["pending_invalidations"] == 0
    assert vendors.run(cache.invalidate, "k") is Invalidation.CONFIRMED


def test_an_adapter_that_fails_in_its_health_is_counted(make: Make) -> None:
    class Sick(MappingAdapter):  # type: ignore[misc]
        def health(self) -> object:
            raise OSError

    class Odd(MappingAdapter):  # type: ignore[misc]
        def health(self) -> object:
            return 1

    sick, odd = ResilientCache(Sick(), name="c"), ResilientCache(Odd(), name="c")
    assert "store" not in sick.health()
    assert sick.stats()["health_errors"] == 1
    assert "store" not in odd.health()
    assert "store" not in ResilientCache(MappingAdapter(), name="c").health()


def test_a_failover_can_be_guarded_by_fallback(make: Make) -> None:
    vendors = make()
    guarded: Any = fallback(vendors.failover, clock=vendors.clock)
    for plan in vendors.plans:
        plan.during(DEAD)
    assert vendors.run(guarded.get, "k") is None
    assert vendors.run(guarded.delete, "k") is False


def test_vendors_are_labels(make: Make) -> None:
    told: list[Any] = []
    vendors = make(names=("near", "far"), hooks=[told.append])
    vendors.plans[0].then("delete", DEAD)
    vendors.attempt("delete", "k")
    vendors.settle(3)
    kill(vendors)
    assert {event.cache for event in told if isinstance(event, StoreCalled)} == {"near", "far"}
    assert [event.cache for event in told if isinstance(event, Settled)] == ["near"]
    assert [event.cache for event in told if isinstance(event, CircuitChanged)] == ["near"]
    stats = vendors.failover.stats()
    assert (stats["near"]["invalidations_replayed"], stats["far"]["store_delete"]) == (1, 1)


# Closing, forking, misuse


def test_closing_asks_once_more_and_closes_every_vendor(make: Make) -> None:
    vendors = make()
    closed: list[int] = []

    def closer(number: int) -> Any:
        async def aclose() -> None:
            closed.append(number)

        return aclose if vendors.colour == "async" else lambda: closed.append(number)

    for number, adapter in enumerate(vendors.adapters):
        setattr(adapter, "aclose" if vendors.colour == "async" else "close", closer(number))
    vendors.plans[0].then("delete", DEAD)
    vendors.plans[1].during(DEAD, "delete")
    vendors.attempt("delete", "k")
    assert vendors.close() == 1
    assert (vendors.owed(0), closed) == (0, [0, 1])
    assert vendors.close() == 0
    assert closed == [0, 1]
    for name, *args in CALLS:
        assert vendors.attempt(name, *args).kind is FailureKind.UNAVAILABLE
    vendors.run_behind()


def test_flush_tells_what_is_left(make: Make) -> None:
    vendors = make()
    vendors.plans[1].during(DEAD, "delete")
    vendors.attempt("delete", "k")
    assert vendors.flush(0.0) == 1
    vendors.plans[1].calm()
    assert vendors.flush() == 0


def test_a_silent_vendor_leaves_the_other_its_share_of_a_flush(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first took all of the time, and the second was not asked."""
    vendors = make()
    monkeypatch.setattr("resilient_cache._sync_collector.idle", vendors.clock.advance)
    for plan in vendors.plans:
        plan.during(HANG, "delete")
    for key in "abc":
        vendors.attempt("delete", key)
    vendors.clock.advance(5)
    vendors.plans[1].calm()
    assert vendors.flush(1.0) == 3
    assert (vendors.owed(0), vendors.owed(1)) == (3, 0)


def test_a_stand_in_holds_nothing_for_longer_than_the_first(make: Make) -> None:
    """A `max_ttl` of less than a minute was refused, in the name of an option that nobody had given."""
    for max_ttl, life in ((30.0, 30.0), (100.0, 60.0)):
        vendors = make(max_ttl=max_ttl)
        kill(vendors)
        vendors.set("k", b"v", 1e6)
        assert vendors.stores[1]["k"][1] == vendors.clock.monotonic() + life


class Gone(BaseException):
    """Not an `Exception`: somebody is to be taken away."""


def test_a_write_that_was_interrupted_is_doubted(make: Make) -> None:
    vendors = make()
    vendors.plans[0].then("set", Fault.raising(Gone()))
    with pytest.raises(Gone):
        vendors.set("k", b"1", 60.0)
    vendors.set("k", b"2", 60.0)
    assert vendors.stores[1]["k"][0] == b"2"
    assert vendors.owed(0) == 1


def test_a_write_that_was_interrupted_outdates_the_others_all_the_same(make: Make) -> None:
    vendors = make()
    vendors.set("k", b"old", 600.0)
    kill(vendors)
    vendors.plans[1].then("set", Fault(FaultKind.LOST, error=Gone()))
    with pytest.raises(Gone):
        vendors.set("k", b"new", 600.0)
    assert vendors.get("k") == b"new"
    vendors.plans[0].calm()
    vendors.settle(30)
    assert vendors.failover.health()["serving"] == "primary"
    assert vendors.get("k") != b"old"


def test_what_is_owed_since_a_write_began_is_not_made_good_by_it(make: Make) -> None:
    vendor = make().failover._vendors[0]
    began = vendor.stamp()
    vendor.owe("k")
    vendor.confirmed("k", began)
    assert not vendor.may_be_read("k")
    vendor.confirmed("k", vendor.stamp())
    assert vendor.may_be_read("k")


def test_a_forked_child_may_use_it() -> None:
    failover = Failover(MappingAdapter(), MappingAdapter())
    failover.set("k", b"v", 60.0)

    def child() -> bool:
        failover.delete("k")
        return failover.get("k") is None

    assert in_child(child)
    assert failover.get("k") == b"v"
    failover.close()


@pytest.mark.parametrize(
    ("adapters", "options", "named"),
    [
        (1, {}, "vendors"),
        (2, {"names": ("one",)}, "names"),
        (2, {"names": ("one", "one")}, "names"),
        (2, {"names": ("one", "")}, "names"),
        (2, {"names": ("one", 2)}, "names"),
        (2, {"timeout": 0}, "timeout"),
        (2, {"stand_in_ttl": 0}, "stand_in_ttl"),
        (2, {"stand_in_ttl": 20, "max_ttl": 10}, "stand_in_ttl"),
        (2, {"max_ttl": -1}, "max_ttl"),
        (2, {"hedge_after": "soon"}, "hedge_after"),
        (2, {"breaker": 1}, "breaker"),
        (2, {"hooks": [1]}, "hooks"),
    ],
)
def test_what_can_never_be_right_is_named(adapters: int, options: dict[str, Any], named: str) -> None:
    for failover, adapter in ((Failover, MappingAdapter), (AsyncFailover, AsyncMappingAdapter)):
        make: Any = failover
        with pytest.raises(MisuseError, match=named):
            make(*(adapter() for _ in range(adapters)), **options)


def test_vendors_are_of_the_right_colour_and_not_the_same() -> None:
    make: Any = Failover
    with pytest.raises(MisuseError, match="adapter"):
        make(MappingAdapter(), AsyncMappingAdapter())
    one = MappingAdapter()
    with pytest.raises(MisuseError, match="different"):
        Failover(MappingAdapter(), one, one)
    make = AsyncFailover
    with pytest.raises(MisuseError, match="adapter"):
        make(AsyncMappingAdapter(), MappingAdapter())


def test_a_thread_cannot_hedge() -> None:
    with pytest.raises(MisuseError, match="AsyncFailover"):
        Failover(MappingAdapter(), MappingAdapter(), hedge_after=0.01)


def test_breakers_are_shared_by_no_one(make: Make) -> None:
    vendors = make(breaker=BREAKER)
    kill(vendors, 0)
    states = {name: told["circuits"]["read"]["state"] for name, told in vendors.failover.health()["vendors"].items()}
    assert states == {"primary": "open", "secondary": "closed"}
