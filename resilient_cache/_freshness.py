"""The decisions that keep entries fresh: when one is loaded again behind its callers, and when it is not loaded at all.

Early refresh is XFetch (Vattani et al., VLDB 2015): whoever is served an entry loads it again if
`now - d * beta * ln(random) >= fresh_until`, d being the time that the last load took. The more an entry is asked for,
the earlier somebody draws that, and a key that is asked for often does not expire for its callers. A draw that is
earlier than SPAN * d * beta comes once in 3 000 requests; before that nobody draws, so that a hit costs what it did.

A load behind is a flight like any other, and who finds nothing joins it. It carries the entry that it is to replace,
which serves meanwhile also where there is no memory. It asks the store first: another process may have been earlier.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import Any, Final, final

from ._guard import Guard
from ._local import Local
from ._origin import Origin
from ._request import Candidate, Failure, Request
from .conditional import Conditional, Known
from .errors import MisuseError, OriginOverloaded
from .flights import Flight
from .memory import STAMP
from .outcome import Lookup, Reason, Source
from .policy import CachePolicy, float_of

__all__ = ["Freshness"]

FOREVER: Final = float("inf")
SPAN: Final = 8.0
LEAST: Final = 2.0**-53
"""The smallest step of a random number, in place of 0, which has no logarithm."""

FORGOTTEN: Final = (MisuseError, OriginOverloaded)
"""What a loader raises that is no answer of the origin: not remembered, whatever `error_ttl` is."""


@final
class Freshness:
    """The freshness of one cache's entries."""

    __slots__ = ("_guard", "_local", "_origin", "_random", "_took")

    def __init__(self, local: Local, guard: Guard, random: Callable[[], float], origin: Origin) -> None:
        self._guard = guard
        self._origin = origin
        self._local = local
        self._random = random
        self._took = 0.0  # seconds of the last load, whatever its key

    def took(self, policy: CachePolicy, took: float) -> float:
        """A load has ended after so many seconds; what `early` is for the entry that it gave."""
        self._took = took
        return SPAN * policy.beta * took if policy.early_refresh else 0.0

    def early(self, policy: CachePolicy) -> float:
        """Seconds before the end of its freshness from which on an entry may be loaded again, 0.0 for never."""
        return SPAN * policy.beta * self._took if policy.early_refresh else 0.0

    # What is served, and loaded again

    def consider(self, request: Request) -> None:
        """Let `request.due` be what the request is to have loaded again, or None."""
        due = request.due
        assert due is not None
        if not (request.loads and request.gates.load):
            request.due = None
            return
        now = self._guard.monotonic()
        if now < due.fresh_until and request.early < FOREVER:
            ahead = request.early / SPAN * -log(max(self._random(), LEAST))
            if not request.policy.early_refresh or now + ahead < due.fresh_until:
                request.due = None

    def is_to_go(self, request: Request, found: Candidate) -> bool:
        """Whether a fresh entry of the store is the one that `request` loads again; else it is served."""
        if found.stamp <= request.renews:
            request.reason = Reason.EXPIRED
            return True
        if request.loads and request.policy.early_refresh and not request.renews:
            request.due, request.early = found, self.early(request.policy)
        return False

    def at_once(self, request: Request, found: Candidate, now: float) -> Lookup[Any] | None:
        """An entry of the store that is past its ttl, for who takes it at once; it is kept, so that others may too."""
        if request.renews or not self._local.serves_at_once(request, found, now):
            return None
        self._local.keep(request.key, found, since=request.since)
        request.due = found
        return Lookup(found.value, Source.STALE, request.reason, self._local.age(found.stamp), stale=True)

    def depart(self, request: Request) -> tuple[Request, Flight[Any]] | None:
        """The load that `request` is to have run behind: itself a request, and its flight. None for none.

        Nor while loads queue as it is: an origin that hangs would have a thread wait for it behind every stale key.
        """
        due, policy, now = request.due, request.policy, self._guard.monotonic()
        assert due is not None
        if self._origin.crowded:
            return None
        flight = self._local.depart(request, due, now, float_of(policy.stale_retry))
        if flight is None:
            return None
        renewal = Request(request.key, policy, request.mode, request.gates, since=now, until=FOREVER)
        renewal.given, renewal.loads, renewal.renews = request.given, True, due.stamp
        renewal.reason, renewal.screen = Reason.EXPIRED, request.screen
        renewal.offer(due)
        self._guard.reporter.count("refreshes_behind")
        return renewal, flight

    def inline(self, request: Request, found: Lookup[Any] | Failure) -> bool:
        """Nothing can run behind: whether `request` is to wait for the load itself, which only what is stale needs."""
        request.inline = found.source is Source.STALE
        return request.inline

    # Loads that are not made, and those that are

    def instead(self, request: Request) -> Lookup[Any] | Failure | None:
        """What to land instead of a load: what stands in since the last one failed, or the error of that one."""
        if not request.gates.memory:
            return None
        now, local = self._guard.monotonic(), self._local
        resting = None if request.renews else local.resting(request, now)
        if resting is not None and request.lets_out(resting[0]):
            return Lookup(resting[0], Source.STALE, request.reason, local.age(resting[STAMP]), stale=True)
        failure: Failure | None = local.failure(request.key, now)
        return None if failure is None else failure._replace(stand_in=request.stand_in)

    def failed(self, request: Request, flight: Flight[Any], failure: Failure) -> None:
        """A load failed: it is not tried again at once, and its error is remembered if the policy says so."""
        self.put_off(request)
        policy, now, error = request.policy, self._guard.monotonic(), failure.error
        if policy.error_ttl is None or not request.gates.memory:
            return
        if isinstance(error, Exception) and not isinstance(error, FORGOTTEN):
            remembered = failure._replace(stand_in=None)
            self._local.keep_failure(request, remembered, now + float_of(policy.error_ttl), flight)

    def put_off(self, request: Request) -> None:
        """If `request` is for a load behind, it has failed: another is not begun at once."""
        if request.renews:
            self._guard.reporter.count("refresh_errors")
            until = self._guard.monotonic() + float_of(request.policy.stale_retry)
            self._local.pause(request.key, request.renews, until)

    def armed(self, request: Request, loader: Any) -> Any:
        """`loader`; a conditional one with the entry that it is handed."""
        if not isinstance(loader, Conditional):
            return loader
        known = request.stand_in
        if known is not None and not self._local.admits(request.key, known):  # invalidated since it was found
            known = None
        request.known = known
        return loader.knowing(None if known is None else Known(known.value, self._local.age(known.stamp)))
