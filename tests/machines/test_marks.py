"""Marks, bare: what is known of versions, and what follows from it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from resilient_cache.marks import CAPACITY, NAMESPACE, Mark, Marks, moment_of, tag_mark
from resilient_cache.outcome import Reason

LIFE = 4.0
MARGIN = 100
T = tag_mark("t")
NAMES = st.sampled_from([NAMESPACE, T, tag_mark("u"), tag_mark("v")])


def version(moment: int, node: int = 0) -> int:
    return moment << 12 | node


def knowing(name: str = T, *, moment: int = 1_000, asked: float = 0.0, since: int = 5_000, inv: int = 0) -> Marks:
    marks = Marks(LIFE, MARGIN)
    marks.learn_locked(name, Mark(version(moment), version(inv) if inv else 0), asked, since)
    return marks


def test_no_key_of_the_store_is_that_of_the_namespace_and_of_a_tag() -> None:
    assert NAMESPACE == ""
    assert tag_mark("") == "tag:"


def test_one_asks_past_half_the_life_and_everybody_past_all_of_it() -> None:
    marks = knowing(asked=10.0)
    assert not marks.due(T, 11.99)
    assert marks.due(T, 12.0)
    assert not marks.due(T, 12.0)
    assert not marks.due(T, 13.99)
    assert marks.due(T, 14.0)
    assert marks.due(T, 14.0)
    assert marks.due(tag_mark("unknown"), 0.0)
    assert marks.due(T, 12.0) is False
    fresh = Marks(LIFE, MARGIN)
    assert [fresh.due(NAMESPACE, now) for now in (0.0, 0.0, 0.5)] == [True, True, True]


def test_the_same_word_of_the_store_at_the_same_moment_has_nobody_ask_once_more() -> None:
    marks = knowing(asked=10.0)
    assert marks.due(T, 12.0)
    marks.learn_locked(T, Mark(version(1_000)), 10.0, 6_000)  # of somebody who asked at the same time
    assert not marks.due(T, 12.0)


def test_the_known_version_found_again_is_trusted_for_another_life() -> None:
    marks = knowing(asked=10.0)
    marks.learn_locked(T, Mark(version(1_000)), 12.0, 6_000)
    assert marks.verdict([(T, version(1_000))], 15.99) is None
    assert [marks.due(T, now) for now in (13.99, 14.0, 14.0, 15.99, 16.0)] == [False, True, False, False, True]


def test_a_mark_that_is_not_trusted_is_asked_for_by_everybody_and_its_entries_may_stand_in() -> None:
    marks = knowing(inv=900)
    marks.learn_locked(tag_mark("u"), Mark(version(1)), 0.0, 1)
    marks.distrust_locked(tag_mark("unknown"))
    assert not marks.due(T, 0.5)
    marks.distrust_locked(T)
    assert [marks.due(T, 0.5), marks.due(T, 0.5), marks.due(tag_mark("u"), 0.5)] == [True, True, False]
    assert marks.verdict([(T, version(1_000))], 0.5) is Reason.EXPIRED
    assert marks.refuses(T, 1_000, 4_999)  # what is known stays known
    assert len(marks) == 2


def test_when_all_marks_are_not_trusted_each_is_asked_for() -> None:
    marks = knowing()
    marks.learn_locked(NAMESPACE, Mark(version(1)), 0.0, 1)
    assert not marks.due(T, 0.5)
    assert not marks.due(NAMESPACE, 0.5)
    marks.distrust_all_locked()
    assert [marks.due(name, 0.5) for name in (T, T, NAMESPACE, NAMESPACE)] == [True] * 4


def test_a_version_that_is_not_known_yet_is_asked_for_at_once() -> None:
    marks = knowing()
    assert marks.due(T, 1.0, version(1_000) + 1)
    assert not marks.due(T, 1.0, version(1_000))


@pytest.mark.parametrize(
    ("found", "now", "verdict"),
    [
        (version(1_000), 3.99, None),
        (version(1_000), 4.0, Reason.EXPIRED),
        (version(999), 0.0, Reason.EXPIRED),  # the mark was lost since, nobody knows what with
        (version(999), 9.0, Reason.EXPIRED),
        (version(1_001), 0.0, Reason.UNMARKED),
    ],
)
def test_only_the_known_version_is_believed(found: int, now: float, verdict: Reason | None) -> None:
    assert knowing().verdict([(T, found)], now) is verdict
    assert knowing(NAMESPACE).verdict([(NAMESPACE, found)], now) is verdict


def test_the_worst_of_several_verdicts_counts() -> None:
    marks = knowing()
    marks.learn_locked(T, Mark(version(1_000), version(2)), 0.0, 1)
    marks.learn_locked(NAMESPACE, Mark(version(5)), -2.0, 1)
    fine, old, unknown = (T, version(1_000)), (T, version(1)), (tag_mark("w"), version(1))
    aged = (NAMESPACE, version(5))
    assert marks.verdict([aged, fine], 2.0) is Reason.EXPIRED
    assert marks.verdict([aged, unknown], 2.0) is Reason.UNMARKED
    assert marks.verdict([unknown, aged], 2.0) is Reason.UNMARKED
    assert marks.verdict([unknown, aged, old], 2.0) is Reason.FENCED
    assert marks.verdict([(NAMESPACE, 0)], 0.0) is Reason.FENCED
    assert Marks(LIFE, MARGIN).verdict([(NAMESPACE, 0)], 0.0) is Reason.UNMARKED


def test_what_was_loaded_after_the_latest_invalidation_is_served() -> None:
    assert knowing(inv=1_000).verdict([(T, version(1_000))], 0.0) is None


@given(st.integers(1, 2**50), st.integers(0, 2**64 - 1), st.integers(0, 2**62))
def test_a_new_version_is_higher_than_the_known_one_and_bears_its_node(stamp: int, node: int, known: int) -> None:
    marks = Marks(LIFE, MARGIN)
    marks.learn_locked(T, Mark(known), 0.0, 1)
    made = marks.next(T, stamp, node)
    assert made > known
    assert made & 0xFFF == node & 0xFFF
    assert moment_of(made) >= stamp
    assert moment_of(made) == max(stamp, (known >> 12) + 1)


def test_what_was_in_hand_before_an_invalidation_was_learned_is_refused_if_it_may_be_older() -> None:
    marks = knowing(inv=1_000, since=5_000)
    assert marks.refuses(T, 1_100, 4_999)
    assert not marks.refuses(T, 1_101, 4_999)
    assert not marks.refuses(T, 1_100, 5_000)
    assert not marks.refuses(tag_mark("u"), 1_100, 4_999)
    assert not knowing(inv=0).refuses(T, 1, 0)  # a mark made anew invalidates nothing
    assert Mark(version(1_000)).invalidated == 0


def test_an_invalidation_under_a_lower_version_is_news_as_well() -> None:
    """Of a mark that was made anew here while somebody else invalidated it."""
    marks = knowing(since=5_000)
    marks.learn_locked(T, Mark(version(900), version(900)), 0.0, 6_000)
    assert marks.refuses(T, 900, 5_999)
    assert not marks.refuses(T, 900, 6_000)
    assert (marks.version(T), marks.invalidated(T)) == (version(1_000), version(900))


def test_what_is_no_news_refuses_nothing_that_came_after_the_news() -> None:
    marks = knowing(inv=900, since=5_000)
    for mark in (Mark(version(1_000), version(900)), Mark(version(999), version(900)), Mark(version(999))):
        marks.learn_locked(T, mark, 1.0, 9_000)
    assert not marks.refuses(T, 900, 5_000)
    assert marks.settled(T, 5_001)


def test_a_load_is_stored_with_a_version_that_it_began_under() -> None:
    marks = knowing(since=5_000)
    assert marks.settled(T, 5_001)  # known before it began
    assert Marks(LIFE, MARGIN).settled(T, 5_001) is False
    assert Marks(LIFE, MARGIN).settled(NAMESPACE, 5_001) is False
    ahead = knowing(moment=9_000, since=5_000)  # by another process, whose clock is fast
    assert [ahead.settled(T, stamp) for stamp in (5_000, 5_001)] == [False, True]
    late = knowing(moment=4_000, since=9_000, inv=3_000)
    assert not late.settled(T, 4_100)
    assert late.settled(T, 4_101)  # made well before it began
    assert not late.settled(T, 3_101)
    assert late.settled(T, 3_101, placed=True)
    assert not late.settled(T, 3_100, placed=True)


def test_one_writes_a_mark_at_a_time() -> None:
    marks = Marks(LIFE, MARGIN)
    assert marks.claim_locked(T, 0.0, 0.25)
    assert marks.claim_locked(T, 0.2, 0.25) is False
    assert marks.claim_locked(T, 0.25, 0.25)
    marks.settle(T)
    marks.settle(tag_mark("unknown"))
    assert marks.claim_locked(T, 0.3, 0.25)


def test_what_was_first_made_for_the_latest_invalidation_is_remembered() -> None:
    """It does for those before, too."""
    marks = Marks(LIFE, MARGIN)
    for name in (T, NAMESPACE):
        assert marks.made(name, 1) == 0
        for stamp, made, found in ((7, 70, 70), (7, 71, 70), (6, 72, 70), (8, 73, 73)):
            marks.make_locked(name, stamp, made)
            assert [marks.made(name, at) for at in (stamp - 1, stamp)] == [found, found]
        assert marks.made(name, 9) == 0
        assert marks.version(name) == 0
    fresh = knowing()
    assert fresh.made(T, 0) == 0
    fresh.make_locked(T, 1, 7)
    assert fresh.made(T, 1) == 7


def test_the_oldest_tag_is_forgotten_and_what_it_refused_is_still_refused() -> None:
    marks = Marks(LIFE, MARGIN, capacity=2)
    marks.learn_locked(T, Mark(version(1_000), version(1_000)), 0.0, 5_000)
    marks.learn_locked(tag_mark("u"), Mark(version(10)), 0.0, 10)
    marks.learn_locked(T, Mark(version(1_000), version(1_000)), 0.0, 1)  # as good as new
    marks.learn_locked(tag_mark("v"), Mark(version(20)), 0.0, 20)
    assert len(marks) == 2
    assert marks.known(tag_mark("u")) is None
    marks.learn_locked(tag_mark("w"), Mark(version(20)), 0.0, 20)
    assert marks.known(T) is None
    assert (marks.version(T), marks.invalidated(T), marks.revoked(T)) == (0, 0, 0)
    assert marks.refuses(T, 1_100, 4_999)
    assert not marks.refuses(T, 1_100, 5_000)


def test_to_learn_of_a_known_tag_forgets_no_other() -> None:
    marks = Marks(LIFE, MARGIN, capacity=2)
    for name in (T, tag_mark("u"), tag_mark("u"), tag_mark("u")):
        marks.learn_locked(name, Mark(version(10)), 0.0, 10)
    assert (len(marks), marks.version(T)) == (2, version(10))


def test_ten_thousand_tags_are_known_and_the_namespace() -> None:
    marks = Marks(LIFE, MARGIN)
    for number in range(10_002):
        marks.learn_locked(tag_mark(str(number)), Mark(version(1)), 0.0, 1)
    assert (len(marks), CAPACITY) == (10_000, 10_000)
    assert [marks.version(tag_mark(name)) for name in ("1", "2")] == [0, version(1)]


def test_the_word_of_the_store_for_an_own_invalidation_is_remembered_exactly() -> None:
    marks = Marks(LIFE, MARGIN)
    marks.learn_locked(T, Mark(version(7), version(7)), 0.0, 1, own=True)
    marks.learn_locked(T, Mark(version(8), version(8)), 0.0, 2)
    assert marks.revoked(T) == version(7)
    assert marks.revoked(NAMESPACE) == 0


class Learning(RuleBasedStateMachine):
    """Against the list of all that was ever learned."""

    def __init__(self) -> None:
        super().__init__()
        self.marks = Marks(LIFE, MARGIN)
        self.told: dict[str, list[tuple[Mark, float, int]]] = {}
        self.stamp = 0

    @rule(name=NAMES, made=st.integers(1, 40), invalidated=st.integers(0, 40), asked=st.integers(0, 20))
    def learn(self, name: str, made: int, invalidated: int, asked: int) -> None:
        self.stamp += 1
        mark = Mark(version(made), version(min(made, invalidated)))
        news = self.marks.is_news(name, mark)
        assert news is (mark.invalidated > max((m.invalidated for m, _, _ in self.told.get(name, [])), default=0))
        self.marks.learn_locked(name, mark, float(asked), self.stamp)
        self.told.setdefault(name, []).append((mark, float(asked), self.stamp))

    @invariant()
    def the_highest_is_known_for_as_long_as_it_was_seen(self) -> None:
        for name, told in self.told.items():
            known = self.marks.known(name)
            assert known is not None
            assert known.version == max(mark.version for mark, _, _ in told)
            assert known.invalidated == max(mark.invalidated for mark, _, _ in told)
            assert known.until <= max(asked for _, asked, _ in told) + LIFE
            highest = next(i for i, (mark, _, _) in enumerate(told) if mark.version == known.version)
            assert known.since >= told[highest][2]
            assert known.until >= told[highest][1] + LIFE


TestLearning = Learning.TestCase
