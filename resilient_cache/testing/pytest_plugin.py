"""Fixtures for tests of code that caches; pytest loads them by itself wherever this package is installed.

`fake_clock` is a clock moved by hand, `cache_faults` a store on that clock that fails when told to, `cache_recorder` a
hook that keeps what a cache tells. `-p no:resilient_cache` leaves them out.
"""

from __future__ import annotations

import pytest

from .clock import ManualClock
from .watching import CacheFaults, CacheRecorder

__all__ = ["cache_faults", "cache_recorder", "fake_clock"]

# What a failed assertion of a contract is about, shown as in the test's own file.
pytest.register_assert_rewrite(
    *(f"resilient_cache.testing.{module}" for module in ("_laws", "contracts", "plane_contracts"))
)


@pytest.fixture
def fake_clock() -> ManualClock:
    """Both clocks of a cache, standing still until `advance(seconds)`."""
    return ManualClock()


@pytest.fixture
def cache_faults(fake_clock: ManualClock) -> CacheFaults:
    """A store on `fake_clock`, `.store` or `.async_store`, that fails when told to: `down()`, `heal()`, `plan`."""
    return CacheFaults(fake_clock)


@pytest.fixture
def cache_recorder() -> CacheRecorder:
    """A hook that keeps what it is told: `.events`, `.of(kind)`, `.count(kind)`, `.assert_no_circuit_opened()`."""
    return CacheRecorder()
