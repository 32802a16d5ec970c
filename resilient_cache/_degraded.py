"""Degraded memory: a cache that keeps nothing in memory does so for a while when its store cannot be read.

Or the whole load would go to the origin for as long as the store is gone. What is loaded or set while the circuit for
reads of that key is not closed, or none of those behind it lets anything be asked, is kept: 10 000 entries of at most
`degraded_ttl`, each end at its own random moment.

It is looked at only after the store was to be asked and was not, or did not answer: so requests go on to be the probes
that close the circuit, and a cache whose store is well never looks here. All is forgotten when a circuit has closed
again. What other processes invalidate is not heard meanwhile, without a backplane: the short life bounds it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from ._guard import Guard
from ._local import Local
from ._request import Candidate, Request, candidate_of
from .flights import Flight
from .memory import STAMP
from .outcome import Lookup, Reason, Source
from .policy import CachePolicy, float_of

__all__ = ["Degraded"]


@final
class Degraded:
    """The degraded memory of one cache; the entries are in `Local.spare`, under the same fences as all others."""

    __slots__ = ("_guard", "_local", "_prefix", "_random", "_ttl")

    def __init__(self, policy: CachePolicy, guard: Guard, local: Local, random: Callable[[], float]) -> None:
        self._guard = guard
        self._local = local
        self._random = random
        self._prefix = f"{guard.reporter.name}:"
        self._ttl = float_of(policy.degraded_ttl)

    def keep(self, request: Request, found: Candidate, flight: Flight[Any] | None = None) -> None:
        """Remember `found` if the store is not there to do it."""
        if (
            not self._local.spare.capacity
            or not request.gates.read
            or not self._guard.is_down(self._prefix + request.key)
        ):
            return
        short = self._guard.monotonic() + self._ttl * (1.0 - request.policy.jitter * self._random())
        since = request.since if flight is None else request.loading_since
        self._local.keep_spare(request.key, found, min(found.fresh_until, short), flight, since)

    def find(self, request: Request) -> Lookup[Any] | None:
        """What is remembered for a request that the store has not answered; past its time it may yet stand in."""
        local, key = self._local, request.key
        taken = local.stamps.latest  # before the entry: see `Many.learn`
        entry = local.spare.get(key) if local.spare.entries else None
        if entry is None or not self._guard.is_down(self._prefix + key):
            return None
        if not request.lets_out(entry[0]):
            local.forget(key, entry[STAMP])
            request.reason = Reason.NOT_ACCEPTED
            return None
        if self._guard.monotonic() < entry[1] and entry[STAMP] > request.renews:
            return Lookup(entry[0], Source.MEMORY, Reason.HIT, local.age(entry[STAMP]))
        request.offer(candidate_of(entry, taken))
        return None
