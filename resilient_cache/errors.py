"""Every exception of this library.

    ResilientCacheError
    |-- MisuseError          the caller's mistake: raised at once, before any store is touched
    |-- StoreError           an adapter's word that its store failed; never reaches a caller of the cache
    |-- LoadTimeout          the loader outlived `load_timeout` and nothing stale may stand in (a TimeoutError)
    |-- OriginOverloaded     a load was shed and nothing stale may stand in
    |   `-- Backpressure     the origin asks to be left alone for a while; raised by loaders
    |-- NoSafeValue          no answer may be given: loading is not allowed, or `accept` refused what there was
    `-- NotFound             the origin's own answer: there is none (a LookupError); raised by loaders

Errors are split by who is to blame. A loader's own exception is none of these: it reaches the caller as it is.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

__all__ = [
    "Backpressure",
    "FailureKind",
    "LoadTimeout",
    "MisuseError",
    "NoSafeValue",
    "NotFound",
    "OriginOverloaded",
    "ResilientCacheError",
    "StoreError",
]


class FailureKind(StrEnum):
    """What went wrong with a store, as a closed set: it is a metrics label and decides what the circuit hears."""

    TIMEOUT = "timeout"
    CONNECTION = "connection"  # refused, reset, DNS, TLS, out of file descriptors
    AUTH = "auth"
    POOL = "pool"  # no connection free
    UNAVAILABLE = "unavailable"  # the server answers, but cannot serve: LOADING, CLUSTERDOWN, MASTERDOWN, BUSY
    READ_ONLY = "read_only"  # only writes fail: READONLY, OOM, MISCONF, NOREPLICAS
    PER_KEY = "per_key"  # this key only, the store is well: WRONGTYPE, value too large
    NOT_ASKED = "not_asked"  # what is behind the adapter may not be asked now: its own circuits are open
    UNKNOWN = "unknown"


class ResilientCacheError(Exception):
    """Base of every exception this library raises of its own."""


class MisuseError(ResilientCacheError):
    """A call that can never be right. The text names the argument and says what would be right."""


class StoreError(ResilientCacheError):
    """Raised by adapters when their store fails; `kind` tells the circuit what to make of it.

    Callers of a cache never see it: there it is a miss. Any other `Exception` from an adapter counts as
    `FailureKind.UNKNOWN`, a `TimeoutError` as `FailureKind.TIMEOUT`, another `OSError` as
    `FailureKind.CONNECTION`.
    """

    def __init__(self, kind: FailureKind, message: str = "") -> None:
        super().__init__(kind, message)
        self.kind = kind

    def __str__(self) -> str:
        """The message, or the kind where there is none."""
        return str(self.args[1] or self.args[0])


class LoadTimeout(ResilientCacheError, TimeoutError):
    """The loader took longer than `load_timeout` and no stale entry may stand in. The load itself goes on."""


class OriginOverloaded(ResilientCacheError):
    """The load was shed to protect the origin and no stale entry may stand in.

    `retry_after`: seconds after which another try makes sense, 0.0 when nobody knows.
    """

    def __init__(self, message: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message, retry_after)
        self.retry_after = retry_after

    def __str__(self) -> str:
        """The message."""
        return str(self.args[0])


class Backpressure(OriginOverloaded):
    """The origin asks to be left alone for `retry_after`, seconds or a `timedelta`. Raise it in a loader.

    No load of the cache starts until then, of whatever key: stale entries stand in, other callers get
    `OriginOverloaded`. No pause is longer than 300 s. Raises `MisuseError` for what is no duration.
    """

    def __init__(self, retry_after: float | timedelta) -> None:
        pause = _pause(retry_after)
        super().__init__(f"the origin asks to be left alone for {pause:g} s", pause)

    def __reduce__(self) -> tuple[type[Backpressure], tuple[float]]:
        """By the pause alone, which is all it is made from."""
        return type(self), (self.retry_after,)


class NoSafeValue(ResilientCacheError):
    """There is no value that may be served.

    Loading is not allowed, as in `Mode.FROZEN`; or `accept` refused what was loaded, and what could stand in for it.
    """


class NotFound(ResilientCacheError, LookupError):
    """The origin says that there is none. Raise it in a loader; it is remembered for `negative_ttl`."""


def _pause(given: object) -> float:
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
        raise MisuseError(f"retry_after must be seconds or a timedelta, at least 0, not {given!r}")
    return float(seconds)
