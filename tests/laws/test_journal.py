"""L9, G2, G3: what the store has not confirmed is asked for again, and once more after that; nobody waits for it.

With `spawn`, on occasion; how a task does it is in `test_tasks_behind.py`, a thread in `test_threads_behind.py`.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from resilient_cache import CachePolicy, FailureKind, Invalidation, MisuseError, Mode, Source, StoreError
from resilient_cache.events import Settled
from resilient_cache.testing import Fault, FaultKind

from .scenario import TIMEOUT
from .stage import POLICY, Stage, find_none

Make = Callable[..., Stage]
AGAIN = 5.0
SOON = TIMEOUT + 0.05
"""By when a delete that failed is asked for again, the first time."""
DOWN = Fault(FaultKind.RAISE)


def pending(there: Stage) -> object:
    return there.cache.health()["pending_invalidations"]


def come_by(there: Stage, seconds: float) -> None:
    """Let time pass; then somebody asks for something else, and what that gives occasion to is done."""
    there.clock.advance(seconds)
    there.get("another")
    there.run_behind()


@pytest.mark.parametrize("fault", [DOWN, Fault(FaultKind.HANG), Fault(FaultKind.LOST), Fault.late(1.0)])
def test_a_delete_that_failed_is_asked_for_until_it_is_confirmed(stage: Make, fault: Fault) -> None:
    """G3: then the old value is in the store no more; and at no time was it served here."""
    told: list[Settled] = []
    there = stage(hooks=[lambda event: told.append(event) if type(event) is Settled else None])
    there.set("k", "old")
    there.plan.then("delete", fault, DOWN)
    invalidated = there.clock.monotonic()
    assert there.invalidate("k") is Invalidation.PENDING
    come_by(there, SOON)
    assert pending(there) == 1
    come_by(there, 2 * SOON)
    assert pending(there) == 0
    assert "laws:k" not in there.stored
    assert there.stats()["invalidations_replayed"] == 1 == len(told)
    assert told[0].cache == "laws"
    assert told[0].age == pytest.approx(there.clock.monotonic() - invalidated, abs=1e-3)
    assert there.get("k") is None


def test_nothing_is_asked_before_its_time(stage: Make) -> None:
    """The delete of the caller may still be under way."""
    there = stage()
    there.plan.then("delete", DOWN)
    there.invalidate("k")
    come_by(there, TIMEOUT - 0.01)
    assert pending(there) == 1
    come_by(there, 0.01)
    assert pending(there) == 0


@pytest.mark.parametrize("memory", [0, 10])
@pytest.mark.parametrize("way", ["get_or_load", "refresh", "many", "value"])
def test_what_the_origin_has_no_more_the_store_loses_too(stage: Make, way: str, memory: int) -> None:
    """L12: or another process would serve it while the origin is down, although it was heard that there is none."""
    policy = replace(POLICY, negative=lambda value: value == "none")
    there = stage(memory=memory, policy=policy)
    there.set("k", "old")
    there.clock.advance(61)
    there.plan.then("delete", DOWN)
    find_none(there, way)
    assert pending(there) == 1
    come_by(there, SOON)
    assert (pending(there), "laws:k" in there.stored) == (1, True)
    come_by(there, 2 * SOON)
    assert (pending(there), "laws:k" in there.stored) == (0, False)
    with pytest.raises(OSError, match="down"):
        there.run(there.another().get_or_load, "k", there.loader(OSError("down")))


@pytest.mark.parametrize("way", ["get_or_load", "many", "value"])
def test_what_was_never_there_is_not_owed(stage: Make, way: str) -> None:
    """Asking for keys that do not exist is free: it must not fill the journal."""
    there = stage(memory=10, policy=replace(POLICY, negative=lambda value: value == "none"))
    find_none(there, way)
    come_by(there, AGAIN)
    assert pending(there) == 0
    assert not [call for call in there.adapter.calls if call.operation == "delete"]


@pytest.mark.parametrize("mode", [Mode.READ_ONLY, Mode.MEMORY_ONLY])
def test_who_does_not_write_owes_nothing_for_what_the_origin_has_no_more(stage: Make, mode: Mode) -> None:
    """Or a process that only reads would collect debts for as long as it lives."""
    there = stage(memory=10)
    there.set("k", "old")
    there.clock.advance(61)
    there.cache.mode = mode
    find_none(there, "get_or_load")
    assert pending(there) == 0
    assert there.lookup("k").source is Source.NEGATIVE


def test_what_there_is_again_is_not_deleted(stage: Make) -> None:
    """L4: a load that finds a value after all settles what was owed."""
    there = stage(policy=replace(POLICY, negative_ttl=0))
    there.set("k", "old")
    there.clock.advance(61)
    find_none(there, "get_or_load")
    assert there.load("k", "new") == "new"
    assert pending(there) == 0
    come_by(there, 2 * AGAIN)
    assert there.get("k") == "new"


@pytest.mark.parametrize("occasion", ["get", "set", "invalidate"])
def test_every_call_is_an_occasion(stage: Make, occasion: str) -> None:
    """A cache that is only written to asks for what it owes as well as one that is only read."""
    there = stage()
    there.plan.then("delete", DOWN)
    there.invalidate("k")
    there.clock.advance(SOON)
    getattr(there, occasion)("another", *["value"] * (occasion == "set"))
    there.run_behind()
    assert pending(there) == 0


def test_a_second_delete_comes_after_the_first_was_acknowledged(stage: Make) -> None:
    """G2: a write that lands between the two is gone after the second, and not before."""
    there = stage()
    there.set("k", "old")
    late = there.stored["laws:k"]
    assert there.invalidate("k") is Invalidation.CONFIRMED
    there.stored["laws:k"] = late
    come_by(there, AGAIN - 0.1)
    assert there.stored["laws:k"] == late
    come_by(there, 0.1)
    assert "laws:k" not in there.stored
    there.stored["laws:k"] = late  # no write is on its way so long: that one is another's
    come_by(there, 10 * AGAIN)
    assert "laws:k" in there.stored
    assert there.get("k") is None


def test_what_was_loaded_since_is_not_deleted_the_second_time(stage: Make) -> None:
    """L4: an invalidation costs one load, and not another one after a while; nor at the end."""
    there = stage()
    there.set("k", "old")
    there.invalidate("k")
    there.load("k", "new")
    come_by(there, AGAIN)
    assert there.get("k") == "new"
    there.invalidate("k")
    there.load("k", "newest")
    close(there)
    assert "laws:k" in there.stored


def test_where_what_is_there_cannot_be_read_it_is_deleted(stage: Make) -> None:
    """G2: unread it might be old."""
    there = stage()
    there.invalidate("k")
    there.load("k", "new")
    there.clock.advance(AGAIN)
    there.plan.then("get", None, DOWN)
    there.get("another")
    there.run_behind()
    assert "laws:k" not in there.stored


def test_to_look_whether_it_is_there_still_is_a_probe_like_any_other(stage: Make) -> None:
    """L16: where the circuit is about to try, this call tries, and its answer counts: nothing is deleted unread."""
    there = stage()
    there.invalidate("k")
    there.load("k", "new")
    there.clock.advance(AGAIN - 1)
    there.plan.then("get", DOWN, DOWN, DOWN)
    for _ in range(3):
        there.get("another")
    assert there.cache.health()["circuits"]["read"]["state"] == "open"
    there.run_behind()
    there.clock.advance(1)
    there.invalidate("other")
    there.run_behind()
    assert there.cache.health()["circuits"]["read"]["state"] == "half_open"
    assert "laws:k" in there.stored


def test_the_value_of_a_set_that_failed_does_not_come_over_a_later_one(stage: Make) -> None:
    """G2: both were newer than what was invalidated, and the older one landed late."""
    there = stage()
    there.plan.then("set", Fault.late(1.0))
    assert there.set("k", "2") is False
    assert there.set("k", "3") is True
    there.clock.advance(1.0)
    assert there.get("k") == "2"  # a write that is on its way may be anywhere
    come_by(there, AGAIN)
    assert there.get("k") is None


def test_the_second_delete_is_asked_for_until_it_is_confirmed(stage: Make) -> None:
    """G2: as the first."""
    there = stage()
    there.set("k", "old")
    late = there.stored["laws:k"]
    there.invalidate("k")
    there.stored["laws:k"] = late
    there.plan.then("delete", DOWN, DOWN)
    come_by(there, AGAIN)
    come_by(there, SOON)
    assert "laws:k" in there.stored
    come_by(there, 2 * SOON)
    assert "laws:k" not in there.stored


@pytest.mark.parametrize("fault", [Fault.late(3.0), Fault.slow(3.0), Fault(FaultKind.LOST), Fault(FaultKind.HANG)])
def test_a_write_of_unknown_outcome_is_followed_by_a_delete(stage: Make, fault: Fault) -> None:
    """G3: what lands late, nobody having heard of it, does not stay; who loaded it was given it all the same."""
    there = stage()
    there.plan.then("set", fault)
    assert there.load("k", "loaded") == "loaded"
    assert pending(there) == 0  # nobody invalidated anything
    come_by(there, AGAIN - TIMEOUT)
    landed = "laws:k" in there.stored
    assert landed or fault.kind in (FaultKind.HANG, FaultKind.SLOW)
    come_by(there, TIMEOUT)
    assert "laws:k" not in there.stored
    calls = [call.operation for call in there.adapter.calls if call.key == "laws:k"]
    assert calls == ["get", "set", "get", *["delete"] * landed]  # looked at first


def test_a_write_that_was_never_sent_leaves_nothing_to_do(stage: Make) -> None:
    """The circuit was open: there is nothing to be late."""
    there = stage()
    with there.cache.circuits["write"].force_open():
        there.load("k", "loaded")
    come_by(there, 2 * AGAIN)
    assert not [call for call in there.adapter.calls if call.operation == "delete"]


def test_a_set_that_failed_is_replaced_by_a_delete(stage: Make) -> None:
    """L9: what the store had before must not be what others go on reading."""
    there = stage(memory=10)
    there.set("k", "old")
    there.plan.then("set", DOWN)
    assert there.set("k", "new") is False
    assert pending(there) == 1
    come_by(there, SOON)
    assert pending(there) == 0
    assert "laws:k" not in there.stored
    assert there.get("k") == "new"  # from memory, which is right


def test_the_word_for_an_older_invalidation_does_not_settle_a_later_one(stage: Make) -> None:
    """L9: the delete that is under way when somebody invalidates again says nothing about that."""
    there = stage()
    there.plan.then("delete", DOWN)
    there.invalidate("k")
    there.clock.advance(SOON)
    debt = there.cache._rules.debts.next()
    there.plan.then("delete", DOWN)
    assert there.invalidate("k") is Invalidation.PENDING
    local = there.cache._rules.local
    assert local.confirm("k", debt.stamp) is False
    assert pending(there) == 1


class Picky:
    """A store, for both colours, that will not have one of the keys deleted."""

    def __init__(self, there: Stage, refused: str) -> None:
        self._there, self._refused = there, f"laws:{refused}"
        self._inner = there.adapter
        self.get, self.set = there.adapter.get, there.adapter.set

    def delete(self, key: str, /) -> Any:
        if key == self._refused:
            raise StoreError(FailureKind.PER_KEY, "not this one")
        return self._inner.delete(key)


class AwaitedPicky(Picky):
    """For tasks."""

    async def delete(self, key: str, /) -> Any:
        return await super().delete(key)


def test_a_key_that_fails_holds_up_no_other(stage: Make) -> None:
    """However often."""
    there = stage()
    picky = (Picky if there.colour == "sync" else AwaitedPicky)(there, "bad")
    there.cache = there.another(adapter=picky)
    there.invalidate("bad")
    there.plan.then("delete", *[DOWN] * 2)
    for key in ("a", "b"):
        assert there.invalidate(key) is Invalidation.PENDING
    for _ in range(3):
        come_by(there, AGAIN + SOON)
    assert pending(there) == 1
    assert there.flush(0.001) == 1


@pytest.mark.parametrize("mode", [Mode.BYPASS, Mode.READ_ONLY, Mode.MEMORY_ONLY])
def test_a_mode_that_forbids_writing_is_obeyed_and_made_up_for(stage: Make, mode: Mode) -> None:
    """L20: nothing reaches the store meanwhile, everything after."""
    there = stage()
    there.set("k", "old")
    there.cache.mode = mode
    assert there.invalidate("k") is Invalidation.PENDING
    there.adapter.calls.clear()
    come_by(there, SOON)
    come_by(there, 2 * AGAIN)
    assert there.flush(0.001) == 1
    assert {call.operation for call in there.adapter.calls} <= {"get"}
    there.cache.mode = Mode.ON
    come_by(there, SOON)
    assert pending(there) == 0
    assert "laws:k" not in there.stored


def test_an_open_circuit_is_not_knocked_at_and_its_probe_is_a_delete(stage: Make) -> None:
    """L16: what is owed waits for the hold to be over, and is then asked for here and now."""
    there = stage()
    for key in ("a", "b", "c"):
        there.set(key, "old")
    there.plan.during(DOWN, "delete")
    for n in range(40):
        there.invalidate("abc"[n % 3])
        there.clock.advance(0.01)
    assert there.cache.circuits["write"].state == "open"
    there.plan.calm()
    there.adapter.calls.clear()
    assert there.flush(0.001) == 3
    assert not there.adapter.calls
    for _ in range(4):
        come_by(there, AGAIN + SOON)
    assert pending(there) == 0
    assert there.cache.circuits["write"].state == "closed"
    assert not there.stored.keys() & {"laws:a", "laws:b", "laws:c"}


def test_flush_asks_for_everything_and_says_what_is_left(stage: Make) -> None:
    """G2: 0 says that nobody finds anything older any more."""
    there = stage()
    assert there.flush() == 0
    for key in ("a", "b", "c"):
        there.set(key, "old")
    there.plan.then("delete", *[DOWN] * 3)
    for key in ("a", "b", "c"):
        assert there.invalidate(key) is Invalidation.PENDING
    with there.cache.circuits["write"].force_closed():
        there.plan.during(DOWN, "delete")
        assert there.flush(0.001) == 3
        assert len(there.stored) == 3
        there.plan.calm()
        assert there.flush(0) == 3
        assert there.flush() == 0
    assert there.stored == {}


def test_more_than_a_batch_is_flushed(stage: Make) -> None:
    """Within one call, and without waiting."""
    there = stage()
    there.plan.during(DOWN, "delete")
    with there.cache.circuits["write"].force_open():
        for n in range(250):
            there.invalidate(f"k{n}")
    there.plan.calm()
    assert pending(there) == 250
    began = there.clock.monotonic()
    assert there.flush(1) == 0
    assert there.clock.monotonic() == began


def test_flush_is_as_loud_about_misuse_as_anything_else(stage: Make) -> None:
    """L6."""
    there = stage()
    for wrong in ("1", None, -1, float("nan"), True):
        with pytest.raises(MisuseError, match="timeout"):
            there.flush(wrong)
    close(there)
    with pytest.raises(MisuseError, match="closed"):
        there.flush()


def close(there: Stage) -> Any:
    return there.close() if there.colour == "sync" else there.aclose()


def test_close_asks_once_more_and_says_what_is_left(stage: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Also for the second deletes, too early though it is; what is left is logged, and closing again says nothing."""
    there = stage()
    for key in ("a", "b"):
        there.set(key, "old")
    late = there.stored["laws:a"]
    there.invalidate("a")
    there.stored["laws:a"] = late
    there.plan.then("delete", DOWN)
    there.invalidate("b")
    with caplog.at_level(logging.WARNING, "resilient_cache"):
        assert close(there) == 0
    assert there.stored == {}
    assert close(there) == 0
    assert not caplog.messages


def test_close_gives_up_a_store_that_is_gone(stage: Make, caplog: pytest.LogCaptureFixture) -> None:
    """After one second at most, of its timeouts; what is still to run behind finds nothing to do."""
    there = stage()
    there.plan.during(Fault(FaultKind.HANG), "delete")
    for n in range(12):
        there.invalidate(f"k{n}")
        there.get("another")
    there.clock.advance(60)
    there.get("another")
    began = there.clock.monotonic()
    with caplog.at_level(logging.WARNING, "resilient_cache"):
        assert close(there) == 12
    assert there.clock.monotonic() - began <= 1 + TIMEOUT
    assert caplog.messages == ["cache laws: closed with 12 invalidations not confirmed"]
    there.adapter.calls.clear()
    there.run_behind()
    assert not there.adapter.calls


def test_close_under_bypass_touches_nothing(stage: Make) -> None:
    """L20."""
    there = stage(mode=Mode.BYPASS)
    there.invalidate("k")
    assert close(there) == 1
    assert not there.adapter.calls


def test_a_spawn_that_raises_loses_nothing(stage: Make) -> None:
    """The next caller gives occasion again."""
    works: list[bool] = [False]
    there = stage()

    def spawn(work: Any) -> None:
        if not works[0]:
            raise RuntimeError("can't start new thread")
        there.behind.append(work)

    there.cache = there.another(spawn=spawn)
    there.plan.then("delete", DOWN)
    there.invalidate("k")
    come_by(there, SOON)
    assert pending(there) == 1
    works[0] = True
    come_by(there, 0.0)
    assert pending(there) == 0


def test_what_was_handed_to_spawn_is_not_handed_over_again_until_it_is_given_up(stage: Make) -> None:
    """L17: an edge runtime may have dropped it."""
    there = stage()
    there.plan.then("delete", DOWN)
    there.invalidate("k")
    for _ in range(3):
        there.clock.advance(SOON)
        there.get("another")
    assert len(there.behind) == 1
    dropped = there.behind.pop()
    if there.colour == "async":
        dropped.close()
    there.clock.advance(59)
    there.get("another")
    assert not there.behind
    there.clock.advance(2)
    there.get("another")
    there.run_behind()
    assert pending(there) == 0


def test_what_takes_the_work_behind_away_does_not_stop_the_next(stage: Make) -> None:
    """L2: the error is the runtime's business, and the delete is still owed."""
    there = stage()
    there.plan.then("delete", DOWN, Fault.raising(KeyboardInterrupt()))
    there.invalidate("k")
    there.clock.advance(SOON)
    there.get("another")
    with pytest.raises(KeyboardInterrupt):
        there.run_behind()
    assert pending(there) == 1
    come_by(there, 2 * SOON)
    assert pending(there) == 0


def test_what_runs_behind_is_of_nobodys_request(stage: Make) -> None:
    """A context variable of the caller that gave occasion is not seen there."""
    request = contextvars.ContextVar("request", default="nobody's")
    seen: list[str] = []
    there = stage(policy=CachePolicy(timeout=TIMEOUT), hooks=[lambda _: seen.append(request.get())])
    there.plan.then("delete", DOWN)
    there.invalidate("k")
    there.clock.advance(SOON)
    there.get("another")
    seen.clear()
    request.set("somebody's")
    if there.colour == "sync":
        there.run_behind()
        assert set(seen) == {"nobody's"}
    else:
        asyncio.run(there.behind.pop())
