"""Every exception of this library.

    ResilientCacheError
    |-- MisuseError          the caller's mistake: raised at once, before any store is touched
    |-- StoreError           an adapter's word that its store failed; never reaches a caller of the cache
    |-- LoadTimeout          the loader outlived `load_timeout` and nothing stale may stand in (a TimeoutError)
    |-- OriginOverloaded     a load was shed and nothing stale may stand in
    |-- NoSafeValue          no answer may be given: loading is not allowed, or `accept` refused what there was
    `-- NotFound             the origin's own answer: there is none (a LookupError); raised by loaders

Errors are split by who is to blame. A loader's own exception is none of these: it reaches the caller as it is.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = [
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
    """The load was shed to protect the origin and no stale entry may stand in."""


class NoSafeValue(ResilientCacheError):
    """There is no value that may be served.

    Loading is not allowed, as in `Mode.FROZEN`; or `accept` refused what was loaded, and what could stand in for it.
    """


class NotFound(ResilientCacheError, LookupError):
    """The origin says that there is none. Raise it in a loader; it is remembered for `negative_ttl`."""
