"""The guard of one store, bare: admissions and endings on a clock that is moved by hand."""

from __future__ import annotations

from typing import Any

import pytest

from resilient_cache import forking
from resilient_cache._guard import Answer, Call, Guard
from resilient_cache._partition import SIDES
from resilient_cache._reporting import Reporter
from resilient_cache.errors import FailureKind, StoreError
from resilient_cache.events import CircuitChanged, CircuitState, Event, StoreCalled
from resilient_cache.outcome import Direction, Operation, Reason
from resilient_cache.policy import BreakerPolicy
from resilient_cache.testing import ManualClock

BREAKER = BreakerPolicy(consecutive=2, span=0, hold=1, max_hold=1, lease=2)


class Guarded:
    """A guard and its clock."""

    def __init__(self, timeout: float = 0.25, max_calls: int = 64, breaker: BreakerPolicy = BREAKER) -> None:
        self.clock = ManualClock()
        self.told: list[Event] = []
        self.reporter = Reporter("guarded", [self.told.append], self.clock.monotonic)
        self.guard = Guard(
            timeout=timeout,
            inflight_max=5.0,
            breaker=breaker,
            max_calls=max_calls,
            reporter=self.reporter,
            monotonic=self.clock.monotonic,
            random=lambda: 1.0,
        )

    def admit(self, operation: Operation = Operation.GET, left: float = 9.0) -> Call | Reason:
        return self.guard.admit(operation, self.clock.monotonic() + left, "k")

    def call(self, operation: Operation = Operation.GET, left: float = 9.0) -> Call:
        call = self.admit(operation, left)
        assert isinstance(call, Call), call
        return call

    def open(self, **told: Any) -> None:
        for _ in range(2):
            self.guard.failed(self.call(**told), StoreError(FailureKind.UNAVAILABLE))

    def state(self, direction: Direction) -> CircuitState:
        return self.guard.circuits[direction].state


@pytest.mark.parametrize(("timeout", "lease"), [(0.25, 5.0), (2.0, 8.0)])
def test_a_call_that_never_ends_keeps_its_permit_for_5_s_or_four_timeouts(timeout: float, lease: float) -> None:
    """A permit is taken back when no call can be running any more, and not before."""
    guarded = Guarded(timeout, max_calls=1)
    guarded.call()
    guarded.clock.advance(lease - 0.5)
    assert guarded.admit(Operation.GET, 9.0) is Reason.BUSY
    guarded.clock.advance(0.5)
    guarded.call()


@pytest.mark.parametrize(("timeout", "lease"), [(0.25, 2.0), (1.0, 4.0)])
def test_a_probe_is_not_replaced_while_it_may_be_running(timeout: float, lease: float) -> None:
    """A probe's lease is the policy's, or four timeouts where that is longer."""
    guarded = Guarded(timeout)
    guarded.open()
    guarded.clock.advance(1.0)
    assert guarded.call().ticket < 0
    guarded.clock.advance(lease - 0.5)
    assert guarded.admit(Operation.GET, 9.0) is Reason.OPEN
    guarded.clock.advance(0.5)
    assert guarded.call().ticket < 0


@pytest.mark.parametrize(
    ("operation", "direction"),
    [(Operation.GET, Direction.READ), (Operation.SET, Direction.WRITE), (Operation.DELETE, Direction.WRITE)],
)
def test_an_operation_is_heard_by_the_circuit_of_its_direction_only(operation: Operation, direction: Direction) -> None:
    """Reads and writes open apart from each other."""
    guarded = Guarded()
    guarded.open(operation=operation)
    assert {each: guarded.state(each) is CircuitState.OPEN for each in SIDES} == {
        each: each is direction for each in SIDES
    }


def test_what_a_call_may_take_is_the_less_of_what_is_left_and_of_the_timeout() -> None:
    """And a call with much less than the timeout says nothing about the store when its time is over."""
    guarded = Guarded(0.5)
    now = guarded.clock.monotonic()
    whole, nearly, short = (guarded.call(left=left) for left in (9.0, 0.46875, 0.4375))
    assert [call.until - now for call in (whole, nearly, short)] == pytest.approx([0.5, 0.46875, 0.4375])
    assert [call.short for call in (whole, nearly, short)] == [False, False, True]
    assert guarded.guard.admit(Operation.GET, now + 1 / 1024, "k") is Reason.NO_TIME
    for _ in range(5):
        guarded.guard.failed(guarded.call(left=0.25), TimeoutError())
    assert guarded.state(Direction.READ) is CircuitState.CLOSED
    for _ in range(2):
        guarded.guard.failed(guarded.call(left=0.25), OSError())
    assert guarded.state(Direction.READ) is CircuitState.OPEN


def test_a_probe_has_the_whole_timeout_from_when_it_starts() -> None:
    """Whatever its caller's deadline, and however long it took to be run behind."""
    guarded = Guarded(1.0)
    guarded.open()
    guarded.clock.advance(1.0)
    probe = guarded.call(left=0.01)
    assert (probe.until - probe.began, probe.short) == (1.0, False)
    guarded.clock.advance(0.5)
    again = guarded.guard.restarted(probe)
    assert (again.began, again.until) == (guarded.clock.monotonic(), guarded.clock.monotonic() + 1.0)


@pytest.mark.parametrize("operation", list(Operation))
@pytest.mark.parametrize("kind", list(FailureKind))
def test_kinds_that_say_nothing_about_the_store_open_nothing(operation: Operation, kind: FailureKind) -> None:
    """A refused key says nothing; that nothing can be written says nothing about reads."""
    guarded = Guarded()
    for _ in range(2):
        guarded.guard.failed(guarded.call(operation), StoreError(kind))
    neutral = kind in (FailureKind.PER_KEY, FailureKind.NOT_ASKED)
    neutral = neutral or (kind is FailureKind.READ_ONLY and operation is Operation.GET)
    direction = Direction.READ if operation is Operation.GET else Direction.WRITE
    assert guarded.state(direction) is (CircuitState.CLOSED if neutral else CircuitState.OPEN)
    assert guarded.guard.in_flight() == 0


def test_a_probe_for_which_there_is_no_permit_gives_its_turn_back() -> None:
    """The next call after a permit is free is the probe: nobody waits for one that never went."""
    guarded = Guarded(max_calls=1)
    guarded.open()
    busy = guarded.call(Operation.SET)
    guarded.clock.advance(1.0)
    assert guarded.admit(Operation.GET, 9.0) is Reason.BUSY
    guarded.guard.answered(busy, None, guarded.clock.monotonic())
    assert guarded.call().ticket < 0


def test_a_circuit_that_opens_and_closes_is_told_and_counted() -> None:
    """Each change once, with how long an opened one stays so."""
    guarded = Guarded()
    guarded.open()
    for _ in range(2):
        guarded.clock.advance(1.0)
        guarded.guard.answered(guarded.call(), None, guarded.clock.monotonic())
    closed, opened, half = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
    assert [event for event in guarded.told if isinstance(event, CircuitChanged)] == [
        CircuitChanged("guarded", Direction.READ, closed, opened, 1.0),
        CircuitChanged("guarded", Direction.READ, half, closed, 0.0),
    ]
    assert guarded.reporter.counts["circuit_read_open"] == guarded.reporter.counts["circuit_read_closed"] == 1


def test_a_call_is_told_and_counted_with_what_it_took() -> None:
    """Whether the store answered or failed."""
    guarded = Guarded()
    answered, failed = guarded.call(), guarded.call(Operation.SET)
    guarded.clock.advance(0.125)
    guarded.guard.answered(answered, None, guarded.clock.monotonic())
    assert guarded.guard.failed(failed, OSError()) == Answer(Reason.ERROR, FailureKind.CONNECTION)
    assert guarded.told == [
        StoreCalled("guarded", Operation.GET, 0.125),
        StoreCalled("guarded", Operation.SET, 0.125, FailureKind.CONNECTION),
    ]
    assert guarded.reporter.counts == {"store_get": 1, "store_set": 1, "store_set_connection": 1}


def test_work_that_goes_on_keeps_its_permit_until_it_ends() -> None:
    """A store that hangs is asked no more often than there are permits, though nobody waits any more."""
    guarded = Guarded(max_calls=1)
    call = guarded.call()
    guarded.guard.failed(call, TimeoutError(), running=True)
    assert guarded.admit() is Reason.BUSY
    guarded.guard.ended(call)
    guarded.call()


@pytest.mark.parametrize("left", [9.0, 0.1])
def test_silence_is_heard_once(left: float) -> None:
    """When its caller leaves at the timeout, or else when the timeout is over: not twice."""
    guarded = Guarded()
    call = guarded.call(left=left)
    assert guarded.guard.failed(call, TimeoutError(), running=True) == Answer(Reason.TIMEOUT, FailureKind.TIMEOUT)
    if left < 1:
        guarded.guard.overdue(call)
    assert guarded.state(Direction.READ) is CircuitState.CLOSED
    guarded.guard.failed(guarded.call(), OSError())
    assert guarded.state(Direction.READ) is CircuitState.OPEN


def test_a_probe_that_says_nothing_gives_its_turn_back() -> None:
    """Refused for its key only, or taken away: the next call is the probe."""
    guarded = Guarded()
    guarded.open()
    guarded.clock.advance(1.0)
    guarded.guard.failed(guarded.call(), StoreError(FailureKind.PER_KEY))
    guarded.guard.ended(guarded.call())
    assert guarded.call().ticket < 0


@pytest.mark.parametrize("operation", list(Operation))
def test_a_probe_that_finds_nobody_to_be_asked_is_followed_by_another_a_tenth_of_a_second_later(
    operation: Operation,
) -> None:
    """Not at once, or every call would be one; nor when its lease is over: those behind are probed by it."""
    guarded = Guarded()
    guarded.open(operation=operation)
    guarded.clock.advance(1.0)
    for _ in range(3):
        guarded.guard.failed(guarded.call(operation), StoreError(FailureKind.NOT_ASKED))
        guarded.clock.advance(0.0625)
        assert guarded.admit(operation) is Reason.OPEN
        guarded.clock.advance(0.0375 + 1e-9)
    assert guarded.call(operation).ticket < 0


def test_what_is_not_to_be_asked_is_down_until_it_answers_a_read() -> None:
    """Behind a circuit that is closed; that it answers is as good as the closing of one."""
    guarded = Guarded()
    recoveries: list[float] = []
    guarded.guard.on_recovery = lambda: recoveries.append(guarded.clock.monotonic())
    guarded.guard.failed(guarded.call(Operation.SET), StoreError(FailureKind.NOT_ASKED))
    assert not guarded.guard.is_down("k")
    guarded.guard.failed(guarded.call(), StoreError(FailureKind.NOT_ASKED))
    for operation in (Operation.SET, Operation.DELETE):
        assert guarded.guard.is_down("k")
        guarded.guard.answered(guarded.call(operation), None, guarded.clock.monotonic())
    assert (guarded.guard.is_down("k"), recoveries) == (True, [])
    for _ in range(2):
        guarded.guard.answered(guarded.call(), None, guarded.clock.monotonic())
    assert (guarded.guard.is_down("k"), len(recoveries)) == (False, 1)
    guarded.guard.on_recovery = None
    guarded.guard.failed(guarded.call(), StoreError(FailureKind.NOT_ASKED))
    guarded.guard.answered(guarded.call(), None, guarded.clock.monotonic())
    assert not guarded.guard.is_down("k")


def test_of_what_is_not_to_be_asked_behind_an_open_circuit_only_its_closing_is_the_recovery() -> None:
    guarded = Guarded()
    recoveries: list[CircuitState] = []
    guarded.guard.on_recovery = lambda: recoveries.append(guarded.state(Direction.READ))
    guarded.open()
    guarded.clock.advance(1.0)
    guarded.guard.failed(guarded.call(), StoreError(FailureKind.NOT_ASKED))
    guarded.clock.advance(2.0)
    for closed in (False, True):
        guarded.guard.answered(guarded.call(), None, guarded.clock.monotonic())
        assert guarded.guard.is_down("k") is not closed
    assert recoveries == [CircuitState.CLOSED]


def test_a_call_whose_work_goes_on_with_little_time_is_heard_when_the_timeout_is_over() -> None:
    """Not before: its caller left early, which says nothing."""
    guarded = Guarded()
    calls = [guarded.call(left=0.1) for _ in range(3)]
    for call in calls:
        guarded.guard.failed(call, TimeoutError(), running=True)
    assert guarded.state(Direction.READ) is CircuitState.CLOSED
    for call in calls[:2]:
        guarded.guard.overdue(call)
    assert guarded.state(Direction.READ) is CircuitState.OPEN


def test_a_forked_child_has_no_call_in_flight() -> None:
    """Those of its parent will not end in it."""
    guarded = Guarded(max_calls=1)
    guarded.call()
    assert guarded.guard in forking.PROTECTED
    guarded.guard.forked()
    assert guarded.guard.in_flight() == 0
    guarded.call()


def test_who_waits_for_the_store_is_woken_when_its_circuit_opens_and_not_when_it_closes() -> None:
    """With an open circuit there is nothing to wait for; a closing one takes no answer from anybody."""

    class Waiting:
        verdict: str | None = None
        woken = 0

        def wake(self) -> bool:
            self.woken += 1
            return True

    guarded, reads, writes = Guarded(), Waiting(), Waiting()
    guarded.guard.pair.waiting[Direction.READ][reads] = None
    guarded.guard.pair.waiting[Direction.WRITE][writes] = None
    guarded.open()
    for _ in range(2):
        guarded.clock.advance(1.0)
        guarded.guard.answered(guarded.call(), None, guarded.clock.monotonic())
    assert guarded.state(Direction.READ) is CircuitState.CLOSED
    assert (reads.woken, writes.woken) == (1, 0)


LOSSY = BreakerPolicy(consecutive=100, span=0, min_calls=8, lost_time=0.05, hold=1, max_hold=1, lease=2)


def test_time_that_deletes_take_is_not_lost() -> None:
    """They are worth their wait, and so are writes."""
    circuits = Guarded(breaker=LOSSY).guard.circuits
    assert circuits[Direction.READ]._policy.lost_time == 0.05
    assert circuits[Direction.WRITE]._policy.lost_time is None


@pytest.mark.parametrize("overdue", [True, False])
@pytest.mark.parametrize("took", [0.0, 0.2])
def test_a_failed_call_has_lost_the_time_that_it_took(overdue: bool, took: float) -> None:
    """From when it began; and whoever watches is told what came of it."""
    guarded = Guarded(breaker=LOSSY)
    for number in range(20):
        call = guarded.admit()
        if not isinstance(call, Call):
            break
        if number % 4:
            guarded.guard.answered(call, None, guarded.clock.monotonic())
            continue
        guarded.clock.advance(2 * took)
        if overdue:
            guarded.guard.overdue(call)
            guarded.guard.ended(call)
        else:
            guarded.guard.failed(call, StoreError(FailureKind.UNAVAILABLE))
    assert (guarded.state(Direction.READ) is CircuitState.OPEN) is (took > 0)
    assert any(isinstance(event, CircuitChanged) for event in guarded.told) is (took > 0)


def test_a_store_without_shards_has_none() -> None:
    """And says nothing of any."""
    guard = Guarded().guard
    assert guard.shards == {}
    assert "shards" not in guard.health()
