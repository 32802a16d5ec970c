"""Plans and histories for Hypothesis: they print as code, shrink to what matters, and are played in both colours."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from resilient_cache import (
    AsyncResilientCache,
    CachePolicy,
    FailureKind,
    ResilientCache,
    StoreError,
    testing,
)
from resilient_cache.testing import (
    Advance,
    AsyncFaultyAdapter,
    Call,
    Fault,
    FaultKind,
    FaultPlan,
    FaultyAdapter,
    Heal,
    ManualClock,
    Outage,
    Step,
    aplay,
    play,
    run_virtual,
)
from resilient_cache.testing.strategies import FAULTS, cache_histories, fault_plans

NAMES: dict[str, Any] = {name: getattr(testing, name) for name in testing.__all__}
NAMES |= {"StoreError": StoreError, "FailureKind": FailureKind}


def written(code: str) -> Any:
    """What the code of a `repr` makes."""
    return eval(code, NAMES)  # noqa: S307 - code of our own


ALL_FAULTS = (*FAULTS, Fault.raising(KeyError("k")), Fault(FaultKind.RAISE, 2.0), Fault(FaultKind.JUMP, value=b"v"))


@pytest.mark.parametrize("fault", ALL_FAULTS, ids=repr)
def test_a_fault_is_shown_as_it_is_written(fault: Fault) -> None:
    again = written(repr(fault))
    assert (again.kind, again.seconds, again.value) == (fault.kind, fault.seconds, fault.value)
    assert repr(again.error) == repr(fault.error)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault(FaultKind.HANG), "Fault(FaultKind.HANG)"),
        (Fault(FaultKind.JUMP, -3600.0), "Fault(FaultKind.JUMP, seconds=-3600.0)"),
        (Fault.slow(0.1), "Fault.slow(0.1)"),
        (Fault.late(3.0), "Fault.late(3.0)"),
        (Fault.raising(KeyError("k")), "Fault.raising(KeyError('k'))"),
    ],
)
def test_a_fault_is_shown_in_short(fault: Fault, text: str) -> None:
    assert repr(fault) == text


def test_a_plan_is_shown_as_what_is_still_to_come() -> None:
    hang = Fault(FaultKind.HANG)
    plan = FaultPlan().then("get", None, hang).then("set", hang).during(Fault.slow(0.1), "delete")
    assert repr(plan) == (
        "FaultPlan().then('get', None, Fault(FaultKind.HANG)).then('set', Fault(FaultKind.HANG))"
        ".during(Fault.slow(0.1), 'delete')"
    )
    assert repr(written(repr(plan))) == repr(plan)
    assert [plan.draw("set"), plan.draw("get")] == [hang, None]
    assert repr(plan) == "FaultPlan().then('get', Fault(FaultKind.HANG)).during(Fault.slow(0.1), 'delete')"
    assert repr(plan.calm()) == "FaultPlan()"


def test_a_seeded_plan_is_shown_with_its_seed_until_it_is_calm() -> None:
    plan = FaultPlan.seeded(7, rate=0.5, faults=(Fault(FaultKind.HANG),))
    assert repr(plan) == "FaultPlan.seeded(7, rate=0.5, faults=[Fault(FaultKind.HANG)])"
    again = written(repr(plan))
    assert [plan.draw("get") for _ in range(20)] == [again.draw("get") for _ in range(20)]
    assert repr(plan.calm()) == "FaultPlan()"


# Strategies

FINDING = settings(max_examples=500, database=None, derandomize=True, phases=[Phase.generate, Phase.shrink])


def shortest(strategy: st.SearchStrategy[Any], condition: Callable[[Any], bool]) -> str:
    """The example that Hypothesis shrinks to."""
    return repr(find(strategy, condition, settings=FINDING))


def test_a_plan_shrinks_to_the_fault_that_matters() -> None:
    assert shortest(fault_plans(), lambda _: True) == "FaultPlan()"
    assert shortest(fault_plans(), lambda plan: "CORRUPT" in repr(plan)) == (
        "FaultPlan().then('get', Fault(FaultKind.CORRUPT))"
    )


def test_a_history_shrinks_to_the_step_that_matters() -> None:
    assert shortest(cache_histories(), lambda _: True) == "[]"
    assert shortest(cache_histories(), lambda history: Heal() in history) == "[Heal()]"


@settings(max_examples=20)
@given(fault_plans(faults=[Fault(FaultKind.HANG)], operations=["get"], longest=3))
def test_a_plan_holds_what_it_was_asked_for(plan: FaultPlan) -> None:
    assert plan.draw("set") is None
    drawn = [plan.draw("get") for _ in range(4)]
    assert drawn[3] is None
    assert set(drawn) <= {None, Fault(FaultKind.HANG)}


@settings(max_examples=50)
@given(cache_histories(calls=["region"], keys=["shop"], seconds=[2.0], outages=[], longest=5))
def test_a_history_holds_what_it_was_asked_for(history: list[Step]) -> None:
    assert len(history) <= 5
    assert set(history) <= {Call("region", "shop"), Advance(2.0)}


def test_every_kind_of_fault_may_be_in_a_plan() -> None:
    assert {fault.kind for fault in FAULTS} == set(FaultKind)


@settings(max_examples=10)
@given(fault_plans(faults=[Fault(FaultKind.CORRUPT)]))
def test_a_fault_of_an_answer_is_not_wasted_on_a_write(plan: FaultPlan) -> None:
    assert {plan.draw(operation) for operation in ("set", "delete") for _ in range(20)} == {None}


@pytest.mark.parametrize("operation", ["get", "get_many"])
def test_a_fault_of_an_answer_is_one_of_many_answers_too(operation: str) -> None:
    faults: Any = (fault for fault in [Fault(FaultKind.CORRUPT)])
    assert shortest(fault_plans(faults=faults, operations=[operation]), lambda plan: "CORRUPT" in repr(plan)) == (
        f"FaultPlan().then({operation!r}, Fault(FaultKind.CORRUPT))"
    )


LIST = "must be a list of"
plans: Any = fault_plans  # of any arguments, as of a caller who checks no types
histories: Any = cache_histories
outage: Any = Outage


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        (lambda: plans(operations=("read",)), ValueError, "operation must be one of get, .*, not 'read'"),
        (lambda: plans(operations="get"), TypeError, f"operations {LIST} str, not 'get'"),
        (lambda: plans(operations=()), ValueError, "operations must hold at least 1 str, not none"),
        (lambda: plans(faults=["hang"]), TypeError, "each of faults must be Fault, not 'hang'"),
        (lambda: plans(faults=Fault(FaultKind.HANG)), TypeError, f"faults {LIST} Fault, not Fault"),
        (lambda: plans(faults=None), TypeError, f"faults {LIST} Fault, not None"),
        (lambda: plans(longest=-1), ValueError, "longest must be at least 0, not -1"),
        (lambda: histories(calls=()), ValueError, "calls must hold at least 1 str, not none"),
        (lambda: histories(calls="get"), TypeError, f"calls {LIST} str, not 'get'"),
        (lambda: histories(keys=()), ValueError, "keys must hold at least 1 str, not none"),
        (lambda: histories(keys={"a", "b"}), TypeError, f"keys {LIST} str, not {{"),
        (lambda: histories(keys=[1]), TypeError, "each of keys must be str, not 1"),
        (lambda: histories(seconds=[1.0, -1.0]), ValueError, "seconds must be at least 0 and finite, not -1"),
        (lambda: histories(seconds=5), TypeError, "seconds must be a list of Real, not 5"),
        (lambda: histories(outages=["hang"]), TypeError, "each of outages must be Fault, not 'hang'"),
        (lambda: histories(longest="3"), TypeError, "longest must be int, not '3'"),
        (lambda: outage(Fault(FaultKind.HANG), "get"), TypeError, f"operations {LIST} str, not 'get'"),
        (lambda: outage(Fault(FaultKind.HANG), ("got",)), ValueError, "operation must be one of get, .*, not 'got'"),
        (lambda: outage("hang"), TypeError, "fault must be Fault, not 'hang'"),
        (lambda: Advance(-1.0), ValueError, "seconds must be at least 0 and finite, not -1"),
    ],
)
def test_what_could_never_happen_is_said_at_once(
    wrong: Callable[[], object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=f"^{said}"):
        wrong()


def test_whatever_is_in_an_order_will_do() -> None:
    strategy = histories(calls=dict.fromkeys(["get"]).keys(), keys=(key for key in "a"), seconds=(), outages=())
    assert (
        shortest(strategy, lambda history: len(history) > 1) == "[Call(name='get', key='a'), Call(name='get', key='a')]"
    )


# Playing


HISTORY: list[Step] = [
    Call("load", "a"),
    Outage(Fault(FaultKind.HANG), ("get",)),
    Call("get", "a"),
    Heal(),
    Call("get", "a"),
    Advance(61.0),
    Call("get", "a"),
]
ANSWERS = [(Call("load", "a"), "A"), (Call("get", "a"), None), (Call("get", "a"), "A"), (Call("get", "a"), None)]


def upper(key: str) -> str:
    return key.upper()


def test_a_history_is_played() -> None:
    clock, plan = ManualClock(), FaultPlan()
    cache = ResilientCache[str, str](FaultyAdapter(clock, plan=plan), name="played", clock=clock)
    calls: dict[str, Callable[[str], object]] = {
        "get": cache.get,
        "load": lambda key: cache.get_or_load(key, str.upper),
    }
    assert list(play(HISTORY, calls, clock=clock, plan=plan)) == ANSWERS
    assert clock.monotonic() == 1061.25


def test_a_history_is_played_in_the_other_colour() -> None:
    clock, plan = ManualClock(), FaultPlan()

    async def load(key: str) -> str:
        return upper(key)

    async def main() -> list[tuple[Call, object]]:
        store = AsyncFaultyAdapter(clock, plan=plan)
        async with AsyncResilientCache[str, str](store, name="played", clock=clock) as cache:
            calls: dict[str, Callable[[str], Awaitable[object]]] = {
                "get": cache.get,
                "load": lambda key: cache.get_or_load(key, load),
            }
            return [played async for played in aplay(HISTORY, calls, plan=plan)]

    assert run_virtual(main(), clock) == ANSWERS
    assert clock.monotonic() == 1061.25


def test_time_that_is_real_is_not_played_away() -> None:
    async def main() -> None:
        async for _ in aplay([Advance(3600.0)], {}, plan=FaultPlan()):
            pass

    with pytest.raises(RuntimeError, match="use run_virtual"):
        asyncio.run(main())


def test_what_is_no_step_is_not_taken_for_one() -> None:
    clock, plan, step = ManualClock(), FaultPlan().during(Fault(FaultKind.HANG)), ("region", "shop")
    history: list[Any] = [step]

    async def main() -> None:
        async for _ in aplay(history, {}, plan=plan):
            pass

    with pytest.raises(TypeError, match=r"step must be Call or Advance or Outage or Heal, not \('region', 'shop'\)"):
        list(play(history, {}, clock=clock, plan=plan))
    with pytest.raises(TypeError, match="step must be Call"):
        run_virtual(main(), clock)
    assert plan.draw("get") == Fault(FaultKind.HANG)


def test_what_a_call_raises_is_raised() -> None:
    def region(key: str) -> str:
        raise LookupError(key)

    with pytest.raises(LookupError, match="shop"):
        list(play([Call("region", "shop")], {"region": region}, clock=ManualClock(), plan=FaultPlan()))
    with pytest.raises(KeyError, match="nobody"):
        list(play([Call("nobody", "shop")], {"region": region}, clock=ManualClock(), plan=FaultPlan()))


class Truth:
    """A record whose values are never the same twice."""

    def __init__(self) -> None:
        self.versions: dict[str, int] = {}

    def load(self, key: str) -> int:
        return self.versions.setdefault(key, 0)

    def change(self, key: str) -> None:
        self.versions[key] = self.load(key) + 1


SMALL = CachePolicy(ttl=60, stale_for=300, jitter=0)


@given(plan=fault_plans(), history=cache_histories(calls=["get", "load", "move"]), memory=st.sampled_from([0, 2]))
def test_no_plan_and_no_history_makes_a_cache_raise_or_give_what_is_not_so(
    plan: FaultPlan, history: list[Step], memory: int
) -> None:
    clock, truth = ManualClock(), Truth()
    store = FaultyAdapter(clock, plan=plan)
    cache = ResilientCache[str, int](store, name="truth", clock=clock, policy=SMALL, memory=memory)

    def move(key: str) -> None:
        truth.change(key)
        cache.invalidate(key)

    calls: dict[str, Callable[[str], Any]] = {"get": cache.get, "move": move}
    calls["load"] = lambda key: cache.get_or_load(key, truth.load)
    for call, answer in play(history, calls, clock=clock, plan=plan):
        allowed = {"get": (None, truth.load(call.key)), "load": (truth.load(call.key),), "move": (None,)}
        assert answer in allowed[call.name]
    assert cache.stats()["errors"] == 0


def test_a_cache_that_gives_what_is_not_so_is_found() -> None:
    """The property above can fail: without an invalidation, the shortest history that shows it is three calls."""

    def wrong(history: list[Step]) -> bool:
        clock, truth, plan = ManualClock(), Truth(), FaultPlan()
        cache = ResilientCache[str, int](FaultyAdapter(clock, plan=plan), name="wrong", clock=clock, policy=SMALL)
        calls: dict[str, Callable[[str], Any]] = {"get": cache.get, "move": truth.change}
        calls["load"] = lambda key: cache.get_or_load(key, truth.load)
        played = play(history, calls, clock=clock, plan=plan)
        return any(call.name != "move" and answer not in (None, truth.load(call.key)) for call, answer in played)

    assert shortest(cache_histories(calls=["get", "load", "move"]), wrong) == (
        "[Call(name='load', key='a'), Call(name='move', key='a'), Call(name='get', key='a')]"
    )
