"""What a request came to: the closed sets that are also the labels of the metrics."""

from __future__ import annotations

from enum import StrEnum
from typing import Generic, NamedTuple

from typing_extensions import TypeVar

__all__ = [
    "AfterOutage",
    "Direction",
    "Invalidation",
    "Lookup",
    "Mistake",
    "Mode",
    "OnOverload",
    "Operation",
    "OverloadCause",
    "OverloadVerdict",
    "Progress",
    "Reason",
    "Source",
]

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
    SLOW = "slow"  # the store was still thinking after `hedge_after`
    OPEN = "open"  # the circuit is open
    BUSY = "busy"  # too many store calls in flight, or the durable journal is not read yet
    NO_TIME = "no_time"  # the caller's deadline leaves none for the store
    CORRUPT = "corrupt"
    WRONG_KEY = "wrong_key"
    VERSION = "version"  # written in a format of another version
    CODEC = "codec"  # written by another codec, or bytes this one cannot decode
    OVERAGE = "overage"  # older than an entry may ever be, or from the future
    OUTAGE = "outage"  # stored before an outage of the store, and `after_outage` says not to trust it
    NOT_ACCEPTED = "not_accepted"  # the policy's `accept` refused what there was
    OFF = "off"  # the mode lets nothing be read


class Operation(StrEnum):
    """A call to a store."""

    GET = "get"
    SET = "set"
    DELETE = "delete"


class Direction(StrEnum):
    """Reads and writes fail apart, so each has a circuit of its own; the origin may have one."""

    READ = "read"
    WRITE = "write"
    ORIGIN = "origin"  # loads; only with `CachePolicy.origin`


class Invalidation(StrEnum):
    """What `invalidate` can promise beyond this process, where it holds either way.

    `CONFIRMED`: the store acknowledged. `PENDING`: it did not, and is asked again behind; other processes may read the
    old entry until it has confirmed, or its life ends, or a new value is written.
    """

    CONFIRMED = "confirmed"
    PENDING = "pending"


class Mistake(StrEnum):
    """What came of `report_mistake`. The first two are those of `Invalidation`; with the others nothing was done."""

    CONFIRMED = "confirmed"
    PENDING = "pending"
    OTHER = "other"  # what was reported is not what the cache has: something else is, or nothing
    TOO_SOON = "too_soon"  # the key was invalidated for that less than `stale_retry` ago, or too many were


class AfterOutage(StrEnum):
    """What is made of entries that the store held before a circuit opened and closed again.

    Other processes could not invalidate them meanwhile.
    """

    TRUST = "trust"  # served: until a replay or their lifetime ends them
    REVALIDATE = "revalidate"  # loaded again; they may stand in if that fails
    DISCARD = "discard"  # as if they were not there


class OnOverload(StrEnum):
    """What becomes of a load that got no permit in time, when nothing stale may stand in."""

    PROCEED = "proceed"  # it starts all the same: the library invents no error
    RAISE = "raise"  # `OriginOverloaded`


class OverloadCause(StrEnum):
    """Why a load could not start."""

    FULL = "full"  # `max_loads` were running for all of `load_wait`
    CIRCUIT = "circuit"  # the origin's circuit is open
    PAUSE = "pause"  # a loader has raised `Backpressure`


class OverloadVerdict(StrEnum):
    """What became of a load that could not start."""

    STALE = "stale"  # something stale may stand in
    PROCEED = "proceed"  # it started all the same
    RAISE = "raise"  # `OriginOverloaded`


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


class Progress(NamedTuple):
    """How far a warm-up is. `key` has just come through, with the `error` that its load ended with, if it failed.

    Of `total` keys, None where nobody can tell, `done` are through: `loaded` by a load, `failed`, the rest was there
    already, or the origin says "there is none". Where a stale entry stood in, the load has failed.
    """

    done: int
    loaded: int
    failed: int
    total: int | None
    key: str
    error: Exception | None = None
