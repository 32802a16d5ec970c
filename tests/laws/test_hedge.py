"""`hedge_after`: the load begins while the store is still thinking, and the first good answer wins. Both colours."""

from __future__ import annotations

import asyncio
import inspect
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from resilient_cache import (
    AsyncResilientCache,
    CachePolicy,
    LoadTimeout,
    MisuseError,
    Mode,
    NotFound,
    Reason,
    ResilientCache,
    Source,
)
from resilient_cache._hedging import Race
from resilient_cache._request import Candidate
from resilient_cache.testing import (
    AsyncFaultyAdapter,
    Fault,
    FaultKind,
    FaultPlan,
    FaultyAdapter,
    ManualClock,
    Scheduler,
    run_virtual,
)

from ..virtual import pass_time
from .scenario import BREAKER, TIMEOUT
from .stage import Stage
from .tasks import Cancelling, Room

HEDGE = 0.0625
POLICY = CachePolicy(epoch_ttl=None, ttl=60, stale_for=300, stale_retry=0, jitter=0, timeout=TIMEOUT, hedge_after=HEDGE)
COLOURS = ("sync", "async")


class Down(Exception):
    """The origin's."""


class Interrupt(BaseException):
    """No `Exception`, and left alone by event loops."""


@dataclass(frozen=True)
class Case:
    """What the store has and how long it thinks, what the origin does and how long it takes."""

    store: str = "hit"
    thinks: float = 0.0
    load: str = "value"
    takes: float = 0.0


class Play:
    """Some calls of one cache in virtual time: tasks in a loop, or threads in an order drawn from `seed`."""

    def __init__(self, colour: str, *, seed: int = 0, memory: int = 0, policy: CachePolicy = POLICY) -> None:
        self.colour = colour
        self.manual = ManualClock()
        self.plan = FaultPlan()
        self.threads = Scheduler(random.Random(seed).randrange, clock=self.manual) if colour == "sync" else None
        self.clock: Any = self.manual if self.threads is None else self.threads.clock
        self.options: dict[str, Any] = {"name": "laws", "clock": self.clock, "memory": memory, "policy": policy}
        self.options |= {"breaker": BREAKER, "random": lambda: 0.5}
        self.cache: Any = None
        self.loads: list[float] = []
        self.loading = self.most = 0
        self.results: dict[int, Any] = {}
        self.ends: dict[int, float] = {}

    def now(self) -> float:
        return self.manual.monotonic() - 1_000.0

    def run(self, *acts: tuple[float, Callable[[], Any]], before: Callable[[Any], Any] | None = None) -> Play:
        """Do each of the acts at its time; their results or errors are in `results`, the time of their ends too.

        `before` all that, and before any fault, something is done to the store by another process.
        """
        if self.threads is None:
            run_virtual(self._tasks(acts, before), self.manual)
        else:
            with self.threads as threads:
                self._open(FaultyAdapter(self.clock, plan=self.plan), ResilientCache, spawn=threads.start)
                if before is not None:
                    before(self.other)
                for number, (at, act) in enumerate(acts):
                    threads.start(partial(self._thread, number, at, act))
                threads.run()
        health = self.cache.health()
        assert (health["flights"], health["store_calls_in_flight"]) == (0, 0)
        assert not self.loads or self.cache.stats()["loader_calls"] == len(self.loads)
        return self

    def _open(self, store: Any, make: Any, **options: Any) -> None:
        self.store = store
        self.cache = make(store, **self.options, **options)
        self.other = make(store, **{**self.options, "memory": 0})

    async def _tasks(self, acts: Sequence[tuple[float, Any]], before: Callable[[Any], Any] | None) -> None:
        self._open(AsyncFaultyAdapter(self.clock, plan=self.plan), AsyncResilientCache)
        if before is not None:
            await before(self.other)

        async def one(number: int, at: float, act: Callable[[], Any]) -> None:
            await pass_time(at)
            try:
                result = act()
                self.results[number] = await result if inspect.isawaitable(result) else result
            except (Exception, Interrupt) as error:
                self.results[number] = error
            self.ends[number] = self.now()

        await asyncio.gather(*(one(number, *act) for number, act in enumerate(acts)))
        await pass_time(20)
        assert asyncio.all_tasks() == {asyncio.current_task()}, "a task is left over"

    def _thread(self, number: int, at: float, act: Callable[[], Any]) -> None:
        self.clock.advance(at)
        try:
            self.results[number] = act()
        except (Exception, Interrupt) as error:
            self.results[number] = error
        self.ends[number] = self.now()

    def loader(self, kind: str = "value", takes: float | list[float] = 0.0) -> Any:
        """Gives "new", or what the origin says otherwise, after so many seconds; each call after those of the next."""

        def begin() -> float:
            self.loads.append(self.now())
            self.loading += 1
            self.most = max(self.most, self.loading)
            return takes.pop(0) if isinstance(takes, list) else takes

        def end() -> str:
            self.loading -= 1
            if kind != "value":
                raise {"raise": Down, "missing": NotFound, "interrupt": Interrupt}[kind]()
            return "new"

        async def awaited(_: str) -> str:
            await pass_time(begin())
            return end()

        def plain(_: str) -> str:
            self.clock.advance(begin())
            return end()

        return plain if self.threads is not None else awaited

    def load(self, kind: str = "value", takes: float | list[float] = 0.0, **options: Any) -> Any:
        """`lookup` with such a loader: what `get_or_load` gives, and where from."""
        return self.cache.lookup("k", self.loader(kind, takes), **options)

    def get(self, key: str) -> Any:
        return self.cache.get(key)

    def thinks(self, seconds: float, *more: Fault) -> None:
        """The store takes so long over the next read, and meets the other faults after that."""
        self.plan.then("get", Fault.slow(seconds), *more)


def played(colour: str, case: Case, *, seed: int = 0, **options: Any) -> Play:
    """One call, alone."""
    play = Play(colour, seed=seed, **options)
    fault = {"error": Fault(FaultKind.RAISE), "hang": Fault(FaultKind.HANG)}.get(case.store, Fault.slow(case.thinks))
    if case.store in ("hit", "stale", "garbage"):

        def before(other: Any) -> Any:
            play.plan.then("get", fault)
            return other.set("k", "old")

        if case.store == "stale":
            play.options["policy"] = replace(play.options["policy"], ttl=0.0)
        if case.store == "garbage":
            play.plan.then("get", Fault(FaultKind.WRONG_TYPE, value=b"garbage"))
        return play.run((1.0, partial(play.load, case.load, case.takes)), before=before)
    play.plan.then("get", fault)
    return play.run((1.0, partial(play.load, case.load, case.takes)))


def expected(case: Case) -> tuple[object, float, int]:
    """What the caller gets, when, and how many loads it takes, worked out by hand."""
    thought = {"error": 0.0, "hang": TIMEOUT, "garbage": 0.0}.get(case.store, case.thinks)
    begins = min(thought, HEDGE)
    if case.store == "hit" and thought < HEDGE:
        return "old", thought, 0
    loaded = begins + case.takes
    if case.store == "hit" and (thought < loaded or case.load == "raise"):
        return "old", thought, 1
    both = max(loaded, thought)
    if case.load == "raise":
        return ("old" if case.store == "stale" else Down), both, 1
    return ("new" if case.load == "value" else NotFound), loaded, 1


SOON_OR_LATE = st.sampled_from([0.0, 0.03125, 0.046875, 0.078125, 0.125, 0.171875, 0.21875])
LASTS = st.sampled_from([0.0, 0.0078125, 0.01953125, 0.1015625, 0.12109375, 0.5, 2.0])
cases = st.builds(
    Case,
    store=st.sampled_from(["hit", "miss", "stale", "error", "hang", "garbage"]),
    thinks=SOON_OR_LATE,
    load=st.sampled_from(["value", "raise", "missing"]),
    takes=LASTS,
)


@pytest.mark.parametrize("colour", COLOURS)
@given(case=cases, seed=st.integers(0, 1_000))
@example(Case("hit", 0.21875, "value", 0.0), 0)
@example(Case("hit", 0.125, "value", 2.0), 0)
@example(Case("hit", 0.21875, "raise", 0.0), 0)
@example(Case("stale", 0.21875, "raise", 0.0), 0)
@example(Case("hang", 0.0, "value", 0.0), 0)
@settings(deadline=None)
def test_the_first_good_answer_wins(colour: str, case: Case, seed: int) -> None:
    """One caller gets the store's entry or the origin's word, whichever is there first, and a failed load waits."""
    play = played(colour, case, seed=seed if colour == "sync" else 0)
    value, at, loads = expected(case)
    got = play.results[0]
    assert play.cache.health()["circuits"]["read"]["state"] == "closed"
    if play.threads is not None and play.threads.stalls:  # then everything may come late
        assert type(got) in (Down, NotFound) or got.value in ("old", "new")
        return
    assert (play.ends[0] - 1.0, len(play.loads)) == (at, loads)
    if isinstance(value, type):
        assert type(got) is value
    else:
        assert got.value == value
        assert (
            got.source
            is {"new": Source.LOADER, "old": Source.STALE if case.store == "stale" else Source.STORE}[str(value)]
        )


@pytest.mark.parametrize("colour", COLOURS)
def test_a_load_that_does_not_wait_says_why_the_store_had_nothing(colour: str) -> None:
    got = played(colour, Case("miss", 0.125)).results[0]
    assert (got.source, got.reason) == (Source.LOADER, Reason.SLOW)
    got = played(colour, Case("miss", 0.125, takes=0.5)).results[0]
    assert (got.source, got.reason) == (Source.LOADER, Reason.ABSENT)


@pytest.mark.parametrize("colour", COLOURS)
def test_what_is_loaded_is_written_when_the_store_answered_meanwhile_and_else_not(colour: str) -> None:
    """L5: a write is worth its time where the store has given an answer, and a hedged load knows of one too."""
    for takes, written in ((0.0, False), (0.5, True)):
        play = played(colour, Case("miss", 0.125, takes=takes))
        assert [call.operation for call in play.store.calls] == ["get", *["set"] * written]


@pytest.mark.parametrize("colour", COLOURS)
def test_a_store_that_always_thinks_too_long_is_filled_all_the_same(colour: str) -> None:
    """The marks a value is written under are asked for behind, so that the next load knows them."""
    play = Play(colour, policy=replace(POLICY, epoch_ttl=60))
    play.plan.during(Fault.slow(0.09375))
    acts = [(float(at), partial(play.load, "value", 0.125)) for at in (0, 2, 4)]
    play.run(*acts)
    assert [play.results[n].source for n in range(3)] == [Source.LOADER, Source.LOADER, Source.STORE]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("memory", [0, 10])
def test_no_second_load_begins_beside_one_that_the_store_overtook(colour: str, memory: int) -> None:
    """L14: those who wait get the store's entry; the flight stays until the load ends, for those who come then."""
    play = Play(colour, memory=memory)

    def before(other: Any) -> Any:
        play.thinks(0.125)
        return other.set("k", "old")

    play.run(*((at, partial(play.load, "value", 1.0)) for at in (0.0, 0.03125, 0.09375, 0.5, 2.0)), before=before)
    assert [play.results[n].value for n in range(3)] == ["old"] * 3
    assert [play.ends[n] for n in range(3)] == [0.125] * 3
    later = play.results[3]
    assert (later.value, play.ends[3]) == ("old", 0.5)
    assert len(play.loads) == play.most == 1
    assert play.results[4].value == "new"


@pytest.mark.parametrize("colour", COLOURS)
def test_who_refuses_what_the_store_overtook_with_waits_for_the_load_that_goes_on(colour: str) -> None:
    """L14: and begins none beside it."""
    play = Play(colour)
    strict = replace(POLICY, accept=lambda _, value: value != "old")

    def before(other: Any) -> Any:
        play.thinks(0.125)
        return other.set("k", "old")

    acts = [partial(play.load, "value", 1.0), partial(play.load, "value", 1.0, policy=strict)]
    play.run((0.0, acts[0]), (0.03125, acts[1]), before=before)
    assert [(play.results[n].value, play.ends[n]) for n in range(2)] == [("old", 0.125), ("new", 1.0625)]
    assert len(play.loads) == play.most == 1


@pytest.mark.parametrize("colour", COLOURS)
def test_who_comes_when_the_store_has_overtaken_is_not_failed_by_the_load(colour: str) -> None:
    """L12: the store had an entry for the flight, and that is as good as ever when its load fails."""
    play = Play(colour)

    def before(other: Any) -> Any:
        play.thinks(0.125)
        return other.set("k", "old")

    play.run(*((at, partial(play.load, "raise", 1.0)) for at in (0.0, 0.5)), before=before)
    assert [(play.results[n].value, play.ends[n]) for n in range(2)] == [("old", 0.125), ("old", 0.5)]


@pytest.mark.parametrize("colour", COLOURS)
def test_those_who_come_when_it_has_overtaken_wait_for_the_same_two(colour: str) -> None:
    for thinks, takes, at in ((0.21875, 0.03125, HEDGE + 0.03125), (0.125, 0.5, 0.125)):
        play = Play(colour)

        def before(other: Any, play: Play = play, thinks: float = thinks) -> Any:
            play.thinks(thinks)
            return other.set("k", "old")

        play.run(*((n / 64, partial(play.load, "value", takes)) for n in range(6)), before=before)
        assert len({play.results[n].value for n in range(6)}) == 1
        assert set(play.ends.values()) == {at}
        assert [call.operation for call in play.store.calls if call.operation == "get"] == ["get"]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("store", ["hit", "stale"])
def test_what_the_store_says_late_is_used_only_if_it_is_not_fenced(colour: str, store: str) -> None:
    """L9: an entry that was invalidated while the store thought serves nobody, not as a stand-in either."""
    play = Play(colour, policy=POLICY if store == "hit" else replace(POLICY, ttl=0.0))

    def before(other: Any) -> Any:
        play.thinks(0.1875)
        return other.set("k", "old")

    play.run(
        (0.0, partial(play.load, "raise", 0.015625)),
        (0.125, lambda: play.cache.invalidate("k")),
        (0.15625, partial(play.load, "raise", 0.015625)),
        before=before,
    )
    assert [type(play.results[n]) for n in (0, 2)] == [Down, Down]


@pytest.mark.parametrize("colour", COLOURS)
def test_who_comes_after_an_invalidation_shares_neither_the_read_nor_the_load(colour: str) -> None:
    """L9, L14: a hedged flight that was invalidated is for those aboard."""
    play = Play(colour, memory=10)

    def before(other: Any) -> Any:
        play.thinks(0.1875)
        return other.set("k", "old")

    play.run(
        (0.0, partial(play.load, "value", 0.5)),
        (0.125, lambda: play.cache.invalidate("k")),
        (0.15625, partial(play.load, "value", 0.25)),
        (1.0, partial(play.load, "raise")),
        before=before,
    )
    assert [play.results[n].value for n in (0, 2, 3)] == ["new"] * 3
    assert play.results[3].source is Source.MEMORY
    assert len(play.loads) == 2


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("memory", [0, 10])
def test_a_late_entry_does_not_end_a_newer_none(colour: str, memory: int) -> None:
    """L11: the origin has none, and what the store says after that is older."""
    play = Play(colour, memory=memory)

    def before(other: Any) -> Any:
        play.thinks(0.1875)
        return other.set("k", "old")

    late = partial(lambda: play.cache.lookup("k"))
    play.run((0.0, partial(play.load, "missing")), (0.5, late), before=before)
    assert isinstance(play.results[0], NotFound)
    assert play.results[1].source is Source.NEGATIVE


@pytest.mark.parametrize("colour", COLOURS)
def test_a_late_entry_does_not_replace_what_was_loaded(colour: str) -> None:
    """L11: the older of the two never overwrites the newer in memory, whichever came first."""
    for thinks, takes in ((0.21875, 0.0), (0.125, 0.5)):
        play = Play(colour, memory=10)

        def before(other: Any, play: Play = play, thinks: float = thinks) -> Any:
            play.thinks(thinks)
            return other.set("k", "old")

        play.run((0.0, partial(play.load, "value", takes)), (1.0, partial(play.get, "k")), before=before)
        assert play.results[1] == "new"


@pytest.mark.parametrize("colour", COLOURS)
def test_with_load_timeout_the_callers_lose_patience_and_the_load_goes_on(colour: str) -> None:
    play = Play(colour, memory=10, policy=replace(POLICY, load_timeout=0.5))
    play.thinks(0.1875)
    play.run((0.0, partial(play.load, "value", 2.0)), (3.0, lambda: play.cache.get("k")))
    assert isinstance(play.results[0], LoadTimeout)
    assert play.ends[0] == 0.75
    assert play.results[1] == "new"


@pytest.mark.parametrize("colour", COLOURS)
def test_a_stuck_load_is_replaced_by_exactly_one(colour: str) -> None:
    """L14, L17: who waits for a hedged load that never ends asks again after `flight_age`, and does not hedge."""
    play = Play(colour, policy=replace(POLICY, flight_age=3.0))
    play.thinks(0.1875)
    takes = [15.0, 1.0]
    play.run((0.0, partial(play.load, "value", takes)), (1.0, partial(play.load, "value", takes)))
    assert [play.results[n].value for n in range(2)] == ["new"] * 2
    assert len(play.loads) == 2
    assert max(play.ends.values()) < 5.0
    play = Play(colour, policy=replace(POLICY, flight_age=3.0))
    play.thinks(0.1875)
    play.run((0.0, partial(play.load, "value", [15.0, 0.0])))
    assert (len(play.loads), play.ends[0]) == (2, 3.0)
    assert [call.operation for call in play.store.calls].count("get") == 1


@pytest.mark.parametrize("colour", COLOURS)
def test_a_loader_that_asks_for_its_own_key_is_told_so(colour: str) -> None:
    """L6: in a hedged flight too; and a caller of a loader's own that was hedged blocks nobody afterwards."""
    play = Play(colour)
    play.plan.during(Fault.slow(0.125), "get")

    def again(key: str) -> Any:
        return play.cache.get_or_load(key, again)

    async def awaited(key: str) -> Any:
        return await play.cache.get_or_load(key, awaited)

    play.run((0.0, lambda: play.cache.get_or_load("k", again if colour == "sync" else awaited)))
    assert isinstance(play.results[0], MisuseError)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("thinks", [0.03125, 0.125])
def test_what_is_no_exception_gets_out_of_a_loader(colour: str, thinks: float) -> None:
    """L2, L3: as the same object, once, and the flight is over."""
    play = Play(colour)
    play.thinks(thinks)
    play.run((0.0, partial(play.load, "interrupt")), (1.0, partial(play.load, "value")))
    assert isinstance(play.results[0], Interrupt)
    assert play.results[1].value == "new"
    assert play.cache.stats()["requests"] == (2 if thinks > HEDGE else 1)


@pytest.mark.parametrize("colour", COLOURS)
def test_what_is_no_exception_gets_out_of_a_store(colour: str) -> None:
    """L2: to the caller who waits for it, as the same object."""
    interrupt, play = Interrupt(), Play(colour)
    play.plan.then("get", Fault.raising(interrupt))
    play.run((0.0, partial(play.load, "value")), (1.0, partial(play.load, "value")))
    assert play.results[0] is interrupt
    assert play.results[1].value == "new"
    assert play.cache.stats()["requests"] == 1


@pytest.mark.parametrize("colour", COLOURS)
def test_an_interrupt_that_comes_out_of_the_store_late_harms_nobody(colour: str) -> None:
    """L2: the caller has its answer from the load; the interrupt ends what ran behind, and nothing else."""
    play = Play(colour)
    late = Interrupt()

    def strike(key: str) -> Any:
        play.clock.advance(0.125)
        raise late

    async def awaited(key: str) -> Any:
        await pass_time(0.125)
        raise late

    def act() -> Any:
        adapter = play.cache._flow._store._quick
        object.__setattr__(
            play.cache._flow._store, "_quick", Striking(adapter, awaited if colour == "async" else strike)
        )
        return play.load("value", 0.5)

    if colour == "sync":
        with pytest.raises(Interrupt) as caught:  # what a thread behind raised, raised by the scheduler
            play.run((0.0, act))
        assert caught.value is late
    else:
        play.run((0.0, act))
    assert play.results[0].value == "new"
    assert (play.cache.health()["flights"], play.cache.health()["store_calls_in_flight"]) == (0, 0)


class Striking:
    """A store with another `get`."""

    def __init__(self, inner: Any, get: Any) -> None:
        self.get, self.set, self.delete = get, inner.set, inner.delete


# where there is no hedge


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("reads", [0, 1])
def test_where_nothing_can_run_behind_there_is_no_hedge(colour: str, reads: int) -> None:
    """Neither when nothing runs there at all nor when it is only the load that cannot: the load waits for the store."""
    play = Play(colour)
    started: list[Any] = []

    def before(other: Any) -> Any:
        behind, spawn = play.cache._flow._hedge._behind, play.cache._flow._hedge._behind.spawn

        def spawns(work: Any, gone: Any) -> bool:
            started.append(work)
            return len(started) <= reads and bool(spawn(work, gone))

        play.cache._flow._hedge._behind = Only(behind, spawns)
        play.thinks(0.1875)
        return other.set("k", "old")

    play.run(
        (0.0, partial(play.load, "value", 0.015625)), (0.125, partial(play.load, "value", 0.015625)), before=before
    )
    assert [play.results[n].value for n in range(2)] == ["old"] * 2
    assert set(play.ends.values()) == {0.1875}
    assert play.loads == []
    assert len(started) == reads + 1


@pytest.mark.parametrize("colour", COLOURS)
def test_who_could_not_hedge_leaves_no_seat_behind(colour: str) -> None:
    """L2, L14: a flight whose leader is interrupted is handed to nobody who is not there."""
    play = Play(colour)
    started: list[Any] = []

    def before(_: Any) -> Any:
        behind, spawn = play.cache._flow._hedge._behind, play.cache._flow._hedge._behind.spawn

        def spawns(work: Any, gone: Any) -> bool:
            started.append(work)
            return len(started) == 1 and bool(spawn(work, gone))

        play.cache._flow._hedge._behind = Only(behind, spawns)
        play.thinks(0.1875)
        return play.other.set("other", 1)

    play.run((0.0, partial(play.load, "interrupt")), before=before)
    assert isinstance(play.results[0], Interrupt)
    assert play.ends[0] == 0.1875


class Only:
    """A `Behind` with another `spawn`."""

    def __init__(self, inner: Any, spawn: Any) -> None:
        self.spawn, self.strikes = spawn, inner.strikes


@pytest.mark.parametrize("colour", COLOURS)
def test_a_mode_that_never_loads_and_a_refresh_do_not_hedge(colour: str) -> None:
    play = Play(colour)

    def before(other: Any) -> Any:
        play.cache.mode = Mode.FROZEN
        play.thinks(0.1875)
        return other.set("k", "old")

    play.run((0.0, partial(play.load, "value")), before=before)
    assert (play.results[0].value, play.ends[0], play.loads) == ("old", 0.1875, [])
    play = Play(colour, memory=10)

    def freeze() -> None:
        play.cache.mode = Mode.FROZEN
        play.thinks(0.1875)

    play.run(
        (0.0, lambda: play.cache.set("k", "older", ttl=1.0)),
        (1.5, lambda: play.other.set("k", "newer")),
        (1.75, freeze),
        (2.0, partial(play.load, "value")),
    )
    assert (play.results[3].value, play.results[3].source) == ("newer", Source.STORE)
    play = Play(colour)
    play.thinks(0.1875)
    play.run((0.0, lambda: play.cache.refresh("k", play.loader())))
    assert [call.operation for call in play.store.calls] == ["set"]


@pytest.mark.parametrize("colour", COLOURS)
def test_while_the_circuit_is_open_nothing_is_started_behind_for_a_read(colour: str) -> None:
    stage = Stage(colour, policy=POLICY)
    with stage.cache._rules.guard.circuits["read"].force_open():
        assert stage.load("k", "new") == "new"
    assert stage.behind == []


@pytest.mark.parametrize("colour", COLOURS)
def test_a_caller_may_ask_for_it_in_the_policy_of_one_call(colour: str) -> None:
    for hedge, at in ((None, 0.1875), (0.0, 0.0), (0.125, 0.125)):
        play = Play(colour, policy=replace(POLICY, hedge_after=None))
        play.thinks(0.1875)
        play.run((0.0, partial(play.load, policy=replace(POLICY, hedge_after=hedge))))
        assert play.ends[0] == at


@pytest.mark.parametrize("colour", COLOURS)
def test_a_load_behind_does_not_hedge(colour: str) -> None:
    """Nobody waits for it."""
    there = Stage(colour, policy=replace(POLICY, refresh_behind=True))
    there.set("k", "old")
    there.clock.advance(61)
    renewal = there.cache._rules.begin("k", loads=True)
    renewal.due = Candidate("old", 0.0, 9e9, 1)
    assert there.run(there.cache._flow._refresh, renewal, there.loader("new"))
    work = there.behind.pop()
    there.run(work if colour == "sync" else lambda: work)
    assert (there.behind, there.get("k"), there.loads) == ([], "new", 1)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_fault_of_our_own_leaves_no_flight_behind(colour: str) -> None:
    """L17: what should never be raised where the load runs is not hidden, and who waits loads on."""
    stage = Stage(colour, policy=POLICY)
    hedge, local = stage.cache._flow._hedge, stage.cache._rules.local
    request = stage.cache._rules.begin("k", loads=True)
    flight, _ = local.board(request, Waiting, 1_000.0)
    race = Race(request, flight, local, stage.cache._rules.guard.lock, until=1_000.25)
    place = race.overtake(request, Waiting)

    def broken(_: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stage.run(hedge._load, race, flight, broken)
    assert (place.verdict, flight.leader) == ("lead", place)
    with pytest.raises(ZeroDivisionError):
        stage.run(hedge._read, race, broken)
    race = Race(request, flight, local, stage.cache._rules.guard.lock, until=1_000.25)
    stage.run(hedge._read, race, broken)
    with pytest.raises(ZeroDivisionError):  # the caller waits for the read: it is told
        race.take(request)
    stage.run(hedge._wait, race, 2_000.0)  # over: no waiting


class Waiting:
    """A seat in which nobody sits."""

    verdict: str | None = None

    def wake(self) -> bool:
        return True


# cancellation


@pytest.mark.parametrize("thinks", [0.03125, 0.125, 0.5])
@pytest.mark.parametrize("stored", [False, True])
def test_a_hedged_call_can_be_cancelled_wherever_it_waits(thinks: float, stored: bool) -> None:
    """L2, L14, L17: for every n; the others are served by one load at a time, and in the end nothing is left over."""
    at, cancelled = 1, True
    while cancelled:
        room = Room(memory=0, policy=POLICY)

        async def main(room: Room = room, at: int = at) -> bool:
            if stored:
                await room.cache.set("k", 0)
            room.plan.then("get", Fault.slow(thinks))
            leader = asyncio.create_task(Cancelling(room.load("k", 0.125), at).run())
            await pass_time(0)
            waiters = [asyncio.create_task(room.load("k", 0.125)) for _ in range(3)]
            await asyncio.wait([leader, *waiters])
            assert len({waiter.result() for waiter in waiters}) == 1
            assert room.most["k"] <= 1
            assert room.started <= 1 + leader.cancelled()
            assert room.requests() == 3 + (not leader.cancelled())
            return leader.cancelled()

        cancelled = room.run(main)
        assert {c["state"] for c in room.cache.health()["circuits"].values()} == {"closed"}
        at += 1
    assert at > 2


@pytest.mark.parametrize("when", [0.03125, 0.09375, 0.3125])
def test_nothing_runs_on_after_the_cache_is_closed(when: float) -> None:
    """L17: the read and the load behind are cancelled with the rest; who waited asks once more, without them."""
    room = Room(memory=0, policy=POLICY)

    async def main() -> None:
        room.plan.then("get", Fault.slow(0.1875))
        asked = asyncio.create_task(room.load("k", 1.0))
        await pass_time(when)
        await room.cache.aclose()
        assert await asked in (1, 2)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    room.run(main)


def test_a_load_that_is_taken_away_hands_over_to_who_waits() -> None:
    """L14: where it was a task of somebody else's, too."""
    behind: list[asyncio.Task[Any]] = []
    room = Room(memory=0, policy=POLICY, spawn=lambda work: behind.append(asyncio.ensure_future(work)))

    async def main() -> None:
        room.plan.then("get", Fault.slow(0.1875))
        asked = asyncio.create_task(room.load("k", 1.0))
        await pass_time(0.125)
        behind[1].cancel()
        assert await asked == 2
        assert room.most["k"] == 1

    room.run(main)


@pytest.mark.parametrize("when", [0.03125, 0.125])
def test_a_read_that_is_taken_away_has_found_nothing(when: float) -> None:
    """L14: its caller is not cancelled with it, and loads."""
    behind: list[asyncio.Task[Any]] = []
    room = Room(memory=0, policy=POLICY, spawn=lambda work: behind.append(asyncio.ensure_future(work)))

    async def main() -> None:
        room.plan.then("get", Fault.slow(0.1875))
        asked = asyncio.create_task(room.load("k", 1.0))
        await pass_time(when)
        behind[0].cancel()
        assert await asked == 1

    room.run(main)


# everything at once

ACTS = st.tuples(
    st.sampled_from(["load", "load", "load", "invalidate", "set"]),
    st.sampled_from([0.0, 0.03125, 0.125, 0.25, 0.5, 1.0]),  # when
    st.sampled_from([0.0, 0.125, 0.5]),  # how long its load takes
    st.booleans(),  # its load fails
)
STORE = st.sampled_from(
    [None, Fault.slow(0.09375), Fault.slow(0.21875), Fault(FaultKind.RAISE), Fault(FaultKind.HANG), Fault.slow(0.5)]
)


INVALIDATE, PUT = (("invalidate", 0.25, 0.0, False), ("set", 0.25, 0.0, False))


@pytest.mark.parametrize("colour", COLOURS)
@given(
    seed=st.integers(0, 10_000),
    memory=st.sampled_from([0, 10]),
    plan=st.lists(STORE, max_size=6),
    script=st.lists(ACTS, min_size=2, max_size=6),
)
@example(
    seed=590, memory=0, plan=[], script=[("load", 0.03125, 0.0, False), ("load", 0.5, 0.0, False), INVALIDATE, PUT]
)
@settings(deadline=None, max_examples=60)
def test_no_interleaving_serves_what_was_invalidated(
    colour: str, seed: int, memory: int, plan: list[Fault | None], script: list[Any]
) -> None:
    """L9, L14: hedged loads, invalidations and sets at any time, in any order of the threads."""
    play = Play(colour, seed=seed, memory=memory)
    play.plan.then("get", *plan)
    moment, fence, served = [0], [0], []
    ended: dict[int, float] = {}  # when what was `set` was there; an invalidation may come while it is being set

    def tick() -> int:
        moment[0] += 1
        return moment[0]

    def loader(takes: float, fails: bool) -> Any:
        inner = play.loader("raise" if fails else "value", takes)

        def plain(key: str) -> int:
            version = tick()
            inner(key)
            return version

        async def awaited(key: str) -> int:
            version = tick()
            await inner(key)
            return version

        return plain if colour == "sync" else awaited

    def load(takes: float, fails: bool) -> Any:
        begun = fence[0]
        if colour == "sync":
            served.append((play.cache.get_or_load("k", loader(takes, fails)), begun))
            return None

        async def whole() -> None:
            served.append((await play.cache.get_or_load("k", loader(takes, fails)), begun))

        return whole()

    def invalidate() -> Any:
        at = tick()
        if colour == "sync":
            play.cache.invalidate("k")
            fence[0] = max(fence[0], at)
            return None

        async def whole() -> None:
            await play.cache.invalidate("k")
            fence[0] = max(fence[0], at)

        return whole()

    def put() -> Any:
        version = tick()
        ended[version] = math.inf
        if colour == "sync":
            play.cache.set("k", version)
            ended[version] = tick()
            return None

        async def whole() -> None:
            await play.cache.set("k", version)
            ended[version] = tick()

        return whole()

    acts: dict[str, Any] = {"load": load, "invalidate": lambda *_: invalidate(), "set": lambda *_: put()}
    play.run(*((at, partial(acts[kind], takes, fails)) for kind, at, takes, fails in script))
    for value, begun in served:
        began = ended.get(value, value)
        assert began > begun, f"L9: {value} was served to a call that began after the invalidation at {begun}"
    assert all(error is None or isinstance(error, (bool, str, Down)) for error in play.results.values())
    stalls = play.threads is not None and play.threads.stalls  # then a flight may count as stuck
    if not stalls and not any(kind in ("invalidate", "set") for kind, *_ in script):
        assert play.most <= 1


# misuse


@pytest.mark.parametrize("bad", [-1, "soon", True, float("nan"), TIMEOUT, 1.0])
def test_what_is_no_time_before_the_timeout_is_refused(bad: Any) -> None:
    with pytest.raises(MisuseError, match="hedge_after"):
        CachePolicy(timeout=TIMEOUT, hedge_after=bad)


def test_it_is_off_by_default() -> None:
    assert CachePolicy().hedge_after is None
    assert CachePolicy(hedge_after=0).hedge_after == 0.0
