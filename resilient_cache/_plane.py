"""The decisions about a backplane: what the other processes are told, and what is made of what they say.

A message is who speaks and the names of what was invalidated, never a value:

    magic  node  (length, name) ...

Who hears of an invalidation does what the one who made it did: fence, drop, detach, by its own clock. Whatever it was
that was loaded before is older than the message, so no clock but one's own is asked.

While nobody listens, messages are missed. So whenever a subscription begins or ends, every copy in memory counts as
expired: it is asked for again, and may stand in if that fails.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Final, final

from ._guard import Guard
from ._local import Local
from ._reporting import Reporter
from .events import BackplaneChanged

__all__ = ["Plane"]

MAGIC: Final = b"rc1"
NODE: Final = struct.Struct(">Q")
LENGTH: Final = struct.Struct(">I")
MOST_BYTES: Final = 32_768
"""Of a message, but for one longer name: a channel may not take more than 64 KiB at once."""


BREATH: Final = 0.01
"""Seconds at least between two tries: chance may say none at all, and a backplane that fails at once would take a core
(seed 3 of the simulation, shortened)."""


@final
class Plane:
    """What one cache tells its peers and hears from them."""

    __slots__ = (
        "_again",
        "_guard",
        "_local",
        "_reporter",
        "_tries",
        "channel",
        "forks",
        "listening",
        "lock",
        "pause_after",
    )

    def __init__(self, guard: Guard, local: Local, reporter: Reporter, pause_after: Callable[[int], float]) -> None:
        self._guard = guard
        self.lock = guard.lock  # free in a forked child
        self._local = local
        self._reporter = reporter
        self._again = float("-inf")  # not told before this moment
        self._tries = 0
        self.pause_after = pause_after
        local.tells = True
        self.channel = f"resilient_cache:{reporter.name}"
        self.listening = False
        self.forks = 0  # from the first process that had this cache to this one

    def pause(self) -> float | None:
        """Seconds until there is something to tell, None when there is nothing."""
        return max(0.0, self._again - self._guard.monotonic()) if self._local.untold else None

    def message(self) -> tuple[bytes, list[str]] | None:
        """The next message to publish and the names in it, None when there is nothing to tell."""
        if self.pause() != 0.0:
            return None
        with self._guard.lock:
            untold = self._local.untold
            names: list[str] = []
            packed, size = [MAGIC, NODE.pack(self._local.node)], 0
            for name in untold:
                data = name.encode()
                size += LENGTH.size + len(data)
                if names and size > MOST_BYTES:
                    break
                names.append(name)
                packed += [LENGTH.pack(len(data)), data]
            for name in names:
                del untold[name]
        return b"".join(packed), names

    def published(self, names: Iterable[str], *, handed_over: bool) -> None:
        """How publishing a message ended; if it was not handed over it is told again, after a pause."""
        if handed_over:
            self._tries = 0
            self._reporter.count("backplane_published")
            return
        self._again = self._guard.monotonic() + max(BREATH, self.pause_after(self._tries))
        self._tries += 1
        self._reporter.count("backplane_errors")
        self._local.tell(names)

    def receive(self, message: bytes) -> None:
        """A message came in."""
        node, names = _unpack(message)
        if node == self._local.node:
            return
        self._reporter.count("backplane_messages")
        if names is None:  # what it said is lost
            self._local.distrust()
        else:
            self._local.heard(names)

    def ready(self) -> None:
        """From now on no message is missed; before, some may have been."""
        self._turn(listening=True)

    def lost(self) -> None:
        """From now on messages are missed, and some may have been already."""
        self._turn(listening=False)

    def forked(self) -> None:
        """In a child process nobody listens: who did so does in the parent."""
        self.forks += 1
        self.listening = False
        self._local.distrust()

    def health(self) -> dict[str, object]:
        """The backplane as plain data."""
        return {"listening": self.listening, "untold": len(self._local.untold)}

    def _turn(self, *, listening: bool) -> None:
        self._local.distrust()
        if self.listening is not listening:
            self.listening = listening
            self._reporter.count(f"backplane_{'joined' if listening else 'lost'}")
            self._reporter.tell(BackplaneChanged(self._reporter.name, listening))


def _unpack(message: bytes) -> tuple[int, list[str] | None]:
    """Who speaks and the names; None in place of them when the message is not whole."""
    start = len(MAGIC) + NODE.size
    if not message.startswith(MAGIC) or len(message) < start:
        return 0, None
    (node,) = NODE.unpack_from(message, len(MAGIC))
    try:
        return node, list(_names(message, start))
    except (struct.error, ValueError):
        return node, None


def _names(message: bytes, at: int) -> Iterator[str]:
    while at < len(message):
        (length,) = LENGTH.unpack_from(message, at)
        at += LENGTH.size
        if at + length > len(message):
            raise ValueError("cut off")
        yield message[at : at + length].decode()
        at += length
