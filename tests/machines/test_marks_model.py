"""Marks against a model that keeps nothing but what was learned, and works every answer out of that anew."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from resilient_cache.marks import NAMESPACE, Mark, Marks, tag_mark
from resilient_cache.outcome import Reason

LIFE = 4.0
MARGIN = 3
SHIFT = 4_096
TAGS = [tag_mark(tag) for tag in "tuvw"]
NAMES = st.sampled_from([NAMESPACE, *TAGS])
SMALL = st.integers(0, 8)
MOMENTS = st.sampled_from([0.0, 0.5, 1.0, 2.0, 2.0, 4.0])
VERSIONS = SMALL.map(lambda moment: moment * SHIFT)


@dataclass
class Past:
    """What was learned of one mark, in order: (mark, asked, since, own)."""

    learned: list[tuple[Mark, float, int, bool]] = field(default_factory=list)
    distrusted: int = 0  # how many of them had been learned by then
    renewed: float = -1.0  # the `until` of the life in which somebody asks already
    claimed: float = 0.0

    def highest(self, upto: int | None = None) -> Mark:
        marks = [mark for mark, *_ in self.learned[:upto]]
        return Mark(max((m.version for m in marks), default=0), max((m.invalidated for m in marks), default=0))

    @property
    def since(self) -> int:
        """The latest stamp given with anything that was new."""
        news = [
            since
            for number, (mark, _, since, _) in enumerate(self.learned)
            if mark.version > self.highest(number).version or mark.invalidated > self.highest(number).invalidated
        ]
        return max(news, default=0)

    @property
    def until(self) -> float:
        """A life after the store was last asked and had what is known, or more."""
        seen = [
            asked + LIFE
            for number, (mark, asked, _, _) in enumerate(self.learned)
            if number >= self.distrusted and mark.version >= self.highest(number).version
        ]
        return max(seen, default=0.0)

    @property
    def revoked(self) -> int:
        return next((mark.version for mark, _, _, own in reversed(self.learned) if own), 0)


class MarksMachine(RuleBasedStateMachine):
    """One cache's marks: learned early and late, asked about, no longer trusted, and forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.stamp = 0.0, 0
        self.pasts: dict[str, Past] = {NAMESPACE: Past()}
        self.forgotten: list[Past] = []

    @initialize(capacity=st.integers(1, 4))
    def of(self, capacity: int) -> None:
        self.capacity = capacity
        self.marks = Marks(LIFE, MARGIN, capacity)

    def _use(self, name: str) -> Past:
        past = self.pasts.pop(name, None)
        if past is None:
            past = Past()
            if len(self.pasts) > self.capacity:
                oldest = next(known for known in self.pasts if known)
                self.forgotten.append(self.pasts.pop(oldest))
        self.pasts[name] = past
        return past

    @rule(step=MOMENTS)
    def wait(self, step: float) -> None:
        self.now += step

    @rule(name=NAMES, version=st.integers(1, 8), invalidated=SMALL, ago=MOMENTS, own=st.booleans())
    def learn(self, name: str, version: int, invalidated: int, ago: float, own: bool) -> None:
        self.stamp += 1
        mark = Mark(version * SHIFT, min(version, invalidated) * SHIFT)
        known = self.pasts.get(name, Past())
        assert self.marks.is_news(name, mark) is (mark.invalidated > known.highest().invalidated)
        self.marks.learn_locked(name, mark, self.now - ago, self.stamp, own=own)
        self._use(name).learned.append((mark, self.now - ago, self.stamp, own))
        self.knows()

    @rule(name=NAMES, version=VERSIONS)
    def ask(self, name: str, version: int) -> None:
        """One for everybody in the second half of its life, then everybody; for an unknown version at once."""
        past = self.pasts.get(name, Past())
        due = version > past.highest().version or self.now >= past.until
        if not due and self.now >= past.until - LIFE / 2 and past.renewed != past.until:
            due, past.renewed = True, past.until
        assert self.marks.due(name, self.now, version) is due

    @rule(name=NAMES)
    def distrust(self, name: str) -> None:
        self.marks.distrust_locked(name)
        if name in self.pasts:
            self.pasts[name].distrusted, self.pasts[name].renewed = len(self.pasts[name].learned), -1.0
        self.knows()

    @rule()
    def distrust_all(self) -> None:
        self.marks.distrust_all_locked()
        for past in self.pasts.values():
            past.distrusted, past.renewed = len(past.learned), -1.0

    @rule(name=NAMES, timeout=st.sampled_from([0.5, 1.0]))
    def claim(self, name: str, timeout: float) -> None:
        past = self._use(name)
        free = self.now >= past.claimed
        assert self.marks.claim_locked(name, self.now, timeout) is free
        if free:
            past.claimed = self.now + timeout
        self.knows()

    @rule(name=NAMES)
    def settle(self, name: str) -> None:
        self.marks.settle(name)
        if name in self.pasts:
            self.pasts[name].claimed = 0.0

    @rule(name=NAMES, stamp=st.integers(1, 14), taken=st.integers(0, 14))
    def admit(self, name: str, stamp: int, taken: int) -> None:
        """Of a forgotten mark all that was ever forgotten is held against it, and nothing else."""
        if name in self.pasts:
            since, invalidated = self.pasts[name].since, self.pasts[name].highest().invalidated
        else:
            since = max((past.since for past in self.forgotten), default=0)
            invalidated = max((past.highest().invalidated for past in self.forgotten), default=0)
        older = invalidated > 0 and stamp <= invalidated // SHIFT + MARGIN
        assert self.marks.refuses(name, stamp, taken) is (older and taken < since)
        known = self.pasts.get(name, Past())
        for placed in (False, True):
            version = known.highest()[placed]
            after = version == 0 or version // SHIFT + MARGIN < stamp
            settled = known.highest().version > 0 and (known.since < stamp or after)
            assert self.marks.settled(name, stamp, placed=placed) is settled

    @rule(versions=st.lists(st.tuples(NAMES, VERSIONS), max_size=3))
    def judge(self, versions: list[tuple[str, int]]) -> None:
        """What is older than an invalidation never; else the first reason not to believe, but nothing is worse
        than that nobody can tell."""
        verdicts = [self._verdict(name, version) for name, version in versions]
        worst = [Reason.FENCED, Reason.UNMARKED, Reason.EXPIRED]
        expected = next((reason for reason in worst if reason in verdicts), None)
        assert self.marks.verdict(versions, self.now) is expected

    def _verdict(self, name: str, version: int) -> Reason | None:
        past = self.pasts.get(name, Past())
        known = past.highest()
        if known.version == 0 or version > known.version:
            return Reason.UNMARKED
        if version < known.invalidated or version == 0:
            return Reason.FENCED
        return Reason.EXPIRED if version != known.version or self.now >= past.until else None

    @rule(name=NAMES, stamp=st.integers(1, 14), node=st.integers(0, SHIFT - 1))
    def make(self, name: str, stamp: int, node: int) -> None:
        known = self.pasts.get(name, Past()).highest().version
        assert divmod(self.marks.next(name, stamp, node), SHIFT) == (max(stamp, known // SHIFT + 1), node)

    def knows(self) -> None:
        """Those used last, and of each the highest."""
        assert len(self.marks) == len(self.pasts) - 1 <= self.capacity
        for name in (NAMESPACE, *TAGS):
            past = self.pasts.get(name, Past())
            assert (self.marks.known(name) is None) is (name not in self.pasts)
            assert (self.marks.version(name), self.marks.invalidated(name)) == past.highest()
            assert self.marks.revoked(name) == past.revoked


TestMarks = MarksMachine.TestCase
