"""What the parts owe each other: many keys, the origin, guards and refreshes; hedges, and who shares what they find."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from resilient_cache import (
    Backpressure,
    BreakerPolicy,
    CachePolicy,
    MisuseError,
    OriginOverloaded,
    Source,
    conditional,
)
from resilient_cache._local import Local
from resilient_cache.testing import Fault, FaultKind

from .stage import POLICY, Stage

Make = Callable[..., Stage]
NARROW = replace(POLICY, max_loads=1, load_wait=0)
CIRCUIT = BreakerPolicy(consecutive=2, span=0, hold=1, probes=1)


class Origin:
    """A loader of many in the colour of the stage, that can look around while it runs."""

    def __init__(self, there: Stage, give: Callable[[list[str]], Any]) -> None:
        self.calls: list[list[str]] = []

        def load(keys: list[str]) -> Any:
            self.calls.append(sorted(keys))
            return give(keys)

        async def aload(keys: list[str]) -> Any:
            return load(keys)

        self.load: Any = load if there.colour == "sync" else aload


def upper(keys: list[str]) -> dict[str, str]:
    return {key: key.upper() for key in keys}


def failing(error: Exception) -> Callable[[list[str]], Any]:
    def fail(_: list[str]) -> Any:
        raise error

    return fail


def occupy(there: Stage) -> Callable[[], object]:
    bulkhead = there.cache._rules.loads.origin._bulkhead
    permit = bulkhead.force(1e9)
    return lambda: bulkhead.release(permit)


def test_a_load_of_many_has_one_permit_and_gives_it_back(stage: Make) -> None:
    """L15: the origin sees one call."""
    there = stage(policy=replace(POLICY, max_loads=2))
    seen: list[int] = []

    def give(keys: list[str]) -> Any:
        seen.append(there.cache.health()["origin"]["loads"])
        return upper(keys)

    origin = Origin(there, give)
    assert there.get_or_load_many(list("abc"), origin.load) == upper(list("abc"))
    assert (seen, there.cache.health()["origin"]["loads"]) == ([1], 0)


@pytest.mark.parametrize("on_overload", ["raise", "proceed"])
def test_a_load_of_many_that_gets_no_permit_is_one_overload(stage: Make, on_overload: str) -> None:
    """L15: raised as the error of the whole, or made all the same and reported once."""
    there = stage(policy=replace(NARROW, on_overload=on_overload))
    origin, release = Origin(there, upper), occupy(there)
    if on_overload == "raise":
        with pytest.raises(OriginOverloaded, match="no load was started"):
            there.get_or_load_many(["a", "b"], origin.load)
        release()
        assert origin.calls == []
    assert there.get_or_load_many(["a", "b"], origin.load) == {"a": "A", "b": "B"}
    assert origin.calls == [["a", "b"]]
    assert there.cache.stats().get("overload_full_proceed", 0) == (on_overload == "proceed")


def test_without_a_permit_what_is_stale_stands_in(stage: Make) -> None:
    """L12: for all, when all have something stale."""
    there = stage(policy=replace(NARROW, ttl=1), memory=10)
    origin = Origin(there, upper)
    there.get_or_load_many(["a", "b"], origin.load)
    there.clock.advance(2)
    release = occupy(there)
    assert there.get_or_load_many(["a", "b"], origin.load) == {"a": "A", "b": "B"}
    assert (len(origin.calls), there.cache.stats()["stale"]) == (1, 2)
    release()


def test_who_has_something_stale_goes_along_with_who_has_not(stage: Make) -> None:
    """L15: one load is made for those that have nothing, so it is made for all of them."""
    there = stage(policy=replace(NARROW, ttl=1), memory=10)
    origin = Origin(there, upper)
    there.get_or_load_many(["b"], origin.load)
    there.clock.advance(2)
    release = occupy(there)
    assert there.get_or_load_many(["b", "a"], origin.load) == {"a": "A", "b": "B"}
    assert origin.calls == [["b"], ["a", "b"]]
    assert there.cache.stats()["overload_full_proceed"] == 1
    release()


def test_who_needs_no_load_leaves_the_permit_to_the_next(stage: Make) -> None:
    """What the first has instead of a load is no reason to shed the second."""
    there = stage(policy=replace(NARROW, error_ttl=5, on_overload="raise"), memory=10)
    with pytest.raises(OSError, match="down"):
        there.load("a", OSError("down"))
    origin = Origin(there, upper)
    found = there.get_or_load_many(["a", "b"], origin.load)
    assert (found, origin.calls) == ({"b": "B"}, [["b"]])
    assert str(found.errors["a"]) == "down"
    assert there.cache.health()["origin"]["loads"] == 0


def test_a_load_of_many_is_one_sample_of_the_origins_circuit(stage: Make) -> None:
    """L16: five keys that fail together are one failure, and errors of single keys none."""
    there = stage(policy=replace(POLICY, stale_for=0, origin=CIRCUIT))
    down = Origin(there, failing(OSError("down")))
    with pytest.raises(OSError, match="down"):
        there.get_or_load_many(list("abcde"), down.load)
    assert there.cache.circuits["origin"].state == "closed"
    single = Origin(there, lambda keys: {key: ValueError(key) for key in keys})
    assert len(there.get_or_load_many(list("abcde"), single.load).errors) == 5
    for _ in range(2):
        assert there.cache.circuits["origin"].state == "closed"
        with pytest.raises(OSError, match="down"):
            there.get_or_load_many(list("abcde"), down.load)
    assert there.cache.circuits["origin"].state == "open"
    with pytest.raises(OriginOverloaded, match="circuit is open"):
        there.get_or_load_many(list("abcde"), down.load)
    there.clock.advance(2)
    assert there.get_or_load_many(list("ab"), Origin(there, upper).load) == {"a": "A", "b": "B"}
    assert there.cache.circuits["origin"].state == "closed"


def test_an_origin_that_asks_for_a_pause_is_heard_once(stage: Make) -> None:
    """Whatever the number of keys."""
    there = stage(policy=replace(POLICY, adaptive_loads=True))
    with pytest.raises(Backpressure):
        there.get_or_load_many(list("abc"), Origin(there, failing(Backpressure(5.0))).load)
    assert there.cache.stats()["backpressure"] == 1
    with pytest.raises(OriginOverloaded, match="left alone"):
        there.get_or_load_many(list("abc"), Origin(there, upper).load)
    there.clock.advance(6)
    assert len(there.get_or_load_many(list("abc"), Origin(there, upper).load)) == 3


def test_a_guard_stands_at_the_ways_out_of_many(stage: Make) -> None:
    """L13: memory, store and load; what it refuses is loaded, or an error of its own key."""
    allowed = {"A", "B"}
    there = stage(policy=replace(POLICY, stale_for=0, accept=lambda _, value: value in allowed), memory=10)
    origin = Origin(there, upper)
    assert there.get_or_load_many(["a", "b"], origin.load) == {"a": "A", "b": "B"}
    allowed.remove("A")
    assert there.get_many(["a", "b"]) == {"b": "B"}
    found = there.get_or_load_many(["a", "b"], origin.load)
    assert (found, list(found.errors)) == ({"b": "B"}, ["a"])
    assert "laws:a" not in there.stored


def test_a_guard_of_a_call_for_many_is_not_gone_round(stage: Make) -> None:
    """L13: not even by what memory would answer at once."""
    there = stage(memory=10)
    origin = Origin(there, upper)
    there.get_or_load_many(["a", "b"], origin.load)
    guarded = replace(POLICY, stale_for=0, accept=lambda key, _: key != "a")
    found = there.get_or_load_many(["a", "b"], origin.load, policy=guarded)
    assert (found, list(found.errors)) == ({"b": "B"}, ["a"])


def test_what_a_guard_refuses_to_set_among_many_is_invalidated(stage: Make) -> None:
    """L13: as by `set`; the others are stored."""
    there = stage(policy=replace(POLICY, accept=lambda _, value: value != "bad"), memory=10)
    assert there.set_many({"a": "old", "b": "old"}) is True
    assert there.set_many({"a": "bad", "b": "new"}) is False
    assert there.get_many(["a", "b"]) == {"b": "new"}
    assert set(there.stored) == {"laws:b"}


BEHIND = replace(POLICY, ttl=1, refresh_behind=True)


def counted(there: Stage) -> Origin:
    """Gives the number of its call for each key."""
    calls = iter(range(1, 100))

    def give(keys: list[str]) -> dict[str, int]:
        return dict.fromkeys(keys, next(calls))

    return Origin(there, give)


@pytest.mark.parametrize("memory", [0, 10])
def test_many_keys_past_their_ttl_are_served_while_one_load_runs_behind_for_them(stage: Make, memory: int) -> None:
    """As single keys are: nobody waits for a load but for what is not there."""
    there = stage(policy=BEHIND, memory=memory)
    origin = counted(there)
    there.get_or_load_many(["a", "b"], origin.load)
    there.clock.advance(2)
    assert there.get_or_load_many(["a", "b", "c"], origin.load) == {"a": 1, "b": 1, "c": 2}
    assert there.cache.stats()["stale"] == 2
    there.run_behind()
    assert origin.calls == [["a", "b"], ["c"], ["a", "b"]]
    assert there.get_or_load_many(["a", "b"], origin.load) == {"a": 3, "b": 3}
    assert there.cache.stats()["refreshes_behind"] == 2
    assert (there.cache.health()["flights"], there.cache.health()["origin"]["loads"]) == (0, 0)


def test_what_is_loaded_behind_already_is_not_loaded_behind_again(stage: Make) -> None:
    """L14: neither by another call for many nor by one for a single key."""
    there = stage(policy=BEHIND, memory=10)
    origin = counted(there)
    there.get_or_load_many(["a", "b"], origin.load)
    there.clock.advance(2)
    for _ in range(3):
        assert there.get_or_load_many(["b", "a"], origin.load) == {"a": 1, "b": 1}
    assert there.load("a", 0) == 1
    there.run_behind()
    assert (origin.calls, there.loads) == ([["a", "b"], ["a", "b"]], 0)


def test_where_nothing_runs_behind_many_keys_are_loaded_by_who_asks(stage: Make) -> None:
    def none(_: object) -> None:
        raise RuntimeError("can't start new thread")

    there = stage(policy=BEHIND, memory=10, spawn=none)
    origin = counted(there)
    there.get_or_load_many(["a", "b"], origin.load)
    there.clock.advance(2)
    assert there.get_or_load_many(["a", "b"], origin.load) == {"a": 2, "b": 2}
    assert there.cache.health()["flights"] == 0


def test_a_load_of_many_behind_that_fails_is_not_begun_again_at_once(stage: Make) -> None:
    """L12: no sooner than `stale_retry` after its end; meanwhile the stale entries serve."""
    there = stage(policy=replace(BEHIND, stale_retry=1.5), memory=10)
    values = iter([dict.fromkeys("ab", "old"), ConnectionError("down"), dict.fromkeys("ab", "new")])

    def give(_: list[str]) -> Any:
        there.clock.advance(2)
        value = next(values)
        if isinstance(value, Exception):
            raise value
        return value

    origin = Origin(there, give)
    there.get_or_load_many(["a", "b"], origin.load)
    for _ in range(2):
        assert there.get_or_load_many(["a", "b"], origin.load) == {"a": "old", "b": "old"}
        there.run_behind()
    assert len(origin.calls) == 2
    assert there.cache.stats()["refresh_errors"] == 2
    there.clock.advance(1.5)
    assert there.get_or_load_many(["a", "b"], origin.load) == {"a": "old", "b": "old"}
    there.run_behind()
    assert there.get_or_load_many(["a", "b"], origin.load) == {"a": "new", "b": "new"}


def test_many_keys_are_loaded_again_early(stage: Make) -> None:
    there = stage(policy=replace(POLICY, ttl=60, early_refresh=True), memory=10, random=lambda: 1e-3)
    values = iter(["old", "new"])

    def give(keys: list[str]) -> dict[str, str]:
        there.clock.advance(1)
        return dict.fromkeys(keys, next(values))

    origin = Origin(there, give)
    there.get_or_load_many(["a", "b"], origin.load)
    there.clock.advance(56)
    assert there.get_or_load_many(["a", "b"], origin.load) == {"a": "old", "b": "old"}
    there.run_behind()
    assert there.get_or_load_many(["a", "b"], origin.load) == {"a": "new", "b": "new"}
    assert origin.calls == [["a", "b"]] * 2


def test_what_ends_a_task_is_no_value_of_a_key(stage: Make) -> None:
    """As `gather(return_exceptions=True)` gives it: it was served, and kept, as if it were one."""
    there = stage(memory=10)
    origin = Origin(there, lambda _: {"a": asyncio.CancelledError(), "b": 1})
    found = there.get_or_load_many(["a", "b"], origin.load)
    assert (found, [*found.errors]) == ({"b": 1}, ["a"])
    with pytest.raises(MisuseError, match="load_many must give values and exceptions, not a CancelledError"):
        found["a"]
    assert there.get("a") is None


def test_a_conditional_loader_of_many_is_refused(stage: Make) -> None:
    """L6: before anything is touched."""
    there = stage()
    if there.colour == "sync":

        @conditional
        def load(keys: Any, _: Any) -> Any:
            return upper(keys)
    else:

        @conditional
        async def load(keys: Any, _: Any) -> Any:
            return upper(keys)

    with pytest.raises(MisuseError, match="load_many must be a plain function"):
        there.get_or_load_many(["a"], load)
    assert there.adapter.calls == []


# Hedges, for tasks: threads run the same text


def slow_stage(**options: Any) -> Stage:
    return Stage("async", policy=replace(POLICY, hedge_after=0.01, **options), spawn=None)


def test_a_hedged_load_keeps_its_permit_when_its_caller_leaves() -> None:
    """L15: until the work ends."""
    there = slow_stage(max_loads=1)
    there.plan.during(Fault(FaultKind.HANG), "get")

    async def main() -> None:
        go_on = asyncio.Event()

        async def load(_: str) -> str:
            await go_on.wait()
            return "loaded"

        caller = asyncio.ensure_future(there.cache.get_or_load("k", load))
        await pass_time(0.05)
        assert there.cache.health()["origin"]["loads"] == 1
        caller.cancel()
        await pass_time(0.01)
        assert there.cache.health()["origin"]["loads"] == 1
        go_on.set()
        await pass_time(0.5)
        assert there.cache.health()["origin"]["loads"] == 0
        await there.cache.aclose()

    there.run(main)


async def pass_time(seconds: float) -> None:
    """Let virtual time pass."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.call_later(seconds, over.set_result, None)
    await over


def test_many_keys_share_what_a_store_gave_to_a_hedge() -> None:
    """Who waits for the flight of another is given the entry at once, not when the load beside it ends."""
    there = slow_stage()
    given = there.another(policy=POLICY)

    async def main() -> None:
        await given.set("k", "stored")
        there.plan.during(Fault.slow(0.05), "get")
        never = asyncio.Event()

        async def load(_: str) -> str:
            await never.wait()
            return "loaded"

        async def load_many(keys: list[str]) -> dict[str, str]:
            return upper(keys)

        first = asyncio.ensure_future(there.cache.get_or_load("k", load))
        await pass_time(0.02)  # the load is on its way, and leads
        many = asyncio.ensure_future(there.cache.get_or_load_many(["k"], load_many))
        assert await first == "stored"
        assert await many == {"k": "stored"}
        never.set()
        await pass_time(0.1)
        await there.cache.aclose()

    there.run(main)


def test_who_may_not_be_stale_is_not_given_what_is_by_a_hedge() -> None:
    """L12: a stale entry goes at once to those only who refresh behind; the others wait for the load."""
    there = slow_stage(ttl=1, refresh_behind=True)
    given = there.another(policy=replace(POLICY, ttl=1))
    strict: CachePolicy = replace(POLICY, ttl=1, hedge_after=None)

    async def main() -> None:
        await given.set("k", "stored")
        await pass_time(2)
        there.plan.during(Fault.slow(0.05), "get")
        go_on = asyncio.Event()

        async def load(_: str) -> str:
            await go_on.wait()
            return "loaded"

        first = asyncio.ensure_future(there.cache.lookup("k", load))
        await pass_time(0.02)
        second = asyncio.ensure_future(there.cache.lookup("k", load, policy=strict))
        found = await first
        assert (found.value, found.source) == ("stored", Source.STALE)
        assert not second.done()
        go_on.set()
        assert (await second).value == "loaded"
        await there.cache.aclose()

    there.run(main)


def test_an_interrupt_while_the_load_runs_beside_takes_nothing_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """L2, L15: its caller is gone; the load leads, and has its permit until it ends."""
    there = Stage("sync", policy=replace(POLICY, hedge_after=0.01))
    waits: list[float] = []

    def wait(_: Any, seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("resilient_cache._threads.Seat.wait", wait)
    with pytest.raises(KeyboardInterrupt):
        there.load("k", "loaded")
    assert (len(there.behind), there.cache.health()["flights"]) == (2, 1)
    there.run_behind()
    assert (there.loads, there.cache.health()["flights"], there.cache.health()["origin"]["loads"]) == (1, 0, 0)


def test_what_degraded_memory_has_passes_the_guard_too(stage: Make) -> None:
    """L13: what is refused there is forgotten there."""
    allowed = {"old", "new"}
    policy = replace(POLICY, degraded_ttl=30, stale_for=0, accept=lambda _, value: value in allowed)
    there = stage(policy=policy)
    with there.cache.circuits["read"].force_open():
        assert there.load("k", "old") == "old"
        assert there.load("k", "unused") == "old"
        allowed.remove("old")
        assert there.get("k") is None
        assert there.load("k", "new") == "new"


def test_many_keys_ask_again_when_who_led_made_do_with_what_is_stale() -> None:
    """L15: the leader's stand-in is none for a call that may not be stale."""
    there = Stage("async", policy=replace(NARROW, ttl=1, load_wait=0.05), memory=10, spawn=None)
    strict = replace(NARROW, ttl=1, stale_for=0)

    async def main() -> None:
        await there.cache.set("k", "old")
        await pass_time(2)
        release = occupy(there)

        async def load(_: str) -> str:
            return "never"

        async def load_many(keys: list[str]) -> dict[str, str]:
            return upper(keys)

        first = asyncio.ensure_future(there.cache.lookup("k", load))
        await pass_time(0.01)
        many = asyncio.ensure_future(there.cache.get_or_load_many(["k"], load_many, policy=strict))
        assert (await first).source is Source.STALE
        assert await many == {"k": "K"}
        release()
        await there.cache.aclose()

    there.run(main)


def test_many_keys_of_which_the_store_has_all_load_nothing_though_they_lead(stage: Make) -> None:
    """Nobody queues for nothing."""
    there = stage(policy=NARROW)
    origin = Origin(there, upper)
    there.get_or_load_many(["a", "b"], origin.load)
    release = occupy(there)
    assert there.get_or_load_many(["a", "b"], origin.load) == {"a": "A", "b": "B"}
    assert (len(origin.calls), there.cache.stats().get("loads_queued", 0)) == (1, 0)
    release()


def test_what_stands_in_for_a_failed_load_is_for_all_who_may_be_stale(
    stage: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L12: also for who follows his own load behind, which was not made. Seed 14554 of `make prove` asked for ever."""
    there = stage(policy=replace(POLICY, ttl=1, load_timeout=0.5), memory=10)
    there.cache = there.another(spawn=None if there.colour == "async" else lambda work: work())
    there.set("k", "old")
    there.clock.advance(2)
    board = Local.board

    def failed_meanwhile(local: Local, request: Any, *rest: Any) -> Any:
        assert request.stand_in is not None
        assert local.rest("k", request.stand_in, local.now() + 1)
        return board(local, request, *rest)

    monkeypatch.setattr(Local, "board", failed_meanwhile)
    assert there.load("k", "unused") == "old"
    assert there.loads == 0
