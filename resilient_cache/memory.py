"""The memory tier: a bounded dict of entries whose reads take no lock and whose evictions keep what is asked for.

Theory: S3-FIFO (Yang et al., SOSP 2023). New keys enter a small ring (a tenth of the room); one that is asked for again
before its turn comes moves to the main ring, the others leave and only the hash of the key is kept as a ghost; a key
that comes back while its ghost is there goes to the main ring at once. The main ring is swept by a hand that spares
each marked entry once. Most keys are asked for once: they pass through the small ring and never push out a hot one.

A read is one dict lookup and one mark set: both atomic, so readers need no lock. The marks are a list, because setting
an item of one takes 5 ns where one of a bytearray takes 17 (#6). The hand finds its victim by `list.index`, 8 ns a
place, and looks at no more than `SWEEP` places of a ring for one eviction, so that none stalls an event loop. Ghosts
are a table of hashes, one place each: 8 bytes a key, and a collision only forgets a ghost.

Nothing is evicted while there is room: a key takes any free place then, and the hands move over full rings only.

Invariants: every entry in `entries` has its key in `_keys` at the entry's place; an older stamp never replaces a newer
one. A writer may be interrupted anywhere, by a signal handler or a finalizer that writes too: then `_keys` is a hint,
and a place whose entry does not own up to it counts as empty. So is `_tagged`, from a tag to the keys that have it: an
entry says itself what its tags are, and is never without being hinted at once its `put_locked` has returned.
"""

from __future__ import annotations

from array import array
from typing import Any, Final, Generic, final

from typing_extensions import TypeVar

from .entry import Slot

__all__ = ["FRESH", "PAST", "PLACE", "STAMP", "TAGS", "Memory"]

V = TypeVar("V", default=Any)

SMALL_SHARE: Final = 10
SWEEP: Final = 32_768
"""Places that the hand looks at for one eviction, twice at most: 0.5 ms. If all are marked, the next goes, marked or
not."""
WORD: Final = 2**64 - 1
STAMP: Final = 3  # of a `Slot`
PLACE: Final = 4
TAGS: Final = 5
FRESH: Final = 6
PAST: Final = float("-inf")  # fresh until then: expired


@final
class Memory(Generic[V]):
    """At most `capacity` entries. Writers hold the cache's lock; `entries.get` and setting a mark need none."""

    __slots__ = (
        "_free",
        "_ghosts",
        "_keys",
        "_main_hand",
        "_main_start",
        "_small_hand",
        "_tagged",
        "_unused",
        "capacity",
        "entries",
        "marks",
    )

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.entries: dict[str, Slot[V]] = {}
        self.marks = [0] * capacity
        self._keys = [""] * capacity
        self._main_start = max(1, capacity // SMALL_SHARE)
        self._free: list[int] = []
        self._unused = 0
        self._small_hand = 0
        self._main_hand = self._main_start
        self._ghosts = array("Q", bytes(8 * capacity))
        self._tagged: dict[str, dict[str, None]] = {}

    def get(self, key: str) -> Slot[V] | None:
        """The entry of `key`, whatever its windows, marked as asked for."""
        entry = self.entries.get(key)
        if entry is not None:
            self.marks[entry[PLACE]] = 1
        return entry

    def put_locked(  # noqa: PLR0917 - the fields of an entry
        self,
        key: str,
        value: V,
        fresh_until: float,
        stale_until: float,
        stamp: int,
        tags: tuple[str, ...] = (),
        early: float = 0.0,
    ) -> bool:
        """Keep an entry; False when there is no room at all or a newer one is there already.

        `early`: seconds before the end of its freshness from which on hits take the longer way.
        """
        old = self.entries.get(key)
        if not self.capacity or (old is not None and old[STAMP] > stamp):
            return False
        gone: list[Slot[V]] = []  # dies when all is in order again: a finalizer may call the cache
        place = self._place_for(key, gone) if old is None else old[PLACE]
        self._vacate(place, gone, heir=key)
        self._keys[place] = key
        shown_until = fresh_until - early if early else fresh_until  # else one number for both: 24 bytes an entry
        entry = (value, shown_until, stale_until, stamp, place, tags, fresh_until)
        if key in self.entries and self.entries[key][STAMP] > stamp:  # with no call in between: see `_reentry.py`
            return False
        self.entries[key] = entry
        if tags:
            self._hint(key, tags)
        if old is not None and old[TAGS] != tags:
            self._unhint(key, old[TAGS])
        return True

    def drop_locked(self, key: str) -> None:
        """Forget `key`."""
        entry = self.entries.pop(key, None)
        if entry is not None:
            self.marks[entry[PLACE]] = 0
            self._free.append(entry[PLACE])
            if entry[TAGS]:
                self._unhint(key, entry[TAGS])

    def drop_older_locked(self, stamp: int, tag: str | None = None) -> None:
        """Forget everything stamped at or before `stamp`, or what of it has `tag`."""
        keys = self.entries if tag is None else self._tagged.get(tag, {})
        gone = [(key, entry) for key in tuple(keys) if (entry := self.entries.get(key)) and entry[STAMP] <= stamp]
        for key, entry in gone:  # which dies when all is in order again
            if tag is None or tag in entry[TAGS]:
                self.drop_locked(key)

    def clear_locked(self) -> None:
        """Forget everything."""
        for key in tuple(self.entries):
            self.drop_locked(key)

    def expire_locked(self) -> None:
        """Let no entry be fresh any more. About 0.2 us for each."""
        for key in tuple(self.entries):
            entry = self.entries.get(key)
            if entry is not None:
                expired = (entry[0], PAST, *entry[2:FRESH], PAST)  # a collection begins here, if at all
                if key in self.entries and self.entries[key] is entry:
                    self.entries[key] = expired

    def __len__(self) -> int:
        """How many entries are kept, expired ones included."""
        return len(self.entries)

    def _place_for(self, key: str, gone: list[Slot[V]]) -> int:
        if self._free:
            return self._free.pop()
        if self._unused < self.capacity:
            self._unused += 1
            return self._unused - 1
        mark = hash(key) & WORD
        if self._ghosts[mark % self.capacity] == mark and self._main_start < self.capacity:
            return self._main_place()
        return self._small_place(gone)

    def _small_place(self, gone: list[Slot[V]]) -> int:
        place = self._small_hand
        self._small_hand = (place + 1) % self._main_start
        if self.marks[place] and self._main_start < self.capacity:
            self._move(place, self._main_place(), gone)
        self.marks[place] = 0
        return place

    def _main_place(self) -> int:
        hand = self._main_hand
        for _ in range(2):  # to the end of the ring, and on from its start; a place that was found is found again
            stop = min(self.capacity, hand + SWEEP)
            try:
                place = self.marks.index(0, hand, stop)
            except ValueError:
                place = stop
            self.marks[hand:place] = [0] * (place - hand)
            hand = place if place < self.capacity else self._main_start
        self.marks[hand] = 0
        self._main_hand = hand + 1 if hand + 1 < self.capacity else self._main_start
        return hand

    def _move(self, place: int, to: int, gone: list[Slot[V]]) -> None:
        key = self._keys[place]
        entry = self.entries.get(key)
        if entry is not None and entry[PLACE] == place:
            self._vacate(to, gone, heir=key)
            self._keys[to] = key
            self.entries[key] = (*entry[:PLACE], to, *entry[TAGS:])

    def _vacate(self, place: int, gone: list[Slot[V]], *, heir: str) -> None:
        """Evict whoever really is at `place`: only the entry's own word counts for that, and `heir` may stay."""
        key = self._keys[place]
        entry = self.entries.get(key)
        if entry is not None and entry[PLACE] == place and key != heir:
            gone.append(self.entries.pop(key))
            mark = hash(key) & WORD
            self._ghosts[mark % self.capacity] = mark
            if entry[TAGS]:
                self._unhint(key, entry[TAGS])

    def _hint(self, key: str, tags: tuple[str, ...]) -> None:
        for tag in tags:
            keys: dict[str, None] | None = None
            while keys is None or self._tagged.get(tag) is not keys:  # or one that comes between has taken it out
                keys = self._tagged.setdefault(tag, {})
                keys[key] = None

    def _unhint(self, key: str, tags: tuple[str, ...]) -> None:
        for tag in tags:
            keys = self._tagged.get(tag, {})
            keys.pop(key, None)
            if not keys:
                self._tagged.pop(tag, None)
        again = self.entries.get(key)  # it may have come back meanwhile, or never have gone
        if again is not None:
            self._hint(key, again[TAGS])
