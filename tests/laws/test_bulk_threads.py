"""L14 for threads that ask for many keys: the same as for tasks, where the waiting is another."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest

from resilient_cache import CachePolicy, LoadTimeout, MisuseError, ResilientCache
from resilient_cache import _task_bench as task_bench
from resilient_cache import _thread_bench as thread_bench
from resilient_cache.flights import AGAIN, LEAD
from resilient_cache.testing import Fault, FaultKind

from .test_threads import PATIENCE, POLICY, Hold, Interrupt, Room


class Crowd(Room):
    """Threads that ask for many keys; every load is held until it is let go, and gives its number for each key."""

    def __init__(self, policy: CachePolicy = POLICY) -> None:
        super().__init__(10, policy)
        self.asked: list[list[str]] = []

    def ask(self, keys: str) -> Future[Any]:
        """`get_or_load_many` of keys of one letter, in a thread of its own."""

        def load_many(missing: list[str]) -> Any:
            with self.lock:
                hold = Hold(len(self.started) + 1)
                self.asked.append(missing)
                self.started.append(hold)
                self.lock.notify_all()
            return dict.fromkeys(missing, hold.wait())

        return self.pool.submit(self.cache.get_or_load_many, list(keys), load_many)


@pytest.fixture
def crowds() -> Iterator[Callable[..., Crowd]]:
    """Makes crowds; their threads are over when the test is."""
    made: list[Crowd] = []

    def make(policy: CachePolicy = POLICY) -> Crowd:
        made.append(Crowd(policy))
        return made[-1]

    yield make
    for crowd in made:
        for hold in crowd.started:
            hold.end()
        crowd.pool.shutdown()
        assert crowd.cache.health()["flights"] == 0
        assert crowd.cache.health()["store_calls_in_flight"] == 0


def test_calls_that_overlap_share_their_loads_in_whatever_order(crowds: Callable[..., Crowd]) -> None:
    crowd = crowds()
    first = crowd.ask("abc")
    one = crowd.nth(1)
    second = crowd.ask("dcb")
    two = crowd.nth(2)
    third, single = crowd.ask("bda"), crowd.load("c")
    crowd.waiting(2, "b")
    two.end()
    crowd.waiting(2, "c")
    one.end()
    assert first.result(PATIENCE) == {"a": 1, "b": 1, "c": 1}
    assert second.result(PATIENCE) == {"d": 2, "c": 1, "b": 1}
    assert third.result(PATIENCE) == {"b": 1, "d": 2, "a": 1}
    assert single.result(PATIENCE) == 1
    assert crowd.asked == [["a", "b", "c"], ["d"]]


def test_a_caller_that_is_struck_hands_over_all_it_leads(crowds: Callable[..., Crowd]) -> None:
    """L2, L14: to one of those who wait for each; whoever waits for several leads what is left to it together."""
    crowd = crowds()
    leader = crowd.ask("abc")
    hold = crowd.nth(1)
    follower = crowd.ask("ca")
    crowd.waiting(1, "a")
    single = crowd.load("b")
    crowd.waiting(1, "b")
    hold.end(Interrupt())
    assert isinstance(leader.exception(PATIENCE), Interrupt)
    crowd.nth(2).end()
    crowd.nth(3).end()
    crowd.started[-1].end()
    assert single.result(PATIENCE) in (2, 3)
    assert set(follower.result(PATIENCE)) == {"a", "c"}


def test_what_another_has_left_is_led_at_once_not_when_its_turn_comes(crowds: Callable[..., Crowd]) -> None:
    crowd = crowds()
    slow, leaver = crowd.load("a"), None
    one = crowd.nth(1)
    leaver = crowd.load("b")
    two = crowd.nth(2)
    both = crowd.ask("ab")
    crowd.waiting(1, "b")
    behind_it = crowd.load("b")
    crowd.waiting(2, "b")
    two.end(Interrupt())
    assert isinstance(leaver.exception(PATIENCE), Interrupt)
    crowd.nth(3).end()
    assert behind_it.result(PATIENCE) == 3  # while "a" is still loading
    one.end()
    assert both.result(PATIENCE) == {"a": 1, "b": 3}
    assert slow.result(PATIENCE) == 1


def test_who_is_busy_with_its_own_load_is_made_nobodys_heir(crowds: Callable[..., Crowd]) -> None:
    crowd = crowds()
    leaver = crowd.load("b")
    one = crowd.nth(1)
    busy = crowd.ask("ab")
    two = crowd.nth(2)
    crowd.waiting(1, "b")
    behind_it = crowd.load("b")
    crowd.waiting(2, "b")
    one.end(Interrupt())
    assert isinstance(leaver.exception(PATIENCE), Interrupt)
    crowd.nth(3).end()
    assert behind_it.result(PATIENCE) == 3  # while "a" is still loading
    two.end()
    assert busy.result(PATIENCE) == {"a": 2, "b": 3}


@pytest.mark.parametrize("bench", [thread_bench.Bench, task_bench.Bench])
def test_a_lead_that_its_caller_takes_along_is_not_passed_on(bench: Any) -> None:
    """It looks for what was rung between the ringing and the question whether it is busy."""
    taken: list[Any] = []
    there: Any = None

    class Looked(deque[Any]):
        def append(self, place: Any) -> None:
            super().append(place)
            taken.extend(there.rung())

    async def ring() -> None:
        place = there.place()
        place.verdict = LEAD
        assert place.wake() is True
        assert taken == [place]
        there._rung = deque()
        assert place.wake() is False
        assert place.verdict == AGAIN
        assert there.rung() == [place]

    async def main() -> None:
        nonlocal there
        there = bench()
        there.busy, there._rung = True, Looked()
        await ring()

    asyncio.run(main())


def test_a_stuck_load_of_many_is_replaced_by_one(crowds: Callable[..., Crowd]) -> None:
    crowd = crowds()
    stuck = crowd.ask("ab")
    crowd.nth(1)
    crowd.clock.advance(10)
    replacing = crowd.ask("ba")
    crowd.nth(2).end()
    assert replacing.result(PATIENCE) == {"b": 2, "a": 2}
    crowd.started[0].end()
    assert stuck.result(PATIENCE) == {"a": 1, "b": 1}
    assert crowd.cache.get_many(["a", "b"]) == {"a": 2, "b": 2}


def test_who_waits_for_a_stuck_load_gives_it_up(crowds: Callable[..., Crowd]) -> None:
    """When it has waited for `flight_age`, in real time here; it then loads for itself."""
    crowd = crowds(replace(POLICY, flight_age=0.05))
    crowd.ask("ab")
    crowd.nth(1)
    waiting = crowd.ask("abc")
    crowd.waiting(1, "a")
    crowd.nth(2).end()  # "c"
    crowd.clock.advance(0.05)
    crowd.nth(3).end()
    assert waiting.result(PATIENCE) == {"a": 3, "b": 3, "c": 2}
    assert crowd.asked == [["a", "b"], ["c"], ["a", "b"]]


def test_a_loader_may_not_wait_for_itself_by_way_of_another_thread(crowds: Callable[..., Crowd]) -> None:
    """Whichever of its keys the other one waits for."""
    crowd = crowds()
    cache = crowd.cache

    def first(keys: list[str]) -> Any:
        crowd.load("z")
        crowd.nth(1).end()  # until here both lead
        return cache.get_or_load_many(["d"], lambda _: {})

    def second(keys: list[str]) -> Any:
        crowd.load("y")
        crowd.nth(2)
        return cache.get_or_load_many(["a"], lambda _: {})

    one = crowd.pool.submit(cache.get_or_load_many, [*"abc"], first)
    two = crowd.pool.submit(cache.get_or_load_many, [*"def"], second)
    errors = [one.exception(PATIENCE), two.exception(PATIENCE)]
    for hold in crowd.started:
        hold.end()
    assert MisuseError in map(type, errors) or errors == [None, None]  # they may not have met


def test_a_load_of_many_that_takes_too_long_goes_on_behind(crowds: Callable[..., Crowd]) -> None:
    crowd = crowds(replace(POLICY, load_timeout=0.05, timeout=0.001))
    asks = [crowd.ask("ab"), crowd.ask("ba")]
    crowd.nth(1)
    crowd.clock.advance(0.1)
    assert [type(ask.exception(PATIENCE)) for ask in asks] == [LoadTimeout, LoadTimeout]
    crowd.nth(1).end()
    crowd.cache.get_or_load("a", lambda _: 5)
    assert crowd.cache.get("a") in (1, 5)


def test_where_nothing_runs_behind_it_is_waited_for() -> None:
    def refuse(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    cache = ResilientCache[str, int](None, name="laws", memory=10, policy=replace(POLICY, load_timeout=5), spawn=refuse)
    assert cache.get_or_load_many(["a", "b"], lambda keys: dict.fromkeys(keys, 1)) == {"a": 1, "b": 1}
    assert cache.health()["flights"] == 0


def test_a_load_behind_that_is_struck_fails_its_callers(crowds: Callable[..., Crowd]) -> None:
    crowd = crowds(replace(POLICY, load_timeout=60))
    ask = crowd.ask("ab")
    struck = Interrupt()
    crowd.nth(1).end(struck)
    assert ask.exception(PATIENCE) is struck


def test_a_store_call_that_is_struck_leaves_nothing_behind(crowds: Callable[..., Crowd]) -> None:
    """L2."""
    crowd = crowds()
    struck = Interrupt()
    for operation in ("get_many", "set_many", "delete_many"):
        crowd.plan.then(operation, Fault(FaultKind.RAISE, error=struck))

    def load_many(_: list[str]) -> dict[str, int]:
        return {"a": 1}

    for name, args in (
        ("get_or_load_many", (["a"], load_many)),
        ("set_many", ({"a": 1},)),
        ("invalidate_many", (["a"],)),
    ):
        with pytest.raises(Interrupt) as raised:
            getattr(crowd.cache, name)(*args)
        assert raised.value is struck
    assert crowd.cache.get_or_load_many(["a"], load_many) == {"a": 1}
