"""Histories: what callers do and what happens to the store, as values that a test plays.

    history = [Call("region", "shop"), Outage(Fault(FaultKind.HANG)), Advance(61.0), Call("region", "shop"), Heal()]
    for call, answer in play(history, {"region": router.region}, clock=clock, plan=plan):
        assert answer == truth[call.key]

`resilient_cache.testing.strategies.cache_histories` makes them at random.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from ._given import is_a, seconds_of
from .clock import ManualClock, ManualLoop
from .faults import Fault, FaultPlan, operations_of

__all__ = ["Advance", "Call", "Heal", "Outage", "Step", "aplay", "play"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """Somebody calls `name` with `key`."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Advance:
    """So many seconds pass. Raises `ValueError` for less than none and for no end of them."""

    seconds: float

    def __post_init__(self) -> None:
        """Check it."""
        seconds_of(self.seconds)


@dataclass(frozen=True, slots=True)
class Outage:
    """From now on every call to the store meets `fault`; of `operations` only, when some are named.

    Raises `ValueError` for an operation that there is not, `TypeError` for what is no fault, and for operations that
    are a lone name, or a set: a history is told in one order.
    """

    fault: Fault
    operations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check it."""
        is_a("fault", self.fault, Fault)
        object.__setattr__(self, "operations", operations_of(self.operations))


@dataclass(frozen=True, slots=True)
class Heal:
    """The store is well again: the plan forgets all its instructions."""


Step: TypeAlias = Call | Advance | Outage | Heal


def play(
    history: Iterable[Step], calls: Mapping[str, Callable[[str], T]], *, clock: ManualClock, plan: FaultPlan
) -> Iterator[tuple[Call, T]]:
    """Each call of `history` with its answer, as they are made; `calls` has a function of the key for each name.

    Time passes on `clock`, outages begin and end in `plan`. Raises what a call raises, `KeyError` for a name that
    `calls` does not have, and `TypeError` for what is no step.
    """
    for step in history:
        if isinstance(step, Call):
            yield step, calls[step.name](step.key)
        elif isinstance(step, Advance):
            clock.advance(step.seconds)
        else:
            _change(plan, step)


async def aplay(
    history: Iterable[Step], calls: Mapping[str, Callable[[str], Awaitable[T]]], *, plan: FaultPlan
) -> AsyncIterator[tuple[Call, T]]:
    """The same as `play` with calls that are awaited; for `run_virtual`, whose timers fire while time passes.

    Raises `RuntimeError` in a loop whose time is real.
    """
    if not isinstance(asyncio.get_running_loop(), ManualLoop):
        raise RuntimeError("aplay() lets time pass, and in this loop it is real: use run_virtual()")
    for step in history:
        if isinstance(step, Call):
            yield step, await calls[step.name](step.key)
        elif isinstance(step, Advance):
            await asyncio.sleep(step.seconds)
        else:
            _change(plan, step)


def _change(plan: FaultPlan, step: Outage | Heal) -> None:
    is_a("step", step, Call, Advance, Outage, Heal)
    if isinstance(step, Outage):
        plan.during(step.fault, *step.operations)
    else:
        plan.calm()
