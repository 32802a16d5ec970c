"""Between the envelope's clock and ours: values to bytes for the store, and back to what may be believed of them."""

from __future__ import annotations

from typing import Any, Final, final

from ._local import Local
from ._reporting import LOGGER, Reporter
from ._request import Candidate, Draft, Request
from .entry import MICROS, Stored, make
from .envelope import open_envelope, seal
from .events import NotStored
from .marks import NAMESPACE, tag_mark
from .outcome import Reason
from .policy import CachePolicy, float_of
from .protocols import Codec

__all__ = ["Sealing"]

MOST_TYPES: Final = 100  # logged, each once
UNMARKED: Final = float("-inf")
"""How long an entry is fresh that may only stand in, because the store could not be asked for its marks."""


@final
class Sealing:
    """One cache's codec and envelope. Neither method raises for what a codec or a store gives."""

    __slots__ = ("_codec", "_codec_id", "_local", "_longest", "_marked", "_namespace", "_refused", "_reporter")

    def __init__(
        self, codec: Codec[Any], policy: CachePolicy, reporter: Reporter, local: Local, *, has_store: bool
    ) -> None:
        self._codec = codec
        self._codec_id = codec.id.encode()
        self._local = local
        self._longest = int(float_of(policy.max_ttl) * MICROS)
        self._marked = has_store and policy.epoch_ttl is not None
        self._namespace = reporter.name.encode()
        self._refused: set[type] = set()
        self._reporter = reporter

    def open(self, request: Request, data: object, monotonic: float) -> Candidate | Reason:
        """The entry that the store gave for a key, its windows on the monotonic clock, or why it is refused.

        `UNMARKED` as well when the store is to be asked for `request.unsure` first.
        """
        key = request.key
        opened = open_envelope(data, self._namespace, key.encode(), self._codec_id)
        if not isinstance(opened, Stored):
            return opened
        stamp, fresh_until, stale_until, node, payload, version, marks = opened
        local, ends = self._local, stamp + self._longest  # at the latest
        now = local.stamps.at(monotonic)
        if stamp > now + local.margin or ends + self._longest < now:
            return Reason.OVERAGE
        trusted = stamp if node == local.node else stamp - local.margin
        tags = tuple([tag for tag, _ in marks]) if marks else ()
        if not local.fences.admits(key, trusted):
            return Reason.FENCED
        if tags and not all(local.tag_fences.admits(tag_mark(tag), trusted) for tag in tags):
            return Reason.FENCED
        doubt, known = None, local.marks.namespace
        if self._marked and (marks or version != known.version or monotonic >= known.renew):
            doubt = self._doubt(request, [(NAMESPACE, version), *((tag_mark(t), v) for t, v in marks)], monotonic)
            if doubt is Reason.FENCED or (doubt is Reason.UNMARKED and not request.lenient):
                return doubt
        try:
            value = self._codec.decode(payload)
        except Exception:  # noqa: BLE001 - around a codec
            return Reason.CODEC
        fresh_for = (fresh_until if fresh_until < ends else ends) - now if doubt is None else UNMARKED
        ends += self._longest
        stale_for = (stale_until if stale_until < ends else ends) - now
        windows = monotonic + fresh_for / MICROS, monotonic + stale_for / MICROS
        found: Candidate = make(Candidate, (value, *windows, trusted, tags, now))
        return found

    def seal(self, request: Request, draft: Draft) -> bytes | None:
        """The bytes to store for `request.life` seconds; None when nothing is left to store or no codec can.

        None as well when it is not known under which marks the load began: nobody would believe the entry.
        """
        value, ttl, stale_for, tags, _ = draft
        request.life = ttl + stale_for
        if request.life <= 0 or (self._marked and not self._may_write(request, draft)):
            return None
        payload, why = self._encode(value)
        if payload is None:
            self.cannot_keep(value, why)
            return None
        fresh_until = request.stamp + int(ttl * MICROS)
        stale_until = fresh_until + int(stale_for * MICROS)
        version = self._local.marks.version
        marks = tuple([(tag, version(tag_mark(tag))) for tag in tags]) if tags and self._marked else ()
        entry = Stored(request.stamp, fresh_until, stale_until, self._local.node, payload, request.version, marks)
        return seal(self._namespace, request.key.encode(), self._codec_id, entry)

    def keep(self, key: str, found: Candidate, now: int, monotonic: float) -> bytes | None:
        """The bytes of an entry in memory, for a snapshot: its windows as moments, under the marks known by now.

        None when no codec can encode it. What may have missed an invalidation that a lost mark told of is not fresh.
        """
        payload, why = self._encode(found.value)
        if payload is None:
            self._not_stored(found.value, why)
            return None
        marks, names = self._local.marks, [tag_mark(tag) for tag in found.tags]
        sure = not self._marked or all(marks.settled(name, found.stamp) for name in (NAMESPACE, *names))
        fresh_until = (
            now + int((found.fresh_until - monotonic) * MICROS) if sure and found.fresh_until > monotonic else 0
        )
        stale_until = now + int((found.stale_until - monotonic) * MICROS)
        tags = tuple([(tag, marks.version(name)) for tag, name in zip(found.tags, names, strict=True)])
        entry = Stored(found.stamp, fresh_until, stale_until, self._local.node, payload, marks.namespace.version, tags)
        return seal(self._namespace, key.encode(), self._codec_id, entry)

    @property
    def whose(self) -> tuple[bytes, bytes]:
        """The names of the cache and of its codec, as they stand in what is stored."""
        return self._namespace, self._codec_id

    def _encode(self, value: object) -> tuple[bytes | None, str]:
        try:
            payload = self._codec.encode(value)
            if type(payload) is not bytes:
                raise TypeError(f"encode must give bytes, not {type(payload).__name__}")
        except Exception as error:  # noqa: BLE001 - around a codec
            return None, f"the codec cannot encode it: {type(error).__name__}"
        return payload, ""

    def _doubt(self, request: Request, versions: list[tuple[str, int]], monotonic: float) -> Reason | None:
        marks = self._local.marks
        if request.unsure is None:
            request.unsure = tuple([name for name, version in versions if marks.due(name, monotonic, version)])
            if request.unsure:
                return Reason.UNMARKED
        return marks.verdict(versions, monotonic)

    def _may_write(self, request: Request, draft: Draft) -> bool:
        marks, names = self._local.marks, list(map(tag_mark, draft.tags))
        if draft.placed:
            request.version, names = marks.namespace.version, [NAMESPACE, *names]
        if not request.version or request.version != marks.namespace.version:
            return False
        if not self._local.fences.admits(request.key, request.stamp):  # since the marks were asked for
            return False
        return all(marks.settled(name, request.stamp, placed=draft.placed) for name in names)

    def cannot_keep(self, value: object, why: str) -> None:
        """Count and report a value that is not stored; logged once per type."""
        self._not_stored(value, why)
        self._reporter.tell(NotStored(self._reporter.name))

    def _not_stored(self, value: object, why: str) -> None:
        kind = type(value)
        self._reporter.count("not_stored")
        if kind not in self._refused and len(self._refused) < MOST_TYPES:
            self._refused.add(kind)
            LOGGER.warning("cache %s: a %s is not stored: %s", self._reporter.name, kind.__qualname__, why)
