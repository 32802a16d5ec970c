"""Counters, hooks, the kill switch and the deadline: what tells, and changes nothing."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from resilient_cache._reporting import Reporter, Seldom
from resilient_cache._switch import FOREVER, Bypass, Switch
from resilient_cache.control import Control, Seen
from resilient_cache.deadline import CURRENT, remaining
from resilient_cache.errors import MisuseError
from resilient_cache.events import Event, Served
from resilient_cache.outcome import Mode, Reason, Source
from resilient_cache.testing import ManualClock

EVENT = Served("c", Source.NONE, Reason.ABSENT)


class Clocks:
    def __init__(self) -> None:
        self.steady = 500.0

    def monotonic(self) -> float:
        return self.steady


def test_seldom_is_yes_once_an_interval_and_at_its_end_again() -> None:
    seldom = Seldom(60.0)
    assert [seldom.due(now) for now in (0.0, 0.0, 59.9, 60.0, 119.9, 120.0)] == [True, False, False, True, False, True]


def test_counts_count() -> None:
    reporter = Reporter("c", (), Clocks().monotonic)
    for name in "aab":
        reporter.count(name)
    assert dict(reporter.counts) == {"a": 2, "b": 1}
    reporter.tell(EVENT)
    assert dict(reporter.counts) == {"a": 2, "b": 1}


def test_every_hook_is_told_in_order_whatever_those_before_it_do(caplog: pytest.LogCaptureFixture) -> None:
    clocks = Clocks()
    told: list[tuple[str, Event]] = []

    def raises(event: Event) -> None:
        told.append(("raises", event))
        raise ValueError("hook")

    reporter = Reporter("c", iter([raises, lambda event: told.append(("second", event))]), clocks.monotonic)
    with caplog.at_level(logging.WARNING, "resilient_cache"):
        for clocks.steady in (0.0, 59.0, 60.0):
            reporter.tell(EVENT)
    assert told == [("raises", EVENT), ("second", EVENT)] * 3
    assert reporter.counts["hook_errors"] == 3
    assert [record.getMessage() for record in caplog.records] == ["cache c: a hook failed; it changed no outcome"] * 2
    assert all(record.exc_info for record in caplog.records)


def test_what_a_hook_does_is_not_told_to_hooks_but_what_follows_is() -> None:
    told: list[Event] = []

    def again(event: Event) -> None:
        told.append(event)
        reporter.tell(EVENT)

    reporter = Reporter("c", [again], Clocks().monotonic)
    reporter.tell(EVENT)
    reporter.tell(EVENT)
    assert told == [EVENT, EVENT]


def test_what_is_no_exception_passes_and_leaves_the_next_event_told() -> None:
    told: list[Event] = []

    def interrupted(event: Event) -> None:
        told.append(event)
        if len(told) == 1:
            raise KeyboardInterrupt

    reporter = Reporter("c", [interrupted], Clocks().monotonic)
    with pytest.raises(KeyboardInterrupt):
        reporter.tell(EVENT)
    reporter.tell(EVENT)
    assert len(told) == 2
    assert "hook_errors" not in reporter.counts


async def a_coroutine(event: Event) -> None: ...


@pytest.mark.parametrize("hook", [None, "hook", 5, a_coroutine])
def test_a_hook_that_can_never_be_told_is_misuse(hook: Any) -> None:
    with pytest.raises(MisuseError, match=r"^hooks must be plain callables"):
        Reporter("c", [hook], Clocks().monotonic)


@pytest.mark.parametrize("hooks", [None, 5, print])
def test_hooks_that_are_no_list_are_misuse(hooks: Any) -> None:
    with pytest.raises(MisuseError, match=r"^hooks must be a list of callables"):
        Reporter("c", hooks, Clocks().monotonic)


# the switch


def switch_of(setting: Any = Mode.ON) -> tuple[Switch, Reporter]:
    reporter = Reporter("c", (), Clocks().monotonic)
    return Switch(setting, reporter, Clocks().monotonic), reporter


@pytest.mark.parametrize("mode", list(Mode))
def test_a_mode_is_in_force_until_the_next_is_set(mode: Mode) -> None:
    switch, _ = switch_of()
    assert switch.mode() is Mode.ON
    switch.set(mode)
    assert switch.mode() is mode
    switch.set(Mode.ON)
    assert switch.mode() is Mode.ON
    assert switch_of(mode)[0].mode() is mode
    assert switch_of(str(mode))[0].mode() is mode


@pytest.mark.parametrize("setting", ["off", None, 5, [], True])
def test_what_is_no_mode_is_misuse_and_leaves_the_mode(setting: Any) -> None:
    switch, _ = switch_of(Mode.READ_ONLY)
    with pytest.raises(MisuseError, match=r"^mode must be one of Mode\.ON, .*, Mode\.FROZEN or a function"):
        switch.set(setting)
    assert switch.mode() is Mode.READ_ONLY


def test_a_function_is_asked_each_time_and_its_failure_leaves_the_mode(caplog: pytest.LogCaptureFixture) -> None:
    answers: list[Any] = [Mode.BYPASS, "frozen", LookupError(), "nonsense", None, Mode.READ_ONLY]

    def ask() -> Mode:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        mode: Mode = answer
        return mode

    switch, reporter = switch_of(ask)
    with caplog.at_level(logging.WARNING, "resilient_cache"):
        got = [switch.mode() for _ in range(6)]
    assert got == [Mode.BYPASS, Mode.FROZEN, Mode.FROZEN, Mode.FROZEN, Mode.FROZEN, Mode.READ_ONLY]
    assert reporter.counts["mode_errors"] == 3
    assert [record.getMessage() for record in caplog.records] == ["cache c: the mode function failed"]
    assert [(record.exc_info or (None,))[0] for record in caplog.records] == [LookupError]  # the first


def test_a_function_that_never_answers_leaves_it_on_and_what_is_no_exception_passes() -> None:
    def fails() -> Mode:
        raise LookupError

    def interrupted() -> Mode:
        raise KeyboardInterrupt

    assert switch_of(fails)[0].mode() is Mode.ON
    with pytest.raises(KeyboardInterrupt):
        switch_of(interrupted)[0].mode()


def test_a_bypass_goes_before_any_mode_and_ends_with_the_last_of_them() -> None:
    switch, _ = switch_of(Mode.FROZEN)
    first, second = switch.hold_locked(FOREVER), switch.hold_locked(FOREVER)
    assert switch.mode() is Mode.BYPASS
    switch.release_locked(first)
    assert switch.mode() is Mode.BYPASS
    switch.release_locked(first)
    assert switch.mode() is Mode.BYPASS
    switch.release_locked(second)
    assert switch.mode() is Mode.FROZEN


def test_a_bypass_ends_by_itself_and_the_longest_of_them_is_the_last() -> None:
    clocks = Clocks()
    switch = Switch(Mode.ON, Reporter("c", (), clocks.monotonic), clocks.monotonic)
    assert (switch.mode(), switch.ends_in) == (Mode.ON, None)
    for lasting in (5.0, 9.0, 7.0):
        switch.hold_locked(lasting)
    assert switch.ends_in == 9.0
    clocks.steady += 8.75
    seen: list[Any] = [switch.mode(), switch.ends_in, switch.steady]
    clocks.steady += 0.25
    seen += [switch.mode(), switch.ends_in, switch.steady]
    assert seen == [Mode.BYPASS, 0.25, False, Mode.ON, None, True]
    handle = switch.hold_locked(1.0)
    assert list(switch._bypasses) == [handle]  # nobody releases what has ended by itself: it is forgotten
    switch.hold_locked(FOREVER)
    assert switch.ends_in is None


def test_a_mode_stays_as_it_is_known_unless_it_is_asked_for_bypassed_or_over() -> None:
    """Then nobody has to be asked for it at every request."""
    switch, _ = switch_of(Mode.FROZEN)
    seen = [switch.fixed]
    handle = switch.hold_locked(FOREVER)
    seen.append(switch.fixed)
    switch.release_locked(handle)
    seen.append(switch.fixed)
    switch.closed = True
    assert [*seen, switch.fixed] == [True, False, True, False]
    assert switch_of(lambda: Mode.ON)[0].fixed is False


def test_what_is_set_by_hand_while_a_function_is_asked_holds() -> None:
    """Whatever that function then says, or raises."""
    for said in (Mode.ON, LookupError()):
        asked: list[Switch] = []

        def ask(said: Any = said, asked: list[Switch] = asked) -> Mode:
            asked[0].set(Mode.BYPASS)
            if isinstance(said, Exception):
                raise said
            return said  # type: ignore[no-any-return]

        switch, _ = switch_of(ask)
        asked.append(switch)
        assert switch.mode() is Mode.ON
        assert (switch.mode(), switch.known) == (Mode.BYPASS, Mode.BYPASS)


def test_a_control_that_fails_while_it_is_replaced_by_hand_is_asked_for_what_it_had() -> None:
    clock = ManualClock()

    class Replaced(Control):
        def _look(self) -> None:
            switch.set(Mode.FROZEN)
            raise OSError("lost")

    switch = Switch(Replaced(0, clock), Reporter("c", (), clock.monotonic), clock.monotonic)
    assert [switch.mode(), switch.mode()] == [Mode.ON, Mode.FROZEN]


class Lost(Control):
    """It is found to say what it says, and never again."""

    def _look(self) -> None:
        if self._seen.text:
            raise OSError("lost")
        self._heed(Seen(text="read_only for 60"), self._clock.time())


def test_a_timed_mode_that_cannot_be_looked_up_any_more_ends_all_the_same() -> None:
    clock = ManualClock()
    clock.jump(1_000.0 - clock.time())
    switch = Switch(Lost(0, clock), Reporter("c", (), clock.monotonic), clock.monotonic)
    seen = [switch.mode(), switch.mode()]
    clock.advance(60)
    assert [*seen, switch.mode()] == [Mode.READ_ONLY, Mode.READ_ONLY, Mode.ON]


def test_a_handle_lets_go_once() -> None:
    let_go: list[str] = []
    bypass = Bypass(lambda: let_go.append("!"))
    with bypass as handle:
        assert (handle, let_go) == (bypass, [])
    bypass.release()
    assert let_go == ["!"]
    with pytest.raises(MisuseError, match=r"was released: call bypassed\(\) again"):
        bypass.__enter__()


@pytest.mark.parametrize("mode", list(Mode))
def test_memory_may_answer_at_once_in_a_steady_mode_only(mode: Mode) -> None:
    switch, _ = switch_of(mode)
    assert switch.steady is (mode is not Mode.BYPASS)
    handle = switch.hold_locked(FOREVER)
    assert not switch.steady
    switch.release_locked(handle)
    assert switch.steady is (mode is not Mode.BYPASS)
    switch.closed = True
    assert not switch.steady
    assert not switch_of(lambda: mode)[0].steady


# the deadline


def test_the_deadline_is_what_is_left_and_never_below_nothing() -> None:
    assert remaining() is None
    clocks = Clocks()
    token = CURRENT.set((500.25, clocks.monotonic))
    try:
        assert remaining() == 0.25
        clocks.steady = 501.0
        assert remaining() == 0.0
    finally:
        CURRENT.reset(token)
    assert remaining() is None
