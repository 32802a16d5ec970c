"""How many loads an origin bears at once, as a pure machine: permits, and a queue for those that must wait for one.

Theory. A queue with a bound on its time lets a burst pass and an overload show; the bound is the caller's (`until`),
who is told nothing by this machine when it is over. A permit that comes back goes to the first in the queue, in the
step that takes it back, so nobody who comes later overtakes: whoever finds a queue queues.

Two classes wait: those that have nothing to give their callers go before those that have something stale. The second
class starves no longer than its `until`.

A permit is a lease, because a load may never report: a killed thread, a dropped task, a frozen request. When all are
out, those past their lease are taken back. Nothing else ends a permit before the work does.

Invariants.
  1 never more permits out than `limit`, but for those that were forced, and those that were out when it was lowered;
  2 while somebody queues whose time is not over, no permit that could be had is left over when a call here returns;
  3 within its class, first come, first served;
  4 a permit that was handed to one who left, was woken in vain or never came for it, is not lost.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import RLock
from typing import Final, Generic, NamedTuple, final

from typing_extensions import TypeVar

from .flights import Waiter

__all__ = ["Bulkhead"]

W = TypeVar("W", bound=Waiter)

FOREVER: Final = float("inf")


class _Wait(NamedTuple):
    until: float  # whose time is over then is passed by
    lease: float  # until when the permit may be kept that it gets


@final
class Bulkhead(Generic[W]):
    """At most `limit` permits. Safe to share between threads. Those woken are to be woken outside its lock."""

    __slots__ = ("_earliest", "_granted", "_issued", "_lock", "_out", "_waiting", "limit")

    def __init__(self, limit: int, lock: RLock) -> None:
        self.limit = limit
        self._lock = lock
        self._issued = 0
        self._earliest = FOREVER  # no lease ends before this
        self._out: dict[int, float] = {}  # permit -> end of its lease
        self._waiting: tuple[OrderedDict[W, _Wait], OrderedDict[W, _Wait]] = (OrderedDict(), OrderedDict())
        self._granted: dict[W, int] = {}  # those who have been woken with a permit and have not come for it

    def acquire(self, now: float, lease: float, *, queued: bool = False) -> int:
        """A permit to be kept until `lease` at the longest, 0 when it must be queued for. Never waits.

        `queued`: whoever asks has been in the queue, and need not mind it.
        """
        first, second = self._waiting
        with self._lock:
            if ((first or second) and not queued) or (len(self._out) >= self.limit and not self._reclaim_locked(now)):
                return 0
            return self._issue_locked(lease)

    def force(self, lease: float) -> int:
        """A permit, whatever the limit."""
        with self._lock:
            return self._issue_locked(lease)

    def join(self, waiter: W, now: float, *, until: float, lease: float, first: bool) -> list[W]:
        """Queue; gives those to wake, perhaps `waiter` itself. Whoever joined must `leave`, woken or not."""
        with self._lock:
            self._waiting[0 if first else 1][waiter] = _Wait(until, lease)
            return self._grant_locked(now)

    def leave(self, waiter: W) -> int:
        """End the wait of `waiter`: the permit it was given, else 0, and then it is in the queue no more."""
        with self._lock:
            for queue in self._waiting:
                queue.pop(waiter, None)
            return self._granted.pop(waiter, 0)

    def release(self, permit: int) -> bool:
        """Take `permit` back; one that was taken back already changes nothing. Whether somebody is to be let in."""
        self._out.pop(permit, None)  # one step; who joins after the question finds the permit by itself: no lock
        first, second = self._waiting
        return bool(first or second)

    def grant(self, now: float) -> list[W]:
        """Give what permits there are to those that queue; gives those to wake."""
        with self._lock:
            return self._grant_locked(now)

    def clear_locked(self) -> None:
        """Take back every permit and forget who queues: they are in another process."""
        self._out = {}
        self._granted = {}
        for queue in self._waiting:
            queue.clear()

    @property
    def running(self) -> int:
        """How many permits are out."""
        return len(self._out)

    @property
    def queued(self) -> int:
        """How many queue."""
        return sum(map(len, self._waiting))

    def _issue_locked(self, lease: float) -> int:
        self._issued = permit = self._issued + 1
        self._out[permit] = lease
        if lease < self._earliest:
            self._earliest = lease
        return permit

    def _reclaim_locked(self, now: float) -> bool:
        if now < self._earliest:
            return False
        for permit in list(self._out):
            if self._out.get(permit, FOREVER) <= now:  # one may be given back meanwhile: see `release`
                self._out.pop(permit, None)
        self._earliest = min(list(self._out.values()), default=FOREVER)
        self._granted = {waiter: permit for waiter, permit in self._granted.items() if permit in self._out}
        return len(self._out) < self.limit

    def _grant_locked(self, now: float) -> list[W]:
        woken: list[W] = []
        for queue in self._waiting:
            while queue and (len(self._out) < self.limit or self._reclaim_locked(now)):
                waiter, wait = queue.popitem(last=False)
                if now < wait.until:
                    self._granted[waiter] = self._issue_locked(wait.lease)
                    woken.append(waiter)
        return woken
