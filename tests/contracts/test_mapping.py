"""The contract of adapters, kept by mappings in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import ClassVar

import pytest
from cachetools import LRUCache

from resilient_cache.adapters import AsyncMappingAdapter, MappingAdapter
from resilient_cache.testing import AdapterContract, AsyncAdapterContract, ManualClock

Entries = MutableMapping[str, bytes]

EXCUSED = {
    "break_store": "memory of this process does not fail",
    "open_dripping": "memory of this process does not drip",
    "close": "there is nothing to close",
}


def lru() -> Entries:
    return LRUCache(10_000_000, getsizeof=len)


class InThisProcess:
    """A mapping whose time passes on a clock moved by hand."""

    excused: ClassVar[Mapping[str, str]] = EXCUSED

    @pytest.fixture(autouse=True)
    def _mapping(self, mapping: Callable[[], Entries]) -> None:
        self.clock = ManualClock()
        self.entries = mapping()

    def monotonic(self) -> float:
        return self.clock.monotonic()

    def sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)


@pytest.mark.parametrize("mapping", [dict, lru])
class TestMappingAdapter(InThisProcess, AdapterContract):
    def open(self) -> MappingAdapter:
        return MappingAdapter(self.entries, monotonic=self.clock.monotonic)


@pytest.mark.parametrize("mapping", [dict, lru])
class TestAsyncMappingAdapter(InThisProcess, AsyncAdapterContract):
    async def open(self) -> AsyncMappingAdapter:
        return AsyncMappingAdapter(self.entries, monotonic=self.clock.monotonic)
