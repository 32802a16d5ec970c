"""The two rules of a circuit for calls that are slow rather than failed, bare; the model knows them too."""

from __future__ import annotations

from threading import RLock
from typing import Any

import pytest

from resilient_cache import BreakerPolicy, CachePolicy, FailureKind, MisuseError, ResilientCache, StoreError
from resilient_cache._guard import Call, Guard
from resilient_cache._reporting import Reporter
from resilient_cache.adapters import MappingAdapter
from resilient_cache.breaker import REJECTED, Breaker, Transition
from resilient_cache.events import CircuitState
from resilient_cache.outcome import Direction, Operation
from resilient_cache.testing import ManualClock

from .test_breaker import NEVER

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
SLOW = BreakerPolicy(consecutive=NEVER, min_calls=10, slow_after=0.125)
LOST = BreakerPolicy(consecutive=NEVER, min_calls=10, failure_rate=1.0, lost_time=0.0625)
BOTH = BreakerPolicy(consecutive=NEVER, min_calls=10, slow_after=0.125, slow_rate=1.0, lost_time=0.0625)


def circuit(policy: BreakerPolicy, roll: float = 1.0) -> Breaker:
    return Breaker(policy, lambda: roll, RLock())


def answer(breaker: Breaker, now: float, took: float, times: int = 1) -> Transition | None:
    """The last change that any of them made."""
    change = None
    for _ in range(times):
        change = breaker.answered(breaker.admit(now), now, took) or change
    return change


def fail(breaker: Breaker, now: float, took: float, times: int = 1) -> Transition | None:
    change = None
    for _ in range(times):
        change = breaker.failure(breaker.admit(now), now, took) or change
    return change


def opened(at: float = 10.0) -> Breaker:
    breaker = circuit(SLOW)
    assert answer(breaker, at, 0.25, 10) == Transition(CLOSED, OPEN, 1.0)
    return breaker


# the share of slow calls


def test_without_the_rules_no_call_is_too_slow() -> None:
    breaker = circuit(BreakerPolicy())
    assert answer(breaker, 10.0, 1e9, 1_000) is None
    assert breaker.state is CLOSED


def test_it_opens_at_exactly_its_share_of_slow_calls() -> None:
    breaker = circuit(SLOW)
    assert answer(breaker, 10.0, 0.0, 2) is None
    assert answer(breaker, 10.0, 0.25, 7) is None  # 7 of 9
    assert answer(breaker, 10.0, 0.25) == Transition(CLOSED, OPEN, 1.0)  # 8 of 10


def test_it_needs_its_least_number_of_calls() -> None:
    breaker = circuit(SLOW)
    assert answer(breaker, 10.0, 0.25, 9) is None
    assert answer(breaker, 10.0, 0.25) is not None


@pytest.mark.parametrize(("took", "opens"), [(0.124, False), (0.125, False), (0.126, True)])
def test_a_call_is_slow_when_it_took_longer_than_slow_after(took: float, opens: bool) -> None:
    assert (answer(circuit(SLOW), 10.0, took, 10) is not None) is opens


def test_only_a_slow_call_or_a_failed_one_opens() -> None:
    for ending, opens in ((answer, False), (fail, True)):
        breaker = circuit(SLOW)
        answer(breaker, 10.0, 0.25, 9)
        assert (ending(breaker, 10.0, 0.0) is not None) is opens


def test_a_call_that_failed_was_not_answered_in_time_however_soon_it_failed() -> None:
    breaker = circuit(SLOW)
    fail(breaker, 10.0, 0.0, 4)
    assert answer(breaker, 10.0, 0.0, 2) is None
    assert answer(breaker, 10.0, 0.25, 3) is None
    assert answer(breaker, 10.0, 0.25) is not None


def test_a_slow_answer_ends_a_row_of_failures_and_counts_as_none() -> None:
    breaker = circuit(BreakerPolicy(consecutive=NEVER, min_calls=4, slow_after=0.125, slow_rate=1.0))
    answer(breaker, 10.0, 0.0)
    fail(breaker, 10.0, 0.0, 2)
    assert answer(breaker, 10.0, 0.25) is None  # half of four failed, but the store answers
    breaker = circuit(BreakerPolicy(consecutive=3, span=0.0, min_calls=NEVER, slow_after=0.125))
    fail(breaker, 10.0, 0.0, 2)
    assert answer(breaker, 10.0, 0.25) is None
    assert fail(breaker, 10.0, 0.0, 2) is None
    assert fail(breaker, 10.0, 0.0) is not None


@pytest.mark.parametrize(("now", "opens"), [(14.999, True), (15.0, False)])
def test_slow_calls_leave_the_window_with_their_bucket(now: float, opens: bool) -> None:
    breaker = circuit(SLOW)
    answer(breaker, 10.0, 0.25, 9)
    assert (answer(breaker, now, 0.25) is not None) is opens


# lost time


def test_a_store_that_times_out_for_one_in_four_loses_more_than_any_share_tells() -> None:
    """A quarter of the calls lost 0.25 s each, so each lost 0.0625 s on average."""
    breaker = circuit(LOST)
    answer(breaker, 10.0, 0.001, 9)
    assert fail(breaker, 10.0, 0.25, 2) is None  # 0.5 s of 11 calls
    assert fail(breaker, 10.0, 0.25) == Transition(CLOSED, OPEN, 1.0)  # 0.75 s of 12 calls


def test_an_answer_that_took_long_has_lost_nothing_unless_slow_after_says_what_it_is_worth() -> None:
    assert answer(circuit(LOST), 10.0, 9.0, 100) is None
    breaker = circuit(BOTH)
    answer(breaker, 10.0, 0.125, 6)  # lost nothing
    assert answer(breaker, 10.0, 0.25, 5) is None  # 0.625 s of 11 calls
    assert answer(breaker, 10.0, 0.25) is not None  # 0.75 s of 12


def test_lost_time_leaves_the_window_too() -> None:
    breaker = circuit(LOST)
    fail(breaker, 10.0, 9.0, 9)
    answer(breaker, 15.0, 0.0, 20)
    assert fail(breaker, 15.0, 0.25) is None


def test_lost_time_needs_its_least_number_of_calls() -> None:
    breaker = circuit(LOST)
    assert answer(breaker, 10.0, 0.0) is None
    assert fail(breaker, 10.0, 9.0, 8) is None
    assert fail(breaker, 10.0, 9.0) is not None


# half-open


def test_a_slow_probe_opens_it_again_for_longer() -> None:
    breaker = opened()
    assert answer(breaker, 11.0, 0.125) is None
    assert answer(breaker, 11.0, 0.126) == Transition(HALF_OPEN, OPEN, 2.0)
    assert breaker.admit(12.999) == REJECTED
    assert answer(breaker, 13.0, 0.25) == Transition(HALF_OPEN, OPEN, 4.0)


def test_a_slow_probe_does_not_close_what_failures_opened() -> None:
    breaker = circuit(SLOW)
    fail(breaker, 10.0, 0.0, 10)
    assert answer(breaker, 11.0, 0.25) == Transition(HALF_OPEN, OPEN, 2.0)


def test_quick_probes_close_it_and_the_window_is_fresh() -> None:
    breaker = opened()
    assert answer(breaker, 11.0, 0.0, 2) == Transition(HALF_OPEN, CLOSED, 0.0)
    assert answer(breaker, 11.0, 0.25, 9) is None
    assert answer(breaker, 11.0, 0.25) is not None


def test_a_slow_probe_whose_lease_is_gone_is_inert() -> None:
    breaker = opened()
    probe = breaker.admit(11.0)
    assert breaker.answered(probe, 13.0, 2.0) is None
    assert breaker.state is HALF_OPEN


def test_slow_answers_of_before_the_opening_are_inert() -> None:
    breaker = circuit(SLOW)
    late = breaker.admit(10.0)
    answer(breaker, 10.0, 0.25, 10)
    assert breaker.answered(late, 11.0, 1.0) is None
    assert breaker.answered(REJECTED, 11.0, 1.0) is None
    assert breaker.retry_in(10.0) == 1.0


def test_a_circuit_that_is_forced_closed_stays_so_however_slow() -> None:
    breaker = circuit(SLOW)
    with breaker.force_closed():
        assert answer(breaker, 10.0, 1.0, 100) is None
    assert answer(breaker, 10.0, 1.0, 9) is None


# what the guard tells it


def guarded(clock: ManualClock, breaker: BreakerPolicy) -> Guard:
    return Guard(
        timeout=0.25,
        inflight_max=5.0,
        breaker=breaker,
        max_calls=64,
        reporter=Reporter("guarded", [], clock.monotonic),
        monotonic=clock.monotonic,
        random=lambda: 1.0,
    )


def ends(guard: Guard, clock: ManualClock, operation: Operation, took: float, error: Exception | None = None) -> None:
    call = guard.admit(operation, clock.monotonic() + 9.0, "k")
    assert isinstance(call, Call)
    clock.advance(took)
    if error is None:
        guard.answered(call, None, clock.monotonic())
    else:
        guard.failed(call, error)


def states(guard: Guard) -> list[CircuitState]:
    return [guard.circuits[direction].state for direction in (Direction.READ, Direction.WRITE)]


@pytest.mark.parametrize("operation", list(Operation))
def test_reads_may_be_too_slow_and_writes_never(operation: Operation) -> None:
    """A slow delete that is acknowledged is worth its wait: an open circuit would hold it back."""
    clock = ManualClock()
    guard = guarded(clock, SLOW)
    for _ in range(10):
        assert states(guard) == [CLOSED, CLOSED]
        ends(guard, clock, operation, 0.1875)
    assert states(guard) == [OPEN if operation is Operation.GET else CLOSED, CLOSED]


def test_what_failed_has_lost_the_time_it_took() -> None:
    clock = ManualClock()
    guard = guarded(clock, LOST)
    for _ in range(8):
        ends(guard, clock, Operation.GET, 0.0)
    for _ in range(2):
        ends(guard, clock, Operation.GET, 0.25, StoreError(FailureKind.TIMEOUT))
    assert states(guard) == [CLOSED, CLOSED]
    call = guard.admit(Operation.GET, clock.monotonic() + 0.125, "k")
    assert isinstance(call, Call)
    clock.advance(0.3125)
    guard.overdue(call)  # 0.8125 s of eleven calls
    assert states(guard) == [OPEN, CLOSED]


# misuse


@pytest.mark.parametrize("name", ["slow_after", "lost_time"])
@pytest.mark.parametrize("bad", [0, -1, "soon", True, float("nan"), float("inf")])
def test_no_duration_is_refused(name: str, bad: Any) -> None:
    with pytest.raises(MisuseError, match=name):
        BreakerPolicy(**{name: bad})


@pytest.mark.parametrize("bad", [0, -0.1, 1.1, "most", True, float("nan")])
def test_no_share_is_refused(bad: Any) -> None:
    with pytest.raises(MisuseError, match="slow_rate"):
        BreakerPolicy(slow_rate=bad)


@pytest.mark.parametrize("name", ["slow_after", "lost_time"])
def test_what_no_call_can_take_is_refused(name: str) -> None:
    policy: Any = {name: 0.25}
    with pytest.raises(MisuseError, match=f"{name} must be less than timeout"):
        ResilientCache(MappingAdapter(), name="slow", breaker=BreakerPolicy(**policy))
    ResilientCache(MappingAdapter(), name="slow", policy=CachePolicy(timeout=0.5), breaker=BreakerPolicy(**policy))


def test_the_rules_are_off_by_default() -> None:
    policy = BreakerPolicy()
    assert (policy.slow_after, policy.slow_rate, policy.lost_time) == (None, 0.8, None)
