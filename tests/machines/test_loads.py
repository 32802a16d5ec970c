"""Loads, bare and from outside: how long one is waited for, and what its error shows."""

from __future__ import annotations

import builtins
import traceback
from dataclasses import replace
from functools import partial
from types import FunctionType
from typing import Any

import pytest

from resilient_cache import CachePolicy, LoadTimeout, Lookup, Mode, NotFound, Reason, ResilientCache, Source
from resilient_cache._request import Candidate, Failure, Request
from resilient_cache.flights import AGAIN, Flight
from resilient_cache.testing import ManualClock

from ..laws.stage import Stage


def made(**policy: Any) -> tuple[Any, ManualClock, Request, Flight[Any]]:
    """The loads of a cache, its clock, a request that has just begun and its flight."""
    clock = ManualClock()
    cache = ResilientCache[str, int](None, name="loads", policy=CachePolicy(**policy), clock=clock)
    request = cache._rules.begin("k", loads=True)
    return cache._rules.loads, clock, request, Flight("k", Mode.ON, 1, clock.monotonic())


def test_a_flight_is_waited_for_until_it_is_stuck() -> None:
    """Its age counts from when it began, and somebody who comes later than that does not wait at all."""
    loads, clock, request, flight = made(flight_age=10)
    assert loads.patience(request, flight) == 10
    clock.advance(9)
    assert loads.patience(request, flight) == 1
    clock.advance(9)
    assert loads.patience(request, flight) == 0


def test_a_caller_waits_for_a_store_operation_and_a_load() -> None:
    """`timeout` and `load_timeout` from when it asked, and then it has timed out."""
    loads, clock, request, flight = made(timeout=0.25, load_timeout=2, flight_age=10)
    assert loads.patience(request, flight) == 2.25
    clock.advance(2.125)
    assert loads.timed_out(request, flight) is AGAIN
    clock.advance(0.125)
    assert isinstance(loads.timed_out(request, flight).error, LoadTimeout)
    flight.ready = Lookup("loaded", Source.LOADER, Reason.ABSENT)
    assert loads.timed_out(request, flight) is flight.ready, "a store that is slow to take it is no load that lasts"


def test_what_many_keys_cost_the_store_is_not_the_loads() -> None:
    """As long as the store is asked patience does not end, and then it is `load_timeout` from that moment on."""
    loads, clock, request, flight = made(timeout=0.25, load_timeout=2, flight_age=10)
    flight.reading = float("inf")
    clock.advance(5)
    assert loads.patience(request, flight) == 2
    assert loads.timed_out(request, flight) is AGAIN
    flight.reading = clock.monotonic()
    clock.advance(1.75)
    assert loads.patience(request, flight) == 0.25
    clock.advance(0.25)
    assert isinstance(loads.timed_out(request, flight).error, LoadTimeout)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_an_error_shows_the_caller_and_the_loader_and_nothing_of_what_is_between(colour: str) -> None:
    """However deep it was raised; and a second time not twice as much."""

    def deeper() -> None:
        raise OSError("down")

    stage = Stage(colour)
    for _ in range(2):
        with pytest.raises(OSError, match="down") as caught:
            stage.load("k", deeper)
        shown = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert shown[shown.index("get_or_load") :][1:3] == ["resolve", "finish"]
        assert shown[-2:] == ["give", "deeper"]
        assert not {"_answer", "load", "_lead", "_fly"} & set(shown[shown.index("finish") :])


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_what_is_learned_under_bypass_is_forgotten(colour: str) -> None:
    """L20: that there is none, too."""
    stage = Stage(colour, memory=10, mode=Mode.BYPASS)
    with pytest.raises(NotFound):
        stage.load("k", NotFound("k"))
    stage.cache.mode = Mode.ON
    assert stage.lookup("k").source is Source.NONE


def test_a_ttl_is_shortened_at_random_by_up_to_the_jitter() -> None:
    """Never lengthened: entries that were made together do not expire together."""
    for chance, fresh in ((0.0, 100.0), (0.5, 87.5), (1.0, 75.0)):
        policy = CachePolicy(ttl=100, stale_for=10, jitter=0.25)
        cache = ResilientCache[str, int](None, name="loads", policy=policy, random=partial(float, chance))
        assert cache._rules.loads.windows(policy, 1, None, None) == (fresh, 10.0)


def test_no_window_is_longer_than_the_caches_own_longest() -> None:
    """L10: whatever a call's policy says, and whatever came with the value; each of the two by itself."""
    loads, *_ = made(max_ttl=100, ttl=10, stale_for=10, jitter=0)
    longer = CachePolicy(max_ttl=1_000, ttl=500, stale_for=500, jitter=0)
    assert loads.windows(longer, 1, None, None) == (100, 100)
    assert loads.windows(longer, 1, 99, 99) == (99, 99)
    assert loads.windows(longer, 1, 101, 101) == (100, 100)
    assert loads.windows(replace(longer, ttl=lambda value: value), 101, None, 1) == (100, 1)


@pytest.mark.parametrize("raised", [True, False])
def test_that_there_is_none_is_known_before_it_is_noted(raised: bool) -> None:
    """L3: a leader that is taken away while it notes what the store has to lose has loaded all the same."""
    loads, _, request, flight = made(negative=lambda value: value == "none")
    outcome = loads.failed(request, flight, NotFound("k")) if raised else loads.loaded(request, flight, "none")[0]
    assert flight.ready is outcome
    assert outcome.source is Source.NEGATIVE


def test_an_error_is_kept_without_our_own_frames() -> None:
    """They would hold what the call had in hand for as long as the error is held."""
    loads, _, request, flight = made()

    def raises() -> None:
        raise OSError("down")

    def lead(loader: Any, failed: Any) -> Any:
        try:
            loader()
        except OSError as error:
            return failed(request, flight, error)

    here = {"__package__": "resilient_cache", "__builtins__": builtins}
    ours = FunctionType(lead.__code__, here, closure=lead.__closure__)
    failure = ours(raises, loads.failed)
    assert failure.error.__traceback__ is failure.trace
    assert [frame.name for frame in traceback.extract_tb(failure.trace)] == ["raises"]


def test_nothing_stands_in_for_what_is_no_failure() -> None:
    """L2: who is interrupted is told so, though there is something stale."""
    loads, clock, request, _ = made()
    request.offer(Candidate("old", 0.0, clock.monotonic() + 9, 1))
    struck = Failure(KeyboardInterrupt(), None, Source.NONE, None)
    assert loads.settle(request, struck) is struck
    failed = Failure(OSError(), None, Source.NONE, None)
    assert loads.settle(request, failed).value == "old"


def test_what_stands_in_does_so_before_the_failed_load_has_landed() -> None:
    """L12: whoever comes in between is not made to load at once."""
    loads, clock, request, flight = made()
    request.offer(Candidate("old", 0.0, clock.monotonic() + 9, 1))
    loads.failed(request, flight, OSError())
    next_one = Request("k", CachePolicy(), Mode.ON, request.gates, since=clock.monotonic(), until=9e9)
    next_one.loads = True
    assert loads._local.recall(next_one) == (Source.STALE, "old")


def test_who_is_to_ask_again_has_been_given_nothing_to_refuse() -> None:
    """L13: the load was detached before it began, so there is no value to ask `accept` about."""
    loads, _, request, flight = made(accept=lambda *_: False)
    assert request.screen is not None
    flight.detached = True
    assert loads.begin(request, flight) is AGAIN


def test_who_refuses_what_others_share_asks_again_for_a_load_and_once() -> None:
    """L13: what it is given then is new, and nobody else's hit."""
    loads, _, request, _ = made(accept=lambda *_: False)
    hit = Lookup("v", Source.STORE, Reason.HIT, 0.0)
    assert loads.settle(request, hit) is AGAIN
    assert (request.forced, request.asked, request.turned_down) == (True, True, True)
    assert loads.settle(request, hit).source is Source.NONE


def test_what_is_stale_is_not_for_who_does_not_take_it() -> None:
    """L12: it asks again, and joins none of those who do take it; unless the last load has failed."""
    loads, clock, request, _ = made()
    stale = Lookup("old", Source.STALE, Reason.EXPIRED, 61.0, stale=True)
    assert loads.shared(request, stale) is AGAIN
    assert request.picky
    loads._local.rest("k", Candidate("old", 0.0, clock.monotonic() + 9, 1), clock.monotonic() + 5)
    assert loads.shared(request, stale) is stale


def test_when_a_load_behind_fails_nothing_rests() -> None:
    """It was not needed: only another load behind has to wait, and who finds nothing fresh may load."""
    loads, clock, request, flight = made()
    request.renews = 1
    request.offer(Candidate("old", 0.0, clock.monotonic() + 9, 1))
    loads.failed(request, flight, OSError())
    assert not loads._local.stand_ins.entries
    assert loads.settle(request, Failure(OSError(), None, Source.NONE, None)).value == "old"


@pytest.mark.parametrize(("value", "source"), [("v", Source.LOADER), ("none", Source.NEGATIVE)])
def test_what_the_leader_refuses_is_handed_on_as_what_it_is(value: str, source: Source) -> None:
    """L13: for those who share the load and think otherwise; and who refuses knows why it has nothing."""
    loads, _, request, flight = made(accept=lambda *_: False, negative=lambda value: value == "none")
    assert loads.begin(request, flight) is None
    outcome, draft = loads.loaded(request, flight, value)
    assert (outcome.source, outcome.withheld.value, outcome.withheld.source) == (Source.NONE, value, source)
    assert draft is None
    assert loads.settle(request, outcome) is outcome
    assert request.reason is Reason.NOT_ACCEPTED
