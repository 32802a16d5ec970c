"""L15, L17 for tasks, in virtual time: who queues, in what order, and what a queue is left with."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_cache import LoadTimeout, OriginOverloaded
from resilient_cache.events import Overloaded
from resilient_cache.outcome import OverloadVerdict
from resilient_cache.testing import Fault, FaultKind

from ..virtual import pass_time
from .tasks import POLICY, Cancelling, Room

RAISE = replace(POLICY, max_loads=1, on_overload="raise")


class Origin(Room):
    """A room that notes which keys were loaded, when, and how many loads there were at most."""

    def __init__(self, policy: Any = RAISE, **options: Any) -> None:
        self.told: list[Overloaded] = []
        super().__init__(policy=policy, hooks=[self.note], **options)
        self.order: list[str] = []
        self.began: dict[str, float] = {}
        self.running = self.peak = 0

    def note(self, event: Any) -> None:
        if isinstance(event, Overloaded):
            self.told.append(event)

    async def ask(self, key: str, seconds: float = 1.0, **options: Any) -> Any:
        """`get_or_load`; gives what the loader does: when it began."""

        async def loader(_: str) -> float:
            self.order.append(key)
            began = self.began[key] = self.clock.monotonic()
            self.running += 1
            self.peak = max(self.peak, self.running)
            try:
                await pass_time(seconds)
            finally:
                self.running -= 1
            return began

        return await self.cache.get_or_load(key, loader, **options)

    def begin(self, key: str, seconds: float = 1.0, **options: Any) -> asyncio.Task[Any]:
        """The same, in a task."""
        return asyncio.get_running_loop().create_task(self.ask(key, seconds, **options))

    @property
    def state(self) -> Any:
        return self.cache.health()["origin"]


def test_loads_queue_first_come_first_served() -> None:
    origin = Origin()

    async def main() -> None:
        tasks = [origin.begin(key, 0.25) for key in "abcd"]
        await pass_time(0.125)
        assert (origin.state["loads"], origin.state["queued"], origin.state["limit"]) == (1, 3, 1)
        await asyncio.gather(*tasks)
        assert origin.order == list("abcd")
        assert origin.peak == 1
        assert not origin.told
        assert origin.cache.stats()["loads_queued"] == 3

    origin.run(main)


def test_keys_with_nothing_to_give_go_first() -> None:
    """L15: they have only the origin; the others have something stale."""
    origin = Origin()

    async def main() -> None:
        await origin.ask("stale", 0.0)
        await pass_time(61)
        origin.order.clear()
        tasks = [origin.begin(key, 0.25) for key in ("a", "stale", "b", "c")]
        await asyncio.gather(*tasks)
        assert origin.order == ["a", "b", "c", "stale"]

    origin.run(main)


def test_a_refresh_has_nothing_to_give() -> None:
    origin = Origin()

    async def loader(key: str) -> str:
        origin.order.append(key)
        return key

    async def main() -> None:
        for key in ("stale", "refreshed"):
            await origin.ask(key, 0.0)
        await pass_time(61)
        origin.order.clear()
        tasks = [origin.begin("a", 0.25), origin.begin("stale", 0.25)]
        await pass_time(0.125)
        tasks.append(asyncio.create_task(origin.cache.refresh("refreshed", loader)))
        await asyncio.gather(*tasks)
        assert origin.order == ["a", "refreshed", "stale"]

    origin.run(main)


@pytest.mark.parametrize(("wait", "age", "waits"), [(1.0, 10.0, 1.0), (8.0, 4.0, 2.0)])
def test_nobody_queues_longer_than_load_wait(wait: float, age: float, waits: float) -> None:
    """Nor than half of `flight_age`, or who queues would count as stuck. The event says how long it was."""
    origin = Origin(replace(RAISE, load_wait=wait, flight_age=age))

    async def main() -> None:
        first = origin.begin("a", 3.0)
        await pass_time(0.5)
        since = origin.clock.monotonic()
        with pytest.raises(OriginOverloaded):
            await origin.ask("b")
        assert origin.clock.monotonic() == since + waits
        assert [event.waited for event in origin.told] == [waits]
        await first
        assert origin.order == ["a"]

    origin.run(main)


def test_who_is_stale_waits_as_long_and_then_is_served() -> None:
    """L12, L15: and those who share its flight are too."""
    origin = Origin()

    async def main() -> None:
        value = await origin.ask("k", 0.0)
        await pass_time(61)
        first = origin.begin("a", 3.0)
        await pass_time(0.0)
        assert await asyncio.gather(*(origin.ask("k") for _ in range(5))) == [value] * 5
        assert [event.verdict for event in origin.told] == [OverloadVerdict.STALE]
        await first
        assert origin.cache.stats()["stale"] == 5

    origin.run(main)


@pytest.mark.parametrize("on_overload", ["proceed", "raise"])
def test_one_that_may_not_be_stale_asks_again(on_overload: str) -> None:
    """It shares a flight whose leader made do with something stale, and that is no error of its own."""
    origin = Origin(replace(RAISE, on_overload=on_overload))
    strict = replace(RAISE, on_overload=on_overload, stale_for=0)

    async def main() -> None:
        value = await origin.ask("k", 0.0)
        await pass_time(61)
        first = origin.begin("a", 2.5)
        await pass_time(0.0)
        leader, follower = origin.begin("k"), origin.begin("k", policy=strict)
        assert await leader == value
        if on_overload == "raise":
            with pytest.raises(OriginOverloaded):
                await follower
            assert [event.verdict for event in origin.told] == ["stale", "raise"]
        else:
            assert await follower == value + 61 + 2.0
            assert [event.verdict for event in origin.told] == ["stale", "proceed"]
        await first

    origin.run(main)


def test_a_permit_is_held_until_the_work_ends() -> None:
    """L15: not until the caller gives up, who has waited for the queue and the load together."""
    origin = Origin(replace(RAISE, load_timeout=0.5))

    async def main() -> None:
        with pytest.raises(LoadTimeout):
            await origin.ask("a", 5.0)
        assert (origin.running, origin.state["loads"]) == (1, 1)
        since = origin.clock.monotonic()
        with pytest.raises(LoadTimeout):  # it is 0.75 s before `load_wait` is over
            await origin.ask("b")
        assert origin.clock.monotonic() - since == 0.75
        await pass_time(1.0)
        assert [event.verdict for event in origin.told] == ["raise"]
        await pass_time(5.0)
        assert await origin.ask("c", 0.25)
        assert origin.peak == 1

    origin.run(main)


def test_an_invalidation_while_it_queues_is_before_the_load() -> None:
    """L9: who was aboard and who came later get a load that began after it; one at a time."""
    origin = Origin(replace(RAISE, load_wait=5.0))

    async def main() -> None:
        first = origin.begin("a", 1.0)
        await pass_time(0.0)
        early = [origin.begin("k", 0.25) for _ in range(2)]
        await pass_time(0.5)
        await origin.cache.invalidate("k")
        moment = origin.clock.monotonic()
        late = origin.begin("k", 0.25)
        values = await asyncio.gather(*early, late)
        assert min(values) >= moment
        await first
        assert origin.peak == 1
        assert not origin.told

    origin.run(main)


def test_time_in_the_queue_is_not_counted_from_anew() -> None:
    """However often the key is invalidated meanwhile, and whoever leads."""
    origin = Origin()

    async def main() -> None:
        first = origin.begin("a", 9.0)
        await pass_time(0.0)
        since = origin.clock.monotonic()
        leader = origin.begin("k")
        follower = origin.begin("k")
        await pass_time(0.25)
        leader.cancel()
        for _ in range(2):
            await pass_time(0.25)
            await origin.cache.invalidate("k")
        with pytest.raises(OriginOverloaded):
            await follower
        assert origin.clock.monotonic() == since + 1.0
        first.cancel()

    origin.run(main)


def test_a_leader_that_is_cancelled_in_the_queue_hands_over() -> None:
    """L14: its follower leads, queues on, and loads once."""
    origin = Origin()

    async def main() -> None:
        first = origin.begin("a", 0.5)
        await pass_time(0.0)
        leader, *followers = [origin.begin("k", 0.25) for _ in range(4)]
        await pass_time(0.25)
        leader.cancel()
        values = await asyncio.gather(*followers)
        assert len(set(values)) == 1
        assert origin.order == ["a", "k"]
        await first
        assert leader.cancelled()

    origin.run(main)


@pytest.mark.parametrize("at", range(1, 12))
def test_cancelled_at_any_moment_it_takes_no_permit_with_it(at: int) -> None:
    """L2: at the n-th suspension, in the queue, and just as it has been given its permit."""
    origin = Origin(replace(RAISE, load_wait=3.0))

    async def main() -> None:
        first = origin.begin("a", 0.5)
        await pass_time(0.0)
        cancelling = Cancelling(origin.ask("b", 0.5), at)
        second = asyncio.get_running_loop().create_task(cancelling.run())
        third = origin.begin("c", 0.5)
        results = await asyncio.gather(first, second, third, return_exceptions=True)
        assert isinstance(results[1], asyncio.CancelledError) is (cancelling.points >= at)
        assert not isinstance(results[2], BaseException)
        assert origin.peak == 1
        assert (origin.state["loads"], origin.state["queued"]) == (0, 0)

    origin.run(main)


def test_one_cancelled_with_the_permit_in_its_hand_gives_it_to_the_next() -> None:
    origin = Origin()

    async def main() -> None:
        release = asyncio.Event()

        async def loader(_: str) -> int:
            await release.wait()
            return 1

        first = asyncio.create_task(origin.cache.get_or_load("a", loader))
        await pass_time(0.0)
        second, third = origin.begin("b", 0.0), origin.begin("c", 0.0)
        await pass_time(0.25)
        release.set()
        while origin.state["queued"] == 2:
            await pass_time(0)
        second.cancel()  # it was let in and has not run since
        assert await third
        assert second.cancelled()
        assert origin.order == ["c"]
        await first

    origin.run(main)


def test_one_whose_loop_is_gone_gives_its_turn_to_the_next() -> None:
    """However many there are of them."""
    origin = Origin()

    class Gone:
        verdict: str | None = None

        def wake(self) -> bool:
            return False

    async def main() -> None:
        guard, rules = origin.cache._rules.loads.origin, origin.cache._rules
        first = origin.begin("a", 0.25)
        await pass_time(0.0)
        for number in range(2_000):
            request = rules.begin(f"gone{number}", loads=True)
            flight, _ = rules.local.board(request, Gone, rules.monotonic())
            guard.join(request, flight, Gone())
        assert await origin.ask("b", 0.25)
        await first
        assert (origin.state["loads"], origin.state["queued"]) == (0, 0)
        rules.local.flights.clear_locked()

    origin.run(main)


def test_a_load_that_never_returns_is_replaced_by_exactly_one_and_its_permit_comes_back() -> None:
    """L14, L17: its followers are served when it counts as stuck, though it had the only permit."""
    origin = Origin(replace(RAISE, flight_age=2.0))

    async def main() -> None:
        since = origin.clock.monotonic()
        stuck = origin.begin("k", 1_000.0)
        await pass_time(0.0)
        followers = [origin.begin("k", 0.25) for _ in range(50)]
        values = await asyncio.gather(*followers)
        assert set(values) == {since + 2.0}
        assert origin.clock.monotonic() == since + 2.25
        assert origin.order == ["k", "k"]
        assert await origin.ask("other", 0.25)
        stuck.cancel()

    origin.run(main)


def test_who_queues_while_a_permit_lapses_has_it_when_its_wait_is_over() -> None:
    """L17: nobody is woken by the passing of time; who looks first lets the next one in as well."""
    origin = Origin(replace(RAISE, max_loads=2, flight_age=2.0))

    async def main() -> None:
        since = origin.clock.monotonic()
        stuck = [origin.begin(key, 1_000.0) for key in ("a", "b")]
        await pass_time(1.5)
        values = []
        for key in ("c", "d"):
            values.append(origin.begin(key, 0.5))
            await pass_time(0.125)
        assert await asyncio.gather(*values) == [since + 2.5] * 2
        for task in stuck:
            task.cancel()

    origin.run(main)


@pytest.mark.parametrize("failing", [True, False])
def test_two_hundred_callers_of_one_key_are_one_load(failing: bool) -> None:
    """L14: all are told when it ends."""
    origin = Origin()
    since = origin.clock.monotonic()
    outcome = OSError("down") if failing else None

    async def main() -> None:
        results = await asyncio.gather(*(origin.load("k", 0.05, outcome) for _ in range(200)), return_exceptions=True)
        assert origin.clock.monotonic() - since == pytest.approx(0.05)
        assert origin.started == 1
        assert results == [outcome if failing else 1] * 200

    origin.run(main)


@pytest.mark.parametrize(("on_overload", "keys"), [("raise", 5_000), ("proceed", 2_000)])
def test_the_cache_is_frozen_and_thousands_of_keys_are_asked_for_at_once(on_overload: str, keys: int) -> None:
    """L15: 64 loads at once; everybody is answered or told, within the store's timeout, `load_wait` and one load."""
    origin = Origin(replace(POLICY, on_overload=on_overload))
    origin.plan.during(Fault(FaultKind.HANG))
    waits = []

    async def one(key: str) -> Any:
        since = origin.clock.monotonic()
        try:
            return await origin.ask(key, 0.0625)
        except OriginOverloaded as error:
            return error
        finally:
            waits.append(origin.clock.monotonic() - since)

    async def main() -> None:
        results = await asyncio.gather(*(one(f"k{number}") for number in range(keys)))
        refused = sum(isinstance(result, OriginOverloaded) for result in results)
        proceeded = sum(event.verdict is OverloadVerdict.PROCEED for event in origin.told)
        assert len(origin.told) == refused + proceeded
        assert (refused > 0, proceeded > 0) == (on_overload == "raise", on_overload == "proceed")
        assert max(waits) <= 0.25 + 1.0 + 0.0625 + 0.25
        assert max(event.waited for event in origin.told) <= 1.0
        if on_overload == "raise":
            assert origin.peak == 64

    origin.run(main)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "ask", "cancel", "invalidate", "wait"]),
        st.integers(0, 5),
        st.sampled_from([0.0, 0.25, 1.0, 3.0]),
    ),
    max_size=25,
)


@settings(max_examples=60)
@given(st.integers(1, 3), st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from([2.0, 10.0]), EVENTS)
def test_never_more_than_allowed_and_everybody_gets_an_answer(
    most: int, wait: float, age: float, events: list[Any]
) -> None:
    """L15, L2: whoever is cancelled, whatever is invalidated; but for loads that are older than `flight_age`."""
    origin = Origin(replace(RAISE, max_loads=most, load_wait=wait, flight_age=age))

    async def main() -> None:
        tasks: list[asyncio.Task[Any]] = []
        for what, number, seconds in events:
            if what == "ask":
                tasks.append(origin.begin(f"k{number}", min(seconds, age / 2)))
            elif what == "cancel" and tasks:
                tasks[number % len(tasks)].cancel()
            elif what == "invalidate":
                await origin.cache.invalidate(f"k{number}")
            else:
                await pass_time(seconds)
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, float | OriginOverloaded | asyncio.CancelledError)
        assert origin.peak <= most
        assert (origin.state["loads"], origin.state["queued"]) == (0, 0)

    origin.run(main)
