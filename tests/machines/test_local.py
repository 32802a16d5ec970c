"""What a process knows of its keys, bare: one lock, no store, no waiting."""

from __future__ import annotations

from threading import RLock
from typing import Any

from resilient_cache._local import Local
from resilient_cache.policy import CachePolicy
from resilient_cache.testing import ManualClock


def make(**policy: Any) -> Local:
    return Local(10, CachePolicy(**policy), ManualClock(), RLock())


def test_the_side_rooms_have_rooms_of_their_own() -> None:
    """A thousand keys that do not exist and ten thousand stand-ins are remembered, apart from the entries."""
    local = make()
    assert (local.memory.capacity, local.negatives.capacity, local.stand_ins.capacity) == (10, 1_000, 10_000)
