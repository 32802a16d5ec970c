"""Entries that are kept fresh behind their callers, and loads that are not made: L3, L9, L11, L12, L14 hold."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resilient_cache import (
    NOT_MODIFIED,
    CachePolicy,
    Entry,
    Known,
    LoadTimeout,
    MisuseError,
    Mode,
    NoSafeValue,
    NotFound,
    ResilientCache,
    Source,
    conditional,
)
from resilient_cache._request import Candidate
from resilient_cache.marks import NAMESPACE, tag_mark
from resilient_cache.pauses import MOST, Pauses
from resilient_cache.testing import Fault, FaultKind

from ..virtual import pass_time
from .stage import POLICY, Stage
from .tasks import Room
from .test_threads import PATIENCE, rooms  # noqa: F401 - a fixture
from .test_threads import Room as ThreadRoom

both = pytest.mark.parametrize("colour", ["sync", "async"])
tiers = pytest.mark.parametrize("memory", [0, 10])
EARLY = replace(POLICY, early_refresh=True)
BEHIND = replace(POLICY, refresh_behind=True)
DOWN = OSError("down")
Make = Callable[..., Stage]


def begun(stage: Stage) -> int:
    """How many loads have been started behind."""
    return int(stage.cache.stats().get("refreshes_behind", 0))


def slow(stage: Stage, seconds: float, value: Any) -> Any:
    """A loader that takes `seconds`."""

    def give() -> Any:
        stage.clock.advance(seconds)
        return value

    return stage.loader(give)


class Stop(BaseException):
    """What no loader raises by mistake."""


def test_whatever_a_load_behind_raises_is_told_to_nobody(stage: Make) -> None:
    """It ends that load and neither the thread or task that ran it nor anybody's request."""
    there = stage(policy=BEHIND)
    there.load("k", "old")
    there.clock.advance(61)
    assert there.load("k", Stop()) == "old"
    there.run_behind()
    assert there.cache.stats()["refresh_errors"] == 1
    assert there.cache.health()["flights"] == 0
    assert there.load("k", "unneeded") == "old"


def test_a_load_behind_whose_value_is_refused_has_failed(stage: Make) -> None:
    """It is counted, and not tried again at once."""
    there = stage(policy=replace(BEHIND, accept=lambda _, value: value != "bad"), memory=10)
    there.load("k", "old")
    there.clock.advance(61)
    for _ in range(2):
        assert there.load("k", "bad") == "old"
        there.run_behind()
        there.clock.advance(0.5)
    assert there.cache.stats()["refresh_errors"] == 1
    assert there.loads == 2


def test_a_load_behind_may_be_run_by_another_loader() -> None:
    """By a `spawn` of the caller's: that loader is still known to wait for itself when it does."""
    there = Stage("async", policy=BEHIND)
    there.load("k", "old")
    there.clock.advance(61)
    there.load("k", "new")

    async def circle() -> Any:
        await there.behind.pop()
        return await there.cache.get_or_load("a", there.loader("never"))

    with pytest.raises(MisuseError, match="in a circle"):
        there.load("a", circle)
    assert there.get("k") == "new"


# Early refresh


@both
@given(
    took=st.floats(0.125, 8),
    beta=st.sampled_from([0.5, 1.0, 4.0]),
    chance=st.floats(0, 1),
    left=st.floats(0.001, 59.9),
    memory=st.sampled_from([0, 10]),
)
def test_who_is_to_load_again_early_is_as_xfetch_says(  # noqa: PLR0917 - drawn, and given by name
    colour: str, took: float, beta: float, chance: float, left: float, memory: int
) -> None:
    """The last load took d: who is served at t loads again if t - d * beta * ln(random) >= fresh_until; all are hits.

    What would be drawn once in 3 000 times or less, nobody draws where there is a memory.
    """
    stage = Stage(colour, memory=memory, policy=replace(EARLY, ttl=60 + took, beta=beta), random=lambda: chance)
    stage.run(stage.cache.get_or_load, "k", slow(stage, took, "old"))
    stage.clock.advance(60 - left)
    ahead = took * beta * -math.log(max(chance, 2.0**-53))
    seen = stage.lookup("k", stage.loader("new"))
    assert (seen.value, str(seen.source), seen.stale) == ("old", "memory" if memory else "store", False)
    if abs(ahead - left) > 0.001 and abs(8 * took * beta - left) > 0.001:
        reached = memory == 0 or left < 8 * took * beta
        assert begun(stage) == (ahead > left and reached)
    started = begun(stage)
    assert stage.get("k") == stage.lookup("k").value == "old"
    assert begun(stage) == started, "without a loader nothing is loaded"
    stage.run_behind()
    assert stage.loads == 1 + started
    assert stage.get("k") == ("new" if started else "old")


@tiers
def test_an_early_refresh_keeps_the_key_from_expiring(stage: Make, memory: int) -> None:
    """What was loaded early is fresh for a ttl of its own, in memory and in the store."""
    there = stage(memory=memory, policy=EARLY)
    there.run(there.cache.get_or_load, "k", slow(there, 2.0, "old"))
    there.clock.advance(57.5)
    assert there.load("k", "new") == "old"
    there.run_behind()
    there.clock.advance(59)
    there.plan.during(Fault(FaultKind.RAISE), "set")
    assert (there.lookup("k").value, there.run(there.another().get, "k")) == ("new", "new")
    assert (there.loads, there.cache.stats()["loads"]) == (2, 1)


def test_without_early_refresh_nothing_is_loaded_early(stage: Make) -> None:
    """Not by a policy that does not say so, also of an entry that was kept under one that does."""
    there = stage(memory=10, policy=EARLY)
    there.run(there.cache.get_or_load, "k", slow(there, 2.0, "old"))
    there.clock.advance(57.9)
    assert there.load("k", "new", policy=POLICY) == "old"
    assert begun(there) == 0
    there.cache.mode = Mode.FROZEN
    assert there.load("k", "new") == "old"
    assert begun(there) == 0
    there.cache.mode = Mode.ON
    assert there.load("k", "new") == "old"
    assert begun(there) == 1


def test_what_was_set_is_refreshed_early_too(stage: Make) -> None:
    """By the time that the last load of the cache took, of whatever key."""
    there = stage(memory=10, policy=EARLY)
    there.run(there.cache.get_or_load, "other", slow(there, 2.0, "v"))
    there.set("k", "old")
    there.clock.advance(59)
    assert there.load("k", "new") == "old"
    there.run_behind()
    assert there.get("k") == "new"


# Refresh behind


@tiers
def test_what_is_stale_is_served_at_once_while_one_load_runs_behind(stage: Make, memory: int) -> None:
    """L12: marked and counted as stale, to any number of callers; what was loaded is served from then on."""
    there = stage(memory=memory, policy=BEHIND)
    there.set("k", "old")
    there.clock.advance(61)
    assert (there.get("k"), begun(there)) == (None, 0)
    for number in range(1, 6):
        seen = there.lookup("k", there.loader("new"))
        assert (seen.value, seen.source, str(seen.reason), seen.stale) == ("old", Source.STALE, "expired", True)
        assert seen.age == pytest.approx(61, abs=0.01)
        assert there.cache.stats()["stale"] == number
    assert (there.loads, begun(there)) == (0, 1)
    there.run_behind()
    assert (there.load("k", "newer"), there.loads) == ("new", 1)
    assert there.run(there.another().get, "k") == "new"


def test_nothing_is_served_at_once_that_may_not_be(stage: Make) -> None:
    """L12: not past its window, not where nothing stale is wanted, not what has been invalidated, not by `refresh`."""
    there = stage(memory=10, policy=BEHIND)
    steps: list[tuple[Callable[[], Any], dict[str, Any]]] = [
        (lambda: there.clock.advance(361), {}),
        (lambda: there.clock.advance(61), {"policy": replace(POLICY, stale_for=0)}),
        (lambda: there.clock.advance(61), {"policy": POLICY}),
        (lambda: there.invalidate("k"), {}),
    ]
    for step, options in steps:
        there.set("k", "old")
        step()
        assert there.load("k", "new", **options) == "new"
    there.clock.advance(61)
    assert there.refresh("k", there.loader("newer")) == "newer"
    there.set("k", Entry("old", stale_for=0))
    there.clock.advance(61)
    assert there.load("k", "new") == "new"
    assert begun(there) == 0


def test_what_is_distrusted_is_not_served_at_once(stage: Make) -> None:
    """L12: whose invalidation may have been missed may stand in for a load that fails, and for nothing else."""
    there = stage(memory=10, policy=BEHIND)
    there.set("k", "old")
    there.cache._rules.local.distrust()
    there.stored.clear()
    with pytest.raises(MisuseError):
        there.load("k", MisuseError(), policy=replace(BEHIND, refresh_behind=False, stale_for=0))
    assert there.load("k", "new") == "new"
    assert begun(there) == 0


def test_where_nothing_runs_behind_only_what_is_stale_is_waited_for(stage: Make) -> None:
    """An early refresh is left out, so a later caller loads; what is stale is loaded by its caller, here and now."""

    def refuses(work: Any) -> None:
        raise RuntimeError("can't start new thread")

    there = stage(memory=10, policy=replace(EARLY, refresh_behind=True), spawn=refuses)
    there.run(there.cache.get_or_load, "k", slow(there, 2.0, "old"))
    there.clock.advance(57.9)
    there.stored.clear()
    assert (there.load("k", "new"), there.loads) == ("old", 1)
    there.clock.advance(2)
    assert (there.load("k", "new"), there.loads) == ("new", 2)
    there.clock.advance(61)
    seen = there.lookup("k", there.loader(DOWN))
    assert (seen.value, seen.source, there.loads) == ("new", Source.STALE, 3)
    assert there.cache.health()["flights"] == 0


def test_a_load_behind_asks_the_store_first(stage: Make) -> None:
    """Another process may have loaded it already: that is taken, and the origin is spared."""
    there, other = stage(memory=10, policy=BEHIND), None
    there.set("k", "old")
    there.clock.advance(61)
    other = there.another()
    there.run(other.refresh, "k", there.loader("theirs"))
    assert there.load("k", "mine") == "old"
    there.run_behind()
    assert (there.load("k", "mine"), there.loads) == ("theirs", 1)


@tiers
def test_what_fails_behind_is_nobodys_error_and_is_not_tried_at_every_request(stage: Make, memory: int) -> None:
    """L3, L12: counted; one try per `stale_retry`, while the old value goes on serving."""
    there = stage(memory=memory, policy=replace(BEHIND, stale_retry=2.0))
    there.set("k", "old")
    there.clock.advance(61)
    for second in range(1, 11):
        for _ in range(5):
            assert there.lookup("k", there.loader(DOWN))[:2] == ("old", Source.STALE)
            there.run_behind()
        assert there.loads == (second + 1) // 2
        there.clock.advance(1)
    assert there.cache.stats()["refresh_errors"] == 5
    assert there.cache.stats()["errors"] == 0
    there.load("k", "new")
    there.run_behind()
    assert there.load("k", DOWN) == "new"


def test_a_load_that_fails_slowly_is_followed_by_a_pause_too(stage: Make) -> None:
    """`stale_retry` counts from its end as well, or an origin that takes long to fail would always be asked."""
    there = stage(memory=10, policy=replace(BEHIND, stale_retry=2.0))

    def fail() -> Any:
        there.clock.advance(3)
        raise DOWN

    there.set("k", "old")
    there.clock.advance(61)
    for number, gap in enumerate((0, 1, 0.9, 0.2)):
        there.clock.advance(gap)
        assert there.load("k", fail) == "old"
        there.run_behind()
        assert there.loads == (1 if number < 3 else 2)


@tiers
def test_a_load_behind_that_is_stuck_is_replaced(stage: Make, memory: int) -> None:
    """L14, L17: after `flight_age`, by one; what the stuck one gives in the end replaces nothing."""
    there = stage(memory=memory, policy=replace(BEHIND, flight_age=10.0))
    there.set("k", "old")
    there.clock.advance(61)
    there.load("k", "stuck")
    stuck = there.behind.pop()
    for _ in range(9):
        there.clock.advance(1)
        assert there.load("k", "new") == "old"
    assert begun(there) == 1
    there.clock.advance(1)
    for _ in range(3):
        assert there.load("k", "new") == "old"
    assert begun(there) == 2
    there.run_behind()
    assert there.load("k", "newer") == "new"
    there.behind.append(stuck)
    there.run_behind()
    assert there.load("k", "newer") == "new"


@tiers
def test_an_early_refresh_that_is_stuck_is_replaced(stage: Make, memory: int) -> None:
    """The same of one that began before the end of the ttl."""
    there = stage(memory=memory, policy=replace(EARLY, flight_age=2.0, ttl=30.0))
    there.run(there.cache.get_or_load, "k", slow(there, 8.0, "old"))
    there.clock.advance(17)
    assert there.load("k", "stuck") == "old"
    stuck = there.behind.pop()
    there.clock.advance(2)
    assert there.load("k", "new") == "old"
    assert begun(there) == 2
    there.run_behind()
    there.behind.append(stuck)
    there.run_behind()
    assert there.load("k", "newer") == "new"


@pytest.mark.parametrize("end", ["distrust", "tag", "invalidate"])
def test_what_is_loaded_again_serves_only_while_it_may(stage: Make, end: str) -> None:
    """L9, L12: not what was invalidated meanwhile, nor what may have been, whether or not the load goes on."""
    there = stage(memory=10, policy=replace(BEHIND, epoch_ttl=5))
    there.run(there.cache.get_or_load, "k", there.loader(Entry("old", tags=["t"])))
    there.clock.advance(61)
    assert there.load("k", "new") == "old"
    rules = there.cache._rules
    rules.local.memory.clear_locked()  # as if it had been pushed out

    def recalled() -> Any:
        request = rules.begin("k", loads=True)
        found = rules.recall(request)
        return found and found.value

    assert recalled() == "old"
    match end:
        case "distrust":
            there.clock.advance(1)
            rules.local.distrust()
        case "tag":
            rules.local.invalidate_many(tag_mark("t"))
        case _:
            rules.local.invalidate("k")
    assert recalled() is None


def test_what_is_no_more_is_not_loaded_behind(stage: Make) -> None:
    """A slow caller that was served what has been invalidated or replaced since starts nothing."""
    there = stage(memory=10, policy=BEHIND)
    local, rules = there.cache._rules.local, there.cache._rules
    for end in ("", "keep", "invalidate"):
        there.set("k", "old")
        there.clock.advance(61)
        request = rules.begin("k", loads=True)
        assert rules.recall(request).stale
        if end == "keep":
            stamp = local.stamps.next()
            local.keep("k", Candidate("new", 9e9, 9e9, stamp, (), stamp))
        elif end:
            local.invalidate("k")
        departed = rules.loads.freshness.depart(request)
        assert (departed is None) is bool(end)
        if departed is not None:
            local.leave(departed[1], None, rules.monotonic())


@tiers
@pytest.mark.parametrize("end", ["invalidate", "set", "invalidate_all", "invalidate_tag", "heard"])
def test_a_load_behind_overwrites_nothing_newer(stage: Make, memory: int, end: str) -> None:
    """L9, L11: what is invalidated or set while it runs stays so, in memory and in the store."""
    there = stage(memory=memory, policy=replace(BEHIND, epoch_ttl=5))
    there.run(there.cache.get_or_load, "k", there.loader(Entry("old", tags=["t"])))
    there.clock.advance(61)

    def meanwhile() -> str:
        local = there.cache._rules.local
        if end == "heard":
            local.heard(["kk"])
        elif end == "invalidate":
            local.invalidate("k")
        elif end == "set":
            pass
        else:
            local.invalidate_many(NAMESPACE if end == "invalidate_all" else tag_mark("t"))
        return "during"

    there.load("k", lambda: Entry(meanwhile(), tags=["t"]))
    if end == "set":
        there.set("k", "set")
    there.run_behind()
    assert there.get("k") == ("set" if end == "set" else None)
    if end != "set":
        assert there.load("k", "new") == "new"


@both
@example(memory=10, steps=["set", "long", "long", "ask", "long", "long", "long", "ask"])
@given(
    memory=st.sampled_from([0, 10]),
    steps=st.lists(
        st.sampled_from(["ask", "ask", "ask", "wait", "long", "behind", "behind", "invalidate", "set", "down", "up"]),
        min_size=5,
        max_size=40,
    ),
)
def test_an_entry_that_is_kept_fresh_is_never_wrong(colour: str, memory: int, steps: list[str]) -> None:
    """L9, L11, L12, L14: versions never go back, none is older than it may be, and in its window nobody waits.

    Held against a model that knows the order of what happened and nothing of the cache.
    """
    policy = replace(BEHIND, early_refresh=True, ttl=10.0, stale_for=20.0, stale_retry=1.0, flight_age=1_000.0)
    stage = Stage(colour, memory=memory, policy=policy)
    births: dict[int, float] = {}
    version, newest, fence, down = 0, 0, 0, False

    def give() -> int:
        nonlocal version
        if down:
            raise DOWN
        version += 1
        births[version] = stage.clock.monotonic()
        stage.clock.advance(1)
        return version

    for step in steps:
        match step:
            case "ask":
                held = newest if newest > fence and stage.clock.monotonic() < births[newest] + 29.5 else 0
                if not held:  # it would wait for the load behind, which here runs in the thread that waits
                    stage.run_behind()
                before = stage.loads
                try:
                    seen = stage.lookup("k", stage.loader(give))
                except OSError:
                    assert not held
                    continue
                age = stage.clock.monotonic() - births[seen.value]
                assert seen.value > fence, "L9"
                assert seen.value >= newest, "L11"
                assert seen.stale == (age >= 10)
                assert age < 30
                if held:
                    assert stage.loads == before, "nobody waits for the load of what may be served"
                newest = seen.value
            case "wait" | "long":
                stage.clock.advance(0.5 if step == "wait" else 7.25)
            case "behind":
                stage.run_behind()
            case "invalidate":
                stage.invalidate("k")
                fence = version
            case "set":
                version += 1
                births[version] = stage.clock.monotonic()
                stage.set("k", version)
                newest = version
                fence = version - 1
            case _:
                down = step == "down"
    stage.run_behind()
    assert stage.cache.health()["flights"] == 0


def test_a_loader_behind_may_wait_for_what_its_starter_loads() -> None:
    """No deadlock is seen where nobody waits: the starter was served at once."""
    room = Room(policy=BEHIND)

    async def main() -> None:
        cache = room.cache

        async def inner(_: str) -> str:
            return f"inner of {await cache.get_or_load('outer', outer)}"

        async def outer(_: str) -> str:
            return await pass_time(1, f"outer of {await cache.get_or_load('inner', inner)}")

        await cache.set("inner", "old")
        await pass_time(61)
        assert await cache.get_or_load("outer", outer) == "outer of old"
        await pass_time(0)
        assert await cache.get("inner") == "inner of outer of old"

    room.run(main)


def test_a_thread_behind_may_wait_for_what_its_starter_loads(rooms: Callable[..., ThreadRoom]) -> None:  # noqa: F811
    """The same for threads."""
    room = rooms(policy=BEHIND)
    cache = room.cache

    def inner(_: str) -> str:
        return f"inner of {cache.get_or_load('outer', outer)}"

    def outer(_: str) -> str:
        found = cache.get_or_load("inner", inner)
        if found == "old":
            room.waiting(1, "outer")
        return f"outer of {found}"

    cache.set("inner", "old")
    room.clock.advance(61)
    assert cache.get_or_load("outer", outer) == "outer of old"
    tick = threading.Event()
    for _ in range(int(PATIENCE * 1_000)):
        if cache.health()["flights"] == 0:
            break
        tick.wait(0.001)
    assert cache.get("inner") == "inner of outer of old"


# What is stale is not for everybody


def test_a_task_that_takes_nothing_stale_is_given_nothing_stale_by_another() -> None:
    """L12: it shares the read of one that does, and then loads; the same again and again, whoever reads first."""
    room = Room(memory=0, policy=BEHIND)

    async def main() -> None:
        await room.cache.set("k", 0)
        await pass_time(61)
        room.plan.during(Fault.slow(0.1), "get")

        async def loader(_: str) -> int:
            room.started += 1
            return room.started

        async def ask(policy: CachePolicy) -> Any:
            return await room.cache.get_or_load("k", loader, policy=policy)

        lax, strict = BEHIND, replace(POLICY, stale_for=0.0)
        answers = await asyncio.gather(*(ask(policy) for policy in (lax, lax, strict, strict)))
        assert answers[:2] == [0, 0]
        assert all(answers[2:])
        rules = room.cache._rules
        request = rules.begin("k", lax, loads=True)
        flight, seat = rules.local.board(request, _Aboard, 0.0)
        picky = rules.begin("k", strict, loads=True)
        picky.picky = True
        assert seat is None
        assert rules.local.board(picky, _Aboard, 0.0)[1] is None, "not the flight of one that takes what is stale"
        assert flight.detached
        rules.local.leave(flight, None, 0.0)
        rules.local.leave(rules.local.flights.find("k", Mode.ON), None, 0.0)

    room.run(main)


class _Aboard:
    """Somebody who waits."""

    verdict: str | None = None

    def wake(self) -> bool:
        return True


def test_who_finds_nothing_joins_the_load_behind(rooms: Callable[..., ThreadRoom]) -> None:  # noqa: F811
    """L14: when its entry is past all windows, the load that runs behind is the one to wait for."""
    room = rooms(memory=10, policy=BEHIND)
    room.cache.set("k", 0)
    room.clock.advance(61)
    assert room.load().result(PATIENCE) == 0
    hold = room.nth(1)
    room.clock.advance(5)
    assert room.load().result(PATIENCE) == 0
    room.cache._rules.local.memory.clear_locked()
    assert room.load().result(PATIENCE) == 0, "what is loaded again serves meanwhile, also out of memory"
    strict = room.load(policy=replace(POLICY, stale_for=0))
    room.waiting(1)
    hold.end()
    assert strict.result(PATIENCE) == 1
    assert len(room.started) == 1


def test_a_load_behind_that_is_cancelled_leaves_nothing() -> None:
    """L2, L17: with the loop's end or by whoever cancels it; the next caller starts another."""
    room = Room(policy=BEHIND)

    async def main() -> None:
        await room.cache.set("k", 0)
        await pass_time(61)
        assert await room.load("k") == 0
        await pass_time(0.5)
        (behind,) = (task for task in asyncio.all_tasks() if "_renew" in repr(task))
        behind.cancel()
        await pass_time(0)
        assert room.cache.health()["flights"] == 0
        await pass_time(1)
        assert await room.load("k") == 0
        await pass_time(2)
        assert await room.load("k") == 2

    room.run(main)


# Errors that are remembered


@tiers
def test_an_error_is_remembered_for_error_ttl(stage: Make, memory: int) -> None:
    """L3: raised again as the same object without a load, per key; then the loader is asked again."""
    there = stage(memory=memory, policy=replace(POLICY, error_ttl=5))
    first, depth = ValueError("first"), 0
    for _ in range(3):
        with pytest.raises(ValueError, match="first") as raised:
            there.load("k", first)
        assert raised.value is first
        depth = len(raised.traceback)
    assert there.loads == 1
    assert depth < 20, "a traceback does not grow with each time"
    assert there.load("other", 1) == 1
    there.clock.advance(5)
    with pytest.raises(ValueError, match="second"):
        there.load("k", ValueError("second"))
    assert there.loads == 3
    assert there.cache.stats()["errors"] == 4


@tiers
@pytest.mark.parametrize("end", ["set", "invalidate", "refresh", "other process", "all", "missing"])
def test_what_is_newer_ends_a_remembered_error(stage: Make, memory: int, end: str) -> None:
    """L9, L11: a value set or loaded since, here or in another process, an invalidation, "there is none"."""
    there = stage(memory=memory, policy=replace(POLICY, error_ttl=500, epoch_ttl=5))
    with pytest.raises(OSError, match="down"):
        there.load("k", DOWN)
    match end:
        case "set":
            there.set("k", "new")
        case "refresh":
            assert there.refresh("k", there.loader("new")) == "new"
        case "other process":
            there.clock.advance(2)
            there.run(there.another().set, "k", "new")
        case "invalidate":
            there.invalidate("k")
        case "all":
            there.invalidate_all()
        case _:
            with pytest.raises(NotFound):
                there.refresh("k", there.loader(NotFound("k")))
            there.clock.advance(61)
    assert there.load("k", "new") == "new"


def test_an_error_is_not_remembered_against_what_is_newer_than_its_load(stage: Make) -> None:
    """L11: an error of a load that began before a `set` or an invalidation is raised to those aboard and forgotten."""
    there = stage(policy=replace(POLICY, error_ttl=500))

    def fail() -> Any:
        there.cache._rules.local.invalidate("k")
        raise DOWN

    with pytest.raises(OSError, match="down"):
        there.load("k", fail)
    assert there.load("k", "new") == "new"


@tiers
def test_what_is_stale_stands_in_before_a_remembered_error(stage: Make, memory: int) -> None:
    """L12: in its window; the error is raised when that is over, as far as it is still remembered."""
    there = stage(memory=memory, policy=replace(POLICY, error_ttl=1_000, stale_retry=1))
    there.set("k", "old")
    there.clock.advance(61)
    for _ in range(10):
        assert there.lookup("k", there.loader(DOWN))[:2] == ("old", Source.STALE)
        there.clock.advance(20)
    assert there.loads == 1
    there.clock.advance(200)
    with pytest.raises(OSError, match="down"):
        there.load("k", "new")
    assert there.loads == 1


def test_what_is_no_answer_of_the_origin_is_not_remembered(stage: Make) -> None:
    """`NotFound` has a memory of its own, a mistake of the loader's has none, nor has a mode that uses no memory."""
    there = stage(policy=replace(POLICY, error_ttl=500, negative_ttl=0))
    for error in (NotFound("k"), MisuseError("k")):
        with pytest.raises(type(error)):
            there.load("k", error)
        assert there.load("k", 1) == 1
        there.invalidate("k")
    there.cache.mode = Mode.BYPASS
    with pytest.raises(OSError, match="down"):
        there.load("k", DOWN)
    there.cache.mode = Mode.ON
    assert there.load("k", 1) == 1
    there.invalidate("k")
    with pytest.raises(OSError, match="down"):
        there.load("k", DOWN)
    there.cache.mode = Mode.BYPASS
    assert there.load("k", 1) == 1


def test_what_is_kept_ends_the_error_that_is_older_and_no_other(stage: Make) -> None:
    """L11: by the stamps of the loads; an error of a load that was fenced is not remembered."""
    there = stage(memory=10, policy=replace(POLICY, error_ttl=500))
    local = there.cache._rules.local
    older = Candidate("v", 9e9, 9e9, local.stamps.next())
    with pytest.raises(OSError, match="down"):
        there.load("k", DOWN)
    assert local.keep("k", older)
    assert local.failure("k", there.clock.monotonic()) is not None
    assert local.keep("k", Candidate("w", 9e9, 9e9, local.stamps.next()))
    assert local.failure("k", there.clock.monotonic()) is None

    def fail() -> Any:
        local.fences.raise_locked("k", local.stamps.next())
        raise DOWN

    with pytest.raises(OSError, match="down"):
        there.refresh("k", there.loader(fail))
    assert local.failure("k", there.clock.monotonic()) is None


def test_errors_are_remembered_of_a_thousand_keys(stage: Make) -> None:
    """A caller that asks for what fails, under ever new names, fills no memory."""
    there = stage(policy=replace(POLICY, error_ttl=500))
    for number in range(1_100):
        with pytest.raises(OSError, match="down"):
            there.load(f"k{number}", DOWN)
    assert len(there.cache._rules.local.failures) == 1_000


def test_what_is_remembered_is_not_loaded_behind(stage: Make) -> None:
    """One try per `error_ttl` there too."""
    there = stage(memory=10, policy=replace(BEHIND, error_ttl=100))
    there.set("k", "old")
    there.clock.advance(61)
    for _ in range(20):
        assert there.load("k", DOWN) == "old"
        there.run_behind()
        there.clock.advance(5)
    assert there.loads == 1


# Conditional loaders


def asks(stage: Stage, answer: Callable[[Known[str] | None], Any]) -> Any:
    """A conditional loader that counts."""

    def give(key: str, known: Known[str] | None) -> Any:
        assert key == "k"
        stage.loads += 1
        return answer(known)

    async def awaited(key: str, known: Known[str] | None) -> Any:
        return give(key, known)

    return conditional(give if stage.colour == "sync" else awaited)


@tiers
def test_a_conditional_loader_may_say_that_nothing_has_changed(stage: Make, memory: int) -> None:
    """It is handed the value and its age; `NOT_MODIFIED` gives the value another ttl here and in the store."""
    there = stage(memory=memory)
    handed: list[Any] = []

    def answer(known: Known[str] | None) -> Any:
        handed.append(known)
        return "v" if known is None else NOT_MODIFIED

    loader = asks(there, answer)
    assert there.run(there.cache.get_or_load, "k", loader) == "v"
    there.clock.advance(61)
    seen = there.lookup("k", loader)
    assert (seen.value, seen.source, seen.stale, seen.age) == ("v", Source.LOADER, False, 0)
    assert handed[0] is None
    assert (handed[1].value, handed[1].age) == ("v", pytest.approx(61))
    there.clock.advance(59)
    assert (there.get("k"), there.run(there.another().get, "k")) == ("v", "v")
    assert (there.loads, there.cache.stats()["not_modified"]) == (2, 1)


def test_not_modified_may_come_with_windows_and_tags(stage: Make) -> None:
    """`Entry(NOT_MODIFIED, ...)` decides them; without tags those of the entry stay."""
    there = stage(memory=10, policy=replace(POLICY, epoch_ttl=5))
    there.run(there.cache.get_or_load, "k", there.loader(Entry("v", ttl=5, tags=["t"])))
    there.clock.advance(6)
    there.run(there.cache.get_or_load, "k", asks(there, lambda _: Entry(NOT_MODIFIED, ttl=500)))
    there.clock.advance(400)
    assert there.get("k") == "v"
    there.invalidate_tag("t")
    assert there.get("k") is None
    there.run(there.cache.get_or_load, "k", asks(there, lambda _: Entry("w", tags=["t"])))
    there.clock.advance(61)
    there.run(there.cache.get_or_load, "k", asks(there, lambda _: Entry(NOT_MODIFIED, tags=["u"])))
    there.invalidate_tag("t")
    assert there.get("k") == "w"
    there.invalidate_tag("u")
    assert there.get("k") is None


def test_what_was_invalidated_is_not_handed_and_not_renewed(stage: Make) -> None:
    """L9: neither by an invalidation before the load, nor by one during it; `refresh` hands nothing."""
    there = stage(memory=10)
    there.set("k", "old")
    there.invalidate("k")
    assert there.run(there.cache.get_or_load, "k", asks(there, lambda known: known or "new")) == "new"
    assert there.run(there.cache.refresh, "k", asks(there, lambda known: known or "newer")) == "newer"

    def meanwhile(known: Known[str] | None) -> Any:
        there.cache._rules.local.invalidate("k")
        return NOT_MODIFIED

    there.clock.advance(61)
    assert there.run(there.cache.get_or_load, "k", asks(there, meanwhile)) == "newer"
    assert there.lookup("k").value is None
    assert there.run(there.cache.get_or_load, "k", asks(there, lambda known: known or "newest")) == "newest"
    request = there.cache._rules.begin("k", loads=True)
    there.clock.advance(61)
    there.cache._rules.recall(request)
    request.since = there.clock.monotonic()
    assert there.cache._rules.recall(request) is None
    there.cache._rules.local.invalidate("k")
    loader = there.cache._rules.loads.freshness.armed(request, asks(there, lambda known: known or "none known"))
    assert there.run(loader, "k") == "none known"


def test_a_conditional_loader_runs_behind_as_well(stage: Make) -> None:
    """It is handed what it is to replace, fresh or stale."""
    there = stage(memory=10, policy=BEHIND)
    there.set("k", "old")
    there.clock.advance(61)
    loader = asks(there, lambda known: NOT_MODIFIED if known else "new")
    assert there.lookup("k", loader).stale
    there.run_behind()
    seen = there.lookup("k", loader)
    assert (seen.value, seen.stale, there.loads) == ("old", False, 1)


def test_not_modified_of_nothing_is_a_mistake_of_the_loader(stage: Make) -> None:
    """Whoever said it: nothing is kept, and what is stale may stand in."""
    there = stage(memory=10)
    for loader in (asks(there, lambda _: NOT_MODIFIED), there.loader(NOT_MODIFIED)):
        with pytest.raises(MisuseError, match="handed no entry"):
            there.run(there.cache.get_or_load, "k", loader)
    assert (there.get("k"), there.stored) == (None, {})
    there.set("k", "old")
    there.clock.advance(61)
    assert there.load("k", NOT_MODIFIED) == "old"


def test_a_conditional_loader_of_the_other_colour_is_misuse(stage: Make) -> None:
    """L6: before anything is touched; and by itself it is a loader like any other, that knows nothing."""
    there = stage()

    async def awaited(key: str, known: Known[str] | None) -> str:
        return key

    def plain(key: str, known: Known[str] | None) -> str:
        return f"{key}, known: {known}"

    wrong: Any = conditional(awaited if there.colour == "sync" else plain)
    with pytest.raises(MisuseError, match="loader must be a"):
        there.run(there.cache.get_or_load, "k", wrong)
    assert there.adapter.calls == []
    assert conditional(plain)("k") == "k, known: None"


# What all this may cost when everything fails


@both
def test_the_load_that_failed_is_not_made_again_by_who_asked_meanwhile(colour: str) -> None:
    """One load per key and `stale_retry`: who found nothing just before the last one failed is given its stand-in."""
    stage = Stage(colour, memory=10)
    stage.set("k", "old")
    stage.clock.advance(61)
    rules = stage.cache._rules
    late = rules.begin("k", loads=True)
    assert rules.recall(late) is None
    assert stage.load("k", DOWN) == "old"
    flight, _ = rules.local.board(late, _Aboard, rules.monotonic())
    instead = rules.loads.begin(late, flight)
    assert (instead.value, instead.source, instead.stale) == ("old", Source.STALE, True)
    rules.local.land(flight, instead)
    assert stage.loads == 1


def test_frozen_shares_what_is_stale() -> None:
    """L20: where nothing is ever loaded, what is stale is for all aboard."""
    room = Room(memory=0)

    async def main() -> None:
        await room.cache.set("k", 0)
        await pass_time(61)
        room.plan.during(Fault.slow(0.1), "get")
        room.cache.mode = Mode.FROZEN
        calls = len(room.store.calls)
        assert await asyncio.gather(*(room.load("k") for _ in range(3))) == [0, 0, 0]
        assert len(room.store.calls) == calls + 1
        room.cache.mode = Mode.ON
        assert room.started == 0
        room.cache.mode = Mode.FROZEN
        with pytest.raises(NoSafeValue):
            await room.load("other")

    room.run(main)


def test_a_load_that_is_late_is_not_a_failed_one() -> None:
    """`LoadTimeout` is the caller's, not the origin's: it is not remembered."""
    room = Room(policy=replace(POLICY, load_timeout=0.5, error_ttl=100.0))

    async def main() -> None:
        with pytest.raises(LoadTimeout):
            await room.load("k", 3.0)
        await pass_time(5)
        assert await room.load("k") == 1

    room.run(main)


# The parts


def test_pauses_are_bounded_and_end_with_their_entry() -> None:
    """Ten thousand; the oldest goes, or the oldest that is over; what is newer than the paused entry is not paused."""
    pauses = Pauses()
    pauses.put_locked("k", 5, 10.0, 0.0)
    assert pauses.paused("k", 5, 9.9)
    assert pauses.paused("k", 4, 9.9)
    assert not pauses.paused("k", 6, 9.9)
    assert not pauses.paused("k", 5, 10.0)
    assert not pauses.paused("other", 5, 0.0)
    pauses.put_locked("other", 1, 20.0, 10.0)
    assert len(pauses) == 1
    for number in range(MOST + 5):
        pauses.put_locked(str(number), 1, 99.0, 10.0)
    assert len(pauses) == MOST
    assert not pauses.paused("0", 1, 10.0)
    assert pauses.paused(str(MOST + 4), 1, 10.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"early_refresh": 1}, "early_refresh must be True or False"),
        ({"refresh_behind": "yes"}, "refresh_behind must be True or False"),
        ({"beta": 0}, "beta must be a number more than 0"),
        ({"beta": True}, "beta must be a number more than 0"),
        ({"beta": "1"}, "beta must be a number more than 0"),
        ({"beta": float("nan")}, "beta must be a number more than 0"),
        ({"beta": 101}, "beta must be a number more than 0 and at most 100"),
        ({"error_ttl": 0}, "error_ttl must be at least 0.001"),
        ({"degraded_ttl": -1}, "degraded_ttl must be at least 0"),
        ({"refresh_behind": True, "stale_for": 0}, "refresh_behind needs a stale_for"),
    ],
)
def test_an_impossible_way_of_keeping_fresh_is_misuse(options: dict[str, Any], said: str) -> None:
    """L6: naming the argument and what would be right."""
    with pytest.raises(MisuseError, match=said):
        CachePolicy(**options)


def test_the_timeline_tells_of_what_is_loaded_behind() -> None:
    """`explain` says it in words."""
    told = CachePolicy(early_refresh=True, refresh_behind=True).explain()
    assert "loaded again behind its callers towards the end" in told
    assert "while a load runs behind or fails" in told
    assert "behind" not in CachePolicy().explain()


def test_a_cache_without_a_store_keeps_fresh_too() -> None:
    """Memory alone: the old value serves until the new one is there."""
    behind: list[Any] = []
    stage = Stage("sync")
    cache = ResilientCache[str, Any](
        None, name="alone", memory=10, policy=BEHIND, clock=stage.clock, spawn=behind.append
    )
    cache.set("k", "old")
    stage.clock.advance(61)
    assert cache.get_or_load("k", lambda _: "new") == "old"
    behind.pop()()
    assert cache.get("k") == "new"
