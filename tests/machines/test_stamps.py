"""Stamps never go back, whatever the wall clock does, and go on where it stands still."""

from __future__ import annotations

import time
from threading import RLock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_cache.stamps import SYSTEM_CLOCK, Stamps, SystemClock


class Clocks:
    def __init__(self, wall: float = 1_000.0) -> None:
        self.wall = wall
        self.steady = 50.0
        self.reads = 0

    def time(self) -> float:
        self.reads += 1
        return self.wall

    def monotonic(self) -> float:
        return self.steady


STEPS = st.tuples(
    st.sampled_from([0.0, 0.000_001, 0.001, 1.0, 3_600.0]),  # the monotonic clock's
    st.sampled_from([0.0, 0.001, 1.0, 3_600.0, -0.001, -1.0, -3_600.0, -1e6]),  # the wall clock's
    st.sampled_from(["next", "now", "tick_locked"]),
)


@given(st.lists(STEPS, max_size=40))
def test_each_is_later_than_all_before_and_the_present_never_falls(steps: list[tuple[float, float, str]]) -> None:
    clocks = Clocks()
    stamps = Stamps(clocks, RLock())
    last = stamps.next()
    read = clocks.steady
    for steady, wall, kind in steps:
        clocks.steady += steady
        clocks.wall += wall
        stamp = getattr(stamps, kind)()
        assert stamp == stamps.latest
        assert stamp >= last + (kind != "now")
        if kind == "tick_locked":
            assert stamp == last + 1
        else:
            assert stamp >= int(clocks.wall * 1_000_000)
            assert stamp >= last + int((clocks.steady - read) * 1_000_000)
            read = clocks.steady
        last = stamp


def test_no_clock_is_read_before_the_first_stamp() -> None:
    clocks = Clocks()
    stamps = Stamps(clocks, RLock())
    assert clocks.reads == 0
    assert stamps.now() == 1_000_000_000
    assert clocks.reads == 1


def test_a_stamp_is_the_wall_clock_in_microseconds_and_one() -> None:
    stamps = Stamps(Clocks(), RLock())
    assert stamps.now() == 1_000_000_000
    assert stamps.now() == 1_000_000_000
    assert stamps.next() == 1_000_000_001
    assert stamps.next() == 1_000_000_002
    assert stamps.now() == 1_000_000_002


def test_a_tick_reads_no_clock_and_lies_between_its_neighbours() -> None:
    clocks = Clocks()
    stamps = Stamps(clocks, RLock())
    before = stamps.next()
    clocks.wall += 1.0
    reads = clocks.reads
    assert stamps.tick_locked() == before + 1
    assert stamps.tick_locked() == before + 2
    assert clocks.reads == reads
    assert stamps.now() == 1_001_000_000


@pytest.mark.parametrize("steady", [0.0, 5.0, 5_000.0])
def test_a_tick_before_the_first_reading_is_no_reading(steady: float) -> None:
    clocks = Clocks()
    clocks.steady = steady
    stamps = Stamps(clocks, RLock())
    assert stamps.tick_locked() == 1
    assert stamps.now() == 1_000_000_000


def test_a_wall_clock_that_stands_still_or_is_set_back_is_carried_on_by_the_monotonic_one() -> None:
    clocks = Clocks()
    stamps = Stamps(clocks, RLock())
    assert stamps.now() == 1_000_000_000
    clocks.steady += 2.5
    assert stamps.now() == 1_002_500_000
    clocks.wall -= 900.0
    clocks.steady += 0.25
    assert stamps.now() == 1_002_750_000
    assert stamps.now() == 1_002_750_000


def test_a_wall_clock_that_is_set_forward_is_followed() -> None:
    clocks = Clocks()
    stamps = Stamps(clocks, RLock())
    stamps.now()
    clocks.steady += 1.0
    clocks.wall += 500.0
    assert stamps.now() == 1_500_000_000


@pytest.mark.parametrize("wall", [0.0, -5.0])
def test_the_first_stamp_is_no_later_than_a_wall_clock_without_a_battery(wall: float) -> None:
    clocks = Clocks(wall)
    clocks.steady = 9e9
    stamps = Stamps(clocks, RLock())
    assert stamps.now() == 0
    assert stamps.next() == 1
    assert stamps.next() == 2


def test_the_clocks_of_the_system_are_those_of_the_operating_system() -> None:
    assert isinstance(SYSTEM_CLOCK, SystemClock)
    assert SYSTEM_CLOCK.monotonic is time.monotonic
    assert SYSTEM_CLOCK.time is time.time


def test_the_first_reading_does_not_fall_below_the_ticks_before_it() -> None:
    stamps = Stamps(Clocks(wall=0.0), RLock())
    assert [stamps.tick_locked(), stamps.tick_locked(), stamps.now(), stamps.next()] == [1, 2, 2, 3]


class _Hands:
    """Two clocks that are set by hand, and count how often the wall's is looked at."""

    def __init__(self) -> None:
        self.wall, self.steady, self.looks = 1_000.0, 0.0, 0

    def time(self) -> float:
        self.looks += 1
        return self.wall

    def monotonic(self) -> float:
        return self.steady


def test_a_reading_in_hand_is_a_moment_without_a_look_at_the_wall() -> None:
    """For a tenth of a second after one; then a step of the wall clock is noticed, and before the first as well."""
    clock = _Hands()
    stamps = Stamps(clock, RLock())
    assert stamps.at(clock.steady) == 1_000_000_000
    assert clock.looks == 1
    clock.wall = 2_000.0
    assert stamps.at(0.0625) == 1_000_062_500
    assert stamps.at(0.0) == 1_000_000_000
    assert clock.looks == 1
    clock.steady = 0.1
    assert stamps.at(0.1) == 2_000_000_000
    assert clock.looks == 2


def test_a_reading_in_hand_gives_no_moment_before_a_stamp_that_was_given() -> None:
    clock = _Hands()
    clock.steady = 50.0
    stamps = Stamps(clock, RLock())
    stamps.now()
    ticks = [stamps.tick_locked() for _ in range(3)]
    assert stamps.at(clock.steady) == ticks[-1]
    clock.steady += 0.0625
    assert stamps.at(clock.steady) == 1_000_062_500
    assert clock.looks == 1


def test_a_reading_from_before_the_last_look_is_no_reading() -> None:
    clock = _Hands()
    stamps = Stamps(clock, RLock())
    stamps.now()
    assert stamps.at(-1.0) == stamps.latest
    assert clock.looks == 2
