"""Marks, bare: what is known of versions, and what follows from it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from resilient_cache.marks import NAMESPACE, Mark, Marks, moment_of, tag_mark
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
    assert Marks(LIFE, MARGIN).due(NAMESPACE, 0.0)


def test_a_version_that_is_not_known_yet_is_asked_for_at_once() -> None:
    marks = knowing()
    assert marks.due(T, 1.0, version(1_000) + 1)
    assert not marks.due(T, 1.0, version(1_000))


@pytest.mark.parametrize(
    ("found", "now", "verdict"),
    [
        (version(1_000), 3.99, None),
        (version(1_000), 4.0, Reason.EXPIRED),
        (version(999), 0.0, Reason.FENCED),
        (version(999), 9.0, Reason.FENCED),
        (version(1_001), 0.0, Reason.UNMARKED),
    ],
)
def test_only_the_known_version_is_believed(found: int, now: float, verdict: Reason | None) -> None:
    assert knowing().verdict([(T, found)], now) is verdict
    assert knowing(NAMESPACE).verdict([(NAMESPACE, found)], now) is verdict


def test_the_worst_of_several_verdicts_counts() -> None:
    marks = knowing()
    marks.learn_locked(NAMESPACE, Mark(version(5)), -2.0, 1)
    fine, old, unknown = (T, version(1_000)), (T, version(1)), (tag_mark("w"), version(1))
    aged = (NAMESPACE, version(5))
    assert marks.verdict([aged, fine], 2.0) is Reason.EXPIRED
    assert marks.verdict([aged, unknown], 2.0) is Reason.UNMARKED
    assert marks.verdict([unknown, aged], 2.0) is Reason.UNMARKED
    assert marks.verdict([unknown, aged, old], 2.0) is Reason.FENCED
    assert marks.verdict([(NAMESPACE, 0)], 0.0) is Reason.FENCED
    assert Marks(LIFE, MARGIN).verdict([(NAMESPACE, 0)], 0.0) is Reason.UNMARKED


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


def test_a_load_is_stored_with_a_version_that_it_began_under() -> None:
    marks = knowing(since=5_000)
    assert marks.settled(T, 5_001)  # known before it began
    assert not Marks(LIFE, MARGIN).settled(T, 5_001)
    late = knowing(moment=4_000, since=9_000, inv=3_000)
    assert not late.settled(T, 4_100)
    assert late.settled(T, 4_101)  # made well before it began
    assert not late.settled(T, 3_101)
    assert late.settled(T, 3_101, placed=True)
    assert not late.settled(T, 3_100, placed=True)


def test_one_writes_a_mark_at_a_time() -> None:
    marks = Marks(LIFE, MARGIN)
    assert marks.claim_locked(T, 0.0, 0.25)
    assert not marks.claim_locked(T, 0.2, 0.25)
    assert marks.claim_locked(T, 0.25, 0.25)
    marks.settle(T)
    marks.settle(tag_mark("unknown"))
    assert marks.claim_locked(T, 0.3, 0.25)


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
