"""Marks over a failover: every vendor has them, and no stand-in's silence is taken for a loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resilient_cache import (
    AsyncResilientCache,
    CachePolicy,
    Entry,
    FailureKind,
    Invalidation,
    MisuseError,
    Reason,
    ResilientCache,
    StoreError,
)
from resilient_cache.adapters import AsyncMappingAdapter, MappingAdapter
from resilient_cache.adapters.sqlite_journal import SqliteJournal
from resilient_cache.envelope import open_envelope
from resilient_cache.failover import AsyncFailover, Failover
from resilient_cache.testing import Fault, FaultKind

from ..vendors import DEAD, Vendors

POLICY = CachePolicy(ttl=1_500.0, stale_for=300.0, jitter=0.0)
KEYS = [f"k{number}" for number in range(20)]
ONCE = Fault.raising(TimeoutError())
MARK = "c!"


class Process:
    """A cache over two vendors, and how often it loaded."""

    def __init__(self, colour: str, beside: Process | None = None, **options: Any) -> None:
        self.vendors: Vendors = Vendors(colour, beside=None if beside is None else beside.vendors)
        make: Any = ResilientCache if colour == "sync" else AsyncResilientCache
        clock, spawn = self.vendors.clock, self.vendors.behind.append
        given = {"name": "c", "policy": POLICY, "clock": clock, "spawn": spawn}
        self.cache: Any = make(self.vendors.failover, **{**given, **options})
        self.colour = colour

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args: self.vendors.run(getattr(self.cache, name), *args)

    def loads(self, keys: list[str], value: str = "v") -> int:
        """How many of `keys` it loads."""
        loaded: list[str] = []

        def load(key: str) -> Entry[str]:
            loaded.append(key)
            return Entry(value, tags=("t",))

        async def load_async(key: str) -> Entry[str]:
            return load(key)

        for key in keys:
            self.get_or_load(key, load if self.colour == "sync" else load_async)
        return len(loaded)

    def settle(self, seconds: float, step: float = 1.0) -> None:
        """Time passes, and somebody comes by now and then."""
        for _ in range(int(seconds / step)):
            self.vendors.clock.advance(step)
            self.loads(["somebody else's"])
            self.vendors.run_behind()

    def fail_once(self, key: str) -> None:
        """The next question for `key` fails at the first vendor."""
        adapter, plan = self.vendors.adapters[0], self.vendors.plans[0]
        plain = adapter.get

        def get(asked: str) -> Any:
            if asked == key:
                adapter.get = plain
                plan.then("get", ONCE)
            return plain(asked)

        adapter.get = get

    def version(self, vendor: int) -> bytes:
        """The namespace's mark as a vendor has it."""
        opened = open_envelope(self.vendors.stores[vendor][MARK][0], MARK.encode(), b"", b"mark")
        assert not isinstance(opened, Reason)
        return opened.payload


@pytest.fixture(params=["sync", "async"])
def pair(request: pytest.FixtureRequest) -> Any:
    """Two processes that know their marks, and have everything stored."""
    one = Process(request.param)
    two = Process(request.param, one)
    for _ in range(2):  # the first value of a tag is not stored
        one.loads(KEYS)
        one.vendors.clock.advance(1.0)
        two.loads(KEYS)
    assert (one.loads(KEYS), two.loads(KEYS)) == (0, 0)
    yield one, two
    for process in (one, two):
        process.vendors.run_behind()


@pytest.mark.parametrize("what", ["invalidate_all", "invalidate_tag"])
def test_an_invalidation_of_many_is_pending_until_every_vendor_has_its_mark(pair: Any, what: str) -> None:
    """It said CONFIRMED when one vendor had the mark: who reads the other one served the old values for ever."""
    one, two = pair
    args = ["t"] if what == "invalidate_tag" else []
    one.vendors.plans[0].during(DEAD)
    assert getattr(one, what)(*args) is Invalidation.PENDING
    assert one.health()["pending_invalidations"] == 1
    assert one.flush(0.0) == 1
    assert one.cache.get(KEYS[0]) is None if one.colour == "sync" else one.get(KEYS[0]) is None
    one.vendors.plans[0].calm()
    one.settle(30.0)
    assert one.flush(1.0) == 0
    two.vendors.clock.advance(5.0)
    assert [two.get(key) for key in KEYS] == [None] * len(KEYS)
    assert getattr(one, what)(*args) is Invalidation.CONFIRMED


def test_a_pending_one_is_durable(tmp_path: Path) -> None:
    one = Process("sync", journal=SqliteJournal(tmp_path / "owed"))
    for _ in range(2):
        one.loads(["k"], "old")
        one.vendors.clock.advance(1.0)
    one.vendors.plans[0].during(DEAD)
    assert one.invalidate_tag("t") is Invalidation.PENDING
    one.vendors.behind.clear()  # it is killed
    two = Process("sync", one, journal=SqliteJournal(tmp_path / "owed"))
    assert two.get("k") is None


def test_what_is_asked_again_does_not_empty_the_vendor_that_has_it(pair: Any) -> None:
    """Each try made another version: for as long as the first was gone, the second was emptied every few seconds."""
    one, _ = pair
    one.vendors.plans[0].during(DEAD)
    assert one.invalidate_all() is Invalidation.PENDING
    one.settle(5.0)
    one.loads(KEYS, "new")
    mark = one.version(1)
    one.settle(20.0)
    assert one.health()["pending_invalidations"] == 1
    assert one.version(1) == mark
    assert one.loads(KEYS) == 0


@pytest.mark.parametrize("dead", [0, 1])
def test_two_processes_that_owe_a_mark_agree_on_one(pair: Any, dead: int) -> None:
    """Each outbid the other: for as long as a vendor was gone, the other one was emptied every few seconds."""
    for process in pair:
        process.vendors.plans[dead].during(DEAD)
        assert process.invalidate_all() is Invalidation.PENDING
    one, two = pair
    versions, loads = set(), 0
    for _ in range(60):
        one.vendors.clock.advance(1.0)
        for process in pair:
            process.loads(["somebody else's"])
            process.vendors.run_behind()
            loads += process.loads(KEYS)
        versions.add(one.version(1 - dead))
    assert len(versions) <= 3
    assert loads <= 4 * len(KEYS)
    for process in pair:
        assert process.health()["pending_invalidations"] == 1
        process.vendors.plans[dead].calm()
    for _ in range(60):
        one.settle(1.0)
        two.settle(1.0)
    assert [process.health()["pending_invalidations"] for process in pair] == [0, 0]
    assert one.version(0) == one.version(1)


def test_one_that_is_owed_and_lands_on_a_confirmed_one_is_made_good_when_that_is_looked_at(pair: Any) -> None:
    """Nothing compares and sets. This is the bound that `use-two-vendors.md` gives."""
    one, two = pair
    one.vendors.plans[1].during(DEAD, "set")
    assert one.invalidate_all() is Invalidation.PENDING
    owed = one.vendors.stores[0][MARK]
    for process in pair:
        process.loads(KEYS, "old")
    assert two.invalidate_all() is Invalidation.CONFIRMED
    for store in one.vendors.stores:
        store[MARK] = owed
    for _ in range(10):
        one.vendors.clock.advance(1.0)
        two.loads(["somebody else's"])
        two.vendors.run_behind()
    assert [one.get(key) for key in KEYS] == [None] * len(KEYS)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_who_takes_over_a_mark_that_is_owed_makes_it_once(tmp_path: Path, colour: str) -> None:
    """He did not know the mark that another process had made for it, nor his own."""
    one = Process(colour, journal=SqliteJournal(tmp_path / "owed"))
    one.loads(KEYS)
    one.vendors.plans[1].during(DEAD)
    assert one.invalidate_all() is Invalidation.PENDING
    one.vendors.behind.clear()  # it is killed
    two = Process(colour, one, journal=SqliteJournal(tmp_path / "owed"))
    two.vendors.plans[1].during(DEAD)
    versions, loads = {one.version(0)}, 0
    for _ in range(60):
        two.settle(1.0)
        loads += two.loads(KEYS)
        versions.add(two.version(0))
    assert two.health()["pending_invalidations"] == 1
    assert len(versions) == 2
    assert loads <= 3 * len(KEYS)


def test_one_question_that_fails_loses_nobody_anything(pair: Any) -> None:
    """What the stand-in had not was taken for lost, and a new mark emptied the first vendor for everybody."""
    for process in pair:
        one, two = process, pair[process is pair[0]]
        for vendors in (one.vendors, two.vendors):
            vendors.stores[1].clear()  # whatever the stand-in has
        one.vendors.clock.advance(6.0)
        one.fail_once(MARK)
        assert one.loads(KEYS) == 1, "as over one store whose answer to that question fails"
        one.vendors.clock.advance(6.0)
        assert (one.loads(KEYS), two.loads(KEYS)) == (0, 0)


def test_an_outage_of_ones_own_way_to_the_first_costs_the_others_nothing(pair: Any) -> None:
    one, two = pair
    one.vendors.plans[0].during(DEAD)
    for number in range(20):
        one.loads([f"other {number}"])
        one.settle(1.0)
    assert one.vendors.failover.health()["serving"] == "secondary"
    assert two.loads(KEYS) == 0
    one.vendors.plans[0].calm()
    for number in range(20):
        one.loads([f"another {number}"])
        one.settle(1.0)
    assert one.vendors.failover.health()["serving"] == "primary"
    assert (one.loads(KEYS), two.loads(KEYS)) == (0, 0)


def test_who_is_new_in_an_outage_is_served_at_once() -> None:
    for colour in ("sync", "async"):
        one = Process(colour)
        one.vendors.plans[0].during(DEAD)
        assert one.set("k", 1)
        assert one.get("k") == 1
        assert one.set("l", Entry(1, tags=("new",)))
        one.vendors.run_behind()


def test_a_mark_lives_as_long_as_what_bears_it(pair: Any) -> None:
    """It was cut to the life of an entry, and everything expired with it."""
    one, _ = pair
    until = [store[MARK][1] for store in one.vendors.stores]
    assert min(until) > one.vendors.clock.monotonic() + POLICY.longest_life - 10


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("by", ["an invalidation", "a renewal", "being asked"])
def test_a_vendor_that_missed_a_mark_made_anew_is_given_it(colour: str, by: str) -> None:
    """At once if it is the first. A stand-in is with the next that is written; while the first is there, none needs it.

    Who made it used to write what he found a second time: over an invalidation, if one came between.
    """
    one, vendor = Process(colour), 0 if by == "being asked" else 1
    one.vendors.plans[vendor].during(DEAD, "set")
    one.loads(KEYS)
    assert MARK not in one.vendors.stores[vendor]
    one.vendors.plans[vendor].calm()
    one.settle(30.0)
    one.loads(KEYS)
    if vendor:
        assert MARK not in one.vendors.stores[1]
        assert one.loads(KEYS) == 0
    if by == "an invalidation":
        assert one.invalidate_all() is Invalidation.CONFIRMED
    elif by == "a renewal":
        one.vendors.clock.advance(one.cache._rules.policy.max_ttl + 10.0)
        one.loads(KEYS)
    assert one.version(0) == one.version(1)
    one.vendors.run_behind()


# The adapter's methods


@pytest.fixture(params=["sync", "async"])
def vendors(request: pytest.FixtureRequest) -> Any:
    yield (made := Vendors(request.param))
    made.run_behind()


def test_a_mark_goes_to_every_vendor_uncut(vendors: Vendors) -> None:
    vendors.set_mark("m", b"1", 1e6)
    assert [store["m"] for store in vendors.stores] == [(b"1", vendors.clock.monotonic() + 1e6)] * 2
    assert vendors.get_mark("m") == b"1"
    assert (vendors.calls(0, "get"), vendors.calls(1, "get")) == (1, 0)
    assert (vendors.owed(0), vendors.owed(1), vendors.behind) == (0, 0, [])


def test_unless_all_acknowledge_it_is_an_error_and_nothing_is_owed(vendors: Vendors) -> None:
    vendors.plans[1].then("set", DEAD)
    assert vendors.attempt("set_mark", "m", b"1", 60.0).kind is FailureKind.PER_KEY
    for plan in vendors.plans:
        plan.then("set", DEAD)
    assert vendors.attempt("set_mark", "m", b"2", 60.0).kind is FailureKind.CONNECTION
    assert (vendors.owed(0), vendors.owed(1)) == (0, 0)
    assert vendors.get_mark("m") == b"1"


def test_a_stand_in_answers_only_for_one_that_is_gone(vendors: Vendors) -> None:
    vendors.set_mark("m", b"1", 60.0)
    vendors.plans[0].during(DEAD)
    for _ in range(3):
        assert vendors.attempt("get_mark", "m").kind is FailureKind.PER_KEY
    assert vendors.calls(1, "get") == 0
    assert vendors.get_mark("m") == b"1"
    vendors.plans[1].during(DEAD)
    errors = [vendors.attempt("get_mark", "m") for _ in range(4)]
    assert all(isinstance(error, StoreError) for error in errors)
    assert vendors.calls(1, "get") == 4


def test_a_failover_of_failovers_has_the_mark_in_every_store() -> None:
    stores = [MappingAdapter() for _ in range(3)]
    whole = Failover(Failover(*stores[:2]), stores[2])
    whole.set_mark("m", b"1", 60.0)
    assert [store.get("m") for store in stores] == [b"1"] * 3
    assert whole.get_mark("m") == b"1"
    whole.close()


def test_methods_for_marks_of_the_other_colour_are_misuse() -> None:
    class Wrong(MappingAdapter):  # type: ignore[misc]
        async def set_mark(self, key: str, value: bytes, ttl: float) -> None: ...

    class AsyncWrong(AsyncMappingAdapter):  # type: ignore[misc]
        def get_mark(self, key: str) -> bytes | None: ...

    cases: list[tuple[Any, Any, Any, Any]] = [
        (ResilientCache, Failover, MappingAdapter, Wrong),
        (AsyncResilientCache, AsyncFailover, AsyncMappingAdapter, AsyncWrong),
    ]
    for cache, failover, right, wrong in cases:
        with pytest.raises(MisuseError, match="mark is"):
            cache(wrong(), name="c")
        with pytest.raises(MisuseError, match="mark is"):
            failover(right(), wrong())


def test_a_mark_that_hangs_at_one_vendor_leaves_the_other_its_time(vendors: Vendors) -> None:
    vendors.plans[0].then("set", Fault(FaultKind.HANG))
    assert vendors.attempt("set_mark", "m", b"1", 60.0).kind is FailureKind.PER_KEY
    assert vendors.stores[1]["m"][0] == b"1"
