"""What goes wrong with a store, and when: a plan gives each call its fault.

A fault is what callers of real stores meet: errors, silence, other bytes than were written, an acknowledgement that is
lost, a write that lands after the delete that followed it.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self, final

from ..errors import FailureKind, StoreError

__all__ = ["Fault", "FaultKind", "FaultPlan"]

BY_PLAN: Final = StoreError(FailureKind.UNAVAILABLE, "by plan")


class FaultKind(StrEnum):
    """What can go wrong with one call."""

    RAISE = "raise"  # the call fails with `error` and has no effect
    RAISE_AT_CALL = "raise_at_call"  # the same; the async method raises when it is called, not when it is awaited
    HANG = "hang"  # no answer: sync, a TimeoutError when the deadline is over; async, until it is cancelled
    SLOW = "slow"  # the answer takes `seconds`; a write still lands then, whoever gave up on it
    CORRUPT = "corrupt"  # one byte of the answer is another
    TRUNCATE = "truncate"  # the answer lacks its second half
    WRONG_KEY = "wrong_key"  # the answer is what was last stored under another key
    WRONG_TYPE = "wrong_type"  # the answer is `value`
    LOST = "lost"  # the call takes effect, and fails with `error`
    LATE = "late"  # the call fails with `error`, and takes effect `seconds` later, over whatever was done since
    JUMP = "jump"  # the wall clock jumps by `seconds`; the call is well


@final
@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. Which fields count is said at its kind."""

    kind: FaultKind
    seconds: float = 0.0
    error: BaseException = BY_PLAN
    value: object = None

    @classmethod
    def raising(cls, error: BaseException) -> Fault:
        """The call fails with `error` itself."""
        return cls(FaultKind.RAISE, error=error)

    @classmethod
    def slow(cls, seconds: float) -> Fault:
        """The answer takes `seconds`."""
        return cls(FaultKind.SLOW, seconds)

    @classmethod
    def late(cls, seconds: float) -> Fault:
        """The call fails as timed out, and takes effect `seconds` later."""
        return cls(FaultKind.LATE, seconds, TimeoutError("by plan"))


@final
class FaultPlan:
    """Which call meets which fault. Without instructions all is well.

    What is scripted with `then` comes first, then what lasts (`during`), then chance (`seeded`).
    """

    __slots__ = ("_faults", "_lasting", "_random", "_rate", "_scripted")

    def __init__(self) -> None:
        self._scripted: defaultdict[str, deque[Fault | None]] = defaultdict(deque)
        self._lasting: dict[str, Fault] = {}
        self._random = random.Random(0)
        self._rate = 0.0
        self._faults: Sequence[Fault] = ()

    @classmethod
    def seeded(cls, seed: int, *, rate: float, faults: Sequence[Fault]) -> Self:
        """A plan that gives each call one of `faults` with a chance of `rate`: the same for the same seed."""
        plan = cls()
        plan._random = random.Random(seed)
        plan._rate, plan._faults = rate, faults
        return plan

    def then(self, operation: str, *faults: Fault | None) -> Self:
        """The next calls of `operation` meet these, one each; None is a call that is well."""
        self._scripted[operation].extend(faults)
        return self

    def during(self, fault: Fault, *operations: str) -> Self:
        """Every call of `operations` meets `fault` until `calm`; of all operations when none is named."""
        for operation in operations or ("get", "set", "delete"):
            self._lasting[operation] = fault
        return self

    def calm(self) -> Self:
        """Forget every instruction: from now on all is well."""
        self._scripted.clear()
        self._lasting.clear()
        self._rate = 0.0
        return self

    def draw(self, operation: str) -> Fault | None:
        """The fault for the call of `operation` that happens now."""
        if self._scripted[operation]:
            return self._scripted[operation].popleft()
        if operation in self._lasting:
            return self._lasting[operation]
        if self._rate and self._random.random() < self._rate:
            return self._random.choice(self._faults)
        return None
