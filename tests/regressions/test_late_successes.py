"""Successes that come late: what a circuit makes of a call that it admitted before it opened."""

from __future__ import annotations

import random
from functools import partial

from resilient_cache import BreakerPolicy, breaker
from resilient_cache.breaker import Breaker
from resilient_cache.events import CircuitState
from resilient_cache.testing import Scheduler, Switch

POLICY = BreakerPolicy(consecutive=2, span=0, hold=0.001, max_hold=0.001, probes=1, window=10)


def test_a_success_of_before_an_opening_is_not_counted_after_it() -> None:
    """Invariant 3 of a circuit: a stale result neither fills the fresh window nor ends a streak of failures in it."""
    for seed in range(300):
        with Scheduler(random.Random(seed).randrange, switch=Switch.BYTECODES, modules=[breaker]) as threads:
            circuit = Breaker(POLICY, lambda: 0.0, threads.rlock())
            stale = circuit.admit(1.0)
            circuit.success(stale, 1.0)

            def open_and_close(circuit: Breaker = circuit, ticket: int = stale) -> None:
                while circuit.state is CircuitState.CLOSED:  # a success between two failures ends their streak
                    circuit.failure(ticket, 1.0)
                circuit.success(circuit.admit(1.1), 1.1)
                circuit.success(circuit.admit(1.1), 1.1)
                circuit.failure(circuit.admit(1.1), 1.1)

            threads.start(partial(circuit.success, stale, 1.1))
            threads.start(open_and_close)
            threads.run()
        assert sum(bucket[1] for bucket in circuit._buckets) == 1
        assert circuit._streak == 1
