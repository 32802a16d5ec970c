"""The decisions about marks, bare: what is asked for, and what is made of what the store says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from resilient_cache._guard import Answer
from resilient_cache._marking import HIGHEST, PAYLOAD, Made, Marking
from resilient_cache._request import Draft
from resilient_cache._rules import Rules
from resilient_cache.entry import MICROS, Stored
from resilient_cache.envelope import open_envelope, seal
from resilient_cache.errors import FailureKind
from resilient_cache.marks import NAMESPACE, NODE_BITS, Mark, moment_of, tag_mark, version_of
from resilient_cache.outcome import Mode, Reason

from ..laws.stage import POLICY, Stage

FAILED = Answer(Reason.ERROR)
ABSENT = Answer(None, None)
TAG = tag_mark("t")


def made(**options: Any) -> tuple[Rules, Marking, Stage]:
    there = Stage("sync", policy=replace(POLICY, epoch_ttl=10.0), **options)
    rules: Rules = there.cache._rules
    return rules, rules.marking, there


def stored(name: str, version: int, invalidated: int = 0, *, stamp: int = 1, codec: bytes = b"mark") -> Answer:
    """What a store says that has a mark, as any version of this library writes it."""
    entry = Stored(stamp, stamp, stamp, 2, PAYLOAD.pack(version, invalidated))
    return Answer(None, seal(b"laws!", name.encode(), codec, entry))


def heard(rules: Rules, name: str, answer: Answer, mode: Mode = Mode.ON) -> Made | None:
    rules.set_mode(mode)
    return rules.marking.heard(rules.begin("k"), name, answer, rules.monotonic())


def test_marks_outlive_every_entry() -> None:
    """By what another clock may be ahead."""
    rules, marking, _ = made()
    assert marking.life == rules.policy.longest_life + rules.local.margin / MICROS
    found = marking.revoke(TAG, rules.local.stamps.next(), ABSENT, rules.monotonic(), several=True)
    opened = open_envelope(found.data, b"laws!", TAG.encode(), b"mark")
    assert not isinstance(opened, Reason)
    assert opened.fresh_until - opened.stamp == int(marking.life * MICROS)


@pytest.mark.parametrize(("mode", "asks"), [(Mode.ON, True), (Mode.READ_ONLY, False)])
def test_before_a_write_those_are_asked_for_that_are_not_known(mode: Mode, asks: bool) -> None:
    """And not again what this request has asked for already, unless its load has begun since."""
    rules, marking, there = made()
    rules.set_mode(mode)
    request = rules.begin("k")
    assert marking.unsure(request, (NAMESPACE, TAG)) == (NAMESPACE, TAG) * asks
    rules.local.learn(TAG, Mark(7, 0), rules.monotonic())
    assert marking.unsure(request, (NAMESPACE, TAG)) == (NAMESPACE,) * asks
    request.unsure = (NAMESPACE,)
    assert marking.unsure(request, (NAMESPACE,)) == ()
    request.stamp = 1
    there.clock.advance(10)
    assert marking.unsure(request, (NAMESPACE,)) == (NAMESPACE,) * asks


def test_the_namespace_is_asked_for_while_it_is_not_known() -> None:
    rules, marking, _ = made()
    assert marking.unknown(rules.begin("k")) == (NAMESPACE,)
    rules.local.learn(NAMESPACE, Mark(7, 0), rules.monotonic())
    assert marking.unknown(rules.begin("k")) == ()


def test_a_load_has_seen_to_the_namespace() -> None:
    """What is placed has not."""
    _, marking, _ = made()
    assert marking.of(Draft(1, 1.0, 1.0, ("t",))) == [TAG]
    assert marking.of(Draft(1, 1.0, 1.0, ("t",), placed=True)) == [NAMESPACE, TAG]


@pytest.mark.parametrize("mode", [Mode.ON, Mode.READ_ONLY])
def test_a_mark_is_renewed_past_half_its_life(mode: Mode) -> None:
    """By one, and where something may be written."""
    rules, marking, _ = made()
    now = rules.local.stamps.now()
    half = int(marking.life / 2 * MICROS)
    assert heard(rules, TAG, stored(TAG, 7, stamp=now - half + MICROS), mode) is None
    assert rules.local.marks.version(TAG) == 7
    renewed = heard(rules, TAG, stored(TAG, 7, stamp=now - half - MICROS), mode)
    assert (renewed is not None) is (mode is Mode.ON)
    if renewed is not None:
        assert renewed.mark == Mark(7, 0)
    assert heard(rules, TAG, stored(TAG, 7, stamp=now - half - MICROS), mode) is None


@pytest.mark.parametrize("mode", [Mode.ON, Mode.READ_ONLY])
def test_a_mark_that_is_lost_is_made_anew_by_one(mode: Mode) -> None:
    """With whatever is known of the last invalidation, here or there; where nothing may be written nobody makes it."""
    for known, there, kept in ((Mark(9 << NODE_BITS, 5), None, 5), (Mark(9 << NODE_BITS, 5), (7, 6), 6)):
        rules, _, _ = made()
        rules.local.learn(TAG, known, rules.monotonic())
        answer = ABSENT if there is None else stored(TAG, *there)
        anew = heard(rules, TAG, answer, mode)
        assert (anew is not None) is (mode is Mode.ON)
        if anew is not None:
            assert anew.mark.version > known.version
            assert anew.mark.invalidated == kept
        assert heard(rules, TAG, answer, mode) is None


def test_who_has_never_heard_of_an_invalidation_makes_up_none() -> None:
    rules, _, _ = made()
    anew = heard(rules, TAG, ABSENT)
    assert anew is not None
    assert anew.mark.invalidated == 0


def test_an_invalidation_heeds_those_of_others() -> None:
    """What it finds may tell of one; nothing can be learned of a store that did not answer."""
    rules, marking, _ = made()
    later = rules.local.stamps.next() + 9 * MICROS << NODE_BITS
    found = marking.revoke(TAG, 5, stored(TAG, later, later), rules.monotonic(), several=True)
    assert found.mark.version > later
    assert found.mark.invalidated == found.mark.version
    assert rules.local.marks.invalidated(TAG) == later
    rules, marking, _ = made()
    silent = Answer(Reason.TIMEOUT, stored(TAG, later, later).value)
    assert marking.revoke(TAG, 5, silent, rules.monotonic(), several=True).mark.version < later


def test_a_mark_is_ones_own_only_if_it_is_the_very_one() -> None:
    """Another process may have changed it since."""
    rules, marking, _ = made()
    made_now = marking.revoke(TAG, rules.local.stamps.next(), ABSENT, rules.monotonic(), several=True)
    marking.written(TAG, made_now, Answer(None), rules.monotonic(), own=True)
    assert marking.holds(TAG, Answer(None, made_now.data))
    assert not marking.holds(TAG, ABSENT)
    assert not marking.holds(TAG, stored(TAG, made_now.mark.version + 1))


@pytest.mark.parametrize("answer", [Answer(None), FAILED, Answer(Reason.ERROR, FailureKind.PER_KEY)])
def test_who_has_made_a_mark_does_not_write_what_he_finds_instead(answer: Answer) -> None:
    """He did, and could undo an invalidation that came between, and was confirmed."""
    rules, marking, _ = made()
    mark = heard(rules, TAG, ABSENT)
    assert mark is not None
    marking.written(TAG, mark, answer, rules.monotonic())
    for version in (mark.mark.version, mark.mark.version + 1):
        assert heard(rules, TAG, stored(TAG, version, stamp=rules.local.stamps.now())) is None


@pytest.mark.parametrize("failed", [True, False])
def test_a_mark_is_known_when_it_has_been_written(failed: bool) -> None:
    """And if not, another may try at once. It is somebody else's unless it is said to be one's own."""
    rules, marking, _ = made()
    anew = heard(rules, TAG, ABSENT)
    assert anew is not None
    assert heard(rules, TAG, ABSENT) is None
    marking.written(TAG, anew, FAILED if failed else Answer(None), rules.monotonic())
    assert rules.local.marks.version(TAG) == (0 if failed else anew.mark.version)
    assert rules.local.marks.revoked(TAG) == 0
    assert heard(rules, TAG, ABSENT) is not None


@pytest.mark.parametrize("own", [True, False])
def test_a_mark_that_some_of_several_stores_have_counts_unless_it_is_an_invalidation(own: bool) -> None:
    """Of an invalidation it is the debt that is asked for again, and nobody is to think that it is done."""
    rules, marking, _ = made()
    mark = Made(Mark(99, 99), b"data")
    marking.written(TAG, mark, Answer(Reason.ERROR, FailureKind.PER_KEY), rules.monotonic(), own=own)
    assert rules.local.marks.version(TAG) == (0 if own else 99)


def owing(ahead: int = 0) -> tuple[Callable[[Mark | None], Mark], Mark, Rules, Stage]:
    """How an invalidation goes on with what it finds, what it made first, where the known mark is so much `ahead`."""
    rules, marking, there = made()
    stamp = rules.local.stamps.next()

    def again(found: Mark | None) -> Mark:
        answer = ABSENT if found is None else stored(TAG, *found)
        return marking.revoke(TAG, stamp, answer, rules.monotonic(), several=True).mark

    first = again(Mark(version_of(stamp + ahead, 7)) if ahead else None)
    assert first == Mark(first.version, first.version)
    assert moment_of(first.version) == stamp + (ahead + 1 if ahead else 0)
    return again, first, rules, there


@pytest.mark.parametrize("ahead", [0, MICROS // 2])
def test_an_invalidation_that_some_stores_have_is_gone_on_with_unless_more_is_known(ahead: int) -> None:
    """Its own mark is written again as it is: what was given with it since is good."""
    again, first, rules, there = owing(ahead)
    there.clock.advance(10)
    assert again(first) == first
    anew = Mark(first.version + 1, first.version)
    assert again(anew) == anew, "which was only made anew"
    assert again(first).version > anew.version, "old data"
    rules.local.learn(TAG, Mark(anew.version + (1 << 30), first.version), rules.monotonic())
    assert moment_of(again(None).version) < rules.local.stamps.now()


@pytest.mark.parametrize("ahead", [0, MICROS // 2])
@pytest.mark.parametrize("later", [0, 1])
def test_one_that_is_surely_later_does_as_well(later: int, ahead: int) -> None:
    """Two that owe one outbid each other for as long as a store was gone. By a clock it may be from before."""
    again, first, rules, there = owing(ahead)
    there.clock.advance(2)
    theirs = version_of(moment_of(first.version) + rules.local.margin + later, 7)
    mark = again(Mark(theirs, theirs))
    if later:
        assert mark == Mark(theirs, theirs)
    else:
        assert mark.version == mark.invalidated
        assert moment_of(mark.version) >= rules.local.stamps.now() - 1
        there.clock.advance(2)
        assert again(mark) == mark, "it is later than what was made first"


def test_one_store_is_given_another_version_at_every_try() -> None:
    """What it has need not be written; and might land on what another process was confirmed just then."""
    rules, marking, _ = made()
    stamp, now = rules.local.stamps.next(), rules.monotonic()
    first = marking.revoke(TAG, stamp, ABSENT, now, several=False)
    again = marking.revoke(TAG, stamp, Answer(None, first.data), now, several=False)
    assert again.mark.version == again.mark.invalidated == first.mark.version + (1 << NODE_BITS)


def test_what_is_found_at_the_first_try_is_outbid() -> None:
    """However far ahead it is; and one that is earlier is, at every try, by a version of the same moment."""
    _, first, _, _ = owing(100 * MICROS)
    again, first, _, there = owing()
    there.clock.advance(10)
    earlier = first.version - (1 << NODE_BITS)
    assert again(Mark(earlier, earlier)) == first
    assert again(Mark(first.version + 1, first.version - 1)).version == first.version + (1 << NODE_BITS)


@pytest.mark.parametrize(
    ("version", "invalidated", "good"),
    [(1, 0, True), (0, 0, False), (HIGHEST - 1, 0, True), (HIGHEST, 0, False), (7, 7, True), (7, 8, False)],
)
def test_a_version_is_one_that_can_be_counted_on(version: int, invalidated: int, good: bool) -> None:
    """Whatever else is there is as good as a lost mark."""
    rules, _, _ = made()
    heard(rules, TAG, stored(TAG, version, invalidated))
    assert rules.local.marks.version(TAG) == (version if good else 0)
    heard(rules, TAG, stored(TAG, 9, codec=b"markm"))
    assert rules.local.marks.version(TAG) == (version if good else 0)
