"""L18, L19, L20 and L7 where scenarios do not reach: labels, hooks that come back, modes, counters."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given

from resilient_cache import Invalidation, Mode, NoSafeValue, Reason, Source, events
from resilient_cache.testing import Fault, FaultKind

from .drivers import COLOURS, AsyncDriver, SyncDriver, run
from .scenario import ROUGH, Setup, Step, rough_setups, scenarios
from .stage import Stage

Make = Callable[..., Stage]


@pytest.mark.parametrize("colour", COLOURS)
@given(setup=rough_setups, steps=scenarios(ROUGH))
def test_labels_are_from_closed_sets(
    colour: type[SyncDriver] | type[AsyncDriver], setup: Setup, steps: list[Step]
) -> None:
    """L18, L19: whatever happens, an event holds only numbers, flags, the cache's name and members of closed sets."""
    told: list[events.Event] = []
    driven = run(colour, dataclasses.replace(setup, hooks=(told.append,)), steps)
    for event in told:
        for field in dataclasses.fields(event):
            value = getattr(event, field.name)
            if field.name == "cache":
                assert value == "laws"
            elif field.name == "shard":
                assert value == "", "the store has no shards"
            else:
                assert value is None or isinstance(value, enum.StrEnum | int | float), f"{event}: {field.name}"
    served = [event for event in told if isinstance(event, events.Served)]
    assert len(served) == driven.totals["requests"]
    assert sum(event.error for event in served) == driven.totals["errors"]
    assert all(part not in {"a", "b"} for name in driven.totals for part in name.split("_"))


def test_a_hook_that_comes_back_changes_nothing(stage: Make) -> None:
    """L18: a hook that reads through the cache that told it changes no answer, and is not told of its own reading."""
    told: list[Any] = []

    def nosy(event: Any) -> None:
        told.append(event)
        if cache.colour == "sync":
            cache.cache.get("k")
            cache.cache.get_or_load("other", lambda _: 1)

    cache = stage(hooks=[nosy], memory=10)
    assert cache.load("k", "v") == "v"
    assert cache.get("k") == "v"
    assert [event.source for event in told if isinstance(event, events.Served)] == [Source.LOADER, Source.MEMORY]


def test_a_hook_is_told_what_the_caller_is(stage: Make) -> None:
    """L18: source and reason of an answer are the same in its event, also of what memory or a stand-in answers."""
    told: list[tuple[Source, Reason]] = []

    def note(event: events.Event) -> None:
        if isinstance(event, events.Served):
            told.append((event.source, event.reason))

    cache = stage(hooks=[note], memory=10)
    down = cache.loader(OSError("down"))
    seen = [cache.lookup("k"), cache.lookup("k", cache.loader("v")), cache.lookup("k")]
    cache.clock.advance(100)
    seen += [cache.lookup("k"), cache.lookup("k", down), cache.lookup("k", down)]
    assert [(each.source, each.reason) for each in seen] == told
    assert told == [
        (Source.NONE, Reason.ABSENT),
        (Source.LOADER, Reason.ABSENT),
        (Source.MEMORY, Reason.HIT),
        (Source.NONE, Reason.EXPIRED),
        (Source.STALE, Reason.EXPIRED),
        (Source.STALE, Reason.EXPIRED),
    ]
    assert cache.loads == 2


def test_a_hook_is_told_what_was_refused(stage: Make) -> None:
    """L18: that the store held something which may not be served, and why."""
    told: list[events.Event] = []
    cache = stage(hooks=[told.append])
    cache.poison("k", b"garbage")
    assert cache.load("k", "v") == "v"
    assert [event for event in told if isinstance(event, events.EntryRefused)] == [
        events.EntryRefused("laws", Reason.CORRUPT)
    ]


def test_invalidations_are_told_and_counted(stage: Make) -> None:
    """L18, L19: each with the word that its caller was given."""
    told: list[events.Event] = []
    cache = stage(hooks=[told.append])
    cache.plan.then("delete", Fault(FaultKind.RAISE))
    words = [cache.invalidate("k"), cache.invalidate("k"), cache.invalidate("k")]
    assert words == [Invalidation.PENDING, Invalidation.CONFIRMED, Invalidation.CONFIRMED]
    assert [event.outcome for event in told if isinstance(event, events.Invalidated)] == words
    counted = cache.cache.stats()
    assert (counted["invalidations_pending"], counted["invalidations_confirmed"]) == (1, 2)


def test_a_hook_runs_under_no_lock(stage: Make) -> None:
    """L18: while a hook runs, another thread can use the cache."""
    import threading

    free: list[bool] = []

    def look(_: Any) -> None:
        lock = cache.cache._rules.guard.lock

        def take() -> None:
            free.append(lock.acquire(timeout=5))
            lock.release()

        thread = threading.Thread(target=take)
        thread.start()
        thread.join()

    cache = stage(hooks=[look], memory=10)
    cache.load("k", "v")
    cache.invalidate("k")
    cache.poison("k", b"garbage")
    cache.get("k")
    cache.plan.during(Fault(FaultKind.RAISE))
    for _ in range(4):
        cache.get("k")
    assert len(free) > 8
    assert all(free)


def test_bypass_reads_and_writes_nothing(stage: Make) -> None:
    """L20: under BYPASS every read is a miss, loads are not kept, no store is touched, from the next request on."""
    cache = stage(memory=10)
    cache.set("k", "kept")
    assert cache.get("k") == "kept"
    calls = len(cache.adapter.calls)
    cache.cache.mode = Mode.BYPASS
    assert cache.get("k") is None
    assert cache.load("k", "loaded") == "loaded"
    assert cache.load("k", "again") == "again"
    assert len(cache.adapter.calls) == calls
    cache.cache.mode = Mode.ON
    assert cache.get("k") == "kept"


@pytest.mark.parametrize("memory", [0, 10])
@pytest.mark.parametrize("mode", [Mode.BYPASS, Mode.MEMORY_ONLY, Mode.READ_ONLY])
def test_what_is_invalidated_under_any_mode_stays_so(stage: Make, memory: int, mode: Mode) -> None:
    """L20: coming back from a mode that writes nothing serves nothing that was invalidated meanwhile."""
    cache = stage(memory=memory)
    cache.set("k", "old")
    cache.cache.mode = mode
    cache.invalidate("k")
    assert not [call for call in cache.adapter.calls if call.operation == "delete"]
    cache.cache.mode = Mode.ON
    assert cache.lookup("k").reason is Reason.FENCED


@pytest.mark.parametrize("memory", [0, 10])
def test_frozen_serves_what_is_inside_its_windows_and_loads_nothing(stage: Make, memory: int) -> None:
    """L20: under FROZEN anything not gone and not fenced is served, stale marked, and no loader runs."""
    cache = stage(memory=memory)
    cache.set("k", "v")
    cache.cache.mode = Mode.FROZEN
    cache.clock.advance(100)
    assert cache.load("k", "new") == "v"
    seen = cache.lookup("k")
    assert (seen.value, seen.stale) == ("v", True)
    with pytest.raises(NoSafeValue):
        cache.load("unknown", "new")
    cache.clock.advance(300)
    with pytest.raises(NoSafeValue):
        cache.load("k", "new")
    assert cache.loads == 0
    cache.cache.mode = Mode.ON
    cache.set("k", "v")
    cache.cache.mode = Mode.FROZEN
    cache.invalidate("k")
    with pytest.raises(NoSafeValue):
        cache.load("k", "new")


def test_the_mode_function_is_asked_at_every_request(stage: Make) -> None:
    """L20: a mode that a function gives holds from the very next request; a function that fails changes nothing."""
    answers: list[Any] = [Mode.ON, Mode.ON, Mode.BYPASS, Mode.ON]

    def mode() -> Mode:
        if not answers:
            raise OSError
        return answers.pop(0)  # type: ignore[no-any-return]

    cache = stage(memory=10, mode=mode)
    cache.set("k", "v")
    assert [cache.get("k") for _ in range(4)] == ["v", None, "v", "v"]


def test_memory_spares_the_store(stage: Make) -> None:
    """L4: what is in memory is answered without a store call, and counted as a hit."""
    cache = stage(memory=10)
    cache.load("k", "v")
    calls = len(cache.adapter.calls)
    assert [cache.get("k"), cache.load("k", "new"), cache.lookup("k").value] == ["v"] * 3
    assert len(cache.adapter.calls) == calls
    assert cache.cache.stats()["hits_memory"] == 3


def test_a_hook_that_raises_changes_nothing(stage: Make) -> None:
    """L18: what a hook raises reaches nobody, and is counted."""

    def broken(event: Any) -> None:
        raise RuntimeError(repr(event))

    cache = stage(hooks=[broken], memory=10)
    assert cache.load("k", "v") == "v"
    assert cache.get("k") == "v"
    cache.invalidate("k")
    assert cache.cache.stats()["hook_errors"] >= 3
