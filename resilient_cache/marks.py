"""Marks: one version for all entries of a cache, and one for those of each tag, by which many are invalidated at once.

Theory. Nobody can delete what he cannot list. So every entry is stored with the versions that its marks had when its
load began, and is read only where each of them equals the version that the reader knows. To invalidate is to give the
mark another version, which nobody needs to order in time: a version says nothing but "not that one".

  found in the store  is        then
  the known version   equal     it is trusted for another `life`
  a higher one        news      it is known from now on; what was taken in hand under the one before is refused
  a lower one         old data  a version higher than both is to be written: nobody knows what it was lost with
  none                lost      the same

Equality is what makes this hold where a clock would not: a mark that is lost, evicted, restored from old data or
overwritten late has a version that no entry has, or gets one. It can only refuse too much.

A mark carries a second version, the one of its latest invalidation: a mark that was only made anew, because the store
had lost it, empties no memory.

Bounded. At most `capacity` tags are known; to forget one costs a question. The namespace is never forgotten.

Invariants.
  1 the known version of a name never falls while it is known;
  2 two versions made anywhere are different (but for one in 4 096 of those made by two nodes in one microsecond), and
    each is higher than those that its maker knew;
  3 what was taken in hand before an invalidation was learned, and may be older than it, is refused, forgotten or not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple, final

from .outcome import Reason

__all__ = ["NAMESPACE", "Known", "Mark", "Marks", "moment_of", "tag_mark", "version_of"]

CAPACITY: Final = 10_000
NODE_BITS: Final = 12
NODE_MASK: Final = (1 << NODE_BITS) - 1

NAMESPACE: Final = ""
"""The name of the mark that concerns every entry of a cache."""


def tag_mark(tag: str) -> str:
    """The name of the mark of `tag`."""
    return f"tag:{tag}"


def moment_of(version: int) -> int:
    """The microsecond in which `version` was made, or a later one."""
    return version >> NODE_BITS


def version_of(moment: int, node: int) -> int:
    """The version that `node` makes in that microsecond."""
    return moment << NODE_BITS | node & NODE_MASK


class Mark(NamedTuple):
    """A mark as it stands in the store: its version, and that of the latest invalidation."""

    version: int
    invalidated: int = 0


@final
class Known:
    """What is known of one mark. Times are monotonic seconds, `since` is a stamp."""

    __slots__ = ("claimed", "invalidated", "made", "renew", "revoked", "since", "until", "version")

    def __init__(self) -> None:
        self.version = 0  # none yet
        self.invalidated = 0
        self.made: tuple[int, int] = 0, 0  # for the latest invalidation here: its stamp, the version made first
        self.revoked = 0  # the version of the latest invalidation of this process that the store has acknowledged
        self.since = 0  # the stamp from which on this version has been known
        self.renew = 0.0  # from then on somebody asks the store
        self.until = 0.0  # from then on it is not trusted until the store has been asked
        self.claimed = 0.0  # until then somebody is writing the mark


@final
class Marks:
    """The marks that one cache knows. Writers hold the cache's lock; readers need none."""

    __slots__ = ("_capacity", "_forgotten", "_life", "_margin", "_tags", "namespace")

    def __init__(self, life: float, margin: int, capacity: int = CAPACITY) -> None:
        self._life = life
        self._margin = margin
        self._capacity = capacity
        self._tags: OrderedDict[str, Known] = OrderedDict()
        self._forgotten = Known()
        self.namespace = Known()

    def known(self, name: str) -> Known | None:
        """What is known of a mark, None for a tag that is not known here."""
        return self._tags.get(name) if name else self.namespace

    def version(self, name: str) -> int:
        """The known version, 0 for none."""
        known = self.known(name)
        return known.version if known is not None else 0

    def invalidated(self, name: str) -> int:
        """The version of the latest invalidation that is known, 0 for none."""
        known = self.known(name)
        return known.invalidated if known is not None else 0

    def due(self, name: str, now: float, version: int = 0) -> bool:
        """Whether the caller is to ask the store for the mark; `version` is one it has come across.

        Past half its life one asks for everybody, past its whole life everybody does.
        """
        known = self.known(name)
        if known is None or now >= known.until or version > known.version:
            return True
        if now < known.renew:
            return False
        known.renew = known.until
        return True

    def next(self, name: str, stamp: int, node: int) -> int:
        """A version higher than the known one, and no other node's."""
        return version_of(max(stamp, moment_of(self.version(name)) + 1), node)

    def revoked(self, name: str) -> int:
        """The version of the latest invalidation of this process that the store has acknowledged, 0 for none."""
        known = self.known(name)
        return known.revoked if known is not None else 0

    def made(self, name: str, stamp: int) -> int:
        """The version first made for the invalidation of this process stamped `stamp`, or a later one; 0 for none."""
        known = self.known(name)
        return known.made[1] if known is not None and known.made[0] >= stamp else 0

    def make_locked(self, name: str, stamp: int, version: int) -> None:
        """`version` is made for the invalidation stamped `stamp`."""
        known = self._remember(name)
        if known.made[0] < stamp:
            known.made = stamp, version

    def is_news(self, name: str, mark: Mark) -> bool:
        """Whether `mark` tells of an invalidation that is not known here."""
        return mark.invalidated > self.invalidated(name)

    def learn_locked(self, name: str, mark: Mark, asked: float, since: int, *, own: bool = False) -> None:
        """The store had `mark` when it was asked at `asked`.

        `since`: a stamp later than that of every load, and of everything in hand, that may have missed it. `own`: it is
        that of an invalidation of this process.
        """
        known = self._remember(name)
        if own:
            known.revoked = mark.version
        if mark.version > known.version or mark.invalidated > known.invalidated:
            known.since = max(known.since, since)
        known.invalidated = max(known.invalidated, mark.invalidated)
        if mark.version < known.version:  # somebody has learned more meanwhile
            return
        known.version = mark.version  # after what refuses: a reader needs no lock
        if asked + self._life > known.until:
            known.renew, known.until = asked + self._life / 2, asked + self._life

    def distrust_locked(self, name: str) -> None:
        """Ask the store before that mark is trusted again."""
        known = self.known(name)
        if known is not None:
            known.renew = known.until = 0.0

    def distrust_all_locked(self) -> None:
        """Ask the store for each mark before it is trusted again."""
        for known in (self.namespace, *self._tags.values()):
            known.renew = known.until = 0.0

    def claim_locked(self, name: str, now: float, timeout: float) -> bool:
        """Whether the caller is to write the mark, because nobody else here is at it."""
        known = self._remember(name)
        if now < known.claimed:
            return False
        known.claimed = now + timeout
        return True

    def settle(self, name: str) -> None:
        """Whoever was to write the mark is done with it."""
        known = self.known(name)
        if known is not None:
            known.claimed = 0.0

    def bound(self, invalidated: int) -> int:
        """The stamp at or before which something may be older than an invalidation of that version, 0 for none."""
        return moment_of(invalidated) + self._margin if invalidated else 0

    def refuses(self, name: str, stamp: int, taken: int) -> bool:
        """Whether what is stamped `stamp` and has been in hand since `taken` may have missed an invalidation."""
        known = self.known(name) or self._forgotten
        return taken < known.since and stamp <= self.bound(known.invalidated)

    def settled(self, name: str, stamp: int, *, placed: bool = False) -> bool:
        """Whether a load stamped `stamp` began under the known version, so that its value may be stored with it.

        A mark that was lost may have been lost with an invalidation inside the load. Of one that was asked for within a
        timeout of the stamp, because the value is `placed` and not loaded, that is not supposed.
        """
        known = self.known(name)
        if known is None or not known.version:
            return False
        return known.since < stamp or self.bound(known.invalidated if placed else known.version) < stamp

    def verdict(self, versions: Iterable[tuple[str, int]], now: float) -> Reason | None:
        """What to make of an entry with these versions; None when it may be served.

        `FENCED`: it is older than an invalidation. `UNMARKED`: nobody here can tell. `EXPIRED`: it was all right when
        the store could last be asked, or until the mark was lost, perhaps with an invalidation that nobody here knows
        of; so it may stand in for a load that fails, or one lost key would take a whole cache from its callers.
        """
        found: Reason | None = None
        for name, version in versions:
            known = self.known(name)
            if known is None or not known.version or version > known.version:
                found = Reason.UNMARKED
            elif version < known.invalidated or not version:
                return Reason.FENCED
            elif (version < known.version or now >= known.until) and found is None:
                found = Reason.EXPIRED
        return found

    def __len__(self) -> int:
        """How many tags are known."""
        return len(self._tags)

    def _remember(self, name: str) -> Known:
        if not name:
            return self.namespace
        if name in self._tags:
            self._tags.move_to_end(name)
            return self._tags[name]
        if len(self._tags) >= self._capacity:
            oldest = next(iter(self._tags.values()))
            self._forgotten.since = max(self._forgotten.since, oldest.since)
            self._forgotten.invalidated = max(self._forgotten.invalidated, oldest.invalidated)
            self._tags.popitem(last=False)
        return self._tags.setdefault(name, Known())
