"""A circuit against a model that remembers every event, with tickets in flight; and its two symmetries."""

from __future__ import annotations

from threading import RLock

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from resilient_cache.breaker import REJECTED, Breaker, Forced, Transition
from resilient_cache.events import CircuitState
from resilient_cache.policy import BreakerPolicy

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FORCED_OPEN, FORCED_CLOSED = CircuitState.FORCED_OPEN, CircuitState.FORCED_CLOSED

POLICY = BreakerPolicy(consecutive=3, span=0.25, failure_rate=0.5, min_calls=5, decay=8.0, max_hold=6.0)
STEPS = st.sampled_from([0.0, 0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.5, 5.0, 20.0])


class Model:
    """What semantics section 5 says, the long way: the window is a list of events, counted anew each time."""

    def __init__(self) -> None:
        self.state = CLOSED
        self.events: list[tuple[int, bool]] = []  # bucket, failed
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
        if self.state is HALF_OPEN and (self.probe is None or now >= self.lease_until):
            self.probe, self.lease_until = ticket, now + 2.0
            return "probe"
        return "rejected"

    def closes(self) -> None:
        self.state, self.events, self.row, self.successes, self.probe = CLOSED, [], [], 0, None
        self.generation += 1

    def report(self, ticket: int, generation: int, ok: bool, now: float) -> tuple[CircuitState, CircuitState] | None:
        if ticket > 0:
            if generation != self.generation or self.state not in (CLOSED, FORCED_CLOSED):
                return None
            return self.closed(ok, now)
        if ticket != self.probe or now >= self.lease_until:
            return None
        self.probe = None
        if not ok:
            return self.opens(now)
        self.successes += 1
        if self.successes < 2:
            return None
        self.closes()
        self.right_at = now
        return HALF_OPEN, CLOSED

    def closed(self, ok: bool, now: float) -> tuple[CircuitState, CircuitState] | None:
        if self.state is FORCED_CLOSED:
            return None
        self.events.append((int(now // 0.5), not ok))
        self.row = [] if ok else [*self.row, now]
        if ok:
            return None
        window = [failed for bucket, failed in self.events if bucket + 10 > now // 0.5]
        row = len(self.row) >= 3 and now - self.row[0] >= 0.25
        return self.opens(now) if row or (len(window) >= 5 and 2 * sum(window) >= len(window)) else None

    def opens(self, now: float) -> tuple[CircuitState, CircuitState]:
        before = self.state
        if before is CLOSED:
            self.openings = max(0, self.openings - int((now - self.right_at) // 8.0))
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
        self.model = Model()
        self.breaker = Breaker(POLICY, lambda: self.roll, RLock())
        self.seen: set[int] = set()

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

    @rule(ticket=tickets, ok=st.booleans())
    def report(self, ticket: tuple[int, int, float], ok: bool) -> None:
        number, generation, _ = ticket
        change = (self.breaker.success if ok else self.breaker.failure)(number, self.now)
        self.agree(change, self.model.report(number, generation, ok, self.now))

    @rule()
    def call_fails(self) -> None:
        self.report(self.admit(), ok=False)

    @rule()
    def call_succeeds(self) -> None:
        self.report(self.admit(), ok=True)

    @rule(ticket=tickets)
    def is_neutral(self, ticket: tuple[int, int, float]) -> None:
        self.breaker.neutral(ticket[0])
        if ticket[0] < 0 and ticket[0] == self.model.probe:
            self.model.probe = None

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
            longest = min(6.0, 2.0 ** (self.model.openings - 1))
            assert change.hold == longest * (0.5 + self.roll / 2)
            self.model.until = self.now + change.hold
        elif change is not None:
            assert change.hold == 0.0

    @invariant()
    def looks_the_same(self) -> None:
        assert self.breaker.state is self.model.state
        left = max(0.0, self.model.until - self.now) if self.model.state is OPEN else 0.0
        assert self.breaker.retry_in(self.now) == left


TestCircuit = CircuitMachine.TestCase


Calls = list[tuple[float, bool]]
CALLS = st.lists(st.tuples(STEPS, st.booleans()), min_size=3, max_size=40)
NEUTRALS = st.lists(st.integers(0, 40), max_size=20)


def trip_step(calls: Calls, neutral_before: frozenset[int] = frozenset()) -> int:
    """The number of the call that opens the circuit, one past the last for none."""
    breaker = Breaker(POLICY, lambda: 0.0, RLock())
    now = 0.0
    for number, (step, ok) in enumerate(calls):
        now += step
        if number in neutral_before:
            breaker.neutral(breaker.admit(now))
            breaker.admit(now)  # one that never reports
        if (breaker.success if ok else breaker.failure)(breaker.admit(now), now):
            return number
    return len(calls)


@given(CALLS, NEUTRALS)
def test_neutral_results_anywhere_leave_the_step_that_opens_unchanged(
    calls: list[tuple[float, bool]], where: list[int]
) -> None:
    assert trip_step(calls, frozenset(where)) == trip_step(calls)


@given(CALLS, st.data())
def test_a_failure_turned_into_a_success_never_opens_earlier(calls: Calls, data: st.DataObject) -> None:
    turned = data.draw(st.integers(0, len(calls) - 1))
    better = [(step, ok or number == turned) for number, (step, ok) in enumerate(calls)]
    assert trip_step(better) >= trip_step(calls)


def test_the_steps_compared_do_open() -> None:
    assert trip_step([(0.125, False)] * 3) == 2
    assert trip_step([(0.0, False)] * 10) == 4
