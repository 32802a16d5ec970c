"""What hooks are told: finished facts, after they happened and outside every lock.

No event carries a value, and every field but the numbers comes from a closed set. What a shard is called is the
adapter's to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

from .errors import FailureKind
from .outcome import Direction, Invalidation, Mode, Operation, OverloadCause, OverloadVerdict, Reason, Source

__all__ = [
    "BackplaneChanged",
    "CircuitChanged",
    "CircuitState",
    "EntryRefused",
    "Event",
    "Hook",
    "Invalidated",
    "JournalFailed",
    "ModeChanged",
    "NotStored",
    "Overloaded",
    "Served",
    "Settled",
    "SnapshotRead",
    "SnapshotWritten",
    "StoreCalled",
]


class CircuitState(StrEnum):
    """The states of a circuit."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    FORCED_CLOSED = "forced_closed"


@dataclass(frozen=True, slots=True)
class Served:
    """A request ended: one per request, however it ended. `source` is `NONE` for a miss and for an error."""

    cache: str
    source: Source
    reason: Reason
    error: bool = False


@dataclass(frozen=True, slots=True)
class StoreCalled:
    """A call to the store ended after `seconds`. `failure` is None when it answered."""

    cache: str
    operation: Operation
    seconds: float
    failure: FailureKind | None = None


@dataclass(frozen=True, slots=True)
class CircuitChanged:
    """A circuit went from one state to another; `retry_in` is the hold in seconds when it opened, else 0.

    `shard`: whose it is, as the adapter names it, of at most 64 at a time; empty for a store that has none.
    """

    cache: str
    direction: Direction
    before: CircuitState
    after: CircuitState
    retry_in: float = 0.0
    shard: str = ""


@dataclass(frozen=True, slots=True)
class Overloaded:
    """A load could not start for `cause`, after it had queued for `waited` seconds; `verdict`: what became of it."""

    cache: str
    cause: OverloadCause
    verdict: OverloadVerdict
    waited: float


@dataclass(frozen=True, slots=True)
class EntryRefused:
    """The store held something for the key that may not be served; it is overwritten or deleted.

    `NOT_ACCEPTED`: the policy's `accept` refused a value, wherever it came from.
    """

    cache: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Invalidated:
    """An invalidation returned."""

    cache: str
    outcome: Invalidation


@dataclass(frozen=True, slots=True)
class Settled:
    """An invalidation that was pending has been confirmed by the store, `age` seconds after it was made."""

    cache: str
    age: float


@dataclass(frozen=True, slots=True)
class BackplaneChanged:
    """The cache began or ceased to hear what other processes invalidate."""

    cache: str
    listening: bool


@dataclass(frozen=True, slots=True)
class JournalFailed:
    """The durable journal could not be read or written: what it should hold is in memory only."""

    cache: str


@dataclass(frozen=True, slots=True)
class ModeChanged:
    """The mode in force is another one: told by the switch itself, or by the first request that found it so."""

    cache: str
    before: Mode
    after: Mode


@dataclass(frozen=True, slots=True)
class NotStored:
    """A value was not written: it cannot be encoded. The log says of which type, once per type."""

    cache: str


@dataclass(frozen=True, slots=True)
class SnapshotWritten:
    """Memory was written to a file: `entries` are in it, `left_out` cannot be encoded."""

    cache: str
    entries: int
    left_out: int


@dataclass(frozen=True, slots=True)
class SnapshotRead:
    """A file was read: `entries` were taken. `reason` says why it was refused, `HIT` that it was not."""

    cache: str
    entries: int
    reason: Reason


Event: TypeAlias = (
    Served
    | StoreCalled
    | CircuitChanged
    | Overloaded
    | EntryRefused
    | Invalidated
    | Settled
    | BackplaneChanged
    | JournalFailed
    | ModeChanged
    | NotStored
    | SnapshotRead
    | SnapshotWritten
)


class Hook(Protocol):
    """Any callable that takes an event. One that raises is counted and changes nothing; it must not block."""

    def __call__(self, event: Event, /) -> object:
        """Take note of `event`; the result is ignored."""
        ...
