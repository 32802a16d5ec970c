"""A durable journal: what the store had not confirmed is known to the next process before it reads anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pytest

from resilient_cache import Entry, Invalidation, MisuseError, Reason
from resilient_cache.events import JournalFailed, Settled
from resilient_cache.outcome import Direction
from resilient_cache.testing import Fault, FaultKind

from .stage import POLICY, Stage, find_none

DOWN = Fault(FaultKind.RAISE)
Make = Callable[..., Stage]


class Disk:
    """A durable journal in memory, which `fails` on demand."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.fails = False
        self.closed = 0

    def load(self) -> Iterable[tuple[str, int]]:
        self._in_order()
        return list(self.rows.items())

    def add(self, name: str, stamp: int, /) -> None:
        self._in_order()
        self.rows[name] = max(stamp, self.rows.get(name, 0))

    def strike(self, settled: Sequence[tuple[str, int]], /) -> None:
        self._in_order()
        for name, stamp in settled:
            if self.rows.get(name, stamp + 1) <= stamp:
                del self.rows[name]

    def close(self) -> None:
        self.closed += 1

    def _in_order(self) -> None:
        if self.fails:
            raise OSError("disk full")


def test_the_next_process_deletes_before_it_reads(stage: Make) -> None:
    disk = Disk()
    first = stage(journal=disk)
    first.set("k", "old")
    first.plan.during(DOWN)
    assert first.invalidate("k") is Invalidation.PENDING
    first.plan.calm()
    assert list(disk.rows) == ["laws:kk"]

    told: list[object] = []
    second = first.another(journal=disk, hooks=[told.append])
    assert first.run(second.get, "k") is None
    calls = [(call.operation, call.key) for call in first.adapter.calls[-2:]]
    assert calls == [("delete", "laws:k"), ("get", "laws:k")]
    assert first.stored == {}
    assert any(isinstance(event, Settled) for event in told)


def test_nothing_old_is_served_where_the_store_cannot_be_asked_yet(stage: Make) -> None:
    """The first read comes while the store takes no deletes: what it has is refused all the same."""
    disk = Disk()
    first = stage(journal=disk)
    first.set("k", "old")
    first.plan.during(DOWN, "delete")
    assert first.invalidate("k") is Invalidation.PENDING
    second = first.another(journal=disk)
    assert first.run(second.get, "k") is None
    assert first.stored != {}
    assert second.health()["pending_invalidations"] == 1


def test_what_is_deleted_for_being_unreadable_is_no_invalidation(stage: Make) -> None:
    """The row of one that is owed stays as it is: it says since when."""

    class Strict(Disk):
        def add(self, name: str, stamp: int, /) -> None:
            assert stamp > 0
            super().add(name, stamp)

    there = stage(journal=Strict())
    there.plan.then("delete", DOWN, DOWN)
    there.invalidate("k")
    there.poison("k", b"garbage")
    assert there.get("k") is None
    assert there.cache.stats().get("journal_errors", 0) == 0
    assert [call.operation for call in there.adapter.calls] == ["delete", "get", "delete"]


def test_a_value_that_was_loaded_and_not_written_owes_nothing(stage: Make) -> None:
    """The circuit of writes is open: the store has nothing that would have to go."""

    class Strict(Disk):
        def add(self, name: str, stamp: int, /) -> None:
            raise AssertionError(f"{name} owes nothing, and was noted with {stamp}")

    there = stage(journal=Strict())
    with there.cache.circuits[Direction.WRITE].force_open():
        assert there.load("k", 1) == 1
    assert there.stored == {}
    assert there.cache.stats().get("journal_errors", 0) == 0


def test_it_is_read_once(stage: Make) -> None:
    """Before the first read of the store."""
    read: list[None] = []

    class Counting(Disk):
        def load(self) -> Iterable[tuple[str, int]]:
            read.append(None)
            return super().load()

    there = stage(journal=Counting())
    assert len(read) == 0
    for key in ("k", "k", "another"):
        there.get(key)
    assert len(read) == 1


def test_a_row_goes_with_the_second_delete(stage: Make) -> None:
    disk = Disk()
    first = stage(journal=disk)
    first.set("k", "v")
    assert first.invalidate("k") is Invalidation.CONFIRMED
    assert list(disk.rows) == ["laws:kk"]
    first.clock.advance(5.0)
    first.get("another")
    first.run_behind()
    assert disk.rows == {}


def test_a_write_of_unknown_outcome_is_written_down(stage: Make) -> None:
    disk = Disk()
    first = stage(journal=disk)
    first.plan.during(DOWN, "set")
    first.load("k", "v")
    assert list(disk.rows) == ["laws:kk"]


def test_a_disk_that_fails_costs_nothing_but_an_event(stage: Make) -> None:
    disk, told = Disk(), list[object]()
    disk.fails = True
    first = stage(journal=disk, hooks=[told.append])
    assert first.load("k", "v") == "v"
    first.plan.during(DOWN)
    assert first.invalidate("k") is Invalidation.PENDING
    first.plan.calm()
    first.clock.advance(1.0)
    assert first.load("k", "w") == "w"
    first.run_behind()
    first.clock.advance(5.0)
    assert first.get("k") is not None
    first.run_behind()
    assert first.get("k") == "w"
    assert {type(event) for event in told} >= {JournalFailed}
    assert first.cache.stats()["journal_errors"] == 3  # to load, to note, to strike


@pytest.mark.parametrize("rows", [None, 7, [("laws:kk",)], [("laws:kk", "7"), (7, 7)], [("laws:zz", 7)]])
def test_rows_that_are_none(stage: Make, rows: object) -> None:
    disk = Disk()
    disk.load = lambda: rows  # type: ignore[method-assign, return-value, assignment]
    first = stage(journal=disk)
    assert first.load("k", "v") == "v"
    assert first.cache.health()["pending_invalidations"] == 0


def test_who_finds_that_another_has_read_it_meanwhile_leaves_it_at_that(stage: Make) -> None:
    disk = Disk()
    first = stage(journal=disk)

    def load() -> list[tuple[str, int]]:
        first.cache._rules.debts.unread = False
        return [("laws:kk", 7)]

    disk.load = load  # type: ignore[method-assign]
    first.get("k")
    assert first.cache.health()["pending_invalidations"] == 0


def look_at_one(there: Stage) -> Reason:
    reason: Reason = there.lookup("k").reason
    return reason


def look_at_many(there: Stage) -> dict[str, str]:
    found: dict[str, str] = there.get_many(["k"])
    return found


@pytest.mark.parametrize(("look", "gone", "seen"), [(look_at_one, Reason.BUSY, Reason.FENCED), (look_at_many, {}, {})])
def test_who_cannot_read_it_while_another_does_asks_no_store(
    stage: Make, look: Callable[[Stage], object], gone: object, seen: object
) -> None:
    """A file is locked while it is read: that the others fail must not throw away what the one finds."""
    disk = Disk()
    first = stage(journal=disk, memory=10)
    first.run(first.another(journal=None).set, "k", "old")
    another = first.cache._rules.debts.reads()
    disk.fails = True
    assert look(first) == gone
    assert [call.operation for call in first.adapter.calls] == ["set"]  # the other process's
    assert first.load("k", "its own") == "its own"
    assert "journal_errors" not in first.cache.stats()
    owed = first.cache._rules.local.stamps.next()
    assert first.cache._rules.debts.recovered(another, [("laws:kk", owed)])
    first.plan.during(DOWN, "delete")
    assert look(first) == seen
    assert {"get", "get_many"} & {call.operation for call in first.adapter.calls}
    assert first.cache.health()["pending_invalidations"] == 1


def test_a_cache_without_a_store_has_nothing_to_write_down(stage: Make) -> None:
    made = stage()
    with pytest.raises(MisuseError, match="give an adapter, or no journal"):
        type(made.cache)(None, name="laws", journal=Disk())


def test_it_is_closed_with_the_cache(stage: Make) -> None:
    disk = Disk()
    first = stage(journal=disk)
    first.run(first.cache.close if first.colour == "sync" else first.cache.aclose)
    assert disk.closed == 1


def test_what_is_no_journal_is_refused(stage: Make) -> None:
    with pytest.raises(MisuseError, match="load, add and strike"):
        stage(journal=object())


@pytest.mark.parametrize("years", [1, 100, 100_000])
def test_a_damaged_row_does_not_set_the_clock(stage: Make, years: int) -> None:
    """It raised what cannot be written, or made each process refuse and delete what the other wrote."""
    disk = Disk()
    policy = replace(POLICY, epoch_ttl=60)
    first = stage(journal=disk, policy=policy)
    for name in ("laws:kk", "laws:mtag:t", "laws:m"):
        disk.add(name, int((first.clock.time() + years * 365 * 86_400) * 1e6))
    other = first.another(journal=None)
    for pause in (0, 1, 5, 5):
        assert first.load("a", Entry("v", tags=("t",))) == "v"
        first.run_behind()
        first.clock.advance(pause)
    assert first.loads < 4
    assert first.run(other.get, "a") == "v"
    assert first.run(other.set, "b", "w")
    assert first.get("b") == "w"
    first.run_behind()
    assert disk.rows == {}


def test_caches_of_other_names_may_share_it(stage: Make) -> None:
    """What one was owed the other neither asks for nor strikes out, though the key is the same."""
    disk = Disk()
    first = stage(journal=disk)
    other = first.another(journal=disk, name="laws2")
    first.set("k", "old")
    first.plan.during(DOWN, "delete")
    assert first.invalidate("k") is Invalidation.PENDING
    first.plan.calm()
    assert first.run(other.set, "k", "its own")
    assert first.run(other.get, "k") == "its own"
    assert other.health()["pending_invalidations"] == 0
    assert first.run(other.invalidate, "k") is Invalidation.CONFIRMED
    first.clock.advance(5.0)
    first.run(other._upkeep.step)
    assert list(disk.rows) == ["laws:kk"]
    successor = first.another(journal=disk)
    assert first.run(successor.get, "k") is None
    assert "laws:k" not in first.stored


@pytest.mark.parametrize("times", [1, 2])
def test_the_row_of_a_write_that_failed_goes_as_well(stage: Make, times: int) -> None:
    """Or the next process would delete what has been written since."""
    disk = Disk()
    first = stage(journal=disk)
    first.get("another")
    first.plan.during(DOWN)
    for _ in range(times):
        assert first.set("k", "v") is False
        first.clock.advance(0.001)
    first.plan.calm()
    assert list(disk.rows) == ["laws:kk"]
    for pause in (1.0, 5.0, 5.0):
        first.clock.advance(pause)
        first.get("another")
        first.run_behind()
    assert disk.rows == {}


def test_the_row_of_a_write_of_unknown_outcome_after_a_delete_goes_as_well(stage: Make) -> None:
    """It bears the stamp of the debt that it adds to."""
    disk = Disk()
    first = stage(journal=disk)
    assert first.invalidate("k") is Invalidation.CONFIRMED
    first.plan.then("set", DOWN)
    first.load("k", "v")
    for pause in (5.0, 5.0):
        first.clock.advance(pause)
        first.get("another")
        first.run_behind()
    assert disk.rows == {}


@pytest.mark.parametrize("way", ["get_or_load", "refresh", "many", "value"])
def test_what_the_origin_has_no_more_is_written_down(stage: Make, way: str) -> None:
    """The next process deletes it, although this one died with its store down; what was never there is not noted."""
    disk = Disk()
    first = stage(journal=disk, policy=replace(POLICY, negative=lambda value: value == "none"))
    first.set("k", "old")
    first.clock.advance(61)
    find_none(first, way)
    assert list(disk.rows) == ["laws:kk"]
    second = first.another(journal=disk)
    assert first.run(second.get, "other") is None
    assert first.stored == {}
    disk.rows.clear()
    if way != "refresh":
        find_none(first, way, "unknown")
    assert disk.rows == {}
