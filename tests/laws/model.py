"""What the laws say of a scenario, worked out from its text and from what its callers saw; knows nothing of the cache.

`judge` holds any run against the laws that hold whatever fails. `predict` says exactly what a cache must answer where
nothing fails: a dict with TTLs. A version is its load's place in the order of all that happened, so that "began before"
is "is less than".
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from resilient_cache import CachePolicy, Mode
from resilient_cache.testing import FaultKind

from .course import READS, Loading, Seen
from .scenario import KEYS, Setup, Step

SLACK = 0.001  # stamps that fall into one instant are told apart by microseconds
DIRECTIONS = {"get": "read", "set": "write", "delete": "write"}
LINGERING = (FaultKind.LATE, FaultKind.SLOW)


def seconds(value: Any) -> float:
    """A duration of a policy, which is a number once it was validated."""
    return float(value)


@dataclass
class Birth:
    """Where a value came from."""

    key: str
    at: float
    ttl: float
    stale_for: float
    lingers: bool = False  # its write may land later, over newer ones


@dataclass
class KeyState:
    """What has happened to one key."""

    fence: int = 0  # nothing before this moment may be served
    replaced: int = 0  # nor before this, but for writes that linger
    missing_since: float | None = None
    rested_since: float | None = None


class Judge:
    """Holds one run against the laws, step by step."""

    def __init__(self, setup: Setup) -> None:
        self.policy = setup.policy
        self.timeout = seconds(setup.policy.timeout)
        self.births: dict[int, Birth] = {}
        self.keys: defaultdict[str, KeyState] = defaultdict(KeyState)
        self.jumped = False
        self.untimed = 0  # values before this moment were stamped by another process, whose clock was set since

    def step(self, seen: Seen) -> None:
        """Raises `AssertionError` naming the law that the step breaks."""
        self._learn(seen)
        if seen.step.op in READS:
            self._outcome(seen)
            self._loader(seen)
            self._error(seen)
            self._value(seen)
        else:
            assert not seen.outcome, f"L7: {seen.step.op} is no request, but counts as {seen.outcome}"
        self._time(seen)
        self._store(seen)
        self._remember(seen)

    def _learn(self, seen: Seen) -> None:
        lingers = any(c.fault is not None and c.fault.kind in LINGERING for c in seen.calls + seen.others + seen.behind)
        policy, key = self.policy, seen.step.key
        for load in seen.loadings:
            ttl = load.ttl if load.ttl is not None else seconds(policy.ttl)
            stale_for = load.stale_for if load.stale_for is not None else seconds(policy.stale_for)
            self.births[load.version] = Birth(key, load.began, ttl, stale_for, lingers)
        for version, at in seen.placed:
            ttl = seen.step.ttl if seen.step.op == "set" and seen.step.ttl is not None else seconds(policy.ttl)
            self.births[version] = Birth(key, at, ttl, seconds(policy.stale_for), lingers)
        self.jumped |= seen.step.op == "jump"
        self.jumped |= any(
            c.fault is not None and c.fault.kind is FaultKind.JUMP for c in seen.calls + seen.others + seen.behind
        )

    def _outcome(self, seen: Seen) -> None:
        assert sum(seen.outcome.values()) == 1, f"L7: one request, outcomes {seen.outcome}"
        source = next(iter(seen.outcome))
        if isinstance(seen.result, tuple):
            said = seen.result[2]
            told = {"memory": "hits", "store": "hits", "loader": "loads", "none": "misses"}.get(said, said)
            assert told == source, f"L7: counted as {source}, told as {said}"
            assert seen.result[5] == (said == "stale"), "L12: stale answers, and only they, are marked"

    def _loader(self, seen: Seen) -> None:
        assert len(seen.loadings) <= 1, "L3: the loader ran more than once for one request"
        assert not seen.loadings or seen.mode is not Mode.FROZEN, "L20: FROZEN loads nothing"
        if not seen.loadings and seen.step.op == "refresh":
            assert seen.error == "NoSafeValue", "refresh must load"
        if seen.loadings and seen.loadings[0].kind == "value":
            assert not seen.error, f"L3: the loader gave a value, the caller got {seen.error}"
            assert seen.outcome == {"loads": 1}

    def _error(self, seen: Seen) -> None:
        if not seen.error:
            return
        key = self.keys[seen.step.key]
        if seen.loadings:
            assert seen.own_error, f"L3: {seen.error} is not the object that the loader raised"
            expected = {"negative": 1} if seen.loadings[0].kind == "missing" else {"errors": 1}
            assert seen.outcome == expected, f"L7: {seen.error} counted as {seen.outcome}"
        elif seen.error == "NotFound":
            assert seen.step.op in ("get_or_load", "lookup_or_load"), "L1: a look-up raises nothing"
            assert self._known_missing(seen), "negative answer without, or long after, the origin's word"
            assert seen.outcome == {"negative": 1}
        else:
            assert seen.error == "NoSafeValue", f"L1: {seen.error} escaped: {key}"
            assert seen.mode is Mode.FROZEN, "L6: NoSafeValue where loading is allowed"

    def _known_missing(self, seen: Seen) -> bool:
        since = self.keys[seen.step.key].missing_since
        return since is not None and seen.began < since + seconds(self.policy.negative_ttl)

    def _value(self, seen: Seen) -> None:
        source = next(iter(seen.outcome))
        value = seen.result[1] if isinstance(seen.result, tuple) else seen.result
        if seen.error or value is None:
            assert not (seen.loadings and not seen.error), "L3: the loader's outcome became None"
            if source == "negative":
                assert self._known_missing(seen) or seen.loadings, "negative answer without the origin's word"
            else:
                assert seen.error or source == "misses"
            return
        assert source in ("hits", "stale", "loads"), f"L7: a value was counted as {source}"
        key, version = value
        birth = self.births[version]
        assert key == birth.key == seen.step.key, f"L8: {value} was served for {seen.step.key}"
        if source == "loads":
            assert [load.version for load in seen.loadings] == [version], "L14: a value of a load that is not this one"
            return
        assert seen.mode is not Mode.BYPASS, "L20: BYPASS serves nothing that is cached"
        state = self.keys[key]
        assert version > state.fence, f"L9: version {version} was served after the invalidation at {state.fence}"
        assert version >= state.replaced or birth.lingers, (
            f"version {version} was served after {state.replaced} replaced it"
        )
        past = [] if seen.meddled or source != "stale" else seen.invalidated
        assert version > max(past, default=0), "L12: stale, and invalidated while the load ran"
        self._windows(seen, birth, version, source)

    def _windows(self, seen: Seen, birth: Birth, version: int, source: str) -> None:
        if version <= self.untimed:
            return
        limit = birth.ttl
        if source == "stale":
            assert seconds(self.policy.stale_for) > 0, "L12: stale_for is 0"
            limit += birth.stale_for
            failed = any(load.kind == "raise" for load in seen.loadings)
            rested = self.keys[birth.key].rested_since
            resting = rested is not None and seen.began < rested + seconds(self.policy.stale_retry)
            assert failed or resting or seen.mode is Mode.FROZEN, "L12: stale, and no load has failed"
        loading = sum(load.ended - load.began for load in seen.loadings)
        latest = seen.began if source == "hits" else seen.began + self.timeout + loading
        least = min(latest, seen.ended) if source == "stale" and seen.loadings else seen.began
        assert least - birth.at < limit + SLACK, f"L12: {source} at the age of {least - birth.at}, limit {limit}"

    def _time(self, seen: Seen) -> None:
        if seen.meddled or seen.step.op in ("advance", "fault"):
            return
        spent, allowed = seen.ended - seen.began, self.timeout
        limit = seen.step.deadline
        if seen.loadings:
            load = seen.loadings[0]
            before, after = load.began - seen.began, seen.ended - load.ended
            left = self.timeout if limit is None else max(0.0, min(self.timeout, seen.began + limit - load.ended))
            assert after <= left, f"L5: {after} s after the load, allowed {left}"
            spent = before
        allowed = allowed if limit is None else min(allowed, limit)
        assert spent <= allowed, f"L5: {spent} s, allowed {allowed}"

    def _store(self, seen: Seen) -> None:
        operations = {call.operation for call in seen.calls + seen.others}
        assert not operations or seen.mode not in (Mode.BYPASS, Mode.MEMORY_ONLY), f"L20: {seen.mode} touches the store"
        assert operations <= {"get"} or seen.mode is not Mode.READ_ONLY, "L20: READ_ONLY writes"
        for call in seen.calls:
            before = seen.circuits.get(DIRECTIONS[call.operation], {"state": "closed", "retry_in": 0.0})
            held = before["state"] == "open" and call.at < seen.began + before["retry_in"]
            assert not held, f"L16: {call.operation} while the circuit is open"
            if seen.step.deadline is not None:
                assert call.at < seen.began + seen.step.deadline, "L5: the store was asked with no time left"

    def _remember(self, seen: Seen) -> None:
        state, op = self.keys[seen.step.key], seen.step.op
        if seen.invalidated:
            state.fence = max(state.fence, *seen.invalidated)
            state.missing_since = state.rested_since = None
        if seen.placed:
            state.replaced = max(state.replaced, seen.placed[-1][0])
            state.missing_since = state.rested_since = None
        if op == "restore":  # only an invalidation holds against a store that has acknowledged and then forgets
            for each in self.keys.values():
                each.replaced = 0
        if op == "restart":
            self.keys.clear()
            self.untimed = seen.moment if self.jumped else self.untimed
        for load in seen.loadings:
            self._remember_load(seen, state, load)

    def _remember_load(self, seen: Seen, state: KeyState, load: Loading) -> None:
        undisturbed = not seen.invalidated and not seen.placed
        if load.kind == "missing":
            state.missing_since = load.began
        if load.kind == "raise" and seen.outcome == {"stale": 1}:
            state.rested_since = seen.ended
        kept = seen.mode is not Mode.BYPASS or seen.step.op == "refresh"
        if load.kind == "value" and undisturbed and kept:
            state.missing_since = state.rested_since = None
            if seen.step.op == "refresh":
                state.replaced = max(state.replaced, load.version)


def judge(setup: Setup, run: list[Seen]) -> None:
    """Raises `AssertionError` naming the first law that `run` breaks."""
    judged = Judge(setup)
    for seen in run:
        judged.step(seen)


@dataclass
class Plain:
    """A dict with TTLs, one key of it."""

    value: Any = None
    at: float = float("-inf")
    ttl: float = 0.0
    stale_for: float = 0.0
    missing_until: float = float("-inf")
    rests_until: float = float("-inf")


@dataclass
class Oracle:
    """What a cache answers where nothing fails and no one else is there."""

    policy: CachePolicy
    now: float = 0.0
    moment: int = 0
    keys: dict[str, Plain] = field(default_factory=lambda: {key: Plain() for key in KEYS})

    def answer(self, step: Step) -> tuple[str, Any]:
        """(counter that goes up, value or name of the error)."""
        entry = self.keys[step.key]
        if step.op == "advance":
            self.now += step.seconds
            return "", None
        if step.op == "invalidate":
            self.moment += 1
            self.keys[step.key] = Plain()
            return "", None
        if step.op == "set":
            self._put(step.key, step.ttl, None)
            return "", None
        if step.op != "refresh":
            known = self._known(entry, loads=step.op in ("get_or_load", "lookup_or_load"))
            if known is not None:
                return known
        return self._load(step, entry)

    def _known(self, entry: Plain, *, loads: bool) -> tuple[str, Any] | None:
        if self.now < entry.at + entry.ttl:
            return "hits", entry.value
        if self.now < entry.missing_until:
            return "negative", "NotFound" if loads else None
        if not loads:
            return "misses", None
        if self.now < entry.rests_until and self._stale(entry):
            return "stale", entry.value
        return None

    def _stale(self, entry: Plain) -> bool:
        return seconds(self.policy.stale_for) > 0 and self.now < entry.at + entry.ttl + entry.stale_for

    def _put(self, key: str, ttl: float | None, stale_for: float | None) -> None:
        self.moment += 1
        ttl = seconds(self.policy.ttl) if ttl is None else ttl
        stale_for = seconds(self.policy.stale_for) if stale_for is None else stale_for
        self.keys[key] = Plain([key, self.moment], self.now, ttl, stale_for)

    def _load(self, step: Step, entry: Plain) -> tuple[str, Any]:
        if step.load.kind == "value":
            self._put(step.key, step.load.ttl, step.load.stale_for)
            return "loads", self.keys[step.key].value
        self.moment += 1
        if step.load.kind == "missing":
            self.keys[step.key] = Plain(missing_until=self.now + seconds(self.policy.negative_ttl))
            return "negative", "NotFound"
        if step.op != "refresh" and self._stale(entry):
            entry.rests_until = self.now + seconds(self.policy.stale_retry)
            return "stale", entry.value
        return "errors", "OriginDown"


def predict(setup: Setup, steps: list[Step]) -> list[tuple[str, Any]]:
    """The exact answers to `steps` where nothing fails."""
    oracle = Oracle(setup.policy)
    return [oracle.answer(step) for step in steps]
