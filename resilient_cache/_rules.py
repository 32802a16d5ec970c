"""The decisions: the one place where policy, entries, fences, flights and events meet.

Both flows call these in the same order and only wait in between; nothing here waits, calls a store or runs a loader.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, final

from ._guard import Answer, Guard
from ._local import ABSENT, Local
from ._reporting import Reporter
from ._request import GATES, Candidate, Failure, Request
from ._sealing import Sealing
from ._switch import Switch
from .entry import LONGEST, MICROS, Entry, Slot, seconds
from .errors import LoadTimeout, MisuseError, NoSafeValue, NotFound
from .events import EntryRefused, Invalidated, Served
from .flights import AGAIN, Flight
from .outcome import Invalidation, Lookup, Reason, Source
from .policy import CachePolicy, float_of
from .protocols import Codec

__all__ = ["Rules"]

FOREVER: Final = float("inf")
NOTHING: Final[dict[str, Slot[Any]]] = {}

COUNTED: Final = {
    Source.MEMORY: "hits_memory",
    Source.STORE: "hits_store",
    Source.STALE: "stale",
    Source.NEGATIVE: "negative",
    Source.LOADER: "loads",
    Source.NONE: "misses",
}


@final
class Rules:
    """The decisions of one cache, over the state that its parts keep."""

    __slots__ = (
        "_gates",
        "_random",
        "_sealing",
        "guard",
        "has_store",
        "hooks",
        "local",
        "marks",
        "memory_hits",
        "monotonic",
        "name",
        "named",
        "peek",
        "policy",
        "reporter",
        "switch",
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
        has_store: bool,
    ) -> None:
        self.name = reporter.name
        self.policy = policy
        self.reporter = reporter
        self.switch = switch
        self.guard = guard
        self.local = local
        self.monotonic = guard.monotonic
        self.hooks = reporter.hooks
        self.memory_hits = 0
        self.named: set[str] = set()  # the functions cached without a key of their own
        self.marks = local.memory.marks
        self._gates = GATES if has_store else {m: g._replace(read=False, write=False) for m, g in GATES.items()}
        self.has_store = has_store
        self._random = random
        self._sealing = Sealing(codec, policy, reporter, local)
        self.aim()

    def aim(self) -> None:
        """Let hits in memory be answered at once, or not: for callers of `switch.set` and its like."""
        self.peek = (self.local.memory.entries if self.switch.steady else NOTHING).get

    @contextmanager
    def bypass(self) -> Generator[None]:
        """Count one bypass in and out."""
        self._bypass(1)
        try:
            yield
        finally:
            self._bypass(-1)

    def _bypass(self, step: int) -> None:
        with self.guard.lock:
            self.switch.bypasses += step
            self.aim()

    def close(self) -> bool:
        """Let no more requests in; whether it was closed already."""
        with self.guard.lock:
            was, self.switch.closed = self.switch.closed, True
            self.aim()
        return was

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
        checked = self.check_key(key)
        if policy is not None and not isinstance(policy, CachePolicy):
            raise MisuseError(f"policy must be a CachePolicy or None, not {type(policy).__name__}")
        now = self.monotonic()
        until = FOREVER if deadline is None else now + _patience(deadline)
        mode = self.switch.mode()
        request = Request(checked, policy or self.policy, mode, now, until, loads=loads, forced=forced)
        request.gates = self._gates[mode]
        return request

    def check_key(self, key: object) -> str:
        """`key` itself. Raises `MisuseError` when the cache is closed or `key` is no key."""
        if self.switch.closed:
            raise MisuseError(f"cache {self.name!r} is closed: make a new one")
        if not isinstance(key, str):
            raise MisuseError(f"key must be a str, not {type(key).__name__}")
        try:
            key.encode()
        except UnicodeEncodeError:
            raise MisuseError("key must be text that can be encoded: it holds a lone surrogate") from None
        return key if type(key) is str else str.__str__(key)  # a subclass may have a hash and an equality of its own

    def recall(self, request: Request) -> Lookup[Any] | Failure | None:
        """What this process can answer by itself."""
        recalled = self.local.recall(request) if request.gates.memory and not request.forced else None
        if recalled is None:
            if request.gates.memory:
                request.reason = Reason.ABSENT if request.stand_in is None else Reason.EXPIRED
            return None
        source, value = recalled
        if source is Source.NEGATIVE:
            if value is ABSENT and request.loads:
                return Failure(NotFound(request.key), None, source, None)
            return Lookup(None if value is ABSENT else value, source, Reason.NEGATIVE, self._age(request.stamp))
        stale = source is Source.STALE
        return Lookup(value, source, Reason.EXPIRED if stale else Reason.HIT, self._age(request.stamp), stale)

    def finish(self, result: Lookup[Any] | Failure, reason: Reason) -> Lookup[Any]:
        """Count and report how a request ended; the answer, or the loader's error raised as it is."""
        source = result.source
        failed = isinstance(result, Failure) and source is Source.NONE
        self.reporter.count("errors" if failed else COUNTED[source])
        if self.hooks:
            shown = result.reason if isinstance(result, Lookup) else reason
            self.reporter.tell(Served(self.name, source, shown, failed))
        if isinstance(result, Failure):
            raise result.error.with_traceback(result.trace)
        return result

    def tell_hit(self) -> None:
        """A request was answered from memory on the shortest way."""
        self.reporter.tell(Served(self.name, Source.MEMORY, Reason.HIT))

    # What the store said

    def time_left(self, request: Request) -> float:
        """Seconds that the caller's deadline leaves."""
        return request.until - self.monotonic()

    def judge(self, request: Request, answer: Answer) -> Lookup[Any] | None:
        """The entry that the store gave, when it may be served as it is; else None, and `request` knows why."""
        if answer.failed is not None:
            request.reason = answer.failed
            return None
        request.answered = True
        if answer.value is None:
            request.reason = Reason.ABSENT
            return None
        now = self.monotonic()
        found = self._sealing.open(request.key, answer.value, now)
        if isinstance(found, Reason):
            request.reason = found
            request.refused = True
            self.reporter.count(f"refused_{found}")
            self.reporter.tell(EntryRefused(self.name, found))
            return None
        if now < found.fresh_until:
            if request.gates.memory:
                self.local.keep(request.key, found)
            age = (self.local.stamps.latest - found.stamp) / MICROS
            return Lookup(found.value, Source.STORE, Reason.HIT, age)
        request.reason = Reason.EXPIRED
        if now < found.stale_until:
            request.offer(found)
        return None

    def leftover(self, request: Request) -> Lookup[Any]:
        """The answer to a request without a loader when there is nothing fresh."""
        stand_in = request.stand_in
        if request.gates.serve_stale and stand_in is not None and self._usable(request, stand_in):
            return Lookup(stand_in.value, Source.STALE, request.reason, self._age(stand_in.stamp), stale=True)
        return Lookup(None, Source.NONE, request.reason)

    # A load

    def begin_load(self, request: Request, flight: Flight[Any]) -> Lookup[Any] | Failure | str | None:
        """None to start the load now; else what to land instead of it."""
        if not request.gates.load:
            left = self.leftover(request)
            return left or Failure(NoSafeValue("nothing to serve, and this mode never loads"), None, left.source, None)
        flight.stand_in = request.stand_in
        request.stamp = self.local.begin_load(flight)
        request.loading_since = self.monotonic()
        if not request.stamp:
            return AGAIN
        self.reporter.count("loader_calls")
        return None

    def loaded(self, request: Request, flight: Flight[Any], given: Any) -> tuple[Lookup[Any], bytes | None]:
        """What the loader gave, as the flight's outcome, and the bytes to write for it, if any."""
        entry: Entry[Any] = given if isinstance(given, Entry) else Entry(given)  # pyright: ignore[reportUnknownVariableType]
        value, since, policy = entry.value, request.loading_since, request.policy
        try:
            ttl, stale_for = self._windows(policy, entry)
            negative = policy.negative is not None and bool(policy.negative(value))
        except Exception:  # noqa: BLE001 - the policy's own functions, as hooks
            self._sealing.cannot_keep(value, "its ttl or negative function failed")
            return Lookup(value, Source.LOADER, request.reason, 0.0), None
        if negative:
            if request.gates.memory:
                self.local.keep_negative(request, value, since + float_of(policy.negative_ttl), flight)
            return Lookup(value, Source.NEGATIVE, Reason.NEGATIVE, 0.0), None
        outcome = Lookup(value, Source.LOADER, request.reason, self._age(request.stamp))
        found = Candidate(value, since + ttl, since + ttl + stale_for, request.stamp)
        if not self._keep(request, found, flight):
            return outcome, None
        writes = request.gates.write and request.answered
        return outcome, self._sealing.seal(request, value, ttl, stale_for) if writes else None

    def _keep(self, request: Request, found: Candidate, flight: Flight[Any]) -> bool:
        if request.gates.memory:
            return self.local.keep(request.key, found, flight)
        return not flight.detached

    def _windows(self, policy: CachePolicy, entry: Entry[Any]) -> tuple[float, float]:
        ttl, stale_for = entry.ttl, entry.stale_for
        if ttl is None:
            ttl = policy.ttl(entry.value) if callable(policy.ttl) else policy.ttl
        longest = float_of(policy.max_ttl)
        fresh = min(seconds("ttl", ttl), longest) * (1.0 - policy.jitter * self._random())
        return fresh, min(float_of(policy.stale_for if stale_for is None else stale_for), longest)

    def _windows_or_none(self, policy: CachePolicy, entry: Entry[Any]) -> tuple[float, float]:
        try:
            return self._windows(policy, entry)
        except Exception:  # noqa: BLE001 - the policy's own function, as a hook
            self._sealing.cannot_keep(entry.value, "its ttl function failed")
            return 0.0, 0.0

    def written(self, request: Request, answer: Answer | None) -> bool:
        """Whether the store holds the value now. If not and it was to replace another, that one is fenced."""
        if answer is not None and answer.failed is None:
            self.local.confirm(request.key, request.stamp)
            return True
        if request.forced and self.has_store:
            self.local.suspect(request.key, request.stamp)
        return not self.has_store

    def load_failed(self, request: Request, flight: Flight[Any], error: Exception) -> Failure:
        """The loader raised `error`: the flight's outcome."""
        if isinstance(error, NotFound):
            if request.gates.memory:
                until = request.loading_since + float_of(request.policy.negative_ttl)
                self.local.keep_negative(request, ABSENT, until, flight)
            return Failure(error, error.__traceback__, Source.NEGATIVE, None)
        return Failure(error, error.__traceback__, Source.NONE, request.stand_in)

    def settle(self, request: Request, outcome: Lookup[Any] | Failure) -> Lookup[Any] | Failure:
        """What this request makes of its flight's outcome: a stale entry may stand in for a failure."""
        if isinstance(outcome, Lookup) or outcome.source is Source.NEGATIVE or request.forced:
            return outcome
        for stand_in in (request.stand_in, outcome.stand_in):
            if stand_in is not None and self._usable(request, stand_in):
                until = self.monotonic() + float_of(request.policy.stale_retry)
                if self.local.rest(request.key, stand_in, until):
                    return Lookup(stand_in.value, Source.STALE, request.reason, self._age(stand_in.stamp), stale=True)
        return outcome

    def patience(self, request: Request, flight: Flight[Any]) -> float:
        """Seconds to wait for `flight`: until it counts as stuck, or until the caller's own patience ends."""
        now = self.monotonic()
        left = flight.since + float_of(self.policy.flight_age) - now
        given = request.policy.load_timeout
        if given is not None:
            left = min(left, request.since + self.guard.timeout + float_of(given) - now)
        return max(0.0, left)

    def timed_out(self, request: Request, flight: Flight[Any]) -> Failure | None:
        """The outcome for a caller whose patience with the load has ended, None while it has not."""
        given = request.policy.load_timeout
        if given is None or self.monotonic() < request.since + self.guard.timeout + float_of(given):
            return None
        late = LoadTimeout(f"the load took longer than load_timeout, {given} s")
        return Failure(late, None, Source.NONE, flight.stand_in)

    def _usable(self, request: Request, found: Candidate) -> bool:
        if request.policy.stale_for == 0 or self.monotonic() >= found.stale_until:
            return False
        return self.local.fences.admits(request.key, found.stamp)

    # Setting and invalidating

    def place(self, request: Request, value: object, ttl: object) -> bytes | None:
        """Put `value` in place of whatever there is in this process; the bytes to write, if any.

        Raises `MisuseError` for an illegal ttl.
        """
        entry = Entry(value, seconds("ttl", ttl, most=float_of(self.policy.max_ttl)) if ttl is not None else None)
        fresh, stale_for = self._windows_or_none(request.policy, entry)
        request.stamp = self.local.stamps.next()
        found = Candidate(value, request.since + fresh, request.since + fresh + stale_for, request.stamp)
        self.local.replace(request.key, found)
        return self._sealing.seal(request, value, fresh, stale_for) if request.gates.write else None

    def invalidated(self, request: Request, answer: Answer | None) -> Invalidation:
        """The word to give for an invalidation."""
        if not self.has_store:
            self.local.confirm(request.key, request.stamp)
        acknowledged = not self.has_store if answer is None else answer.failed is None
        outcome = Invalidation.CONFIRMED if acknowledged else Invalidation.PENDING
        self.reporter.count(f"invalidations_{outcome}")
        self.reporter.tell(Invalidated(self.name, outcome))
        return outcome

    def _age(self, stamp: int) -> float:
        return max(0, self.local.stamps.now() - stamp) / MICROS


def _patience(deadline: object) -> float:
    """What the caller has left, computed while it runs: nothing left or no limit are as good as any number."""
    if isinstance(deadline, int | float) and not isinstance(deadline, bool) and abs(deadline) > LONGEST:
        deadline = LONGEST if deadline > 0 else -LONGEST
    return seconds("deadline", deadline, least=-LONGEST)
