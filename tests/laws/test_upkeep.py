"""What a cache does behind its callers: what it owes, what it tells, and when; in one thread, on occasion."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from resilient_cache import Entry, Invalidation, Mode
from resilient_cache.testing import Fault, FaultKind

from .stage import POLICY, Stage
from .test_durable import Disk

Make = Callable[..., Stage]
MARKED = replace(POLICY, epoch_ttl=4.0)
DOWN = Fault(FaultKind.RAISE)
SOON, AGAIN = 0.3, 5.0
both = pytest.mark.parametrize("colour", ["sync", "async"])


class Hub:
    """A backplane for threads, of one process."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.down = False
        self.heard, self.closed = threading.Event(), threading.Event()

    def publish(self, _: str, message: bytes, /) -> None:
        if self.down:
            raise ConnectionError("down")
        self.sent.append(message)

    def listen(self, _: str, ready: Callable[[], object], __: Callable[[bytes], object], /) -> None:
        ready()
        self.heard.set()
        self.closed.wait(10)

    def close(self) -> None:
        self.closed.set()


class AsyncHub:
    """The same for tasks."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    async def publish(self, channel: str, message: bytes, /) -> None:
        self.hub.publish(channel, message)

    async def listen(self, _: str, ready: Callable[[], object], __: Callable[[bytes], object], /) -> None:
        ready()
        self.hub.heard.set()
        await asyncio.get_running_loop().create_future()

    async def aclose(self) -> None:
        self.hub.close()


def peered(colour: str, hub: Hub) -> Stage:
    """A cache of either colour with that backplane."""
    return Stage(colour, backplane=hub if colour == "sync" else AsyncHub(hub))


def untold(there: Stage) -> int:
    return len(there.cache._rules.local.untold)


def pending(there: Stage) -> object:
    return there.cache.health()["pending_invalidations"]


@both
def test_peers_are_told_of_a_value_that_was_replaced(colour: str) -> None:
    """Though nothing is owed; somebody listens from the first call on and until the cache is closed."""
    hub = Hub()
    there = peered(colour, hub)
    there.set("k", 1)
    assert hub.heard.wait(10)
    there.run_behind()
    assert (len(hub.sent), untold(there), there.stats()["backplane_published"]) == (1, 0, 1)
    there.set("k", 2)
    assert not hub.closed.is_set()
    there.run(there.cache.close if colour == "sync" else there.cache.aclose)
    assert (len(hub.sent), hub.closed.is_set()) == (2, True)
    there.run_behind()


@both
def test_what_was_not_told_is_told_later_and_what_is_owed_is_not_put_off_by_it(colour: str) -> None:
    """Nor the other way round: what is due first is done first."""
    hub = Hub()
    there = peered(colour, hub)
    hub.down = True
    there.set("k", 1)
    there.run_behind()
    assert there.stats()["backplane_errors"] == 1
    there.cache._rules.plane._again = there.clock.monotonic() + 3
    there.plan.then("delete", DOWN)
    there.invalidate("owed")
    there.clock.advance(SOON)
    assert pending(there) == 1
    there.get("another")
    there.run_behind()
    assert pending(there) == 0
    hub.down = False
    there.clock.advance(6)
    there.plan.then("delete", DOWN)
    there.invalidate("owed")
    there.run_behind()
    assert (len(hub.sent), untold(there), pending(there)) == (1, 0, 1)
    there.run(there.cache.close if colour == "sync" else there.cache.aclose)
    there.run_behind()


@both
def test_what_was_loaded_since_is_not_deleted_once_more(colour: str) -> None:
    """Nor where the marks that it was written under would have to be asked for again to serve it."""
    there = Stage(colour, policy=MARKED)
    there.load("k", 1)
    assert there.invalidate("k") is Invalidation.CONFIRMED
    assert there.load("k", 2) == 2
    there.clock.advance(AGAIN)
    there.get("another")
    there.run_behind()
    assert (pending(there), there.get("k")) == (0, 2)


@both
def test_peers_are_told_before_the_store_is_asked_for_what_it_owes(colour: str) -> None:
    """It may be silent, and take its whole timeout for each."""
    hub, replayed = Hub(), list[object]()
    there = peered(colour, hub)
    publish = hub.publish

    def noted(channel: str, message: bytes, /) -> None:
        replayed.append(there.cache.stats().get("invalidations_replayed", 0))
        publish(channel, message)

    hub.publish = noted  # type: ignore[method-assign]
    there.plan.then("delete", DOWN, DOWN)
    there.invalidate("a")
    there.invalidate("b")
    there.clock.advance(SOON)
    there.run_behind()
    assert (replayed[0], pending(there)) == (0, 0)
    there.run(there.cache.close if colour == "sync" else there.cache.aclose)
    there.run_behind()


def test_a_flush_takes_a_second_if_nothing_is_said(monkeypatch: pytest.MonkeyPatch, stage: Make) -> None:
    """At most."""
    there, given = stage(), []
    flush = type(there.cache._upkeep).flush

    def noted(upkeep: Any, timeout: Any) -> Any:
        given.append(timeout)
        return flush(upkeep, timeout)

    monkeypatch.setattr(type(there.cache._upkeep), "flush", noted)
    assert there.flush() == 0
    assert given == [1.0]


def test_without_a_durable_journal_no_book_is_kept(stage: Make) -> None:
    """Nobody would ever strike anything out of it."""
    assert stage().cache._rules.debts._journal.gone is None
    assert stage(journal=Disk()).cache._rules.debts._journal.gone == []


def test_a_durable_journal_that_another_thread_was_quicker_to_read_is_not_taken_over_twice(stage: Make) -> None:
    """What has been stored since would be refused."""

    class Slow(Disk):
        def load(self) -> Iterable[tuple[str, int]]:
            there.cache._rules.debts.unread = False
            return [("laws:kk", 1)]

    there = stage(journal=Slow())
    assert there.get("k") is None
    assert [call.operation for call in there.adapter.calls] == ["get"]


def test_to_catch_up_reads_it_once(stage: Make) -> None:
    """As a request does."""
    read: list[None] = []

    class Counting(Disk):
        def load(self) -> Iterable[tuple[str, int]]:
            read.append(None)
            return super().load()

    there = stage(journal=Counting())
    for _ in range(2):
        there.run(there.cache._upkeep.catch_up)
    assert len(read) == 1


def test_what_is_not_owed_is_not_written_down(stage: Make) -> None:
    """A value that was not to be stored owes nothing."""
    disk = Disk()
    there = stage(journal=disk, mode=Mode.READ_ONLY)
    assert there.load("k", 1) == 1
    assert disk.rows == {}


@pytest.mark.parametrize("down", [True, False])
def test_a_mark_that_is_owed_is_written_down(stage: Make, down: bool) -> None:
    """So that the next process changes it."""
    disk = Disk()
    there = stage(journal=disk, policy=MARKED)
    if down:
        there.plan.during(DOWN)
    assert there.invalidate_tag("t") is (Invalidation.PENDING if down else Invalidation.CONFIRMED)
    assert len(disk.rows) == down


def test_a_mark_that_is_owed_is_changed_when_the_store_is_back(stage: Make) -> None:
    """With one look and one write; and that is an occasion for whatever else is owed."""
    there = stage(policy=MARKED)
    there.plan.during(DOWN)
    there.invalidate_tag("t")
    there.plan.calm()
    there.clock.advance(SOON)
    before = len(there.adapter.calls)
    there.set("another", 1)
    there.run_behind()
    assert pending(there) == 0
    marks = [call.operation for call in there.adapter.calls[before:] if call.key.endswith("t") and "!" in call.key]
    assert marks == ["get", "set"]
    there.plan.then("delete", DOWN)
    there.invalidate("k")
    there.clock.advance(SOON)
    there.invalidate_tag("t")
    there.run_behind()
    assert pending(there) == 0


def test_a_mark_that_was_overwritten_late_is_changed_again(stage: Make) -> None:
    """By a write that landed after it was acknowledged; what it was like is in the store once more."""
    there = stage(policy=MARKED)
    there.invalidate_tag("t")
    (name,) = [key for key in there.stored if key.endswith("t") and "!" in key]
    del there.stored[name]
    there.clock.advance(AGAIN)
    there.get("another")
    there.run_behind()
    assert name in there.stored


def test_how_much_was_settled_is_told(stage: Make) -> None:
    """Or the next round would come at once, or not at all."""
    there = stage()
    there.plan.then("delete", DOWN)
    there.invalidate("k")
    assert there.run(there.cache._upkeep._turn, 100) == 0
    there.clock.advance(SOON)
    assert there.run(there.cache._upkeep._turn, 100) == 1
    there.clock.advance(AGAIN)
    assert there.run(there.cache._upkeep._round, float("inf")) == 1


# Marks, where the circuit is about to try

PROBED = replace(POLICY, epoch_ttl=1_000)
operations = pytest.mark.parametrize("operation", ["get", "set"])


def about_to_try(there: Stage, operation: str) -> None:
    """The circuit of `operation` has opened, and its time is over; nothing is owed but the mark of "t"."""
    there.plan.then(operation, *[DOWN] * 4)
    for _ in range(4):
        there.get("another") if operation == "get" else there.invalidate_tag("t")
    there.run_behind()
    there.plan.calm()
    there.clock.advance(1)


def asked(there: Stage, before: int) -> list[str]:
    """What the store was asked for marks since."""
    return [call.operation for call in there.adapter.calls[before:] if "!" in call.key]


@operations
@pytest.mark.parametrize("write", [True, False])
def test_a_caller_does_not_wait_for_a_probe_with_a_mark(stage: Make, operation: str, write: bool) -> None:
    """L16: it runs behind, for an invalidation and for a value that has a tag."""
    there = stage(policy=PROBED)
    there.load("k", 1)
    about_to_try(there, operation)
    before = len(there.adapter.calls)
    if write:
        there.set("k", Entry(1, tags=("new",)))
    else:
        there.invalidate_tag("t")
    assert operation not in asked(there, before)


@operations
def test_who_waits_for_nobody_is_the_probe_itself(stage: Make, operation: str) -> None:
    """What is owed is asked for there and then, and its answer counts."""
    there = stage(policy=PROBED)
    there.load("k", 1)
    there.plan.then("set", DOWN)
    assert there.invalidate_tag("t") is Invalidation.PENDING
    about_to_try(there, operation)
    before = len(there.adapter.calls)
    there.cache._rules.debts.hurry()
    there.run(there.cache._upkeep._turn, 100)
    assert asked(there, before) == ["get", "set"]
    assert pending(there) == 0


def test_so_it_is_when_it_looks_whether_a_mark_is_still_there(stage: Make) -> None:
    """Unread it would be changed once more."""
    there = stage(policy=PROBED)
    assert there.invalidate_tag("t") is Invalidation.CONFIRMED
    there.clock.advance(AGAIN - 1)
    about_to_try(there, "get")
    before = len(there.adapter.calls)
    there.run(there.cache._upkeep._turn, 100)
    assert asked(there, before) == ["get"]


def test_a_tag_that_is_asked_for_takes_its_time_from_the_write(stage: Make) -> None:
    """L5: both together end within one timeout after the load."""
    there = stage(policy=PROBED)
    there.load("another", Entry(1, tags=("new",)))
    there.clock.advance(500)
    there.plan.then("get", None, None, Fault.slow(0.125)).then("set", Fault(FaultKind.HANG))
    began = there.clock.monotonic()
    assert there.load("k", Entry(1, tags=("new",))) == 1
    assert there.clock.monotonic() - began == pytest.approx(POLICY.timeout)


def test_what_the_parent_process_has_begun_is_not_waited_for(stage: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand, as no tracer follows a fork: what was handed to `spawn` there never runs here."""
    there = stage()
    there.plan.then("delete", DOWN)
    there.invalidate("k")
    there.clock.advance(SOON)
    there.get("another")
    there.get("another")
    parents = there.behind.copy()
    assert len(parents) == 1
    there.behind.clear()
    monkeypatch.setattr("os.getpid", lambda: -1)
    there.get("another")
    assert len(there.behind) == 1
    there.run_behind()
    assert pending(there) == 0
    there.behind.extend(parents)


def test_of_two_first_calls_at_once_one_begins_to_listen() -> None:
    """Another thread has begun to, between the look and the lock."""
    hub, started = Hub(), list[object]()
    there = peered("sync", hub)
    listener, lock = there.cache._upkeep._listener, there.cache._rules.plane.lock
    listen = hub.listen

    def counted(*given: Any) -> None:
        started.append(given)
        listen(*given)

    hub.listen = counted  # type: ignore[method-assign]

    class Between:
        """A lock that the other has just had."""

        def __enter__(self) -> None:
            there.cache._rules.plane.lock = lock
            listener.wake()
            assert hub.heard.wait(10)
            lock.__enter__()

        def __exit__(self, *raised: object) -> None:
            lock.__exit__(*raised)

    there.cache._rules.plane.lock = Between()
    first = listener._thread
    listener.wake()
    assert first is None
    assert there.cache._rules.plane.lock is lock
    there.run(there.cache.close)
    listener._thread.join(10)
    assert len(started) == 1
