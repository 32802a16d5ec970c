"""The walk that sees a deadlock: along all that the leaders of flights wait for."""

from __future__ import annotations

from contextvars import copy_context
from threading import RLock

import pytest

from resilient_cache._local import Local
from resilient_cache._request import GATES, Request
from resilient_cache.errors import MisuseError
from resilient_cache.flights import LEADING, Flight, Waiter, lead
from resilient_cache.outcome import Mode
from resilient_cache.policy import CachePolicy

from .test_flights import Seat


def chain(*needs: tuple[str, str]) -> dict[str, Flight[Waiter]]:
    flights = {key: Flight[Waiter](key, Mode.ON, 1, 0.0) for need in needs for key in need}
    for who, needed in needs:
        flights[who].block(flights[needed])
    return flights


def test_the_walk_finds_what_a_flight_needs_directly_far_away_and_on_any_branch() -> None:
    flights = chain(("a", "b"), ("b", "c"), ("a", "x"), ("x", "y"), ("y", "z"))
    for key in "abcxyz":
        assert flights["a"].waits_for((flights[key],))
    assert not flights["b"].waits_for((flights["a"],))
    assert not flights["c"].waits_for((flights["a"], flights["b"]))
    assert flights["y"].waits_for((flights["a"], flights["z"]))
    assert flights["a"].waits_for(()) is False


def test_the_walk_ends_at_what_has_landed_and_at_what_is_let_go() -> None:
    flights = chain(("a", "b"), ("b", "c"), ("a", "d"))
    flights["b"].outcome = "landed"
    assert not flights["a"].waits_for((flights["c"],))
    assert flights["a"].waits_for((flights["d"],))
    flights["a"].unblock(flights["d"])
    assert not flights["a"].waits_for((flights["d"],))
    flights["a"].block(flights["c"])
    assert flights["a"].waits_for((flights["c"],))


def test_what_has_landed_is_let_go_of() -> None:
    """Neither a leader that waits for a thousand flights nor a context that leads them holds on to the landed ones."""
    mine, old, new = (Flight[Waiter](key, Mode.ON, 1, 0.0) for key in "mon")
    mine.block(old)
    old.outcome = 1
    mine.block(new)
    assert mine.blocked_on == [new]

    def leads() -> None:
        first, second, third = (Flight[Waiter](key, Mode.ON, 1, 0.0) for key in "abc")
        lead(first)
        lead(second)
        assert LEADING.get() == (first, second)
        first.outcome = 1
        lead(third)
        assert LEADING.get() == (second, third)

    copy_context().run(leads)


def test_the_walk_ends_in_a_ring() -> None:
    flights = chain(("a", "b"), ("b", "c"), ("c", "a"))
    stranger = Flight[Waiter]("s", Mode.ON, 1, 0.0)
    assert not flights["a"].waits_for((stranger,))
    outside = Flight[Waiter]("o", Mode.ON, 1, 0.0)
    outside.block(flights["a"])
    assert not outside.waits_for((stranger,))


class Tower:
    """Contexts that board the flights of one cache, as threads and tasks do."""

    def __init__(self) -> None:
        self.local = Local(10, CachePolicy(), self, RLock())

    def monotonic(self) -> float:
        return 0.0

    def time(self) -> float:
        return 1_000.0

    def board(self, key: str) -> bool:
        """Whether the running context leads `key` now; else it waits."""
        request = Request(key, CachePolicy(), Mode.ON, GATES[Mode.ON], since=0.0, until=99.0)
        request.loads = True
        flight, seat = self.local.board(request, Seat, 0.0)
        if seat is None:
            lead(flight)
        return seat is None


def test_a_loader_that_asks_for_its_own_key_is_seen() -> None:
    tower, context = Tower(), copy_context()
    assert context.run(tower.board, "a")
    with pytest.raises(MisuseError):
        context.run(tower.board, "a")
    assert not copy_context().run(tower.board, "a")


def test_a_circle_through_another_context_is_seen() -> None:
    tower, here, there = Tower(), copy_context(), copy_context()
    assert here.run(tower.board, "a")
    assert there.run(tower.board, "b")
    assert not here.run(tower.board, "b")
    with pytest.raises(MisuseError):
        there.run(tower.board, "a")


def test_a_circle_through_an_inner_flight_is_seen() -> None:
    tower, here, there = Tower(), copy_context(), copy_context()
    assert here.run(tower.board, "a")
    assert here.run(tower.board, "b")  # inline, in the loader of a
    assert there.run(tower.board, "c")
    assert not here.run(tower.board, "c")
    with pytest.raises(MisuseError):
        there.run(tower.board, "a")


@pytest.mark.parametrize("first", ["b", "c"])
def test_a_circle_through_either_of_two_tasks_is_seen(first: str) -> None:
    tower, here, there, third = Tower(), copy_context(), copy_context(), copy_context()
    assert here.run(tower.board, "a")
    assert there.run(tower.board, "b")
    assert third.run(tower.board, "c")
    tasks = [here.copy(), here.copy()]
    for task, key in zip(tasks, ("bc", "cb")[first == "c"], strict=True):
        assert not task.run(tower.board, key)
    with pytest.raises(MisuseError):
        there.run(tower.board, "a")
    with pytest.raises(MisuseError):
        third.run(tower.board, "a")
