"""What is asked of the store for the journal, and what its answers are worth; bare, without asking anybody."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from resilient_cache import CachePolicy, Invalidation, Mode, Reason, ResilientCache
from resilient_cache._debts import BREATH, IDLE
from resilient_cache._guard import Answer
from resilient_cache._local import DROPPED, KEY, MARK, Local
from resilient_cache.entry import MICROS
from resilient_cache.events import JournalFailed, Settled
from resilient_cache.marks import tag_mark
from resilient_cache.testing import ManualClock

DONE = Answer(None)
FAILED = Answer(Reason.TIMEOUT)
POLICY = CachePolicy(timeout=0.25, inflight_max=5)


class Deaf:
    """A store that has nothing and deletes nothing."""

    def get(self, key: str, /) -> None:
        """Nothing."""

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        """Nothing."""

    def delete(self, key: str, /) -> None:
        raise ConnectionRefusedError(key)


class Desk:
    """The debts of one cache whose store does not delete, and what its hooks are told."""

    def __init__(self, store: bool = True) -> None:
        self.clock = ManualClock()
        self.told: list[Settled] = []
        self.failed: list[JournalFailed] = []
        self.cache: Any = ResilientCache(
            Deaf() if store else None, name="desk", policy=POLICY, clock=self.clock, random=lambda: 1.0,
            hooks=[self.hear], spawn=lambda _: None,
        )  # fmt: skip
        self.debts: Any = self.cache._rules.debts

    def hear(self, event: object) -> None:
        if isinstance(event, Settled):
            self.told.append(event)
        elif isinstance(event, JournalFailed):
            self.failed.append(event)

    def owe(self, *keys: str) -> None:
        for key in keys:
            assert self.cache.invalidate(key) is Invalidation.PENDING


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_the_idle_times_are_what_the_text_says() -> None:
    assert (IDLE, BREATH) == (1.0, 0.05)


def test_without_debts_there_is_nothing_to_do(desk: Desk) -> None:
    assert desk.debts.next() is None
    assert desk.debts.pause() is None
    assert desk.debts.pause(0) is None
    assert desk.debts.health() == {"pending_invalidations": 0, "oldest_pending_age": 0.0}
    assert (desk.debts.owed(), desk.debts.left()) == (0, 0)


def test_without_a_store_nothing_is_owed() -> None:
    desk = Desk(store=False)
    assert desk.cache.invalidate("k") is Invalidation.CONFIRMED
    assert desk.debts.owed() == 0
    assert desk.debts.pause() is None


def test_what_is_owed_is_due_a_timeout_after_it_was_asked_for(desk: Desk) -> None:
    desk.owe("k")
    assert desk.debts.next() is None
    assert desk.debts.pause() == 0.25
    desk.clock.advance(0.25)
    assert desk.debts.pause() == 0.0
    debt = desk.debts.next()
    assert debt.name == "kk"
    assert desk.debts.next() is None
    assert desk.debts.pause() == pytest.approx(0.25 + 0.05)  # a call and a pause, so that no two are ever under way


def test_a_round_that_settled_nothing_is_followed_by_a_breath(desk: Desk) -> None:
    desk.owe("a", "b")
    desk.clock.advance(1.0)
    assert desk.debts.pause(0) == BREATH
    assert desk.debts.pause(1) == 0.0
    desk.debts.next()
    desk.debts.next()
    assert desk.debts.pause(0) > BREATH


@pytest.mark.parametrize("mode", [Mode.BYPASS, Mode.READ_ONLY, Mode.MEMORY_ONLY])
def test_a_mode_that_does_not_write_is_waited_out(desk: Desk, mode: Mode) -> None:
    desk.owe("k")
    desk.clock.advance(9.0)
    desk.cache.mode = mode
    assert desk.debts.next() is None
    assert desk.debts.pause() == desk.debts.pause(0) == IDLE
    assert desk.debts.owed() == 1
    desk.cache.mode = Mode.ON
    assert desk.debts.pause() == 0.0
    assert desk.debts.next() is not None


def test_an_open_circuit_is_waited_out(desk: Desk) -> None:
    """To the moment: what it turned away would be put off."""
    desk.owe("k")
    for _ in range(4):
        desk.clock.advance(0.03125)
        desk.owe("k")
    circuit = desk.cache.circuits["write"]
    held = circuit.retry_in(desk.clock.monotonic())
    assert held > 0.25
    desk.clock.advance(held - 0.125)
    assert desk.debts.next() is None
    assert desk.debts.pause() == desk.debts.pause(0) == pytest.approx(0.125)
    desk.clock.advance(0.125)
    assert desk.debts.pause() == 0.0
    assert desk.debts.next().tries == 1


def test_so_is_what_a_half_open_one_has_put_off(desk: Desk) -> None:
    """Each that was handed out was turned away, and put off as if it had failed once more."""
    desk.owe("k")
    for _ in range(4):
        desk.clock.advance(0.03125)
        desk.owe("k")
    circuit = desk.cache.circuits["write"]
    desk.clock.advance(circuit.retry_in(desk.clock.monotonic()))
    now = desk.clock.monotonic()
    circuit.neutral(circuit.admit(now), now + 0.125)
    assert desk.debts.next() is None
    assert desk.debts.pause() == pytest.approx(0.125)
    desk.clock.advance(0.125)
    assert desk.debts.next().tries == 1


def test_a_long_pause_is_not_shortened_by_a_mode(desk: Desk) -> None:
    desk.debts._local.doubt("k", 1)
    desk.cache.mode = Mode.BYPASS
    assert desk.debts.pause() == 5.0


def test_an_answer_that_is_none_settles_nothing(desk: Desk) -> None:
    desk.owe("k")
    desk.clock.advance(1.0)
    debt = desk.debts.next()
    assert desk.debts.answered(debt, FAILED, 0.0) is False
    assert (desk.debts.owed(), desk.told) == (1, [])


def test_the_word_of_the_store_is_told_once_with_the_age(desk: Desk) -> None:
    desk.owe("k")
    desk.clock.advance(2.0)
    debt = desk.debts.next()
    assert desk.debts.health() == {"pending_invalidations": 1, "oldest_pending_age": pytest.approx(2.0, abs=1e-3)}
    assert desk.debts.answered(debt, DONE, desk.clock.monotonic())
    assert desk.debts.health() == {"pending_invalidations": 0, "oldest_pending_age": 0.0}
    assert desk.debts.answered(debt, DONE, desk.clock.monotonic())  # the store did as asked, and nothing was owed
    assert [(event.cache, round(event.age, 3)) for event in desk.told] == [("desk", 2.0)]
    assert desk.cache.stats()["invalidations_replayed"] == 1


def test_the_second_delete_is_the_last(desk: Desk) -> None:
    """Nobody is told: nobody was owed it."""
    desk.owe("k")
    desk.clock.advance(1.0)
    desk.debts.answered(desk.debts.next(), DONE, 0.0)
    desk.clock.advance(4.9)
    assert desk.debts.next() is None
    assert desk.debts.pause() == pytest.approx(0.1)
    desk.clock.advance(0.1)
    second = desk.debts.next()
    assert desk.debts.answered(second, FAILED, desk.clock.monotonic()) is False
    assert desk.debts.pause() is not None
    assert desk.debts.answered(second, DONE, desk.clock.monotonic()) is True
    assert desk.debts.pause() is None
    assert len(desk.told) == 1


def test_a_second_delete_that_began_too_early_is_not_the_last(desk: Desk) -> None:
    desk.debts._local.doubt("k", 1)
    desk.clock.advance(1.0)
    desk.debts.hurry()
    assert desk.debts.next() is None  # of what is confirmed nothing is hurried, unless asked for
    desk.debts.hurry(confirmed=True)
    early = desk.debts.next()
    assert desk.debts.answered(early, DONE, desk.clock.monotonic()) is True
    desk.clock.advance(3.9)
    assert desk.debts.next() is None
    assert desk.debts.pause() == pytest.approx(0.1)


def test_hurry_makes_what_is_owed_due(desk: Desk) -> None:
    desk.owe("k")
    desk.debts.hurry()
    assert desk.debts.pause() == 0.0
    assert desk.debts.next().name == "kk"


def test_what_is_left_at_the_end_is_logged(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "resilient_cache"):
        assert desk.debts.left() == 0
        assert caplog.messages == []
        desk.owe("a", "b")
        assert desk.debts.left() == 2
    assert caplog.messages == ["cache desk: closed with 2 invalidations not confirmed"]


def test_peers_are_told_once_more_when_it_is_settled(desk: Desk) -> None:
    """Who began to listen meanwhile may have read the old entry after he was told."""
    local = desk.cache._rules.local
    local.tells = True
    desk.owe("k")
    local.untold.clear()
    desk.clock.advance(1.0)
    desk.debts.answered(desk.debts.next(), DONE, 0.0)
    assert list(local.untold) == ["kk"]


def test_peers_are_told_of_a_last_delete_of_a_key(desk: Desk) -> None:
    """What landed late may have been read there. Of a mark there is none to be read, nor of what is not over yet."""
    local = desk.cache._rules.local
    local.tells = True
    desk.debts._local.doubt("k", 1)
    desk.debts.hurry(confirmed=True)
    assert desk.debts.answered(desk.debts.next(), DONE, desk.clock.monotonic())  # too early
    assert list(local.untold) == []
    desk.clock.advance(5.0)
    assert desk.debts.answered(desk.debts.next(), DONE, desk.clock.monotonic())
    assert list(local.untold) == [DROPPED + "k"]
    local.untold.clear()
    local.owe_locked(MARK + tag_mark("t"), 1)
    for told in ([MARK + tag_mark("t")], []):  # that it is settled, and then nothing
        desk.clock.advance(5.0)
        assert desk.debts.answered(desk.debts.next(), DONE, desk.clock.monotonic())
        assert list(local.untold) == told
        local.untold.clear()
    assert desk.debts.pause() is None


class Between:
    """A lock that somebody else has just had."""

    def __init__(self, lock: Any, meanwhile: Callable[[], object]) -> None:
        self.lock, self.meanwhile = lock, meanwhile

    def __enter__(self) -> None:
        self.meanwhile()
        self.lock.__enter__()

    def __exit__(self, *raised: object) -> None:
        self.lock.__exit__(*raised)


def test_when_somebody_else_settles_the_last_debt_meanwhile_there_is_no_pause(desk: Desk) -> None:
    desk.debts._local.doubt("k", 7)
    debts, lock = desk.debts, desk.debts._guard.lock
    debts._guard.lock = Between(lock, lambda: debts._journal.forgive_locked("kk"))
    assert debts.pause() is None


def test_what_is_let_go_is_told_once_to_who_keeps_book(desk: Desk) -> None:
    """From then on."""
    desk.debts.keep_book()
    desk.debts._local.doubt("k", 7)
    assert desk.debts.stamp("kk") == 7
    assert desk.debts.stamp("k") is None
    desk.clock.advance(5.0)
    desk.debts.answered(desk.debts.next(), DONE, desk.clock.monotonic())
    assert desk.debts.stamp("kk") is None
    assert desk.debts.let_go() == [("desk:kk", 7)]
    assert desk.debts.let_go() == []


def test_without_a_book_nothing_is_told(desk: Desk) -> None:
    assert desk.debts.let_go() == []


def read(desk: Desk, written: object) -> bool:
    desk.debts.unread = True
    known: bool = desk.debts.recovered(desk.debts.reads(), written)
    return known


def test_what_was_written_down_is_owed_and_fenced(desk: Desk) -> None:
    """Rows that are none are passed over."""
    stamp = desk.cache._rules.local.stamps.next()
    assert read(
        desk,
        [("desk:ka", stamp), (7, stamp), ("desk:kb", "1"), (None, None), ("desk:kc", stamp), ("des:kd", 1), ("kd", 1)],
    )
    assert desk.debts.owed() == 2
    assert [desk.debts.stamp(name) for name in ("ka", "kb", "kc")] == [stamp, None, stamp]
    assert desk.cache._rules.local.fences.at("a") == stamp
    assert desk.debts._ahead == {}  # each is struck out by the stamp under which it is let go
    assert desk.failed == []


@pytest.mark.parametrize("written", [7, [7], [("a", 1, 2)], object()])
def test_what_is_no_book_is_a_failure_of_it(desk: Desk, written: object, caplog: pytest.LogCaptureFixture) -> None:
    """Counted and told each time, logged at most once a minute."""
    with caplog.at_level(logging.WARNING, "resilient_cache"):
        for _ in range(2):
            assert read(desk, written)
        said = ["cache desk: the durable journal failed; going on in memory"]
        assert caplog.messages == said
        desk.clock.advance(59.5)
        assert read(desk, written)
        assert caplog.messages == said
        desk.clock.advance(0.5)
        assert read(desk, written)
        assert caplog.messages == 2 * said
    assert desk.cache.stats()["journal_errors"] == 4
    assert desk.failed == [JournalFailed("desk")] * 4


def test_who_finds_the_book_read_finds_its_fences(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them: it is read in one step, under the lock."""
    seen: list[bool] = []
    remember = Local.remember

    def watched(local: Local, name: str, stamp: int) -> None:
        seen.append(desk.debts.unread and desk.cache._rules.guard.lock._is_owned())
        remember(local, name, stamp)

    monkeypatch.setattr(Local, "remember", watched)
    assert read(desk, [("desk:ka", 7), ("desk:kb", 8)])
    assert seen == [True, True]
    assert not desk.debts.unread


def test_the_last_one_who_fails_to_read_the_book_gives_it_up(desk: Desk) -> None:
    """Not one who fails while others are at it, unless they have been for so long that they never come back."""
    debts, failed = desk.debts, object()
    debts.unread = True
    first, second, third = debts.reads(), debts.reads(), debts.reads()
    assert not debts.recovered(third, failed)
    assert (debts.unread, desk.failed) == (True, [])
    assert not debts.recovered(second, None)  # that one was cancelled, and says nothing
    assert debts.recovered(first, failed)
    assert (debts.unread, desk.failed) == (False, [JournalFailed("desk")])
    assert debts.recovered(debts.reads(), [("desk:ka", 7)])  # nothing is taken over twice
    assert debts.owed() == 0

    debts.unread = True
    debts.reads()
    desk.clock.advance(POLICY.inflight_max - 1)  # type: ignore[operator]
    assert not debts.recovered(debts.reads(), failed)
    desk.clock.advance(1)
    assert debts.recovered(debts.reads(), failed)
    assert not debts.unread


@pytest.mark.parametrize("years", [1, 100, 1_000_000])
@pytest.mark.parametrize("kind", [KEY, MARK])
def test_what_is_written_down_of_a_time_to_come_is_not_believed(desk: Desk, kind: str, years: int) -> None:
    """No further than a clock may be ahead; and struck out as it stands there, when nothing is owed any more."""
    local, name = desk.cache._rules.local, kind + "tag:a"
    stamp = int(desk.clock.time() + years * 365 * 86_400) * MICROS
    desk.debts.keep_book()
    assert read(desk, [(desk.debts.row(name), stamp)])
    fences = local.fences if kind == KEY else local.tag_fences
    assert fences.at("tag:a") == local.stamps.now() == int(desk.clock.time() * MICROS) + local.margin
    desk.debts.hurry()
    debt = desk.debts.next()
    assert debt.stamp == debt.newest == fences.at("tag:a")
    desk.debts.answered(debt, DONE, desk.clock.monotonic())
    desk.debts.hurry(confirmed=True)
    desk.clock.advance(POLICY.inflight_max)  # type: ignore[arg-type]
    desk.debts.answered(desk.debts.next(), DONE, desk.clock.monotonic())
    assert desk.debts.let_go() == [(f"desk:{name}", stamp)]
    assert desk.debts._ahead == {}


def test_a_row_of_a_time_to_come_stands_for_what_is_owed_since(desk: Desk) -> None:
    """What was let go says nothing about that."""
    desk.debts.keep_book()
    stamp = 10 * int(desk.clock.time()) * MICROS
    assert read(desk, [("desk:kk", stamp)])
    desk.debts._journal.gone = [("kk", 7), ("kl", 8)]
    assert desk.debts.let_go() == [("desk:kk", 7), ("desk:kl", 8)]
    assert desk.debts._ahead == {"kk": stamp}


def test_there_is_a_book_to_read_once_it_is_kept(desk: Desk) -> None:
    assert desk.debts.unread is False
    desk.debts.keep_book()
    assert desk.debts.unread is True


def test_there_is_something_owed_from_the_first_debt_on(desk: Desk) -> None:
    assert desk.debts.any is False
    desk.owe("a")
    assert desk.debts.any is True


def test_who_was_stopped_reading_gives_nothing_up_even_as_the_last(desk: Desk) -> None:
    """And what failed after the book was read says nothing of it."""
    desk.debts.unread = True
    assert not desk.debts.recovered(desk.debts.reads(), None)
    assert (desk.debts.unread, desk.failed) == (True, [])
    other = desk.debts.reads()
    assert read(desk, [])
    assert desk.debts.unread is False
    assert desk.debts.recovered(other, object())
    assert desk.failed == []


def test_rows_of_other_caches_are_left_alone(desk: Desk) -> None:
    assert read(desk, [("task:ka", 7), ("desk:kb", 8)])
    assert desk.debts.owed() == 1
    assert desk.debts.stamp(KEY + "b") is not None
