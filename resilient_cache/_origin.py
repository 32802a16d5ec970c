"""What keeps the origin alive: whether a load may start, and what the origin is believed to bear. Never waits.

A load starts when nobody has asked for a pause, the origin's circuit lets it, and it has a permit. It queues for the
permit only, and queues for none while either of the others would refuse it anyway.

A load that is asked for by the loader of another of this cache rides on that one's permit when there is none left: all
the loaders that have permits would otherwise wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, final

from ._guard import Guard
from ._local import Local
from ._request import Failure, Request
from .aimd import Adaptive
from .breaker import REJECTED, Breaker, Transition
from .bulkhead import Bulkhead
from .errors import Backpressure, MisuseError, NotFound, OriginOverloaded
from .events import CircuitChanged, Overloaded
from .flights import LEADING, Flight, Waiter
from .forking import protect
from .outcome import Direction, OnOverload, OverloadCause, OverloadVerdict, Source
from .policy import CachePolicy, float_of

__all__ = ["Origin"]

RIDES: Final = -1
ACCOMPANIES: Final = -2
NO_SAMPLE: Final = {0, ACCOMPANIES}
"""The permits of loads that say nothing of the origin: those that have ended, and those that another's call made."""

NEVER: Final = float("-inf")
LONGEST_PAUSE: Final = 300.0
"""Seconds. A header that says a day, by mistake, must not be an outage of a day."""

NOT_HEARD: Final = (Backpressure, OriginOverloaded, MisuseError)
"""What a loader raises that is no failure of the origin: a pause is its own remedy, a load was shed, a bug here."""


@final
class Origin:
    """The loads of one cache, as the origin sees them."""

    __slots__ = (
        "__weakref__",
        "_adaptive",
        "_age",
        "_bulkhead",
        "_local",
        "_monotonic",
        "_paused_until",
        "_reporter",
        "_watched",
        "circuit",
        "lock",
    )

    def __init__(self, policy: CachePolicy, guard: Guard, local: Local, random: Callable[[], float]) -> None:
        self.lock = guard.lock
        self._local = local
        self._monotonic = guard.monotonic
        self._reporter = guard.reporter
        self._age = float_of(policy.flight_age)
        self._adaptive = Adaptive(policy.max_loads) if policy.adaptive_loads else None
        limit = policy.max_loads if self._adaptive is None else self._adaptive.limit
        self._bulkhead = Bulkhead[Waiter](limit, self.lock)
        self._paused_until = NEVER
        self.circuit: Breaker | None = None
        if policy.origin is not None:
            lease = max(float_of(policy.origin.lease), self._age)  # a probe is a load, and may take as long as one
            self.circuit = Breaker(replace(policy.origin, lease=lease), random, self.lock)
        self._watched = self.circuit is not None or self._adaptive is not None
        protect(self)

    # A load begins

    def is_full(self, request: Request, flight: Flight[Any]) -> bool:
        """Whether the request must queue for a permit; it has one now if there was one."""
        if not request.gates.load:
            return False
        now = self._monotonic()
        flight.permit = self._bulkhead.acquire(now, flight.since + self._age)
        return not flight.permit and not self._rides(flight) and self._barred_for(now) == 0.0

    @property
    def crowded(self) -> bool:
        """Whether as many queue as may run: no load is to be added that its caller can do without."""
        return self._bulkhead.queued >= self._bulkhead.limit

    def join(self, request: Request, flight: Flight[Any], seat: Waiter) -> float:
        """Queue; the seconds to wait. Time that the flight, or the request, has queued before counts."""
        now = self._monotonic()
        since = request.queued if flight.queued is None else flight.queued
        if since is None:
            self._reporter.count("loads_queued")
            since = now
        request.queued = flight.queued = since
        until = since + min(float_of(request.policy.load_wait), self._age / 2)
        lease, first = flight.since + self._age, not self._may_be_stale(request)
        self._wake(self._bulkhead.join(seat, now, until=until, lease=lease, first=first))
        return max(0.0, until - now)

    def leave(self, seat: Waiter) -> None:
        """Who waited in `seat` was taken away."""
        self._release(self._bulkhead.leave(seat))

    def take(self, request: Request, flight: Flight[Any], seat: Waiter) -> None:
        """The wait is over; the request has a permit now if it got one, or if one has lapsed and nobody has looked."""
        flight.permit = self._bulkhead.leave(seat)
        if not flight.permit:
            now = self._monotonic()
            flight.permit = self._bulkhead.acquire(now, flight.since + self._age, queued=True)
            self._wake(self._bulkhead.grant(now))

    def admit(self, request: Request, flight: Flight[Any]) -> Failure | None:
        """None to start the load; else what to land instead of it."""
        if flight.permit != ACCOMPANIES and (self._paused_until is not NEVER or self.circuit is not None):
            barred = self._bar(request, flight)
            if barred is not None:
                return barred
        if not flight.permit:
            return self._overloaded(request, flight)
        flight.origin = self
        return None

    def hand_over(self, bearer: Flight[Any], other: Flight[Any]) -> None:
        """Let `other` have the permit that `bearer` has no use for."""
        if bearer is not other:
            other.permit, bearer.permit = bearer.permit, 0

    def accompany(self, flight: Flight[Any]) -> None:
        """Let `flight` be loaded by a call of the origin that has its permit and its place in the circuit already."""
        flight.permit = ACCOMPANIES

    def _bar(self, request: Request, flight: Flight[Any]) -> Failure | None:
        now = self._monotonic()
        left = self._paused_until - now
        if left > 0:
            return self._shed(request, flight, OverloadCause.PAUSE, left)
        if self.circuit is not None:
            flight.ticket = self.circuit.admit(now)
            if flight.ticket == REJECTED:
                return self._shed(request, flight, OverloadCause.CIRCUIT, self.circuit.retry_in(now))
        return None

    def _barred_for(self, now: float) -> float:
        """Seconds for which no load starts, as far as is known."""
        return max(0.0, self._paused_until - now, 0.0 if self.circuit is None else self.circuit.retry_in(now))

    def _overloaded(self, request: Request, flight: Flight[Any]) -> Failure | None:
        cause = OverloadCause.FULL
        if self._may_be_stale(request) or self._on_overload(request) is OnOverload.RAISE:
            return self._shed(request, flight, cause, 0.0)
        flight.permit = self._bulkhead.force(flight.since + self._age)
        flight.origin = self
        self._tell(request, cause, OverloadVerdict.PROCEED)
        return None

    def _shed(self, request: Request, flight: Flight[Any], cause: OverloadCause, retry_after: float) -> Failure:
        self.left(flight)
        stale = self._may_be_stale(request)
        self._tell(request, cause, OverloadVerdict.STALE if stale else OverloadVerdict.RAISE)
        text = {
            OverloadCause.FULL: f"{self._bulkhead.limit} loads are running already",
            OverloadCause.CIRCUIT: "the origin's circuit is open",
            OverloadCause.PAUSE: "the origin asked to be left alone",
        }[cause]
        error = OriginOverloaded(f"no load was started: {text}", retry_after)
        return Failure(error, None, Source.NONE, request.stand_in, again=stale and cause is OverloadCause.FULL)

    def _tell(self, request: Request, cause: OverloadCause, verdict: OverloadVerdict) -> None:
        waited = 0.0 if request.queued is None else self._monotonic() - request.queued
        self._reporter.count(f"overload_{cause}_{verdict}")
        self._reporter.tell(Overloaded(self._reporter.name, cause, verdict, waited))

    def _may_be_stale(self, request: Request) -> bool:
        found = request.stand_in
        return found is not None and request.allows_stale and self._local.may_serve(request.key, found)

    def _on_overload(self, request: Request) -> OnOverload:
        given = request.policy.on_overload
        try:
            return OnOverload(given(request.given) if callable(given) else given)
        except Exception:  # noqa: BLE001 - around the policy's function, as around a hook
            self._reporter.count("overload_errors")
            return OnOverload.PROCEED

    def _rides(self, flight: Flight[Any]) -> bool:
        if any(led is not flight and led.permit and led.origin is self for led in LEADING.get()):
            flight.permit = RIDES
        return flight.permit == RIDES

    # A load ends: exactly one of these, and one more is nothing

    def answered(self, request: Request, flight: Flight[Any]) -> None:
        """The loader gave something, or said that there is none."""
        if self._watched and flight.permit not in NO_SAMPLE:
            self._heard(request, flight)
        self._give_back(flight)

    def failed(self, request: Request, flight: Flight[Any], error: BaseException) -> None:
        """The loader raised `error`."""
        if flight.permit == ACCOMPANIES:
            self.left(flight)
            return
        if isinstance(error, NotFound):
            self.answered(request, flight)
            return
        if isinstance(error, Backpressure):
            self._pause(min(error.retry_after, LONGEST_PAUSE))
        elif self._watched and not isinstance(error, NOT_HEARD):
            if self.circuit is not None:
                self._changed(self.circuit.failure(flight.ticket, self._monotonic()))
                flight.ticket = 0
            if flight.permit not in NO_SAMPLE:
                self._took(request, failed=True)
        self.left(flight)

    def left(self, flight: Flight[Any]) -> None:
        """The load was taken away, or did not start: this says nothing about the origin."""
        if self.circuit is not None and flight.ticket:
            self.circuit.neutral(flight.ticket)
            flight.ticket = 0
        self._give_back(flight)

    def _heard(self, request: Request, flight: Flight[Any]) -> None:
        if self.circuit is not None:
            self._changed(self.circuit.success(flight.ticket, self._monotonic()))
            flight.ticket = 0
        self._took(request, failed=False)

    def _took(self, request: Request, *, failed: bool) -> None:
        if self._adaptive is not None:
            seconds = self._monotonic() - request.loading_since
            with self.lock:
                self._limit(self._adaptive.observe(seconds, self._bulkhead.running, failed=failed))

    def _pause(self, seconds: float) -> None:
        self._reporter.count("backpressure")
        with self.lock:
            self._paused_until = max(self._paused_until, self._monotonic() + seconds)
            if self._adaptive is not None:
                self._limit(self._adaptive.back_off())

    def _limit(self, limit: int) -> None:
        self._bulkhead.limit = limit  # whoever it lets in is let in by the release that follows

    def _give_back(self, flight: Flight[Any]) -> None:
        permit, flight.permit = flight.permit, 0
        self._release(permit)

    def _release(self, permit: int) -> None:
        if permit > 0 and self._bulkhead.release(permit):
            self._wake(self._bulkhead.grant(self._monotonic()))

    def _wake(self, woken: list[Waiter]) -> None:
        while woken:
            seat = woken.pop(0)
            if not seat.wake():  # its loop is gone: the next one
                self._bulkhead.release(self._bulkhead.leave(seat))
                woken += self._bulkhead.grant(self._monotonic())

    def _changed(self, change: Transition | None) -> None:
        if change is not None:
            self._reporter.count(f"circuit_{Direction.ORIGIN}_{change.after}")
            self._reporter.tell(CircuitChanged(self._reporter.name, Direction.ORIGIN, *change))

    # What it tells of itself

    def health(self) -> dict[str, object]:
        """What runs and what waits, as plain data."""
        now = self._monotonic()
        circuit = self.circuit
        return {
            "loads": self._bulkhead.running,
            "queued": self._bulkhead.queued,
            "limit": self._bulkhead.limit,
            "paused_for": max(0.0, self._paused_until - now),
            "circuit": circuit and {"state": str(circuit.state), "retry_in": circuit.retry_in(now)},
        }

    def forked(self) -> None:
        """Start over in a child process, where no load of the parent will ever end."""
        self._bulkhead.clear_locked()
