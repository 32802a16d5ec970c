"""The adaptive limit, bare, with origins that are a formula."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_cache.aimd import TOLERANCE, Adaptive


class Bench:
    """A busy origin that works on `capacity` loads at once; more only wait inside it."""

    def __init__(self, most: int = 64, base: float = 0.05) -> None:
        self.adaptive = Adaptive(most)
        self.base = base
        self.wobble = 0

    def run(self, rounds: int, capacity: int, *, demand: int = 1_000) -> list[int]:
        """The limits after each of so many rounds of loads."""
        limits = []
        for _ in range(rounds):
            running = min(demand, self.adaptive.limit)
            for _ in range(self.adaptive.limit):
                self.wobble = (self.wobble * 37 + 11) % 101
                noise = 0.8 + 0.4 * self.wobble / 100
                self.adaptive.observe(self.base * noise * max(1.0, running / capacity), running)
            assert self.adaptive.least <= self.adaptive.limit <= self.adaptive.most
            limits.append(self.adaptive.limit)
        return limits


@settings(max_examples=10)
@given(st.sampled_from([1, 19, 20, 21, 64, 200, 201, 230]), st.floats(0.001, 5.0))
def test_it_goes_up_where_more_at_once_costs_nothing(most: int, base: float) -> None:
    """And no further than its bound."""
    bench = Bench(most, base)
    assert bench.adaptive.limit == min(20, most)
    assert bench.run(232 - bench.adaptive.limit, capacity=1_000)[-1] == max(200, most)


@settings(max_examples=10)
@given(st.integers(20, 80), st.floats(0.001, 5.0))
def test_it_comes_down_where_more_at_once_only_waits(capacity: int, base: float) -> None:
    """To about twice what the origin works on at once, from wherever it was, and up again with the origin."""
    bench = Bench(base=base)
    bench.run(1, capacity=1_000)
    bench.adaptive.limit = 190
    limits = bench.run(100, capacity=capacity)[30:]
    assert max(limits) <= 2.5 * capacity
    assert min(limits) >= min(1.5 * capacity, 150)
    assert bench.run(200 - limits[-1], capacity=1_000)[-1] == 200


def test_an_origin_that_is_slower_now_is_not_held_down_for_ever() -> None:
    """At the lower bound what is seen is how the origin is; it is not the load."""
    bench = Bench()
    bench.run(50, capacity=1_000)
    bench.base *= 10
    assert min(bench.run(60, capacity=1_000)) == 20
    assert bench.run(300, capacity=1_000)[-1] == 200


def test_what_is_quick_is_known_by_the_quickest_round() -> None:
    """Also when the first was slow: what is slow again then is slow."""
    bench = Bench(base=0.5)
    bench.run(1, capacity=1_000)
    bench.base = 0.05
    assert bench.run(40, capacity=1_000)[-1] == 61
    bench.base = 0.5
    assert bench.run(1, capacity=1_000) == [54]


def test_it_does_not_grow_while_nobody_wants_more() -> None:
    assert Bench().run(50, capacity=1_000, demand=19)[-1] == 20
    assert Bench().run(1, capacity=1_000, demand=20)[-1] == 21


@pytest.mark.parametrize(("limit", "after"), [(200, 180), (21, 20), (20, 20)])
def test_a_word_of_the_origin_takes_a_tenth_off(limit: int, after: int) -> None:
    adaptive = Adaptive(64)
    adaptive.limit = limit
    assert adaptive.back_off() == after


def test_a_word_of_the_origin_begins_a_round_anew() -> None:
    """What was seen before it says nothing about the limit after it."""
    bench = Bench()
    for _ in range(19):
        bench.adaptive.observe(0.05, 20)
    bench.adaptive.back_off()
    assert bench.adaptive.observe(0.05, 20) == 20
    for _ in range(18):
        bench.adaptive.observe(0.05, 20)
    assert bench.adaptive.observe(0.05, 20) == 21


def rounds(adaptive: Adaptive, *means: float, running: int | None = None) -> list[int]:
    """The limits after rounds of loads that all took the same time, with as many at once as were allowed."""
    limits = []
    for mean in means:
        for _ in range(adaptive.limit):
            adaptive.observe(mean, adaptive.limit if running is None else running)
        limits.append(adaptive.limit)
    return limits


def test_a_round_is_as_many_loads_as_may_run() -> None:
    adaptive = Adaptive(2)
    assert [adaptive.observe(1.0, 2) for _ in range(4)] == [2, 3, 3, 3]
    assert adaptive.observe(1.0, 3) == 4


def test_one_load_among_as_many_as_are_allowed_is_enough_for_a_round() -> None:
    """It is the crowd at any moment that counts, and no crowd of the round before."""
    adaptive = Adaptive(2)
    adaptive.observe(1.0, 2)
    assert adaptive.observe(1.0, 1) == 3
    assert rounds(adaptive, 1.0, running=1) == [3]


def test_what_takes_half_as_long_again_is_not_slow_yet() -> None:
    adaptive = Adaptive(64)
    assert rounds(adaptive, 1.0, TOLERANCE * 1.0, TOLERANCE * 1.0 + 0.01) == [21, 22, 20]


def test_at_the_lower_bound_a_tenth_of_the_way_is_forgotten_with_every_round() -> None:
    """From 1 s to 3 s: 1.2, 1.38 and 1.54 s, of which 3 s is slow; the seventh round is the first that is not."""
    adaptive = Adaptive(64)
    rounds(adaptive, 1.0, running=1)
    base, rounds_until = 1.0, 0
    while TOLERANCE * base < 3.0:
        base += 0.1 * (3.0 - base)
        rounds_until += 1
    assert rounds(adaptive, *[3.0] * (rounds_until + 1)) == [20] * rounds_until + [21]


def test_a_load_that_failed_counts_if_it_failed_late() -> None:
    """Soon is up to `TOLERANCE` times what the origin takes; of one of which nothing is known yet nothing is late."""
    adaptive = Adaptive(64)
    adaptive.limit = 40
    for _ in range(100):
        assert adaptive.observe(10.0, 40, failed=True) == adaptive.limit == 40
    for _ in range(40):
        assert adaptive.observe(0.5, 1) == 40
    for seconds in (0.1, TOLERANCE * 0.5):
        for _ in range(100):
            assert adaptive.observe(seconds, 40, failed=True) == adaptive.limit == 40
    for _ in range(40):
        adaptive.observe(TOLERANCE * 0.5 + 0.001, 40, failed=True)
    assert adaptive.limit == 36
