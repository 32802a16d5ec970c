"""How several vendors are put together, and what one operation on them comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, final

from . import deadline
from ._build import NAME, build_guard
from ._colours import ForMarks
from ._debts import Debts
from ._guard import Answer
from ._local import Local
from ._reporting import Reporter
from ._switch import Switch
from ._vendors import Vendor
from .backoff import backoff
from .entry import Duration, seconds
from .errors import FailureKind, MisuseError, StoreError
from .events import Hook
from .journal import Journal
from .outcome import Direction, Mode
from .policy import BreakerPolicy, CachePolicy, float_of
from .protocols import Clock

__all__ = ["Lineup", "Trip", "line_up"]

FIRST_NAMES: Final = ("primary", "secondary")
STAND_IN: Final = 60.0
"""Seconds for which an entry in a stand-in lives, where nobody says otherwise."""


@final
class Trip:
    """One operation: how long it may take at each vendor, and what became of it there."""

    __slots__ = ("_gone", "_kinds", "_monotonic", "_until", "turns")

    def __init__(self, until: float, monotonic: Callable[[], float], gone: Callable[[], bool]) -> None:
        self._gone = gone
        self._until = until
        self._monotonic = monotonic
        self._kinds: list[object] = []
        self.turns = 1

    def share(self) -> float:
        """Until when the next vendor may take, so that as much is left for each one after it."""
        now = self._monotonic()
        share = (self._until - now) / max(1, self.turns)
        self.turns -= 1
        return now + share

    def done(self, answer: Answer) -> bool:
        """Whether the vendor answered."""
        if answer.failed is not None:
            self._kinds.append(answer.value)
        return answer.failed is None

    def failure(self) -> StoreError:
        """What to raise when no vendor could do it.

        A refusal by the circuits says nothing new to a circuit of the whole: that would hold back their probes. Only
        when all of them refuse everything is it not for the key's sake.
        """
        asked = [kind for kind in self._kinds if isinstance(kind, FailureKind)]
        if asked:
            return StoreError(asked[0], f"no vendor answered, the first failure was: {asked[0]}")
        if self._gone():
            return StoreError(FailureKind.NOT_ASKED, "no vendor may be asked now")
        return StoreError(FailureKind.PER_KEY, "no vendor may be asked for this key now")

    def pending(self, answers: Sequence[Answer]) -> StoreError | None:
        """What to raise for a delete, None when every vendor acknowledged. Not a failure of the whole if one did."""
        missing = [answer for answer in answers if not self.done(answer)]
        if not missing:
            return None
        if len(missing) == len(answers):
            return self.failure()
        return StoreError(FailureKind.PER_KEY, f"{len(missing)} of {len(answers)} vendors did not acknowledge")


@final
class Lineup:
    """The vendors in the order in which they are asked."""

    __slots__ = ("_monotonic", "_timeout", "closed", "vendors")

    def __init__(self, vendors: Sequence[Vendor], timeout: float, monotonic: Callable[[], float]) -> None:
        self.vendors = vendors
        self.closed = False
        self._timeout = timeout
        self._monotonic = monotonic

    def begin(self, *directions: Direction) -> Trip:
        """An operation that goes through these circuits of a vendor.

        It takes as long as its caller has, and no longer than each vendor's timeout once.
        """
        if self.closed:
            raise StoreError(FailureKind.UNAVAILABLE, "the failover is closed: make a new one")
        left, longest = deadline.remaining(), self._timeout * len(self.vendors)
        until = self._monotonic() + (longest if left is None else min(left, longest))
        return Trip(until, self._monotonic, lambda: not any(vendor.is_there(*directions) for vendor in self.vendors))

    def readers(self, key: str) -> list[Vendor]:
        """Who may be read for `key`, the first choice first."""
        return [vendor for vendor in self.vendors if vendor.may_be_read(key)]

    def writers(self, key: str) -> list[Vendor]:
        """Who may be given an entry of `key`, the first choice first."""
        for vendor in self.vendors:
            if vendor.is_unasked():
                vendor.owe(key)  # entries are no probes, deletes are
        return [vendor for vendor in self.vendors if vendor.may_be_written(key)]

    def claim(self, vendor: Vendor, key: str, ttl: float) -> None:
        """`vendor` is about to be given an entry of `key`: what others hold is outdated, before it has it."""
        vendor.hold(key, ttl)
        for other in self.vendors:
            if other is not vendor:
                other.outdated(key)

    def serves(self) -> bool:
        """Whether any vendor is asked for keys in general."""
        return any(vendor.serves() for vendor in self.vendors)

    def health(self) -> dict[str, object]:
        """Who serves now, and each vendor, as plain data."""
        serving = next((vendor.name for vendor in self.vendors if vendor.serves()), None)
        return {"serving": serving, "vendors": {vendor.name: vendor.health() for vendor in self.vendors}}

    def stats(self) -> dict[str, dict[str, int]]:
        """The counters of each vendor."""
        return {vendor.name: dict(vendor.reporter.counts) for vendor in self.vendors}


def line_up(
    adapters: Sequence[Any],
    *,
    check: Callable[[object], None],
    quickest: Callable[[Any], Any],
    marks_of: Callable[[Any, Any], ForMarks],
    names: Sequence[str] | None,
    timeout: Duration,
    stand_in_ttl: Duration | None,
    max_ttl: Duration,
    breaker: BreakerPolicy | None,
    hooks: Iterable[Hook],
    clock: Clock,
    random: Callable[[], float],
) -> Lineup:
    """The vendors of a failover. Raises `MisuseError` for an argument that can never be right."""
    if len(adapters) < len(FIRST_NAMES):
        raise MisuseError(f"vendors must be at least two adapters, not {len(adapters)}")
    for adapter in adapters:
        check(adapter)
    if any(one is other for place, one in enumerate(adapters) for other in adapters[:place]):
        raise MisuseError("vendors must be different adapters: one that fails cannot stand in for itself")
    longest = seconds("max_ttl", max_ttl, least=0.001)
    brief = min(STAND_IN, longest) if stand_in_ttl is None else stand_in_ttl
    life = seconds("stand_in_ttl", brief, least=0.001, most=longest)
    policy, told = CachePolicy(timeout=timeout), tuple(hooks)
    vendors: list[Vendor] = []
    for adapter, name in zip(adapters, _check_names(names, len(adapters)), strict=True):
        first = not vendors
        reporter = Reporter(name, told, clock.monotonic)
        guard = build_guard(policy=policy, breaker=breaker, reporter=reporter, clock=clock, random=random)
        pause = backoff(random)
        journal = Journal(guard.inflight_max, _after(guard.timeout, pause))
        local = Local(0, policy, clock, guard.lock, journal)
        vendors.append(
            Vendor(
                adapter,
                quickest(adapter),
                marks_of(adapter, quickest(adapter))[:2],
                guard,
                reporter=reporter,
                local=local,
                journal=journal,
                debts=Debts(journal, guard, local, reporter, Switch(Mode.ON, reporter, clock.monotonic)),
                life=longest if first else life,
                first=first,
            )
        )
    return Lineup(vendors, float_of(policy.timeout), clock.monotonic)


def _after(timeout: float, pause: Callable[[int], float]) -> Callable[[int], float]:
    return lambda tries: timeout + pause(tries)


def _check_names(names: Sequence[str] | None, count: int) -> Sequence[str]:
    if names is None:
        return (*FIRST_NAMES, *(f"vendor{number}" for number in range(3, count + 1)))
    told: list[object] = list(names)
    if len(told) != count or len(set(told)) != count:
        raise MisuseError(f"names must be {count} different names, one for each vendor, not {names!r}")
    for name in told:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise MisuseError(f"names must be 1 to 64 letters, digits or _ . - each, not {name!r}")
    return list(names)
