"""What this process knows of its keys: the memory tiers, the fences and the flights, kept in step under one lock.

The lock is what law L9 rests on: an invalidation fences, drops and detaches in one step, and whatever would be kept is
held against the fence in the same step that keeps it. So a hit in memory needs neither lock nor fence check. Only
dictionary work is done under it; it is re-entrant, because a signal handler or a finalizer may ask the cache for
something while the interrupted thread holds it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import RLock
from typing import Any, Final, final

from ._request import Candidate, Request
from .entry import MICROS
from .errors import MisuseError
from .fences import Fences
from .flights import LEADING, Flight, Flights, Waiter
from .journal import Journal
from .marks import NAMESPACE, Mark, Marks, tag_mark
from .memory import STAMP, TAGS, Memory
from .outcome import Source
from .policy import CachePolicy, float_of
from .protocols import Clock
from .stamps import Stamps

__all__ = ["ABSENT", "KEY", "MARK", "Local"]

NEGATIVES: Final = 1_000  # so that asking for keys that do not exist cannot push out those that do
STAND_INS: Final = 10_000

KEY: Final = "k"
"""What the name of a key begins with in the journal, where other things are owed as well."""

MARK: Final = "m"
"""What the name of a mark begins with there."""


class Absent:
    """The type of `ABSENT`, which stands in memory for "the origin raised NotFound"."""


ABSENT: Final = Absent()


@final
class Local:
    """The in-process side of one cache. Times are monotonic seconds, stamps microseconds."""

    __slots__ = (
        "_clock",
        "_lock",
        "_marked",
        "_node",
        "_timeout",
        "fences",
        "flights",
        "journal",
        "margin",
        "marks",
        "memory",
        "negatives",
        "stamps",
        "stand_ins",
        "tag_fences",
        "tagged",
    )

    def __init__(
        self, capacity: int, policy: CachePolicy, clock: Clock, lock: RLock, journal: Journal | None = None
    ) -> None:
        self._clock = clock
        self._timeout = float_of(policy.timeout)
        self.journal = journal
        self._lock = lock
        self._node = 0
        self.memory = Memory[Any](capacity)
        self.negatives = Memory[Any](NEGATIVES)
        self.stand_ins = Memory[Any](STAND_INS)
        self.stamps = Stamps(clock, lock)
        self.flights = Flights[Any](float_of(policy.flight_age))
        self.margin = int(2 * float_of(policy.skew) * MICROS)
        life = int(policy.longest_life * MICROS) + self.margin
        self.fences = Fences(life)
        self.tag_fences = Fences(life)
        self._marked = policy.epoch_ttl is not None
        self.tagged = 0  # the stamp of the latest invalidation of a tag, whichever
        self.marks = Marks(float_of(policy.epoch_ttl) if policy.epoch_ttl is not None else 0.0, self.margin)

    @property
    def node(self) -> int:
        """The number that this process writes into its entries; drawn when first asked for, anew after a fork."""
        if not self._node:
            self._node = int.from_bytes(os.urandom(8), "big") | 1
        return self._node

    def recall(self, request: Request) -> tuple[Source, Any] | None:
        """What may be answered without asking anyone: (source, value), `ABSENT` for the origin's "there is none"."""
        now, key, taken = request.since, request.key, self.stamps.latest  # before the entry: see `learn`
        entry = self.memory.get(key)
        if entry is not None:
            if now < entry[1]:
                request.stamp = entry[STAMP]
                return Source.MEMORY, entry[0]
            request.offer(Candidate(*entry[:4], entry[TAGS], taken))
        negative = self.negatives.get(key) if self.negatives.entries else None
        if negative is not None and now < negative[1]:
            request.stamp = negative[STAMP]
            return Source.NEGATIVE, negative[0]
        resting = self.stand_ins.get(key) if self.stand_ins.entries else None
        if resting is not None and request.allows_stale and now < resting[1] and now < resting[2]:
            request.stamp = resting[STAMP]
            return Source.STALE, resting[0]
        return None

    def keep(self, key: str, found: Candidate, flight: Flight[Any] | None = None) -> bool:
        """Remember `found` unless it was invalidated or its flight replaced; False when it was."""
        with self._lock:
            if not self._current_locked(key, found, flight):
                return False
            for tier in (self.negatives, self.stand_ins):
                if key in tier.entries:
                    tier.drop_locked(key)
            return self._put_locked(self.memory, key, found, found.fresh_until)

    def keep_negative(self, request: Request, value: object, until: float, flight: Flight[Any]) -> None:
        """Remember until `until` that the origin has none, and that what it had before is no more."""
        key, stamp = request.key, request.stamp
        with self._lock:
            if not self._current_locked(key, Candidate(value, until, until, stamp, (), stamp), flight):
                return
            if request.stand_in is not None or request.forced:  # only then: unknown keys must not use up the fences
                self.fences.raise_locked(key, stamp)
            self.memory.drop_locked(key)
            self.stand_ins.drop_locked(key)
            self.negatives.put_locked(key, value, until, until, stamp)
            if self.fences.at(key) > stamp:  # see _put_locked
                self.negatives.drop_locked(key)

    def rest(self, key: str, found: Candidate, until: float) -> bool:
        """Let `found` stand in for `key`, until `until` without asking the loader; False when it may not."""
        with self._lock:
            return self._put_locked(self.stand_ins, key, found, until)

    def replace(self, key: str, found: Candidate) -> None:
        """Remember `found` in place of whatever there was, flights included."""
        with self._lock:
            if self.flights.detach_locked(key):  # its load may be on its way into the store this very moment
                self.fences.raise_locked(key, found.stamp - 1)
            self.keep(key, found)

    def suspect(self, key: str, stamp: int) -> None:
        """The store may not have taken the value of `stamp`: what it held before must not come back."""
        with self._lock:
            self.fences.raise_locked(key, stamp - 1)
            self._owe_locked(KEY + key, stamp - 1)
            for tier in (self.memory, self.negatives, self.stand_ins):
                entry = tier.entries.get(key)
                if entry is not None and entry[STAMP] < stamp:
                    tier.drop_locked(key)

    def invalidate(self, key: str) -> int:
        """Fence, drop and detach, in one step; the stamp of it."""
        with self._lock:
            stamp = self.stamps.next()
            self.fences.raise_locked(key, stamp)
            for tier in (self.memory, self.negatives, self.stand_ins):
                tier.drop_locked(key)
            self.flights.detach_locked(key)
            self._owe_locked(KEY + key, stamp)
            return stamp

    def invalidate_all(self) -> int:
        """Fence, drop and detach everything, in one step; the stamp of it."""
        with self._lock:
            stamp = self.stamps.next()
            self.fences.raise_floor_locked(stamp)
            self._drop_locked(stamp)
            self.flights.detach_all_locked()
            self._owe_locked(MARK + NAMESPACE, stamp)
            return stamp

    def invalidate_tag(self, tag: str) -> int:
        """Fence and drop what has `tag`, and let nobody join a load that is in the air, for it may have it too."""
        with self._lock:
            stamp = self.tagged = self.stamps.next()
            self.tag_fences.raise_locked(tag, stamp)
            self._drop_locked(stamp, tag)
            self._owe_locked(MARK + tag_mark(tag), stamp)
            return stamp

    def learn(self, name: str, mark: Mark, asked: float, *, own: bool = False) -> None:
        """The store had `mark` when it was asked at `asked`; `own`: it is that of an invalidation of this process.

        News of an invalidation elsewhere ends what it concerns here. First the entries go, then the moment is taken:
        what anybody got hold of before is refused, for it was taken before that moment.
        """
        with self._lock:
            news = not own and self.marks.is_news(name, mark)
            if news:
                self._drop_locked(self.marks.bound(mark.invalidated), name.removeprefix(tag_mark("")) or None)
            moment = self.stamps.tick()
            if news and name:
                self.tagged = moment
            elif news:
                self.flights.detach_all_locked()
            self.marks.learn_locked(name, mark, asked, moment, own=own)

    def claim(self, name: str, timeout: float) -> bool:
        """Whether the caller is to write a mark, because nobody else here is at it."""
        with self._lock:
            return self.marks.claim_locked(name, self.now(), timeout)

    def may_serve(self, key: str, found: Candidate) -> bool:
        """Whether `found` is inside its stale window and not fenced, now."""
        return self.now() < found.stale_until and self.admits(key, found)

    def admits(self, key: str, found: Candidate) -> bool:
        """Whether no invalidation refuses `found`: one of its key, of a tag or of everything, here or learned of."""
        stamp, taken, marks = found.stamp, found.taken, self.marks
        if not self.fences.admits(key, stamp):
            return False
        if taken < marks.namespace.since and marks.refuses(NAMESPACE, stamp, taken):  # the first saves a call
            return False
        fences = self.tag_fences
        return not found.tags or not any(
            not fences.admits(tag, stamp) or marks.refuses(tag_mark(tag), stamp, taken) for tag in found.tags
        )

    def now(self) -> float:
        """The moment, in monotonic seconds."""
        return self._clock.monotonic()

    def age(self, stamp: int) -> float:
        """Seconds since `stamp`."""
        return max(0, self.stamps.now() - stamp) / MICROS

    def confirm(self, key: str, stamp: int, kind: str = KEY) -> bool:
        """The store has acknowledged a delete, a value or a mark of `stamp`; whether that had been owed."""
        with self._lock:
            return self.journal is not None and self.journal.confirm_locked(kind + key, stamp, self.now())

    def doubt(self, key: str, stamp: int) -> None:
        """Nobody knows whether the value of `stamp` will yet land in the store."""
        with self._lock:
            if self.journal is not None:
                self.journal.suspect_locked(KEY + key, stamp, self._clock.monotonic())

    def board(
        self, request: Request, make_waiter: Callable[[], Waiter], now: float
    ) -> tuple[Flight[Any], Waiter | None]:
        """The flight of the key and the seat in it; None for the seat of the one who leads.

        Raises `MisuseError` when waiting would be waiting for oneself.
        """
        leading = LEADING.get()
        with self._lock:
            flight = self.flights.find_locked(request.key, request.mode, now)
            if flight is not None and flight.waits_for(leading):
                raise MisuseError("loader must not ask the cache, directly or in a circle, for the key it loads")
            if flight is not None and self._may_join_locked(request, flight):
                seat = self._sit_locked(flight, make_waiter)
            else:
                flight = self.flights.take_off_locked(request.key, request.mode, self.stamps.tick(), now)
                flight.forced = request.forced
                request.boarded = flight.stamp
                seat = None
            if leading:
                leading[-1].block(flight)
            return flight, seat

    def sit(self, flight: Flight[Any], make_waiter: Callable[[], Waiter]) -> Waiter:
        """A seat in a flight that is led behind."""
        with self._lock:
            return self._sit_locked(flight, make_waiter)

    def begin_load(self, flight: Flight[Any]) -> int:
        """The stamp of the load that starts now; 0 when the flight was detached, so that it must not start in it."""
        with self._lock:
            if flight.detached:
                return 0
            flight.stamp = self.stamps.next()
            return flight.stamp

    def land(self, flight: Flight[Any], outcome: object) -> None:
        """End `flight` and wake whoever waits."""
        with self._lock:
            woken = self.flights.land_locked(flight, outcome)
        for waiter in woken:
            waiter.wake()

    def leave(self, flight: Flight[Any], waiter: Waiter | None, now: float) -> None:
        """One aboard goes; if it led, another leads."""
        leading = LEADING.get()
        with self._lock:
            if leading:
                leading[-1].unblock(flight)
            woken = self.flights.leave_locked(flight, waiter, self.stamps.next(), now)
        for heir in woken:
            if not heir.wake():  # its loop is gone: the next one
                self.leave(flight, heir, now)

    def forked(self) -> None:
        """Start over in a child process: no flight of the parent lands here, and its entries are another's."""
        self.flights.clear_locked()
        self._node = 0

    def _put_locked(self, tier: Memory[Any], key: str, found: Candidate, fresh_until: float) -> bool:
        tier.put_locked(key, found.value, fresh_until, found.stale_until, found.stamp, found.tags)
        if self.admits(key, found):
            return True
        # What it pushed out had a finalizer, or a signal came, that invalidated the key in this very thread.
        tier.drop_locked(key)
        return False

    def _may_join_locked(self, request: Request, flight: Flight[Any]) -> bool:
        # A refresh whose flight another ended joins the refresh that took off since, or two end each other for ever.
        fresh = not request.forced or (flight.forced and 0 < request.boarded < flight.stamp)
        return fresh and flight.stamp > self.tagged and self.fences.admits(request.key, flight.stamp)

    def _sit_locked(self, flight: Flight[Any], make_waiter: Callable[[], Waiter]) -> Waiter:
        waiter = make_waiter()
        flight.waiters[waiter] = None
        return waiter

    def _current_locked(self, key: str, found: Candidate, flight: Flight[Any] | None) -> bool:
        if flight is not None and flight.detached:
            return False
        return self.admits(key, found)

    def _owe_locked(self, name: str, stamp: int) -> None:
        journal, due = self.journal, self.now() + self._timeout
        if journal is None:
            return
        floor = journal.floor
        journal.owe_locked(name, stamp, due)
        if journal.floor > floor and self._marked:  # nobody knows any more which keys, so it is all of them
            owed = journal.debt(MARK + NAMESPACE)
            journal.owe_locked(MARK + NAMESPACE, stamp, due if owed is None else owed.due)  # or it would never be due

    def _drop_locked(self, stamp: int, tag: str | None = None) -> None:
        for tier in (self.memory, self.negatives, self.stand_ins):
            tier.drop_older_locked(stamp, tag)
