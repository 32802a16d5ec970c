"""Several vendors as one store, for threads: one operation from top to bottom. Twin of `_async_failover.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, final

from ._guard import Answer
from ._lineup import Trip, line_up
from ._sync_replay import Replay
from ._thread_turns import Asking, check_hedge, each, first, turns
from ._threads import Behind, Spawn, ask, check_adapter, close, marks_of, quickest
from ._vendors import Vendor
from .entry import Duration, seconds
from .errors import FailureKind, StoreError
from .events import Hook
from .outcome import Direction, Operation, Reason
from .policy import BreakerPolicy
from .protocols import CacheAdapter, Clock
from .stamps import SYSTEM_CLOCK, SYSTEM_RANDOM

__all__ = ["Failover"]


@final
class Failover:
    """Several stores as one adapter: when the first cannot serve, the next one stands in.

    `vendors`: two adapters or more, in the order in which they are asked; they are closed with it. `names` label their
    metrics. `timeout`: the longest one call to one of them may take; of what an operation has left, each is given an
    equal share with those still to be asked. An entry in a stand-in lives for `stand_in_ttl` at most (None: 60 s, or
    `max_ttl` if that is less), one in the first for `max_ttl`. `hedge_after`: seconds after which a read asks the next
    one too (only in `AsyncFailover`).
    Each has circuits of its own (`breaker`), and is asked again, behind, for every delete it did not acknowledge.

    Its methods raise nothing but `StoreError`; a key is never read from a vendor that may hold something older than
    what was written or deleted here. Safe to share between threads.

    Raises `MisuseError` for an argument that can never be right. No store, clock or thread is touched.
    """

    __slots__ = ("_behind", "_hedge_after", "_lineup", "_monotonic", "_replays", "_vendors")

    def __init__(
        self,
        *vendors: CacheAdapter,
        names: Sequence[str] | None = None,
        timeout: Duration = 0.1,
        stand_in_ttl: Duration | None = None,
        max_ttl: Duration = 3600.0,
        hedge_after: Duration | None = None,
        breaker: BreakerPolicy | None = None,
        hooks: Iterable[Hook] = (),
        clock: Clock = SYSTEM_CLOCK,
        random: Callable[[], float] = SYSTEM_RANDOM,
        spawn: Spawn | None = None,
    ) -> None:
        self._hedge_after = check_hedge(hedge_after)
        self._lineup = line_up(
            vendors,
            check=check_adapter,
            quickest=quickest,
            marks_of=marks_of,
            names=names,
            timeout=timeout,
            stand_in_ttl=stand_in_ttl,
            max_ttl=max_ttl,
            breaker=breaker,
            hooks=hooks,
            clock=clock,
            random=random,
        )
        self._monotonic = clock.monotonic
        self._behind = Behind(spawn)
        self._vendors = self._lineup.vendors
        self._replays = [Replay(vendor, self._behind, spawn) for vendor in self._vendors]

    def get(self, key: str, /) -> bytes | None:
        """The bytes stored under `key`, or None when there are none. Raises `StoreError` when no vendor can say."""
        trip, vendors = self._lineup.begin(Direction.READ), self._lineup.readers(key)
        if not vendors and self._lineup.serves():
            return None  # what they have is older than its delete
        trip.turns = len(vendors)
        asks = [partial(self._read, trip, vendor, vendor.get, key) for vendor in vendors]
        try:
            answer = first(asks, self._hedge_after, self._behind)
        finally:
            self._soon()
        if answer is None:
            raise trip.failure()
        value: Any = answer.value
        return value  # type: ignore[no-any-return]

    def get_mark(self, key: str, /) -> bytes | None:
        """What `set_mark` has stored, of the first vendor that is there: no stand-in answers for one that only failed.

        For what a stand-in has not, or has of before, would be taken for lost. Raises `StoreError` then, of kind
        `PER_KEY`, and when no vendor may be asked.
        """
        trip = self._lineup.begin(Direction.READ)
        try:
            for vendor in self._lineup.readers(key):
                answer = self._read(trip, vendor, vendor.get_mark, key)
                if answer.failed is None:
                    value: Any = answer.value
                    return value  # type: ignore[no-any-return]
                if answer.failed is not Reason.OPEN:
                    raise StoreError(FailureKind.PER_KEY, f"{vendor.name} did not answer, and is not known to be gone")
        finally:
            self._soon()
        raise trip.failure()

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        """Store `value` for `ttl` seconds, in one vendor. Raises `StoreError` when none acknowledged."""
        trip, vendors = self._lineup.begin(Direction.READ, Direction.WRITE), self._lineup.writers(key)
        trip.turns = len(vendors)
        try:
            for vendor in vendors:
                if trip.done(self._write(trip, vendor, key, value, min(ttl, vendor.life))):
                    return
        finally:
            self._soon()
        raise trip.failure()

    def delete(self, key: str, /) -> None:
        """Remove `key` from every vendor. Raises `StoreError` unless all acknowledged; the others are asked again.

        It is of kind `PER_KEY` when one did: then a vendor is missing, not the store.
        """
        trip = self._lineup.begin(Direction.WRITE)
        owed = [(vendor, vendor.owe(key, vendor.guard.timeout)) for vendor in self._vendors]
        self._all(trip, [partial(self._delete, trip, vendor, key, stamp) for vendor, stamp in owed])

    def set_mark(self, key: str, value: bytes, ttl: float, /) -> None:
        """Store `value` in every vendor, for all of `ttl` seconds. Raises `StoreError` unless all acknowledged.

        It is of kind `PER_KEY` when one did. Nothing is owed then: whoever calls it has to see to it himself.
        """
        trip = self._lineup.begin(Direction.WRITE)
        self._all(trip, [partial(self._mark, trip, vendor, key, value, ttl) for vendor in self._vendors])

    def flush(self, timeout: Duration = 1.0) -> int:
        """Ask the vendors for every delete that they owe; how many are left after `timeout` seconds.

        Each is given an equal share of what is left of them.
        """
        until, owed = self._monotonic() + seconds("timeout", timeout), 0
        for place, replay in enumerate(self._replays):
            share = (until - self._monotonic()) / (len(self._replays) - place)
            owed += replay.flush(max(0.0, share))
        return owed

    def health(self) -> dict[str, object]:
        """Who serves now, and of each vendor its circuits and what it owes, as plain data. Touches no store."""
        return self._lineup.health()

    def stats(self) -> dict[str, dict[str, int]]:
        """The counters of each vendor: store calls and their failures by kind."""
        return self._lineup.stats()

    def close(self) -> int:
        """Stop what runs behind and close the vendors; how many deletes they have not acknowledged.

        Each is asked for them once more, for a second at most. Later use is `StoreError`; closing again is nothing.
        """
        if self._lineup.closed:
            return 0
        self._lineup.closed, left = True, 0
        for replay in self._replays:
            left += replay.close()
        self._behind.close()
        for vendor in self._vendors:
            close(vendor.adapter, vendor.reporter)
        return left

    def _all(self, trip: Trip, asks: Sequence[Asking]) -> None:
        trip.turns = turns(len(asks))
        try:
            answers = each(asks)
        finally:
            self._soon()
        pending = trip.pending(answers)
        if pending is not None:
            raise pending

    def _read(self, trip: Trip, vendor: Vendor, get: Callable[[str], Any], key: str) -> Answer:
        guard, behind = vendor.guard, self._behind
        answer = ask(guard, behind, Operation.GET, trip.share(), get, key)
        trip.done(answer)
        return answer

    def _write(self, trip: Trip, vendor: Vendor, key: str, value: bytes, ttl: float) -> Answer:
        guard, behind, stamp = vendor.guard, self._behind, vendor.stamp()

        def put(key: str) -> Any:
            self._lineup.claim(vendor, key, ttl)
            return vendor.quick.set(key, value, ttl)

        try:
            answer = ask(guard, behind, Operation.SET, trip.share(), put, key, here=True)
        except BaseException:
            vendor.doubt(key)
            raise
        if answer.failed is None:
            vendor.confirmed(key, stamp)
        elif answer.value is not None:  # it was asked
            vendor.doubt(key)
            vendor.refused()
        return answer

    def _mark(self, trip: Trip, vendor: Vendor, key: str, value: bytes, ttl: float) -> Answer:
        guard, behind = vendor.guard, self._behind
        return ask(guard, behind, Operation.SET, trip.share(), vendor.set_mark, key, value, ttl)

    def _delete(self, trip: Trip, vendor: Vendor, key: str, stamp: int) -> Answer:
        guard, behind = vendor.guard, self._behind
        answer = ask(guard, behind, Operation.DELETE, trip.share(), vendor.delete, key)
        if answer.failed is None:
            vendor.confirmed(key, stamp)
        else:
            vendor.refused()
        return answer

    def _soon(self) -> None:
        for replay in self._replays:
            replay.soon()
