"""Calls for many keys beside those for one: what they hand on to each other is what a call for one key would."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from resilient_cache import Entry, NotFound, OnOverload, OriginOverloaded
from resilient_cache.testing import Fault, FaultKind

from ..virtual import pass_time
from .stage import POLICY, Stage
from .tasks import Room

Make = Callable[..., Stage]
PATIENT = replace(POLICY, load_timeout=0.2)


@pytest.mark.parametrize("many", [False, True])
def test_what_a_load_behind_gives_is_screened_as_its_caller_would_have_it(stage: Make, many: bool) -> None:
    """L13: what is refused replaces nothing, here or in the store; the good one goes on standing in."""
    there = stage(memory=10, policy=replace(POLICY, refresh_behind=True, accept=lambda _, value: value != "bad"))

    def load(value: str) -> Any:
        if not many:
            return there.load("k", value)
        return there.get_or_load_many(["k"], _many(there, lambda keys: dict.fromkeys(keys, value)))["k"]

    assert load("good") == "good"
    for _ in range(3):
        there.clock.advance(70)
        assert load("bad") == "good"
        there.run_behind()
        assert not any(b"bad" in data for data, _ in there.stored.values())


def _many(there: Stage, give: Callable[[list[str]], Any]) -> Any:
    async def awaited(keys: list[str]) -> Any:
        return give(keys)

    return give if there.colour == "sync" else awaited


def test_keys_that_take_their_time_are_compared_with_the_time_by_then(stage: Make) -> None:
    """L12: while the second was waited for, its entry has come to its end."""
    there = stage(memory=10, policy=replace(POLICY, stale_for=0))

    def keys() -> Iterator[str]:
        yield "a"
        there.clock.advance(70)
        yield "b"

    there.set_many({"a": 1, "b": 2})
    assert there.get_many(keys()) == {}


@pytest.mark.parametrize(
    ("fault", "keys", "epoch_ttl"),
    [
        (Fault(FaultKind.HANG), 2_500, None),  # until the circuit opens
        (Fault.slow(0.24), 2_500, None),
        (Fault.slow(0.2), 1, 5.0),  # the mark is asked for as well
    ],
)
def test_patience_with_the_load_begins_when_the_store_has_been_asked(
    fault: Fault, keys: int, epoch_ttl: float | None
) -> None:
    """L1, L5: a store that is slow costs its own timeouts, and no error of a healthy origin's."""
    room = Room(policy=replace(PATIENT, epoch_ttl=epoch_ttl))

    async def main() -> None:
        async def load_many(missing: list[str]) -> dict[str, int]:
            return dict.fromkeys(missing, await pass_time(0.15, 1))

        room.plan.during(fault)
        asked = [str(number) for number in range(keys)]
        call = asyncio.ensure_future(room.cache.get_or_load_many(asked, load_many))
        await pass_time(0.01)
        assert await room.load("0") == 1, "who comes later is as patient"
        assert len(await call) == keys

    room.run(main)


def test_a_load_of_many_that_takes_too_long_is_not_waited_for_because_the_store_was_slow_before() -> None:
    room = Room(policy=PATIENT)

    async def main() -> None:
        async def load_many(missing: list[str]) -> dict[str, int]:
            return dict.fromkeys(missing, await pass_time(5.0, 1))

        room.plan.during(Fault.slow(0.24))
        began = room.clock.monotonic()
        with pytest.raises(TimeoutError, match="load_timeout"):
            await room.cache.get_or_load_many([str(number) for number in range(2_500)], load_many)
        assert 0.68 <= room.clock.monotonic() - began <= 0.69, "two rounds of at most four calls, and load_timeout"

    room.run(main)


def test_that_there_is_none_is_told_before_the_others_are_written() -> None:
    """L5: who waits for a key that is not there waits for no mark of another's tag, nor for its write."""
    room = Room(memory=0, policy=replace(POLICY, epoch_ttl=5.0))

    async def main() -> None:
        async def load_many(_: list[str]) -> dict[str, Any]:
            room.plan.during(Fault.slow(0.2))
            return {"there": await pass_time(0.1, Entry(1, tags=("t",)))}

        began = room.clock.monotonic()
        many = asyncio.ensure_future(room.cache.get_or_load_many(["gone", "there"], load_many))
        await pass_time(0.05)
        with pytest.raises(NotFound):
            await room.load("gone")
        assert room.clock.monotonic() - began == pytest.approx(0.1)
        assert await many == {"there": 1}
        assert room.clock.monotonic() - began > 0.2

    room.run(main)


def test_who_inherits_the_load_of_many_is_as_patient_as_with_one() -> None:
    """The heir asks the store once, so it does not count as being asked for ever."""
    room = Room(memory=0, policy=PATIENT)

    async def main() -> None:
        async def load_many(missing: list[str]) -> dict[str, int]:
            return dict.fromkeys(missing, 0)

        room.plan.during(Fault.slow(0.2))
        many = asyncio.ensure_future(room.cache.get_or_load_many(["k"], load_many))
        await pass_time(0.01)
        heir = asyncio.ensure_future(room.load("k", 5.0))
        await pass_time(0.01)
        for task in asyncio.all_tasks() - {asyncio.current_task(), heir}:
            task.cancel()  # the call, and the load that runs behind it
        began = room.clock.monotonic()
        with pytest.raises(TimeoutError, match="load_timeout"):
            await heir
        assert room.clock.monotonic() - began <= 0.45
        await asyncio.wait([many])

    room.run(main)


def test_who_inherits_a_refresh_asks_no_store() -> None:
    """(q): whoever leads it loads; who was aboard asked for what is newer than what the store has."""
    room = Room(memory=0)

    async def main() -> None:
        await room.cache.set("k", "old")

        async def never(_: str) -> Any:
            return await pass_time(5.0)

        async def load_many(missing: list[str]) -> dict[str, str]:
            return dict.fromkeys(missing, await pass_time(0.1, "new"))

        refresh = asyncio.ensure_future(room.cache.refresh("k", never))
        await pass_time(0.1)
        heir = asyncio.ensure_future(room.cache.get_or_load_many(["k"], load_many))
        await pass_time(0.1)
        refresh.cancel()
        assert await heir == {"k": "new"}
        assert await room.cache.get("k") == "new", "it is written, too"

    room.run(main)


def test_a_key_that_is_shed_leaves_the_others_their_load() -> None:
    """L15: `on_overload` decides for each key; the call fails when nothing was loaded at all."""

    def decide(key: str) -> OnOverload:
        return OnOverload.RAISE if key.startswith("low") else OnOverload.PROCEED

    room = Room(policy=replace(POLICY, max_loads=1, load_wait=0.5, on_overload=decide))

    async def main() -> None:
        async def load_many(missing: list[str]) -> dict[str, str]:
            return {key: key.upper() for key in missing}

        busy = asyncio.ensure_future(room.load("other", 5.0))
        await pass_time(0.1)
        loaded = await room.cache.get_or_load_many(["low", "a", "b"], load_many)
        assert loaded == {"a": "A", "b": "B"}
        assert [type(error) for error in loaded.errors.values()] == [OriginOverloaded]
        with pytest.raises(OriginOverloaded):
            await room.cache.get_or_load_many(["low", "lower"], load_many)
        await busy

    room.run(main)


def test_time_in_the_queue_is_that_of_every_key() -> None:
    """(ae): whoever inherits one of them waits out the rest of it, and who has to ask for one again does as well."""
    room = Room(memory=0, policy=replace(POLICY, max_loads=1, load_wait=1.0, on_overload=OnOverload.RAISE))

    async def main() -> None:
        async def load_many(missing: list[str]) -> dict[str, int]:
            return dict.fromkeys(missing, 1)

        async def shed_after(call: Any) -> float:
            began = room.clock.monotonic()
            with pytest.raises(OriginOverloaded):
                await call
            return room.clock.monotonic() - began

        busy = asyncio.ensure_future(room.load("other", 9.0))
        await pass_time(0.1)
        call = asyncio.ensure_future(room.cache.get_or_load_many(["a", "b"], load_many))
        await pass_time(0.0625)
        heirs = [asyncio.ensure_future(shed_after(room.load(key))) for key in "ab"]
        await pass_time(0.875)
        call.cancel()
        assert [round(waited, 2) for waited in await asyncio.gather(*heirs)] == [0.94, 0.94]
        call = asyncio.ensure_future(shed_after(room.cache.get_or_load_many(["p", "q"], load_many)))
        await pass_time(0.875)
        await room.cache.invalidate("q")
        assert round(await call, 2) == 1.0
        await busy

    room.run(main)
