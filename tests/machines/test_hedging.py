"""A race between a read of the store and a load, bare."""

from __future__ import annotations

import itertools
from threading import RLock
from typing import Any

from resilient_cache import CachePolicy, Lookup, Mode, Reason, Source
from resilient_cache._hedging import Race
from resilient_cache._local import Local
from resilient_cache._request import GATES, Candidate, Failure, Request
from resilient_cache.flights import FOUND, LEAD
from resilient_cache.marks import tag_mark
from resilient_cache.testing import ManualClock

HIT: Lookup[Any] = Lookup("old", Source.STORE, Reason.HIT, 1.0, False)


class Seat:
    """Counts how often it was woken."""

    def __init__(self) -> None:
        self.verdict: str | None = None
        self.woken = 0

    def wake(self) -> bool:
        self.woken += 1
        return True


def made() -> tuple[Race, Request, Any, Local]:
    policy, clock, lock = CachePolicy(), ManualClock(), RLock()
    local = Local(10, policy, clock, lock, None)
    request = Request("k", policy, Mode.ON, GATES[Mode.ON], since=1_000.0, until=2_000.0)
    request.loads = True
    flight, _ = local.board(request, Seat, 1_000.0)
    return Race(request, flight, local, lock, until=1_000.25), request, flight, local


def test_who_comes_when_the_read_is_over_has_nothing_to_wait_for() -> None:
    race, request, flight, _ = made()
    assert race.end(HIT)
    assert race.sit(Seat) is None
    assert race.overtake(request, Seat) is None
    assert flight.leader is None
    assert race.take(request) is HIT


def test_a_race_ends_once() -> None:
    race, request, _, _ = made()
    seat = race.sit(Seat)
    assert race.end()
    assert not race.end(HIT)
    assert seat.woken == 1
    assert race.take(request) is None


def test_a_seat_that_was_left_is_woken_by_nobody() -> None:
    race, request, _, _ = made()
    seat = race.sit(Seat)
    assert race.overtake(request, Seat) is not None
    race.end()
    assert seat.woken == 0


def test_what_a_read_found_that_began_before_a_gap_serves_nobody_but_as_a_stand_in() -> None:
    """Nor is it told how a degraded answer was made, which leaves nothing to serve."""
    for gap, found in ((-0.125, True), (0.0, True), (0.125, False)):
        race, request, flight, local = made()
        local.trusted_since = request.since + gap
        race.overtake(request, Seat)
        race.reading.offer(Candidate("old", 9e9, 9e9, local.stamps.next()))
        race.end(HIT)
        later = Request("k", request.policy, Mode.ON, request.gates, since=1_000.5, until=2_000.0)
        later.loads = True
        assert (local.recall(later) == (Source.MEMORY, "old")) is found
        assert flight.outcome is None
        assert flight.found is (HIT if found else None)
        failure = Failure(OSError(), None, Source.NONE, None)
        assert race.best(failure) == (HIT if found else failure._replace(stand_in=race.running.stand_in))
    race, request, flight, _ = made()
    race.overtake(request, Seat)
    race.end(HIT)
    assert flight.renewing is None


def test_what_a_read_found_that_was_invalidated_since_is_handed_to_nobody() -> None:
    """L9: whoever joined when the load had begun has asked after the invalidation, of a tag for one."""
    for before, tags in itertools.product((True, False), ((), ("t",))):
        race, request, flight, local = made()
        race.reading.offer(Candidate("old", 9e9, 9e9, local.stamps.next(), tags))
        race.overtake(request, Seat)
        if not before:
            race.end(HIT)
        local.invalidate_many(tag_mark("t"))
        if before:
            race.end(HIT)
        kept = HIT if not tags else None
        assert flight.found is (kept if before else HIT)
        failure = Failure(OSError(), None, Source.NONE, None)
        assert race.best(failure) == (kept or failure._replace(stand_in=race.running.stand_in))


def test_a_race_that_leads_is_handed_nothing() -> None:
    race, request, flight, local = made()
    place = race.overtake(request, Seat)
    assert flight.leader is race
    assert not race.wake()
    local.leave(flight, race, 1_000.0)
    assert (place.verdict, place.woken, flight.leader) == (LEAD, 1, place)


def test_what_is_found_is_given_to_those_aboard_and_not_to_one_who_landed() -> None:
    race, request, flight, local = made()
    race.reading.offer(Candidate("old", 9e9, 9e9, local.stamps.next()))
    place = race.overtake(request, Seat)
    assert not race.end(HIT)
    assert (place.verdict, place.woken, flight.found, flight.outcome) == (FOUND, 1, HIT, None)
    race, request, flight, local = made()
    race.reading.offer(Candidate("old", 9e9, 9e9, local.stamps.next()))
    race.overtake(request, Seat)
    local.land(flight, "landed")
    race.end(HIT)
    assert (flight.found, flight.outcome) == (None, "landed")


def test_what_the_read_found_goes_to_the_load_and_not_to_the_caller() -> None:
    race, request, flight, _ = made()
    race.overtake(request, Seat)
    race.reading.reason, race.reading.answered = Reason.ABSENT, True
    race.end()
    assert (request.reason, request.answered) == (Reason.SLOW, False)
    assert (race.running.reason, race.running.answered) == (Reason.ABSENT, True)
    assert flight.stand_in is None
