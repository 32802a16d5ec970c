"""The decisions about a load: whether it starts, what its end is worth, and who may be given something stale."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, final

from ._degraded import Degraded
from ._freshness import Freshness
from ._guard import Guard
from ._local import ABSENT, Local
from ._origin import Origin
from ._request import Candidate, Draft, Failure, Request
from ._sealing import Sealing
from .conditional import NOT_MODIFIED
from .entry import Duration, make, parts, seconds
from .errors import LoadTimeout, MisuseError, NoSafeValue, NotFound
from .flights import AGAIN, Flight
from .outcome import Lookup, Reason, Source
from .policy import CachePolicy, float_of
from .ramp import Ramp

__all__ = ["Loads", "loaders_trace"]

FOREVER: Final = float("inf")
_LOADER: Final = Source.LOADER  # see `_rules.py`


@final
class Loads:
    """The loads of one cache."""

    __slots__ = (
        *("_age", "_guard", "_local", "_longest", "_monotonic", "_ramp", "_random", "_sealing"),
        *("degraded", "freshness", "origin"),
    )

    def __init__(
        self,
        policy: CachePolicy,
        guard: Guard,
        local: Local,
        sealing: Sealing,
        random: Callable[[], float],
        *,
        ramp: Ramp,
    ) -> None:
        self._guard = guard
        self._local = local
        self._monotonic = guard.monotonic
        self._sealing = sealing
        self._random = random
        self._longest = float_of(policy.max_ttl)
        self._age = float_of(policy.flight_age)
        self._ramp = ramp
        self.origin = Origin(policy, guard, local, random)
        self.degraded = Degraded(policy, guard, local, random)
        self.freshness = Freshness(local, guard, random, self.origin)

    def begin(self, request: Request, flight: Flight[Any]) -> Lookup[Any] | Failure | str | None:
        """None to start the load now; else what to land instead of it."""
        instead = self.instead(request, flight)
        if instead is None:
            return self.start(request, flight)
        self.origin.left(flight)
        return instead

    def instead(self, request: Request, flight: Flight[Any]) -> Lookup[Any] | Failure | str | None:
        """What to land instead of a load that is not to be made, whoever has a permit. None when it is."""
        if not request.gates.load:
            left = self.leftover(request)
            return left or Failure(NoSafeValue("nothing to serve, and this mode never loads"), None, left.source, None)
        if flight.detached:  # before it has begun
            return AGAIN
        flight.stand_in = request.stand_in
        found: Lookup[Any] | None = flight.found
        if found is not None and not found.stale:  # while the load queued: see `_hedging.py`
            return found
        if flight.forced or not (self._local.stand_ins.entries or self._local.failures.entries):
            return None
        return self.freshness.instead(request)

    def start(self, request: Request, flight: Flight[Any]) -> Failure | str | None:
        """The same, of a load that is to be made: it is counted from here on, unless the origin is to be spared."""
        shed = self.origin.admit(request, flight)
        if shed is not None:
            return shed
        local = self._local
        request.stamp = local.begin_load(flight)
        request.version = local.marks.namespace.version
        request.loading_since = self._monotonic()
        if not request.stamp:
            self.origin.left(flight)
            return AGAIN
        self._guard.reporter.count("loader_calls")
        return None

    def loaded(self, request: Request, flight: Flight[Any], given: Any) -> tuple[Lookup[Any] | Failure, Draft | None]:
        """What the loader gave, as the flight's outcome, and what to write for it, if anything."""
        self.origin.answered(request, flight)
        value, ttl, stale_for, tags = parts(given)
        if value is NOT_MODIFIED:
            if request.known is None:
                wrong = "loader must not answer NOT_MODIFIED: it was handed no entry; see `conditional`"
                return self.failed(request, flight, MisuseError(wrong)), None
            self._guard.reporter.count("not_modified")
            value, tags = request.known.value, tags or request.known.tags
        local, since, stamp, policy = self._local, request.loading_since, request.stamp, request.policy
        if request.screen is not None and not request.screen(value):
            return self._withhold(request, value), None
        if self._is_negative(policy, value):
            if request.gates.memory:
                local.keep_negative(request, value, since + float_of(policy.negative_ttl), flight)
            flight.ready = none = Lookup(value, Source.NEGATIVE, Reason.NEGATIVE, 0.0)
            return none, None
        took = self._monotonic() - since
        outcome: Lookup[Any] = make(Lookup, (value, _LOADER, request.reason, took, False))
        flight.ready = outcome
        windows = self.windows(policy, value, ttl, stale_for)
        if windows is None:
            return outcome, None
        fresh, stale = windows
        found: Candidate = make(Candidate, (value, since + fresh, since + fresh + stale, stamp, tags, stamp))
        early = self.freshness.took(policy, took)
        if request.gates.memory and not local.keep(request.key, found, flight, since=since, early=early):
            return outcome, None
        if local.spare.capacity:
            self.degraded.keep(request, found, flight)
        writes = (request.answered or flight.forced) and self.may_write(request)
        return outcome, Draft(value, fresh, stale, tags) if writes else None

    def may_write(self, request: Request) -> bool:
        """Whether the store is to be given a value for the key: its mode and the way back from an outage let it."""
        if not request.gates.write:
            return False
        if self._ramp.admits(request.key, self._monotonic()):
            return True
        self._guard.reporter.count("writes_held_back")
        return False

    def failed(self, request: Request, flight: Flight[Any], error: BaseException) -> Failure:
        """The loader raised `error`: the flight's outcome."""
        trace = loaders_trace(error)
        self.origin.failed(request, flight, error)
        if not isinstance(error, NotFound):
            failure = Failure(error, trace, Source.NONE, request.stand_in)
            self._rest(request, request.stand_in)  # before it lands, or who comes right after that loads at once
            self.freshness.failed(request, flight, failure)
            return failure
        if request.gates.memory:
            until = request.loading_since + float_of(request.policy.negative_ttl)
            self._local.keep_negative(request, ABSENT, until, flight)
        flight.ready = failure = Failure(error, trace, Source.NEGATIVE, None)
        return failure

    def settle(self, request: Request, outcome: Lookup[Any] | Failure) -> Lookup[Any] | Failure | str:
        """What this request makes of its flight's outcome: a stale entry may stand in for a failure.

        `AGAIN` when it has to ask again, for a load, because the hit that it was to share is none it accepts.
        """
        if request.screen is None and type(outcome) is Lookup:
            return outcome
        if self._turned_down(request, outcome):
            return AGAIN
        outcome = self._let_out(request, outcome)
        if isinstance(outcome, Lookup) or outcome.source is Source.NEGATIVE or not isinstance(outcome.error, Exception):
            return outcome
        for stand_in in (request.stand_in, outcome.stand_in):
            if stand_in is not None and self._rest(request, stand_in):
                return self._stale(request, stand_in)
        return AGAIN if outcome.again else outcome

    def shared(self, request: Request, outcome: Any) -> Any:
        """What the request makes of the outcome of another's load: what is stale is not for everybody."""
        if not isinstance(outcome, Lookup) or not outcome.stale or request.takes_stale or request.gates.serve_stale:
            return outcome  # pyright: ignore[reportUnknownVariableType]
        if self._local.resting(request, self._monotonic()) is None:  # else the last load has failed
            request.picky = True
            return AGAIN
        return outcome  # pyright: ignore[reportUnknownVariableType]

    def patience(self, request: Request, flight: Flight[Any]) -> float:
        """Seconds to wait for `flight`: until it counts as stuck, or until the caller's own patience ends."""
        now = self._monotonic()
        until = flight.since + self._age
        if request.policy.load_timeout is not None:
            until = min(until, self._patience_ends(request, flight))
        return until - now if until > now else 0.0

    def timed_out(self, request: Request, flight: Flight[Any]) -> Any:
        """The outcome for a caller whose patience with the load has ended, `AGAIN` while it has not."""
        if flight.ready is not None:  # and is only yet to be written, by a store that is slow
            return flight.ready
        if self._monotonic() < self._patience_ends(request, flight):
            return AGAIN
        late = LoadTimeout(f"the load took longer than load_timeout, {request.policy.load_timeout} s")
        return Failure(late, None, Source.NONE, flight.stand_in)

    def leftover(self, request: Request) -> Lookup[Any]:
        """The answer to a request without a loader when there is nothing fresh."""
        stand_in = request.stand_in
        if request.gates.serve_stale and stand_in is not None and self._local.may_serve(request.key, stand_in):
            if request.lets_out(stand_in.value):
                return self._stale(request, stand_in)
            request.reason = Reason.NOT_ACCEPTED
        return Lookup(None, Source.NONE, request.reason)

    def windows(
        self, policy: CachePolicy, value: object, ttl: Duration | None, stale_for: Duration | None
    ) -> tuple[float, float] | None:
        """Seconds fresh, jittered, and seconds stale after that; None when the policy's own function fails.

        `ttl` and `stale_for` are those that came with `value`, None for the policy's.
        """
        given: Any = policy.ttl if ttl is None else ttl
        if callable(given):
            try:
                given = seconds("ttl", given(value))
            except Exception:  # noqa: BLE001 - around the policy's function, as around a hook
                self._sealing.cannot_keep(value, "its ttl function failed")
                return None
        longest = self._longest  # the cache's own, whatever a call's policy says: see L10
        fresh = given if given < longest else longest
        stale: Any = policy.stale_for if stale_for is None else stale_for
        return fresh * (1.0 - policy.jitter * self._random()), stale if stale < longest else longest

    def _patience_ends(self, request: Request, flight: Flight[Any]) -> float:
        given = request.policy.load_timeout
        if given is None:
            return FOREVER
        asked = min(flight.reading, self._monotonic())  # many keys may take more than one store timeout
        return max(request.since + self._guard.timeout, asked) + float_of(given)

    def _rest(self, request: Request, stand_in: Candidate | None) -> bool:
        """Let `stand_in` answer for a while without the loader being asked, if it may; whether it does."""
        if stand_in is None or not request.allows_stale or not self._local.may_serve(request.key, stand_in):
            return False
        if not request.lets_out(stand_in.value):
            return False
        return request.renews > 0 or self._local.rest(
            request.key, stand_in, self._monotonic() + float_of(request.policy.stale_retry)
        )

    def _stale(self, request: Request, found: Candidate) -> Lookup[Any]:
        return Lookup(found.value, Source.STALE, request.reason, self._local.age(found.stamp), stale=True)

    def _withhold(self, request: Request, value: Any) -> Failure:
        """A load whose value was refused has failed, but for those aboard who accept it."""
        request.withheld = True
        self.freshness.put_off(request)
        source = Source.NEGATIVE if self._is_negative(request.policy, value) else Source.LOADER
        withheld = Lookup(value, source, request.reason, self._local.age(request.stamp))
        return Failure(_refusal(), None, Source.NONE, request.stand_in, withheld)

    def _turned_down(self, request: Request, outcome: Lookup[Any] | Failure) -> bool:
        if request.forced or not isinstance(outcome, Lookup) or outcome.source is not Source.STORE:
            return False
        if request.lets_out(outcome.value):
            return False
        request.force()
        request.turned_down = True
        return True

    def _let_out(self, request: Request, outcome: Lookup[Any] | Failure) -> Lookup[Any] | Failure:
        shared = outcome.withheld if isinstance(outcome, Failure) else outcome
        if shared is None:
            return outcome
        if request.lets_out(shared.value):
            return shared
        request.reason = Reason.NOT_ACCEPTED
        return outcome if isinstance(outcome, Failure) else Failure(_refusal(), None, Source.NONE, None)

    def _is_negative(self, policy: CachePolicy, value: object) -> bool:
        if policy.negative is None:
            return False
        try:
            word: object = policy.negative(value)
            if hasattr(word, "__await__"):  # it is true, and says nothing
                raise TypeError("negative must say at once")
            return bool(word)
        except Exception:  # noqa: BLE001 - around the policy's function, as around a hook
            self._sealing.cannot_keep(value, "its negative function failed")
            return False


def loaders_trace(error: BaseException) -> TracebackType | None:
    """The traceback of `error` from the loader on: our frames would keep it in a circle, and no caller needs them."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__package__") == __package__:
        trace = trace.tb_next
    error.__traceback__ = trace
    return trace


def _refusal() -> NoSafeValue:
    return NoSafeValue("accept refuses what there is, and nothing else may be given instead")
