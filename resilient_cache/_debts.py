"""The decisions about what the store owes: what to ask for next, and what its answer is worth."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, cast, final

from ._guard import Answer, Guard
from ._local import DROPPED, KEY, Local
from ._reporting import LOGGER, Reporter, Seldom
from ._request import GATES
from ._switch import Switch
from .events import JournalFailed, Settled
from .journal import Debt, Journal
from .outcome import Direction

__all__ = ["Debts"]

IDLE: Final = 1.0
"""Seconds until it is looked again whether the mode lets the store be written to."""

BREATH: Final = 0.05
"""Seconds between two rounds that settled nothing."""


@final
class Debts:
    """The journal of one cache, as whoever works it off sees it."""

    __slots__ = (
        "_ahead",
        "_guard",
        "_journal",
        "_local",
        "_mine",
        "_readers",
        "_reporter",
        "_seldom",
        "_switch",
        "unread",
    )

    def __init__(self, journal: Journal, guard: Guard, local: Local, reporter: Reporter, switch: Switch) -> None:
        self._journal = journal
        self._guard = guard
        self._local = local
        self._reporter = reporter
        self._switch = switch
        self._seldom = Seldom(60.0)
        self._readers: dict[object, float] = {}  # who reads the durable journal, and until when that is waited for
        self._mine = f"{reporter.name}:"  # other caches may use the same durable journal
        self._ahead: dict[str, int] = {}  # what is written down of a time that has not come
        self.unread = False  # there is a durable journal, and nobody knows what is in it

    def next(self) -> Debt | None:
        """One to ask the store for now; None when none is due, or mode or circuit forbid."""
        now = self._guard.monotonic()
        if self._held(now):
            return None
        with self._guard.lock:
            return self._journal.next_locked(now)

    @property
    def any(self) -> bool:
        """Whether anything is owed."""
        return len(self._journal) > 0

    def pause(self, settled: int | None = None) -> float | None:
        """Seconds until there is something to do again, `settled` debts after the last time; None when never."""
        if not self._journal:
            return None
        now = self._guard.monotonic()
        with self._guard.lock:
            pause = self._journal.pause_locked(now)
        return None if pause is None else max(pause, self._held(now), BREATH if settled == 0 else 0.0)

    def answered(self, debt: Debt, answer: Answer, began: float) -> bool:
        """Whether the store did what it was asked for at `began`."""
        if answer.failed is not None:
            return False
        with self._guard.lock:
            if debt.confirmed:
                if self._journal.settle_locked(debt, began) and debt.name.startswith(KEY):
                    self._local.tell([DROPPED + debt.name[len(KEY) :]])  # what landed late may have been read there
                return True
            was_owed = self._journal.confirm_locked(debt.name, debt.stamp, self._guard.monotonic())
        if was_owed:
            self._local.tell([debt.name])  # once more: who began to listen meanwhile read the store before the delete
            self._reporter.count("invalidations_replayed")
            self._reporter.tell(Settled(self._reporter.name, self._local.age(debt.stamp)))
        return True

    def stamp(self, name: str) -> int | None:
        """The stamp of what is owed under `name`, under which it will be let go; None for nothing."""
        with self._guard.lock:
            return self._journal.stamp(name)

    def row(self, name: str) -> str:
        """What a durable journal is given for `name`; what else is written there is another cache's."""
        return self._mine + name

    def keep_book(self) -> None:
        """There is a durable journal, to be read, and from now on what is let go is to be struck out of it."""
        self._journal.gone = []
        self.unread = True

    def let_go(self) -> list[tuple[str, int]]:
        """The rows of what was let go since the last time: (row, stamp)."""
        journal, ahead = self._journal, self._ahead
        with self._guard.lock:
            gone, journal.gone = journal.gone or [], []
            if ahead:
                gone = [(name, stamp if name in journal else ahead.pop(name, stamp)) for name, stamp in gone]
        return [(self.row(name), stamp) for name, stamp in gone]

    def reads(self) -> object:
        """Somebody begins to read the durable journal; gives what stands for it in `recovered`."""
        reader = object()
        with self._guard.lock:
            self._readers[reader] = self._guard.monotonic() + self._guard.inflight_max  # it may never come back
        return reader

    def recovered(self, reader: object, written: object) -> bool:
        """Take over what `reader` says a durable journal had written down, None when it was stopped.

        In one step, so that who finds it read finds the fences. False while it is not known what is in it: who failed
        to read it leaves that to the others who are at it.
        """
        with self._guard.lock:
            del self._readers[reader]
            if written is None or not self.unread:
                return not self.unread
            now, whole = self._guard.monotonic(), self._take_over_locked(written)
            self.unread = not whole and any(now < until for until in self._readers.values())
            if whole or self.unread:
                return whole
        self.not_written()
        return True

    def not_written(self) -> None:
        """The durable journal failed: what it should hold is in memory only."""
        self._reporter.count("journal_errors")
        if self._seldom.due(self._guard.monotonic()):
            LOGGER.warning("cache %s: the durable journal failed; going on in memory", self._reporter.name)
        self._reporter.tell(JournalFailed(self._reporter.name))

    def hurry(self, *, confirmed: bool = False) -> None:
        """Let everything that is owed be due now, and with `confirmed` what is to be deleted once more as well."""
        with self._guard.lock:
            self._journal.hurry_locked(self._guard.monotonic(), confirmed=confirmed)

    def owed(self) -> int:
        """How many invalidations the store has not confirmed."""
        return self._journal.owed()[0]

    def left(self) -> int:
        """How many invalidations a cache that is closed now leaves behind; the log says so, if any."""
        owed = self.owed()
        if owed:
            LOGGER.warning("cache %s: closed with %d invalidations not confirmed", self._reporter.name, owed)
        return owed

    def health(self) -> dict[str, object]:
        """The journal as plain data."""
        with self._guard.lock:
            owed, oldest = self._journal.owed()
        return {
            "pending_invalidations": owed,
            "oldest_pending_age": self._local.age(oldest) if owed else 0.0,
        }

    def _take_over_locked(self, written: object) -> bool:
        # A row may be damaged. One that was believed would set our clock, and other processes refuse what is ahead.
        latest = self._local.stamps.now() + self._local.margin
        try:
            for row, stamp in cast("Iterable[tuple[object, object]]", written):
                if isinstance(row, str) and row.startswith(self._mine) and isinstance(stamp, int):
                    name = row[len(self._mine) :]
                    if stamp > latest:
                        self._ahead[name] = stamp
                    self._local.remember(name, min(stamp, latest))
        except (TypeError, ValueError):  # not pairs
            return False
        return True

    def _held(self, now: float) -> float:
        # What an open circuit turned away would be put off as if the store had failed again.
        return self._guard.circuits[Direction.WRITE].retry_in(now) if GATES[self._switch.mode()].write else IDLE
