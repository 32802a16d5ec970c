"""What this process knows of its keys: the memory tiers, the fences and the flights, kept in step under one lock.

The lock is what law L9 rests on: an invalidation fences, drops and detaches in one step, and whatever would be kept is
held against the fence in the same step that keeps it. So a hit in memory needs neither lock nor fence check. Only
dictionary work is done under it; it is re-entrant, because a signal handler or a finalizer may ask the cache for
something while the interrupted thread holds it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

from ._many import DROPPED, EVERYTHING, KEY, MARK, Many
from ._request import Candidate, Request, candidate_of
from .entry import Slot
from .errors import MisuseError
from .flights import LEADING, Flight, Waiter
from .memory import FRESH, PAST, PLACE, STAMP, Memory
from .outcome import Source

__all__ = ["ABSENT", "DROPPED", "EVERYTHING", "KEY", "MARK", "Local"]

FOREVER: Final = float("inf")


class Absent:
    """The type of `ABSENT`, which stands in memory for "the origin raised NotFound"."""


ABSENT: Final = Absent()


@final
class Local(Many):
    """The in-process side of one cache. Times are monotonic seconds, stamps microseconds."""

    __slots__ = ()

    def recall(self, request: Request) -> tuple[Source, Any] | None:
        """What may be answered without asking anyone: (source, value), `ABSENT` for the origin's "there is none"."""
        now, key, taken = request.since, request.key, self.stamps.latest  # before the entry: see `learn`
        entry = self.memory.entries.get(key)
        if entry is not None:
            self.memory.marks[entry[PLACE]] = 1
            if now < entry[FRESH]:
                request.stamp = entry[STAMP]
                if now >= entry[1]:
                    request.due, request.early = candidate_of(entry, taken), entry[FRESH] - entry[1]
                return Source.MEMORY, entry[0]
            request.offer(candidate_of(entry, taken))
        negative = self.negatives.get(key) if self.negatives.entries else None
        if negative is not None and now < negative[1]:
            request.stamp = negative[STAMP]
            return Source.NEGATIVE, negative[0]
        resting = self.resting(request, now) if self.stand_ins.entries else None
        if resting is not None:
            request.stamp = resting[STAMP]
            return Source.STALE, resting[0]
        return self._at_once(request, now) if request.loads and (request.stand_in or self.flights.live) else None

    def resting(self, request: Request, now: float) -> Slot[Any] | None:
        """What stands in for the key without the loader being asked, if the request may have it."""
        resting = self.stand_ins.get(request.key)
        if resting is not None and request.allows_stale and now < resting[1] and now < resting[2]:
            return resting
        return None

    def _at_once(self, request: Request, now: float) -> tuple[Source, Any] | None:
        """What is past its ttl, for those who take it at once, or any entry while it is loaded again behind."""
        found, key = request.stand_in, request.key
        flight = self.flights.find(key, request.mode)
        renewing: tuple[Candidate, float] | None = flight.renewing if flight is not None else None
        if renewing is not None and renewing[1] >= self.trusted_since and self.admits(key, renewing[0]):
            found = renewing[0]
        if found is None or not self.serves_at_once(request, found, now):
            return None
        request.due, request.early, request.stamp = found, FOREVER, found.stamp
        return (Source.MEMORY if now < found.fresh_until else Source.STALE), found.value

    def serves_at_once(self, request: Request, found: Candidate, now: float) -> bool:
        """Whether `found` answers `request`, perhaps while it is loaded again; what is distrusted does not."""
        if now < found.fresh_until:
            return True
        return request.takes_stale and now < found.stale_until and found.fresh_until > PAST

    def keep(
        self,
        key: str,
        found: Candidate,
        flight: Flight[Any] | None = None,
        *,
        since: float = FOREVER,
        early: float = 0.0,
    ) -> bool:
        """Remember `found` unless it was invalidated, its flight replaced, or something newer is known; False then.

        `since`: when it began to be read. What may have been invalidated unheard after that is kept as if expired.
        `early`: seconds before the end of its freshness from which on it may be loaded again behind.
        """
        memory, negatives, stand_ins, failures = self.memory, self.negatives, self.stand_ins, self.failures
        beside = negatives.entries or stand_ins.entries or failures.entries or self.spare.entries
        if flight is None and not (memory.capacity or beside):
            return True  # there is nothing to do
        with self._lock:
            if not self._current_locked(key, found, flight):
                return False
            for tier in (negatives, stand_ins, self.spare):
                known = tier.entries.get(key)
                if known is not None:
                    if known[STAMP] > found.stamp and self.now() < known[1]:  # a slow store's may be from before: L11
                        return False
                    tier.drop_locked(key)
            failure = failures.entries.get(key)
            if failure is not None and failure[STAMP] < found.stamp:
                failures.drop_locked(key)
            if since < self.trusted_since:
                return self._put_locked(memory, key, found, PAST)
            return self._put_locked(memory, key, found, found.fresh_until, early)

    def keep_failure(self, request: Request, failure: object, until: float, flight: Flight[Any]) -> None:
        """Remember until `until` what the loader raised."""
        stamp = request.stamp
        found = Candidate(failure, until, until, stamp, (), stamp)
        with self._lock:
            if self._current_locked(request.key, found, flight):
                self._put_locked(self.failures, request.key, found, until)

    def keep_spare(self, key: str, found: Candidate, until: float, flight: Flight[Any] | None, since: float) -> None:
        """Remember `found`, loaded since `since`, until `until`, for while the store cannot be read."""
        with self._lock:
            if since >= self.trusted_since and self._current_locked(key, found, flight):
                self._put_locked(self.spare, key, found, until)

    def failure(self, key: str, now: float) -> Any:
        """What the loader of `key` raised, while that is remembered; what is over is let go of, frames and all."""
        entry = self.failures.get(key) if self.failures.entries else None
        if entry is None or now < entry[1]:
            return entry and entry[0]
        with self._lock:
            self.failures.drop_locked(key)
        return None

    def keep_negative(self, request: Request, value: object, until: float, flight: Flight[Any]) -> None:
        """Remember until `until` that the origin has none, and that what it had before is no more."""
        key, stamp = request.key, request.stamp
        with self._lock:
            if not self._current_locked(key, Candidate(value, until, until, stamp, (), stamp), flight):
                return
            if request.stand_in is not None or request.forced:  # only then: unknown keys must not use up the fences
                self.fences.raise_locked(key, stamp)
                if request.gates.write:  # or other processes are served it while the origin is down
                    self.owe_locked(KEY + key, stamp)
            for tier in (self.memory, self.stand_ins, self.failures, self.spare):
                tier.drop_locked(key)
            if request.loading_since >= self.trusted_since:
                self.negatives.put_locked(key, value, until, until, stamp)
            if self.fences.at(key) > stamp:  # see _put_locked
                self.negatives.drop_locked(key)

    def rest(self, key: str, found: Candidate, until: float) -> bool:
        """Let `found` stand in for `key`, until `until` without asking the loader; False when it may not."""
        with self._lock:
            return self._put_locked(self.stand_ins, key, found, until)

    def replace(self, key: str, found: Candidate, early: float = 0.0) -> None:
        """Remember `found` in place of whatever there was, flights included."""
        with self._lock:
            if self.flights.detach_locked(key):  # its load may be on its way into the store this very moment
                self.fences.raise_locked(key, found.stamp - 1)
            self.keep(key, found, early=early)

    def suspect(self, key: str, stamp: int) -> None:
        """The store may not have taken the value of `stamp`: what it held before must not come back."""
        with self._lock:
            self.fences.raise_locked(key, stamp - 1)
            self.owe_locked(KEY + key, stamp - 1)
            if self.journal is not None:
                self.journal.suspect_locked(KEY + key, stamp, self.now())
            self._drop_until_locked(key, stamp - 1)

    def forget(self, key: str, stamp: int) -> None:
        """Drop what is kept of `stamp`, which was refused on its way out."""
        with self._lock:
            for tier in self.tiers:
                entry = tier.entries.get(key)
                if entry is not None and entry[STAMP] == stamp:
                    tier.drop_locked(key)

    def latest_locked(self, key: str) -> int:
        """The stamp of the latest that is kept for `key`, 0 for nothing."""
        tiers = (self.memory, self.negatives, self.stand_ins)
        return max(entry[STAMP] if (entry := tier.entries.get(key)) else 0 for tier in tiers)

    def invalidate(self, key: str) -> int:
        """Fence, drop and detach, in one step; the stamp of it."""
        with self._lock:
            stamp = self.stamps.next_locked()
            self.fences.raise_locked(key, stamp)
            self._drop_locked(key)
            self.flights.detach_locked(key)
            self.owe_locked(KEY + key, stamp)
            self.tell([KEY + key])
            return stamp

    def remember(self, name: str, stamp: int) -> None:
        """An earlier process was still owed the delete of `name`: here nothing of before is served either."""
        with self._lock:
            self.stamps.latest = max(self.stamps.latest, stamp)
            if name.startswith(KEY):
                self.fences.raise_locked(name[len(KEY) :], stamp)
                self._drop_until_locked(name[len(KEY) :], stamp)  # a hit in memory asks no fence
            elif name.startswith(MARK):
                self._forget_locked(name[len(MARK) :], stamp)
            else:
                return  # of a later version of this library
            if self.journal is not None and name not in self.journal:  # else it is this one's own
                self.journal.owe_locked(name, stamp, self._clock.monotonic())

    def may_serve(self, key: str, found: Candidate) -> bool:
        """Whether `found` is inside its stale window and not fenced, now."""
        return self.now() < found.stale_until and self.admits(key, found)

    def confirm(self, key: str, stamp: int, kind: str = KEY) -> bool:
        """The store has acknowledged a delete, a value or a mark of `stamp`; whether that had been owed."""
        with self._lock:
            return self.journal is not None and self.journal.confirm_locked(kind + key, stamp, self.now())

    def doubt(self, key: str, stamp: int) -> None:
        """Nobody knows whether the value of `stamp` will yet land in the store."""
        assert self.journal is not None  # or nothing would have been written
        with self._lock:
            self.journal.suspect_locked(KEY + key, stamp, self._clock.monotonic())

    def board(
        self, request: Request, make_waiter: Callable[[], Waiter], now: float
    ) -> tuple[Flight[Any], Waiter | None]:
        """The flight of the key and the seat in it; None for the seat of the one who leads.

        Raises `MisuseError` when waiting would be waiting for oneself.
        """
        leading, seat = LEADING.get(), None
        with self._lock:
            flight = self.flights.find_locked(request.key, request.mode, now)
            if flight is not None and leading and flight.waits_for(leading):
                raise MisuseError("loader must not ask the cache, directly or in a circle, for the key it loads")
            if flight is not None and self._may_join_locked(request, flight):
                seat = make_waiter()
                flight.sit(seat)
                if not request.forced:  # or those who refuse what they shared would end each other's loads
                    request.boarded = flight.stamp
            else:
                stamp = request.boarded = self.stamps.tick_locked()
                flight = self.flights.take_off_locked(request.key, request.mode, stamp, now)
                if request.forced or request.policy.refresh_behind:
                    flight.forced, flight.takes_stale = request.forced, request.takes_stale
            if leading:
                leading[-1].block(flight)
            return flight, seat

    def depart(self, request: Request, found: Candidate, now: float, pause: float) -> Flight[Any] | None:
        """A flight to load `found` again behind, for `pause` seconds not another; None when it is not to be loaded."""
        key = request.key
        with self._lock:
            newer = self.memory.entries.get(key)
            if (
                self.pauses.paused(key, found.stamp, now)
                or not self.admits(key, found)
                or (newer is not None and newer[STAMP] > found.stamp)
                or self.flights.find_locked(key, request.mode, now) is not None
            ):
                return None
            self.pauses.put_locked(key, found.stamp, now + pause, now)
            flight = self.flights.take_off_locked(key, request.mode, self.stamps.tick_locked(), now)
            flight.renewing = found, request.since
            return flight

    def pause(self, key: str, stamp: int, until: float) -> None:
        """Load what has `stamp` not again behind before `until`."""
        with self._lock:
            self.pauses.put_locked(key, stamp, until, self.now())

    def sit(self, flight: Flight[Any], make_waiter: Callable[[], Waiter]) -> Waiter:
        """A seat in a flight that is led behind."""
        waiter = make_waiter()
        with self._lock:
            flight.sit(waiter)
        return waiter

    def begin_load(self, flight: Flight[Any]) -> int:
        """The stamp of the load that starts now; 0 when the flight was detached, so that it must not start in it."""
        with self._lock:
            if flight.detached:
                return 0
            flight.stamp = self.stamps.next_locked()
            return flight.stamp

    def land(self, flight: Flight[Any], outcome: object) -> None:
        """End `flight` and wake whoever waits."""
        with self._lock:
            woken = self.flights.land_locked(flight, outcome)
        for waiter in woken:
            waiter.wake()

    def hand_out(self, flight: Flight[Any], found: object) -> None:
        """Wake whoever waits for `flight` with what was `found`, and let it fly on."""
        with self._lock:
            woken = self.flights.hand_out_locked(flight, found)
        for waiter in woken:
            waiter.wake()

    def leave(self, flight: Flight[Any], waiter: Waiter | None, now: float) -> None:
        """One aboard goes; if it led, another leads."""
        leading = LEADING.get()
        with self._lock:
            if leading:
                leading[-1].unblock(flight)
            if flight.stamp <= self.barred:  # what it has found is not for who comes later, and an heir has a new stamp
                self.flights.close_locked(flight)
            woken = self.flights.leave_locked(flight, waiter, self.stamps.next_locked(), now)
        for heir in woken:
            if not heir.wake():  # its loop is gone: the next one
                self.leave(flight, heir, now)

    def _put_locked(
        self, tier: Memory[Any], key: str, found: Candidate, fresh_until: float, early: float = 0.0
    ) -> bool:
        value, _, stale_until, stamp, tags, _ = found
        if not tier.put_locked(key, value, fresh_until, stale_until, stamp, tags, early) or self.admits(key, found):
            return True
        # What it pushed out had a finalizer, or a signal came, that invalidated the key in this very thread.
        tier.drop_locked(key)
        return False

    def _may_join_locked(self, request: Request, flight: Flight[Any]) -> bool:
        # A refresh whose flight another ended joins the refresh that took off since, or two end each other for ever.
        # Who refused what the store had given meanwhile waits for the load that has begun, and begins none beside it.
        goes_on = request.turned_down and flight.found is not None and flight.origin is not None
        fresh = not request.forced or goes_on or (flight.forced and 0 < request.boarded < flight.stamp)
        if request.picky and flight.takes_stale and flight.found is None:  # else its load is on its way
            return False
        return fresh and flight.stamp > self.barred and self.fences.admits(request.key, flight.stamp)

    def _current_locked(self, key: str, found: Candidate, flight: Flight[Any] | None) -> bool:
        if flight is not None and flight.detached:
            return False
        return self.admits(key, found)
