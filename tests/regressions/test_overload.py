"""Regressions: an origin that hangs, and what the parts made of it together. Both colours."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from resilient_cache import CachePolicy, Lookup, Reason, Source
from resilient_cache._bulk import Crew
from resilient_cache._threads import Seat
from resilient_cache.testing import Fault

from ..laws.stage import Stage
from ..laws.test_hedge import COLOURS, HEDGE, POLICY, Play

PLAIN = replace(POLICY, hedge_after=None)


def crowd(colour: str, policy: CachePolicy, *, keys: int, takes: float, thinks: float = 0.0, **options: Any) -> Play:
    """One call for each of so many keys, which the store has, 1/64 s apart."""
    play = Play(colour, policy=policy, **options)

    def before(other: Any) -> Any:
        play.plan.during(Fault.slow(thinks), "get")
        return other.set_many({f"k{number}": "old" for number in range(keys)})

    def act(number: int) -> Any:
        return play.cache.lookup(f"k{number}", play.loader("value", takes))

    return play.run(*((1 + number / 64, partial(act, number)) for number in range(keys)), before=before)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_hedged_load_that_queues_does_not_start_when_the_store_has_answered(colour: str) -> None:
    """L15: its caller has the store's entry and is gone; it was one more load, beyond the limit, for nobody."""
    play = crowd(colour, replace(POLICY, max_loads=4, load_wait=1.0), keys=16, takes=3.0, thinks=0.125)
    assert {got.source for got in play.results.values()} == {Source.STORE}
    assert len(play.loads) == play.most == 4
    assert not any(name.startswith("overload") for name in play.cache.stats())


@pytest.mark.parametrize("colour", COLOURS)
def test_no_load_is_begun_beside_the_store_while_as_many_queue_as_may_run(colour: str) -> None:
    """It would only queue: in threads, one for each read that the store answers late."""
    play = crowd(colour, replace(POLICY, max_loads=2, load_wait=1.0), keys=16, takes=3.0, thinks=0.125)
    assert play.cache.stats()["loads_queued"] <= 4
    assert {round(play.ends[n] - 1 - n / 64, 3) for n in range(16)} == {0.125} or play.threads is not None


@pytest.mark.parametrize("colour", COLOURS)
def test_who_comes_when_the_store_has_overtaken_a_load_that_hangs_is_served_what_it_has(colour: str) -> None:
    """L5: without memory they waited for the load, for up to `flight_age`, and the store had the entry all along."""
    play = Play(colour, memory=0)

    def before(other: Any) -> Any:
        play.thinks(0.125)
        return other.set("k", "old")

    play.run(*((at, partial(play.load, "value", 9.0)) for at in (0.0, 0.5, 5.0)), before=before)
    assert [(play.results[n].value, play.ends[n]) for n in range(3)] == [("old", 0.125), ("old", 0.5), ("old", 5.0)]
    assert len(play.loads) == 1


@pytest.mark.parametrize("colour", COLOURS)
def test_it_is_served_no_longer_than_its_ttl_and_not_past_a_fence(colour: str) -> None:
    for then, at in ((lambda _: None, 3.0), (lambda play: play.cache.invalidate("k"), 0.5)):
        play = Play(colour, memory=0, policy=replace(POLICY, ttl=2.0))

        def before(other: Any, play: Play = play) -> Any:
            play.thinks(0.125)
            return other.set("k", "old")

        play.run(
            (0.0, partial(play.load, "value", 4.0)),
            (0.25, partial(then, play)),
            (at, partial(play.load, "value", 0.0)),
            before=before,
        )
        assert [play.results[n].value for n in (0, 2)] == ["old", "new"]


@pytest.mark.parametrize("colour", COLOURS)
def test_a_circuit_that_is_held_closed_does_not_end_the_hedging(colour: str) -> None:
    play = Play(colour)
    play.plan.then("get", Fault.slow(0.1875))
    held = play.run((0.0, lambda: play.cache.circuits["read"].force_closed()), (1.0, partial(play.load, "value")))
    assert (held.results[1].value, held.ends[1]) == ("new", 1.0 + HEDGE)


@pytest.mark.parametrize("colour", COLOURS)
def test_loads_behind_do_not_pile_up_before_an_origin_that_hangs(colour: str) -> None:
    """In threads there was one for each stale key that was asked for: 3 000 keys a second, until none was left."""
    policy = replace(PLAIN, ttl=0.5, refresh_behind=True, max_loads=2, load_wait=1.0, stale_retry=1.0)
    play = crowd(colour, policy, keys=48, takes=9.0)
    assert {got.source for got in play.results.values()} == {Source.STALE}
    assert play.cache.stats()["refreshes_behind"] <= 6
    if play.threads is None:
        assert all(play.ends[n] == 1 + n / 64 for n in range(48)), "a caller waited"


def many(play: Play) -> Any:
    """A loader of many that gives "new" for each at once."""

    def give(keys: list[str]) -> dict[str, str]:
        play.loads += [play.now()] * len(keys)
        return dict.fromkeys(keys, "new")

    async def awaited(keys: list[str]) -> dict[str, str]:
        return give(keys)

    return awaited if play.threads is None else give


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("why", ["failed before", "invalidated meanwhile"])
def test_of_many_keys_one_that_is_not_loaded_takes_no_permit_from_the_others(colour: str, why: str) -> None:
    """L15: they had queued, and were shed all the same, for the permit went to whoever was next in the queue."""
    policy = replace(PLAIN, max_loads=1, load_wait=2.0, on_overload="raise", error_ttl=30)
    play = Play(colour, memory=10, policy=policy)

    def load(key: str, kind: str = "value", takes: float = 0.0) -> Any:
        return play.cache.lookup(key, play.loader(kind, takes))

    play.run(
        (0.0, partial(load, "first", "raise" if why == "failed before" else "value")),
        (0.5, lambda: None if why == "failed before" else play.cache.invalidate("first")),
        (1.0, partial(load, "other", takes=1.0)),
        (1.25, lambda: play.cache.get_or_load_many(["first", "second", "third"], many(play))),
        (1.5, partial(load, "next", takes=1.0)),
        (1.75, lambda: None if why == "failed before" else play.cache.invalidate("first")),
    )
    given = play.results[3]
    assert {**given} == dict.fromkeys(["second", "third", *["first"] * (why != "failed before")], "new")
    assert play.results[4].value == "new"
    assert play.cache.health()["origin"]["loads"] == 0
    assert play.cache.health()["origin"]["queued"] == 0


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("call", ["one", "many"])
def test_who_takes_nothing_stale_waits_for_the_load_that_the_store_has_overtaken(colour: str, call: str) -> None:
    """L14: turned away from the stale entry, they began a second load beside the one in the air."""
    play = Play(colour, policy=replace(POLICY, ttl=0.0, refresh_behind=True, stale_retry=1.0))

    def before(other: Any) -> Any:
        play.thinks(0.125)
        return other.set("k", "old")

    def strict() -> Any:
        if call == "one":
            return play.load(policy=PLAIN)
        return play.cache.get_or_load_many(["k"], many(play), policy=PLAIN)

    play.run((0.0, partial(play.load, "value", 1.0)), (0.09375, strict), before=before)
    assert (play.results[0].value, play.ends[0]) == ("old", 0.125)
    assert (len(play.loads), play.ends[1]) == (1, HEDGE + 1.0)
    assert (play.results[1].value if call == "one" else play.results[1]["k"]) == "new"


@pytest.mark.parametrize("end", ["landed", "handed over"])
def test_a_call_for_many_does_not_spin_until_a_thread_that_is_held_up_has_rung(end: str) -> None:
    """Its patience was over, what it waited for had landed, and only the ringing was to come: it asked and asked."""
    there = Stage("sync", memory=10)
    rules = there.cache._rules
    leader, waiting = (rules.begin("k", loads=True) for _ in range(2))
    flight, _ = rules.local.board(leader, Seat, there.clock.monotonic())
    crew = Crew(rules, [waiting], {}, Seat)
    crew.board()
    [seat] = crew.waiting
    if end == "landed":
        rules.local.flights.land_locked(flight, Lookup("v", Source.LOADER, Reason.ABSENT, 0.0))
    else:
        rules.local.flights.leave_locked(flight, None, rules.local.stamps.next(), there.clock.monotonic())
    there.clock.advance(11)
    assert crew.patience() == 0
    crew.overdue()
    assert not crew.waiting
    assert ([*crew.outcomes], [leg.seat for leg in crew.led]) == ((["k"], []) if end == "landed" else ([], [seat]))
    crew.woken([seat])  # the ringing
    assert not crew.waiting
