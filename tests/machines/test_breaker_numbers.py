"""Each time that a circuit goes by is its policy's, whatever it is: where it ends, to the eighth of a second."""

from __future__ import annotations

from threading import RLock

import pytest

from resilient_cache.breaker import REJECTED, Breaker
from resilient_cache.events import CircuitState
from resilient_cache.policy import BreakerPolicy

TIMES = pytest.mark.parametrize("seconds", [1.0, 2.5, 7.5, 40.0])
STEP = 0.125
NEVER = 10**9


def circuit(**numbers: float) -> Breaker:
    given = {"consecutive": NEVER, "span": 0, "min_calls": NEVER, "hold": 1, "max_hold": 64, "probes": 1} | numbers
    return Breaker(BreakerPolicy(**given), lambda: 1.0, RLock())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def fail(breaker: Breaker, now: float) -> float:
    """How long the circuit is open then, 0.0 when it is not."""
    change = breaker.failure(breaker.admit(now), now)
    return 0.0 if change is None else change.hold


@TIMES
def test_failures_in_a_row_must_span_the_span(seconds: float) -> None:
    breaker = circuit(consecutive=2, span=seconds)
    assert not fail(breaker, 100)
    assert not fail(breaker, 100 + seconds - STEP)
    assert fail(breaker, 100 + seconds)


@TIMES
def test_what_is_older_than_the_window_does_not_count(seconds: float) -> None:
    """It moves by tenths of itself: what is a whole one old is forgotten, what is nine tenths old is not."""
    for age, opens in ((0.9 * seconds - 1e-6, True), (seconds, False)):
        breaker = circuit(min_calls=2, window=seconds)
        assert not fail(breaker, 10 * seconds)
        assert bool(fail(breaker, 10 * seconds + age)) is opens


@TIMES
def test_the_first_opening_lasts_the_hold_and_each_further_one_in_a_row_twice_as_long(seconds: float) -> None:
    breaker = circuit(consecutive=1, hold=seconds, max_hold=3 * seconds)
    now, holds = 100.0, [fail(circuit(consecutive=1, hold=seconds, max_hold=seconds), 100.0)]
    for _ in range(3):
        holds.append(fail(breaker, now))
        assert breaker.admit(now + holds[-1] - STEP) == REJECTED
        now += holds[-1]
    assert holds == [seconds, seconds, 2 * seconds, 3 * seconds]


@TIMES
def test_a_probe_that_does_not_report_is_replaced_after_its_lease(seconds: float) -> None:
    breaker = circuit(consecutive=1, lease=seconds)
    now = 100 + fail(breaker, 100)
    first = breaker.admit(now)
    assert first < 0
    assert breaker.admit(now + seconds - STEP) == REJECTED
    assert breaker.admit(now + seconds) < 0
    assert breaker.success(first, now + seconds) is None


@TIMES
def test_one_opening_is_forgotten_for_each_decay_spent_closed(seconds: float) -> None:
    for closed_for, hold in ((seconds - STEP, 4), (seconds, 2), (2 * seconds, 1)):
        breaker, now = circuit(consecutive=1, decay=seconds), 100.0
        for _ in range(2):
            now += fail(breaker, now)
        breaker.success(breaker.admit(now), now)
        assert breaker.state is CircuitState.CLOSED
        assert fail(breaker, now + closed_for) == hold


@pytest.mark.parametrize("probes", [1, 2, 3, 7])
def test_so_many_probes_close_it(probes: int) -> None:
    breaker = circuit(consecutive=1, probes=probes)
    now = 100 + fail(breaker, 100)
    for _ in range(probes):
        assert breaker.state is not CircuitState.CLOSED
        breaker.success(breaker.admit(now), now)
    assert breaker.state is CircuitState.CLOSED
