"""The decisions: the one place where policy, entries, fences, flights and events meet.

Both flows call these in the same order and only wait in between; nothing here waits, calls a store or runs a loader.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

from ._debts import Debts
from ._guard import Answer, Guard
from ._loads import Loads
from ._local import ABSENT, DROPPED, Local
from ._marking import Marking
from ._plane import Plane
from ._reporting import Reporter
from ._request import GATES, Candidate, Draft, Failure, Request
from ._screening import Screening
from ._sealing import UNMARKED, Sealing
from ._switch import Switch
from ._switching import Switching
from .backoff import backoff
from .entry import LONGEST, MICROS, check_tag, make, parts, seconds, text
from .errors import MisuseError, NotFound
from .events import EntryRefused, Invalidated, Served
from .marks import NAMESPACE, tag_mark
from .outcome import AfterOutage, Invalidation, Lookup, Mode, Reason, Source
from .policy import CachePolicy, float_of
from .protocols import Codec
from .ramp import Ramp

__all__ = ["Rules"]

FOREVER: Final = float("inf")

# Bound here: each time that one is looked up in its class takes 70 ns on Python 3.11, of the 15 us of a store's hit.
_ABSENT: Final = Reason.ABSENT
_HIT: Final = Reason.HIT
_NOT_ACCEPTED: Final = Reason.NOT_ACCEPTED
_STORE: Final = Source.STORE

UNKNOWN: Final = {Reason.TIMEOUT, Reason.ERROR}
"""A write that ended so may have reached the store, or may yet."""

COUNTED: Final = {
    Source.MEMORY: "hits_memory",
    Source.STORE: "hits_store",
    Source.STALE: "stale",
    Source.NEGATIVE: "negative",
    Source.LOADER: "loads",
    Source.NONE: "misses",
}


@final
class Rules(Switching):
    """The decisions of one cache, over the state that its parts keep."""

    __slots__ = (
        "debts",
        "has_store",
        "hooks",
        "loads",
        "marking",
        "marks",
        "memory_hits",
        "name",
        "pause",
        "plane",
        "policy",
        "sealing",
    )

    def __init__(
        self,
        *,
        policy: CachePolicy,
        codec: Codec[Any],
        random: Callable[[], float],
        reporter: Reporter,
        switch: Switch,
        guard: Guard,
        local: Local,
        debts: Debts,
        ramp: Ramp,
        plane: Plane | None = None,
        has_store: bool,
    ) -> None:
        self.name = reporter.name
        self.policy = policy
        self.reporter = reporter
        self.switch = switch
        self._seen = switch.known
        self.ramp = ramp
        self.guard = guard
        self.local = local
        self.debts = debts
        self.plane = plane
        self.monotonic = guard.monotonic
        self.hooks = reporter.hooks
        self.memory_hits = 0
        self.marks = local.memory.marks
        self._gates = GATES if has_store else {m: g._replace(read=False, write=False) for m, g in GATES.items()}
        self.has_store = has_store
        self.pause = backoff(random)
        self.screening = Screening(policy, reporter, local)
        self.sealing = Sealing(codec, policy, reporter, local, has_store=has_store)
        self.marking = Marking(reporter.name, policy, local, guard.timeout)
        self.loads = Loads(policy, guard, local, self.sealing, random, ramp=ramp)
        self.aim()

    # A request begins and ends

    def begin(
        self,
        key: object,
        policy: object = None,
        deadline: object = None,
        *,
        loads: bool = False,
        forced: bool = False,
    ) -> Request:
        """A request for `key`. Raises `MisuseError` for what can never be right, before anything is touched."""
        mode = self._steady
        if mode is None:
            self.check_open()
        checked = key if type(key) is str and key.isascii() else text("key", key)
        if policy is not None and not isinstance(policy, CachePolicy):
            raise MisuseError(f"policy must be a CachePolicy or None, not {type(policy).__name__}")
        now = self.monotonic()
        until = FOREVER if deadline is None else now + _patience(deadline)
        if mode is None:
            mode = self.mode()
        if not loads:  # nothing comes after the store, so its timeout is for all that is done with it
            until = min(until, now + self.guard.timeout)
        request = Request(checked, policy or self.policy, mode, self._gates[mode], now, until)
        request.given = key
        request.loads = loads
        if policy is not None or self.screening.own is not None:
            self.screening.attend(request)
        if forced:
            request.force()
        return request

    def check_open(self) -> None:
        """Raises `MisuseError` when the cache is closed."""
        if self.switch.closed:
            raise MisuseError(f"cache {self.name!r} is closed: make a new one")

    def recall(self, request: Request) -> Lookup[Any] | Failure | None:
        """What this process can answer by itself."""
        recalled = self.local.recall(request) if request.gates.memory and not request.forced else None
        if request.screen is not None:
            recalled = self.screening.recalled(request, recalled)
        if request.due is not None:
            self.loads.freshness.consider(request)
        if recalled is None:
            if request.gates.memory and request.reason is not _NOT_ACCEPTED:
                request.reason = _ABSENT if request.stand_in is None else Reason.EXPIRED
            return None
        source, value = recalled
        if source is Source.NEGATIVE:
            if value is ABSENT and request.loads:
                return Failure(NotFound(request.key), None, source, None)
            return Lookup(None if value is ABSENT else value, source, Reason.NEGATIVE, self.local.age(request.stamp))
        stale = source is Source.STALE
        return Lookup(value, source, Reason.EXPIRED if stale else Reason.HIT, self.local.age(request.stamp), stale)

    def finish(self, result: Lookup[Any] | Failure, reason: Reason) -> Lookup[Any]:
        """Count and report how a request ended; the answer, or the loader's error raised as it is."""
        source = result.source
        failed = isinstance(result, Failure) and source is Source.NONE
        self.reporter.count("errors" if failed else COUNTED[source])
        if self.hooks:
            shown = result.reason if isinstance(result, Lookup) else reason
            self.reporter.tell(Served(self.name, source, shown, failed))
        if isinstance(result, Failure):
            try:
                result.error.__traceback__ = result.trace
                raise result.error
            finally:
                del result  # or the error would hold this frame and this frame the error, until a collection
        return result

    def within(self, request: Request, since: float) -> float:
        """Until when all may take that is to be done in one store timeout, from `since` on."""
        return min(request.until, since + self.guard.timeout)

    # What the store said

    def judge(self, request: Request, answer: Answer) -> Lookup[Any] | None:
        """The entry that the store gave, when it may be served as it is; else None, and `request` knows why."""
        failed, value = answer
        if failed is not None:
            request.reason = failed
            return self.loads.degraded.find(request)
        request.answered = True
        if value is None:
            request.reason = Reason.ABSENT
            return None
        now = self.monotonic()
        found = self.sealing.open(request, value, now)
        if not isinstance(found, Candidate):
            request.reason = found
            if found is Reason.UNMARKED:  # nothing is known against it
                return None
            request.refused = True
            self.reporter.count(f"refused_{found}")
            self.reporter.tell(EntryRefused(self.name, found))
            return None
        if request.screen is not None and not request.screen(found.value):
            request.reason, request.refused = Reason.NOT_ACCEPTED, True
            return None
        return self._serve(request, found, now)

    def _serve(self, request: Request, found: Candidate, now: float) -> Lookup[Any] | None:
        if found.stamp <= self.local.outage:
            self._from_before(request, found)
            return None
        freshness, eager = self.loads.freshness, request.policy.early_refresh
        if now < found.fresh_until and not ((eager or request.renews) and freshness.is_to_go(request, found)):
            early = freshness.early(request.policy) if eager else 0.0
            self.local.keep(request.key, found, since=request.since, early=early)  # who reads it has memory
            if request.due is not None:
                freshness.consider(request)
            request.offer(found)
            age = (found.taken - found.stamp) / MICROS
            hit: Lookup[Any] = make(Lookup, (found.value, _STORE, _HIT, age, False))
            return hit
        request.reason = Reason.UNMARKED if found.fresh_until == UNMARKED else Reason.EXPIRED
        if now < found.stale_until:
            request.offer(found)
            return freshness.at_once(request, found, now)
        return None

    def is_clean(self, key: str, answer: Answer, stamp: int) -> bool:
        """Whether `answer` says that the store has nothing for `key`, or an entry stamped later than `stamp`."""
        if answer.failed is not None or answer.value is None:
            return answer.failed is None
        now = self.monotonic()
        request = Request(key, self.policy, Mode.ON, GATES[Mode.ON], since=now, until=now)
        request.lenient = True  # marks that would have to be asked for say nothing of when it was loaded
        found = self.sealing.open(request, answer.value, now)
        return isinstance(found, Candidate) and found.stamp > stamp

    def _from_before(self, request: Request, found: Candidate) -> None:
        request.reason = Reason.OUTAGE
        if self.policy.after_outage is AfterOutage.DISCARD:
            request.refused = True
        else:
            request.offer(found)

    # Setting and invalidating

    def place(self, request: Request, value: object, ttl: object) -> Draft | None:
        """Put `value` in place of whatever there is in this process; what to write, if anything.

        One that is not accepted only ends what there is: the request is `withheld` then. Raises `MisuseError` for an
        illegal ttl.
        """
        given, its_ttl, its_stale_for, tags = parts(value)
        if ttl is not None:
            its_ttl = seconds("ttl", ttl, most=float_of(self.policy.max_ttl))
        if not request.lets_out(given):
            request.stamp, request.withheld = self.local.invalidate(request.key), True
            return None
        fresh, stale_for = self.loads.windows(request.policy, given, its_ttl, its_stale_for) or (0.0, 0.0)
        stamp, until = self.local.stamps.next(), request.since + fresh
        request.stamp = stamp
        found = Candidate(given, until, until + stale_for, stamp, tags, stamp)
        self.local.replace(request.key, found, self.loads.freshness.early(request.policy))
        self.loads.degraded.keep(request, found)
        return Draft(given, fresh, stale_for, tags, placed=True) if self.loads.may_write(request) else None

    def written(self, request: Request, answer: Answer | None) -> bool:
        """Whether the store holds the value now. If not and it was to replace another, that one is fenced."""
        if request.withheld:
            return False
        if answer is not None and answer.failed is None:
            self.local.confirm(request.key, request.stamp)
            if request.forced:
                self.local.tell([DROPPED + request.key])
            return True
        if request.forced and (self.has_store or not request.gates.memory):
            self.local.suspect(request.key, request.stamp)
        elif answer is not None and answer.failed in UNKNOWN:
            self.local.doubt(request.key, request.stamp)
        return not self.has_store

    def revoke_all(self) -> Request:
        """A request to invalidate everything, which in this process it does. Raises `MisuseError` without marks."""
        request = self._begin_mark(NAMESPACE)
        request.stamp = self.local.invalidate_many(NAMESPACE)
        return request

    def revoke_tag(self, tag: object) -> Request:
        """A request to invalidate what has `tag`, which in this process it does. Raises `MisuseError` as above."""
        checked = check_tag("tag", tag)
        request = self._begin_mark(tag_mark(checked))
        request.stamp = self.local.invalidate_many(request.key)
        return request

    def _begin_mark(self, name: str) -> Request:
        request = self.begin(name)
        if self.has_store:
            self.marking.check()
        return request

    def invalidated(self, request: Request, answer: Answer | None) -> Invalidation:
        """The word to give for an invalidation."""
        acknowledged = not self.has_store if answer is None else answer.failed is None
        outcome = Invalidation.CONFIRMED if acknowledged else Invalidation.PENDING
        self.reporter.count(f"invalidations_{outcome}")
        self.reporter.tell(Invalidated(self.name, outcome))
        return outcome


def _patience(deadline: object) -> float:
    """What the caller has left, computed while it runs: nothing left or no limit are as good as any number."""
    if isinstance(deadline, int | float) and abs(deadline) > LONGEST:
        deadline = LONGEST if deadline > 0 else -LONGEST
    return seconds("deadline", deadline, least=-LONGEST)
