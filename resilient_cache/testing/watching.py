"""What a test of a service holds in its hands: a store to break, and a record of what its cache told."""

from __future__ import annotations

from typing import TypeVar, final, get_args

from ..events import CircuitChanged, CircuitState, Event, Served
from ._given import one_of
from .clock import ManualClock
from .faults import Fault, FaultKind, FaultPlan
from .stores import StoreCall, in_both_colours

__all__ = ["CacheFaults", "CacheRecorder"]

E = TypeVar("E", bound=Event)


@final
class CacheFaults:
    """One store in both colours, the plan by which it fails, and the clock that its time passes on."""

    __slots__ = ("async_store", "clock", "plan", "store")

    def __init__(self, clock: ManualClock, plan: FaultPlan | None = None) -> None:
        self.clock = clock
        self.plan = plan if plan is not None else FaultPlan()
        self.store, self.async_store = in_both_colours(clock, self.plan)

    @property
    def calls(self) -> list[StoreCall]:
        """What reached the store, in its order, in either colour."""
        return list(self.store.calls)

    def down(self, *operations: str) -> None:
        """From now on every call is refused; of `operations` only, when some are named."""
        self.plan.during(Fault.raising(ConnectionError("refused")), *operations)

    def hang(self, *operations: str) -> None:
        """From now on no call is answered; of `operations` only, when some are named."""
        self.plan.during(Fault(FaultKind.HANG), *operations)

    def heal(self) -> None:
        """From now on all is well; what is stored is still there."""
        self.plan.calm()


@final
class CacheRecorder:
    """A hook that keeps what it is told: give it to a cache as one of its `hooks`."""

    __slots__ = ("events",)

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event, /) -> None:
        """Keep `event`."""
        self.events.append(event)

    def of(self, kind: type[E], **fields: object) -> list[E]:
        """The events of `kind` so far whose `fields` are as given, in their order.

        Raises `ValueError` for a kind of event that there is not, `AttributeError` for a field that it does not have.
        """
        one_of("kind", kind, get_args(Event))
        for name in fields:
            getattr(kind, name)  # its slots are there before the first event is
        found = [event for event in self.events if isinstance(event, kind)]
        return [event for event in found if all(getattr(event, name) == value for name, value in fields.items())]

    def count(self, kind: type[Event], **fields: object) -> int:
        """How many there are of them."""
        return len(self.of(kind, **fields))

    def clear(self) -> None:
        """Forget what was told so far."""
        self.events.clear()

    def assert_none(self, kind: type[Event], **fields: object) -> None:
        """Raise `AssertionError`, with the events, when there was one of `kind` whose `fields` are as given."""
        found = self.of(kind, **fields)
        assert not found, f"there should have been none of these: {found}"

    def assert_no_circuit_opened(self) -> None:
        """Raise `AssertionError` when a circuit opened."""
        self.assert_none(CircuitChanged, after=CircuitState.OPEN)

    def assert_no_errors(self) -> None:
        """Raise `AssertionError` when a request ended in an error."""
        self.assert_none(Served, error=True)
