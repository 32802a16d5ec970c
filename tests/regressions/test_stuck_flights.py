"""Flights that are given up: their waiters must agree with those who look for a flight to join."""

from __future__ import annotations

import random
from typing import Any

from resilient_cache.flights import Flights
from resilient_cache.outcome import Mode

AGE = 0.1


def test_a_flight_is_stuck_at_the_very_moment_its_waiters_lose_patience() -> None:
    """They wait until `since + age`. If it could be joined again then, they would board it and time out without end."""
    chance = random.Random(3)
    for since in (chance.uniform(0, 2_000) for _ in range(1_000)):
        flights: Flights[Any] = Flights(AGE)
        flights.take_off_locked("k", Mode.ON, 1, since)
        assert flights.stuck(since + AGE) == 1
        assert flights.find_locked("k", Mode.ON, since + AGE) is None
