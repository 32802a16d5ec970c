"""The permits of loads and their queue, against a model that is a list; and what each border means."""

from __future__ import annotations

from threading import RLock
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from resilient_cache.bulkhead import Bulkhead

LIFE = 4.0


class Seat:
    """Somebody who queues."""

    verdict: str | None = None

    def wake(self) -> bool:
        return True


class Place(NamedTuple):
    """Somebody in the model's queue, which is sorted whenever somebody is let in."""

    second: bool
    number: int
    seat: Seat
    until: float
    lease: float


class BulkheadMachine(RuleBasedStateMachine):
    permits: Bundle[int] = Bundle("permits")
    seats: Bundle[Seat] = Bundle("seats")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.joined = 0
        self.out: dict[int, float] = {}
        self.queue: list[Place] = []
        self.granted: dict[Seat, int] = {}
        self.over = 0
        self.seen: set[int] = set()

    @initialize(limit=st.integers(1, 3))
    def of(self, limit: int) -> None:
        self.bulkhead = Bulkhead[Seat](limit, RLock())
        self.limit = limit

    def room(self) -> bool:
        """Whether one more may be let in; takes back what is past its lease, if need be."""
        if len(self.out) >= self.limit:
            self.out = {permit: lease for permit, lease in self.out.items() if lease > self.now}
            self.granted = {seat: permit for seat, permit in self.granted.items() if permit in self.out}
        return len(self.out) < self.limit

    def let_in(self, woken: list[Seat]) -> None:
        """The bulkhead woke `woken`: it must be those whom the model lets in."""
        expected = []
        while self.queue and self.room():
            place = min(self.queue)
            self.queue.remove(place)
            if place.until > self.now:
                permit = self.bulkhead._granted[place.seat]
                assert permit not in self.seen
                self.seen.add(permit)
                self.out[permit] = place.lease
                self.granted[place.seat] = permit
                expected.append(place.seat)
        assert woken == expected

    @rule(step=st.sampled_from([0.0, 0.5, 1.0, LIFE]))
    def wait(self, step: float) -> None:
        self.now += step

    @rule(limit=st.integers(1, 3))
    def change(self, limit: int) -> None:
        self.limit = self.bulkhead.limit = limit
        self.let_in(self.bulkhead.grant(self.now))

    @rule(target=permits, way=st.sampled_from(["new", "new", "queued", "forced"]), life=st.sampled_from([0.5, LIFE]))
    def acquire(self, way: str, life: float) -> int:
        lease = self.now + life
        if way == "forced":
            permit, may = self.bulkhead.force(lease), True
        else:
            permit = self.bulkhead.acquire(self.now, lease, queued=way == "queued")
            may = (way == "queued" or not self.queue) and self.room()
        assert bool(permit) is may
        if permit:
            assert permit not in self.seen
            self.seen.add(permit)
            self.out[permit] = lease
        return permit

    @rule(target=seats, first=st.booleans(), patience=st.sampled_from([0.0, 1.0, LIFE]))
    def join(self, first: bool, patience: float) -> Seat:
        seat = Seat()
        self.joined += 1
        self.queue.append(Place(not first, self.joined, seat, self.now + patience, self.now + LIFE))
        woken = self.bulkhead.join(seat, self.now, until=self.now + patience, lease=self.now + LIFE, first=first)
        self.let_in(woken)
        return seat

    @rule(target=permits, seat=seats)
    def leave(self, seat: Seat) -> int:
        self.queue = [place for place in self.queue if place.seat is not seat]
        expected = self.granted.pop(seat, 0)
        permit = self.bulkhead.leave(seat)
        assert permit == expected
        return permit

    @rule(permit=permits)
    def release(self, permit: int) -> None:
        self.out.pop(permit, None)
        assert self.bulkhead.release(permit) is bool(self.queue)
        self.let_in(self.bulkhead.grant(self.now))

    @rule()
    def clear(self) -> None:
        self.bulkhead.clear_locked()
        self.out, self.granted, self.queue = {}, {}, []

    @invariant()
    def counts_what_is_out_and_who_queues(self) -> None:
        if hasattr(self, "bulkhead"):
            assert (self.bulkhead.running, self.bulkhead.queued) == (len(self.out), len(self.queue))


TestBulkhead = BulkheadMachine.TestCase


def made(limit: int = 1) -> Bulkhead[Seat]:
    return Bulkhead(limit, RLock())


def test_as_many_as_the_limit_and_then_one_for_each_that_comes_back() -> None:
    bulkhead = made(2)
    first, second = (bulkhead.acquire(0.0, 9.0) for _ in range(2))
    assert 0 < first != second > 0
    assert bulkhead.acquire(0.0, 9.0) == 0
    assert bulkhead.release(first) is False
    assert bulkhead.acquire(0.0, 9.0) > second


def test_who_comes_later_does_not_overtake_the_queue() -> None:
    """A permit goes to the queue in the step that takes it back."""
    bulkhead, seat = made(), Seat()
    permit = bulkhead.acquire(0.0, 9.0)
    assert bulkhead.join(seat, 0.0, until=1.0, lease=9.0, first=True) == []
    assert bulkhead.release(permit) is True
    assert bulkhead.acquire(0.5, 9.0) == 0
    assert bulkhead.grant(0.5) == [seat]
    assert bulkhead.leave(seat)


def test_those_with_nothing_to_give_go_first_and_each_class_in_its_order() -> None:
    bulkhead, stale, bare, later = made(), Seat(), Seat(), Seat()
    permit = bulkhead.acquire(0.0, 9.0)
    for seat, first in ((stale, False), (bare, True), (later, True)):
        assert bulkhead.join(seat, 0.0, until=1.0, lease=9.0, first=first) == []
    order = []
    for _ in range(3):
        bulkhead.release(permit)
        [seat] = bulkhead.grant(0.0)
        permit = bulkhead.leave(seat)
        order.append(seat)
    assert order == [bare, later, stale]


def test_one_whose_time_is_over_is_passed_by() -> None:
    """Or each caller that was frozen in the queue would keep a permit for a whole lease."""
    bulkhead, gone, there = made(), Seat(), Seat()
    permit = bulkhead.acquire(0.0, 9.0)
    bulkhead.join(gone, 0.0, until=1.0, lease=9.0, first=True)
    bulkhead.join(there, 0.5, until=1.5, lease=9.0, first=True)
    bulkhead.release(permit)
    assert bulkhead.grant(1.0) == [there]
    assert bulkhead.leave(gone) == 0


def test_a_permit_past_its_lease_is_taken_back_when_it_is_wanted_and_not_before() -> None:
    bulkhead = made()
    lost = bulkhead.acquire(0.0, 5.0)
    assert bulkhead.acquire(4.999, 9.0) == 0
    assert bulkhead.acquire(5.0, 9.0) > lost
    assert bulkhead.release(lost) is False
    assert bulkhead.running == 1


def test_one_given_to_somebody_who_never_came_for_it_is_taken_back_too() -> None:
    bulkhead, frozen = made(), Seat()
    permit = bulkhead.acquire(0.0, 9.0)
    bulkhead.join(frozen, 0.0, until=1.0, lease=5.0, first=True)
    bulkhead.release(permit)
    assert bulkhead.grant(0.0) == [frozen]
    assert bulkhead.acquire(5.0, 9.0)
    assert bulkhead.leave(frozen) == 0
    assert bulkhead.running == 1


def test_whoever_has_queued_minds_no_queue_and_who_has_not_minds_both() -> None:
    bulkhead = Bulkhead[Seat](1, RLock())
    permit = bulkhead.acquire(0.0, 9.0)
    bulkhead.join(Seat(), 0.0, until=5.0, lease=9.0, first=False)
    assert bulkhead.release(permit), "one of the second class is to be let in, too"
    assert bulkhead.acquire(0.0, 9.0) == 0
    assert bulkhead.acquire(0.0, 9.0, queued=True) > 0
    assert bulkhead.acquire(0.0, 9.0, queued=True) == 0


def test_nothing_is_looked_through_before_the_first_lease_can_end() -> None:
    """However many ask meanwhile."""

    class Leases(dict[int, float]):
        looks = 0

        def values(self) -> Any:
            Leases.looks += 1
            return super().values()

    bulkhead = Bulkhead[Seat](2, RLock())
    bulkhead.acquire(0.0, 3.0)
    bulkhead.acquire(0.0, 5.0)
    bulkhead._out = Leases(bulkhead._out)
    assert [bulkhead.acquire(2.9, 9.0) for _ in range(3)] == [0, 0, 0]
    assert Leases.looks == 0
    assert bulkhead.acquire(3.0, 9.0) > 0
    assert Leases.looks == 1
    bulkhead._out = Leases(bulkhead._out)
    assert bulkhead.acquire(4.9, 9.0) == 0
    assert Leases.looks == 1
    assert bulkhead.acquire(5.0, 9.0) > 0


def test_the_lease_that_ends_next_is_known_after_one_has_ended() -> None:
    bulkhead = Bulkhead[Seat](3, RLock())
    for lease in (3.0, 8.0, 5.0):
        bulkhead.acquire(0.0, lease)
    assert [bulkhead.acquire(now, 9.0) > 0 for now in (3.0, 4.9, 5.0, 7.9, 8.0)] == [True, False, True, False, True]
