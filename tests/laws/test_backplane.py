"""A backplane: what one process invalidates leaves the memory of the others; what was perhaps missed is not trusted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from resilient_cache import AsyncResilientCache, CachePolicy, NotFound, Source
from resilient_cache.events import BackplaneChanged, Event
from resilient_cache.testing import AsyncFaultyAdapter, Fault, FaultKind, FaultPlan, ManualClock, run_virtual

from ..virtual import pass_time

POLICY = CachePolicy(ttl=600, stale_for=600, jitter=0, timeout=0.25, epoch_ttl=None)


class Hub:
    """A backplane in memory."""

    def __init__(self) -> None:
        self.receivers: dict[Callable[[bytes], object], asyncio.Future[None]] = {}
        self.down = self.silent = False
        self.sent: list[bytes] = []

    async def publish(self, channel: str, message: bytes, /) -> None:
        assert channel == "resilient_cache:laws"
        if self.silent:
            await pass_time(3600)
        if self.down:
            raise ConnectionError("down")
        self.sent.append(message)
        for receive in list(self.receivers):
            receive(message)

    async def listen(self, channel: str, ready: Callable[[], object], receive: Callable[[bytes], object], /) -> None:
        if self.down:
            raise ConnectionError("down")
        self.receivers[receive] = ended = asyncio.get_running_loop().create_future()
        ready()
        try:
            await ended
        finally:
            del self.receivers[receive]

    def cut(self) -> None:
        for ended in self.receivers.values():
            ended.set_result(None)


class Two:
    """Two processes, `here` and `there`, over one store."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.plan = FaultPlan()
        self.store = AsyncFaultyAdapter(self.clock, plan=self.plan)
        self.hub = Hub()
        self.told: list[Event] = []
        self.here, self.there = self.another(), self.another(hooks=[self.told.append])
        self.loads = 0

    def another(self, **options: Any) -> AsyncResilientCache[str, Any]:
        given: dict[str, Any] = {"name": "laws", "policy": POLICY, "memory": 100, "random": lambda: 0.5, **options}
        return AsyncResilientCache(self.store, clock=self.clock, backplane=self.hub, **given)

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def whole() -> None:
            for cache in (self.here, self.there):
                await cache.get("the first call, with which they begin to listen")
            await pass_time(0.01)
            await main()
            await self.here.aclose()
            await self.there.aclose()
            assert asyncio.all_tasks() == {asyncio.current_task()}

        run_virtual(whole(), self.clock)

    async def load(self, cache: AsyncResilientCache[str, Any], key: str = "k") -> Any:
        async def loader(_: str) -> int:
            self.loads += 1
            return self.loads

        return await cache.get_or_load(key, loader)


@pytest.fixture
def two() -> Two:
    return Two()


def test_what_is_invalidated_here_is_not_served_from_memory_there(two: Two) -> None:
    async def main() -> None:
        assert await two.load(two.here) == await two.load(two.there) == 1
        await pass_time(0.01)
        await two.here.invalidate("k")
        await pass_time(0.01)
        assert await two.there.get("k") is None
        assert await two.load(two.there) == 2
        assert await two.load(two.here) != 1

    two.run(main)


def test_a_child_process_trusts_no_copy_and_listens_itself(two: Two) -> None:
    """By hand, as no tracer follows a fork: what the child is told of it. Its parent goes on listening for itself."""

    async def main() -> None:
        assert await two.load(two.here) == await two.load(two.there) == 1
        two.store.inner.entries.clear()
        assert await two.there.get("k") == 1
        parents = asyncio.all_tasks() - {asyncio.current_task()}
        two.there._rules.guard.forked()
        two.here._rules.guard.forked()
        assert two.there.health()["backplane"] == {"listening": False, "untold": 0}
        assert await two.there.get("k") is None
        await pass_time(0.01)
        assert two.there.health()["backplane"] == {"listening": True, "untold": 0}
        for task in parents:
            task.cancel()
        await pass_time(0)

    two.run(main)


def test_what_the_store_brings_back_is_refused_there_as_well(two: Two) -> None:
    """Who heard of the invalidation has a fence: a store that comes back with the old entry changes nothing."""

    async def main() -> None:
        assert await two.load(two.here) == await two.load(two.there) == 1
        await pass_time(0.01)
        entries = dict(two.store.inner.entries)
        await two.here.invalidate("k")
        await pass_time(0.01)
        two.store.inner.entries.update(entries)
        assert await two.there.get("k") is None

    two.run(main)


def test_a_value_that_is_set_here_replaces_the_copy_there(two: Two) -> None:
    async def main() -> None:
        assert await two.load(two.here) == await two.load(two.there) == 1
        await pass_time(0.01)
        assert await two.here.set("k", "new")
        await pass_time(0.01)
        assert await two.there.get("k") == "new"

    two.run(main)


def test_a_subscription_that_is_lost_and_made_again_trusts_no_copy_of_before(two: Two) -> None:
    async def main() -> None:
        assert await two.load(two.here) == await two.load(two.there) == 1
        await pass_time(0.01)
        assert two.there.health()["backplane"] == {"listening": True, "untold": 0}
        two.hub.down = True
        two.hub.cut()
        await pass_time(0.01)
        assert two.there.health()["backplane"] == {"listening": False, "untold": 0}
        await two.here.invalidate("k")
        assert await two.there.get("k") is None  # the copy of before is not trusted any more
        two.hub.down = False
        await pass_time(1.0)
        assert two.there.health()["backplane"] == {"listening": True, "untold": 0}
        changes = [event.listening for event in two.told if isinstance(event, BackplaneChanged)]
        assert changes == [True, False, True]

    two.run(main)


def test_what_could_not_be_told_is_told_later(two: Two) -> None:
    async def main() -> None:
        assert await two.load(two.here) == await two.load(two.there) == 1
        await pass_time(0.01)
        two.hub.silent = True
        await two.here.invalidate("k")
        await pass_time(0.3)
        assert two.here.stats()["backplane_errors"] == 1
        assert await two.there.get("k") == 1  # within the honest bound: its copy
        two.hub.silent = False
        await pass_time(1.0)
        assert await two.there.get("k") is None

    two.run(main)


def test_peers_are_told_while_a_silent_store_is_asked_for_what_it_owes(two: Two) -> None:
    """It takes its whole timeout for each: who hears of an invalidation waits for one of these, not for all (seed 6880
    of the simulation)."""

    async def main() -> None:
        assert await two.load(two.here) == await two.load(two.there) == 1
        two.plan.during(Fault(FaultKind.HANG), "delete")
        await asyncio.gather(*(two.here.invalidate(key) for key in "abc"))
        await pass_time(0.03)  # now the first of them is asked for again
        invalidating = asyncio.ensure_future(two.here.invalidate("k"))
        await pass_time(0.25)
        assert await two.there.get("k") is None
        await invalidating

    two.run(main)


def test_a_copy_that_stands_in_is_not_lost_with_the_subscription(two: Two) -> None:
    async def main() -> None:
        assert await two.load(two.there) == 1
        two.plan.during(Fault(FaultKind.RAISE))
        assert await two.there.get("k") == 1
        two.hub.cut()
        await pass_time(0.01)

        async def fails(_: str) -> int:
            raise OSError("origin down")

        found = await two.there.lookup("k", fails)
        assert (found.value, found.stale) == (1, True)

    two.run(main)


@pytest.mark.parametrize("way", ["read", "load"])
def test_what_was_being_read_when_messages_were_lost_is_not_kept_as_fresh(two: Two, way: str) -> None:
    """Its invalidation may be among what was lost; it is the answer, and the next who asks asks the store."""

    async def main() -> None:
        if way == "read":
            assert await two.load(two.here) == 1
        two.plan.during(Fault.slow(0.1), "get")
        asking = asyncio.create_task(two.load(two.there, "k"))
        await pass_time(0.15 if way == "load" else 0.05)
        two.hub.cut()
        assert await asking == 1
        two.plan.calm()
        two.store.inner.entries.clear()
        assert await two.there.get("k") is None

    async def slow(_: str) -> int:
        return await pass_time(0.1, 1)

    if way == "load":
        two.load = lambda cache, key="k": cache.get_or_load(key, slow)  # type: ignore[method-assign]
    two.run(main)


def test_a_replay_is_told_again(two: Two) -> None:
    """A process that began to listen after the message, and read the store before the replay, hears of it then."""

    async def main() -> None:
        assert await two.load(two.here) == 1
        await pass_time(0.01)
        two.plan.during(Fault(FaultKind.RAISE), "delete")
        await two.here.invalidate("k")
        third = two.another()
        await third.get("the first call")
        await pass_time(0.01)
        assert await third.get("k") == 1
        two.plan.calm()
        await pass_time(2.0)
        assert await third.get("k") is None
        await third.aclose()

    two.run(main)


def test_that_there_is_none_is_forgotten_with_what_may_have_been_missed(two: Two) -> None:
    async def main() -> None:
        async def none(key: str) -> Any:
            await pass_time(0.1)
            raise NotFound(key)

        with pytest.raises(NotFound):
            await two.there.get_or_load("k", none)
        assert (await two.there.lookup("k")).source is Source.NEGATIVE
        two.hub.cut()
        await pass_time(1.0)
        assert (await two.there.lookup("k")).source is Source.NONE
        asking = asyncio.create_task(two.there.get_or_load("k", none))
        await pass_time(0.05)
        two.hub.cut()  # while it is being asked for
        with pytest.raises(NotFound):
            await asking
        assert (await two.there.lookup("k")).source is Source.NONE

    two.run(main)


def test_long_names_are_told_in_several_messages_and_unknown_ones_are_passed_over(two: Two) -> None:
    async def main() -> None:
        keys = [f"{n}{'k' * 9_000}" for n in range(10)]
        for key in keys:
            await two.load(two.there, key)
        await asyncio.gather(*(two.here.invalidate(key) for key in keys))
        await pass_time(0.1)
        assert len(two.hub.sent) > 2
        assert max(map(len, two.hub.sent)) < 40_000
        assert [await two.there.get(key) for key in keys] == [None] * 10
        two.there._rules.local.heard(["?of another kind"])

    two.run(main)


def test_closed_before_it_ever_listened(two: Two) -> None:
    async def main() -> None:
        await two.another().aclose()

    two.run(main)


def test_own_messages_change_nothing(two: Two) -> None:
    async def main() -> None:
        await two.here.invalidate("k")
        assert await two.load(two.here) == 1
        await pass_time(0.01)
        assert await two.here.get("k") == 1
        assert "backplane_messages" not in two.here.stats()

    two.run(main)


@pytest.mark.parametrize("message", [b"", b"rc1", b"other", b"rc1" + bytes(8) + b"\0\0\0\x09short"])
def test_a_message_that_is_not_whole_is_as_good_as_lost(two: Two, message: bytes) -> None:
    async def main() -> None:
        assert await two.load(two.there) == 1
        await pass_time(0.01)
        two.plan.during(Fault(FaultKind.RAISE))
        await two.hub.publish("resilient_cache:laws", message)
        assert await two.there.get("k") is None

    two.run(main)


def test_a_storm_is_told_in_few_messages(two: Two) -> None:
    async def main() -> None:
        assert await two.load(two.there, "k7") == 1
        await pass_time(0.01)
        await asyncio.gather(*(two.here.invalidate(f"k{n % 1000}") for n in range(5_000)))
        await pass_time(0.1)
        assert len(two.hub.sent) < 100
        assert await two.there.get("k7") is None

    two.run(main)


def test_more_than_can_be_told_is_told_as_everything(two: Two) -> None:
    async def main() -> None:
        assert await two.load(two.there, "other") == 1
        await pass_time(0.01)
        two.hub.silent = True
        for n in range(10_001):
            two.here._rules.local.invalidate(f"k{n}")
        two.hub.silent = False
        two.plan.during(Fault(FaultKind.RAISE), "get")
        await two.here.get("x")
        await pass_time(2.0)
        assert await two.there.get("other") is None

    two.run(main)
