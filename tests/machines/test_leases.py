"""Permits that expire, against a model; and what each border means."""

from __future__ import annotations

from threading import RLock

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from resilient_cache.leases import Leases

LIFE = 5.0


class LeaseMachine(RuleBasedStateMachine):
    out: Bundle[int] = Bundle("out")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.held: dict[int, float] = {}
        self.given: set[int] = {0}

    @initialize(limit=st.integers(1, 4))
    def of(self, limit: int) -> None:
        self.limit = limit
        self.leases = Leases(limit, LIFE, RLock())

    @rule(step=st.sampled_from([0.0, 0.5, 1.0, 2.5, LIFE]))
    def wait(self, step: float) -> None:
        self.now += step

    @rule(target=out)
    def acquire(self) -> int:
        lease = self.leases.acquire(self.now)
        alive = {held: until for held, until in self.held.items() if until > self.now}
        assert bool(lease) is (len(self.held) < self.limit or len(alive) < self.limit)
        if len(self.held) >= self.limit:
            self.held = alive
        if lease:
            assert lease not in self.given
            self.given.add(lease)
            self.held[lease] = self.now + LIFE
        return lease

    @rule(lease=out)
    def release(self, lease: int) -> None:
        self.leases.release(lease)
        self.held.pop(lease, None)

    @rule()
    def clear(self) -> None:
        self.leases.clear_locked()
        self.held = {}

    @invariant()
    def counts_what_is_out_and_never_more_than_the_limit(self) -> None:
        if hasattr(self, "leases"):
            assert len(self.leases) == len(self.held) <= self.limit


TestLeases = LeaseMachine.TestCase


def test_as_many_as_the_limit_and_no_more() -> None:
    leases = Leases(2, LIFE, RLock())
    first, second = leases.acquire(1.0), leases.acquire(1.0)
    assert 0 < first != second > 0
    assert leases.acquire(1.0) == 0
    leases.release(first)
    assert leases.acquire(1.0) not in {0, first, second}
    assert len(leases) == 2


def test_one_that_never_comes_back_is_taken_back_when_its_life_is_over_and_not_before() -> None:
    leases = Leases(1, LIFE, RLock())
    lost = leases.acquire(1.0)
    assert leases.acquire(5.999) == 0
    later = leases.acquire(6.0)
    assert later not in {0, lost}
    leases.release(lost)  # reports after all
    assert len(leases) == 1
    assert leases.acquire(6.0) == 0


def test_only_those_past_their_life_are_taken_back() -> None:
    leases = Leases(2, LIFE, RLock())
    leases.acquire(0.0)
    young = leases.acquire(4.0)
    assert leases.acquire(5.0)
    assert leases.acquire(5.0) == 0
    leases.release(young)
    assert leases.acquire(5.0)


def test_cleared_are_all_back_and_none_is_given_twice() -> None:
    leases = Leases(1, LIFE, RLock())
    first = leases.acquire(0.0)
    leases.clear_locked()
    assert len(leases) == 0
    assert leases.acquire(0.0) not in {0, first}


def test_each_that_is_past_its_end_is_taken_back_when_its_time_comes() -> None:
    """Also after another was, and whatever the order in which they were given."""
    leases = Leases(3, 10.0, RLock())
    assert [leases.acquire(now) for now in (5.0, 0.0, 7.0)] == [1, 2, 3]
    assert [leases.acquire(now) for now in (9.9, 10.0, 14.9, 15.0, 16.9, 17.0)] == [0, 4, 0, 5, 0, 6]
    assert len(leases) == 3
