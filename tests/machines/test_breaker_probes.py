"""The table of a circuit, its lower half: half-open, late tickets, forced states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilient_cache.breaker import REJECTED, Breaker, Forced, Transition
from resilient_cache.events import CircuitState
from resilient_cache.locks import make_rlock
from resilient_cache.policy import BreakerPolicy

from .test_breaker import NEVER, RATE, circuit, fail, opened, succeed

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FORCED_OPEN, FORCED_CLOSED = CircuitState.FORCED_OPEN, CircuitState.FORCED_CLOSED


def probing(at: float = 10.0) -> tuple[Breaker, int, float]:
    """A half-open circuit, its probe, and when it was let go."""
    breaker = opened(at=at)
    return breaker, breaker.admit(at + 1.0), at + 1.0


# half-open


def test_one_probe_is_out_and_everyone_else_is_rejected() -> None:
    breaker, probe, now = probing()
    assert probe < 0
    assert [breaker.admit(now + 0.01 * n) for n in range(20)] == [REJECTED] * 20


@pytest.mark.parametrize("late", [0.0, 1.999])
def test_a_probe_has_its_lease_to_itself(late: float) -> None:
    breaker, _, now = probing()
    assert breaker.admit(now + late) == REJECTED


def test_a_probe_that_never_reports_is_replaced_when_its_lease_is_over_and_is_inert_then() -> None:
    breaker, lost, now = probing()
    probe = breaker.admit(now + 2.0)
    assert probe < 0
    assert probe != lost
    assert breaker.failure(lost, now + 2.5) is None
    assert breaker.success(lost, now + 2.5) is None
    breaker.neutral(lost)
    assert breaker.state is HALF_OPEN
    assert breaker.admit(now + 2.5) == REJECTED  # the second is still out
    assert breaker.success(probe, now + 2.5) is None
    assert breaker.success(breaker.admit(now + 2.5), now + 2.5) == Transition(HALF_OPEN, CLOSED, 0.0)


@pytest.mark.parametrize("ending", ["success", "failure"])
def test_a_probe_whose_lease_is_gone_is_inert_even_if_nobody_replaced_it(ending: str) -> None:
    breaker, probe, now = probing()
    assert getattr(breaker, ending)(probe, now + 2.0) is None
    assert breaker.state is HALF_OPEN
    second = breaker.admit(now + 2.0)
    assert second < 0
    assert breaker.success(second, now + 2.0) is None  # the first of two, not the second
    assert breaker.state is HALF_OPEN


def test_a_probe_reports_until_the_end_of_its_lease() -> None:
    breaker, probe, now = probing()
    assert breaker.failure(probe, now + 1.999) == Transition(HALF_OPEN, OPEN, 2.0)


def test_two_successes_close_and_the_window_is_fresh() -> None:
    breaker, probe, now = probing()
    assert breaker.success(probe, now) is None
    assert breaker.state is HALF_OPEN
    assert breaker.success(breaker.admit(now), now) == Transition(HALF_OPEN, CLOSED, 0.0)
    assert breaker.state is CLOSED
    assert breaker.retry_in(now) == 0.0
    assert fail(breaker, now, 4) is None
    assert fail(breaker, now + 0.125) is not None


@pytest.mark.parametrize("how", ["probes", "force"])
def test_the_window_of_a_circuit_that_closes_is_fresh(how: str) -> None:
    breaker = circuit(RATE)
    assert fail(breaker, 10.0, 4) is not None
    if how == "probes":
        assert succeed(breaker, 11.0, 2) is not None
    else:
        breaker.force_open().release()
    assert fail(breaker, 11.0, 3) is None  # of four, and none of before
    assert fail(breaker, 11.0) is not None


def test_one_probe_reports_once() -> None:
    breaker, probe, now = probing()
    assert breaker.success(probe, now) is None
    assert breaker.success(probe, now) is None
    assert breaker.failure(probe, now) is None
    assert breaker.state is HALF_OPEN


def test_a_failed_probe_opens_again_and_the_successes_before_it_are_forgotten() -> None:
    breaker, probe, now = probing()
    breaker.success(probe, now)
    assert breaker.failure(breaker.admit(now), now) == Transition(HALF_OPEN, OPEN, 2.0)
    later = now + 2.0
    assert breaker.success(breaker.admit(later), later) is None
    assert breaker.state is HALF_OPEN


@pytest.mark.parametrize("successes", [0, 1])
def test_a_cancelled_probe_counts_for_nothing_and_frees_its_place_at_once(successes: int) -> None:
    breaker, probe, now = probing()
    for _ in range(successes):
        breaker.success(probe, now)
        probe = breaker.admit(now)
    breaker.neutral(probe)
    assert breaker.state is HALF_OPEN
    for left in range(2 - successes, 0, -1):
        again = breaker.admit(now)
        assert again < 0
        assert again != probe
        assert (breaker.success(again, now) is not None) is (left == 1)


def test_a_probe_that_says_when_the_next_may_go_is_waited_for_until_then() -> None:
    """Whoever asks hears of it, as of an open circuit; what else it says is nothing."""
    breaker, probe, now = probing()
    breaker.success(probe, now)
    breaker.neutral(breaker.admit(now), now + 0.5)
    assert (breaker.state, breaker.retry_in(now)) == (HALF_OPEN, 0.5)
    assert breaker.admit(now + 0.499) == REJECTED
    assert breaker.retry_in(now + 0.5) == 0.0
    breaker.neutral(breaker.admit(now + 0.5))
    assert breaker.success(breaker.admit(now + 0.5), now + 0.5) == Transition(HALF_OPEN, CLOSED, 0.0)
    assert breaker.retry_in(now) == 0.0


def test_who_is_no_probe_any_more_holds_back_nobody() -> None:
    breaker, lost, now = probing()
    probe = breaker.admit(now + 2.0)
    breaker.neutral(lost, now + 9.0)
    breaker.neutral(REJECTED, now + 9.0)
    assert breaker.retry_in(now + 2.0) == 0.0
    breaker.neutral(probe, now + 9.0)
    assert breaker.retry_in(now + 2.0) == 7.0
    breaker.force_closed().release()
    assert breaker.admit(now) > 0
    breaker.neutral(breaker.admit(now), now + 9.0)
    assert breaker.retry_in(now) == 0.0


@pytest.mark.parametrize(
    ("closed_for", "hold"), [(0.0, 8.0), (29.9, 8.0), (30.0, 4.0), (60.0, 2.0), (90.0, 1.0), (1e6, 1.0)]
)
def test_openings_decay_by_one_for_each_30_s_closed(closed_for: float, hold: float) -> None:
    breaker = opened(BreakerPolicy(span=0.0, min_calls=NEVER))
    now = 10.0
    for step in (1.0, 2.0):
        now += step
        breaker.failure(breaker.admit(now), now)
    now += 4.0
    succeed(breaker, now, 2)
    assert breaker.state is CLOSED
    change = fail(breaker, now + closed_for, 5)
    assert change is not None
    assert change.hold == hold


def test_time_before_the_first_opening_is_no_credit() -> None:
    assert opened(at=1_000_000.0).retry_in(1_000_000.0) == 1.0


# tickets


def test_tickets_of_before_the_opening_are_inert() -> None:
    breaker = circuit()
    old = breaker.admit(9.0)
    fail(breaker, 9.0, 4)
    fail(breaker, 10.0)
    for now in (10.0, 11.5):
        assert breaker.success(old, now) is None
        assert breaker.failure(old, now) is None
        breaker.neutral(old)
    assert breaker.state is OPEN
    assert breaker.retry_in(10.0) == 1.0
    probe = breaker.admit(11.5)
    for ticket in (old, -old, REJECTED):
        assert breaker.success(ticket, 11.5) is None
        assert breaker.failure(ticket, 11.5) is None
        breaker.neutral(ticket)
    assert breaker.admit(11.5) == REJECTED
    breaker.success(probe, 11.5)
    breaker.success(breaker.admit(11.5), 11.5)
    for _ in range(20):
        assert breaker.failure(old, 20.0) is None
    assert breaker.state is CLOSED


def test_a_success_of_before_the_opening_does_not_end_a_row_of_after_it() -> None:
    """Invariant 3, on the shortest way: a late success counts for nothing where failures have just been counted."""
    breaker = circuit()
    late = breaker.admit(9.0)
    fail(breaker, 9.0, 4)
    fail(breaker, 10.0)
    succeed(breaker, 11.0, 2)
    fail(breaker, 12.0, 4)
    assert breaker.success(late, 12.0) is None
    assert fail(breaker, 12.5) is not None


def test_a_rejected_call_that_reports_all_the_same_changes_nothing() -> None:
    breaker = opened()
    for ending in (breaker.failure, breaker.success, breaker.failure):
        assert ending(REJECTED, 10.5) is None
    breaker.neutral(REJECTED)
    assert breaker.admit(10.999) == REJECTED
    probe = breaker.admit(11.0)
    breaker.neutral(probe)
    assert breaker.success(REJECTED, 11.0) is None  # no probe is out, and none may be feigned
    assert breaker.success(breaker.admit(11.0), 11.0) is None


def test_neutral_tells_nothing_through_a_closed_circuit() -> None:
    breaker = circuit()
    fail(breaker, 10.0, 4)
    breaker.neutral(breaker.admit(10.5))
    assert fail(breaker, 11.0) is not None


# forced


def test_forced_open_rejects_for_ever_and_success_closes_nothing() -> None:
    breaker = circuit()
    ticket = breaker.admit(0.0)
    breaker.force_open()
    assert breaker.state is FORCED_OPEN
    assert breaker.retry_in(0.0) == 0.0
    assert breaker.admit(1e9) == REJECTED
    assert breaker.success(ticket, 1e9) is None
    assert breaker.state is FORCED_OPEN


def test_forced_closed_admits_whatever_fails() -> None:
    breaker = opened()
    breaker.force_closed()
    assert breaker.state is FORCED_CLOSED
    assert fail(breaker, 10.0, 100) is None
    assert fail(breaker, 20.0, 100) is None
    assert succeed(breaker, 20.0) is None
    assert breaker.admit(20.0) > 0


def test_open_wins_and_the_last_release_is_fresh() -> None:
    breaker = opened()
    handles = [breaker.force_closed(), breaker.force_open(), breaker.force_open()]
    assert breaker.state is FORCED_OPEN
    handles[1].release()
    handles[1].release()  # once more is harmless
    assert breaker.state is FORCED_OPEN
    assert breaker.admit(99.0) == REJECTED
    handles[2].release()
    assert breaker.state is FORCED_CLOSED
    during = breaker.admit(99.0)
    assert during > 0
    handles[0].release()
    assert breaker.state is CLOSED
    assert breaker.failure(during, 99.0) is None
    fail(breaker, 99.0, 4)
    assert fail(breaker, 100.0) == Transition(CLOSED, OPEN, 1.0)  # k has started over


def test_a_handle_is_a_block_and_is_released_on_errors_too() -> None:
    breaker = circuit()
    with breaker.force_open() as handle:
        assert isinstance(handle, Forced)
        assert breaker.state is FORCED_OPEN
    assert breaker.state is CLOSED
    handle = breaker.force_open()
    with pytest.raises(ZeroDivisionError), handle:
        raise ZeroDivisionError
    assert breaker.state is CLOSED
    assert breaker.admit(0.0) > 0


def test_a_probe_of_before_the_force_is_inert_after_it() -> None:
    breaker, probe, now = probing()
    breaker.force_open().release()
    assert breaker.failure(probe, now) is None
    assert breaker.state is CLOSED


def test_who_closes_it_by_hand_is_heard_and_who_only_lets_go_is_not() -> None:
    """Of one that was open, by force or by itself; when the last hold on it being open is gone."""
    closed: list[CircuitState] = []
    breaker = Breaker(BreakerPolicy(), lambda: 1.0, make_rlock(), lambda: closed.append(breaker.state))
    first, second = breaker.force_open(), breaker.force_open()
    kept = breaker.force_closed()
    first.release()
    assert closed == []
    second.release()
    assert closed == [FORCED_CLOSED]
    kept.release()
    breaker.force_closed().release()
    assert closed == [FORCED_CLOSED]
    breaker.force_open().release()
    assert closed == [FORCED_CLOSED, CLOSED]
    ticket = breaker.admit(0.0)
    while breaker.failure(ticket, 9.0) is None:
        pass
    breaker.force_closed().release()
    assert closed == [FORCED_CLOSED, CLOSED, FORCED_CLOSED]


# under another thread's hand


def test_who_comes_for_a_probe_just_after_another_thread_has_closed_is_admitted() -> None:
    breaker, _, now = probing()
    breaker.force_closed().release()
    ticket = breaker._admit_probe(now)
    assert ticket == breaker.admit(now) > 0


class Late:
    """A lock that another thread gets first, and does something under."""

    def __init__(self) -> None:
        self.inner = make_rlock()
        self.first: Callable[[], object] | None = None

    def __enter__(self) -> None:
        first, self.first = self.first, None
        if first is not None:
            first()
        self.inner.acquire()

    def __exit__(self, *_: object) -> None:
        self.inner.release()


def test_who_comes_for_a_probe_just_after_another_thread_has_opened_it_again_is_rejected() -> None:
    """Its hold has begun anew."""
    lock: Any = Late()
    breaker = Breaker(BreakerPolicy(consecutive=1, span=0, hold=1), lambda: 1.0, lock)
    assert breaker.failure(breaker.admit(0.0), 0.0) is not None
    probe = breaker.admit(1.0)
    lock.first = lambda: breaker.failure(probe, 1.0)
    assert breaker.admit(1.0) is REJECTED
    assert breaker.state is OPEN


def test_a_release_forgets_how_often_it_has_opened() -> None:
    breaker, probe, now = probing()
    assert breaker.failure(probe, now) == Transition(HALF_OPEN, OPEN, 2.0)
    breaker.force_closed().release()
    fail(breaker, now, 4)
    assert fail(breaker, now + 0.5) == Transition(CLOSED, OPEN, 1.0)
