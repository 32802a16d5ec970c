"""One store, guarded: whether to call it, and what to make of how the call ended. No I/O and no waiting.

Layers, from the store outwards: deadline, then circuit, then swallow. The waiting twins run the call and its deadline;
`admit` and the endings are the circuit; what they give back instead of an exception is the swallowing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from threading import RLock
from typing import Final, NamedTuple, final

from . import locks
from ._partition import Pair, Partition
from ._reporting import Reporter
from .breaker import REJECTED, UP, Breaker, Transition
from .entry import make
from .errors import FailureKind, StoreError
from .events import CircuitChanged, CircuitState, StoreCalled
from .forking import protect
from .leases import Leases
from .outcome import Direction, Operation, Reason
from .policy import BreakerPolicy, float_of

__all__ = ["DIRECTIONS", "NOT_ASKED", "Answer", "Call", "Guard"]

LEAST_TIME: Final = 0.001
"""With less left of the caller's deadline the store is not asked at all: a loopback round trip takes 0.1 ms."""

NEXT_PROBE: Final = 0.1
"""Seconds after a probe was told `NOT_ASKED` until the next: those behind need it as a probe, but each is a thread."""

NOT_HEARD: Final = {
    Direction.READ: {FailureKind.PER_KEY, FailureKind.READ_ONLY},
    Direction.WRITE: {FailureKind.PER_KEY},
}
"""The kinds of failure that say nothing about the store as a whole in that direction."""

DIRECTIONS: Final = {
    Operation.GET: Direction.READ,
    Operation.SET: Direction.WRITE,
    Operation.DELETE: Direction.WRITE,
}
"""Which circuit hears of an operation."""

COUNTED: Final = {operation: f"store_{operation}" for operation in Operation}


class Answer(NamedTuple):
    """How a store call ended: `failed` is None when the store answered, and then `value` is what it said.

    Otherwise `value` is the `FailureKind`, or None when no call was made.
    """

    failed: Reason | None
    value: object = None


_NO_TIME: Final = Reason.NO_TIME  # see `_rules.py`
_OPEN: Final = Reason.OPEN
_BUSY: Final = Reason.BUSY
NOT_ASKED: Final = {reason: Answer(reason) for reason in (_NO_TIME, _OPEN, _BUSY)}


class Call(NamedTuple):
    """An admitted call: what must come back to the guard exactly once, by one of the three endings."""

    operation: Operation
    ticket: int
    lease: int
    began: float
    until: float
    short: bool  # its caller gave it less than the timeout: that it ran out of time says nothing about the store
    pair: Pair  # the circuits around what it goes to
    circuit: Breaker  # the one of them that hears of it


@final
class Guard:
    """The circuits, permits and clocks around one store.

    `shard`: names the part of the store that a key lives on; each part has circuits of its own then.
    """

    __slots__ = (
        "__weakref__",
        "_leases",
        "_partition",
        "_timed",
        "inflight_max",
        "lock",
        "monotonic",
        "on_fork",
        "on_recovery",
        "pair",
        "reporter",
        "timeout",
    )

    def __init__(
        self,
        *,
        timeout: float,
        inflight_max: float,
        breaker: BreakerPolicy,
        max_calls: int,
        reporter: Reporter,
        monotonic: Callable[[], float],
        random: Callable[[], float],
        shard: Callable[[str], object] | None = None,
    ) -> None:
        self.lock = locks.make_rlock()
        self.timeout = timeout
        self.inflight_max = inflight_max  # after which a call that never ended is given up, its permit and its task
        self.monotonic = monotonic
        self.reporter = reporter
        leased = replace(breaker, lease=max(float_of(breaker.lease), 4 * timeout))
        untimed = replace(leased, slow_after=None, lost_time=None)  # a slow delete is worth its wait: (ag)
        policies = {Direction.READ: leased, Direction.WRITE: untimed}
        make = partial(make_breaker, policies, random, self.lock, self._recovered)
        self._timed = breaker.slow_after is not None
        self.pair = Pair(make)
        self._partition = Partition(shard, self.pair, make, reporter, self.lock) if shard is not None else None
        self._leases = Leases(max_calls, max(inflight_max, 4 * timeout), self.lock)
        self.on_fork: Callable[[], None] | None = None
        self.on_recovery: Callable[[], None] | None = None  # called when a circuit has closed again
        protect(self)

    @property
    def circuits(self) -> dict[Direction, Breaker]:
        """Those of a store without shards, and of what belongs to none."""
        return self.pair.circuits

    @property
    def shards(self) -> dict[str, Pair]:
        """The circuits of each shard that a call has gone to, as of now."""
        return self._partition.pairs.copy() if self._partition is not None else {}

    def admit(self, operation: Operation, until: float, key: str) -> Call | Reason:
        """A call to make, a probe if its ticket is negative, or why not to make one; `until` is its caller's deadline.

        Never waits.
        """
        now = self.monotonic()
        time_left = until - now
        if time_left <= LEAST_TIME:
            return _NO_TIME
        timeout = self.timeout
        pair = self.pair if self._partition is None else self._partition.pair(key, now)
        circuit = pair.circuits[DIRECTIONS[operation]]
        ticket = circuit.admit(now)
        if ticket == REJECTED:
            return _OPEN
        lease = self._leases.acquire(now)
        if not lease:
            circuit.neutral(ticket)
            return _BUSY
        if ticket < 0:  # a probe runs behind, and its verdict counts for everyone
            time_left = timeout
        if time_left >= timeout:
            call: Call = make(Call, (operation, ticket, lease, now, now + timeout, False, pair, circuit))
            return call
        return Call(operation, ticket, lease, now, until, time_left < 0.9 * timeout, pair, circuit)

    def is_down(self, key: str) -> bool:
        """Whether the circuit for reads of `key` is not closed, or those behind are not, as of its last call."""
        pair = self.pair if self._partition is None else self._partition.pair(key, self.monotonic())
        return pair.shut or pair.circuits[Direction.READ].state not in UP

    def restarted(self, call: Call) -> Call:
        """The same call, whose time runs from now: it was to run behind, and that may have taken a while."""
        now = self.monotonic()
        return call._replace(began=now, until=now + self.timeout)

    def answered(self, call: Call, value: object, now: float) -> Answer:
        """The store answered, in time."""
        operation, ticket, lease, began, _, _, pair, circuit = call
        self._leases.release(lease)
        if pair.shut and operation is Operation.GET:
            pair.shut = False
            if circuit.state in UP:  # else it has recovered when the circuit closes
                self._recovered()
        change = circuit.answered(ticket, now, now - began) if self._timed else circuit.success(ticket, now)
        if change is not None:
            self._changed(call, change)
        self.reporter.count(COUNTED[operation])
        if self.reporter.hooks:
            self.reporter.tell(StoreCalled(self.reporter.name, operation, now - began))
        answer: Answer = make(Answer, (None, value))
        return answer

    def failed(self, call: Call, error: Exception, *, running: bool = False) -> Answer:
        """The store failed; `running` says that the work goes on without us, and keeps its permit."""
        now = self.monotonic()
        if not running:
            self._leases.release(call.lease)
        kind = kind_of(error)
        if kind is FailureKind.NOT_ASKED:
            call.pair.shut |= call.operation is Operation.GET
            call.circuit.neutral(call.ticket, now + NEXT_PROBE)
        elif kind in NOT_HEARD[DIRECTIONS[call.operation]] or (call.short and kind is FailureKind.TIMEOUT):
            call.circuit.neutral(call.ticket)
        else:
            self._changed(call, call.circuit.failure(call.ticket, now, now - call.began))
        self.reporter.count(COUNTED[call.operation])
        self.reporter.count(f"store_{call.operation}_{kind}")
        if self.reporter.hooks:
            self.reporter.tell(StoreCalled(self.reporter.name, call.operation, now - call.began, kind))
        return Answer(Reason.TIMEOUT if kind is FailureKind.TIMEOUT else Reason.ERROR, kind)

    def ended(self, call: Call) -> None:
        """The caller was taken away, or left before the work did: this says nothing about the store."""
        call.circuit.neutral(call.ticket)
        self._leases.release(call.lease)

    def overdue(self, call: Call) -> None:
        """Work whose caller has left is still running when the whole timeout is over: the store is silent."""
        now = self.monotonic()
        self._changed(call, call.circuit.failure(call.ticket, now, now - call.began))

    def in_flight(self) -> int:
        """Store calls that hold a permit."""
        return len(self._leases)

    def health(self) -> dict[str, object]:
        """The circuits as plain data; those of each shard under "shards", where the store has them."""
        now = self.monotonic()
        circuits = self.pair.health(now)
        if self._partition is not None:
            circuits["shards"] = {name: pair.health(now) for name, pair in self.shards.items()}
        return circuits

    def forked(self) -> None:
        """Start over in a child process, where no call of the parent will ever end."""
        self._leases.clear_locked()
        if self.on_fork is not None:
            self.on_fork()

    def _recovered(self) -> None:
        if self.on_recovery is not None:
            self.on_recovery()

    def _changed(self, call: Call, change: Transition | None) -> None:
        if change is not None:
            pair, direction = call.pair, DIRECTIONS[call.operation]
            self.reporter.count(f"circuit_{direction}_{change.after}")
            if change.after is CircuitState.OPEN:
                for waiter in tuple(pair.waiting[direction]):
                    waiter.wake()
            if change.after is CircuitState.CLOSED:
                self._recovered()
            self.reporter.tell(CircuitChanged(self.reporter.name, direction, *change, shard=pair.shard))


def make_breaker(
    policies: Mapping[Direction, BreakerPolicy],
    random: Callable[[], float],
    lock: RLock,
    on_close: Callable[[], object],
    direction: Direction,
) -> Breaker:
    """The circuit of a store, or of a shard of it, in one direction."""
    return Breaker(policies[direction], random, lock, on_close)


def kind_of(error: Exception) -> FailureKind:
    """What kind of failure an adapter's exception is."""
    family = type(error)  # not isinstance: that asks the error, and it may be anything
    if issubclass(family, StoreError):
        kind: object = getattr(error, "kind", None)  # a subclass may have left it out, or put in anything
        return kind if isinstance(kind, FailureKind) else FailureKind.UNKNOWN
    if issubclass(family, TimeoutError):
        return FailureKind.TIMEOUT
    return FailureKind.CONNECTION if issubclass(family, OSError) else FailureKind.UNKNOWN
