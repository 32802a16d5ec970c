"""L5, L16 of a store in shards: what one of them does costs the keys of no other, and circuits do not add up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_cache import AsyncResilientCache, FailureKind, ResilientCache, StoreError
from resilient_cache._partition import MOST_SHARDS
from resilient_cache.events import CircuitChanged, Event
from resilient_cache.testing import ManualClock, run_virtual

from ..virtual import pass_time
from .scenario import BREAKER, TIMEOUT
from .stage import POLICY

KINDS = [FailureKind.CONNECTION, FailureKind.TIMEOUT, FailureKind.UNAVAILABLE, FailureKind.UNKNOWN]


class Shards:
    """A store whose shard is what a key ends with, and some of whose shards fail in everything."""

    def __init__(self, failing: dict[str, FailureKind]) -> None:
        self.failing = failing
        self.held: dict[str, bytes] = {}

    def shard(self, key: str) -> str:
        return key.rpartition("@")[2]

    def step(self, key: str) -> None:
        if self.shard(key) in self.failing:
            raise StoreError(self.failing[self.shard(key)])

    def get(self, key: str, /) -> bytes | None:
        self.step(key)
        return self.held.get(key)

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        self.step(key)
        self.held[key] = value

    def delete(self, key: str, /) -> None:
        self.step(key)
        self.held.pop(key, None)


class AsyncShards:
    """The same with coroutines."""

    def __init__(self, failing: dict[str, FailureKind]) -> None:
        self.plain = Shards(failing)

    def shard(self, key: str) -> str:
        return self.plain.shard(key)

    async def get(self, key: str, /) -> bytes | None:
        return self.plain.get(key)

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        self.plain.set(key, value, ttl)

    async def delete(self, key: str, /) -> None:
        self.plain.delete(key)


class Scene:
    """A cache of either colour over such a store; its methods are awaited, whatever the colour."""

    def __init__(self, colour: str, failing: dict[str, FailureKind]) -> None:
        self.colour = colour
        self.clock = ManualClock()
        self.told: list[Event] = []
        options: dict[str, Any] = {"name": "laws", "policy": POLICY, "breaker": BREAKER, "clock": self.clock}
        options["hooks"] = [self.told.append]
        self.cache: Any = (
            ResilientCache(Shards(failing), spawn=lambda work: work(), **options)
            if colour == "sync"
            else AsyncResilientCache(AsyncShards(failing), **options)
        )

    async def call(self, name: str, *args: Any) -> Any:
        result = getattr(self.cache, name)(*args)
        return await result if isinstance(result, Awaitable) else result

    async def advance(self, seconds: float) -> None:
        if self.colour == "sync":
            self.clock.advance(seconds)
        else:
            await pass_time(seconds)

    def run(self, play: Callable[[], Any]) -> None:
        async def main() -> None:
            await play()
            await self.call("close" if self.colour == "sync" else "aclose")

        run_virtual(main(), self.clock)


@st.composite
def courses(draw: st.DrawFn) -> tuple[dict[str, FailureKind], list[tuple[str, str] | float]]:
    """Some shards that fail, and who is asked for what, with pauses."""
    names = draw(st.lists(st.sampled_from("abcd"), min_size=2, max_size=4, unique=True))
    failing = {name: draw(st.sampled_from(KINDS)) for name in names[: draw(st.integers(1, len(names) - 1))]}
    step = st.tuples(st.sampled_from(["get", "set", "invalidate"]), st.sampled_from(names)) | st.sampled_from(
        [0.125, 1.0, 4.0]
    )
    return failing, draw(st.lists(step, min_size=10, max_size=60))


@pytest.mark.parametrize("colour", ["sync", "async"])
@given(course=courses())
def test_a_failing_shard_is_never_a_miss_on_another(
    colour: str, course: tuple[dict[str, FailureKind], list[tuple[str, str] | float]]
) -> None:
    """L16: a key on a shard that is well is a hit, whatever the others do; only the failing ones' circuits open."""
    failing, steps = course
    scene = Scene(colour, failing)

    async def play() -> None:
        shards = {step[1] for step in steps if isinstance(step, tuple)}
        for shard in shards - set(failing):
            assert await scene.call("set", f"k@{shard}", shard) is True
        for step in steps:
            if not isinstance(step, tuple):
                await scene.advance(step)
                continue
            operation, shard = step
            well = shard not in failing
            match operation:
                case "get":
                    assert await scene.call("get", f"k@{shard}") == (shard if well else None)
                case "set":
                    assert await scene.call("set", f"k@{shard}", shard) is well
                case _:
                    assert (await scene.call("invalidate", f"other@{shard}") == "confirmed") is well
        changed = {event.shard for event in scene.told if isinstance(event, CircuitChanged)}
        assert changed <= set(failing)
        health = scene.cache.health()["circuits"]
        assert set(health["shards"]) == shards
        assert {health[direction]["state"] for direction in ("read", "write")} == {"closed"}

    scene.run(play)


@pytest.mark.parametrize("colour", ["sync", "async"])
@given(
    failing=st.booleans(),
    names=st.lists(st.text(max_size=3) | st.integers(0, 200).map(str), min_size=1, max_size=300),
)
def test_circuits_do_not_add_up(colour: str, failing: bool, names: list[str]) -> None:
    """L18: however many shards an adapter tells of, circuits are kept for so many; every call is answered."""
    names = [name.replace("@", "") for name in names]
    scene = Scene(colour, dict.fromkeys(names, FailureKind.CONNECTION) if failing else {})

    async def play() -> None:
        for name in names:
            assert await scene.call("get", f"k@{name}") is None
        kept = scene.cache.shards
        assert set(kept) <= set(names) - {""}
        assert len(kept) == min(MOST_SHARDS, len(set(names) - {""}))

    scene.run(play)


def test_only_who_waits_for_the_shard_is_let_go() -> None:
    """A shard's opening circuit ends the waiting for its own silent calls at once, and for nobody else's."""
    clock = ManualClock()

    class Silent(AsyncShards):
        async def get(self, key: str, /) -> bytes | None:
            if key.startswith("laws:silent"):
                await pass_time(60)
            return await super().get(key)

    async def main() -> None:
        cache = AsyncResilientCache[str, Any](
            Silent({"a": FailureKind.CONNECTION}), name="laws", policy=POLICY, breaker=BREAKER, clock=clock
        )
        ended: dict[str, float] = {}

        async def wait(key: str) -> None:
            await cache.get(key)
            ended[key] = clock.monotonic() - began

        began = clock.monotonic()
        waiting = [asyncio.create_task(wait(f"silent@{shard}")) for shard in "ab"]
        await pass_time(0)
        for _ in range(3):
            await cache.get("k@a")
        await asyncio.gather(*waiting)
        assert ended == {"silent@a": 0.0, "silent@b": TIMEOUT}
        await cache.aclose()

    run_virtual(main(), clock)
