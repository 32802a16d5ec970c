"""The checker on histories made by hand: each rule sees the breach it is there for, and nothing in its neighbour."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from resilient_cache import Mode, NotFound, OriginOverloaded, Source
from resilient_cache.errors import LoadTimeout, NoSafeValue
from resilient_cache.events import CircuitState
from resilient_cache.outcome import Direction, Invalidation, Lookup, Operation, Reason
from resilient_cache.testing.simulation.checker import check
from resilient_cache.testing.simulation.histories import (
    SECOND,
    Call,
    Command,
    Ending,
    History,
    Load,
    Rest,
    read_value,
    value_of,
)
from resilient_cache.testing.simulation.limits import Limits

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


class Tale:
    """A history under construction."""

    def __init__(self) -> None:
        self.at = 0.0
        self.history = History(lambda: self.at)

    def call(self, operation: str = "get", key: str = "k", mode: Mode = Mode.ON, process: int = 0) -> Call:
        call = self.history.call(process, "c", operation, key, mode)
        call.served = int(operation not in ("set", "invalidate"))
        return call

    def answer(self, call: Call, value: object, source: Source = Source.MEMORY) -> Call:
        call.source = source
        self.history.answer(call, value)
        return call

    def fail(self, call: Call, error: BaseException) -> Call:
        self.history.end(call, Ending.RAISED, error)
        return call

    def load(self, key: str = "k", fresh: float = 1.0, stale: float = 0.0, process: int = 0) -> Load:
        """One caller loads and gets its value."""
        call = self.call("get_or_load", key, process=process)
        load = self.history.load(call, fresh, stale)
        self.history.end(load, Ending.VALUE)
        self.answer(call, value_of(key, load.number), Source.LOADER)
        return load

    def invalidate(self, result: Invalidation = Invalidation.PENDING) -> Call:
        return self.answer(self.call("invalidate"), result)

    def command(self, operation: Operation = Operation.GET, state: CircuitState = CLOSED, call: int = 0) -> Command:
        return self.history.command(0, operation, "k", state, call)

    def turn(self, before: CircuitState, after: CircuitState) -> None:
        self.history.transition(0, Direction.READ, before, after, 1.0)

    def broken(self, limits: Limits | None = None) -> set[str]:
        return {violation.rule for violation in check(self.history, limits or Limits())}


Telling = Callable[[Tale, bool], str | tuple[str, Limits]]


def unknown_value(tale: Tale, wrong: bool) -> str:
    load = tale.load()
    tale.answer(tale.call(), "k@999" if wrong else value_of("k", load.number))
    return "unknown value"


def wrong_key(tale: Tale, wrong: bool) -> str:
    load = tale.load("other" if wrong else "k")
    tale.answer(tale.call(), value_of("other" if wrong else "k", load.number))
    return "wrong key"


def from_the_future(tale: Tale, wrong: bool) -> str:
    call = tale.call("get_or_load")
    if wrong:
        tale.answer(call, None, Source.LOADER)
    load = tale.history.load(call, 1.0, 0.0)
    tale.history.end(load, Ending.VALUE)
    if not wrong:
        tale.answer(call, None, Source.LOADER)
    call.ending, call.value = Ending.VALUE, value_of("k", load.number)
    return "value from the future"


def refresh_of_old(tale: Tale, wrong: bool) -> str:
    old = tale.load()
    call = tale.call("refresh")
    new = tale.history.load(call, 1.0, 0.0)
    tale.history.end(new, Ending.VALUE)
    tale.answer(call, value_of("k", (old if wrong else new).number), Source.LOADER)
    return "refresh gave an older load"


def fenced(tale: Tale, wrong: bool) -> str:
    load = tale.load()
    early = tale.call()
    tale.invalidate()
    late = tale.call()
    tale.answer(early, value_of("k", load.number))  # asked before the invalidation, answered after it
    tale.answer(late, value_of("k", load.number) if wrong else None)
    return "served past a fence"


def across_a_set(tale: Tale, wrong: bool) -> str:
    load = tale.load()
    tale.answer(tale.call("set"), True)
    tale.answer(tale.call("get_or_load"), value_of("k", load.number), Source.LOADER if wrong else Source.STORE)
    return "joined across a set"


def too_old(tale: Tale, wrong: bool) -> str:
    load = tale.load(stale=2.0)
    tale.at = 2.0
    tale.answer(tale.call(), value_of("k", load.number), Source.STORE if wrong else Source.STALE)
    return "served past its window"


def too_old_elsewhere(tale: Tale, wrong: bool) -> str:
    load = tale.load(process=1)
    tale.at = 1.6 if wrong else 1.4
    tale.answer(tale.call(), value_of("k", load.number), Source.STORE)
    return "served past its window"


def unconfirmed(tale: Tale, wrong: bool) -> str:
    call = tale.call("invalidate")
    command = tale.command(Operation.DELETE, call=call.number)
    tale.history.end(command, Ending.RAISED if wrong else Ending.DONE, OSError() if wrong else None)
    tale.answer(call, Invalidation.CONFIRMED)
    return "confirmed without a word of the store"


def strange_error(tale: Tale, wrong: bool) -> str:
    call = tale.call("get_or_load")
    load = tale.history.load(call, 1.0, 0.0)
    error = OSError("origin")
    tale.history.end(load, Ending.RAISED, error)
    tale.fail(call, OSError("origin") if wrong else error)
    return "raised what is not the loader's"


def remembered_error(tale: Tale, wrong: bool) -> tuple[str, Limits]:
    call = tale.call("get_or_load")
    load = tale.history.load(call, 1.0, 0.0)
    error = OSError("origin")
    tale.history.end(load, Ending.RAISED, error)
    tale.fail(call, error)
    tale.at = 9.0 if wrong else 2.0
    tale.fail(tale.call("get_or_load"), error)
    return "raised what is not the loader's", Limits(error_ttl=3.0)


def repeated_error(tale: Tale, wrong: bool) -> str:
    error = OSError("origin")
    for at in (0.0, 9.0):
        tale.at = at
        call = tale.call("get_or_load")
        if not at or not wrong:
            tale.history.end(tale.history.load(call, 1.0, 0.0), Ending.RAISED, error)
        tale.fail(call, error)
    return "raised what is not the loader's"


def none_for_too_long(tale: Tale, wrong: bool) -> str:
    call = tale.call("get_or_load")
    load = tale.history.load(call, 1.0, 0.0)
    load.none = True
    tale.history.end(load, Ending.RAISED, NotFound("k"))
    tale.fail(call, NotFound("k"))
    tale.at = 61.0 if wrong else 59.0
    tale.fail(tale.call("get_or_load"), NotFound("k"))
    return "raised what is not the loader's"


def our_own_errors(tale: Tale, wrong: bool) -> tuple[str, Limits]:
    frozen = Mode.ON if wrong else Mode.FROZEN
    tale.fail(tale.call("get_or_load"), LoadTimeout("late"))
    tale.fail(tale.call("get_or_load", mode=frozen), NoSafeValue("none"))
    tale.fail(tale.call("get_or_load"), OriginOverloaded("too many"))
    limits = Limits() if wrong else Limits(load_timeout=1.0, max_loads=1)
    return "raised what is not the loader's", limits


def cancelled_by_nobody(tale: Tale, wrong: bool) -> str:
    call = tale.call()
    if not wrong:
        tale.history.cancel(call)
    tale.history.end(call, Ending.CANCELLED)
    call.served = 0
    return "cancelled by nobody"


def swallowed(tale: Tale, wrong: bool) -> str:
    call = tale.call()
    tale.history.cancel(call)
    if wrong:
        tale.answer(call, None, Source.NONE)
    else:
        tale.history.end(call, Ending.CANCELLED)
        call.served = 0
    return "a cancellation was swallowed"


def kept_waiting(tale: Tale, wrong: bool) -> str:
    call = tale.call("get_or_load")
    tale.history.cancel(call)
    tale.at = 1.0 if wrong else 0.0
    tale.history.end(call, Ending.CANCELLED)
    call.served = 0
    return "a cancellation was kept waiting"


def endless(tale: Tale, wrong: bool) -> str:
    call = tale.call()
    call.served = 0
    if not wrong:
        tale.answer(call, None, Source.NONE).served = 1
    return "a call never ended"


def slow(tale: Tale, wrong: bool) -> str:
    call = tale.call()
    tale.at = 0.3 if wrong else 0.25
    tale.answer(call, None, Source.NONE)
    return "waited longer than the timeout"


def two_loads(tale: Tale, wrong: bool) -> str:
    calls = [tale.call("get_or_load"), tale.call("get_or_load")]
    first = tale.history.load(calls[0], 1.0, 0.0)
    if not wrong:
        tale.invalidate()
    second = tale.history.load(calls[1], 1.0, 0.0)
    for call, load in zip(calls, (first, second), strict=True):
        tale.history.end(load, Ending.VALUE)
        tale.answer(call, value_of("k", load.number), Source.LOADER)
    return "two loads at once"


def many_loads(tale: Tale, wrong: bool) -> tuple[str, Limits]:
    for key in "ab":
        call = tale.call("get_or_load", key)
        load = tale.history.load(call, 1.0, 0.0)
        tale.history.end(call, Ending.CANCELLED)
        call.cancelled, call.cancelled_at, call.served = load.number, 0.0, 0
    return "more loads at once than max_loads", Limits(max_loads=1 if wrong else 2)


def many_commands(tale: Tale, wrong: bool) -> tuple[str, Limits]:
    for _ in range(2):
        tale.command()
        tale.at += 0.0 if wrong else 6.0
    return "more store calls at once than max_store_calls", Limits(max_store_calls=1)


def disobedient(tale: Tale, wrong: bool) -> str:
    call = tale.answer(tale.call(mode=Mode.BYPASS if wrong else Mode.READ_ONLY), None, Source.NONE)
    tale.command(call=call.number)
    return "a mode was not obeyed"


def _open(tale: Tale, failures: int = 5) -> None:
    for _ in range(failures):
        tale.history.end(tale.command(), Ending.RAISED, OSError())
    tale.turn(CLOSED, OPEN)


def through_an_open_circuit(tale: Tale, wrong: bool) -> str:
    _open(tale)
    tale.at = 0.1 if wrong else 0.0  # at the same moment it may have been admitted before
    tale.history.end(tale.command(state=OPEN), Ending.DONE)
    return "a call through an open circuit"


def never_opened(tale: Tale, wrong: bool) -> str:
    tale.command(state=OPEN if wrong else CLOSED)
    return "a call through an open circuit"


def two_probes(tale: Tale, wrong: bool) -> str:
    _open(tale)
    tale.command(state=HALF_OPEN)
    tale.at = 0.1 if wrong else 0.25
    tale.command(state=HALF_OPEN)
    return "two probes at once"


def opened_for_nothing(tale: Tale, wrong: bool) -> str:
    _open(tale, failures=4 if wrong else 5)
    return "opened without its failures"


def opened_by_silence(tale: Tale, wrong: bool) -> str:
    for _ in range(5):
        tale.command()
    tale.at = 0.1 if wrong else 0.25
    tale.turn(CLOSED, OPEN)
    tale.command()
    return "opened without its failures"


def closed_for_nothing(tale: Tale, wrong: bool) -> str:
    _open(tale)
    for _ in range(1 if wrong else 2):
        tale.history.end(tale.command(state=HALF_OPEN), Ending.DONE)
    tale.turn(HALF_OPEN, CLOSED)
    return "closed without its successes"


def stays_open(tale: Tale, wrong: bool) -> str:
    _open(tale)
    tale.history.healed = tale.at
    if not wrong:
        for _ in range(2):
            tale.history.end(tale.command(state=HALF_OPEN), Ending.DONE)
        tale.turn(HALF_OPEN, CLOSED)
    return "a circuit did not close again"


def opens_when_well(tale: Tale, wrong: bool) -> str:
    tale.history.healed = 0.0
    tale.at = 1.0 if wrong else 0.25
    _open(tale)
    return "opened although the store is well"


def second_misses(tale: Tale, wrong: bool) -> str:
    load = tale.load()
    tale.history.healed = 0.0
    again = tale.answer(tale.call(), value_of("k", load.number), Source.LOADER if wrong else Source.STORE)
    again.caller = SECOND
    return "a second read did not hit"


def told_twice(tale: Tale, wrong: bool) -> str:
    tale.answer(tale.call(), None, Source.NONE).served = 2 if wrong else 1
    return "not told once"


def counted_wrongly(tale: Tale, wrong: bool) -> str:
    tale.load()
    tale.fail(tale.call(), OSError())
    stats = {"requests": 2, "loads": 2 if wrong else 1, "errors": 1}
    tale.history.rests.append(Rest(0, stats, {"flights": 0, "stuck_flights": 0, "store_calls_in_flight": 0}))
    return "the counters do not add up"


def requests_wrongly(tale: Tale, wrong: bool) -> str:
    tale.load()
    stats = {"requests": 2 if wrong else 1, "loads": 1}
    tale.history.rests.append(Rest(0, stats, {"flights": 0, "stuck_flights": 0, "store_calls_in_flight": 0}))
    return "requests do not add up"


def left_over(tale: Tale, wrong: bool) -> str:
    health: dict[str, object] = {"flights": int(wrong), "stuck_flights": 0, "store_calls_in_flight": 0}
    tale.history.rests.append(Rest(0, {"requests": 0}, health))
    return "something is left"


def failed_inside(tale: Tale, wrong: bool) -> str:
    health: dict[str, object] = {"flights": 0, "stuck_flights": 0, "store_calls_in_flight": 0}
    tale.history.rests.append(Rest(0, {"requests": 0, "hook_errors": int(wrong)}, health))
    return "it failed inside"


def complaint(tale: Tale, wrong: bool) -> str:
    tale.history.complaints += ["a callback failed"] * wrong
    return "the runtime complains"


def useless(tale: Tale, wrong: bool) -> tuple[str, Limits]:
    load = tale.load()
    if wrong:
        tale.load()
    else:
        tale.answer(tale.call("get_or_load"), value_of("k", load.number), Source.MEMORY)
    return "not as useful as a dict", Limits(remembers=(True,))


TELLINGS: tuple[Telling, ...] = (
    unknown_value, wrong_key, from_the_future, refresh_of_old, fenced, across_a_set, too_old, too_old_elsewhere,
    unconfirmed, strange_error, none_for_too_long, remembered_error, repeated_error, our_own_errors,
    cancelled_by_nobody, swallowed, kept_waiting, endless, slow, two_loads, many_loads, many_commands, disobedient,
    through_an_open_circuit, never_opened, two_probes, opened_for_nothing, opened_by_silence, closed_for_nothing,
    stays_open, opens_when_well, second_misses, told_twice, counted_wrongly, requests_wrongly, left_over,
    failed_inside, complaint, useless,
)  # fmt: skip


@pytest.mark.parametrize("telling", TELLINGS, ids=lambda telling: telling.__name__)
@pytest.mark.parametrize("wrong", [True, False])
def test_a_breach_is_seen_and_its_neighbour_let_be(telling: Telling, wrong: bool) -> None:
    """The history that is wrong by one thing breaks the rule; the one that is right by one thing does not."""
    tale = Tale()
    told = telling(tale, wrong)
    rule, limits = told if isinstance(told, tuple) else (told, Limits())
    assert (rule in tale.broken(limits)) is wrong


def test_the_model_passes_over_what_clocks_cannot_tell() -> None:
    """Of a value of another process that is as old as the fence less the skew, both answers are right."""
    tale = Tale()
    tale.invalidate()
    tale.at = 1.0  # twice the skew
    load = tale.load(process=1)
    tale.answer(tale.call(), value_of("k", load.number), Source.STORE)
    assert not tale.broken(Limits(remembers=(False, False)))


def test_values_name_their_birth() -> None:
    """Whatever is no such value has none."""
    assert read_value(value_of("a@b", 7)) == ("a@b", 7)
    for other in (None, 7, "plain", "k@", "k@x"):
        assert read_value(other) is None


def test_a_history_can_be_read() -> None:
    """One line per event, in order, as far as one wants."""
    tale = Tale()
    call = tale.call("get_or_load", mode=Mode.READ_ONLY)
    load = tale.history.load(call, 1.0, 0.0)
    tale.history.end(load, Ending.VALUE)
    command = tale.command(call=call.number)
    command.fault = "lost"
    tale.history.end(command, Ending.RAISED, OSError("gone"))
    tale.answer(call, Lookup(value_of("k", load.number), Source.LOADER, Reason.ABSENT))
    tale.history.cancel(tale.call())
    tale.turn(CLOSED, OPEN)
    tale.turn(HALF_OPEN, CLOSED)
    tale.history.event("rain")
    assert call.source is Source.LOADER
    text = tale.history.text()
    assert [int(line.split()[0]) for line in text.splitlines()] == list(range(1, 12))
    for shown in ("get_or_load [read_only] #1", "k@2 from loader", "OSError(gone) (lost)", "is cancelled", "rain"):
        assert shown in text
    assert tale.history.text(until=2).splitlines() == text.splitlines()[:2]


@pytest.mark.parametrize("value", ["k@\u00b2", "k@\u0663", "k@" + "9" * 5_000, "k@", "k@-1", "@", b"k@1", 7])
def test_a_value_that_nobody_gave_is_said_and_raises_nothing(value: object) -> None:
    tale = Tale()
    tale.answer(tale.call(), value)
    assert read_value(value) is None
    assert "unknown value" in {violation.rule for violation in check(tale.history, Limits())}


@pytest.mark.parametrize(
    ("stats", "health", "rules"),
    [
        ({}, {}, {"requests do not add up", "something is left"}),
        ({"requests": 0}, {"flights": 0}, {"something is left"}),
        ({}, {"flights": 0, "stuck_flights": 0, "store_calls_in_flight": 0}, {"requests do not add up"}),
    ],
)
def test_a_process_that_does_not_say_how_it_is_breaks_a_promise(
    stats: dict[str, int], health: dict[str, object], rules: set[str]
) -> None:
    tale = Tale()
    tale.history.rests.append(Rest(0, stats, health))
    assert {violation.rule for violation in check(tale.history, Limits())} == rules
