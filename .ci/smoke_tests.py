"""What users of the package write: run by pytest from another folder, where it finds nothing but the wheel."""

import asyncio
import sysconfig
from pathlib import Path

from hypothesis import given, settings

import resilient_cache
from resilient_cache import AsyncResilientCache, ResilientCache
from resilient_cache.adapters import AsyncMappingAdapter, MappingAdapter
from resilient_cache.events import Served
from resilient_cache.testing import AdapterContract, AsyncAdapterContract, FaultyAdapter, ManualClock, play
from resilient_cache.testing.strategies import cache_histories, fault_plans

EXCUSED = {"break_store": "a dict", "open_dripping": "a dict", "close": "a dict"}


def test_it_is_the_wheel():
    assert Path(resilient_cache.__file__).is_relative_to(Path(sysconfig.get_path("purelib")).resolve())


def test_the_fixtures_are_there(cache_faults, fake_clock, cache_recorder):
    cache_faults.down()
    cache = ResilientCache(cache_faults.store, name="smoke", clock=fake_clock, hooks=[cache_recorder])
    assert cache.get_or_load("k", str.upper) == "K"
    assert cache_recorder.count(Served) == 1


def test_the_async_store_is_there(cache_faults):
    async def main():
        async with AsyncResilientCache(cache_faults.async_store, name="smoke") as cache:
            return await cache.get("k")

    assert asyncio.run(main()) is None


@settings(max_examples=20)
@given(fault_plans(), cache_histories(calls=["load"]))
def test_the_strategies_are_there(plan, history):
    clock = ManualClock()
    cache = ResilientCache(FaultyAdapter(clock, plan=plan), name="smoke", clock=clock)
    for call, answer in play(history, {"load": lambda key: cache.get_or_load(key, str.upper)}, clock=clock, plan=plan):
        assert answer == call.key.upper()


class TestMapping(AdapterContract):
    excused = EXCUSED

    def open(self):
        return MappingAdapter()


class TestAsyncMapping(AsyncAdapterContract):
    excused = EXCUSED

    async def open(self):
        return AsyncMappingAdapter()
