"""What a request came to: the closed sets that are also the labels of the metrics."""

from __future__ import annotations

from enum import StrEnum
from typing import Generic, NamedTuple

from typing_extensions import TypeVar

__all__ = ["AfterOutage", "Direction", "Invalidation", "Lookup", "Mode", "Operation", "Reason", "Source"]

V = TypeVar("V")


class Source(StrEnum):
    """Where an answer came from."""

    MEMORY = "memory"
    STORE = "store"
    LOADER = "loader"
    STALE = "stale"  # past its ttl, standing in for a load that failed or runs behind
    NEGATIVE = "negative"  # the origin says there is none
    NONE = "none"


class Reason(StrEnum):
    """Why the cache itself had no fresh entry to give; `HIT` when it had one."""

    HIT = "hit"
    ABSENT = "absent"
    EXPIRED = "expired"
    FENCED = "fenced"  # older than an invalidation
    UNMARKED = "unmarked"  # the store does not say whether everything has been invalidated since, or a tag of it
    NEGATIVE = "negative"
    ERROR = "error"
    TIMEOUT = "timeout"
    OPEN = "open"  # the circuit is open
    BUSY = "busy"  # too many store calls in flight
    NO_TIME = "no_time"  # the caller's deadline leaves none for the store
    CORRUPT = "corrupt"
    WRONG_KEY = "wrong_key"
    VERSION = "version"  # written in a format of another version
    CODEC = "codec"  # written by another codec, or bytes this one cannot decode
    OVERAGE = "overage"  # older than an entry may ever be, or from the future
    OUTAGE = "outage"  # stored before an outage of the store, and `after_outage` says not to trust it
    OFF = "off"  # the mode lets nothing be read


class Operation(StrEnum):
    """A call to a store."""

    GET = "get"
    SET = "set"
    DELETE = "delete"


class Direction(StrEnum):
    """Reads and writes fail apart, so each has a circuit of its own."""

    READ = "read"
    WRITE = "write"


class Invalidation(StrEnum):
    """What `invalidate` can promise beyond this process, where it holds either way.

    `CONFIRMED`: the store acknowledged. `PENDING`: it did not; other processes may read the old entry until its
    life ends or a new value is written.
    """

    CONFIRMED = "confirmed"
    PENDING = "pending"


class AfterOutage(StrEnum):
    """What is made of entries that the store held before a circuit opened and closed again.

    Other processes could not invalidate them meanwhile.
    """

    TRUST = "trust"  # served: until a replay or their lifetime ends them
    REVALIDATE = "revalidate"  # loaded again; they may stand in if that fails
    DISCARD = "discard"  # as if they were not there


class Mode(StrEnum):
    """The switch for a running service; takes effect with the next request."""

    ON = "on"
    READ_ONLY = "read_only"  # the store is read, never written
    BYPASS = "bypass"  # every read is a miss and no store is touched; invalidations still fence
    MEMORY_ONLY = "memory_only"  # no store is touched
    FROZEN = "frozen"  # anything inside its windows and not fenced is served, nothing is ever loaded


class Lookup(NamedTuple, Generic[V]):
    """An answer with its provenance; falsy when there is nothing, so a cached None differs from nothing.

    `age` is in seconds since the load began, None when there is no entry. `reason` says why the cache had no
    fresh entry, also when a load or a stale entry then answered.
    """

    value: V | None
    source: Source
    reason: Reason
    age: float | None = None
    stale: bool = False

    def __bool__(self) -> bool:
        """Whether there is a value."""
        return self.source is not Source.NONE and self.source is not Source.NEGATIVE
