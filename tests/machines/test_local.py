"""What a process knows of its keys, bare: one lock, no store, no waiting."""

from __future__ import annotations

from contextvars import copy_context
from threading import RLock
from typing import Any

import pytest

from resilient_cache import Mode, Source
from resilient_cache._local import KEY, MARK, Local
from resilient_cache._request import GATES, Candidate, Request
from resilient_cache.entry import MICROS
from resilient_cache.flights import AGAIN, LEAD, Flight, lead
from resilient_cache.journal import Journal
from resilient_cache.memory import FRESH, PAST, Memory
from resilient_cache.policy import CachePolicy
from resilient_cache.testing import ManualClock

DEFAULTS = CachePolicy()


def make(**policy: Any) -> Local:
    return Local(10, CachePolicy(**policy), ManualClock(), RLock())


class Passenger:
    """Somebody who waits."""

    verdict: str | None = None

    def wake(self) -> bool:
        return True


def test_the_side_rooms_have_rooms_of_their_own() -> None:
    """A thousand keys that do not exist and ten thousand stand-ins are remembered, apart from the entries."""
    local = make()
    assert (local.memory.capacity, local.negatives.capacity, local.stand_ins.capacity) == (10, 1_000, 10_000)


@pytest.mark.parametrize("skew", [0.5, 2.0])
def test_another_process_may_be_ahead_by_twice_the_skew(skew: float) -> None:
    """In microseconds, as stamps are."""
    assert make(skew=skew).margin == 2 * skew * MICROS


def test_a_value_ends_what_was_said_of_there_being_none() -> None:
    """Also when the value has been pushed out of memory since: none is not what comes back."""
    local = make()
    request = Request("k", CachePolicy(), Mode.ON, GATES[Mode.ON], since=0.0, until=9.0)
    request.stamp, request.loading_since = local.stamps.next(), 0.0
    local.keep_negative(request, None, 9e9, Flight("k", Mode.ON, request.stamp, 0.0))
    assert local.negatives.get("k")
    assert local.keep("k", Candidate(1, 9e9, 9e9, local.stamps.next()))
    assert local.negatives.get("k") is None


@pytest.mark.parametrize("room", ["negatives", "stand_ins", "spare"])
def test_what_is_older_than_what_is_known_is_not_kept(room: str) -> None:
    """L11: a slow read of the store brings what was there before the origin said that there is none."""
    local = make()
    older, stamp = local.stamps.next(), local.stamps.next()
    local.spare = Memory[Any](10)
    tier: Memory[Any] = getattr(local, room)
    tier.put_locked("k", "known", 9e9, 9e9, stamp)
    assert local.keep("k", Candidate(1, 9e9, 9e9, older)) is False
    assert (tier.get("k") is not None, local.memory.get("k")) == (True, None)
    assert local.keep("k", Candidate(1, 9e9, 9e9, stamp)) is True
    assert tier.get("k") is None


@pytest.mark.parametrize("room", ["negatives", "stand_ins", "spare"])
@pytest.mark.parametrize(("ended", "kept"), [(0.0, True), (-0.125, False)])
def test_what_is_over_refuses_nothing(room: str, ended: float, kept: bool) -> None:
    """Another process has set the key since, as far as the clocks can be told apart; it is a hit for its whole life."""
    local = make()
    local.spare = Memory[Any](10)
    older, stamp = local.stamps.next(), local.stamps.next()
    getattr(local, room).put_locked("k", "known", local.now() - ended, 9e9, stamp)
    assert local.keep("k", Candidate(1, 9e9, 9e9, older)) is kept
    assert (local.memory.get("k") is not None) is kept


def test_without_memory_what_the_store_has_ends_what_is_remembered_all_the_same() -> None:
    """Whichever it is, and by itself: that there is none, a stand-in, what is for an outage, what the loader raised."""
    for room in ("negatives", "stand_ins", "spare", "failures"):
        local = Local(0, DEFAULTS, ManualClock(), RLock())
        local.spare = Memory[Any](10)
        tier: Memory[Any] = getattr(local, room)
        tier.put_locked("k", "before", 9e9, 9e9, local.stamps.next())
        assert local.keep("k", Candidate(1, 9e9, 9e9, local.stamps.next())) is True
        assert tier.get("k") is None, room


def test_without_memory_a_load_that_was_replaced_is_refused_all_the_same() -> None:
    """Or it would be written to the store, over what its successor has written."""
    local = Local(0, DEFAULTS, ManualClock(), RLock())
    found = Candidate(1, 9e9, 9e9, local.stamps.next())
    flight = Flight[Any]("k", Mode.ON, found.stamp, 0.0)
    assert local.keep("k", found) is True
    assert local.keep("k", found, flight) is True
    flight.detached = True
    assert local.keep("k", found, flight) is False


def asking(now: float = 0.0, key: str = "k", *, policy: CachePolicy = DEFAULTS) -> Request:
    """A request of somebody with a loader."""
    made = Request(key, policy, Mode.ON, GATES[Mode.ON], since=now, until=9e9)
    made.loads = True
    made.loading_since = 0.0
    return made


def test_none_is_recalled_with_the_stamp_it_has_and_not_at_its_end() -> None:
    """From when the origin was asked: that is how old the answer is."""
    local, request = make(), asking()
    request.stamp = stamp = local.stamps.next()
    local.keep_negative(request, None, 5.0, Flight("k", Mode.ON, stamp, 0.0))
    later = asking(4.5)
    assert local.recall(later) == (Source.NEGATIVE, None)
    assert later.stamp == stamp
    assert local.recall(asking(5.0)) is None


def test_a_stand_in_is_recalled_with_the_stamp_it_has_until_its_rest_or_its_life_ends() -> None:
    """Whichever is first."""
    local = make()
    stamp = local.stamps.next()
    assert local.rest("k", Candidate("old", 1.0, 8.0, stamp), 5.0)
    request = asking(4.5)
    assert local.recall(request) == (Source.STALE, "old")
    assert request.stamp == stamp
    assert local.recall(asking(5.0)) is None
    assert local.rest("k", Candidate("old", 1.0, 3.0, stamp), 5.0)
    assert local.recall(asking(2.5)) == (Source.STALE, "old")
    assert local.recall(asking(3.0)) is None


def test_what_may_stand_in_is_inside_its_window_and_not_fenced() -> None:
    """At its end it is outside."""
    local, now = make(), ManualClock().monotonic()
    stamp = local.stamps.next()
    assert local.may_serve("k", Candidate("old", 0.0, now + 0.001, stamp))
    assert not local.may_serve("k", Candidate("old", 0.0, now, stamp))
    local.invalidate("k")
    assert not local.may_serve("k", Candidate("old", 0.0, now + 9, stamp))


def test_nothing_is_younger_than_now() -> None:
    """A stamp may be ahead of the clock: each is later than the one before."""
    local = make()
    assert local.age(local.stamps.next() + MICROS) == 0


def learned(local: Local, stamp: int, *, stand_in: Candidate | None = None, detached: bool = False) -> None:
    """Keep until 5.0 that a load of `stamp` has found none."""
    request, flight = asking(), Flight[Any]("k", Mode.ON, stamp, 0.0)
    request.stamp, request.stand_in, flight.detached = stamp, stand_in, detached
    local.keep_negative(request, None, 5.0, flight)


def test_what_there_was_ends_with_the_word_that_there_is_none() -> None:
    """Neither what stood in for it nor what the store still has comes back when that word is forgotten."""
    local = make()
    old = Candidate("old", 1.0, 99.0, local.stamps.next())
    assert local.rest("k", old, 50.0)
    learned(local, local.stamps.next(), stand_in=old)
    assert local.recall(asking(4.5)) == (Source.NEGATIVE, None)
    assert local.recall(asking(5.0)) is None
    assert not local.fences.admits("k", old.stamp)


def test_keys_that_never_were_use_up_no_fences() -> None:
    """However many of them are asked for."""
    local = make()
    learned(local, local.stamps.next())
    assert len(local.fences) == 0


def test_who_was_replaced_ends_nothing() -> None:
    """A load that finds none when another has taken its place is not to be believed."""
    local = make()
    stamp = local.stamps.next()
    assert local.keep("k", Candidate("new", 9.0, 9.0, local.stamps.next()))
    learned(local, stamp, detached=True)
    assert local.recall(asking(4.5)) == (Source.MEMORY, "new")


class Seat:
    """Somebody who waits."""

    verdict: str | None = None

    def wake(self) -> bool:
        return True


def test_who_leaves_needs_the_flight_no_more() -> None:
    """Its own flight can be waited for from the one that it left: that is no circle."""

    def nested() -> None:
        mine, _ = local.board(asking(key="mine"), Seat, 0.0)
        lead(mine)
        found, seat = local.board(asking(key="theirs"), Seat, 0.0)
        assert found is theirs
        assert mine.waits_for([theirs])
        local.leave(theirs, seat, 0.0)
        assert not mine.waits_for([theirs])

    local = make()
    theirs, _ = local.board(asking(key="theirs"), Seat, 0.0)
    copy_context().run(nested)


def test_a_child_has_a_number_of_its_own() -> None:
    """Not its parent's, nor that of another child, nor 0."""
    local = make()
    numbers = {0, local.node}
    for _ in range(2):
        local.forked()
        numbers.add(local.node)
    assert len(numbers) == 4


def test_what_may_be_loaded_again_early_may_be_so_from_its_moment_on() -> None:
    """And what has no such moment never before its end."""
    local = make()
    found = Candidate("new", 9.0, 9.0, local.stamps.next())
    for keep in (local.keep, local.replace):
        assert keep("k", found) in {True, None}
        request = asking(8.75)
        assert (local.recall(request), request.due) == ((Source.MEMORY, "new"), None)
        keep("k", found, early=1.0)
        for now, due in ((7.75, False), (8.0, True)):
            request = asking(now)
            assert local.recall(request) == (Source.MEMORY, "new")
            assert (request.due is not None) is due
            assert request.early == (1.0 if due else 0.0)


@pytest.mark.parametrize(
    ("now", "source"), [(8.75, Source.MEMORY), (9.0, Source.STALE), (18.75, Source.STALE), (19.0, None)]
)
def test_an_entry_that_is_loaded_again_behind_serves_meanwhile(now: float, source: Source | None) -> None:
    """Also where there is no memory: those who have a loader, and stale only those who take that at once."""
    local, policy = make(refresh_behind=True), CachePolicy(refresh_behind=True)
    local.distrust()
    found = Candidate("old", 9.0, 19.0, local.stamps.next())
    assert local.recall(asking(now, policy=policy)) is None
    assert local.depart(asking(local.trusted_since), found, 8.0, 1.0)
    request = asking(now, policy=policy)
    assert local.recall(request) == (None if source is None else (source, "old"))
    assert (request.due, request.stamp) == ((None, 0) if source is None else (found, found.stamp))
    assert local.recall(asking(now)) == ((source, "old") if source is Source.MEMORY else None)
    request.loads = False
    assert local.recall(request) is None


@pytest.mark.parametrize("asked", [-0.125, 0.0])
def test_what_was_read_before_something_was_missed_is_served_by_no_load_behind(asked: float) -> None:
    """Seed 56735: the load began after the gap, and the read that had found the entry before. So may an heir of it."""
    local = make()
    local.distrust()
    gap = local.trusted_since
    flight = local.depart(asking(gap + asked), Candidate("old", 1e9, 1e9, local.stamps.next()), gap, 1.0)
    assert flight is not None
    _, heir = local.board(asking(gap), Passenger, gap)
    local.leave(flight, None, gap + 1.0)
    assert flight.leader is heir
    assert local.recall(asking(gap + 2.0)) == ((Source.MEMORY, "old") if asked == 0.0 else None)


@pytest.mark.parametrize("gap", ["none", "before", "after"])
def test_nobody_joins_a_flight_of_before_something_was_missed(gap: str) -> None:
    """Nor inherits it: those aboard ask again. Once its load has begun it is of after that."""
    local = make()
    if gap == "before":
        local.distrust()
    flight, _ = local.board(asking(), Passenger, 0.0)
    flight.sit(aboard := Passenger())
    if gap == "after":
        local.distrust()
    joined, seat = local.board(asking(), Passenger, 0.0)
    assert ((joined, seat is None) == (flight, False)) is (gap != "after")
    assert flight.detached is (gap == "after")
    local.leave(flight, None, 1.0)
    assert aboard.verdict == (AGAIN if gap == "after" else LEAD)


def test_nobody_inherits_a_flight_of_before_something_was_missed() -> None:
    """Whether or not anybody has asked since."""
    local = make()
    flight, _ = local.board(asking(), Passenger, 0.0)
    _, seat = local.board(asking(), Passenger, 0.0)
    local.distrust()
    local.leave(flight, None, 1.0)
    assert seat is not None
    assert seat.verdict == AGAIN
    assert local.flights.find("k", Mode.ON) is None


def test_a_load_that_begins_when_something_has_been_missed_is_joined() -> None:
    """L14: what its flight had read before that was nothing."""
    local = make()
    flight, _ = local.board(asking(), Passenger, 0.0)
    local.distrust()
    assert local.begin_load(flight)
    joined, seat = local.board(asking(), Passenger, 0.0)
    assert joined is flight
    assert seat is not None


@pytest.mark.parametrize("began", [-0.125, 0.0])
def test_what_was_loaded_before_something_was_missed_is_not_kept_for_when_the_store_is_gone(began: float) -> None:
    """Asked in the step that keeps it: a gap may have come since."""
    local = make()
    local.spare = Memory[Any](10)
    local.distrust()
    local.keep_spare("k", Candidate("new", 9e9, 9e9, local.stamps.next()), 9e9, None, local.trusted_since + began)
    assert ("k" in local.spare.entries) is (began == 0.0)


def test_the_moment_of_a_gap_is_taken_when_all_is_expired() -> None:
    """Readers take no lock: who finds an entry while the others expire has begun before that moment."""

    class Watching:
        time = staticmethod(float)

        def monotonic(self) -> float:
            seen.append(local.memory.entries["k"][FRESH] == PAST)
            return 1.0

    seen: list[bool] = []
    local = Local(10, CachePolicy(), Watching(), RLock())
    local.memory.put_locked("k", "old", 9e9, 9e9, 1)
    local.distrust()
    assert seen == [True]


def test_what_began_to_be_read_before_something_was_missed_is_kept_as_if_expired() -> None:
    """And what began at that very moment is not."""
    local = make()
    local.distrust()
    for since, fresh in ((local.trusted_since, 9.0), (local.trusted_since - 0.125, PAST)):
        assert local.keep("k", Candidate("new", 9.0, 9.0, local.stamps.next()), since=since)
        assert local.memory.entries["k"][FRESH] == fresh


def test_of_a_load_that_was_replaced_nothing_is_remembered() -> None:
    """Neither its error nor its value, for whatever time."""
    local, request = make(), asking()
    local.spare = Memory[Any](10)
    request.stamp = local.stamps.next()
    flight = Flight[Any]("k", Mode.ON, request.stamp, 0.0)
    for detached in (True, False):
        flight.detached = detached
        local.keep_failure(request, "down", 5.0, flight)
        local.keep_spare("k", Candidate("new", 9.0, 9.0, request.stamp), 5.0, flight, 0.0)
        assert local.failure("k", 4.0) == (None if detached else "down")
        assert ("k" in local.spare.entries) is not detached


def owing() -> tuple[Local, Journal]:
    """One with a journal."""
    journal = Journal(5.0, lambda _: 1.0)
    return Local(10, CachePolicy(), ManualClock(), RLock(), journal), journal


def test_of_a_write_that_failed_what_was_before_it_is_owed() -> None:
    """And not itself, which may be there."""
    local, journal = owing()
    stamp = local.stamps.next()
    local.suspect("k", stamp)
    debt = journal.debt(KEY + "k")
    assert debt is not None
    assert (debt.stamp, debt.newest) == (stamp - 1, stamp)
    assert local.fences.at("k") == stamp - 1


def test_of_a_write_that_failed_what_was_before_it_leaves_memory() -> None:
    """Up to the stamp before its own; a hit in memory asks no fence."""
    local, _ = owing()
    for key, stamp in (("before", 99), ("own", 100)):
        local.memory.put_locked(key, 1, 9e9, 9e9, stamp)
        local.suspect(key, 100)
    assert [key for key in ("before", "own") if local.memory.get(key)] == ["own"]


def test_an_error_that_is_over_is_let_go_of() -> None:
    """It holds the frames of its loader."""
    local, request = make(), asking()
    request.stamp = local.stamps.next()
    local.keep_failure(request, "down", 5.0, Flight[Any]("k", Mode.ON, request.stamp, 0.0))
    assert local.failure("k", 4.75) == "down"
    assert local.failure("k", 5.0) is None
    assert not local.failures.entries


def test_none_is_remembered_if_nothing_was_missed_since_it_was_asked_for() -> None:
    """What was missed at that very moment was missed before."""
    local = make()
    local.distrust()
    for since, kept in ((local.trusted_since, True), (local.trusted_since - 0.125, False)):
        request = asking()
        request.stamp, request.loading_since = local.stamps.next(), since
        local.keep_negative(request, None, 9e9, Flight[Any]("k", Mode.ON, request.stamp, 0.0))
        assert ("k" in local.negatives.entries) is kept
        local.negatives.drop_locked("k")


def test_what_is_refused_is_forgotten_and_not_what_has_come_since() -> None:
    """It goes by the stamp."""
    local = make()
    stamp = local.stamps.next()
    assert local.keep("k", Candidate("new", 9.0, 9.0, stamp + 1))
    local.forget("k", stamp)
    assert local.recall(asking()) == (Source.MEMORY, "new")
    local.forget("k", stamp + 1)
    assert local.recall(asking()) is None


def test_what_an_earlier_process_owed_was_before_whatever_happens_now() -> None:
    """Its clock may have been ahead. What a later version of the library may have written there means nothing here."""
    local, journal = owing()
    ahead = local.stamps.next() + 9 * MICROS
    local.remember(KEY + "k", ahead)
    local.remember(MARK + "t", ahead - 1)
    local.remember("zt", ahead + 1)
    assert local.stamps.next() > ahead
    assert (KEY + "k" in journal, MARK + "t" in journal, "zt" in journal) == (True, True, False)
    assert local.barred == ahead - 1


def test_without_a_store_nothing_is_owed() -> None:
    """And nothing can be confirmed."""
    local = make()
    stamp = local.stamps.next()
    local.remember(KEY + "k", stamp)
    assert not local.fences.admits("k", stamp)
    assert local.confirm("k", stamp) is False


def test_who_replaces_and_joins_another_that_does_has_still_not_been_in_its_flight() -> None:
    """Or two that refuse what they share would end each other's loads."""
    local, first, second = make(), asking(), asking()
    local.stamps.next()
    first.force()
    flight, seat = local.board(first, Seat, 0.0)
    assert seat is None
    second.force()
    second.boarded = before = flight.stamp - 1
    joined, seat = local.board(second, Seat, 0.0)
    assert joined is flight
    assert seat is not None
    assert (second.boarded, first.boarded) == (before, flight.stamp)


def test_a_load_behind_is_followed_by_another_after_a_pause() -> None:
    """Counted from when it departed, however it ended."""
    local, found = make(), Candidate("old", 9.0, 19.0, 1)
    flight = local.depart(asking(), found, 8.0, 1.0)
    assert flight is not None
    local.land(flight, None)
    assert local.depart(asking(), found, 8.75, 1.0) is None
    assert local.depart(asking(), found, 9.0, 1.0) is not None


@pytest.mark.parametrize(
    ("turned_down", "found", "begun", "joins"),
    [
        (True, "old", True, True),
        (True, None, True, False),
        (False, "old", True, False),
        (True, "old", False, False),
    ],
)
def test_who_refused_what_the_store_gave_joins_the_load_that_has_begun(
    turned_down: bool, found: str | None, begun: bool, joins: bool
) -> None:
    """And no load that still queues, for that ends with what was found; nor does a refresh join it."""
    local = make()
    flight, _ = local.board(asking(), Passenger, 0.0)
    flight.found, flight.origin = found, object() if begun else None
    request = asking()
    request.force()
    request.turned_down = turned_down
    joined, _ = local.board(request, Passenger, 0.0)
    assert (joined is flight) is joins


def test_who_does_not_take_what_is_stale_joins_those_who_do_not_either() -> None:
    """A load that may end with a stale value is for those who take one."""
    local = make(refresh_behind=True)
    plain, _ = local.board(asking(), Seat, 0.0)
    picky = asking()
    picky.picky = True
    assert local.board(picky, Seat, 0.0)[0] is plain
    plain.takes_stale = True
    assert local.board(picky, Seat, 0.0)[0] is not plain


@pytest.mark.parametrize("what", ["key", "tag"])
def test_nobody_joins_a_load_from_before_an_invalidation(what: str) -> None:
    """Of the key, or of a tag which it may have."""
    local = make()
    flight, _ = local.board(asking(), Seat, 0.0)
    assert local.board(asking(), Seat, 0.0)[0] is flight
    if what == "key":
        local.fences.raise_locked("k", flight.stamp)
    else:
        local.barred = flight.stamp
    assert local.board(asking(), Seat, 0.0)[0] is not flight


def test_what_an_earlier_process_owed_leaves_memory_up_to_its_stamp() -> None:
    """A hit asks no fence, and the fence is raised after others have read the store."""
    for later, found in ((0, None), (1, (Source.MEMORY, "v"))):
        local, _ = owing()
        stamp = local.stamps.next()
        assert local.keep("k", Candidate("v", 9e9, 9e9, stamp + later))
        local.remember(KEY + "k", stamp)
        assert local.recall(asking()) == found
