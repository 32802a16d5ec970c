"""L4: without faults a hit is what it should be, and from where it should be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilient_cache import Source
from resilient_cache.testing import Fault, FaultKind

from .stage import Stage


def test_what_the_store_gave_is_kept_in_memory(stage: Callable[..., Any]) -> None:
    """L4: an entry of another process is read once, is as old as it is, and lasts as long as it would have."""
    there: Stage = stage(memory=10)
    there.run(there.another().set, "k", 1)
    there.clock.advance(20)
    seen = [there.lookup("k"), there.lookup("k")]
    assert [each.source for each in seen] == [Source.STORE, Source.MEMORY]
    assert [each.age for each in seen] == [pytest.approx(20, abs=1.1)] * 2  # 1 s is for the other's clock
    there.plan.during(Fault(FaultKind.RAISE))
    there.clock.advance(39.9)
    assert there.get("k") == 1
    there.clock.advance(0.2)
    assert there.get("k") is None
