"""What goes wrong in a simulated network: lasting states that begin and end, not independent mishaps.

Power to find faults comes from outages that last across many calls and from boundaries that meet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, final

from ...errors import FailureKind, StoreError
from ...outcome import Operation
from .tape import Tape

__all__ = ["HIT_TOGETHER", "MISHAPS", "Front", "Trouble", "Weather", "error_of", "possible"]


class Trouble(StrEnum):
    """A kind of bad weather between a process and its store."""

    REFUSED = "refused"  # the connection is refused: fails at once, no effect
    ERROR = "error"  # the server answers with an error, no effect
    LOST_REQUEST = "lost_request"  # it never arrives, and nobody says so
    LOST_REPLY = "lost_reply"  # it takes effect, and nobody says so
    RESET = "reset"  # it takes effect, and the connection is reset before the reply
    LATE = "late"  # the connection is reset; the request takes effect later, over whatever was done since
    FROZEN = "frozen"  # the server stands still; what it was sent takes effect when it goes on
    SLOW = "slow"  # it answers about when the caller's timeout is over
    CORRUPT = "corrupt"  # one byte of the answer is another
    WRONG_KEY = "wrong_key"  # the answer is another key's
    READ_ONLY = "read_only"  # writes are refused
    PER_KEY = "per_key"  # this key is refused
    RESTART_EMPTY = "restart_empty"  # it has forgotten everything
    RESTART_OLD = "restart_old"  # it has what it had some time ago
    JUMP = "jump"  # the wall clock of a process jumps, within the skew that is allowed


MISHAPS: Final = frozenset({Trouble.RESTART_EMPTY, Trouble.RESTART_OLD, Trouble.JUMP})
"""Those that happen once; as weather they last only to be counted."""

ALL: Final = frozenset(Operation)
READS: Final = frozenset({Operation.GET})
HIT_TOGETHER: Final = (ALL, ALL, READS, ALL - READS, frozenset({Operation.DELETE}))
"""The operations that one front is over: most outages are total, but fences matter when only deletes fail."""
POSSIBLE: Final = {
    Trouble.CORRUPT: READS,
    Trouble.WRONG_KEY: READS,
    Trouble.READ_ONLY: ALL - READS,
    **dict.fromkeys(MISHAPS, frozenset[Operation]()),
}
"""The operations that a trouble can hit, where these are not all."""

ERRORS: Final[dict[Trouble, Callable[[], Exception]]] = {
    Trouble.REFUSED: lambda: ConnectionRefusedError("refused"),
    Trouble.ERROR: lambda: StoreError(FailureKind.UNAVAILABLE, "loading"),
    Trouble.RESET: lambda: ConnectionResetError("reset"),
    Trouble.LATE: lambda: ConnectionResetError("reset"),
    Trouble.READ_ONLY: lambda: StoreError(FailureKind.READ_ONLY, "read only"),
    Trouble.PER_KEY: lambda: StoreError(FailureKind.PER_KEY, "wrong type"),
}


def possible(trouble: Trouble) -> frozenset[Operation]:
    """The operations that `trouble` can hit."""
    return POSSIBLE.get(trouble, ALL)


def error_of(trouble: Trouble) -> Exception:
    """A new error, as a client would raise it."""
    return ERRORS[trouble]()


@final
@dataclass(frozen=True, slots=True)
class Front:
    """One state of bad weather and what it hits: the keys, processes and operations it is over, the share of calls."""

    trouble: Trouble
    keys: frozenset[str]
    processes: frozenset[int]
    operations: frozenset[Operation]
    share: float


@final
class Weather:
    """The fronts of the moment."""

    __slots__ = ("_tape", "fronts")

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self.fronts: list[Front] = []

    def hits(self, process: int, operation: Operation, key: str) -> Trouble | None:
        """What goes wrong with a call, if anything."""
        for front in self.fronts:
            if process not in front.processes or key not in front.keys or operation not in front.operations:
                continue
            if front.share == 1.0 or self._tape.chance(front.share):
                return front.trouble
        return None
