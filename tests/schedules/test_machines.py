"""The machines' paths that take no lock, between threads that switch wherever CPython may switch."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

from resilient_cache import BreakerPolicy, breaker, leases
from resilient_cache.breaker import Breaker
from resilient_cache.leases import Leases
from resilient_cache.testing import Scheduler, Switch

POLICY = BreakerPolicy(consecutive=2, span=0, hold=0.001, max_hold=0.001, probes=1, window=10)


def run(seed: int, module: Any) -> Scheduler:
    return Scheduler(random.Random(seed).randrange, switch=Switch.BYTECODES, modules=[module])


def test_no_two_probes_are_out() -> None:
    """Invariant 2 of a circuit: in half-open one caller gets the probe, and everyone else is rejected."""
    for seed in range(100):
        with run(seed, breaker) as threads:
            circuit = Breaker(POLICY, lambda: 0.0, threads.rlock())
            ticket = circuit.admit(1.0)
            for _ in range(POLICY.consecutive):
                circuit.failure(ticket, 1.0)
            tickets: list[int] = []
            for _ in range(3):
                threads.start(partial(lambda admit, tickets: tickets.append(admit(2.0)), circuit.admit, tickets))
            threads.run()
        assert sorted(map(bool, tickets)) == [False, False, True]


def test_whoever_asks_when_the_next_probe_may_go_finds_a_moment() -> None:
    """Also while the circuit opens for the first time. Seed 2397 of `make prove`, lines, met an `AttributeError`.

    Between lines: where CPython 3.11 switches it cannot happen, and it need not stay so.
    """
    for seed in range(200):
        with Scheduler(random.Random(seed).randrange, switch=Switch.LINES, modules=[breaker]) as threads:
            circuit = Breaker(POLICY, lambda: 0.0, threads.rlock())
            ticket = circuit.admit(1.0)
            circuit.failure(ticket, 1.0)
            told: list[float] = []
            threads.start(partial(circuit.failure, ticket, 1.0))
            threads.start(partial(lambda ask, told: told.extend(ask(1.0) for _ in range(20)), circuit.retry_in, told))
            threads.run()
        assert set(told) <= {0.0, circuit.retry_in(1.0)}


def test_no_more_leases_are_out_than_there_are() -> None:
    for seed in range(100):
        with run(seed, leases) as threads:
            permits = Leases(2, 5.0, threads.rlock())
            given: list[int] = []
            for _ in range(4):
                threads.start(partial(lambda acquire, given: given.append(acquire(1.0)), permits.acquire, given))
            threads.run()
        assert sorted(map(bool, given)) == [False, False, True, True]
        assert len(permits) == len({lease for lease in given if lease}) == 2
