"""The journal against a model: a stamp and a due moment for each name, and no queue."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from resilient_cache.journal import CAPACITY, SPARE, Debt, Journal

NAMES = st.sampled_from("abcdef")
AGAIN = 5.0
STEPS = st.sampled_from([0.0, 0.0, 0.5, 1.0, 2.0, AGAIN, 3 * AGAIN])


def pause(tries: int) -> float:
    return float(2 ** min(tries, 3))


@dataclass
class Kept:
    """What the model knows of one name. `final` is None while its delete is owed."""

    stamp: int
    due: float
    tries: int = 0
    final: float | None = None
    newest: int = 0


class JournalMachine(RuleBasedStateMachine):
    """Invalidations, words of the store early and late, and one who asks; stamps rise, but for calls that overlap."""

    taken = Bundle("taken")

    def __init__(self) -> None:
        super().__init__()
        self.now, self.stamp = 100.0, 1_000
        self.owed: dict[str, Kept] = {}
        self.confirmed: dict[str, Kept] = {}
        self.floor = 0
        self.gone: list[tuple[str, int]] = []

    @initialize(capacity=st.integers(1, 5))
    def of(self, capacity: int) -> None:
        self.capacity = capacity
        self.journal = Journal(AGAIN, pause, capacity)
        self.journal.gone = []

    @rule(step=STEPS)
    def wait(self, step: float) -> None:
        self.now += step
        self.stamp += 1

    @rule(name=NAMES, late=st.sampled_from([0, 0, 0, 2]), ahead=STEPS)
    def owe(self, name: str, late: int, ahead: float) -> None:
        self.stamp += 1
        stamp = self.stamp - late
        self.journal.owe_locked(name, stamp, self.now + ahead)
        known = [debts.pop(name) for debts in (self.owed, self.confirmed) if name in debts]
        stamp = max([stamp, *(kept.stamp for kept in known)])
        self.owed[name] = Kept(stamp, self.now + ahead, newest=max([stamp, *(kept.newest for kept in known)]))
        while len(self.owed) > self.capacity:
            oldest = next(iter(self.owed))
            self.gone.append((oldest, self.owed[oldest].stamp))
            self.floor = max(self.floor, self.owed.pop(oldest).stamp)

    @rule(name=NAMES, late=st.sampled_from([0, 0, 0, 2]))
    def suspect(self, name: str, late: int) -> None:
        self.stamp += 1
        stamp = self.stamp - late
        self.journal.suspect_locked(name, stamp, self.now)
        if name in self.confirmed:
            self.confirmed[name].final = self.now + AGAIN
        kept = self.owed.get(name) or self.confirmed.get(name)
        if kept is None:
            self._confirm(name, Kept(stamp, 0.0, newest=stamp))
        else:
            kept.newest = max(kept.newest, stamp)

    @rule(name=NAMES, late=st.sampled_from([0, 0, 1, 4, 2_000]))
    def confirm(self, name: str, late: int) -> None:
        stamp = self.stamp - late
        due = name in self.owed and self.owed[name].stamp <= stamp
        assert self.journal.confirm_locked(name, stamp, self.now) is due
        if due:
            self._confirm(name, self.owed.pop(name))

    @rule(target=taken)
    def take(self) -> object:
        debt = self.journal.next_locked(self.now)
        due = [(kept.due, name) for name, kept in (self.owed | self.confirmed).items() if kept.due <= self.now]
        if not due:
            assert debt is None
            return multiple()
        assert debt is not None
        assert debt.name == min(due)[1]
        kept = self.owed.get(debt.name) or self.confirmed[debt.name]
        kept.due, kept.tries = self.now + pause(kept.tries), kept.tries + 1
        assert debt == Debt(
            debt.name, kept.stamp, kept.due, kept.tries, kept.final is not None, kept.final or 0.0, kept.newest
        )
        return debt

    @rule(debt=taken, ago=STEPS)
    def settle(self, debt: Debt, ago: float) -> None:
        """Also of what was confirmed in another way meanwhile, or invalidated again."""
        kept, began = self.confirmed.get(debt.name), self.now - ago
        done = kept is not None and kept.stamp == debt.stamp and kept.final is not None and began >= kept.final
        assert self.journal.settle_locked(debt, began) is done
        if done:
            self.gone.append((debt.name, self.confirmed.pop(debt.name).stamp))
        elif kept is not None and kept.stamp == debt.stamp and kept.final is not None:
            kept.due, kept.tries = kept.final, 0

    @rule(debt=consumes(taken))
    def confirm_what_was_taken(self, debt: Debt) -> None:
        due = debt.name in self.owed and self.owed[debt.name].stamp <= debt.stamp
        assert self.journal.confirm_locked(debt.name, debt.stamp, self.now) is due
        if due:
            self._confirm(debt.name, self.owed.pop(debt.name))

    @rule(confirmed=st.booleans())
    def hurry(self, confirmed: bool) -> None:
        self.journal.hurry_locked(self.now, confirmed=confirmed)
        for kept in [*self.owed.values(), *(self.confirmed.values() if confirmed else ())]:
            kept.due = self.now
        assert self.journal.pause_locked(self.now) == self._pause()

    def _confirm(self, name: str, kept: Kept) -> None:
        self.confirmed[name] = Kept(kept.stamp, self.now + AGAIN, 0, self.now + AGAIN, kept.newest)
        if len(self.confirmed) > self.capacity:
            oldest = next(iter(self.confirmed))
            self.gone.append((oldest, self.confirmed.pop(oldest).stamp))

    def _pause(self) -> float | None:
        dues = [kept.due for kept in (self.owed | self.confirmed).values()]
        return max(0.0, min(dues) - self.now) if dues else None

    @invariant()
    def says_what_the_model_says(self) -> None:
        oldest = next(iter(self.owed.values())).stamp if self.owed else 0
        assert self.journal.owed() == (len(self.owed), oldest)
        assert len(self.journal) == len(self.owed) + len(self.confirmed)
        assert [name in self.journal for name in "abcdef"] == [name in self.owed | self.confirmed for name in "abcdef"]
        stamps = {name: kept.stamp for name, kept in (self.owed | self.confirmed).items()}
        assert [self.journal.stamp(name) for name in "abcdef"] == [stamps.get(name) for name in "abcdef"]
        assert (self.journal.floor, self.journal.gone) == (self.floor, self.gone)

    @invariant()
    def nobody_oversleeps(self) -> None:
        said, true = self.journal.pause_locked(self.now), self._pause()
        assert (said is None) is (true is None)
        assert said is None or true is None or 0.0 <= said <= true

    @invariant()
    def the_queue_is_bounded(self) -> None:
        assert len(self.journal) <= len(self.journal._queue) <= 2 * len(self.journal) + SPARE


TestJournal = JournalMachine.TestCase


@pytest.fixture
def journal() -> Journal:
    made = Journal(AGAIN, pause, 3)
    made.gone = []
    return made


def test_a_new_journal_owes_nothing(journal: Journal) -> None:
    assert len(journal) == 0
    assert journal.owed() == (0, 0)
    assert journal.pause_locked(0.0) is None
    assert journal.next_locked(1e9) is None
    assert (journal.floor, journal.gone) == (0, [])
    assert CAPACITY == 10_000


def test_a_debt_that_nothing_is_said_of() -> None:
    assert Debt("a", 7, 1.0) == ("a", 7, 1.0, 0, False, 0.0, 0)


def test_what_is_owed_is_handed_out_when_due_and_put_off(journal: Journal) -> None:
    journal.owe_locked("a", 7, due=10.0)
    assert journal.pause_locked(9.0) == 1.0
    assert journal.next_locked(9.99) is None
    assert journal.next_locked(10.0) == Debt("a", 7, 11.0, tries=1, confirmed=False, final=0.0, newest=7)
    assert journal.next_locked(10.5) is None  # somebody is asking the store
    assert journal.next_locked(12.0) == Debt("a", 7, 14.0, tries=2, newest=7)  # and did not come back
    assert journal.next_locked(99.0) == Debt("a", 7, 103.0, tries=3, newest=7)
    assert journal.pause_locked(200.0) == 0.0


def test_the_first_delete_confirms_and_the_second_ends_it(journal: Journal) -> None:
    journal.owe_locked("a", 7, due=10.0)
    assert journal.confirm_locked("a", 7, now=10.0)
    assert journal.owed() == (0, 0)
    assert (len(journal), "a" in journal, "b" in journal) == (1, True, False)
    assert journal.next_locked(14.99) is None
    second = journal.next_locked(15.0)
    assert second == Debt("a", 7, 16.0, tries=1, confirmed=True, final=15.0, newest=7)
    assert second is not None
    assert not journal.confirm_locked("a", 9, now=15.0)  # it is not owed any more
    assert journal.settle_locked(second, began=15.0)
    assert (len(journal), journal.gone) == (0, [("a", 7)])
    assert not journal.settle_locked(second, began=15.0)


def test_an_older_word_of_the_store_does_not_settle_a_later_invalidation(journal: Journal) -> None:
    journal.owe_locked("a", 7, due=0.0)
    first = journal.next_locked(0.0)
    assert first is not None
    journal.owe_locked("a", 8, due=1.0)
    assert not journal.confirm_locked("a", first.stamp, now=0.5)
    assert journal.owed() == (1, 8)
    assert journal.confirm_locked("a", 8, now=1.0)
    second = journal.next_locked(6.0)
    assert second is not None
    journal.owe_locked("a", 9, due=7.0)  # that is not confirmed once
    assert not journal.settle_locked(second, began=6.0)
    assert journal.confirm_locked("a", 9, now=7.0)
    assert not journal.settle_locked(second, began=99.0)  # nor is this one's second delete
    assert len(journal) == 1


def test_an_invalidation_that_overlapped_keeps_the_later_stamp(journal: Journal) -> None:
    journal.owe_locked("a", 9, due=0.0)
    journal.owe_locked("a", 8, due=0.0)
    assert journal.owed() == (1, 9)


def test_a_second_delete_that_came_too_early_is_asked_for_again(journal: Journal) -> None:
    journal.suspect_locked("a", 7, now=0.0)
    journal.hurry_locked(1.0)
    assert journal.next_locked(1.0) is None
    journal.hurry_locked(1.0, confirmed=True)
    early = journal.next_locked(1.0)
    assert early is not None
    assert not journal.settle_locked(early, began=4.99)
    assert journal.next_locked(4.99) is None
    assert journal.next_locked(5.0) == Debt("a", 7, 6.0, tries=1, confirmed=True, final=5.0, newest=7)


def test_a_write_of_unknown_outcome_is_followed_by_a_delete(journal: Journal) -> None:
    journal.suspect_locked("a", 7, now=0.0)
    assert journal.owed() == (0, 0)
    assert journal.pause_locked(1.0) == 4.0
    journal.suspect_locked("a", 8, now=3.0)  # another: the delete comes in its time, and is not the last one
    debt = journal.next_locked(5.0)
    assert debt is not None
    assert not journal.settle_locked(debt, began=5.0)
    last = journal.next_locked(8.0)
    assert last is not None
    assert journal.settle_locked(last, began=8.0)


def test_a_write_of_unknown_outcome_adds_nothing_to_what_is_owed(journal: Journal) -> None:
    journal.owe_locked("a", 7, due=1.0)
    journal.suspect_locked("a", 8, now=0.0)
    assert journal.owed() == (1, 7)
    assert len(journal) == 1
    assert journal.next_locked(1.0) == Debt("a", 7, 2.0, tries=1, newest=8)
    assert journal.confirm_locked("a", 7, now=1.0)
    journal.suspect_locked("a", 6, now=1.0)  # an older one came late
    assert journal.next_locked(6.0) == Debt("a", 7, 7.0, tries=1, confirmed=True, final=6.0, newest=8)


def test_what_is_known_of_a_write_outlives_an_earlier_debt_that_comes_late(journal: Journal) -> None:
    """Seed 18671 of `make prove`: the write stamped 8 landed after the second look, which took 6 for the newest."""
    journal.suspect_locked("a", 8, now=0.0)
    journal.owe_locked("a", 5, due=1.0)
    assert journal.next_locked(1.0) == Debt("a", 8, 2.0, tries=1, newest=8)
    journal.suspect_locked("a", 9, now=1.0)
    journal.owe_locked("a", 6, due=3.0)
    assert journal.next_locked(3.0) == Debt("a", 8, 4.0, tries=1, newest=9)


def test_too_many_raise_the_floor(journal: Journal) -> None:
    for stamp, name in enumerate("abcd", start=1):
        journal.owe_locked(name, stamp, due=0.0)
    assert journal.owed() == (3, 2)
    assert (journal.floor, journal.gone) == (1, [("a", 1)])
    journal.owe_locked("b", 5, due=0.0)  # again, so it is the youngest
    journal.owe_locked("e", 6, due=0.0)
    assert (journal.floor, journal.gone) == (3, [("a", 1), ("c", 3)])
    assert journal.owed() == (3, 4)
    assert [debt and debt.name for debt in (journal.next_locked(0.0) for _ in range(4))] == ["b", "d", "e", None]


def test_the_floor_never_falls(journal: Journal) -> None:
    for stamp, name in ((9, "a"), (3, "b"), (10, "c"), (11, "d"), (12, "e")):
        journal.owe_locked(name, stamp, due=0.0)
    assert (journal.floor, journal.gone) == (9, [("a", 9), ("b", 3)])


def test_too_many_that_are_confirmed_are_forgotten_without_a_trace(journal: Journal) -> None:
    for stamp, name in enumerate("abcd", start=1):
        journal.suspect_locked(name, stamp, now=0.0)
    assert len(journal) == 3
    assert (journal.floor, journal.gone) == (0, [("a", 1)])
    assert [debt and debt.name for debt in (journal.next_locked(5.0) for _ in range(4))] == ["b", "c", "d", None]


def test_a_second_delete_that_nothing_can_undo_is_forgiven_and_an_owed_one_is_not(journal: Journal) -> None:
    journal.suspect_locked("a", 1, now=0.0)
    journal.owe_locked("b", 2, due=7.0)
    for name in "abc":
        journal.forgive_locked(name)
    assert ("a" in journal, "b" in journal, len(journal)) == (False, True, 1)
    assert journal.next_locked(6.0) is None
    assert journal.gone == []


def test_a_debt_is_shown_while_it_is_owed(journal: Journal) -> None:
    assert journal.debt("a") is None
    journal.owe_locked("a", 7, due=10.0)
    assert journal.debt("a") == Debt("a", 7, 10.0, newest=7)
    assert journal.confirm_locked("a", 7, now=10.0)
    assert journal.debt("a") is None


def test_one_that_fails_holds_up_no_other(journal: Journal) -> None:
    journal.owe_locked("a", 1, due=0.0)
    assert journal.next_locked(0.0) is not None
    journal.owe_locked("b", 2, due=0.5)
    debt = journal.next_locked(0.5)
    assert debt is not None
    assert debt.name == "b"


def test_hurry_makes_everything_due(journal: Journal) -> None:
    journal.owe_locked("b", 1, due=90.0)
    journal.owe_locked("a", 2, due=80.0)
    journal.suspect_locked("c", 3, now=0.0)
    journal.hurry_locked(1.0)
    names = [debt and debt.name for debt in (journal.next_locked(1.0) for _ in range(3))]
    assert names == ["a", "b", None]
    assert journal.pause_locked(1.0) == 1.0  # their next attempts
    journal.hurry_locked(1.5, confirmed=True)
    names = [debt and debt.name for debt in (journal.next_locked(1.5) for _ in range(4))]
    assert names == ["a", "b", "c", None]


def test_the_queue_does_not_grow_with_what_is_owed_again() -> None:
    journal = Journal(AGAIN, pause)
    for stamp, name in enumerate("abc", start=1):
        journal.owe_locked(name, stamp, due=0.0)
    sizes: list[int] = []
    for stamp in range(4, 1_000):
        journal.owe_locked("a", stamp, due=float(stamp))
        sizes.append(len(journal._queue))
    assert SPARE == 100
    assert sizes[101:105] == [105, 106, 3, 4]  # each of the three names twice, and the spare ones
    assert max(sizes) == 106


def test_nobody_is_told_of_what_is_let_go_unless_he_asks() -> None:
    journal = Journal(AGAIN, pause, 1)
    journal.owe_locked("a", 1, due=0.0)
    journal.owe_locked("b", 2, due=0.0)
    assert journal.gone is None
