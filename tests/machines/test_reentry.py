"""Machines that are changed by a signal handler, or a finalizer, of the very thread that is changing them.

Where it may come is where a call returns, so containers that act as one of their methods is called stand in for it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from threading import RLock
from typing import Any

import pytest

from resilient_cache import Mode
from resilient_cache._reentry import first
from resilient_cache.fences import Fences
from resilient_cache.flights import Flights
from resilient_cache.leases import Leases
from resilient_cache.memory import STAMP, Memory
from resilient_cache.pauses import Pauses


class Visited(OrderedDict[Any, Any]):
    """Has a visitor, once, when one of its methods has been called."""

    def __init__(self, things: Any = (), *, by: str = "", visitor: Callable[[], object] = list) -> None:
        super().__init__(things)
        self.by, self.visitor = by, visitor
        self.listed = True  # in one go, as `list` does: nobody comes before it has them all

    def visit(self, by: str) -> None:
        if by == self.by:
            self.by = ""
            self.visitor()

    def __iter__(self) -> Iterator[Any]:
        made = super().__iter__()
        listed = iter(list(made)) if self.listed else made
        self.visit("iter")
        return listed

    def __len__(self) -> int:
        length = super().__len__()
        self.visit("len")
        return length

    def move_to_end(self, key: Any, last: bool = True) -> None:
        super().move_to_end(key, last)
        self.visit("move")

    def pop(self, key: Any, default: Any = None) -> Any:
        popped = super().pop(key, default)
        self.visit("pop")
        return popped


def test_the_first_of_what_changes_is_looked_for_again() -> None:
    things = Visited({"a": 1, "b": 2}, by="iter", visitor=lambda: things.pop("a"))
    things.listed = False
    assert first(things) == "b"
    assert first({}) is None


@pytest.mark.parametrize("by", ["iter", "len", "move"])
@pytest.mark.parametrize("what", ["oldest", "own", "many", "all"])
def test_a_fence_that_is_raised_meanwhile_stands(by: str, what: str) -> None:
    """L9: whatever the order; and nothing is raised that is no fence."""
    fences = Fences(life=1_000, capacity=2)
    raised = {"oldest": 1, "own": 3}
    for key, stamp in raised.items():
        fences.raise_locked(key, stamp)

    def visit() -> None:
        if what == "many":
            for stamp in range(20, 40):
                fences.raise_locked(str(stamp), stamp)
                raised[str(stamp)] = stamp
        elif what == "all":
            fences.raise_floor_locked(50)
            raised[""] = 50
        else:
            fences.raise_locked(what, 30)
            raised[what] = 30

    fences._fences = Visited(fences._fences, by=by, visitor=visit)
    fences.raise_locked("own", 10)
    fences.raise_locked("new", 40)
    raised["own"], raised["new"] = max(10, raised["own"]), 40
    assert all(fences.at(key) >= stamp for key, stamp in raised.items())
    assert len(fences) <= 2


def test_what_is_fenced_while_everything_is_stays_fenced() -> None:
    fences = Fences(life=1_000)
    fences.raise_locked("a", 1)
    fences.raise_locked("b", 2)

    def visit() -> None:
        del fences._fences["b"]
        fences.raise_locked("a", 30)

    fences._fences = Visited(fences._fences, by="iter", visitor=visit)
    fences.raise_floor_locked(10)
    assert (fences.at("a"), fences.at("b")) == (30, 10)


def test_who_takes_off_while_all_are_detached_is_none_of_them() -> None:
    flights = Flights[Any](10.0)
    flights.take_off_locked("a", Mode.ON, 1, 0.0)
    flights.live = Visited(flights.live)
    values = flights.live.values

    def later() -> Any:
        found = list(values())
        flights.take_off_locked("b", Mode.ON, 2, 0.0)
        return found

    flights.live.values = later  # type: ignore[method-assign]
    flights.detach_all_locked()
    assert len(flights) == 0


def test_a_newer_entry_that_is_kept_meanwhile_stays() -> None:
    """L11: it came when a place had been found for the older one."""
    memory = Memory[str](2)
    place_for = memory._place_for

    def visited(key: str, gone: list[Any]) -> int:
        place = place_for(key, gone)
        monkey.undo()
        assert memory.put_locked(key, "new", 9.0, 9.0, 5)
        return place

    with pytest.MonkeyPatch.context() as monkey:
        monkey.setattr(Memory, "_place_for", lambda _, key, gone: visited(key, gone))
        assert not memory.put_locked("k", "old", 9.0, 9.0, 4)
    assert memory.entries["k"][STAMP] == 5
    assert memory.put_locked("other", "v", 9.0, 9.0, 6)
    assert memory.put_locked("more", "v", 9.0, 9.0, 7)
    assert len(memory) <= 2


def test_a_lease_that_is_given_back_while_they_are_looked_through_is_gone() -> None:
    leases = Leases(2, 5.0, RLock())
    one, other = leases.acquire(0.0), leases.acquire(0.0)
    leases._until = Visited(leases._until, by="iter", visitor=lambda: leases.release(other))
    assert leases.acquire(6.0) > other > one
    assert len(leases) == 1


@pytest.mark.parametrize("by", ["pop", "len", "iter"])
def test_a_pause_that_ends_while_another_begins_is_nobodys_error(by: str) -> None:
    pauses = Pauses()
    pauses.put_locked("a", 1, 5.0, 0.0)
    pauses._pauses = Visited(pauses._pauses, by=by, visitor=lambda: pauses.put_locked("b", 1, 9.0, 6.0))
    pauses.put_locked("c", 1, 9.0, 6.0)
    assert pauses.paused("b", 1, 7.0)
    assert pauses.paused("c", 1, 7.0)
