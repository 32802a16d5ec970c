"""What a process knows of all its keys at once, bare."""

from __future__ import annotations

from threading import RLock
from typing import Any

import pytest

from resilient_cache import Mode
from resilient_cache._local import DROPPED, EVERYTHING, KEY, MARK, Local
from resilient_cache._request import GATES, Candidate, Request
from resilient_cache.entry import MICROS
from resilient_cache.flights import Flight
from resilient_cache.journal import Journal
from resilient_cache.marks import NAMESPACE, NODE_BITS, Mark, tag_mark
from resilient_cache.memory import PAST
from resilient_cache.policy import CachePolicy
from resilient_cache.testing import ManualClock


def make(memory: int = 10, journal: Journal | None = None, **policy: Any) -> Local:
    return Local(memory, CachePolicy(**policy), ManualClock(), RLock(), journal)


def owing(capacity: int = 10) -> Journal:
    return Journal(5.0, lambda _: 1.0, capacity)


class Seat:
    """Somebody who waits."""

    verdict: str | None = None

    def wake(self) -> bool:
        return True


def aloft(local: Local, key: str = "k") -> Flight[Any]:
    """A flight that has just taken off."""
    return local.board(Request(key, CachePolicy(), Mode.ON, GATES[Mode.ON], since=0.0, until=9e9), Seat, 0.0)[0]


def test_names_begin_as_other_versions_and_processes_expect() -> None:
    """They stand in durable journals and in messages."""
    assert (KEY, MARK, DROPPED, EVERYTHING) == ("k", "m", "d", "*")


def test_each_tier_has_its_room() -> None:
    """As many errors as keys that are not there; the spare memory only where it is of use."""
    assert make().failures.capacity == 1_000
    for memory, journal, ttl, capacity in (
        (0, owing(), 0.5, 10_000),
        (0, owing(), 0.0, 0),
        (1, owing(), 0.5, 0),
        (0, None, 0.5, 0),
    ):
        assert make(memory, journal, degraded_ttl=ttl).spare.capacity == capacity


def test_a_fence_outlives_whatever_it_must_stop() -> None:
    """The longest life of an entry, and what another clock may be ahead by."""
    local = make(max_ttl=100, stale_for=50, skew=0.5)
    longest = local.fences._life / MICROS
    assert longest == CachePolicy(max_ttl=100, stale_for=50, skew=0.5).longest_life + 1.0
    assert local.tag_fences._life == local.fences._life


@pytest.mark.parametrize("epoch_ttl", [10.0, None])
def test_when_the_journal_is_full_everything_is_owed(epoch_ttl: float | None) -> None:
    """Where others would heed it."""
    journal = owing(1)
    local = make(journal=journal, epoch_ttl=epoch_ttl)
    local.invalidate("a")
    assert journal.debt(MARK + NAMESPACE) is None
    local.invalidate("b")
    assert (journal.debt(MARK + NAMESPACE) is not None) is (epoch_ttl is not None)


@pytest.mark.parametrize("tells", [True, False])
def test_peers_are_told_if_there_are_some(tells: bool) -> None:
    """Of keys, and of many at once."""
    local = make()
    local.tells = tells
    local.invalidate("a")
    local.invalidate_many("t")
    assert list(local.untold) == [KEY + "a", MARK + "t"] * tells


def test_of_more_than_ten_thousand_names_all_are_meant() -> None:
    """One more and it is not said which."""
    local = make()
    local.tells = True
    local.tell(map(str, range(10_000)))
    assert len(local.untold) == 10_000
    local.tell(["another"])
    assert list(local.untold) == [EVERYTHING]


@pytest.mark.parametrize("name", [NAMESPACE, tag_mark("t")])
@pytest.mark.parametrize(("known", "own"), [(False, False), (False, True), (True, False)])
def test_only_news_of_others_ends_something(name: str, known: bool, own: bool) -> None:
    """Loads in the air too; of a tag nobody knows which, so none of them is joined any more."""
    local = make(epoch_ttl=10.0)
    stamp = local.stamps.next()
    mark = Mark(stamp << NODE_BITS, stamp << NODE_BITS)
    if known:
        local.learn(name, mark, 1.0)
    local.barred = 0
    assert local.keep("k", Candidate("v", 9.0, 9.0, local.stamps.next() - MICROS, ("t",), local.stamps.next()))
    flight = aloft(local)
    local.learn(name, mark, 2.0, own=own)
    news = not known and not own
    assert flight.detached is (news and name == NAMESPACE)
    assert (local.barred > flight.stamp) is (news and name != NAMESPACE)
    assert ("k" not in local.memory.entries) is news


def test_what_peers_say_is_done_and_no_more() -> None:
    """A new value elsewhere ends the load here; what nobody understands ends nothing."""
    local = make()
    stamp = local.stamps.next()
    assert local.keep("k", Candidate("v", 9.0, 9.0, stamp))
    flight = aloft(local)
    for name, ended in (("zk", False), (DROPPED + "k", True)):
        local.heard([name])
        assert ("k" not in local.memory.entries) is ended
        assert flight.detached is ended
    assert local.fences.admits("k", stamp)


def test_a_store_that_is_back_may_have_lost_its_marks() -> None:
    """So they are asked for again before anything is written under them."""
    local = make(epoch_ttl=10.0)
    now = local.now()
    local.learn(NAMESPACE, Mark(1 << 20, 0), now)
    assert not local.marks.due(NAMESPACE, now)
    local.recovered(trusted=True)
    assert local.marks.due(NAMESPACE, now)
    assert (local.outage, local.trusted_since) == (0, PAST)


def test_a_load_from_before_everything_was_invalidated_has_left() -> None:
    """And those of other tags than one that was."""
    local = make()
    flight = aloft(local)
    local.invalidate_many(tag_mark("t"))
    assert not flight.detached
    local.invalidate_many(NAMESPACE)
    assert flight.detached


def test_what_is_owed_again_is_not_put_off() -> None:
    """Or with one key after another it would never be due."""
    journal = owing(2)
    local = make(journal=journal, epoch_ttl=10.0)
    dues = []
    for key in "abcd":
        local.invalidate(key)
        owed = journal.debt(MARK + NAMESPACE)
        dues.append(owed and owed.due)
        local._clock.advance(1)  # type: ignore[attr-defined]
    assert dues[1] is None
    assert dues[2] is not None
    assert dues[2] == dues[3]


def test_one_tag_that_was_invalidated_is_enough() -> None:
    """Here or elsewhere."""
    local = make()
    found = Candidate("v", 9.0, 9.0, local.stamps.next(), ("a", "b"), local.stamps.next())
    assert local.admits("k", found)
    local.tag_fences.raise_locked(tag_mark("a"), found.stamp)
    assert not local.admits("k", found)


def test_what_was_loaded_after_an_invalidation_elsewhere_stays() -> None:
    """However long before that was heard of it was in hand."""
    local = make(epoch_ttl=10.0, skew=0.0)
    invalidated = local.stamps.next()
    old = Candidate("v", 9.0, 9.0, invalidated - 1, (), local.stamps.next())
    new = old._replace(stamp=local.stamps.next())
    local.learn(NAMESPACE, Mark(invalidated << NODE_BITS, invalidated << NODE_BITS), local.now())
    assert (local.admits("k", old), local.admits("k", new)) == (False, True)


@pytest.mark.parametrize("name", [NAMESPACE, tag_mark("t")])
def test_what_is_being_opened_when_an_invalidation_elsewhere_is_learned_of_is_refused(name: str) -> None:
    """It was taken in hand at a reading of the clock, which no stamp has reached yet."""
    local = make(epoch_ttl=10.0)
    stamp = local.stamps.next()
    local._clock.advance(0.05)  # type: ignore[attr-defined]
    found = Candidate("v", 9.0, 9.0, stamp, ("t",), local.stamps.at(local.now()))
    assert found.taken > local.stamps.latest
    version = found.taken << NODE_BITS
    local.learn(name, Mark(version, version), local.now())
    assert not local.admits("k", found)
    assert local.admits("k", found._replace(taken=local.stamps.latest))


def test_what_an_earlier_process_owed_lets_nobody_join_a_flight_again() -> None:
    """Its mark is older than what was invalidated here."""
    local = make()
    invalidated = local.invalidate_many(tag_mark("t"))
    local.remember(MARK + tag_mark("u"), invalidated - 1)
    assert local.barred == invalidated
