"""L13: whatever fails and in whatever order, no way out gives a value that `accept` refuses at that moment."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_cache import (
    CachePolicy,
    Entry,
    Invalidation,
    LoadTimeout,
    MisuseError,
    Mode,
    NoSafeValue,
    NotFound,
    Reason,
    Source,
)
from resilient_cache.events import EntryRefused, Event, Served
from resilient_cache.testing import Fault, FaultKind

from ..virtual import pass_time
from .scenario import FAULTS
from .stage import POLICY, Stage

Make = Callable[..., Stage]

VALUES = ("a", "b", "c", "none")
EVERYTHING: frozenset[str] = frozenset(VALUES)
DOWN = OSError("the origin is down")
LASTING = [Fault(FaultKind.RAISE), Fault(FaultKind.HANG), Fault(FaultKind.LOST), Fault.late(2.0)]


@dataclass
class Mind:
    """An `accept` that knows nothing of the cache and changes: `turn` goes on to the next set of what is allowed."""

    allowed: frozenset[str] = EVERYTHING
    tape: list[frozenset[str]] = field(default_factory=list)
    asked: list[tuple[str, Any]] = field(default_factory=list)

    def __call__(self, key: str, value: Any) -> bool:
        self.asked.append((key, value))
        return value in self.allowed

    def turn(self) -> None:
        if self.tape:
            self.allowed = self.tape.pop(0)

    def forbid(self, *values: str) -> None:
        self.allowed -= set(values)


class Turning:
    """A store during whose calls the mind may change."""

    def __init__(self, inner: Any, mind: Mind) -> None:
        self.inner, self.mind = inner, mind

    def get(self, key: str) -> Any:
        self.mind.turn()
        try:
            return self.inner.get(key)
        finally:
            self.mind.turn()

    def set(self, key: str, value: bytes, ttl: float) -> Any:
        self.mind.turn()
        return self.inner.set(key, value, ttl)

    def delete(self, key: str) -> Any:
        self.mind.turn()
        return self.inner.delete(key)


class AwaitedTurning(Turning):
    """The same, awaited."""

    async def get(self, key: str) -> Any:
        try:
            return await self.inner.get(key)
        finally:
            self.mind.turn()

    async def set(self, key: str, value: bytes, ttl: float) -> Any:
        await self.inner.set(key, value, ttl)
        self.mind.turn()

    async def delete(self, key: str) -> Any:
        await self.inner.delete(key)
        self.mind.turn()


def is_none(value: object) -> bool:
    return value == "none"


GUARDED = replace(POLICY, ttl=10, stale_for=30, stale_retry=1.5, negative_ttl=5, negative=is_none)

outcomes = st.sampled_from([*VALUES, *VALUES, Entry("a", ttl=3), DOWN, NotFound("k")])
minds = st.sampled_from([EVERYTHING, frozenset("ab"), frozenset("b"), frozenset("c"), frozenset({"none"}), frozenset()])
loading = st.tuples(st.sampled_from(["get_or_load", "lookup", "refresh", "cached"]), outcomes, st.booleans())
step = st.one_of(
    loading,
    loading,
    st.tuples(st.sampled_from(["get", "look", "explain", "invalidate"]), st.none(), st.booleans()),
    st.tuples(st.just("default"), st.sampled_from(VALUES), st.booleans()),
    st.tuples(st.sampled_from(["set", "report_mistake"]), st.sampled_from(VALUES), st.booleans()),
    st.tuples(st.just("advance"), st.sampled_from([0.5, 2.0, 6.0, 11.0, 50.0]), st.booleans()),
    st.tuples(st.just("mode"), st.sampled_from([*Mode, Mode.ON, Mode.ON, Mode.FROZEN]), st.booleans()),
    st.tuples(st.just("mind"), minds, st.booleans()),
    st.tuples(st.just("fault"), st.sampled_from(FAULTS), st.booleans()),
    st.tuples(st.just("outage"), st.sampled_from([*LASTING, None]), st.booleans()),
)
fewer = settings(max_examples=max(1, settings().max_examples // 2))
colours = pytest.mark.parametrize("colour", ["sync", "async"])


class Play:
    """One cache with a guard of its own, and calls that bring another one."""

    def __init__(self, colour: str, memory: int, tapes: list[list[frozenset[str]]], policy: CachePolicy) -> None:
        self.own, self.calls = Mind(tape=list(tapes[0])), Mind(tape=list(tapes[1]))
        self.stage = Stage(colour, memory=memory)
        turning = Turning if colour == "sync" else AwaitedTurning
        adapter = turning(self.stage.adapter, self.own)
        self.stage.cache = self.stage.another(adapter=adapter, policy=replace(policy, accept=self.own))
        self.strict = replace(policy, accept=self.calls)

    def loader(self, outcome: Any) -> Any:
        def load() -> Any:
            self.own.turn()
            self.calls.turn()
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        return self.stage.loader(load)

    def cached(self, policy: CachePolicy | None, loader: Callable[..., Any]) -> Any:
        if self.stage.colour == "sync":
            return self.stage.cache.cached(key=lambda: "k", policy=policy)(lambda: loader("k"))

        async def function() -> Any:
            return await loader("k")

        return self.stage.cache.cached(key=lambda: "k", policy=policy)(function)

    def call(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """What a method gives, and in `minds` what was allowed at the moment at which it gave it."""
        if self.stage.colour == "sync":
            given = method(*args, **options)
            self.minds = self.own.allowed, self.calls.allowed
            return given

        async def call() -> Any:
            given = await method(*args, **options)
            self.minds = self.own.allowed, self.calls.allowed  # what is left of the store's calls ends after this
            return given

        return self.stage.run(call)

    def take(self, op: str, what: Any, strict: bool) -> None:
        """Carry out one step, and hold what it gave against both minds as they were then."""
        cache, policy = self.stage.cache, self.strict if strict else None
        given: Any = None
        try:
            if op in ("get_or_load", "refresh"):
                given = self.call(getattr(cache, op), "k", self.loader(what), policy=policy)
            elif op == "lookup":
                given = self.call(cache.lookup, "k", self.loader(what), policy=policy).value
            elif op == "cached":
                given = self.call(self.cached(policy, self.loader(what)))
            elif op == "look":
                given = self.call(cache.lookup, "k", policy=policy).value
            else:
                given, strict = self.other(op, what), False
        except (NoSafeValue, NotFound):
            pass
        except OSError as error:
            assert error is what, "L3: not what the loader raised"  # noqa: PT017 - the steps go on
        if given is not None:
            own, calls = self.minds
            assert given in own, f"L13: {op} gave {given!r}"
            assert not strict or given in calls, f"L13: {op} gave {given!r} past the guard of the call"

    def other(self, op: str, what: Any) -> Any:
        there = self.stage
        if op == "get":
            return self.call(there.cache.get, "k")
        if op == "default":
            return self.call(there.cache.get, "k", what)
        if op == "advance":
            there.clock.advance(what)
            there.run_behind()
        elif op == "mode":
            there.cache.mode = what
        elif op == "mind":
            self.own.allowed = what
        elif op == "fault":
            there.plan.then("get", what).then("set", what)
        elif op == "outage":
            there.plan.during(what) if what else there.plan.calm()
        else:
            there.run(getattr(there.cache, op), *(("k",) if what is None else ("k", what)))
        return None


@colours
@given(
    memory=st.sampled_from([0, 10]),
    tapes=st.lists(st.lists(minds, max_size=12), min_size=2, max_size=2),
    stale_for=st.sampled_from([0, 30]),
    steps=st.lists(step, min_size=5, max_size=25),
)
def test_no_way_out_gives_what_is_refused(
    colour: str, memory: int, tapes: list[list[frozenset[str]]], stale_for: float, steps: list[Any]
) -> None:
    """L13: for any faults and any mind that changes at any call of the store or the loader; L7: the counts add up."""
    play = Play(colour, memory, tapes, replace(GUARDED, stale_for=stale_for))
    for op, what, strict in steps:
        play.take(op, what, strict)
    play.stage.plan.calm()
    play.stage.run_behind()
    stats = play.stage.cache.stats()
    assert stats["requests"] == sum(stats[name] for name in ("hits", "stale", "negative", "loads", "misses", "errors"))
    assert play.stage.cache.health()["flights"] == 0


@colours
@fewer
@given(memory=st.sampled_from([0, 10]), steps=st.lists(step, min_size=5, max_size=25))
def test_who_accepts_everything_is_not_there(colour: str, memory: int, steps: list[Any]) -> None:
    """L4: the same answers from the same places, the same loads and the same calls of the store as without."""
    seen = []
    for accept in (None, lambda key, value: True):
        there = Stage(colour, memory=memory, policy=replace(GUARDED, accept=accept))
        answers: list[object] = []
        for op, what, _ in steps:
            try:
                if op in ("get_or_load", "refresh", "lookup"):
                    answers.append(there.run(getattr(there.cache, op), "k", there.loader(what)))
                elif op in ("set", "report_mistake", "get", "invalidate"):
                    answers.append(there.run(getattr(there.cache, op), *(("k",) if what is None else ("k", what))))
                elif op == "advance":
                    there.clock.advance(what)
                    there.run_behind()
                elif op == "mode":
                    there.cache.mode = what
                elif op == "fault":
                    there.plan.then("get", what).then("set", what)
            except (NoSafeValue, NotFound, OSError) as error:
                answers.append(type(error))
        there.plan.calm()
        there.run_behind()
        seen.append((answers, there.cache.stats(), [call.operation for call in there.adapter.calls]))
    assert seen[0] == seen[1]


moves = st.tuples(
    st.sampled_from([0.0, 0.125, 0.5, 1.0, 3.0, 11.0]),
    st.sampled_from(["get_or_load", "get_or_load", "lookup", "refresh", "set", "invalidate", "mind", "mind"]),
    st.tuples(outcomes, st.sampled_from([0.0, 0.25, 1.0])),
    minds,
    st.booleans(),
)


@given(
    memory=st.sampled_from([0, 10]),
    load_timeout=st.sampled_from([None, 0.5]),
    scripts=st.lists(st.lists(moves, min_size=1, max_size=6), min_size=2, max_size=5),
    faults=st.lists(st.sampled_from([None, None, *FAULTS]), max_size=10),
)
def test_nor_do_tasks_that_come_between_each_other(
    memory: int, load_timeout: float | None, scripts: list[Any], faults: list[Fault | None]
) -> None:
    """L13: whoever leads, follows, takes over or gives up, while others change both minds."""
    play = Play("async", memory, [[], []], replace(GUARDED, load_timeout=load_timeout))
    there = play.stage
    there.options["spawn"] = None
    there.cache = there.another(policy=replace(GUARDED, load_timeout=load_timeout, accept=play.own))
    play.strict = replace(play.strict, load_timeout=load_timeout)
    there.plan.then("get", *faults).then("set", *faults)

    async def move(op: str, outcome: Any, seconds: float, mind: frozenset[str], strict: bool) -> None:
        async def loader(key: str) -> Any:
            await pass_time(seconds)
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        if op == "mind":
            (play.calls if strict else play.own).allowed = mind
        elif op == "set":
            await there.cache.set("k", "a")
        elif op == "invalidate":
            await there.cache.invalidate("k")
        else:
            found = await getattr(there.cache, op)("k", loader, policy=play.strict if strict else None)
            value = found.value if op == "lookup" else found
            assert value in play.own.allowed, f"L13: {op} gave {value!r}"
            assert not strict or value in play.calls.allowed, f"L13: {op} gave {value!r} past the guard of the call"

    async def run(script: list[Any]) -> None:
        for pause, op, (outcome, seconds), mind, strict in script:
            await pass_time(pause)
            with contextlib.suppress(NoSafeValue, NotFound, OSError, LoadTimeout):
                await move(op, outcome, seconds, mind, strict)

    async def main() -> None:
        await asyncio.gather(*map(run, scripts))
        await there.cache.aclose()

    there.run(main)


# One way out after the other


def guarded(stage: Make, **options: Any) -> tuple[Stage, Mind]:
    mind = Mind()
    policy = replace(GUARDED, accept=mind, **options.pop("policy", {}))
    return stage(policy=policy, **options), mind


@pytest.fixture(params=["cache", "call"])
def guard(request: pytest.FixtureRequest) -> str:
    """Whose function refuses."""
    kind: str = request.param
    return kind


@pytest.mark.parametrize("memory", [0, 10])
def test_a_hit_is_a_miss_is_loaded_again_and_replaced(stage: Make, memory: int, guard: str) -> None:
    """L13: in memory and in the store, whichever guard it is; what is there is dropped and overwritten."""
    mind = Mind()
    there = stage(memory=memory, policy=replace(GUARDED, accept=mind if guard == "cache" else None))
    policy = replace(GUARDED, accept=mind)
    there.set("k", "a")
    assert there.load("k", "b", policy=policy) == "a"
    mind.forbid("a")
    assert there.load("k", "b", policy=policy) == "b"
    assert there.load("k", "c", policy=policy) == "b"
    assert there.lookup("k").reason is Reason.HIT
    assert there.cache.stats()["refused_not_accepted"] == 1 + bool(memory)


@pytest.mark.parametrize("memory", [0, 10])
def test_a_look_up_finds_nothing_and_leaves_nothing(stage: Make, memory: int) -> None:
    """L13: `get`, `lookup`, `explain`; the store is told to delete it, so it is refused once."""
    told: list[Event] = []
    there, mind = guarded(stage, memory=memory, hooks=[told.append])
    there.set("k", "a")
    mind.forbid("a")
    found = there.lookup("k")
    assert (found.value, found.source, found.reason) == (None, Source.NONE, Reason.NOT_ACCEPTED)
    assert not there.stored
    assert there.cache.health()["memory_entries"] == 0
    assert EntryRefused("laws", Reason.NOT_ACCEPTED) in told
    assert Served("laws", Source.NONE, Reason.NOT_ACCEPTED) in told
    for _ in range(2):
        assert there.get("k") is None
        assert there.explain("k")["reason"] == "absent"
    mind.allowed = EVERYTHING
    assert there.get("k") is None


def test_memory_alone_says_why(stage: Make) -> None:
    """The reason is that of memory where no store is asked."""
    there, mind = guarded(stage, memory=10, mode=Mode.MEMORY_ONLY)
    there.set("k", "a")
    mind.forbid("a")
    assert there.lookup("k").reason is Reason.NOT_ACCEPTED
    assert there.lookup("k").reason is Reason.ABSENT


def test_the_guard_of_a_call_comes_on_top(stage: Make) -> None:
    """L13: a policy without `accept` does not take the cache's own away, nor does one with another."""
    there, mind = guarded(stage, memory=10)
    mind.forbid("a")
    for policy in (GUARDED, replace(GUARDED, accept=lambda key, value: True)):
        there.invalidate("k")
        with pytest.raises(NoSafeValue):
            there.load("k", "a", policy=policy)
        assert there.load("k", "b", policy=policy) == "b"


def test_the_guard_of_a_call_is_for_that_call(stage: Make) -> None:
    """L13: it is asked though others are answered on the shortest way, and they still are."""
    there = stage(memory=10)
    there.set("k", "a")
    refusing = replace(POLICY, accept=lambda key, value: False)
    with pytest.raises(NoSafeValue):
        there.load("k", "b", policy=refusing)
    assert there.loads == 1
    there.set("k", "a")
    assert there.load("k", "b") == there.load("k", "b", policy=POLICY) == "a"
    with pytest.raises(MisuseError, match="policy must be a CachePolicy"):
        there.load("k", "b", policy=60)


@pytest.mark.parametrize("memory", [0, 10])
@pytest.mark.parametrize("outcome", ["c", DOWN])
def test_what_stands_in_is_accepted(stage: Make, memory: int, outcome: Any) -> None:
    """L12, L13: a refused load counts as a failed one; only what is accepted stands in, in the metrics too."""
    there, mind = guarded(stage, memory=memory)
    there.set("k", "a")
    there.clock.advance(11)
    mind.forbid("c")
    found = there.lookup("k", there.loader(outcome))
    assert (found.value, found.source, found.stale) == ("a", Source.STALE, True)
    there.clock.advance(1)
    assert there.load("k", "b") == "a"  # it rests
    mind.forbid("a")
    with pytest.raises((NoSafeValue, OSError)):
        there.load("k", outcome)
    assert there.load("k", "b") == "b"


def test_what_is_refused_does_not_hide_what_may_stand_in(stage: Make) -> None:
    """L13: memory has a newer value, which is refused, and the store an older one, which is not."""
    there, mind = guarded(stage, memory=10)
    there.load("k", "a")
    there.clock.advance(11)
    there.plan.then("set", Fault(FaultKind.RAISE))
    assert there.load("k", "b") == "b"
    there.clock.advance(11)
    mind.forbid("b")
    found = there.lookup("k", there.loader(DOWN))
    assert (found.value, found.source) == ("a", Source.STALE)


def test_a_stand_in_that_is_refused_after_the_load_does_not_stand_in(stage: Make) -> None:
    """L13: accepted when it was found, refused when it would have left; the loader's error is the answer then."""
    there, mind = guarded(stage, memory=10)
    there.set("k", "a")
    there.clock.advance(11)

    def load() -> str:
        mind.forbid("a")
        raise DOWN

    with pytest.raises(OSError, match="origin is down"):
        there.load("k", load)


@pytest.mark.parametrize("memory", [0, 10])
def test_frozen_gives_nothing_that_is_refused(stage: Make, memory: int) -> None:
    """L13: neither what is fresh nor what is stale."""
    there, mind = guarded(stage, memory=memory)
    there.set("k", "a")
    there.cache.mode = Mode.FROZEN
    there.clock.advance(11)
    assert there.load("k", "b") == there.lookup("k").value == "a"
    mind.forbid("a")
    with pytest.raises(NoSafeValue):
        there.load("k", "b")
    assert there.lookup("k").reason is Reason.NOT_ACCEPTED
    assert there.loads == 0


def test_what_stands_in_under_frozen_is_asked_about_last_of_all(stage: Make) -> None:
    """L13: the mind changes while the store is told to delete the garbage that it had."""
    there, mind = stage(memory=10), Mind()
    turning = (Turning if there.colour == "sync" else AwaitedTurning)(there.adapter, mind)
    there.cache = there.another(adapter=turning, policy=replace(GUARDED, accept=mind))
    there.set("k", "a")
    there.clock.advance(11)
    there.cache.mode = Mode.FROZEN
    there.poison("k", b"garbage")
    assert there.lookup("k").value == "a"
    there.poison("k", b"garbage")
    reading = 2 if there.colour == "sync" else 1
    mind.tape = [*[EVERYTHING] * reading, frozenset()]
    found = there.lookup("k")
    assert (found.value, found.reason) == (None, Reason.NOT_ACCEPTED)


def test_a_negative_value_is_asked_about_and_an_absence_is_not(stage: Make) -> None:
    """L13: what `negative` recognises is a value; `NotFound` is none."""
    there, mind = guarded(stage, memory=10)
    assert there.load("k", "none") == "none"
    mind.forbid("none")
    assert there.lookup("k").value is None
    with pytest.raises(NoSafeValue):
        there.load("k", "none")
    assert there.lookup("k").source is Source.NONE
    mind.asked.clear()
    for _ in range(2):
        with pytest.raises(NotFound):
            there.load("k", NotFound("k"))
    assert not mind.asked


def test_a_default_is_asked_about_where_it_would_be_given(stage: Make) -> None:
    """L13: a router must not guess a region. None says that there is nothing."""
    there, mind = guarded(stage, memory=10)
    assert there.get("k", "b") == "b"
    mind.forbid("b")
    assert there.get("k") is None
    with pytest.raises(NoSafeValue, match="accept refuses the default"):
        there.get("k", "b")
    there.set("k", "a")
    assert there.get("k", "b") == "a"
    plain = stage(memory=10)
    assert plain.get("k", "b") == "b"


@pytest.mark.parametrize("way", ["get_or_load", "lookup", "refresh"])
@pytest.mark.parametrize("memory", [0, 10])
def test_a_refused_load_is_kept_nowhere_and_ends_nothing(stage: Make, way: str, memory: int, guard: str) -> None:
    """L13: neither in memory nor in the store, nor as a negative answer; what was there before is not fenced."""
    mind = Mind()
    there = stage(memory=memory, policy=replace(GUARDED, accept=mind if guard == "cache" else None))
    policy = replace(GUARDED, accept=mind)
    there.set("k", "a")
    mind.forbid("b", "none")
    if way != "refresh":
        there.invalidate("k")
    before = dict(there.stored)
    for value in ("b", "none", Entry("b", ttl=5)):
        with pytest.raises(NoSafeValue):
            there.run(getattr(there.cache, way), "k", there.loader(value), policy=policy)
    assert there.loads == 3
    assert there.stored == before
    assert there.get("k") == ("a" if way == "refresh" else None)
    assert there.cache.stats()["errors"] == 3


@pytest.mark.parametrize("memory", [0, 10])
@pytest.mark.parametrize("store", [True, False])
def test_to_set_what_is_refused_ends_what_was_there(stage: Make, memory: int, store: bool) -> None:
    """L13: the caller has said that the old value is over, and the new one must not be given."""
    there, mind = guarded(stage, memory=memory)
    if not store:
        make: Any = type(there.cache)
        there.cache = make(None, name="alone", memory=10, policy=replace(GUARDED, accept=mind))
    there.set("k", "a")
    mind.forbid("b")
    assert there.set("k", "b") is False
    assert there.get("k") is None
    assert not there.stored
    assert there.cache.stats()["invalidations_confirmed"] == 1
    with pytest.raises(MisuseError, match="ttl must be at least 0"):
        there.set("k", "b", ttl=-1)


def test_to_set_what_is_refused_holds_against_a_store_that_is_down(stage: Make) -> None:
    """L9: as an invalidation does."""
    there, mind = guarded(stage)
    there.set("k", "a")
    mind.forbid("b")
    there.plan.during(Fault(FaultKind.RAISE))
    assert there.set("k", "b") is False
    there.plan.calm()
    assert there.lookup("k").reason is Reason.FENCED
    assert there.cache.stats()["invalidations_pending"] == 1


def cached_function(there: Stage, policy: CachePolicy | None, answers: Iterator[str]) -> Any:
    """A cached function that gives one answer after the other."""
    decorate = there.cache.cached(key="k:{host}", policy=policy)
    if there.colour == "sync":
        return decorate(lambda host: next(answers))

    async def function(host: str) -> str:
        return next(answers)

    return decorate(function)


def test_a_cached_function_asks_its_guard(stage: Make) -> None:
    """L13: that of its cache, and that of its own policy though the cache has none."""
    mind = Mind()
    for accept, policy in ((mind, None), (None, replace(GUARDED, accept=mind))):
        there = stage(memory=10, policy=replace(GUARDED, accept=accept))
        mind.allowed = EVERYTHING
        cached = cached_function(there, policy, iter("abc"))
        assert [there.run(cached, "x"), there.run(cached, host="x")] == ["a", "a"]
        mind.forbid("a")
        assert [there.run(cached, "x"), there.run(cached, "x")] == ["b", "b"]
        mind.forbid("b")
        assert not there.run(cached.lookup, "x")
        mind.forbid("c")
        with pytest.raises(NoSafeValue):
            there.run(cached.refresh, "x")


# The function itself


class Struck(BaseException):
    """No `Exception`."""


async def awaited(key: str, value: object) -> bool:
    return True


def raises(key: str, value: object) -> bool:
    raise KeyError(f"secret {value}")


class Broken:
    def __bool__(self) -> bool:
        raise ValueError


@pytest.mark.parametrize("accept", [raises, lambda *_: awaited("k", 1), lambda *_: Broken(), lambda key: True])
def test_a_guard_that_fails_has_refused(stage: Make, accept: Any, caplog: pytest.LogCaptureFixture) -> None:
    """L13, L18: counted, logged once a minute without the value; also one that is still to be awaited."""
    there = stage(memory=10, policy=replace(POLICY, accept=accept))
    with caplog.at_level(logging.WARNING, "resilient_cache"):
        for _ in range(3):
            with pytest.raises(NoSafeValue):
                there.load("k", "value")
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "accept raised" in caplog.text
        assert "value" not in caplog.text
        there.clock.advance(60)
        with pytest.raises(NoSafeValue):
            there.load("k", "value")
    assert len(caplog.records) == 2
    assert there.cache.stats()["accept_errors"] >= 4


def test_what_answers_with_a_future_has_refused(stage: Make) -> None:
    """L13: anything that is to be awaited."""

    class Later:
        def __await__(self) -> Iterator[Any]:
            return iter(())

    later: Any = Later()
    there = stage(memory=10, policy=replace(POLICY, accept=lambda *_: later))
    with pytest.raises(NoSafeValue):
        there.load("k", "value")


def test_who_is_struck_in_the_guard_is_struck(stage: Make) -> None:
    """L2: it goes through, and nothing is counted or kept."""

    def strike(key: str, value: object) -> bool:
        raise Struck

    there = stage(memory=10, policy=replace(POLICY, accept=strike))
    with pytest.raises(Struck):
        there.load("k", "value")
    assert there.cache.stats() == {**there.cache.stats(), "requests": 0}
    assert "accept_errors" not in there.cache.stats()
    assert there.cache.health()["flights"] == 0


@pytest.mark.parametrize("wrong", [5, "eu", awaited])
def test_what_is_no_function_is_misuse(wrong: Any) -> None:
    """L6: at construction, by name."""
    with pytest.raises(MisuseError, match="accept must be a plain function of key and value or None"):
        CachePolicy(accept=wrong)


def test_the_guard_is_given_the_key_and_the_value(stage: Make) -> None:
    """Also of an `Entry` its value."""
    there, mind = guarded(stage)
    there.load("k", Entry("a", ttl=5))
    there.set("k", Entry("b", ttl=5))
    assert set(mind.asked) == {("k", "a"), ("k", "b")}


def test_one_function_is_asked_once(stage: Make) -> None:
    """Also where the call's policy was made from the cache's, as that of a cached function with a `ttl` is."""
    there, mind = guarded(stage, memory=10)
    there.set("k", "a")
    counts = []
    for policy in (None, replace(GUARDED, ttl=5, accept=mind)):
        mind.asked.clear()
        there.load("k", "b", policy=policy)
        counts.append(len(mind.asked))
    assert counts == [1, 1]


def test_what_could_only_stand_in_is_dropped_as_well(stage: Make) -> None:
    """What is refused is not kept for another day."""
    there, mind = guarded(stage, memory=10)
    there.set("k", "a")
    there.clock.advance(11)
    mind.forbid("a")
    assert not there.lookup("k")
    assert there.cache.health()["memory_entries"] == 0


def test_without_a_guard_the_shortest_way_is_open(stage: Make) -> None:
    """With one it is shut, and opens no more under any mode."""
    there, _ = guarded(stage, memory=10)
    there.set("k", "a")
    for mode in (Mode.ON, Mode.BYPASS, Mode.ON):
        there.cache.mode = mode
        assert there.cache._rules.peek("k") is None
    plain = stage(memory=10)
    plain.set("k", "a")
    assert plain.cache._rules.peek("k")[0] == "a"


@pytest.mark.parametrize("memory", [0, 10])
def test_an_invalidation_is_told_where_the_store_says_what_became_of_it(stage: Make, memory: int) -> None:
    """A report about a value that is refused by now: it is not served, so there is nothing to do."""
    there, mind = guarded(stage, memory=memory)
    there.set("k", "a")
    mind.forbid("a")
    assert there.report_mistake("k", "a") == "other"
    assert there.invalidate("k") is Invalidation.CONFIRMED
