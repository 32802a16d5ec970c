"""Single flight, bare: every reachable state of three callers on one key."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import pytest

from resilient_cache.flights import AGAIN, FOUND, LEAD, Flight, Flights
from resilient_cache.outcome import Mode

AGE = 10.0
MODE = Mode.READ_ONLY
CALLERS = 3


class Seat:
    """A waiter that counts how often it was woken."""

    def __init__(self) -> None:
        self.verdict: str | None = None
        self.woken = 0

    def wake(self) -> bool:
        self.woken += 1
        return True


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
                if place[0].waiters:
                    yield "overtake", who
            elif place[1] is not None and place[1].woken:
                yield "go_on", who

    def invalidate(self, _: int) -> None:
        self.flights.detach_locked("k")

    def age(self, _: int) -> None:
        self.now += AGE

    def ask(self, who: int) -> None:
        flight = self.flights.find_locked("k", Mode.ON, self.now)
        if flight is None:
            self.stamp += 1
            flight = self.flights.take_off_locked("k", Mode.ON, self.stamp, self.now)
            self.aboard[who] = flight, None, True
            return
        assert not flight.detached
        assert flight.outcome is None
        assert self.now - flight.since < AGE
        seat = Seat()
        flight.sit(seat)
        self.aboard[who] = flight, seat, False

    def go_on(self, who: int) -> None:
        flight, seat, _ = self.aboard[who] or pytest.fail("nobody waits here")
        assert seat is not None
        if seat.verdict == LEAD:
            self.aboard[who] = flight, seat, True
        elif seat.verdict == FOUND:
            assert flight.found == "found"
            self.aboard[who] = None
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

    def overtake(self, who: int) -> None:
        """The store gives what the leader of a hedged load, which goes on, has been looking for."""
        flight, _, _ = self.aboard[who] or pytest.fail("nobody leads here")
        waiting = list(flight.waiters)
        assert self.flights.hand_out_locked(flight, "found") == waiting
        for seat in waiting:
            assert seat.verdict == FOUND
            seat.wake()

    def leave(self, who: int) -> None:
        flight, seat, _ = self.aboard[who] or pytest.fail("nobody is here")
        led = flight.outcome is None and flight.leader is seat
        heirs, detached = list(flight.waiters), flight.detached
        self.aboard[who] = None
        self.stamp += 1
        woken = self.flights.leave_locked(flight, seat, self.stamp, self.now)
        if led and not detached and heirs:
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
            joinable = self.flights.live.get(("k", Mode.ON)) is flight
            assert joinable is (not flight.detached and flight.outcome is None)
        aloft = self.flights.live.get(("k", Mode.ON))
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
        getattr(world, what)(who)
    world.check()  # the states before it were, when the walk came to them
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
    return flights.take_off_locked(key, MODE, 7, now)


def seated(flight: Flight[Seat]) -> Seat:
    seat = Seat()
    flight.sit(seat)
    return seat


def test_a_flight_begins_as_it_was_told() -> None:
    flights: Flights[Seat] = Flights(AGE)
    flight = take_off(flights, now=3.0)
    assert (flight.place, flight.stamp, flight.since) == (("k", MODE), 7, 3.0)
    assert (flight.outcome, flight.stand_in, flight.detached, flight.leader) == (None, None, False, None)
    assert (flight.ready, flight.found, flight.queued, flight.origin, flight.renewing) == (None,) * 5
    assert (flight.permit, flight.ticket) == (0, 0)  # it has none yet
    assert (flight.forced, flight.takes_stale) == (False, False)
    assert flight.blocked_on == ()
    assert flight.reading < 0.0  # for as long as there has been time
    assert flights.find("k", MODE) is flight
    assert flights.find("k", Mode.BYPASS) is None
    assert flights.find_locked("k", MODE, 3.0) is flight
    assert flights.find_locked("other", MODE, 3.0) is None


def test_a_flight_is_stuck_at_its_age_and_not_before_and_its_replacement_is_let_be_by_the_old_leader() -> None:
    flights: Flights[Seat] = Flights(AGE)
    old = take_off(flights)
    waiting = seated(old)
    assert flights.find_locked("k", MODE, 9.999) is old
    assert (flights.stuck(9.999), flights.stuck(10.0)) == (0, 1)
    assert flights.find_locked("k", MODE, 10.0) is None
    assert old.detached
    assert flights.stuck(10.0) == 0
    new = take_off(flights, now=10.0)
    assert flights.land_locked(old, "late") == [waiting]
    assert flights.find_locked("k", MODE, 10.0) is new
    assert flights.leave_locked(old, None, 8, 11.0) == []
    assert old.outcome == "late"  # for good


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
    later = take_off(flights)
    assert flights.land_locked(flight, "outcome") == []
    assert flights.find_locked("k", MODE, 0.0) is later


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


def test_flights_of_other_modes_are_other_flights_and_an_invalidation_detaches_them_all() -> None:
    flights: Flights[Seat] = Flights(AGE)
    one = take_off(flights)
    other = flights.take_off_locked("k", Mode.BYPASS, 8, 0.0)
    assert (flights.find_locked("k", MODE, 0.0), flights.find_locked("k", Mode.BYPASS, 0.0)) == (one, other)
    assert flights.detach_locked("k", Mode.BYPASS)
    assert not flights.detach_locked("k", Mode.BYPASS)
    assert (one.detached, other.detached) == (False, True)
    assert flights.detach_locked("k")
    assert one.detached
    assert len(flights) == 0


def test_a_stuck_flight_is_found_by_who_does_not_join_it() -> None:
    flights: Flights[Seat] = Flights(AGE)
    assert flights.find("k", MODE) is None
    old = take_off(flights)
    assert flights.find("k", MODE) is old
    assert flights.find_locked("k", MODE, AGE) is None
    assert flights.find("k", MODE) is None


def test_all_can_be_detached_at_once_and_land_for_those_aboard() -> None:
    flights: Flights[Seat] = Flights(AGE)
    one, other = take_off(flights, "a"), flights.take_off_locked("b", Mode.BYPASS, 8, 0.0)
    waiting = seated(one)
    flights.detach_all_locked()
    assert (one.detached, other.detached, len(flights)) == (True, True, 0)
    later = take_off(flights, "a")
    assert flights.land_locked(one, "outcome") == [waiting]
    assert flights.find("a", MODE) is later
    assert flights.leave_locked(other, None, 9, 1.0) == []
    assert other.outcome == AGAIN


def test_what_the_store_gave_is_handed_to_those_aboard_while_the_load_goes_on() -> None:
    flights: Flights[Seat] = Flights(AGE)
    flight = take_off(flights)
    seats = [seated(flight), seated(flight)]
    assert flights.hand_out_locked(flight, "found") == seats
    assert [seat.verdict for seat in seats] == [FOUND, FOUND]
    assert (flight.found, flight.outcome, flight.detached) == ("found", None, False)
    late = seated(flight)
    assert flights.find("k", MODE) is flight
    assert flights.land_locked(flight, "outcome") == [late]
    assert late.verdict is None
    assert flights.hand_out_locked(flight, "more") == []
    assert flight.found == "found"


def test_whoever_takes_off_detaches_what_is_there() -> None:
    flights: Flights[Seat] = Flights(AGE)
    old, new = take_off(flights), take_off(flights)
    assert (old.detached, new.detached) == (True, False)
    assert flights.find_locked("k", MODE, 0.0) is new


def test_a_leader_taken_away_when_its_outcome_is_known_lands_it() -> None:
    flights: Flights[Seat] = Flights(AGE)
    flight = take_off(flights)
    seats = [seated(flight), seated(flight)]
    flight.ready = "outcome"
    assert flights.leave_locked(flight, None, 8, 1.0) == seats
    assert (flight.outcome, len(flights)) == ("outcome", 0)
    assert [seat.verdict for seat in seats] == [None, None]


def test_cleared_are_forgotten() -> None:
    flights: Flights[Seat] = Flights(AGE)
    take_off(flights)
    flights.clear_locked()
    assert len(flights) == 0
    assert flights.find_locked("k", MODE, 0.0) is None
