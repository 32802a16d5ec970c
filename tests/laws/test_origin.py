"""L15, L17, L12: what may start a load, what is made of one that may not, and what comes back when it ends."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_cache import (
    Backpressure,
    BreakerPolicy,
    CachePolicy,
    MisuseError,
    Mode,
    NoSafeValue,
    NotFound,
    OnOverload,
    OriginOverloaded,
    Source,
)
from resilient_cache.events import CircuitChanged, CircuitState, Overloaded, StoreCalled
from resilient_cache.outcome import Direction, Operation, OverloadCause, OverloadVerdict

from .stage import POLICY, Stage

COLOURS = pytest.mark.parametrize("colour", ["sync", "async"])
NARROW = replace(POLICY, max_loads=1, load_wait=0)
GUARDED = replace(POLICY, stale_for=0, origin=BreakerPolicy(consecutive=2, span=0, hold=1, probes=1))
LONG = 1e9


class Interrupt(BaseException):
    """What takes a caller away."""


class Origin(Stage):
    """A stage that notes what it is told, and an origin that can be kept busy."""

    def __init__(self, colour: str, policy: CachePolicy = NARROW, **options: Any) -> None:
        self.told: list[Any] = []
        super().__init__(colour, policy=policy, hooks=[self.told.append], **options)

    @property
    def state(self) -> Any:
        """What `health` tells of the origin."""
        return self.cache.health()["origin"]

    def occupy(self) -> Callable[[], object]:
        """Somebody else's load is running, until the result is called."""
        bulkhead = self.cache._rules.loads.origin._bulkhead
        permit = bulkhead.force(LONG)
        return lambda: bulkhead.release(permit)

    def of(self, kind: type[Any]) -> list[Any]:
        """The events of one kind."""
        return [event for event in self.told if isinstance(event, kind)]


def overloaded(cause: str, verdict: str, waited: float = 0.0) -> Overloaded:
    return Overloaded("laws", OverloadCause(cause), OverloadVerdict(verdict), waited)


# No permit in time


@COLOURS
def test_a_load_without_a_permit_starts_all_the_same_and_is_reported(colour: str) -> None:
    """L15: by default the library invents no error."""
    origin = Origin(colour)
    origin.occupy()
    assert origin.load("k", lambda: origin.state["loads"]) == 2  # it counts as running
    assert origin.of(Overloaded) == [overloaded("full", "proceed")]
    assert origin.cache.stats()["overload_full_proceed"] == origin.cache.stats()["loads_queued"] == 1
    assert origin.state["loads"] == 1


@COLOURS
def test_or_it_is_refused(colour: str) -> None:
    """L15: by choice. The next one that finds a permit is not."""
    origin = Origin(colour, replace(NARROW, on_overload="raise"))
    release = origin.occupy()
    with pytest.raises(OriginOverloaded, match="no load was started: 1 loads are running already") as caught:
        origin.load("k", 1)
    assert caught.value.retry_after == 0.0
    assert origin.loads == 0
    assert origin.of(Overloaded) == [overloaded("full", "raise")]
    assert origin.cache.stats()["errors"] == origin.cache.stats()["overload_full_raise"] == 1
    release()
    assert origin.load("k", 1) == 1


@COLOURS
@pytest.mark.parametrize("on_overload", list(OnOverload))
def test_something_stale_goes_before_either(colour: str, on_overload: OnOverload) -> None:
    """L12: inside its window, marked, and then the loader is not asked before `stale_retry`; never for a refresh."""
    origin = Origin(colour, replace(NARROW, on_overload=on_overload), memory=10)
    origin.load("k", 1)
    release = origin.occupy()
    origin.clock.advance(61)
    found = origin.lookup("k", origin.loader(2))
    assert (found.value, found.source, found.stale) == (1, Source.STALE, True)
    assert origin.of(Overloaded) == [overloaded("full", "stale")]
    release()
    assert origin.load("k", 2) == 1
    origin.clock.advance(1)
    assert origin.load("k", 2) == 2
    origin.occupy()
    if on_overload is OnOverload.RAISE:
        with pytest.raises(OriginOverloaded):
            origin.refresh("k", origin.loader(3))
    else:
        assert origin.refresh("k", origin.loader(3)) == 3


@COLOURS
def test_past_its_window_nothing_stands_in(colour: str) -> None:
    origin = Origin(colour, replace(NARROW, on_overload="raise"), memory=10)
    origin.load("k", 1)
    origin.occupy()
    origin.clock.advance(361)
    with pytest.raises(OriginOverloaded):
        origin.load("k", 2)


@COLOURS
def test_a_function_of_the_key_decides(colour: str) -> None:
    """It is given what the caller gave."""
    asked = []

    def on_overload(key: str) -> str:
        asked.append(key)
        return "raise" if key == "cheap" else OnOverload.PROCEED

    origin = Origin(colour, replace(NARROW, on_overload=on_overload))
    origin.occupy()
    assert origin.load("dear", 1) == 1
    with pytest.raises(OriginOverloaded):
        origin.load("cheap", 1)
    assert asked == ["dear", "cheap"]


def fails(key: str) -> OnOverload:
    raise RuntimeError(key)


@COLOURS
@pytest.mark.parametrize("broken", [fails, lambda key: "no such thing", lambda: None])
def test_a_function_that_fails_refuses_nobody(colour: str, broken: Any) -> None:
    origin = Origin(colour, replace(NARROW, on_overload=broken))
    origin.occupy()
    assert origin.load("k", 1) == 1
    assert origin.cache.stats()["overload_errors"] == 1


@COLOURS
def test_a_call_may_decide_otherwise_but_not_how_many(colour: str) -> None:
    """`load_wait` and `on_overload` are the call's, `max_loads` is the cache's."""
    origin = Origin(colour)
    origin.occupy()
    with pytest.raises(OriginOverloaded):
        origin.load("k", 1, policy=replace(NARROW, max_loads=1_000, on_overload="raise"))


@COLOURS
def test_a_mode_that_never_loads_needs_no_permit(colour: str) -> None:
    origin = Origin(colour)
    origin.occupy()
    origin.cache.mode = Mode.FROZEN
    with pytest.raises(NoSafeValue):
        origin.load("k", 1)
    assert not origin.of(Overloaded)


# A permit comes back when the work ends


@COLOURS
@pytest.mark.parametrize("ending", [1, OSError("down"), NotFound("k"), Interrupt(), Backpressure(0), MisuseError("x")])
def test_a_permit_comes_back_however_the_load_ends(colour: str, ending: Any) -> None:
    """L2, L17."""
    origin = Origin(colour)
    running = []

    def end() -> Any:
        running.append(origin.state["loads"])
        if isinstance(ending, BaseException):
            raise ending
        return ending

    if isinstance(ending, BaseException):
        with pytest.raises(type(ending)) as caught:
            origin.load("k", end)
        assert caught.value is ending
    else:
        assert origin.load("k", end) == 1
    assert running == [1]
    assert origin.state["loads"] == origin.state["queued"] == 0


@COLOURS
def test_the_write_to_the_store_needs_none(colour: str) -> None:
    """Or a slow store would hold up loads."""
    running = []

    def hook(event: Any) -> None:
        if isinstance(event, StoreCalled) and event.operation is Operation.SET:
            running.append(origin.state["loads"])

    origin = Origin(colour)
    origin.cache = origin.another(hooks=[hook])
    origin.load("k", 1)
    assert running == [0]


@COLOURS
def test_one_that_never_comes_back_is_taken_back_when_its_load_counts_as_stuck(colour: str) -> None:
    """L17: a killed thread, a frozen request. Until then it is held."""
    origin = Origin(colour, replace(NARROW, on_overload="raise"))
    rules = origin.cache._rules
    request = rules.begin("k", loads=True)
    flight, _ = rules.local.board(request, lambda: None, rules.monotonic())
    assert not rules.loads.origin.is_full(request, flight)
    assert rules.loads.begin(request, flight) is None  # and it is never heard of again
    origin.clock.advance(9.75)
    with pytest.raises(OriginOverloaded):
        origin.load("other", 1)
    origin.clock.advance(0.25)
    assert origin.load("k", 2) == 2
    assert origin.cache.health()["origin"]["loads"] == 0
    rules.loads.loaded(request, flight, 1)  # it comes back after all
    assert origin.get("k") == 2


@COLOURS
def test_a_load_within_a_load_rides_on_its_permit(colour: str) -> None:
    """Or as many loaders as there are permits would wait for each other."""
    origin = Origin(colour, replace(NARROW, on_overload="raise"))

    def outer() -> Any:
        def innermost() -> Any:
            return origin.state["loads"]

        def inner() -> Any:
            return nested("innermost", origin.loader(innermost))

        return nested("inner", origin.loader(inner))

    def nested(key: str, loader: Any) -> Any:
        return origin.cache.get_or_load(key, loader)

    assert origin.load("outer", outer) == 1
    assert not origin.of(Overloaded)
    assert origin.state["loads"] == 0


@COLOURS
def test_a_load_of_another_cache_within_does_not(colour: str) -> None:
    """Each cache has its own origin."""
    origin, other = Origin(colour), Origin(colour, replace(NARROW, on_overload="raise"))
    other.occupy()

    def outer() -> Any:
        return other.cache.get_or_load("k", other.loader(1))

    with pytest.raises(OriginOverloaded):
        origin.load("k", outer)


def test_a_child_process_starts_over() -> None:
    origin = Origin("sync", replace(NARROW, on_overload="raise"))
    origin.occupy()
    origin.cache._rules.loads.origin.forked()
    assert origin.load("k", 1) == 1


# Backpressure


@COLOURS
def test_backpressure_is_raised_as_it_is_and_then_nobody_loads(colour: str) -> None:
    """Of whatever key, until it is over; whatever `on_overload` says."""
    origin, asked = Origin(colour), Backpressure(timedelta(seconds=5))
    with pytest.raises(Backpressure) as caught:
        origin.load("k", asked)
    assert caught.value is asked
    assert origin.state["paused_for"] == 5
    origin.clock.advance(1)
    for key in ("k", "other"):
        with pytest.raises(OriginOverloaded, match="the origin asked to be left alone") as refused:
            origin.load(key, 1)
        assert not isinstance(refused.value, Backpressure)
        assert refused.value.retry_after == 4
    assert origin.loads == 1
    assert origin.of(Overloaded) == [overloaded("pause", "raise")] * 2
    assert origin.cache.stats()["backpressure"] == 1
    origin.clock.advance(4)
    assert origin.load("other", 1) == 1
    assert origin.state["paused_for"] == 0


@COLOURS
def test_what_is_stale_serves_meanwhile(colour: str) -> None:
    """L12: for the one who is told, and for all others."""
    origin = Origin(colour, memory=10)
    origin.load("k", 1)
    origin.load("other", 2)
    origin.clock.advance(61)
    assert origin.load("k", Backpressure(5)) == 1
    assert origin.lookup("other", origin.loader(3)).stale
    assert origin.of(Overloaded) == [overloaded("pause", "stale")]
    assert origin.load("k", 4) == 1
    with pytest.raises(OriginOverloaded):
        origin.refresh("k", origin.loader(4))
    origin.clock.advance(5)
    assert origin.load("k", 4) == 4


@COLOURS
def test_a_pause_is_not_cut_short_and_not_endless(colour: str) -> None:
    origin = Origin(colour)
    for pause in (86_400, 1):  # both began before anybody knew
        origin.cache._rules.loads.origin._pause(min(pause, 300.0))
    assert origin.state["paused_for"] == 300
    origin = Origin(colour)
    with pytest.raises(Backpressure):
        origin.load("k", Backpressure(86_400))
    assert origin.state["paused_for"] == 300


@COLOURS
def test_in_a_pause_nobody_queues(colour: str) -> None:
    origin = Origin(colour)
    with pytest.raises(Backpressure):
        origin.load("k", Backpressure(5))
    origin.occupy()
    with pytest.raises(OriginOverloaded, match="left alone"):
        origin.load("k", 1)
    assert "loads_queued" not in origin.cache.stats()


@pytest.mark.parametrize("pause", [-1, float("nan"), float("inf"), True, "5", None])
def test_a_pause_that_is_none_is_misuse(pause: Any) -> None:
    with pytest.raises(MisuseError, match="retry_after must be seconds or a timedelta, at least 0"):
        Backpressure(pause)


def test_the_errors_survive_a_process_pool() -> None:
    for error in (OriginOverloaded("full", 1.5), Backpressure(2)):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.retry_after) == (type(error), str(error), error.retry_after)
    assert OriginOverloaded().retry_after == 0.0


# The origin's circuit


def open_circuit(origin: Origin) -> None:
    for _ in range(2):
        with pytest.raises(OSError, match="down"):
            origin.load("k", OSError("down"))


@COLOURS
def test_an_origin_that_fails_is_left_alone_but_for_probes(colour: str) -> None:
    """L16: while its circuit is open a load is refused at once; one load at a time finds out."""
    origin = Origin(colour, GUARDED)
    open_circuit(origin)
    assert origin.of(CircuitChanged) == [
        CircuitChanged("laws", Direction.ORIGIN, CircuitState.CLOSED, CircuitState.OPEN, 0.75)
    ]
    assert origin.state["circuit"] == {"state": "open", "retry_in": 0.75}
    with pytest.raises(OriginOverloaded, match="the origin's circuit is open") as caught:
        origin.load("other", 1)
    assert caught.value.retry_after == 0.75
    assert origin.of(Overloaded) == [overloaded("circuit", "raise")]
    origin.clock.advance(0.75)

    def probing() -> Any:
        return origin.cache.circuits["origin"].state

    assert origin.load("k", probing) == "half_open"
    assert origin.of(CircuitChanged)[1:] == [
        CircuitChanged("laws", Direction.ORIGIN, CircuitState.HALF_OPEN, CircuitState.CLOSED)
    ]
    assert origin.load("other", 1) == 1
    stats = origin.cache.stats()
    assert (stats["circuit_origin_open"], stats["circuit_origin_closed"]) == (1, 1)


@COLOURS
def test_what_is_stale_serves_while_it_is_open(colour: str) -> None:
    origin = Origin(colour, replace(GUARDED, stale_for=300), memory=10)
    origin.load("stale", 1)
    open_circuit(origin)
    origin.cache.circuits["origin"].force_open()
    origin.clock.advance(61)
    assert origin.lookup("stale", origin.loader(2)).source is Source.STALE
    assert origin.of(Overloaded) == [overloaded("circuit", "stale")]


@COLOURS
@pytest.mark.parametrize(
    "ending", [NotFound("k"), Interrupt(), Backpressure(0), OriginOverloaded("a cache below"), MisuseError("x"), 1]
)
def test_what_is_no_failure_of_the_origin_opens_nothing(colour: str, ending: Any) -> None:
    origin = Origin(colour, replace(GUARDED, negative_ttl=0))
    for _ in range(5):
        if isinstance(ending, BaseException):
            with pytest.raises(type(ending)):
                origin.load("k", ending)
        else:
            origin.refresh("k", origin.loader(ending))
    assert origin.state["circuit"]["state"] == "closed"


@COLOURS
@pytest.mark.parametrize(
    ("ending", "state"), [(NotFound("k"), "closed"), (Interrupt(), "half_open"), (OSError(), "open")]
)
def test_what_a_probe_says(colour: str, ending: BaseException, state: str) -> None:
    """ "There is none" is an answer. One that was taken away makes room for the next."""
    origin = Origin(colour, GUARDED)
    open_circuit(origin)
    origin.clock.advance(0.75)
    with pytest.raises(type(ending)):
        origin.load("k", ending)
    assert origin.state["circuit"]["state"] == state
    if state == "half_open":
        assert origin.load("k", 1) == 1


@COLOURS
def test_a_probe_may_take_as_long_as_a_load_may(colour: str) -> None:
    """And one that never reports is replaced."""
    origin = Origin(colour, GUARDED)
    open_circuit(origin)
    origin.clock.advance(0.75)
    origin.load("k", lambda: origin.clock.advance(9))
    assert origin.state["circuit"]["state"] == "closed"
    other = Origin(colour, GUARDED)
    open_circuit(other)
    other.clock.advance(0.75)
    circuit = other.cache.circuits["origin"]
    assert circuit.admit(other.clock.monotonic()) < 0
    with pytest.raises(OriginOverloaded):
        other.load("k", 1)
    other.clock.advance(10)
    assert other.load("k", 1) == 1


@COLOURS
def test_a_load_that_is_shed_for_want_of_a_permit_frees_the_probe(colour: str) -> None:
    origin = Origin(colour, replace(GUARDED, max_loads=1, load_wait=0, on_overload="raise"))
    open_circuit(origin)
    release = origin.occupy()
    origin.clock.advance(0.75)
    with pytest.raises(OriginOverloaded, match="running already"):
        origin.load("k", 1)
    release()
    assert origin.load("k", 1) == 1


@COLOURS
def test_there_is_no_circuit_unless_it_is_asked_for(colour: str) -> None:
    origin = Origin(colour)
    assert origin.state["circuit"] is None
    assert list(origin.cache.circuits) == ["read", "write"]
    for _ in range(20):
        origin.clock.advance(1)
        with pytest.raises(OSError, match="down"):
            origin.load("k", OSError("down"))
    assert origin.loads == 20


# The adaptive limit


@COLOURS
def test_the_limit_follows_how_long_loads_take(colour: str) -> None:
    """As many as are allowed run, so it goes up; they get slow, so it goes down; the origin says so, and it does."""
    origin = Origin(colour, replace(POLICY, adaptive_loads=True, load_wait=0))
    assert origin.state["limit"] == 20
    for _ in range(19):
        origin.occupy()

    def loads(count: int, seconds: float) -> None:
        for _ in range(count):
            origin.refresh("k", origin.loader(lambda: origin.clock.advance(seconds)))

    loads(20, 0.125)
    assert origin.state["limit"] == 21
    origin.occupy()
    loads(21, 0.125)
    loads(22, 0.5)
    assert origin.state["limit"] == 20
    origin.cache._rules.loads.origin._adaptive.limit = 100
    with pytest.raises(Backpressure):
        origin.load("other", Backpressure(0))
    assert origin.state["limit"] == 90


@COLOURS
def test_loads_that_fail_late_bring_the_limit_down_and_those_that_fail_soon_do_nothing(colour: str) -> None:
    """An origin that is so slow that every load times out is the very one to be spared."""
    origin = Origin(colour, replace(POLICY, adaptive_loads=True, load_wait=0))

    def fails(count: int, seconds: float) -> None:
        def fail() -> None:
            origin.clock.advance(seconds)
            raise OSError("timed out")

        for _ in range(count):
            with pytest.raises(OSError, match="timed out"):
                origin.refresh("k", origin.loader(fail))

    adaptive = origin.cache._rules.loads.origin._adaptive
    fails(40, 0.001)
    assert not adaptive._base, "what fails soon is no measure"
    for _ in range(20):
        origin.refresh("k", origin.loader(lambda: origin.clock.advance(0.125)))
    adaptive.limit = 40
    fails(100, 0.0)
    assert (adaptive.limit, adaptive._base) == (40, 0.125)
    fails(40, 5.0)
    assert adaptive.limit == origin.state["limit"] == 36


# All of it together

ENDINGS = st.sampled_from([1, OSError("down"), NotFound("k"), Interrupt(), Backpressure(1)])
STEPS = st.tuples(st.sampled_from(["k", "l"]), ENDINGS, st.sampled_from([0.0, 0.5, 2.0, 70.0]), st.booleans())


@settings(max_examples=60)
@given(
    colour=st.sampled_from(["sync", "async"]),
    on_overload=st.sampled_from(list(OnOverload)),
    circuit=st.booleans(),
    steps=st.lists(STEPS, max_size=12),
)
def test_nothing_is_left_over_and_every_load_is_accounted_for(
    colour: str, on_overload: OnOverload, circuit: bool, steps: list[Any]
) -> None:
    """L7, L15: what is raised is the loader's own or `OriginOverloaded`; no permit stays out; all is counted."""
    policy = replace(NARROW, on_overload=on_overload, origin=GUARDED.origin if circuit else None)
    origin = Origin(colour, policy, memory=10)
    interrupted = 0
    for key, ending, pause, busy in steps:
        release = origin.occupy() if busy else lambda: None
        before, raised = origin.loads, None
        try:
            origin.load(key, ending)
        except Interrupt:
            interrupted += 1
        except (OSError, NotFound, OriginOverloaded) as error:
            raised = error
        if isinstance(raised, OriginOverloaded):
            assert raised is ending or origin.loads == before
        else:
            assert raised in (None, ending) or type(raised) is NotFound
        if busy and on_overload is OnOverload.RAISE:
            assert origin.loads == before
        release()
        assert origin.state["loads"] == origin.state["queued"] == 0
        origin.clock.advance(pause)
    stats = origin.cache.stats()
    assert stats["requests"] == len(steps) - interrupted
    assert len(origin.of(Overloaded)) == sum(
        stats.get(f"overload_{cause}_{verdict}", 0) for cause in OverloadCause for verdict in OverloadVerdict
    )


# Misuse


@pytest.mark.parametrize(
    ("option", "bad", "said"),
    [
        ("max_loads", 0, "max_loads must be a whole number, at least 1"),
        ("max_loads", True, "max_loads must be a whole number"),
        ("max_loads", 1.5, "max_loads must be a whole number"),
        ("load_wait", -1, "load_wait"),
        ("load_wait", None, "load_wait"),
        ("on_overload", "wait", "on_overload must be proceed, raise or a function of the key"),
        ("on_overload", None, "on_overload must be"),
        ("adaptive_loads", 1, "adaptive_loads must be True or False"),
        ("origin", CachePolicy(), "origin must be a BreakerPolicy or None"),
    ],
)
def test_a_bad_option_is_refused_by_its_name(option: str, bad: Any, said: str) -> None:
    """L6."""
    with pytest.raises(MisuseError, match=said):
        CachePolicy(**{option: bad})


def test_a_coroutine_function_cannot_decide() -> None:
    """L6: it would give something that has yet to be awaited, and then everything would proceed."""

    async def on_overload(key: str) -> OnOverload:
        raise AssertionError(key)

    with pytest.raises(MisuseError, match="on_overload must be a plain function"):
        CachePolicy(on_overload=on_overload)  # type: ignore[arg-type]


def test_a_decision_may_be_given_by_its_value() -> None:
    assert CachePolicy(on_overload="raise").on_overload is OnOverload.RAISE
    assert CachePolicy().on_overload is OnOverload.PROCEED
