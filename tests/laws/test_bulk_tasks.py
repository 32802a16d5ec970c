"""L14 for tasks that ask for many keys: loads are shared, nobody waits in a circle, whoever leaves harms nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from resilient_cache import LoadTimeout, MisuseError, NotFound
from resilient_cache.testing import Fault, FaultKind

from ..virtual import pass_time
from .many import OriginDown
from .tasks import POLICY, Cancelling, Room


class Crowd(Room):
    """An origin that is asked for many keys, and remembers for which."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.asked: list[list[str]] = []

    def many(self, seconds: float = 1.0, give: Callable[[str], Any] | None = None) -> Any:
        """A loader of many that takes `seconds`."""

        async def load_many(keys: list[str]) -> Any:
            self.asked.append(keys)
            await pass_time(seconds)
            return {key: key.upper() if give is None else give(key) for key in keys}

        return load_many

    def ask(self, keys: str, *args: Any, **options: Any) -> asyncio.Task[Any]:
        """`get_or_load_many` of keys of one letter, in a task."""
        return asyncio.ensure_future(self.cache.get_or_load_many(list(keys), *args, **options))


def values(keys: str) -> dict[str, str]:
    return {key: key.upper() for key in keys}


def test_calls_that_overlap_share_their_loads_in_whatever_order() -> None:
    room = Crowd()

    async def main() -> None:
        asks = [room.ask("abc", room.many()), room.ask("dcb", room.many()), room.ask("bda", room.many())]
        single = asyncio.ensure_future(room.load("c"))
        assert await asyncio.gather(*asks) == [values("abc"), values("dcb"), values("bda")]
        assert await single == "C"

    room.run(main)
    assert room.asked == [["a", "b", "c"], ["d"]]
    assert room.requests() == 10


def test_a_key_that_one_call_loads_is_waited_for_by_the_other() -> None:
    room = Crowd()

    async def main() -> None:
        single = asyncio.ensure_future(room.load("b", 2.0))
        await pass_time(0.1)
        began = room.clock.monotonic()
        assert await room.ask("abc", room.many()) == {"a": "A", "b": 1, "c": "C"}
        assert room.clock.monotonic() - began == pytest.approx(1.9)
        assert await single == 1

    room.run(main)
    assert room.asked == [["a", "c"]]


def test_an_error_that_is_shared_is_told_as_its_owner_was() -> None:
    """Of a load of many, raised; of one key, that key's; a key that there is none of, absent."""
    room = Crowd()

    async def fail(keys: list[str]) -> Any:
        await pass_time(1)
        raise OriginDown("all")

    async def main() -> None:
        errors = await asyncio.gather(room.ask("ab", fail), room.ask("bc", room.many()), return_exceptions=True)
        assert errors[0] is errors[1]
        assert isinstance(errors[0], OriginDown)
        alone = [
            asyncio.ensure_future(room.load(key, 1.0, error))
            for key, error in (("d", OriginDown("d")), ("e", NotFound("e")))
        ]
        await pass_time(0.1)
        loaded = await room.ask("def", room.many())
        assert (dict(loaded), list(loaded.errors)) == ({"f": "F"}, ["d"])
        ended = await asyncio.gather(*alone, return_exceptions=True)
        assert loaded.errors["d"] is ended[0]
        own = OriginDown("g")
        both = [
            room.ask("gh", room.many(give=lambda key: own if key == "g" else key)),
            asyncio.ensure_future(room.load("g")),
        ]
        ends: Any = await asyncio.gather(*both, return_exceptions=True)
        loaded, error = ends
        assert (dict(loaded), loaded.errors, error) == ({"h": "h"}, {"g": own}, own)

    room.run(main)


def test_two_that_lead_what_the_other_waits_for_do_not_wait_in_a_circle() -> None:
    """Each lands what it leads before it waits."""
    room = Crowd()

    async def main() -> None:
        first = room.ask("ab", room.many(1.0))
        second = room.ask("bca", room.many(3.0))
        third = room.ask("dcb", room.many(2.0))
        ends: Any = await asyncio.wait_for(asyncio.gather(first, second, third), 5)
        assert ends == [values("ab"), values("bca"), values("dcb")]

    room.run(main)
    assert room.asked == [["a", "b"], ["c"], ["d"]]


def test_what_another_has_left_is_led_at_once_not_when_its_turn_comes() -> None:
    """A caller that waits for two flights leads the second as soon as that is left to it."""
    room = Crowd()

    async def main() -> None:
        slow = asyncio.ensure_future(room.load("a", 4.0))
        leaver = asyncio.ensure_future(room.load("b", 4.0))
        await pass_time(0.5)
        waiting = room.ask("ab", room.many(1.0))
        behind_it = asyncio.ensure_future(room.load("b", 4.0))
        await pass_time(0.5)
        leaver.cancel()
        began = room.clock.monotonic()
        assert await behind_it == "B"
        assert room.clock.monotonic() - began == pytest.approx(1.0)
        assert await waiting == {"a": 1, "b": "B"}
        assert await slow == 1

    room.run(main)
    assert room.asked == [["b"]]


@pytest.mark.parametrize("others", [0, 1, 3])
def test_who_is_busy_with_its_own_load_is_made_nobodys_heir(others: int) -> None:
    """L14: those who wait with it would wait until it is done, or until the flight counts as stuck."""
    room = Crowd()

    async def main() -> None:
        leaver = asyncio.ensure_future(room.load("b", 4.0))
        await pass_time(0.1)
        busy = [asyncio.ensure_future(room.cache.get_or_load_many(list(keys), room.many(8.0))) for keys in ("ab", "cb")]
        await pass_time(0.1)
        waiting = [asyncio.ensure_future(room.load("b", 0.5)) for _ in range(others)]
        await pass_time(0.1)
        leaver.cancel()
        began = room.clock.monotonic()
        await asyncio.gather(*waiting)
        assert room.clock.monotonic() - began == (0.5 if others else 0.0)
        assert room.started == 1 + bool(others)
        for one, call in zip("ac", busy, strict=True):
            found = await call
            assert list(found) == [one, "b"]
        assert room.most["b"] == 1

    room.run(main)


def test_a_loader_that_asks_for_what_its_caller_waits_for_is_its_heir() -> None:
    room = Crowd()

    async def main() -> None:
        async def load_many(keys: list[str]) -> dict[str, Any]:
            return dict.fromkeys(keys, await room.load("b", 0.5))

        leaver = asyncio.ensure_future(room.load("b", 4.0))
        await pass_time(0.1)
        call = asyncio.ensure_future(room.cache.get_or_load_many(["a", "b"], load_many))
        await pass_time(0.1)
        leaver.cancel()
        began = room.clock.monotonic()
        assert await call == {"a": 2, "b": 2}
        assert room.clock.monotonic() - began == 0.5

    room.run(main)


def test_a_loader_may_not_ask_for_what_it_loads() -> None:
    """Directly, or by way of another call's load; whichever of its keys that load waits for."""
    room = Crowd()

    async def direct(keys: list[str]) -> Any:
        return {key: await room.cache.get_or_load("b", room.many()) for key in keys}

    async def main() -> None:
        with pytest.raises(MisuseError, match="for the key it loads"):
            await room.ask("abc", direct)
        met, began = asyncio.Event(), room.clock.monotonic()

        async def first(keys: list[str]) -> Any:
            met.set()
            await pass_time(1)
            return await room.ask("d", room.many())

        async def second(keys: list[str]) -> Any:
            await met.wait()
            await pass_time(2)
            return await room.cache.get_or_load_many(["a"], room.many())

        other = room.ask("d", second)
        await pass_time(0.1)
        results = await asyncio.gather(room.ask("abc", first), other, return_exceptions=True)
        assert any(isinstance(result, MisuseError) for result in results)
        assert room.clock.monotonic() - began < 9  # nothing was found to be stuck

    room.run(main)


def test_a_loader_may_ask_for_other_keys() -> None:
    room = Crowd()

    async def nested(keys: list[str]) -> Any:
        inner = await room.cache.get_or_load_many(["x", "y"], room.many())
        return {key: key + inner["x"] for key in keys}

    async def main() -> None:
        assert await room.ask("ab", nested) == {"a": "aX", "b": "bX"}

    room.run(main)


def test_a_stuck_load_of_many_is_replaced_by_one() -> None:
    room = Crowd()

    async def main() -> None:
        stuck = room.ask("ab", room.many(30.0))
        await pass_time(1)
        follower = room.ask("ab", room.many(1.0))
        await pass_time(9.5)
        late = room.ask("ba", room.many(1.0))
        assert await follower == values("ab")
        assert await late == values("ba")
        assert room.asked == [["a", "b"]] * 2
        stuck.cancel()

    room.run(main)


def test_of_two_loads_only_the_stuck_one_is_given_up() -> None:
    room = Crowd()

    async def main() -> None:
        stuck = room.ask("a", room.many(30.0))
        await pass_time(5)
        slow = room.ask("b", room.many(8.0))
        await pass_time(1)
        assert await room.ask("ab", room.many(1.0)) == values("ab")
        assert await slow == values("b")
        stuck.cancel()

    room.run(main)
    assert room.asked == [["a"], ["b"], ["a"]]


def test_a_caller_that_is_cancelled_hands_over_all_it_leads() -> None:
    room = Crowd()

    async def main() -> None:
        leader = room.ask("abc", room.many())
        await pass_time(0.5)
        follower, single = room.ask("cda", room.many()), asyncio.ensure_future(room.load("b"))
        await pass_time(0.1)
        leader.cancel()
        assert await follower == values("cda")
        assert await single == 1
        with pytest.raises(asyncio.CancelledError):
            await leader

    room.run(main)
    assert [sorted(keys) for keys in room.asked] == [["a", "b", "c"], ["d"], ["a", "c"]]


@pytest.mark.parametrize("fault", [None, Fault.slow(0.1), Fault(FaultKind.HANG)])
@pytest.mark.parametrize("memory", [0, 10])
def test_cancelled_at_any_moment_it_leaves_nothing_behind(memory: int, fault: Fault | None) -> None:
    """L2: no flight, no permit, no count; and whoever waited is served."""
    at, points = 1, 1
    while points >= at:
        room = Crowd(memory=memory, policy=replace(POLICY, epoch_ttl=5.0))
        if fault is not None:
            room.plan.during(fault)

        async def main(room: Crowd = room, at: int = at) -> int:
            cancelling = Cancelling(room.cache.get_or_load_many([*"abc"], room.many()), at)
            task = asyncio.ensure_future(cancelling.run())
            await pass_time(0)
            other = room.ask("bd", room.many())
            ends: Any = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(ends[0], asyncio.CancelledError) or cancelling.points < at
            assert await other == values("bd")
            return cancelling.points

        at, points = at + 1, room.run(main) + 1
    assert at > 2


@pytest.mark.parametrize("name", ["get_many", "set_many", "invalidate_many"])
def test_the_others_may_be_cancelled_at_any_moment_as_well(name: str) -> None:
    """L2."""
    at, points = 1, 1
    while points >= at:
        room = Crowd(memory=0)
        room.plan.during(Fault.slow(0.1))

        async def main(room: Crowd = room, at: int = at) -> int:
            keys: Any = dict.fromkeys("abc", 1) if name == "set_many" else [*"abc"]
            cancelling = Cancelling(getattr(room.cache, name)(keys), at)
            ends: Any = await asyncio.gather(asyncio.ensure_future(cancelling.run()), return_exceptions=True)
            assert isinstance(ends[0], asyncio.CancelledError) or cancelling.points < at
            return cancelling.points

        at, points = at + 1, room.run(main) + 1
    assert at > 2


@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_who_has_left_is_handed_nothing(seconds: float) -> None:
    """Neither while it leads a load of its own, nor when it only waits."""
    room = Crowd()

    async def main() -> None:
        leader = asyncio.ensure_future(room.load("a", 6.0))
        await pass_time(0.1)
        gone = room.ask("ab", room.many(1.0))
        await pass_time(0.1)
        other = asyncio.ensure_future(room.load("a", 1.0))
        await pass_time(seconds)
        gone.cancel()
        await pass_time(0.1)
        leader.cancel()
        began = room.clock.monotonic()
        assert await other == 2
        assert room.clock.monotonic() - began == pytest.approx(1.0)

    room.run(main)


def test_a_load_that_was_spawned_elsewhere_and_is_cancelled_is_handed_over() -> None:
    tasks: list[asyncio.Task[Any]] = []
    spawn = lambda work: tasks.append(asyncio.ensure_future(work))  # noqa: E731
    room = Crowd(policy=replace(POLICY, load_timeout=9.0), spawn=spawn)

    async def main() -> None:
        ask, began = room.ask("ab", room.many(1.0)), room.clock.monotonic()
        await pass_time(0.5)
        tasks[0].cancel()
        assert await ask == values("ab")
        assert room.clock.monotonic() - began == pytest.approx(1.5)

    room.run(main)


def test_a_load_of_many_that_takes_too_long_goes_on_behind() -> None:
    """Its callers are told after `load_timeout`; its values are kept; stale ones stand in."""
    room = Crowd(policy=replace(POLICY, load_timeout=0.5, epoch_ttl=None))

    async def main() -> None:
        began = room.clock.monotonic()
        ended = await asyncio.gather(room.ask("ab", room.many(2)), room.ask("b", room.many(2)), return_exceptions=True)
        assert [type(error) for error in ended] == [LoadTimeout, LoadTimeout]
        assert room.clock.monotonic() - began == pytest.approx(0.75)
        await pass_time(2)
        assert await room.cache.get_many(["a", "b"]) == values("ab")
        await pass_time(60)
        assert await room.ask("ab", room.many(2)) == values("ab")
        await pass_time(2)
        assert await room.ask("cd", room.many(0.1)) == values("cd")

    room.run(main)
    assert room.asked == [["a", "b"], ["a", "b"], ["c", "d"]]


def test_where_nothing_runs_behind_it_is_waited_for() -> None:
    def refuse(_: Any) -> None:
        raise RuntimeError("no")

    room = Crowd(policy=replace(POLICY, load_timeout=0.5), spawn=refuse)

    async def main() -> None:
        assert await room.ask("ab", room.many(2)) == values("ab")

    room.run(main)


def test_a_load_behind_that_is_struck_fails_its_callers_and_one_that_is_cancelled_is_handed_over() -> None:
    """What is no Exception ends the work behind, not the loop; a task behind that is cancelled hands over."""
    room = Crowd(memory=0, policy=replace(POLICY, load_timeout=5.0))

    class Struck(BaseException):
        pass

    async def strike(keys: list[str]) -> Any:
        assert keys == ["a", "b"]
        await pass_time(1)
        raise Struck

    async def main() -> None:
        await room.cache.set("c", "C")  # has landed when the others are struck
        with pytest.raises(Struck):
            await room.ask("abc", strike)
        ask = room.ask("ab", room.many(1))
        await pass_time(0.5)
        (task,) = [task for task in room.cache._behind._tasks if not task.done()]
        task.cancel()
        assert await ask == values("ab")

    room.run(main)
    assert len(room.asked) == 2


def test_a_store_that_is_probed_answers_behind() -> None:
    """L16: the chunk that becomes the probe is a miss for its caller, at once."""
    room = Crowd(memory=0)

    async def main() -> None:
        await room.cache.set_many(values("ab"))
        room.plan.during(Fault(FaultKind.RAISE))
        for _ in range(3):
            await room.cache.get_many(["a", "b"])
        room.plan.calm()
        for _ in range(2):  # two probes
            await pass_time(4)
            assert await room.cache.get_many(["a", "b"]) == {}
        await pass_time(0.1)
        assert await room.cache.get_many(["a", "b"]) == values("ab")

    room.run(main)
