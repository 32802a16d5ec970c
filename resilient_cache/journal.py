"""The journal: the deletes that a store still owes us, and when to ask for each of them again.

Theory. A delete that failed leaves the old entry in the store for everybody who has no fence. And one that was
acknowledged may be undone: a write that was on its way to the server can land after it (50 of 50 in one measurement).
So an invalidation is over only when the store has confirmed it twice, the second time `again_after` seconds after the
first; no write is on its way for longer than that. What the store has by then may be newer than the invalidation and
every write that could land late. So the second time it is looked at first, and deleted only if it may be old.

  owed        not confirmed yet: asked for until it is, with growing pauses
  confirmed   once; asked for once more when `again_after` is over
  gone        that was confirmed as well

A write whose outcome nobody knows leaves its key as if a delete had just been confirmed: what lands late is deleted.

Asking is not waited for. What is due is handed out with its next attempt already set, so whoever takes it and never
comes back (a killed thread, a dropped task) holds nothing up: in the end it is due again.

Bounded. Of more than `capacity` owed deletes the oldest is forgotten and leaves its stamp as the `floor`: of what is
stamped at or before it nobody knows any more which keys the store should not have. Of too many confirmed ones the
oldest is forgotten without a trace; that takes more than 2 000 invalidations a second.

Invariants.
  1 every owed name is in the queue with its due moment, so it is handed out in the end;
  2 a word of the store settles only what was owed when it was asked, never a later invalidation;
  3 the queue holds at most twice as many items as there are names, and some to spare.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple, final

__all__ = ["Debt", "Journal"]

CAPACITY: Final = 10_000
SPARE: Final = 100


class Debt(NamedTuple):
    """A delete to ask the store for. `tries`: how often that was done since it was owed, or confirmed.

    `final`: of one that is confirmed, the moment from which on a delete is the last one. `newest`: what is stamped
    later than this is not to be deleted the second time.
    """

    name: str
    stamp: int
    due: float
    tries: int = 0
    confirmed: bool = False
    final: float = 0.0
    newest: int = 0


@final
class Journal:
    """What one store owes. Every method is called under the cache's lock. Stamps are microseconds, `now` seconds."""

    __slots__ = ("_again_after", "_capacity", "_confirmed", "_owed", "_pause", "_queue", "floor", "gone")

    def __init__(self, again_after: float, pause: Callable[[int], float], capacity: int = CAPACITY) -> None:
        self._again_after = again_after
        self._pause = pause
        self._capacity = capacity
        self._owed: dict[str, Debt] = {}
        self._confirmed: dict[str, Debt] = {}
        self._queue: list[tuple[float, str]] = []
        self.floor = 0
        self.gone: list[tuple[str, int]] | None = None  # (name, stamp) of what was let go, for whoever sets a list here

    def owe_locked(self, name: str, stamp: int, due: float) -> None:
        """From now on the delete of `name` is owed; somebody asks for it already, so not before `due` again."""
        # An earlier stamp may come late, and of a write that is on its way it knows nothing.
        old = self._owed.pop(name, None) or self._confirmed.pop(name, None) or Debt(name, stamp, due)
        self._put(self._owed, Debt(name, max(stamp, old.stamp), due, newest=max(stamp, old.newest)))
        if len(self._owed) > self._capacity:
            oldest = self._owed.pop(next(iter(self._owed)))
            self.floor = max(self.floor, oldest.stamp)
            self._let_go(oldest)

    def suspect_locked(self, name: str, stamp: int, now: float) -> None:
        """The write of `name` stamped `stamp` may still land."""
        debts = self._owed if name in self._owed else self._confirmed
        debt = debts.get(name)
        if debt is None:
            self._confirm(name, stamp, stamp, now)
            return
        # Its delete is not put off, or one failing write after another would do that for ever.
        final = now + self._again_after if debt.confirmed else 0.0
        debts[name] = debt._replace(newest=max(debt.newest, stamp), final=final)

    def confirm_locked(self, name: str, stamp: int, now: float) -> bool:
        """The store has deleted or replaced what it had at `stamp`; whether that had been owed."""
        debt = self._owed.get(name)
        if debt is None or debt.stamp > stamp:
            return False
        del self._owed[name]
        self._confirm(name, debt.stamp, debt.newest, now)
        return True

    def settle_locked(self, debt: Debt, began: float) -> bool:
        """The store has nothing of `debt` any more, as of `began`; False when more is to come."""
        latest = self._confirmed.get(debt.name)
        if latest is None or latest.stamp != debt.stamp:
            return False
        if began < latest.final:
            self._put(self._confirmed, latest._replace(due=latest.final, tries=0))
            return False
        self._let_go(self._confirmed.pop(debt.name))
        return True

    def forgive_locked(self, name: str) -> None:
        """Nothing can undo the delete that was confirmed: no second one is needed."""
        self._confirmed.pop(name, None)

    def next_locked(self, now: float) -> Debt | None:
        """One that is due, already put off to its next attempt; None when none is."""
        while self._queue and self._queue[0][0] <= now:
            due, name = heappop(self._queue)
            debts = self._owed if name in self._owed else self._confirmed
            debt = debts.get(name)
            if debt is not None and debt.due == due:
                later = now + self._pause(debt.tries)
                put_off = debts[name] = debt._replace(due=later, tries=debt.tries + 1)
                heappush(self._queue, (later, name))
                return put_off
        return None

    def pause_locked(self, now: float) -> float | None:
        """Seconds until something is due, None when nothing is owed."""
        return max(0.0, self._queue[0][0] - now) if self._owed or self._confirmed else None

    def hurry_locked(self, now: float, *, confirmed: bool = False) -> None:
        """Everything that is owed is due now, and with `confirmed` what is to be deleted once more as well."""
        for debts in (self._owed, self._confirmed) if confirmed else (self._owed,):
            for name, debt in list(debts.items()):
                debts[name] = debt._replace(due=now)
        self._tidy()

    def debt(self, name: str) -> Debt | None:
        """What is owed of `name`, None for nothing."""
        return self._owed.get(name)

    def stamp(self, name: str) -> int | None:
        """The stamp of what is held under `name`, confirmed or not; None for nothing."""
        debt = self._owed.get(name) or self._confirmed.get(name)
        return debt and debt.stamp

    def owed(self) -> tuple[int, int]:
        """How many deletes are owed, and the stamp of the oldest (0 for none)."""
        return len(self._owed), next((debt.stamp for debt in self._owed.values()), 0)

    def __contains__(self, name: str) -> bool:
        """Whether the journal holds `name`."""
        return name in self._owed or name in self._confirmed

    def __len__(self) -> int:
        """How many names the journal holds, those to be deleted once more included."""
        return len(self._owed) + len(self._confirmed)

    def _confirm(self, name: str, stamp: int, newest: int, now: float) -> None:
        final = now + self._again_after
        self._put(self._confirmed, Debt(name, stamp, final, confirmed=True, final=final, newest=newest))
        if len(self._confirmed) > self._capacity:
            self._let_go(self._confirmed.pop(next(iter(self._confirmed))))

    def _let_go(self, debt: Debt) -> None:
        if self.gone is not None:
            self.gone.append((debt.name, debt.stamp))

    def _put(self, debts: dict[str, Debt], debt: Debt) -> None:
        debts[debt.name] = debt
        heappush(self._queue, (debt.due, debt.name))
        if len(self._queue) > 2 * len(self) + SPARE:
            self._tidy()

    def _tidy(self) -> None:
        self._queue = [
            (debt.due, debt.name) for debts in (self._owed, self._confirmed) for debt in list(debts.values())
        ]
        heapify(self._queue)
