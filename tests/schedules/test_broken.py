"""What the switch points are for: caches that lack one lock, each found by small scenes in a few hundred schedules."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from resilient_cache import BreakerPolicy, CachePolicy, ResilientCache
from resilient_cache.breaker import Breaker
from resilient_cache.events import CircuitState
from resilient_cache.testing import Scheduler, Switch
from resilient_cache.testing.tracing import modules_of_the_package

from . import broken

MODULES = [*modules_of_the_package(), broken]
SEEDS = 3_000
SOUND = 100  # seeds in which the real cache is to pass


def cache_of(run: Scheduler, adapter: Any = None, **policy: Any) -> Any:
    return ResilientCache(
        adapter,
        name="scene",
        memory=10 if adapter is None else 0,
        policy=CachePolicy(jitter=0, **policy),
        breaker=BreakerPolicy(consecutive=1, span=0, hold=1, probes=2),
        clock=run.clock,
        spawn=run.start,
        random=lambda: 1.0,
    )


class Crowd:
    """Counts how many are in at once."""

    def __init__(self, run: Scheduler) -> None:
        self.run = run
        self.inside = self.most = 0
        self.down = False

    def visit(self, *_: Any) -> None:
        if self.down:
            raise OSError
        self.inside += 1
        self.most = max(self.most, self.inside)
        for _turn in range(3):
            self.run.pause()
        self.inside -= 1

    get = set = delete = visit


def stale_after_an_invalidation(run: Scheduler) -> bool:
    """A load that began before an invalidation was asked for is not to be found after it."""
    cache = cache_of(run)
    order: list[str] = []

    def load(_: str) -> str:
        order.append("load")
        run.sleep(1.0)
        return "old"

    def invalidate() -> None:
        run.sleep(1.0)
        order.append("invalidate")
        cache.invalidate("k")

    run.start(partial(cache.refresh, "k", load))
    run.start(invalidate)
    run.run()
    return order == ["load", "invalidate"] and cache.get("k") is not None


def two_loads_at_once(run: Scheduler) -> bool:
    crowd = Crowd(run)
    cache = cache_of(run)
    began = run.now
    for _ in range(3):
        run.start(partial(cache.get_or_load, "k", crowd.visit))
    run.run()
    return crowd.most > 1 and run.now == began  # where the machine stalled, a stuck flight was replaced


def more_calls_than_permits(run: Scheduler) -> bool:
    crowd = Crowd(run)
    cache = cache_of(run, crowd, max_store_calls=1)
    for key in "abc":
        run.start(partial(cache.get, key))
    run.run()
    return crowd.most > 1


def two_probes_at_once(run: Scheduler) -> bool:
    crowd = Crowd(run)
    cache = cache_of(run, crowd)
    crowd.down = True
    cache.get("a")
    crowd.down = False
    run.clock.advance(1.0)
    for key in "abc":
        run.start(partial(cache.get, key))
    run.run()
    return crowd.most > 1


def closed_by_what_came_before_it_opened(run: Scheduler) -> bool:
    circuit = Breaker(BreakerPolicy(consecutive=1, span=0, hold=1, probes=1, lease=1), lambda: 0.0, run.rlock())
    circuit.failure(circuit.admit(0.0), 0.0)
    early = circuit.admit(1.0)
    opened: list[bool] = []

    def fail() -> None:
        change = circuit.failure(circuit.admit(2.0), 2.0)
        opened.append(change is not None and change.before is CircuitState.HALF_OPEN)

    run.start(partial(circuit.success, early, 1.5))
    run.start(fail)
    run.run()
    return opened == [True] and circuit.state is CircuitState.CLOSED


SCENES: dict[str, Callable[[Scheduler], bool]] = {
    "invalidate": stale_after_an_invalidation,
    "keep": stale_after_an_invalidation,
    "board": two_loads_at_once,
    "acquire": more_calls_than_permits,
    "admit_probe": two_probes_at_once,
    "success": closed_by_what_came_before_it_opened,
}
MISSED_BY_LOCKS = {"invalidate", "board", "acquire", "admit_probe", "success"}


def found(name: str, seed: int, switch: Switch) -> bool:
    with Scheduler(random.Random(seed).randrange, switch=switch, modules=MODULES) as run:
        try:
            return SCENES[name](run)
        except RuntimeError as error:
            return "dictionary changed size" in str(error)


@pytest.mark.parametrize("name", broken.BROKEN)
def test_a_cache_without_a_lock_is_caught(name: str) -> None:
    with broken.broken(name):
        caught = next((seed for seed in range(SEEDS) if found(name, seed, Switch.LINES)), None)
    assert caught is not None


@pytest.mark.parametrize("name", broken.BROKEN)
@pytest.mark.parametrize("switch", Switch)
def test_the_real_cache_is_not(name: str, switch: Switch) -> None:
    assert not any(found(name, seed, switch) for seed in range(SOUND))


@pytest.mark.parametrize("name", broken.BROKEN)
def test_locks_alone_do_not_show_that_one_is_missing(name: str) -> None:
    """Unless something between the steps gives way: what a keep drops has a finalizer, say."""
    with broken.broken(name):
        assert any(found(name, seed, Switch.LOCKS) for seed in range(200)) == (name not in MISSED_BY_LOCKS)
