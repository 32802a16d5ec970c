"""The adaptive limit, bare, with origins that are a formula."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_cache.aimd import Adaptive


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
