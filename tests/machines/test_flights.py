"""Single flight, bare: every reachable state of three callers on one key, and the walk that sees a deadlock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextvars import copy_context
from threading import RLock

import pytest

from resilient_cache._local import Local
from resilient_cache._request import Request
from resilient_cache.errors import MisuseError
from resilient_cache.flights import AGAIN, LEAD, LEADING, Flight, Flights, Waiter
from resilient_cache.outcome import Mode
from resilient_cache.policy import CachePolicy

AGE = 10.0
CALLERS = 3


class Seat:
    """A waiter that counts how often it was woken."""

    def __init__(self) -> None:
        self.verdict: str | None = None
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


class World:
    """Three callers who may do anything a flow does, one step at a time."""

    def __init__(self) -> None:
        self.flights: Flights[Seat] = Flights(AGE)
        self.now = 0.0
        self.stamp = 0
        self.aboard: list[tuple[Flight[Seat], Seat | None, bool] | None] = [None] * CALLERS  # flight, seat, leading

    def steps(self) -> Iterator[tuple[str, int]]:
        yield "invalidate", 0
        yield "age", 0
        for who, place in enumerate(self.aboard):
            if place is None:
                yield "ask", who
                continue
            yield "leave", who
            if place[2]:
                yield "land", who
            elif place[1] is not None and place[1].woken:
                yield "go_on", who

    def step(self, what: str, who: int) -> None:
        getattr(self, what)(who)
        self.check()

    def invalidate(self, _: int) -> None:
        self.flights.detach_locked("k")

    def age(self, _: int) -> None:
        self.now += AGE

    def ask(self, who: int) -> None:
        flight = self.flights.find_locked("k", self.now)
        if flight is None:
            self.stamp += 1
            flight = self.flights.take_off_locked("k", self.stamp, self.now, Mode.ON)
            self.aboard[who] = flight, None, True
            return
        assert not flight.detached
        assert flight.outcome is None
        assert self.now - flight.since < AGE
        seat = Seat()
        flight.waiters[seat] = None
        self.aboard[who] = flight, seat, False

    def go_on(self, who: int) -> None:
        flight, seat, _ = self.aboard[who] or pytest.fail("nobody waits here")
        assert seat is not None
        if seat.verdict == LEAD:
            self.aboard[who] = flight, seat, True
        else:
            assert flight.outcome is not None
            self.aboard[who] = None

    def land(self, who: int) -> None:
        flight, _, _ = self.aboard[who] or pytest.fail("nobody leads here")
        self.aboard[who] = None
        for seat in self.flights.land_locked(flight, "outcome"):
            assert seat.verdict is None
            seat.wake()
        assert flight.outcome == "outcome"

    def leave(self, who: int) -> None:
        flight, seat, _ = self.aboard[who] or pytest.fail("nobody is here")
        led = flight.outcome is None and flight.leader is seat
        heirs = list(flight.waiters)
        self.aboard[who] = None
        self.stamp += 1
        woken = self.flights.leave_locked(flight, seat, self.stamp, self.now)
        if led and not flight.detached and heirs:
            assert woken == heirs[:1]  # first come, first served
            assert (flight.leader, flight.stamp, flight.since) == (heirs[0], self.stamp, self.now)
        elif led:
            assert woken == heirs
            assert flight.outcome == AGAIN
        else:
            assert woken == []
        for heir in woken:
            assert heir.verdict == (AGAIN if flight.outcome else LEAD)
            heir.wake()

    def check(self) -> None:
        assert len(self.flights) <= 1
        places = [place for place in self.aboard if place is not None]
        for flight, seat, leads in places:
            leaders = sum(f is flight and (led or (s is not None and s.verdict == LEAD)) for f, s, led in places)
            assert leaders == (0 if flight.outcome is not None and not leads else 1)
            if leads:
                assert flight.outcome is None
            elif seat is not None and not seat.woken:
                assert flight.outcome is None  # or its wake-up would be lost
                assert seat in flight.waiters
            else:
                assert seat not in flight.waiters
            assert seat is None or seat.woken <= 1
            joinable = self.flights._flights.get("k") is flight
            assert joinable is (not flight.detached and flight.outcome is None)
        aloft = self.flights._flights.get("k")
        assert aloft is None or any(flight is aloft for flight, _, _ in places)
        old = aloft is not None and self.now - aloft.since >= AGE
        assert self.flights.stuck(self.now) == old

    def shape(self) -> object:
        """This state without its times and identities, so that states can be told apart."""
        names: dict[int, int] = {}
        shape: list[object] = []
        for place in self.aboard:
            if place is None:
                shape.append(None)
                continue
            flight, seat, leads = place
            order = [next(n for n, p in enumerate(self.aboard) if p and p[1] is w) for w in flight.waiters]
            about = flight.detached, flight.outcome, self.now - flight.since >= AGE, tuple(order)
            woken = seat and (seat.verdict, seat.woken)
            shape.append((names.setdefault(id(flight), len(names)), about, woken, flight.leader is seat, leads))
        return tuple(shape)


def replayed(path: tuple[tuple[str, int], ...]) -> World:
    world = World()
    for what, who in path:
        world.step(what, who)
    return world


def test_in_every_state_that_can_be_reached_one_leads_and_no_wake_up_is_lost() -> None:
    seen = {World().shape()}
    ahead: deque[tuple[tuple[str, int], ...]] = deque([()])
    while ahead:
        path = ahead.popleft()
        for step in list(replayed(path).steps()):
            further = replayed((*path, step))
            if (shape := further.shape()) not in seen:
                seen.add(shape)
                ahead.append((*path, step))
    assert len(seen) > 500


def take_off(flights: Flights[Seat], key: str = "k", now: float = 0.0) -> Flight[Seat]:
    return flights.take_off_locked(key, 7, now, Mode.READ_ONLY)


def seated(flight: Flight[Seat]) -> Seat:
    seat = Seat()
    flight.waiters[seat] = None
    return seat


def test_a_flight_begins_as_it_was_told() -> None:
    flights: Flights[Seat] = Flights(AGE)
    flight = take_off(flights, now=3.0)
    assert (flight.key, flight.stamp, flight.since, flight.mode) == ("k", 7, 3.0, Mode.READ_ONLY)
    assert (flight.outcome, flight.stand_in, flight.detached, flight.leader) == (None, None, False, None)
    assert flights.find_locked("k", 3.0) is flight
    assert flights.find_locked("other", 3.0) is None


def test_a_flight_is_stuck_at_its_age_and_not_before_and_its_replacement_is_let_be_by_the_old_leader() -> None:
    flights: Flights[Seat] = Flights(AGE)
    old = take_off(flights)
    waiting = seated(old)
    assert flights.find_locked("k", 9.999) is old
    assert (flights.stuck(9.999), flights.stuck(10.0)) == (0, 1)
    assert flights.find_locked("k", 10.0) is None
    assert old.detached
    assert flights.stuck(10.0) == 0
    new = take_off(flights, now=10.0)
    assert flights.land_locked(old, "late") == [waiting]
    assert flights.find_locked("k", 10.0) is new
    assert flights.leave_locked(old, None, 8, 11.0) == []


def test_flights_of_other_keys_are_other_flights() -> None:
    flights: Flights[Seat] = Flights(AGE)
    one, other = take_off(flights, "a"), take_off(flights, "b", now=5.0)
    flights.detach_locked("a")
    assert (one.detached, other.detached, len(flights)) == (True, False, 1)
    flights.detach_locked("a")
    assert flights.stuck(12.0) == 0
    assert flights.stuck(15.0) == 1


def test_all_aboard_are_woken_in_their_order_and_only_once() -> None:
    flights: Flights[Seat] = Flights(AGE)
    flight = take_off(flights)
    seats = [seated(flight) for _ in range(5)]
    gone = seats.pop(2)
    assert flights.leave_locked(flight, gone, 8, 1.0) == []
    assert flights.land_locked(flight, "outcome") == seats
    assert not flight.waiters
    assert flights.land_locked(flight, "outcome") == []


def test_leaders_who_leave_one_after_another_cost_one_wake_up_each() -> None:
    flights: Flights[Seat] = Flights(AGE)
    flight = take_off(flights)
    seats = [seated(flight) for _ in range(100)]
    leader: Seat | None = None
    for now, seat in enumerate(seats):
        assert flights.leave_locked(flight, leader, 8 + now, float(now)) == [seat]
        leader = seat
    assert flights.leave_locked(flight, leader, 999, 99.0) == []
    assert (flight.outcome, len(flights)) == (AGAIN, 0)


def test_cleared_are_forgotten() -> None:
    flights: Flights[Seat] = Flights(AGE)
    take_off(flights)
    flights.clear_locked()
    assert len(flights) == 0
    assert flights.find_locked("k", 0.0) is None


# the walk


def chain(*needs: tuple[str, str]) -> dict[str, Flight[Waiter]]:
    flights = {key: Flight[Waiter](key, 1, 0.0, Mode.ON) for need in needs for key in need}
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
    assert not flights["a"].waits_for(())


def test_the_walk_ends_at_what_has_landed_and_at_what_is_let_go() -> None:
    flights = chain(("a", "b"), ("b", "c"), ("a", "d"))
    flights["b"].outcome = "landed"
    assert not flights["a"].waits_for((flights["c"],))
    assert flights["a"].waits_for((flights["d"],))
    flights["a"].unblock(flights["d"])
    assert not flights["a"].waits_for((flights["d"],))
    flights["a"].block(flights["c"])
    assert flights["a"].waits_for((flights["c"],))


def test_the_walk_ends_in_a_ring() -> None:
    flights = chain(("a", "b"), ("b", "c"), ("c", "a"))
    stranger = Flight[Waiter]("s", 1, 0.0, Mode.ON)
    assert not flights["a"].waits_for((stranger,))


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
        request = Request(key, CachePolicy(), Mode.ON, 0.0, 99.0, loads=True, forced=False)
        flight, seat = self.local.board(request, Seat, 0.0)
        if seat is None:
            LEADING.set((*LEADING.get(), flight))
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
