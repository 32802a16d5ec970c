"""The laws of a failover under faults: only `StoreError`, nothing that was replaced, no time beyond its own."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_cache import FailureKind, StoreError, deadline
from resilient_cache.testing import Fault, FaultKind

from ..vendors import DEAD, TIMEOUT, Vendors

KEYS = st.sampled_from("ab")
FAULTS = st.sampled_from(
    [
        DEAD,
        Fault(FaultKind.HANG),
        Fault.slow(0.05),
        Fault.slow(3.0),
        Fault.late(2.0),
        Fault(FaultKind.LOST),
        Fault.raising(StoreError(FailureKind.PER_KEY)),
        Fault.raising(StoreError(FailureKind.READ_ONLY)),
        Fault.raising(StoreError(FailureKind.UNAVAILABLE)),
    ]
)
OPERATIONS = st.sampled_from([("get",), ("set",), ("delete",), ("set", "delete"), ("get", "set", "delete")])
STEPS = st.one_of(
    st.tuples(st.just("get"), KEYS),
    st.tuples(st.just("get"), KEYS),
    st.tuples(st.just("set"), KEYS),
    st.tuples(st.just("set"), KEYS),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("behind")),
    st.tuples(st.just("wait"), st.sampled_from([0.05, 0.6, 2.0, 6.0])),
    st.tuples(st.just("break"), st.integers(0, 1), FAULTS, OPERATIONS),
    st.tuples(st.just("script"), st.integers(0, 1), FAULTS, st.sampled_from(["get", "set", "delete"])),
    st.tuples(st.just("heal"), st.integers(0, 1)),
)


class Forgetful:
    """A journal that forgets every debt but the last."""

    def __init__(self, journal: Any) -> None:
        self.journal = journal

    def owe_locked(self, *args: Any) -> None:
        self.journal._capacity = 1
        self.journal.owe_locked(*args)
        self.journal._capacity = 10_000

    def __contains__(self, name: str) -> bool:
        return name in self.journal

    def __getattr__(self, name: str) -> Any:
        return getattr(self.journal, name)


class Course:
    """Plays steps, and holds every answer against what may be read: for each key the values not yet replaced."""

    def __init__(self, colour: str, within: float | None, *, forgetful: bool) -> None:
        self.vendors = Vendors(colour)
        self.within = within
        self.written = 0
        self.readable: dict[str, set[bytes]] = defaultdict(set)
        if forgetful:
            for vendor in self.vendors.failover._vendors:
                vendor._journal = Forgetful(vendor._journal)

    def play(self, step: Any) -> None:
        kind, *args = step
        if kind in ("get", "set", "delete"):
            self.call(kind, *args)
        elif kind == "behind":
            self.vendors.run_behind()
        elif kind == "wait":
            self.vendors.clock.advance(args[0])
        elif kind == "break":
            self.vendors.plans[args[0]].during(args[1], *args[2])
        elif kind == "script":
            self.vendors.plans[args[0]].then(args[2], args[1])
        else:
            self.vendors.plans[args[0]].calm()

    def call(self, kind: str, key: str) -> None:
        readable = self.readable[key]
        if kind == "delete":
            readable.clear()  # for good, whatever becomes of it
            self.timed("delete", key)
        elif kind == "set":
            self.written += 1
            value = b"%09d" % self.written
            if not isinstance(self.timed("set", key, value, 3600.0), StoreError):
                readable.clear()
            readable.add(value)
        else:
            found = self.timed("get", key)
            if found is not None and not isinstance(found, StoreError):
                assert found in readable, "a value that was replaced or deleted is read again"
                self.readable[key] = {value for value in readable if value >= found}

    def timed(self, name: str, *args: Any) -> Any:
        clock = self.vendors.clock
        began, longest = clock.monotonic(), 2 * TIMEOUT
        token = None
        if self.within is not None:
            longest = min(longest, self.within)
            token = deadline.CURRENT.set((began + self.within, clock.monotonic))
        try:
            return self.vendors.attempt(name, *args)
        finally:
            if token is not None:
                deadline.CURRENT.reset(token)
            assert clock.monotonic() - began <= longest + 0.001, "it took longer than it had"


@pytest.mark.parametrize("colour", ["sync", "async"])
@given(st.lists(STEPS, min_size=5, max_size=40), st.sampled_from([None, 0.25, 0.08]), st.booleans())
def test_what_was_replaced_or_deleted_is_never_read_again(
    colour: str, steps: list[Any], within: float | None, forgetful: bool
) -> None:
    course = Course(colour, within, forgetful=forgetful)
    for step in steps:
        course.play(step)
    for plan in course.vendors.plans:
        plan.calm()
    course.vendors.settle()
    for key in "ab":
        course.call("get", key)
        course.call("set", key)
        course.call("get", key)
    course.vendors.run_behind()


@pytest.mark.parametrize("colour", ["sync", "async"])
@settings(max_examples=max(1, settings().max_examples // 4))
@given(st.lists(STEPS, max_size=30))
def test_when_all_is_well_again_the_first_serves_and_nothing_is_owed(colour: str, steps: list[Any]) -> None:
    course = Course(colour, None, forgetful=False)
    for step in steps:
        course.play(step)
    for plan in course.vendors.plans:
        plan.calm()
    course.vendors.settle(40.0, step=1.0)
    vendors = course.vendors
    assert [vendors.owed(0), vendors.owed(1)] == [0, 0]
    for number in range(3):
        vendors.set(f"probe {number}", b"", 60.0)
        vendors.settle(2)
    vendors.set("new", b"new", 60.0)
    assert vendors.get("new") == b"new"
    assert vendors.stores[0]["new"][0] == b"new"
    assert vendors.failover.health()["serving"] == "primary"
