"""L20: what each mode lets a request do, no less and no more."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from resilient_cache import AsyncResilientCache, Entry, Mode, NoSafeValue, ResilientCache

from .stage import POLICY, Stage

MODES = {  # memory answers, the store answers, the loader is asked, the store is written to and deleted from
    Mode.ON: (True, True, True, True),
    Mode.READ_ONLY: (True, True, True, False),
    Mode.BYPASS: (False, False, True, False),
    Mode.MEMORY_ONLY: (True, False, True, False),
    Mode.FROZEN: (True, True, False, True),
}


@pytest.mark.parametrize("mode", list(Mode))
def test_a_mode_allows_what_it_says_and_nothing_else(stage: Callable[..., Any], mode: Mode) -> None:
    """L20: hits, loads and writes under a mode are exactly those that its line of the table allows."""
    memory, reads, loads, writes = MODES[mode]
    there: Stage = stage(memory=10)
    there.set("near", 1)
    there.run(there.another().set, "far", 2)  # of another process: in the store, not in our memory
    there.set("gone", 3)
    calls = len(there.adapter.calls)
    there.cache.mode = mode
    near, far = there.lookup("near"), there.lookup("far")
    missed = (None, "none", "absent" if memory else "off")
    assert (near.value, str(near.source), str(near.reason)) == ((1, "memory", "hit") if memory else missed)
    assert (far.value, str(far.source), str(far.reason)) == ((2, "store", "hit") if reads else missed)
    try:
        assert there.load("new", 4) == 4
    except NoSafeValue:
        assert not loads
    else:
        assert loads
    assert (there.lookup("new").value == 4) is (loads and memory)
    there.set("put", 5)
    there.invalidate("gone")
    stored = {key.partition(":")[2] for key in there.stored}
    assert stored == {"near", "far"} | ({"put"} if writes else {"gone"}) | ({"new"} if writes and loads else set())
    touched = {call.operation for call in there.adapter.calls[calls:]}
    assert touched == ({"get"} if reads else set()) | ({"set", "delete"} if writes else set())


def test_frozen_serves_whatever_its_own_window_allows(stage: Callable[..., Any]) -> None:
    """L12: an entry's own stale window holds under `FROZEN`, with a loader or without, whatever the policy's is."""
    there: Stage = stage(memory=10, policy=replace(POLICY, stale_for=0))
    there.set("k", Entry(1, ttl=10, stale_for=100))
    there.clock.advance(50)
    there.cache.mode = Mode.FROZEN
    assert there.load("k", 2) == there.get("k") == 1
    assert there.loads == 0


def test_memory_says_why_it_does_not_answer(stage: Callable[..., Any]) -> None:
    """An entry past its ttl is told from none at all, also where no store is asked."""
    there: Stage = stage(memory=10)
    there.set("k", 1, ttl=1)
    there.clock.advance(2)
    there.cache.mode = Mode.MEMORY_ONLY
    assert [str(there.lookup(key).reason) for key in ("k", "other")] == ["expired", "absent"]


def test_a_negative_value_is_remembered_as_it_is(stage: Callable[..., Any]) -> None:
    """What `negative` says means "none" is given again, not None in its place."""
    there: Stage = stage(memory=10, policy=replace(POLICY, negative=lambda value: value == []))
    assert there.load("k", []) == []
    again = there.lookup("k")
    assert (again.value, str(again.source), there.loads) == ([], "negative", 1)
    assert there.load("k", ["another"]) == []


def test_every_mode_has_a_line() -> None:
    """A mode without a promise is none."""
    assert MODES.keys() == set(Mode)


def test_without_a_store_nothing_is_made_for_one(stage: Callable[..., Any]) -> None:
    """L4: a cache without a store encodes nothing, so it keeps what no codec can, and fences only what is replaced."""
    there: Stage = stage()
    make: Any = ResilientCache if there.colour == "sync" else AsyncResilientCache
    there.cache = make(None, name="alone", memory=10)
    anything = object()
    there.set("set", anything)
    assert there.load("loaded", anything) is there.get("set") is there.get("loaded") is anything
    assert not {name: count for name, count in there.cache.stats().items() if "stor" in name and count}
    assert there.cache.health()["fences"] == 0
    there.cache.mode = Mode.BYPASS
    assert there.run(there.cache.refresh, "set", there.loader("new")) == "new"
    there.cache.mode = Mode.ON
    assert there.get("set") is None


def test_a_bypass_ends_with_its_last_block(stage: Callable[..., Any]) -> None:
    """L20: blocks nest and overlap; with the end of the last one, raised out of or not, the mode is what it was."""
    there: Stage = stage()
    first, second = there.cache.bypassed(), there.cache.bypassed()
    modes = [there.cache.mode]
    for step in (first.__enter__, second.__enter__, lambda: first.__exit__(None, None, None)):
        step()
        modes.append(there.cache.mode)
    second.__exit__(None, None, None)
    with contextlib.suppress(OSError), there.cache.bypassed():
        raise OSError
    assert [*modes, there.cache.mode] == [Mode.BYPASS] * 4 + [Mode.ON]


def test_memory_is_not_used_within_a_bypass(stage: Callable[..., Any]) -> None:
    """L20: within `bypassed()` what memory has answers nobody; after it, it answers again."""
    there: Stage = stage(memory=10)
    there.set("k", "kept")
    with there.cache.bypassed():
        assert (there.get("k"), there.load("k", "loaded")) == (None, "loaded")
    assert there.get("k") == there.load("k", "again") == "kept"


def test_closing_again_is_nothing(stage: Callable[..., Any]) -> None:
    """A store is closed once, however often its cache is."""
    there: Stage = stage()
    closed: list[str] = []

    class Store:
        get = set = delete = staticmethod(lambda *args: None)

        def close(self) -> None:
            closed.append("sync")

    class Awaited:
        async def get(self, key: str) -> None: ...

        set = delete = get

        async def aclose(self) -> None:
            closed.append("async")

    cache = there.another(adapter=Store() if there.colour == "sync" else Awaited())
    for _ in range(3):
        there.run(cache.close if there.colour == "sync" else cache.aclose)
    assert closed == [there.colour]
