"""A circuit against a model that remembers every event, with tickets in flight; and its two symmetries."""

from __future__ import annotations

from dataclasses import fields, replace
from threading import RLock

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilient_cache.breaker import REJECTED, Breaker, Forced, Transition
from resilient_cache.events import CircuitState
from resilient_cache.policy import BreakerPolicy, float_of

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FORCED_OPEN, FORCED_CLOSED = CircuitState.FORCED_OPEN, CircuitState.FORCED_CLOSED

POLICY = BreakerPolicy(consecutive=3, span=0.25, failure_rate=0.5, min_calls=5, decay=8.0, max_hold=6.0)
OTHER = BreakerPolicy(  # every number is another than by default, and than that of the one above
    consecutive=2,
    span=0.5,
    failure_rate=0.75,
    min_calls=4,
    window=2.5,
    hold=0.5,
    max_hold=3.0,
    probes=3,
    lease=1.0,
    decay=4.0,
    slow_after=0.25,
    slow_rate=0.5,
    lost_time=0.5,
)
POLICIES = (
    POLICY,
    replace(POLICY, slow_after=0.125),
    replace(POLICY, lost_time=0.125),
    replace(POLICY, slow_after=0.125, slow_rate=1.0, lost_time=0.25),
    OTHER,
    replace(OTHER, probes=1, slow_after=None, lost_time=None),
)
TOOK = st.sampled_from([0.0, 0.0625, 0.125, 0.25, 0.5, 1.0])
STEPS = st.sampled_from([0.0, 0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.5, 5.0, 20.0])


class Model:
    """What semantics section 5 says, the long way: the window is a list of events, counted anew each time."""

    def __init__(self, policy: BreakerPolicy = POLICY) -> None:
        self.policy = policy
        self.span, self.hold, self.longest = map(float_of, (policy.span, policy.hold, policy.max_hold))
        self.lease, self.decay, self.width = (
            float_of(policy.lease),
            float_of(policy.decay),
            float_of(policy.window) / 10,
        )
        self.slow_after = float("inf") if policy.slow_after is None else float_of(policy.slow_after)
        self.state = CLOSED
        self.events: list[tuple[int, bool, float]] = []  # bucket, answered, how long it took
        self.row: list[float] = []
        self.openings = self.successes = self.generation = 0
        self.right_at = self.until = self.lease_until = 0.0
        self.probe: int | None = None
        self.forced: list[CircuitState] = []

    def admit(self, ticket: int, now: float) -> object:
        """What the ticket must stand for; (generation, probe) or None."""
        if self.state is OPEN and now >= self.until:
            self.state = HALF_OPEN
        if self.state in (CLOSED, FORCED_CLOSED):
            return "call"
        if self.state is HALF_OPEN and now >= (self.until if self.probe is None else self.lease_until):
            self.probe, self.lease_until = ticket, now + self.lease
            return "probe"
        return "rejected"

    def closes(self) -> None:
        self.state, self.events, self.row, self.successes, self.probe = CLOSED, [], [], 0, None
        self.generation += 1

    def report(
        self, ticket: int, generation: int, ok: bool, now: float, took: float
    ) -> tuple[CircuitState, CircuitState] | None:
        if ticket > 0:
            if generation != self.generation or self.state not in (CLOSED, FORCED_CLOSED):
                return None
            return self.closed(ok, now, took)
        if ticket != self.probe or now >= self.lease_until:
            return None
        self.probe = None
        if not ok or took > self.slow_after:
            return self.opens(now)
        self.successes += 1
        if self.successes < self.policy.probes:
            return None
        self.closes()
        self.right_at = now
        return HALF_OPEN, CLOSED

    def closed(self, ok: bool, now: float, took: float) -> tuple[CircuitState, CircuitState] | None:
        if self.state is FORCED_CLOSED:
            return None
        self.events.append((int(now // self.width), ok, took))
        self.row = [] if ok else [*self.row, now]
        window = [(good, lasted) for bucket, good, lasted in self.events if bucket + 10 > now // self.width]
        row = len(self.row) >= self.policy.consecutive and now - self.row[0] >= self.span
        enough = len(window) >= self.policy.min_calls
        rate = enough and sum(not good for good, _ in window) >= self.policy.failure_rate * len(window)
        if not ok and (row or rate):
            return self.opens(now)
        if not enough or (ok and took <= self.slow_after):
            return None
        quick = sum(good and lasted <= self.slow_after for good, lasted in window)
        if self.policy.slow_after is not None and len(window) - quick >= self.policy.slow_rate * len(window):
            return self.opens(now)
        lost = sum(max(0.0, lasted - self.slow_after) if good else lasted for good, lasted in window)
        if self.policy.lost_time is not None and lost / len(window) >= float_of(self.policy.lost_time):
            return self.opens(now)
        return None

    def opens(self, now: float) -> tuple[CircuitState, CircuitState]:
        before = self.state
        if before is CLOSED:
            self.openings = max(0, self.openings - int((now - self.right_at) // self.decay))
        self.openings += 1
        self.state, self.probe, self.successes = OPEN, None, 0
        self.generation += 1
        return before, OPEN

    def force(self) -> None:
        self.openings = 0
        self.closes()
        if self.forced:
            self.state = FORCED_OPEN if FORCED_OPEN in self.forced else FORCED_CLOSED


class CircuitMachine(RuleBasedStateMachine):
    tickets: Bundle[tuple[int, int, float]] = Bundle("tickets")
    handles: Bundle[tuple[Forced, CircuitState, list[bool]]] = Bundle("handles")

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.roll = 0.5
        self.seen: set[int] = set()

    @initialize(policy=st.sampled_from(POLICIES))
    def begin(self, policy: BreakerPolicy) -> None:
        self.model = Model(policy)
        self.breaker = Breaker(policy, lambda: self.roll, RLock())

    @rule(step=STEPS, roll=st.sampled_from([0.0, 0.5, 1.0]))
    def wait(self, step: float, roll: float) -> None:
        self.now += step
        self.roll = roll

    @precondition(lambda self: self.model.state is OPEN)
    @rule()
    def wait_for_the_hold(self) -> None:
        self.now = max(self.now, self.model.until)

    @rule(target=tickets)
    def admit(self) -> tuple[int, int, float]:
        ticket = self.breaker.admit(self.now)
        expected = self.model.admit(ticket, self.now)
        assert expected == ("rejected" if ticket == REJECTED else "call" if ticket > 0 else "probe")
        if ticket < 0:
            assert ticket not in self.seen
            self.seen.add(ticket)
        return ticket, self.model.generation, self.now

    @rule(ticket=tickets, ok=st.booleans(), took=TOOK)
    def report(self, ticket: tuple[int, int, float], ok: bool, took: float) -> None:
        number, generation, _ = ticket
        change = (self.breaker.answered if ok else self.breaker.failure)(number, self.now, took)
        self.agree(change, self.model.report(number, generation, ok, self.now, took))

    @rule(took=TOOK)
    def call_fails(self, took: float) -> None:
        self.report(self.admit(), ok=False, took=took)

    @rule(took=TOOK)
    def call_succeeds(self, took: float) -> None:
        self.report(self.admit(), ok=True, took=took)

    @rule(ticket=tickets)
    def succeeds_untimed(self, ticket: tuple[int, int, float]) -> None:
        change = self.breaker.success(ticket[0], self.now)
        self.agree(change, self.model.report(ticket[0], ticket[1], ok=True, now=self.now, took=0.0))

    @rule(ticket=tickets)
    def is_neutral(self, ticket: tuple[int, int, float]) -> None:
        self.is_neutral_until(ticket, float("-inf"))

    @rule(ticket=tickets, later=STEPS)
    def puts_the_next_probe_off(self, ticket: tuple[int, int, float], later: float) -> None:
        self.is_neutral_until(ticket, self.now + later)

    def is_neutral_until(self, ticket: tuple[int, int, float], until: float) -> None:
        self.breaker.neutral(ticket[0], until)
        if ticket[0] < 0 and ticket[0] == self.model.probe:
            self.model.probe, self.model.until = None, until

    @rule(target=handles, state=st.sampled_from([FORCED_OPEN, FORCED_CLOSED]))
    def force(self, state: CircuitState) -> tuple[Forced, CircuitState, list[bool]]:
        handle = self.breaker.force_open() if state is FORCED_OPEN else self.breaker.force_closed()
        self.model.forced.append(state)
        self.model.force()
        return handle, state, []

    @rule(held=handles)
    def release(self, held: tuple[Forced, CircuitState, list[bool]]) -> None:
        handle, state, released = held
        handle.release()
        if not released:
            released.append(True)
            self.model.forced.remove(state)
            self.model.force()

    def agree(self, change: Transition | None, expected: tuple[CircuitState, CircuitState] | None) -> None:
        assert (change and (change.before, change.after)) == expected
        if change is not None and change.after is OPEN:
            longest = min(self.model.longest, self.model.hold * 2.0 ** (self.model.openings - 1))
            assert change.hold == longest * (0.5 + self.roll / 2)
            self.model.until = self.now + change.hold
        elif change is not None:
            assert change.hold == 0.0

    @invariant()
    def looks_the_same(self) -> None:
        assert self.breaker.state is self.model.state
        left = max(0.0, self.model.until - self.now) if self.model.state in (OPEN, HALF_OPEN) else 0.0
        assert self.breaker.retry_in(self.now) == left


TestCircuit = CircuitMachine.TestCase


Calls = list[tuple[float, bool, float]]  # seconds since the call before, answered, seconds it took
CALLS = st.lists(st.tuples(STEPS, st.booleans(), TOOK), min_size=3, max_size=40)
NEUTRALS = st.lists(st.integers(0, 40), max_size=20)
SOME = st.sampled_from(POLICIES)


def trip_step(calls: Calls, neutral_before: frozenset[int] = frozenset(), policy: BreakerPolicy = POLICY) -> int:
    """The number of the call that opens the circuit, one past the last for none."""
    breaker = Breaker(policy, lambda: 0.0, RLock())
    now = 0.0
    for number, (step, ok, took) in enumerate(calls):
        now += step
        if number in neutral_before:
            breaker.neutral(breaker.admit(now))
            breaker.admit(now)  # one that never reports
        if (breaker.answered if ok else breaker.failure)(breaker.admit(now), now, took):
            return number
    return len(calls)


@given(CALLS, NEUTRALS, SOME)
def test_neutral_results_anywhere_leave_the_step_that_opens_unchanged(
    calls: Calls, where: list[int], policy: BreakerPolicy
) -> None:
    assert trip_step(calls, frozenset(where), policy) == trip_step(calls, policy=policy)


@given(CALLS, SOME, st.data())
def test_a_failure_turned_into_a_success_never_opens_earlier(
    calls: Calls, policy: BreakerPolicy, data: st.DataObject
) -> None:
    turned = data.draw(st.integers(0, len(calls) - 1))
    better = [(step, ok or number == turned, took) for number, (step, ok, took) in enumerate(calls)]
    assert trip_step(better, policy=policy) >= trip_step(calls, policy=policy)


@given(CALLS, SOME, st.data())
def test_a_slow_call_turned_into_a_quick_one_never_opens_earlier(
    calls: Calls, policy: BreakerPolicy, data: st.DataObject
) -> None:
    turned = data.draw(st.integers(0, len(calls) - 1))
    better = [(step, ok, 0.0 if number == turned else took) for number, (step, ok, took) in enumerate(calls)]
    assert trip_step(better, policy=policy) >= trip_step(calls, policy=policy)


def test_the_steps_compared_do_open() -> None:
    assert trip_step([(0.125, False, 0.0)] * 3) == 2
    assert trip_step([(0.0, False, 0.0)] * 10) == 4
    assert trip_step([(0.0, True, 0.25)] * 10, policy=POLICIES[1]) == 4
    assert trip_step([(0.0, ok, 0.5) for ok in (True, True, True, False, True)], policy=POLICIES[2]) == 5
    assert trip_step([(0.0, ok, 0.5) for ok in (True, True, True, True, False, False)], policy=POLICIES[2]) == 5


def test_no_option_has_one_value_only_above() -> None:
    for option in fields(BreakerPolicy):
        assert len({getattr(policy, option.name) for policy in (BreakerPolicy(), *POLICIES)}) > 1, option.name
