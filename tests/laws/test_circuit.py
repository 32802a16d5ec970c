"""L5, L16, L17: what a bad store costs, how long it is left alone, and that nothing is held for ever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from resilient_cache import CachePolicy, Invalidation, Reason
from resilient_cache.testing import Fault, FaultKind

from .scenario import BREAKER, TIMEOUT
from .stage import POLICY, Stage

Make = Callable[..., Stage]
HANG = Fault(FaultKind.HANG)
FOREVER = float("inf")


def timed(stage: Stage, function: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    began = stage.clock.monotonic()
    function()
    return stage.clock.monotonic() - began


def state(stage: Stage, direction: str = "read") -> str:
    """The state of a circuit."""
    return str(stage.cache.health()["circuits"][direction]["state"])


def trip(stage: Stage) -> None:
    """Open the read circuit."""
    stage.plan.during(Fault(FaultKind.RAISE), "get")
    for _ in range(3):
        stage.get("k")
    stage.plan.calm()
    assert state(stage) == "open"


def test_a_hanging_store_costs_one_timeout_before_the_load(stage: Make) -> None:
    """L5: a read that hangs costs `timeout` and no more; nothing is written after it."""
    cache = stage()
    cache.plan.during(HANG)
    assert timed(cache, lambda: cache.load("k", 1)) == TIMEOUT
    assert [call.operation for call in cache.adapter.calls] == ["get"]


def test_a_hanging_write_costs_one_timeout_after_the_load(stage: Make) -> None:
    """L5: a write that hangs costs `timeout` once, and the caller still gets the value."""
    cache = stage()
    cache.plan.then("set", HANG)
    assert timed(cache, lambda: cache.load("k", 1)) == TIMEOUT


@pytest.mark.parametrize("operation", ["get", "set", "invalidate"])
def test_every_other_call_costs_one_timeout(stage: Make, operation: str) -> None:
    """L5: `get`, `set` and `invalidate` cost at most one `timeout`."""
    cache = stage()
    cache.plan.during(HANG)
    args = {"get": ("k",), "set": ("k", 1), "invalidate": ("k",)}[operation]
    assert timed(cache, lambda: getattr(cache, operation)(*args)) == TIMEOUT


def test_a_look_up_that_finds_garbage_costs_one_timeout(stage: Make) -> None:
    """L5: what a look-up deletes because it may not be served comes out of the same `timeout`."""
    cache = stage()
    cache.poison("k", b"garbage")
    cache.plan.then("get", Fault.slow(0.125)).then("delete", HANG)
    assert timed(cache, lambda: cache.get("k")) <= TIMEOUT


def test_a_deadline_shortens_the_read(stage: Make) -> None:
    """L5: a caller's `deadline` bounds a store operation that would take longer."""
    cache = stage()
    cache.plan.during(HANG)
    assert timed(cache, lambda: cache.load("k", 1, deadline=0.125)) == 0.125


def test_a_deadline_shortens_the_write(stage: Make) -> None:
    """L5: what a slow read has used up of the `deadline` is not there for the write."""
    cache = stage()
    cache.plan.then("get", Fault.slow(0.125)).then("set", HANG)
    assert timed(cache, lambda: cache.load("k", 1, deadline=0.25)) == 0.25


@pytest.mark.parametrize("deadline", [0.0, 0.0009765625, -1.0])
def test_with_no_time_left_the_store_is_not_asked(stage: Make, deadline: float) -> None:
    """L5: with at most a millisecond left, no store call is made and the loader runs all the same."""
    cache = stage()
    seen = cache.lookup("k", cache.loader("v"), deadline=deadline)
    assert (seen.value, seen.reason, cache.adapter.calls) == ("v", Reason.NO_TIME, [])


def test_an_open_circuit_costs_nothing(stage: Make) -> None:
    """L5, L16: while the circuit is open nothing is called and no time passes."""
    cache = stage()
    trip(cache)
    cache.plan.during(HANG)
    calls = len(cache.adapter.calls)
    for _ in range(20):
        assert timed(cache, lambda: cache.load("k", 1)) == 0
        assert cache.lookup("k").reason is Reason.OPEN
    assert len(cache.adapter.calls) == calls
    assert not cache.behind


def test_in_half_open_one_probe_goes_and_no_one_waits_for_it(stage: Make) -> None:
    """L16: after the hold one caller's read is the probe; it is answered at once, and so is everyone else."""
    cache = stage()
    trip(cache)
    cache.clock.advance(1)
    for _ in range(5):
        assert timed(cache, lambda: cache.load("k", 1)) == 0
    assert len(cache.behind) == 1
    assert state(cache) == "half_open"
    cache.run_behind()
    cache.load("k", 1)
    cache.run_behind()
    assert state(cache) == "closed"
    cache.load("k", 2)
    assert cache.get("k") == 2


def test_a_failed_probe_opens_for_longer(stage: Make) -> None:
    """L16: the probe of a store that is still down opens the circuit again, for twice as long, up to a limit."""
    cache = stage()
    trip(cache)
    cache.plan.during(Fault(FaultKind.RAISE))
    holds = []
    for _ in range(5):
        cache.clock.advance(cache.cache.health()["circuits"]["read"]["retry_in"])
        cache.get("k")
        cache.run_behind()
        assert state(cache) == "open"
        holds.append(cache.cache.health()["circuits"]["read"]["retry_in"])
    assert holds == [1.5, 3.0, 3.0, 3.0, 3.0]


def test_a_late_answer_says_nothing(stage: Make) -> None:
    """L16: the failure of a call that began before the circuit opened and closed again moves nothing now."""
    cache = stage()
    guard = cache.cache._rules.guard
    from resilient_cache.outcome import Operation

    late = [guard.admit(Operation.GET, FOREVER, "k") for _ in range(5)]
    trip(cache)
    cache.clock.advance(1)
    for _ in range(2):
        cache.get("k")
        cache.run_behind()
    assert state(cache) == "closed"
    for call in late:
        guard.failed(call, OSError())
    assert state(cache) == "closed"


def test_a_probe_that_never_reports_is_replaced(stage: Make) -> None:
    """L17: a probe that was dropped holds the circuit half-open for its lease and no longer."""
    cache = stage()
    trip(cache)
    cache.clock.advance(1)
    cache.get("k")
    lost = cache.behind.pop()
    cache.clock.advance(1.875)
    cache.get("k")
    assert not cache.behind
    cache.clock.advance(0.125)
    cache.get("k")
    assert len(cache.behind) == 1
    cache.run_behind()
    if cache.colour == "async":
        lost.close()


def test_permits_that_never_come_back_expire(stage: Make) -> None:
    """L17: store calls that never end use up the permits for five seconds; meanwhile more are misses."""
    from resilient_cache.outcome import Operation

    cache = stage(policy=replace(POLICY, max_store_calls=2))
    guard = cache.cache._rules.guard
    for _ in range(2):
        guard.admit(Operation.GET, FOREVER, "k")
    assert cache.lookup("k").reason is Reason.BUSY
    cache.clock.advance(5)
    assert cache.lookup("k").reason is Reason.ABSENT
    assert cache.cache.health()["store_calls_in_flight"] <= 2


def test_permits_come_back_however_a_call_ends(stage: Make) -> None:
    """L17: with one permit, a hundred calls that fail in every way leave it free for the next."""
    cache = stage(
        policy=replace(POLICY, max_store_calls=1), breaker=replace(BREAKER, consecutive=1_000, min_calls=1_000)
    )
    for fault in (Fault(FaultKind.RAISE), Fault(FaultKind.LOST), Fault(FaultKind.CORRUPT), Fault.slow(0.125), None):
        for _ in range(20):
            cache.plan.then("get", fault).then("set", fault)
            cache.load("k", 1)
            cache.set("k", 1)
            cache.invalidate("k")
    assert cache.cache.stats().get("store_get", 0) == 100
    assert cache.cache.health()["store_calls_in_flight"] == 0


def test_the_loaders_errors_move_no_circuit(stage: Make) -> None:
    """L3: an origin that fails says nothing about the store."""
    cache = stage()
    for _ in range(50):
        with pytest.raises(OSError, match="origin"):
            cache.load("k", OSError("origin"))
    assert (state(cache), state(cache, "write")) == ("closed", "closed")


def test_reads_and_writes_fail_apart(stage: Make) -> None:
    """L16: a store that refuses writes is read all the same, and the other way round."""
    cache = stage()
    cache.set("k", "v")
    cache.plan.during(Fault(FaultKind.RAISE), "set", "delete")
    for _ in range(5):
        cache.set("other", 1)
    assert (state(cache), state(cache, "write")) == ("closed", "open")
    assert cache.get("k") == "v"
    assert cache.invalidate("k") is Invalidation.PENDING
    assert cache.get("k") is None


def test_stale_stands_in_only_for_a_failed_load_and_only_inside_its_window(stage: Make) -> None:
    """L12: a stale entry is served when the load fails, marked, until its window ends, and not before."""
    policy = CachePolicy(epoch_ttl=None, ttl=10, stale_for=20, stale_retry=1, jitter=0, timeout=TIMEOUT)
    for memory in (0, 10):
        cache = stage(policy=policy, memory=memory)
        cache.set("k", "old")
        cache.clock.advance(10.5)
        assert not cache.lookup("k")
        assert cache.get("k") is None
        for _ in range(3):
            seen = cache.lookup("k", cache.loader(OSError("down")))
            assert (seen.value, seen.stale, str(seen.source)) == ("old", True, "stale")
        assert cache.loads == 1
        cache.clock.advance(1)
        assert cache.load("k", OSError("down")) == "old"
        assert cache.loads == 2
        assert cache.cache.stats()["stale"] == 4
        with pytest.raises(OSError, match="down"):
            cache.load("k2", OSError("down"))
        cache.clock.advance(18.25)
        assert cache.load("k", OSError("down")) == "old"
        cache.clock.advance(0.5)
        with pytest.raises(OSError, match="down"):
            cache.load("k", OSError("down"))


def test_a_callers_policy_without_stale_gets_none(stage: Make) -> None:
    """L12: a call whose own policy has `stale_for` 0 is not served stale, though another caller just was."""
    for memory in (0, 10):
        cache = stage(memory=memory)
        cache.set("k", "old")
        cache.clock.advance(61)
        assert cache.load("k", OSError("down")) == "old"
        with pytest.raises(OSError, match="down"):
            cache.load("k", OSError("down"), policy=replace(POLICY, stale_for=0))


@pytest.mark.parametrize("memory", [0, 10])
def test_windows_count_from_the_start_of_the_load(stage: Make, memory: int) -> None:
    """L12: a load that took long gives a value that is that much older: its windows begin where the load began."""
    policy = CachePolicy(epoch_ttl=None, ttl=10, stale_for=10, jitter=0, timeout=TIMEOUT)
    cache = stage(policy=policy, memory=memory)

    def slowly() -> str:
        cache.clock.advance(6)
        return "old"

    assert cache.load("k", slowly) == "old"
    cache.clock.advance(3.5)
    assert cache.get("k") == "old"
    cache.clock.advance(1)
    assert cache.get("k") is None
    cache.clock.advance(9)
    assert cache.load("k", OSError("down")) == "old"
    cache.clock.advance(1)
    with pytest.raises(OSError, match="down"):
        cache.load("k", OSError("down"))
