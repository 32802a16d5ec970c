"""What this process knows of all its keys at once, and of those that have a tag: what `Local` builds on.

Everything is kept in step under one lock, which is re-entrant: see `_local.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from threading import RLock
from typing import Any, Final

from ._request import Candidate
from .entry import MICROS
from .fences import Fences
from .flights import Flights
from .journal import Journal
from .marks import NAMESPACE, Mark, Marks, tag_mark
from .memory import PAST, STAMP, Memory
from .pauses import Pauses
from .policy import CachePolicy, float_of
from .protocols import Clock
from .stamps import Stamps

__all__ = ["DROPPED", "EVERYTHING", "KEY", "MARK", "Many"]

NEGATIVES: Final = 1_000  # so that asking for keys that do not exist cannot push out those that do
STAND_INS: Final = 10_000
FAILURES: Final = 1_000  # errors keep the frames of their loaders
SPARE: Final = 10_000

KEY: Final = "k"
"""What the name of a key begins with in the journal, where other things are owed as well."""

MARK: Final = "m"
"""What the name of a mark begins with there."""

DROPPED: Final = "d"
"""What the name of a key begins with that was given a new value, in what the peers are told."""

EVERYTHING: Final = "*"
"""The name that stands for all of them there, when there are too many to tell."""

MOST_UNTOLD: Final = 10_000


class Many:
    """The state of one cache in this process, and what is done to many of its keys. Times as in `Local`."""

    __slots__ = (
        "_clock",
        "_lock",
        "_marked",
        "_node",
        "_timeout",
        "barred",
        "failures",
        "fences",
        "flights",
        "journal",
        "margin",
        "marks",
        "memory",
        "negatives",
        "outage",
        "pauses",
        "spare",
        "stamps",
        "stand_ins",
        "tag_fences",
        "tells",
        "tiers",
        "trusted_since",
        "untold",
    )

    def __init__(
        self, capacity: int, policy: CachePolicy, clock: Clock, lock: RLock, journal: Journal | None = None
    ) -> None:
        self._clock = clock
        self._timeout = float_of(policy.timeout)
        self.journal = journal
        self.outage = 0  # the stamp of the end of the last outage, if what the store held before is not trusted
        self.tells = False  # whether there are peers to be told of what is invalidated
        self.untold: dict[str, None] = {}
        self.trusted_since = PAST  # monotonic: what was read before may have been invalidated unheard
        self._lock = lock
        self._node = 0
        self.memory = Memory[Any](capacity)
        self.negatives = Memory[Any](NEGATIVES)
        self.stand_ins = Memory[Any](STAND_INS)
        self.failures = Memory[Any](FAILURES)
        needs_spare = journal is not None and not capacity and float_of(policy.degraded_ttl) > 0
        self.spare = Memory[Any](SPARE if needs_spare else 0)  # see `_degraded.py`
        self.tiers = (self.memory, self.negatives, self.stand_ins, self.failures, self.spare)
        self.pauses = Pauses()
        self.stamps = Stamps(clock, lock)
        self.flights = Flights[Any](float_of(policy.flight_age))
        self.margin = int(2 * float_of(policy.skew) * MICROS)
        life = int(policy.longest_life * MICROS) + self.margin
        self.fences = Fences(life)
        self.tag_fences = Fences(life)
        self._marked = policy.epoch_ttl is not None
        self.barred = 0  # no flight stamped by then is joined: a tag was invalidated, whichever, or something missed
        self.marks = Marks(float_of(policy.epoch_ttl) if policy.epoch_ttl is not None else 0.0, self.margin)

    @property
    def node(self) -> int:
        """The number that this process writes into its entries; drawn when first asked for, anew after a fork."""
        if not self._node:
            self._node = int.from_bytes(os.urandom(8), "big") | 1
        return self._node

    def invalidate_many(self, name: str) -> int:
        """Fence and drop what has a mark, in one step; the stamp of it. Nobody joins a load in the air that may too."""
        with self._lock:
            stamp = self.stamps.next_locked()
            self._forget_locked(name, stamp)
            self.owe_locked(MARK + name, stamp)
            self.tell([MARK + name])
            return stamp

    def learn(self, name: str, mark: Mark, asked: float, *, own: bool = False) -> None:
        """The store had `mark` when it was asked at `asked`; `own`: it is that of an invalidation of this process.

        News of an invalidation elsewhere ends what it concerns here. First the entries go, then the moment is taken:
        what anybody got hold of before is refused, for it was taken before that moment.
        """
        with self._lock:
            news = not own and self.marks.is_news(name, mark)
            if news:
                self._drop_older_locked(name, self.marks.bound(mark.invalidated))
            moment = self.stamps.next_locked()  # a reading: `taken` of what is being opened is one, ahead of `latest`
            if news and name:
                self.barred = moment
            elif news:
                self.flights.detach_all_locked()
            self.marks.learn_locked(name, mark, asked, moment, own=own)

    def make(self, name: str, stamp: int, version: int) -> None:
        """`version` is made for the invalidation of this process stamped `stamp`."""
        with self._lock:
            self.marks.make_locked(name, stamp, version)

    def claim(self, name: str, timeout: float) -> bool:
        """Whether the caller is to write a mark, because nobody else here is at it."""
        with self._lock:
            return self.marks.claim_locked(name, self.now(), timeout)

    def tell(self, names: Iterable[str]) -> None:
        """Let the peers know of `names`, if there are peers; too many are told of all together."""
        if not self.tells:
            return
        with self._lock:
            self.untold.update(dict.fromkeys(names))
            if len(self.untold) > MOST_UNTOLD:
                self.untold = {EVERYTHING: None}

    def heard(self, names: Iterable[str]) -> None:
        """Peers have invalidated `names`: what was loaded here before this moment is not served again."""
        for name in names:
            key = name[len(KEY) :]
            with self._lock:
                if name == EVERYTHING:
                    self.distrust()
                elif name.startswith(MARK):
                    self._forget_locked(name[len(MARK) :], self.stamps.next_locked())
                    self.marks.distrust_locked(name[len(MARK) :])
                elif name.startswith((KEY, DROPPED)):
                    if name.startswith(KEY):
                        self.fences.raise_locked(key, self.stamps.next_locked())
                    self._drop_locked(key)
                    self.flights.detach_locked(key)

    def recovered(self, *, trusted: bool) -> None:
        """The store is back: its marks may be lost, and unless `trusted` what it has was not invalidated meanwhile."""
        with self._lock:
            self.marks.distrust_all_locked()  # or entries are written with marks that are soon found to be lost
            self.spare.clear_locked()
            if not trusted:
                self.outage = self.stamps.next_locked()

    def distrust(self) -> None:
        """Invalidations may have been missed: no copy in memory is fresh any more, but it may stand in.

        Nobody joins a flight of before, until its load begins. The moment is taken when all is expired: readers take no
        lock, and what they found until then is from before it.
        """
        with self._lock:
            self.memory.expire_locked()
            self.spare.clear_locked()
            self.negatives.clear_locked()
            self.trusted_since, self.barred = self._clock.monotonic(), self.stamps.tick_locked()

    def forked(self) -> None:
        """Start over in a child process: no flight of the parent lands here, and its entries are another's."""
        self.flights.clear_locked()
        self._node = 0

    def admits(self, key: str, found: Candidate) -> bool:
        """Whether no invalidation refuses `found`: one of its key, of a tag or of everything, here or learned of."""
        stamp, taken, marks = found.stamp, found.taken, self.marks
        if not self.fences.admits(key, stamp):
            return False
        if taken < marks.namespace.since and marks.refuses(NAMESPACE, stamp, taken):  # the first saves a call
            return False
        fences = self.tag_fences
        return not found.tags or not any(
            not fences.admits(mark, stamp) or marks.refuses(mark, stamp, taken) for mark in map(tag_mark, found.tags)
        )

    def now(self) -> float:
        """The moment, in monotonic seconds."""
        return self._clock.monotonic()

    def age(self, stamp: int) -> float:
        """Seconds since `stamp`."""
        return max(0, self.stamps.now() - stamp) / MICROS

    def owe_locked(self, name: str, stamp: int) -> None:
        """The store owes a delete, or a mark: a caller asks for it now, so not before `timeout` again."""
        journal, due = self.journal, self.now() + self._timeout
        if journal is None:
            return
        floor = journal.floor
        journal.owe_locked(name, stamp, due)
        if journal.floor > floor and self._marked:  # nobody knows any more which keys, so it is all of them
            owed = journal.debt(MARK + NAMESPACE)
            journal.owe_locked(MARK + NAMESPACE, stamp, due if owed is None else owed.due)  # or it would never be due

    def _forget_locked(self, name: str, stamp: int) -> None:
        if name:
            self.barred = max(self.barred, stamp)
            self.tag_fences.raise_locked(name, stamp)
        else:
            self.fences.raise_floor_locked(stamp)
            self.flights.detach_all_locked()
        self._drop_older_locked(name, stamp)

    def _drop_older_locked(self, name: str, stamp: int) -> None:
        tag = name.removeprefix(tag_mark("")) if name else None
        for tier in self.tiers:
            tier.drop_older_locked(stamp, tag)

    def _drop_until_locked(self, key: str, stamp: int) -> None:
        for tier in self.tiers:
            entry = tier.entries.get(key)
            if entry is not None and entry[STAMP] <= stamp:
                tier.drop_locked(key)

    def _drop_locked(self, key: str) -> None:
        for tier in self.tiers:
            tier.drop_locked(key)
