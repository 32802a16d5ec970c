"""L20: every way to switch a cache at run time, and the way back: with the next request, and without what is over."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_cache import CachePolicy, Invalidation, MisuseError, Mode, NoSafeValue
from resilient_cache.control import ModeEnv, ModeFile
from resilient_cache.events import ModeChanged
from resilient_cache.ramp import SHARES
from resilient_cache.testing import Fault, FaultKind

from .stage import POLICY, Stage

STEP = 10.0
RAMPED = replace(POLICY, ttl=600, ramp=STEP)
COLOURS = pytest.mark.parametrize("colour", ["sync", "async"])
FAR = 1e11
VARIABLE = "RESILIENT_CACHE_LAWS_MODE"

ANSWERS_FROM_MEMORY = {Mode.ON, Mode.READ_ONLY, Mode.MEMORY_ONLY, Mode.FROZEN}
TOUCHES = {  # what the store may be asked for
    Mode.ON: {"get", "set", "delete"},
    Mode.READ_ONLY: {"get"},
    Mode.BYPASS: set[str](),
    Mode.MEMORY_ONLY: set[str](),
    Mode.FROZEN: {"get", "set", "delete"},
}


def place(key: str) -> float:
    """From 0 to 1: the ramp lets those below its share pass."""
    return zlib.crc32(key.encode()) / 2**32


def keys_by_step() -> list[str]:
    """One key for each step of the ramp: the first that admits it."""
    bands = zip((0.0, *SHARES), SHARES, strict=False)
    return [next(key for key in map("host{}".format, count()) if low <= place(key) < high) for low, high in bands]


KEYS = keys_by_step()


# The model of the switches: what the mode has to be


class Switches:
    """A cache that is switched in every way, and what its mode is by the plain reading of what was done."""

    def __init__(self, colour: str, folder: str, policy: CachePolicy) -> None:
        self.there = Stage(colour, memory=10, policy=policy)
        self.clock = self.there.clock
        self.path = Path(folder, "cache.mode")
        self.setting = "fixed"
        self.said: dict[str, tuple[Mode, float]] = {"fixed": (Mode.ON, FAR)}
        self.bypasses: list[tuple[Any, float]] = []
        self.moments = count(1)
        self.over = dict.fromkeys("ab", 0)  # what was known of a key before that moment is over

    def mode(self) -> Mode:
        if any(self.clock.monotonic() < until for _, until in self.bypasses):
            return Mode.BYPASS
        mode, until = self.said[self.setting]
        return mode if self.clock.time() < until else Mode.ON

    # What may happen

    def switch(self, how: str, mode: Mode, lasting: float | None) -> None:
        self.setting = how
        self.said[how] = mode, FAR if lasting is None or how in ("fixed", "function") else self.clock.time() + lasting
        text = str(mode) if lasting is None else f"{mode} for {lasting}"
        if how == "fixed":
            self.there.cache.mode = mode
        elif how == "function":
            self.there.cache.mode = lambda: self.said["function"][0]
        elif how == "file":
            self.path.write_text(text)
            os.utime(self.path, (self.clock.time(), self.clock.time()))
            self.there.cache.mode = ModeFile(self.path, every=0, clock=self.clock)
        else:
            end = datetime.fromtimestamp(self.said[how][1], UTC)  # a `for` would count from when it is first read
            os.environ[VARIABLE] = text if lasting is None else f"{mode} until {end.isoformat()}"
            self.there.cache.mode = ModeEnv(VARIABLE, every=0, clock=self.clock)

    def again(self, mode: Mode) -> None:
        """The place that is looked at says something else; the cache is not told."""
        if self.setting == "file":
            self.path.write_text(f"{mode}\n")
            os.utime(self.path, (self.clock.time(), self.clock.time()))
        elif self.setting == "environment":
            os.environ[VARIABLE] = str(mode)
        elif self.setting == "fixed":
            return
        self.said[self.setting] = mode, FAR

    def bypass(self, for_: float | None) -> None:
        handle = self.there.cache.bypassed(for_)
        self.bypasses.append((handle, FAR if for_ is None else self.clock.monotonic() + for_))

    def release(self) -> None:
        if self.bypasses:
            self.bypasses.pop(0)[0].release()

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def outage(self, down: bool) -> None:
        self.there.plan.during(Fault(FaultKind.RAISE)) if down else self.there.plan.calm()

    # Requests, each held to the mode

    def get(self, key: str) -> None:
        self._checked(key, lambda: self.there.get(key), {"get", "delete"})

    def load(self, key: str) -> None:
        mode, loads, value = self.mode(), self.there.loads, None

        def ask() -> Any:
            try:
                return self.there.load(key, next(self.moments))
            except NoSafeValue:
                assert mode is Mode.FROZEN
                return None

        value = self._checked(key, ask, {"get", "set", "delete"})
        assert mode is not Mode.FROZEN or self.there.loads == loads
        assert mode is not Mode.BYPASS or self.there.loads == loads + 1
        if mode in ANSWERS_FROM_MEMORY and value is not None:  # a miss is always allowed, and yet never needed here
            assert self.there.get(key) == value

    def put(self, key: str) -> None:
        moment = next(self.moments)
        stored = self._checked(key, lambda: self.there.set(key, moment), {"set", "delete"})
        assert stored is False or "set" in TOUCHES[self.mode()]
        self.over[key] = moment

    def invalidate(self, key: str) -> None:
        self.over[key] = next(self.moments)
        told = self._checked(key, lambda: self.there.invalidate(key), {"delete"})
        assert told is Invalidation.PENDING or "delete" in TOUCHES[self.mode()]

    def _checked(self, key: str, ask: Callable[[], Any], may: set[str]) -> Any:
        cache, calls, mode = self.there.cache, len(self.there.adapter.calls), self.mode()
        given = ask()
        assert cache.mode is mode
        assert cache.health()["mode"] == mode
        touched = {call.operation for call in self.there.adapter.calls[calls:]}
        assert touched <= may & TOUCHES[mode]
        if isinstance(given, int) and not isinstance(given, bool):
            assert given >= self.over[key], "what was over came back"
            assert mode is not Mode.BYPASS or touched == set()
        self.there.run_behind()
        return given


MODES = st.sampled_from(list(Mode))
SPANS = st.sampled_from([None, None, 1.0, 3.0, 20.0])
REQUESTS = st.tuples(st.sampled_from(["load", "load", "get", "put", "invalidate"]), st.sampled_from("ab"))
STEPS = st.lists(
    st.one_of(
        REQUESTS,
        REQUESTS,
        st.tuples(st.just("advance"), st.sampled_from([0.5, 1.0, 3.0, 19.5])),
        st.tuples(
            st.just("switch"), st.sampled_from(["fixed", "fixed", "function", "file", "environment"]), MODES, SPANS
        ),
        st.tuples(st.just("switch"), st.just("fixed"), st.just(Mode.ON), st.none()),
        st.tuples(st.just("again"), MODES),
        st.tuples(st.just("bypass"), SPANS),
        st.tuples(st.just("release")),
        st.tuples(st.just("outage"), st.booleans()),
    ),
    min_size=10,
    max_size=40,
)


@COLOURS
@given(steps=STEPS, ramp=st.sampled_from([None, None, 1.0]), stale_for=st.sampled_from([0, 300]))
def test_a_switch_holds_from_the_next_request_on_and_nothing_that_was_over_comes_back(
    colour: str, steps: list[tuple[Any, ...]], ramp: float | None, stale_for: float
) -> None:
    """L20, by every switch, overlapping in every way, with outages in between: the mode is what the switches say."""
    with TemporaryDirectory() as folder:
        switches = Switches(colour, folder, replace(POLICY, ramp=ramp, stale_for=stale_for))
        try:
            for name, *arguments in steps:
                getattr(switches, name)(*arguments)
        finally:
            os.environ.pop(VARIABLE, None)
            switches.there.run_behind()


# Bypasses


def test_a_bypass_ends_by_itself_though_its_block_goes_on(stage: Callable[..., Any]) -> None:
    """Nobody forgets a switch; the first request after its end finds memory and store as they were."""
    there: Stage = stage(memory=10)
    there.set("k", "kept")
    with there.cache.bypassed(for_=900):
        assert there.cache.health()["mode_ends_in"] == 900
        there.clock.advance(899.875)
        assert (there.get("k"), there.cache.mode) == (None, Mode.BYPASS)
        there.clock.advance(0.125)
        there.set("k", "kept")
        assert (there.get("k"), there.cache.mode) == ("kept", Mode.ON)
        assert there.cache.health()["mode_ends_in"] is None
    assert there.cache.mode is Mode.ON


@pytest.mark.parametrize("ended", ["by itself", "released"])
def test_memory_answers_on_the_shortest_way_again_after_a_bypass(stage: Callable[..., Any], ended: str) -> None:
    """Nothing runs for that: the first request that takes the longer way sees to it."""
    there: Stage = stage(memory=10)
    bypass = there.cache.bypassed(for_=10)
    there.set("k", 1)
    assert there.cache._rules.peek("k") is None
    there.clock.advance(10) if ended == "by itself" else bypass.release()
    there.set("k", 1)
    assert there.cache._rules.peek("k") is not None
    assert there.get("k") == 1


def test_a_bypass_that_nobody_noticed_leaves_nothing_behind(stage: Callable[..., Any]) -> None:
    """No request came while it held: the first one after it finds the shortest way closed, and opens it."""
    there: Stage = stage(memory=10)
    there.set("k", 1)
    there.cache.bypassed(for_=1)
    there.clock.advance(1)
    assert [there.get("k"), there.get("k")] == [1, 1]
    assert there.cache._rules.peek("k") is not None


def test_a_bypass_holds_without_a_block_until_it_is_released(stage: Callable[..., Any]) -> None:
    there: Stage = stage()
    bypass = there.cache.bypassed()
    assert (there.cache.mode, there.cache.health()["mode_ends_in"]) == (Mode.BYPASS, None)
    bypass.release()
    bypass.release()
    assert there.cache.mode is Mode.ON
    with pytest.raises(MisuseError, match="was released"), bypass:
        raise AssertionError


def test_a_mode_set_within_a_bypass_holds_after_it(stage: Callable[..., Any]) -> None:
    there: Stage = stage()
    with there.cache.bypassed(for_=5):
        there.cache.mode = Mode.READ_ONLY
        modes = [there.cache.mode]
        there.clock.advance(5)
        assert [*modes, there.cache.mode] == [Mode.BYPASS, Mode.READ_ONLY]


@pytest.mark.parametrize("for_", [0, -1, float("inf"), "900", True, 0.0001])
def test_a_bypass_for_no_time_is_misuse(stage: Callable[..., Any], for_: Any) -> None:
    there: Stage = stage()
    with pytest.raises(MisuseError, match="for_"):
        there.cache.bypassed(for_)
    assert there.cache.mode is Mode.ON


# Controls


def written(there: Stage, path: Path, text: str) -> None:
    path.write_text(text)
    os.utime(path, (there.clock.time(), there.clock.time()))


def test_a_hit_in_memory_heeds_a_control_too(stage: Callable[..., Any], tmp_path: Path) -> None:
    """Within the second after which it is looked at again; in between hits are answered on the shortest way."""
    path = tmp_path / "mode"
    there: Stage = stage(memory=10)
    there.cache.mode = ModeFile(path, clock=there.clock)
    there.set("k", 1)
    assert (there.get("k"), there.cache._rules.peek("k") is not None) == (1, True)
    written(there, path, "bypass")
    seen = []
    for _ in range(4):
        there.clock.advance(0.5)
        seen.append(there.get("k"))
    written(there, path, "read_only")
    for _ in range(2):
        there.clock.advance(0.5)
        seen.append(there.get("k"))
    assert seen == [1, None, None, None, None, 1]
    assert there.cache._rules.peek("k") is not None
    there.clock.advance(1)
    assert there.cache._rules.peek("k") is None  # whoever comes now is to look


def test_a_control_whose_bypass_has_ended_lets_memory_answer_at_once(stage: Callable[..., Any], tmp_path: Path) -> None:
    there: Stage = stage(memory=10)
    there.set("k", 1)
    written(there, tmp_path / "mode", "bypass for 3.5")
    there.cache.mode = ModeFile(tmp_path / "mode", clock=there.clock)
    assert (there.get("k"), there.cache.health()["mode_ends_in"]) == (None, 3.5)
    there.clock.advance(3)
    assert there.get("k") is None
    there.clock.advance(0.5)
    assert (there.get("k"), there.cache._rules.peek("k") is not None) == (1, True)
    with there.cache.bypassed():
        assert (there.get("k"), there.cache._rules.peek("k")) == (None, None)
    assert there.get("k") == 1


def test_caches_may_share_a_control(stage: Callable[..., Any], tmp_path: Path) -> None:
    """What one of them finds holds for the others at once."""
    there: Stage = stage(memory=10)
    control = ModeFile(tmp_path / "mode", clock=there.clock)
    other = there.another(mode=control)
    there.cache.mode = control
    there.set("k", 1)
    assert (there.get("k"), there.run(other.get, "k")) == (1, 1)
    written(there, tmp_path / "mode", "bypass")
    there.clock.advance(1)
    assert (there.get("k"), other._rules.peek("k"), there.run(other.get, "k")) == (None, None, None)


# Who is told


def test_hooks_are_told_of_a_change_once_by_whoever_finds_it(stage: Callable[..., Any]) -> None:
    """By the switch itself, or by the first request under the new mode; not under a lock; closed labels only."""
    told: list[tuple[str, str]] = []
    locked: list[bool] = []

    def hook(event: object) -> None:
        if isinstance(event, ModeChanged):
            told.append((event.before, event.after))
            locked.append(there.cache._rules.guard.lock._is_owned())

    there: Stage = stage(hooks=[hook])
    there.cache.mode = Mode.ON
    there.cache.mode = Mode.FROZEN
    there.cache.bypassed(for_=5)
    there.cache.bypassed(for_=3)
    there.get("k")
    there.clock.advance(5)
    assert len(told) == 2
    there.get("k")
    there.get("k")
    says = [Mode.READ_ONLY, Mode.READ_ONLY, Mode.ON]
    there.cache.mode = lambda: says[0]
    del says[0]
    there.get("k")
    del says[0]
    there.get("k")
    assert told == [
        ("on", "frozen"),
        ("frozen", "bypass"),
        ("bypass", "frozen"),
        ("frozen", "read_only"),
        ("read_only", "on"),
    ]
    assert not any(locked)


def test_a_mode_that_comes_between_is_not_lost(stage: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A bypass begins while another request is just noticing an earlier change: its end is noticed as well."""
    there: Stage = stage(memory=10)
    there.set("k", 1)
    rules: Any = there.cache._rules
    changed = type(rules)._changed

    def late(self: Any) -> None:
        monkeypatch.setattr(type(rules), "_changed", changed)
        self.bypass(1)
        changed(self)

    monkeypatch.setattr(type(rules), "_changed", late)
    there.cache.mode = Mode.FROZEN
    assert rules.peek("k") is None
    there.clock.advance(1)
    assert there.get("k") == 1
    assert rules.peek("k") is not None


def test_a_bypass_that_ends_while_it_begins_leaves_nothing_behind(
    stage: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    there: Stage = stage(memory=10)
    there.set("k", 1)
    rules: Any = there.cache._rules
    aim = type(rules).aim

    def slow(self: Any) -> None:
        aim(self)
        there.clock.advance(1)

    with monkeypatch.context() as patch:
        patch.setattr(type(rules), "aim", slow)
        there.cache.bypassed(1)
    assert [there.get("k"), rules.peek("k") is not None] == [1, True]


# The way back


@pytest.fixture(params=["bypass", "mode", "circuit"])
def came_back(request: pytest.FixtureRequest, stage: Callable[..., Any]) -> Iterator[Stage]:
    """A cache with a ramp, whose store has just been given back."""
    there: Stage = stage(policy=RAMPED)
    if request.param == "bypass":
        with there.cache.bypassed():
            there.load("other", 1)
    elif request.param == "mode":
        there.cache.mode = Mode.MEMORY_ONLY
        there.cache.mode = Mode.ON
    else:
        there.plan.during(Fault(FaultKind.RAISE))
        for _ in range(3):
            there.get("other")
        there.plan.calm()
        while there.cache.health()["circuits"]["read"]["state"] != "closed":
            there.clock.advance(1)
            there.get("other")
            there.run_behind()
    yield there
    there.run_behind()


def has(there: Stage, key: str) -> bool:
    return f"laws:{key}" in there.stored


def test_the_store_is_given_the_keys_back_step_by_step(came_back: Stage) -> None:
    """Refills of 1, 5, 25, then 100 % of the keys, by their hash; who is loaded is answered in any case."""
    there = came_back
    for step, share in enumerate(SHARES):
        assert there.cache.health()["admitted"] == share
        for place, key in enumerate(KEYS):
            there.stored.pop(f"laws:{key}", None)
            assert there.load(key, step) == step
            assert has(there, key) is (place <= step)
        there.clock.advance(STEP)
    held = sum(len(KEYS) - 1 - step for step in range(len(SHARES)))
    assert there.cache.stats()["writes_held_back"] == held


def test_what_is_not_admitted_is_read_and_not_set(came_back: Stage) -> None:
    """`set` gives False: the store does not have it, and what it had before is not served again, but deleted."""
    there, key = came_back, KEYS[-1]
    there.run(there.another().set, key, "older")
    assert there.get(key) == "older"
    assert there.set(key, "newer") is False
    assert there.get(key) is None
    there.clock.advance(1)
    there.flush()
    assert not has(there, key)
    assert there.set(KEYS[0], "newer") is True


def test_a_refresh_that_is_not_admitted_replaces_all_the_same(came_back: Stage) -> None:
    there, key = came_back, KEYS[-1]
    there.run(there.another().set, key, "older")
    assert there.run(there.cache.refresh, key, there.loader("newer")) == "newer"
    assert there.get(key) is None
    assert there.load(key, "again") == "again"


def test_deletes_are_never_held_back(came_back: Stage) -> None:
    """L9: neither that of a caller nor what is owed from before."""
    there, key = came_back, KEYS[-1]
    there.run(there.another().set, key, 1)
    assert there.invalidate(key) is Invalidation.CONFIRMED
    assert not has(there, key)


def test_what_is_owed_is_paid_while_the_ramp_begins(stage: Callable[..., Any]) -> None:
    there: Stage = stage(policy=RAMPED)
    there.run(there.another().set, KEYS[-1], 1)
    with there.cache.bypassed():
        assert there.invalidate(KEYS[-1]) is Invalidation.PENDING
    there.clock.advance(1)
    there.flush()
    assert there.cache.health()["admitted"] == SHARES[0]
    assert not has(there, KEYS[-1])
    assert there.cache.health()["pending_invalidations"] == 0


def test_memory_keeps_what_the_store_is_not_given(stage: Callable[..., Any]) -> None:
    there: Stage = stage(policy=RAMPED, memory=10)
    with there.cache.bypassed():
        pass
    assert there.load(KEYS[-1], 1) == there.load(KEYS[-1], 2) == 1
    assert there.set(KEYS[-1], 3) is False
    assert there.get(KEYS[-1]) == 3


@pytest.mark.parametrize("before", list(Mode))
@pytest.mark.parametrize("after", list(Mode))
def test_it_begins_where_a_store_is_written_again(stage: Callable[..., Any], before: Mode, after: Mode) -> None:
    """And nowhere else: neither where it is written no more, nor from one mode that writes to another."""
    there: Stage = stage(policy=RAMPED, mode=before)
    there.cache.mode = after
    begun = "set" in TOUCHES[after] and "set" not in TOUCHES[before]
    assert there.cache.health()["admitted"] == (SHARES[0] if begun else 1.0)


def test_it_begins_again_with_the_next_outage(stage: Callable[..., Any]) -> None:
    there: Stage = stage(policy=RAMPED)
    for _ in range(2):
        with there.cache.bypassed():
            pass
        assert there.cache.health()["admitted"] == SHARES[0]
        there.clock.advance(2 * STEP)
        assert there.run(there.cache.explain, "k")["admitted"] == SHARES[2]


def test_without_the_option_everything_is_written_at_once(stage: Callable[..., Any]) -> None:
    """L16: caching is back with the store."""
    there: Stage = stage()
    with there.cache.bypassed():
        pass
    for key in KEYS:
        there.load(key, 1)
    assert all(has(there, key) for key in KEYS)
    assert "writes_held_back" not in there.cache.stats()


@pytest.mark.parametrize("ramp", [0, -1, "5", float("inf"), True])
def test_a_ramp_of_no_time_is_misuse(ramp: Any) -> None:
    with pytest.raises(MisuseError, match="ramp"):
        CachePolicy(ramp=ramp)


def test_a_cache_without_a_store_has_nothing_to_ramp(stage: Callable[..., Any]) -> None:
    there: Stage = stage(policy=RAMPED, memory=10)
    alone: Any = type(there.cache)(None, name="alone", policy=RAMPED, memory=10, clock=there.clock)
    with alone.bypassed():
        pass
    assert there.run(alone.set, KEYS[-1], 1) is True
    assert alone.health()["admitted"] == 1.0
