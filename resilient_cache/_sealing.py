"""Between the envelope's clock and ours: values to bytes for the store, and back to what may be believed of them."""

from __future__ import annotations

from typing import Any, Final, final

from ._local import Local
from ._reporting import LOGGER, Reporter
from ._request import Candidate, Request
from .entry import MICROS, Stored, make
from .envelope import open_envelope, seal
from .events import NotStored
from .outcome import Reason
from .policy import CachePolicy, float_of
from .protocols import Codec

__all__ = ["Sealing"]

MOST_TYPES: Final = 100  # logged, each once


@final
class Sealing:
    """One cache's codec and envelope. Neither method raises for what a codec or a store gives."""

    __slots__ = ("_codec", "_codec_id", "_local", "_longest", "_namespace", "_refused", "_reporter")

    def __init__(self, codec: Codec[Any], policy: CachePolicy, reporter: Reporter, local: Local) -> None:
        self._codec = codec
        self._codec_id = codec.id.encode()
        self._local = local
        self._longest = int(float_of(policy.max_ttl) * MICROS)
        self._namespace = reporter.name.encode()
        self._refused: set[type] = set()
        self._reporter = reporter

    def open(self, key: str, data: object, monotonic: float) -> Candidate | Reason:
        """The entry that the store gave for `key`, its windows on the monotonic clock, or why it is refused."""
        opened = open_envelope(data, self._namespace, key.encode(), self._codec_id)
        if isinstance(opened, Reason):
            return opened
        stamp, fresh_until, stale_until, node, payload = opened
        local, longest = self._local, self._longest
        now = local.stamps.now()
        if not now - 2 * longest <= stamp <= now + local.margin:
            return Reason.OVERAGE
        trusted = stamp if node == local.node else stamp - local.margin
        if not local.fences.admits(key, trusted):
            return Reason.FENCED
        try:
            value = self._codec.decode(payload)
        except Exception:  # noqa: BLE001 - around a codec
            return Reason.CODEC
        fresh_for = min(fresh_until, stamp + longest) - now
        stale_for = min(stale_until, stamp + 2 * longest) - now
        found: Candidate = make(
            Candidate, (value, monotonic + fresh_for / MICROS, monotonic + stale_for / MICROS, trusted)
        )
        return found

    def seal(self, request: Request, value: object, ttl: float, stale_for: float) -> bytes | None:
        """The bytes to store for `request.life` seconds; None when nothing is left to store or no codec can."""
        request.life = ttl + stale_for
        if request.life <= 0:
            return None
        try:
            payload = self._codec.encode(value)
            if type(payload) is not bytes:
                raise TypeError(f"encode must give bytes, not {type(payload).__name__}")
        except Exception as error:  # noqa: BLE001 - around a codec
            self.cannot_keep(value, f"the codec cannot encode it: {type(error).__name__}")
            return None
        fresh_until = request.stamp + int(ttl * MICROS)
        entry = Stored(request.stamp, fresh_until, fresh_until + int(stale_for * MICROS), self._local.node, payload)
        return seal(self._namespace, request.key.encode(), self._codec_id, entry)

    def cannot_keep(self, value: object, why: str) -> None:
        """Count and report a value that is not stored; logged once per type."""
        kind = type(value)
        self._reporter.count("not_stored")
        if kind not in self._refused and len(self._refused) < MOST_TYPES:
            self._refused.add(kind)
            LOGGER.warning("cache %s: a %s is not stored: %s", self._reporter.name, kind.__qualname__, why)
        self._reporter.tell(NotStored(self._reporter.name))
