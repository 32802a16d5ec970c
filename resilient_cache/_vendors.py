"""What is decided about one of several vendors: whether it may be asked for a key, and what it then owes.

Theory. A store that others stand in for comes back with what it held before, and nothing in the bytes of an entry says
that there was a newer one elsewhere. So what a vendor *may* hold wrongly is written down the moment it could become
wrong, before the newer entry is written anywhere, and the vendor is not asked for that key until it has deleted it:

  - a delete is owed by every vendor until that vendor acknowledges it;
  - an entry written to one vendor is a delete owed by every other that may hold the key. The first may hold any; a
    stand-in holds only what was written to it less than `life` ago;
  - after a write whose outcome nobody knows the key is not written there until two deletes are acknowledged, the
    second `inflight_max` after the first: what a frozen server has in its queue lands when it thaws, however late.

A vendor whose circuit for reads opened is not even probed until it has made good all that it owed when it last refused
a write. What was owed since is guarded key by key: a busy service would never see a moment without any debt.

Bounded. Whoever forgets a debt (the journal's floor) may hold anything wrongly: it is not asked at all until nothing of
that time can be alive any more, `life` and `inflight_max` later. That is sure, because ttls are cut to `life`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, final

from ._debts import Debts
from ._guard import Answer, Guard
from ._local import KEY, Local
from ._reporting import Reporter
from .breaker import Breaker
from .errors import FailureKind
from .events import CircuitState
from .journal import Debt, Journal
from .outcome import Direction

__all__ = ["Spans", "Vendor"]

CAPACITY: Final = 10_000
NEVER: Final = float("-inf")
FOREVER: Final = float("inf")


@final
class Spans:
    """Until when something may be true of a key. Of more than `capacity` the oldest stands for every key."""

    __slots__ = ("_capacity", "_everywhere", "_until")

    def __init__(self, capacity: int = CAPACITY, everywhere: float = NEVER) -> None:
        self._capacity = capacity
        self._everywhere = everywhere
        self._until: dict[str, float] = {}

    def put_locked(self, key: str, until: float) -> None:
        """It may be true of `key` until then."""
        self._until[key] = max(until, self._until.pop(key, NEVER))
        if len(self._until) > self._capacity:
            self._everywhere = max(self._everywhere, self._until.pop(next(iter(self._until))))

    def covers_locked(self, key: str, now: float) -> bool:
        """Whether it may still be true of `key`."""
        return now < self._everywhere or now < self._until.get(key, NEVER)


@final
class Vendor:
    """One of several stores. `life`: no entry lives longer in it, in seconds; `first`: nobody's stand-in."""

    __slots__ = (
        "_distrusted_until",
        "_doubted",
        "_floor",
        "_held",
        "_journal",
        "_local",
        "_refused",
        "adapter",
        "debts",
        "get_mark",
        "guard",
        "life",
        "name",
        "quick",
        "reporter",
        "set_mark",
    )

    def __init__(
        self,
        adapter: Any,
        quick: Any,
        marks: Sequence[Callable[..., Any]],
        guard: Guard,
        *,
        reporter: Reporter,
        local: Local,
        journal: Journal,
        debts: Debts,
        life: float,
        first: bool,
    ) -> None:
        self.name = reporter.name
        self.adapter = adapter
        self.quick = quick
        self.get_mark, self.set_mark = marks
        self.guard = guard
        self.reporter = reporter
        self.debts = debts
        self.life = life
        self._local = local
        self._journal = journal
        self._held = Spans(everywhere=FOREVER if first else NEVER)
        self._doubted: dict[str, None] = {}
        self._refused = 0
        self._floor = 0
        self._distrusted_until = NEVER

    # The store itself; its methods are looked up when they are called, for a lazy client may fail in that

    def get(self, key: str) -> Any:
        """What its `get` gives."""
        return self.quick.get(key)

    def delete(self, key: str) -> Any:
        """What its `delete` gives."""
        return self.quick.delete(key)

    # Whether it may be asked

    def may_be_read(self, key: str) -> bool:
        """Whether what it answers for `key` is the latest; a circuit may still keep it from being asked."""
        with self.guard.lock:
            return self._may_be_asked_locked() and KEY + key not in self._journal

    def may_be_written(self, key: str) -> bool:
        """Whether an entry of `key` would stay and be read there, and both circuits are closed.

        What it owes does not matter: an entry in its place is as good as the delete.
        """
        with self.guard.lock:
            if key in self._doubted:
                if KEY + key not in self._journal:
                    self.owe(key)
                return False
            if not self._may_be_asked_locked():
                return False
            return self._is_well()

    def is_unasked(self) -> bool:
        """Whether its circuit for writes waits for a probe, and nothing is owed that would be one."""
        return not _closed(self.guard.circuits[Direction.WRITE]) and not self._journal.owed()[0]

    def serves(self) -> bool:
        """Whether it is asked for keys in general, and given new entries."""
        return self.is_there(*self.guard.circuits)

    def is_there(self, *directions: Direction) -> bool:
        """Whether it is asked for keys in general, as far as these circuits go."""
        return self.distrusted_for() <= 0 and all(_closed(self.guard.circuits[way]) for way in directions)

    def distrusted_for(self) -> float:
        """Seconds for which it is not asked, because debts of it were forgotten."""
        now = self.guard.monotonic()
        if self._journal.floor > self._floor:
            self._floor = self._journal.floor
            self._distrusted_until = now + self.life + self.guard.inflight_max
        return max(0.0, self._distrusted_until - now)

    def _is_well(self) -> bool:
        return all(map(_closed, self.guard.circuits.values()))

    def _may_be_asked_locked(self) -> bool:
        return self.distrusted_for() <= 0 and not self._aside()

    def _aside(self) -> bool:
        """Whether its circuit for reads stays open, unprobed, until more is made good."""
        owed, oldest = self._journal.owed()
        return owed > 0 and oldest <= self._refused and not _closed(self.guard.circuits[Direction.READ])

    # What it owes

    def stamp(self) -> int:
        """The present moment, later than every one before."""
        return self._local.stamps.next()

    def hold(self, key: str, ttl: float) -> None:
        """It is about to be given an entry of `key` for `ttl` seconds."""
        guard = self.guard
        with guard.lock:
            self._held.put_locked(key, guard.monotonic() + guard.inflight_max + ttl)

    def owe(self, key: str, wait: float = 0.0) -> int:
        """From now on it owes the delete of `key`; somebody asks for that for `wait` seconds. The stamp of it."""
        with self.guard.lock:
            stamp = self.stamp()
            self._journal.owe_locked(KEY + key, stamp, self.guard.monotonic() + wait)
        return stamp

    def outdated(self, key: str) -> None:
        """A newer entry of `key` is about to be written elsewhere."""
        with self.guard.lock:
            if self._held.covers_locked(key, self.guard.monotonic()):
                self.owe(key)

    def doubt(self, key: str) -> None:
        """A write of `key` failed, and may yet land."""
        with self.guard.lock:
            self._doubted[key] = None
            if len(self._doubted) > CAPACITY:  # the circuit has opened a thousand times since
                del self._doubted[next(iter(self._doubted))]

    def confirmed(self, key: str, stamp: int) -> None:
        """A write of `key` was acknowledged: what was owed up to `stamp` is made good."""
        with self.guard.lock:
            self._local.confirm(key, stamp)
            self._made_good_locked(key)

    def refused(self) -> None:
        """It did not do as it was asked when it was asked to write."""
        self._refused = self.stamp()

    def replayed(self, debt: Debt, answer: Answer, began: float) -> bool:
        """What its answer is worth, when it was asked again; whether it did as asked."""
        done = self.debts.answered(debt, answer, began)
        if done:
            key = debt.name[len(KEY) :]
            with self.guard.lock:
                if debt.confirmed and debt.name not in self._journal:  # the second delete
                    self._doubted.pop(key, None)
                self._made_good_locked(key)
        elif (
            answer.value is FailureKind.PER_KEY and not debt.confirmed
        ):  # moved to the end: one key must not keep the vendor aside
            with self.guard.lock:
                self._journal.owe_locked(debt.name, self.stamp(), debt.due)
        else:
            self.refused()
        return done

    def _made_good_locked(self, key: str) -> None:
        if key not in self._doubted:
            self._journal.forgive_locked(KEY + key)

    def health(self) -> dict[str, object]:
        """The vendor as plain data."""
        return {
            "circuits": self.guard.health(),
            **self.debts.health(),
            "aside": self._aside(),
            "distrusted_for": self.distrusted_for(),
        }


def _closed(circuit: Breaker) -> bool:
    return circuit.state in (CircuitState.CLOSED, CircuitState.FORCED_CLOSED)
