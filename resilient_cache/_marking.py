"""The decisions about marks: which of them the store is asked for, what its word is worth, and what to write there."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, final

from ._guard import Answer
from ._local import Local
from ._request import Draft, Request
from .entry import MICROS, Stored
from .envelope import open_envelope, seal
from .errors import FailureKind, MisuseError
from .marks import NAMESPACE, Mark, moment_of, tag_mark
from .outcome import Reason
from .policy import CachePolicy

__all__ = ["Made", "Marking"]

PAYLOAD: Final = struct.Struct(">QQ")
CODEC: Final = b"mark"
HIGHEST: Final = 2**63
"""No version is as high before the year 2041; the next one must still be a number of 64 bits."""


class Made(NamedTuple):
    """A mark to write, and its bytes."""

    mark: Mark
    data: bytes


@final
class Marking:
    """The marks of one cache, between its store and what is known of them here."""

    __slots__ = ("_local", "_namespace", "_timeout", "life", "on")

    def __init__(self, name: str, policy: CachePolicy, local: Local, timeout: float) -> None:
        self._local = local
        self._namespace = f"{name}!".encode()  # no cache has that name, so no entry is taken for a mark
        self._timeout = timeout
        self.life = policy.longest_life + local.margin / MICROS
        self.on = policy.epoch_ttl is not None

    def check(self) -> None:
        """Raises `MisuseError` where marks are off, because then other processes would never hear of it."""
        if not self.on:
            raise MisuseError(
                "epoch_ttl must not be None: no other process would heed that many are invalidated at once"
            )

    def knows(self, name: str) -> bool:
        """Whether any version of the mark is known. Who knows none takes the word of any of several stores."""
        return self._local.marks.version(name) > 0

    def unsure(self, request: Request, names: Iterable[str] = (NAMESPACE,)) -> tuple[str, ...]:
        """Those of the marks that the store is to be asked for before something is written."""
        if not self.on or not request.gates.write or (request.unsure and not request.stamp):
            return ()
        now = self._local.now()
        return tuple(name for name in names if self._local.marks.due(name, now))

    def unknown(self, request: Request) -> tuple[str, ...]:
        """The namespace's mark, if the store is to be asked for it before anything is read from elsewhere."""
        due = self.on and request.gates.read and self._local.marks.due(NAMESPACE, self._local.now())
        return (NAMESPACE,) if due else ()

    def of(self, draft: Draft) -> list[str]:
        """The marks that are to be known before `draft` is written; a load has seen to that of the namespace."""
        names = [tag_mark(tag) for tag in draft.tags]
        return [NAMESPACE, *names] if draft.placed else names

    def heard(self, request: Request, name: str, answer: Answer, asked: float) -> Made | None:
        """The store was asked for a mark at `asked`; gives what to write there, if anything."""
        if answer.failed is not None:
            return None
        found, stamp = self._open(name, answer.value)
        known = self._local.marks.version(name)
        if found is not None and found.version >= known:
            self._local.learn(name, found, asked)
            renewed = request.gates.write and self._local.age(stamp) > self.life / 2
            return self._make(name, found) if renewed and self._claim(name) else None
        if not request.gates.write or not self._claim(name):
            return None
        invalidated = max(self._local.marks.invalidated(name), found.invalidated if found is not None else 0)
        version = self._next(name, self._local.stamps.next())
        return self._make(name, Mark(version, invalidated))

    def revoke(self, name: str, stamp: int, answer: Answer, asked: float, *, several: bool) -> Made:
        """What to write for an invalidation, when that is what the store said of the mark at `asked`.

        Of `several` stores some may not have what is found. So, tried again, it makes do with that, if its invalidation
        is the one first made for this one, or surely a later one: what was given with it since is good. What only may
        be later is outbid with a version of this moment; soon that is surely later than what any of those who outbid
        each other has made first.
        """
        found, moment = self._open(name, answer.value)[0] if answer.failed is None else None, stamp
        if found is not None:
            self._local.learn(name, found, asked)  # it may tell of somebody else's
            marks = self._local.marks
            made = marks.made(name, stamp)
            if several and made and made <= found.invalidated and found.version == marks.version(name):
                if found.invalidated == made or moment_of(found.invalidated) > marks.bound(made):
                    return self._make(name, found)
                moment = self._local.stamps.next()
        version = self._next(name, moment)
        self._local.make(name, stamp, version)
        return self._make(name, Mark(version, version))

    def holds(self, name: str, answer: Answer) -> bool:
        """Whether the store still has the mark that it has acknowledged for an invalidation of this process."""
        found = self._open(name, answer.value)[0]
        return found is not None and found.version == self._local.marks.revoked(name)

    def written(self, name: str, made: Made, answer: Answer, asked: float, *, own: bool = False) -> None:
        """The mark was written; `own`: for an invalidation of this process."""
        if answer.failed is None or (answer.value is FailureKind.PER_KEY and not own):  # some of several stores have it
            self._local.learn(name, made.mark, asked, own=own)
        self._local.marks.settle(name)

    def _claim(self, name: str) -> bool:
        """Whether it is the caller who writes the mark: others who find the same at the same time do not."""
        return self._local.claim(name, self._timeout)

    def _next(self, name: str, stamp: int) -> int:
        return self._local.marks.next(name, stamp, self._local.node)

    def _make(self, name: str, mark: Mark) -> Made:
        stamp = self._local.stamps.now()
        until = stamp + int(self.life * MICROS)
        entry = Stored(stamp, until, until, self._local.node, PAYLOAD.pack(*mark))
        return Made(mark, seal(self._namespace, name.encode(), CODEC, entry))

    def _open(self, name: str, data: Any) -> tuple[Mark | None, int]:
        """The mark and the stamp of its writing; None for whatever is none, which is as good as a lost one."""
        opened = None if data is None else open_envelope(data, self._namespace, name.encode(), CODEC)
        if opened is None or isinstance(opened, Reason) or len(opened.payload) != PAYLOAD.size:
            return None, 0
        version, invalidated = PAYLOAD.unpack(opened.payload)
        if not 0 < version < HIGHEST or invalidated > version:
            return None, 0
        return Mark(version, invalidated), opened.stamp
