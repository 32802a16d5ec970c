"""What goes wrong with a store, and when: a plan gives each call its fault.

A fault is what callers of real stores meet: errors, silence, other bytes than were written, an acknowledgement that is
lost, a write that lands after the delete that followed it.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import NoneType
from typing import Final, Self, final

from ..errors import FailureKind, StoreError
from ._given import all_of, is_a, one_of, seconds_of

__all__ = ["OPERATIONS", "Fault", "FaultKind", "FaultPlan", "operations_of"]

OPERATIONS: Final = ("get", "set", "delete")
OF_MANY: Final = tuple(f"{operation}_many" for operation in OPERATIONS)

BY_PLAN: Final = StoreError(FailureKind.UNAVAILABLE, "by plan")
LATE: Final = TimeoutError("by plan")


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
@dataclass(frozen=True, slots=True, repr=False)
class Fault:
    """One fault. Which fields count is said at its kind, which may be given by its name.

    Raises `ValueError` for another kind, for `seconds` without end (that is `HANG`), and below 0 unless the clock is to
    jump; `TypeError` for `seconds` that are no number and an `error` that is none, the class of one included.
    """

    kind: FaultKind
    seconds: float = 0.0
    error: BaseException = BY_PLAN
    value: object = None

    def __post_init__(self) -> None:
        """Check it: what it would raise inside an adapter, a cache takes for a failure of the store."""
        object.__setattr__(self, "kind", one_of("kind", self.kind, FaultKind))
        seconds_of(self.seconds, float("-inf") if self.kind is FaultKind.JUMP else 0.0)
        is_a("error", self.error, BaseException)

    def __repr__(self) -> str:
        """As it is written, shortest first."""
        if self == Fault.raising(self.error) and self.error is not BY_PLAN:
            return f"Fault.raising({self.error!r})"
        if self.kind is not FaultKind.JUMP and self in (Fault.slow(self.seconds), Fault.late(self.seconds)):
            return f"Fault.{self.kind.value}({self.seconds!r})"
        given = {"seconds": 0.0, "error": BY_PLAN, "value": None}
        others = (f", {name}={value!r}" for name in given if (value := getattr(self, name)) != given[name])
        return f"Fault(FaultKind.{self.kind.name}{''.join(others)})"

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
        return cls(FaultKind.LATE, seconds, LATE)


@final
class FaultPlan:
    """Which call meets which fault. Without instructions all is well.

    What is scripted with `then` comes first, then what lasts (`during`), then chance (`seeded`). Its `repr` is the code
    that makes what is still to come; of chance it tells how it began.
    """

    __slots__ = ("_faults", "_lasting", "_made", "_random", "_rate", "_scripted")

    def __init__(self) -> None:
        self._made = "FaultPlan()"
        self._scripted: defaultdict[str, deque[Fault | None]] = defaultdict(deque)
        self._lasting: dict[str, Fault] = {}
        self._random = random.Random(0)
        self._rate = 0.0
        self._faults: Sequence[Fault] = ()

    @classmethod
    def seeded(cls, seed: int, *, rate: float, faults: Sequence[Fault]) -> Self:
        """A plan that gives each call one of `faults` with a chance of `rate`: the same for the same seed.

        Raises `ValueError` unless `rate` is from 0 to 1, and for no faults; `TypeError` for a seed that is no int.
        """
        is_a("seed", seed, int)
        is_a("rate", rate, int, float)
        if not 0 <= rate <= 1:
            raise ValueError(f"rate must be from 0 to 1, not {rate!r}")
        plan = cls()
        plan._random = random.Random(seed)
        plan._rate, plan._faults = rate, all_of("faults", faults, Fault, least=1)
        plan._made = f"FaultPlan.seeded({seed!r}, rate={rate!r}, faults={list(plan._faults)!r})"
        return plan

    def then(self, operation: str, *faults: Fault | None) -> Self:
        """The next calls of `operation` meet these, one each; None is a call that is well.

        An operation is "get", "set", "delete", or "get_many" and so on. Raises `ValueError` for another.
        """
        for fault in faults:
            is_a("fault", fault, Fault, NoneType)
        self._scripted[operations_of([operation])[0]].extend(faults)
        return self

    def during(self, fault: Fault, *operations: str) -> Self:
        """Every call of `operations` meets `fault` until `calm`; of all operations when none is named.

        Raises `ValueError` for an operation that there is not.
        """
        is_a("fault", fault, Fault)
        for operation in operations_of(operations) or OPERATIONS:
            self._lasting[operation] = fault
        return self

    def calm(self) -> Self:
        """Forget every instruction: from now on all is well."""
        self._scripted.clear()
        self._lasting.clear()
        self._rate = 0.0
        self._made = "FaultPlan()"
        return self

    def draw(self, operation: str) -> Fault | None:
        """The fault for the call of `operation` that happens now; "get_many" meets what lasts for "get" as well."""
        if self._scripted[operation]:
            return self._scripted[operation].popleft()
        operation = operation if operation in self._lasting else operation.removesuffix("_many")
        if operation in self._lasting:
            return self._lasting[operation]
        if self._rate and self._random.random() < self._rate:
            return self._random.choice(self._faults)
        return None

    def __repr__(self) -> str:
        """The code that makes such a plan."""
        scripted = [
            f".then({name!r}, {', '.join(map(repr, faults))})" for name, faults in self._scripted.items() if faults
        ]
        lasting = [f".during({fault!r}, {name!r})" for name, fault in self._lasting.items()]
        return self._made + "".join(scripted + lasting)


def operations_of(operations: Iterable[str], *, least: int = 0) -> tuple[str, ...]:
    """`operations`, at least so many, each of which there is."""
    named = all_of("operations", operations, str, least=least)
    return tuple(one_of("operation", operation, OPERATIONS + OF_MANY) for operation in named)
