"""Fences against a model without bounds: never admit what it refuses, however small they are."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resilient_cache.fences import CAPACITY, Fences

KEYS = st.sampled_from("abcdef")
LIFE = 20


class FenceMachine(RuleBasedStateMachine):
    """Stamps rise with the clock, and now and then one of a call that overlapped comes late."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000
        self.fences = Fences(LIFE, 3)
        self.raised: dict[str, int] = {}
        self.floor = 0

    @initialize(capacity=st.integers(0, 4))
    def of(self, capacity: int) -> None:
        self.capacity = capacity
        self.fences = Fences(LIFE, capacity)

    @rule(step=st.sampled_from([0, 1, 1, 2, 5, LIFE, LIFE + 1, 3 * LIFE]))
    def wait(self, step: int) -> None:
        self.now += step

    @rule(key=KEYS, late=st.sampled_from([0, 0, 1, 3]))
    def raise_one(self, key: str, late: int) -> None:
        stamp = self.now - late
        self.fences.raise_locked(key, stamp)
        self.raised[key] = max(self.raised.get(key, 0), stamp)
        assert not self.fences.admits(key, self.raised[key])
        assert self.fences.admits(key, self.now + 1)

    @invariant()
    def admits_no_more_than_the_model(self) -> None:
        for key in "abcdef":
            for stamp in range(self.now - LIFE, self.now + 2):
                if stamp <= self.raised.get(key, 0):
                    assert not self.fences.admits(key, stamp)
            assert self.fences.admits(key, self.now + 1)

    @invariant()
    def is_bounded_and_its_floor_never_falls(self) -> None:
        assert len(self.fences) <= self.capacity
        assert self.fences.floor >= self.floor
        assert self.fences.floor <= max(self.raised.values(), default=0)
        self.floor = self.fences.floor


TestFences = FenceMachine.TestCase


def test_a_fence_stands_at_its_stamp_and_for_its_key_only() -> None:
    fences = Fences(100)
    assert fences.at("a") == 0
    assert fences.admits("a", 1)
    assert not fences.admits("a", 0)
    fences.raise_locked("a", 10)
    assert fences.at("a") == 10
    assert (fences.admits("a", 10), fences.admits("a", 11)) == (False, True)
    assert fences.admits("b", 1)
    assert len(fences) == 1


def test_a_later_fence_stays() -> None:
    fences = Fences(100)
    fences.raise_locked("a", 10)
    fences.raise_locked("a", 7)
    assert fences.at("a") == 10
    fences.raise_locked("a", 11)
    assert fences.at("a") == 11


def test_a_raised_floor_is_for_every_key_and_never_falls() -> None:
    fences = Fences(100)
    fences.raise_locked("a", 5)
    fences.raise_floor_locked(7)
    assert [fences.admits(key, stamp) for key in ("a", "b") for stamp in (7, 8)] == [False, True, False, True]
    assert (len(fences), fences.floor) == (0, 7)
    fences.raise_floor_locked(3)
    assert not fences.admits("b", 7)


def test_a_floor_that_comes_late_takes_no_later_fence_away() -> None:
    fences = Fences(100)
    fences.raise_locked("a", 20)
    fences.raise_locked("b", 10)
    fences.raise_floor_locked(10)
    assert not fences.admits("a", 20)
    assert fences.admits("b", 11)
    assert len(fences) == 1


def test_the_oldest_goes_first_and_leaves_its_stamp_as_the_floor() -> None:
    fences = Fences(1_000, capacity=2)
    for stamp, key in enumerate("abc", 10):
        fences.raise_locked(key, stamp)
    assert len(fences) == 2
    assert fences.floor == 10
    assert [fences.at(key) for key in "abcz"] == [10, 11, 12, 10]
    fences.raise_locked("b", 20)  # the oldest no longer
    fences.raise_locked("d", 21)
    assert fences.floor == 12
    assert [fences.at(key) for key in "abcd"] == [12, 20, 12, 21]


def test_a_floor_above_stays_when_an_older_fence_is_pushed_out() -> None:
    fences = Fences(1_000, capacity=1)
    fences.raise_locked("a", 20)
    fences.raise_locked("b", 5)  # its call overlapped
    assert fences.floor == 20
    assert fences.at("b") == 20
    fences.raise_locked("c", 30)
    assert fences.floor == 20


def test_fences_kept_to_the_last_place_raise_no_floor() -> None:
    fences = Fences(1_000, capacity=3)
    for stamp, key in enumerate("abc", 10):
        fences.raise_locked(key, stamp)
    assert (len(fences), fences.floor) == (3, 0)


def test_one_that_has_outlived_every_victim_goes_without_a_trace_and_not_before() -> None:
    fences = Fences(100, capacity=2)
    fences.raise_locked("a", 10)
    fences.raise_locked("b", 110)  # an entry of 10 may still be read
    assert fences.at("a") == 10
    fences.raise_locked("c", 111)
    assert (fences.at("a"), fences.floor, len(fences)) == (0, 0, 2)


def test_one_goes_for_one_that_comes() -> None:
    fences = Fences(100)
    for key in "abc":
        fences.raise_locked(key, 1)
    fences.raise_locked("d", 500)
    assert len(fences) == 3
    assert fences.at("b") == 1


def test_without_room_every_fence_is_the_floor() -> None:
    fences = Fences(100, capacity=0)
    fences.raise_locked("a", 10)
    assert (len(fences), fences.floor, fences.at("z")) == (0, 10, 10)
    fences.raise_locked("b", 9)
    assert fences.floor == 10


def test_ten_thousand_are_kept() -> None:
    assert CAPACITY == 10_000
    fences = Fences(10**9)
    for stamp in range(1, CAPACITY + 2):
        fences.raise_locked(str(stamp), stamp)
    assert (len(fences), fences.floor) == (CAPACITY, 1)


class Hooked(int):
    """A stamp that lets a reader look on while it is compared: in the middle of raising."""

    fences: Fences
    seen: list[bool]

    def __gt__(self, other: int) -> bool:
        self.seen.append(self.fences.admits("a", 5))
        return int(self) > other


class Spied(str):
    """A key that lets a reader look on whenever a fence is looked up, stored or removed."""

    __slots__ = ("fences", "seen")
    fences: Fences | None
    seen: list[bool]

    def __hash__(self) -> int:
        fences, self.fences = self.fences, None
        if fences is not None:
            self.seen.append(fences.admits(str(self), 5))
            self.fences = fences
        return hash(str(self))

    def __eq__(self, other: object) -> bool:
        return str(self) == other


def test_a_reader_in_the_middle_of_raising_again_still_sees_the_old_fence() -> None:
    fences = Fences(100)
    fences.raise_locked("a", 10)
    key = Spied("a")
    key.fences, key.seen = fences, []
    stamp = Hooked(20)
    stamp.fences, stamp.seen = fences, key.seen
    fences.raise_locked(key, stamp)
    assert key.seen
    assert not any(key.seen)


def test_a_reader_in_the_middle_of_an_overflow_sees_the_floor_before_the_fence_goes() -> None:
    fences = Fences(100, capacity=1)
    key = Spied("a")
    key.fences, key.seen = None, []
    fences.raise_locked(key, 10)
    key.fences = fences
    fences.raise_locked("b", 20)
    assert not any(key.seen)
    assert not fences.admits("a", 5)


def test_a_fence_is_the_latest_stamp_raised_and_nothing_else() -> None:
    """Also where the clock begins: a first fence refuses what is stamped at or before it, and not a stamp more."""
    fences = Fences(100)
    fences.raise_locked("a", 0)
    assert (fences.at("a"), fences.admits("a", 1)) == (0, True)
