"""What others may find in the store once all is well, on histories made by hand: each rule sees its breach only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from resilient_cache import Invalidation, Source
from resilient_cache.events import CircuitState
from resilient_cache.outcome import Operation
from resilient_cache.testing.simulation.checker import check
from resilient_cache.testing.simulation.histories import Command, Ending, Rest, value_of
from resilient_cache.testing.simulation.limits import Limits
from resilient_cache.testing.simulation.network import birth_in

from .test_checker import Tale

OLD, UNHEARD, UNASKED = (
    "the store was left with an old value", "a write of unknown outcome was left",
    "settled without a word of the store",
)  # fmt: skip
LIMITS = Limits(replay=7.0, inflight_max=5.0)
BOUND = 12.0


@dataclass
class Case:
    """Two processes: 0 loads, writes and invalidates; then all is well, and 1 finds in the store what 0 had written.

    The fields are what is told otherwise.
    """

    invalidated: Invalidation | None = Invalidation.PENDING
    took: float = 0.0  # the write, to take effect
    written: Ending = Ending.DONE
    fault: str = ""
    state: CircuitState = CircuitState.CLOSED
    read_at: float = BOUND + 0.1
    writer: int = 0
    written_again: bool = False  # after the invalidation
    then: list[tuple[str, int]] = field(default_factory=list[Any])  # (what, process), in order
    cancelled: bool = False  # the call whose write it was
    limits: Limits = LIMITS

    def broken(self) -> set[str]:
        tale = Tale()
        load = tale.load(fresh=100.0, process=self.writer)
        self._write(tale, load.number, self.written)
        if self.invalidated is not None:
            tale.invalidate(self.invalidated)
        if self.written_again:
            self._write(tale, load.number, self.written)
        for what, process in self.then:
            if what == "restart":
                tale.history.event("weather: restart_old for 100% of p0 k set")
            else:
                tale.history.end(self._command(tale, Operation(what), process), Ending.DONE)
        tale.history.healed = 0.0
        tale.at = self.read_at
        tale.answer(tale.call(process=1), value_of("k", load.number), Source.STORE)
        return {violation.rule for violation in check(tale.history, self.limits)} & {OLD, UNHEARD, UNASKED}

    def _write(self, tale: Tale, gives: int, ending: Ending) -> None:
        write = self._command(tale, Operation.SET, self.writer)
        if self.cancelled:
            call = tale.call("set")
            tale.history.end(call, Ending.CANCELLED)
            write.call = call.number
        write.gives, write.effect, write.fault, write.state = gives, self.took, self.fault, self.state
        tale.history.end(write, ending, None if ending is Ending.DONE else OSError())

    def _command(self, tale: Tale, operation: Operation, process: int) -> Command:
        return tale.history.command(process, operation, "sim:k")


@pytest.mark.parametrize("invalidated", [Invalidation.PENDING, Invalidation.CONFIRMED])
@pytest.mark.parametrize("writer", [0, 1])
def test_an_old_value_that_is_left_is_seen(invalidated: Invalidation, writer: int) -> None:
    """Whoever had written it."""
    assert Case(invalidated, writer=writer).broken() == {OLD}


@pytest.mark.parametrize(
    "case",
    [
        Case(invalidated=None),
        Case(read_at=BOUND - 0.1),
        Case(took=5.0),  # longer than any write is said to take
        Case(writer=1, written_again=True),  # what it had loaded before, and wrote after
        Case(then=[("delete", 0), ("restart", 0)]),  # the store forgot what it had acknowledged
        Case(then=[("set", 0), ("restart", 0)]),
        Case(limits=Limits(replay=None)),
    ],
    ids=range(7),
)  # fmt: skip
def test_what_nobody_promised_is_let_be(case: Case) -> None:
    """Each differs from what is seen by one thing."""
    assert case.broken() == set()


@pytest.mark.parametrize(
    "case",
    [
        Case(written_again=True),  # its own write, past its own fence
        Case(took=4.9),
        Case(then=[("restart", 0)]),  # it still owed the delete
        Case(then=[("restart", 0), ("delete", 0)]),
        Case(then=[("delete", 1), ("restart", 0)]),  # that was another's
    ],
    ids=range(5),
)  # fmt: skip
def test_its_neighbours_are_seen(case: Case) -> None:
    """Each differs from what is let be by one thing."""
    assert case.broken() == {OLD}


def test_a_write_that_nobody_heard_of_is_seen() -> None:
    """Once it may be late no more."""
    assert Case(None, written=Ending.RAISED, fault="late").broken() == {UNHEARD}
    assert Case(None, written=Ending.RAISED, fault="reset", written_again=True).broken() == {UNHEARD}


@pytest.mark.parametrize(
    "case",
    [
        Case(None),
        Case(None, written=Ending.RAISED, fault="refused"),  # that it cannot be there is another rule's
        Case(None, written=Ending.CANCELLED, fault="late"),
        Case(None, written=Ending.RAISED, fault="late", took=5.0),
        Case(None, written=Ending.RAISED, fault="late", cancelled=True),
        Case(None, written=Ending.RAISED, fault="late", state=CircuitState.HALF_OPEN),
        Case(None, written=Ending.RAISED, fault="late", read_at=BOUND - 0.1),
    ],
    ids=range(7),
)  # fmt: skip
def test_a_write_that_may_be_there_is_let_be(case: Case) -> None:
    """Each differs by one thing."""
    assert case.broken() == set()


@pytest.mark.parametrize("owed", [0, 1])
@pytest.mark.parametrize("sent", ["before", "after", "never"])
def test_what_is_settled_without_a_word_is_seen(owed: int, sent: str) -> None:
    """A delete that was sent before the invalidation says nothing of it."""
    tale = Tale()
    early = tale.history.command(0, Operation.DELETE, "sim:k")
    tale.invalidate(Invalidation.PENDING)
    late = tale.history.command(0, Operation.DELETE, "sim:k")
    for command, when in ((early, "before"), (late, "after")):
        tale.history.end(command, Ending.DONE if when == sent else Ending.RAISED)
    health: dict[str, object] = {"flights": 0, "stuck_flights": 0, "store_calls_in_flight": 0}
    tale.history.rests.append(Rest(0, {"requests": 0}, health | {"pending_invalidations": owed}))
    assert (UNASKED in tale.broken()) is (owed == 0 and sent != "after")


def test_a_birth_is_read_from_an_envelope() -> None:
    """Not from what follows it."""
    assert birth_in(b'..."k1@12"34') == 12
    assert birth_in(b"k1@12") == 0
