"""Caches that cannot take a service down: whatever a store does, its callers get a miss.

`ResilientCache` and `AsyncResilientCache` are the library; `fallback` is their guard alone. All durations are seconds,
or `timedelta`.
"""

from ._async import AsyncResilientCache
from ._sync import ResilientCache
from .conditional import NOT_MODIFIED, Known, NotModified, conditional
from .entry import Entry
from .errors import (
    Backpressure,
    FailureKind,
    LoadTimeout,
    MisuseError,
    NoSafeValue,
    NotFound,
    OriginOverloaded,
    ResilientCacheError,
    StoreError,
)
from .fallback import fallback
from .outcome import AfterOutage, Invalidation, Lookup, Mistake, Mode, OnOverload, Reason, Source
from .policy import BreakerPolicy, CachePolicy

__all__ = [
    "NOT_MODIFIED",
    "AfterOutage",
    "AsyncResilientCache",
    "Backpressure",
    "BreakerPolicy",
    "CachePolicy",
    "Entry",
    "FailureKind",
    "Invalidation",
    "Known",
    "LoadTimeout",
    "Lookup",
    "Mistake",
    "MisuseError",
    "Mode",
    "NoSafeValue",
    "NotFound",
    "NotModified",
    "OnOverload",
    "OriginOverloaded",
    "Reason",
    "ResilientCache",
    "ResilientCacheError",
    "Source",
    "StoreError",
    "conditional",
    "fallback",
]
