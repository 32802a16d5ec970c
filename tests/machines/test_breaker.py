"""The table of a circuit row by row, bare: the clock is a number, the random source a constant."""

from __future__ import annotations

from datetime import timedelta
from threading import RLock

import pytest

from resilient_cache.breaker import REJECTED, Breaker, Transition
from resilient_cache.events import CircuitState
from resilient_cache.policy import BreakerPolicy

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
NEVER = 1_000_000
ROW = BreakerPolicy(min_calls=NEVER)  # opens for failures in a row only
RATE = BreakerPolicy(consecutive=NEVER, min_calls=4)  # opens for the rate only


def circuit(policy: BreakerPolicy = ROW, roll: float = 1.0) -> Breaker:
    return Breaker(policy, lambda: roll, RLock())


def fail(breaker: Breaker, now: float, times: int = 1) -> Transition | None:
    """The last change that any of them made."""
    change = None
    for _ in range(times):
        change = breaker.failure(breaker.admit(now), now) or change
    return change


def succeed(breaker: Breaker, now: float, times: int = 1) -> Transition | None:
    change = None
    for _ in range(times):
        change = breaker.success(breaker.admit(now), now) or change
    return change


def opened(policy: BreakerPolicy = ROW, at: float = 10.0, roll: float = 1.0) -> Breaker:
    breaker = circuit(policy, roll)
    fail(breaker, at - 1.0, 4)
    assert fail(breaker, at) is not None
    return breaker


# closed


def test_a_closed_circuit_admits_everyone_with_a_ticket_above_zero() -> None:
    breaker = circuit()
    assert breaker.state is CLOSED
    assert breaker.retry_in(0.0) == 0.0
    assert all(breaker.admit(float(now)) > 0 for now in range(50))


def test_it_opens_with_the_fifth_failure_in_a_row_and_not_before() -> None:
    breaker = circuit()
    for step in range(4):
        assert fail(breaker, 10.0 + step) is None
        assert breaker.state is CLOSED
    assert fail(breaker, 14.0) == Transition(CLOSED, OPEN, 1.0)
    assert breaker.state is OPEN


def test_a_success_between_starts_the_row_again() -> None:
    breaker = circuit()
    fail(breaker, 10.0, 4)
    assert succeed(breaker, 11.0) is None
    assert fail(breaker, 12.0, 4) is None
    assert fail(breaker, 13.0) is not None


def test_a_success_in_the_bucket_of_the_failures_starts_the_row_again() -> None:
    breaker = circuit(BreakerPolicy(consecutive=2, span=0.0, min_calls=NEVER))
    fail(breaker, 10.0)
    succeed(breaker, 10.0)
    assert fail(breaker, 10.0) is None
    assert fail(breaker, 10.0) is not None


@pytest.mark.parametrize(("last", "opens"), [(10.0, False), (10.124, False), (10.125, True), (10.25, True)])
def test_failures_in_a_row_must_span_the_span(last: float, opens: bool) -> None:
    breaker = circuit(BreakerPolicy(span=0.125, min_calls=NEVER))
    fail(breaker, 10.0, 4)
    assert (fail(breaker, last) is not None) is opens


def test_the_span_counts_from_the_first_failure_of_the_row_not_of_an_earlier_one() -> None:
    breaker = circuit(BreakerPolicy(span=1.0, min_calls=NEVER))
    fail(breaker, 10.0, 4)
    succeed(breaker, 10.5)
    assert fail(breaker, 11.25, 5) is None
    assert fail(breaker, 12.125) is None
    assert fail(breaker, 12.25) is not None


def test_a_hiccup_of_30_ms_opens_nothing_however_many_fail() -> None:
    breaker = circuit()
    assert fail(breaker, 10.0, 500) is None
    assert fail(breaker, 10.03, 500) is None


def test_the_rate_needs_its_least_number_of_calls() -> None:
    breaker = circuit(RATE)
    assert fail(breaker, 10.0, 3) is None
    assert fail(breaker, 10.0) == Transition(CLOSED, OPEN, 1.0)


def test_the_rate_opens_at_exactly_its_share_and_only_a_failure_opens() -> None:
    breaker = circuit(RATE)
    succeed(breaker, 10.0, 3)
    assert fail(breaker, 10.0, 2) is None  # 2 of 5
    assert fail(breaker, 10.0) is not None  # 3 of 6
    breaker = circuit(RATE)
    assert fail(breaker, 10.0, 3) is None
    assert succeed(breaker, 10.0) is None  # 3 of 4, but the store answers
    assert breaker.state is CLOSED


@pytest.mark.parametrize(("now", "opens"), [(14.999, True), (15.0, False), (40.0, False)])
def test_failures_leave_the_window_at_the_border_of_their_bucket(now: float, opens: bool) -> None:
    breaker = circuit(RATE)  # ten buckets of half a second: the one of 10.0 is alive before 15.0
    fail(breaker, 10.0, 2)
    fail(breaker, 10.499)
    assert (fail(breaker, now) is not None) is opens


@pytest.mark.parametrize(("now", "opens"), [(14.999, False), (15.0, True)])
def test_successes_leave_the_window_at_the_border_of_their_bucket(now: float, opens: bool) -> None:
    breaker = circuit(RATE)
    succeed(breaker, 10.0, 5)
    fail(breaker, 14.5, 3)
    assert (fail(breaker, now) is not None) is opens  # 4 of 9, or 4 of 4


@pytest.mark.parametrize("start", [0.0, 1.0, 50.0, 1_000.0])
def test_the_window_moves_in_tenths_from_the_first_reading_of_the_clock_on(start: float) -> None:
    """A failure counts until the tenth of the window that it fell into is ten tenths old, whatever the clock shows."""
    policy = BreakerPolicy(consecutive=NEVER, min_calls=2, window=10.0)
    for later, opens in ((9.9, True), (10.0, False)):
        for first in (0.0, 0.95):
            breaker = circuit(policy)
            fail(breaker, start + first)
            assert (fail(breaker, start + later) is not None) is opens


@pytest.mark.parametrize("later", [5.25, 7.75, 10.0, 12.5, 20.25])
@pytest.mark.parametrize("before", [1, 10, 11])
def test_a_success_counts_at_its_own_time_whatever_was_counted_before_the_window(later: float, before: int) -> None:
    """Successes in any tenth that is over do not take in the first of a new one."""
    for first in (0.25 + 0.5 * tenth for tenth in range(int(2 * (later - 5.0)) + 1)):
        breaker = circuit(RATE)
        succeed(breaker, first, times=before)
        succeed(breaker, later)
        assert fail(breaker, later + 0.1, times=2) is None
        assert fail(breaker, later + 0.1) is not None


def test_what_is_older_than_the_window_is_gone_though_nothing_took_its_place() -> None:
    """After an idle time the calls of before it do not count, whichever tenth they were in."""
    breaker = circuit(RATE)
    fail(breaker, 1.5, times=3)
    assert fail(breaker, 25.0) is None
    assert fail(breaker, 25.0, times=3) is not None


def test_all_ten_buckets_count_and_an_old_one_is_emptied_before_it_is_used_again() -> None:
    breaker = circuit(BreakerPolicy(consecutive=NEVER, min_calls=10, failure_rate=1.0))
    for step in range(9):
        assert fail(breaker, 20.0 + step / 2) is None
    assert fail(breaker, 24.5) is not None
    breaker = circuit(BreakerPolicy(consecutive=NEVER, min_calls=10, failure_rate=1.0))
    succeed(breaker, 20.0)  # spoils the share for as long as it is in the window
    for step in range(1, 10):
        assert fail(breaker, 20.0 + step / 2) is None
    assert fail(breaker, 25.0) is not None  # in the bucket of 20.0


def test_a_success_may_bring_the_reading_of_its_admission() -> None:
    breaker = circuit(RATE)
    ticket = breaker.admit(10.0)
    fail(breaker, 16.0, 3)
    assert breaker.success(ticket, 10.0) is None  # older than the window: counts for nothing
    assert fail(breaker, 16.0) is not None
    breaker = circuit(RATE)
    ticket = breaker.admit(10.0)
    fail(breaker, 15.0, 3)  # took the bucket of 10.0
    assert breaker.success(ticket, 10.0) is None
    assert fail(breaker, 15.0) is not None  # 4 of 5: an older reading empties no newer bucket


def test_a_clock_that_stands_still_opens_by_rate_and_never_by_row() -> None:
    assert fail(circuit(), 0.0, 1_000) is None
    breaker = circuit(BreakerPolicy())
    assert fail(breaker, 0.0, 19) is None
    assert fail(breaker, 0.0) is not None
    assert all(breaker.admit(0.0) == REJECTED for _ in range(100))


# open


def test_an_open_circuit_rejects_until_its_hold_is_over_and_says_when() -> None:
    breaker = opened(at=10.0)
    assert breaker.retry_in(10.25) == 0.75
    assert breaker.admit(10.999) == REJECTED
    assert breaker.state is OPEN
    assert breaker.admit(11.0) < 0
    assert breaker.state is HALF_OPEN
    assert breaker.retry_in(11.0) == 0.0
    assert opened(at=10.0).retry_in(12.0) == 0.0


@pytest.mark.parametrize(("roll", "share"), [(0.0, 0.5), (0.5, 0.75), (1.0, 1.0)])
def test_the_hold_doubles_to_its_bound_and_is_jittered_down_to_half(roll: float, share: float) -> None:
    breaker = circuit(roll=roll)
    now = 10.0
    fail(breaker, 9.0, 4)
    change = fail(breaker, now)
    for longest in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]:
        assert change is not None
        assert change.hold == longest * share
        assert breaker.retry_in(now) == change.hold
        now += change.hold
        change = breaker.failure(breaker.admit(now), now)
        assert change is not None
        assert change.before is HALF_OPEN


def test_a_store_that_is_gone_for_ever_overflows_nothing() -> None:
    breaker = opened()
    now = 10.0
    for _ in range(1_100):
        now += 30.0
        change = breaker.failure(breaker.admit(now), now)
        assert change is not None
    assert breaker.retry_in(now) == 30.0


def test_the_hold_of_long_policies_still_grows_up_to_its_own_bound() -> None:
    breaker = opened(BreakerPolicy(hold=timedelta(hours=1), max_hold=timedelta(hours=3), min_calls=NEVER))
    assert breaker.retry_in(10.0) == 3_600.0
