"""Which node of a cluster owns which key, as it was last told; and when to ask again, and whom. No I/O.

Theory. A node that is gone takes its keys with it, and whoever asks for one of them may be told by the others who has
them now. Nobody else may wait for that: redis-py's own cluster client refreshes its map in whichever call comes next,
on a node picked at random, and with one of three nodes frozen that makes calls to the other two time out as well. So a
node that failed is a suspect, and only a call to a suspect asks around first, the others before the suspects, at most
once a second. A map that is out of date costs a call one redirection (MOVED), which is learnt and makes a suspect, too.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any, Final, final

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from ..errors import FailureKind, StoreError

__all__ = ["Slots"]

PAUSE: Final = 1.0
"""Seconds between two looks at the map, as long as there is one."""

SUSPICIOUS: Final = {FailureKind.CONNECTION, FailureKind.TIMEOUT, FailureKind.UNAVAILABLE}
"""After such a failure the node's keys may be another's."""


@final
class Slots:
    """The map. Safe to share between threads: whoever reads it sees the one before or the one after."""

    __slots__ = ("_known", "_looked", "_owners", "_startup", "_suspects")

    def __init__(self, startup: Sequence[str]) -> None:
        self._startup = startup
        self._owners: list[str] = []  # by slot; empty while nothing is known
        self._known: list[str] = []
        self._suspects: set[str] = set()
        self._looked = 0.0

    def owner(self, key: str) -> str:
        """The name of the node, "host:port"; empty while nobody is known to own the key."""
        owners = self._owners
        return owners[key_slot(key.encode(errors="replace"))] if owners else ""

    def is_due(self, owner: str) -> bool:
        """Whether a call to `owner` should look at the map first."""
        if owner and owner not in self._suspects:
            return False
        return not self._owners or time.monotonic() - self._looked >= PAUSE

    def candidates(self) -> list[str]:
        """Whom to ask for the map: in any order, or all clients would ask the same one, and suspects last."""
        known = [*dict.fromkeys([*random.sample(self._known, len(self._known)), *self._startup])]
        return sorted(known, key=self._suspects.__contains__)

    def learn(self, reply: Any, teller: str) -> list[str]:
        """Take over what `teller` answers to CLUSTER SLOTS; gives the names of the nodes that are no longer there.

        Raises `StoreError` for a reply that is none.
        """
        owners = [""] * REDIS_CLUSTER_HASH_SLOTS
        try:
            for first, last, (host, port, *_), *_ in reply:
                name = f"{_host(host) or teller.rpartition(':')[0]}:{int(port)}"
                owners[first : last + 1] = [name] * (last + 1 - first)
        except (TypeError, ValueError) as error:
            raise StoreError(FailureKind.CONNECTION, f"no answer to CLUSTER SLOTS: {reply!r:.60}") from error
        before, self._known = self._known, sorted({*owners} - {""})
        self._owners = owners[:REDIS_CLUSTER_HASH_SLOTS]
        gone = {*before} - {*self._known}
        self._suspects -= gone
        return sorted(gone)

    def looked(self) -> None:
        """Somebody is asked for the map now."""
        self._looked = time.monotonic()

    def moved(self, slot: int, name: str, teller: str) -> None:
        """`teller` said that `name` has that slot now, and probably not that one alone."""
        self._owners[slot] = name
        self._suspects.add(teller)

    def failed(self, name: str, kind: FailureKind) -> None:
        """A call to that node failed."""
        if kind in SUSPICIOUS:
            self._suspects.add(name)

    def answered(self, name: str) -> None:
        """A call to that node was answered."""
        if self._suspects:
            self._suspects.discard(name)


def _host(told: Any) -> str:
    """The host that a node gives itself; empty where it does not know, and the one it was asked by counts."""
    host = told.decode() if isinstance(told, bytes) else told
    return "" if host in (None, "?") else str(host)
