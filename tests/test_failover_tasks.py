"""`AsyncFailover` alone: hedged reads, deletes side by side, cancellation, more than one loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resilient_cache import StoreError
from resilient_cache.testing import Fault, FaultKind

from .vendors import DEAD, TIMEOUT, Vendors
from .virtual import pass_time

HANG = Fault(FaultKind.HANG)


@pytest.fixture
def hedged() -> Vendors:
    """A failover that asks the second after 0.02 s; both vendors have a value of their own."""
    vendors = Vendors("async", hedge_after=0.02, spawn=None)
    for store, value in zip(vendors.stores, (b"first", b"second"), strict=True):
        store["k"] = (value, 1e9)
    return vendors


def timed(vendors: Vendors, key: str) -> tuple[Any, Any]:
    began = vendors.clock.monotonic()
    return vendors.attempt("get", key), pytest.approx(vendors.clock.monotonic() - began)


def test_a_quick_first_is_the_only_one_asked(hedged: Vendors) -> None:
    hedged.plans[0].during(Fault.slow(0.019))
    assert timed(hedged, "k") == (b"first", 0.019)
    assert timed(hedged, "none") == (None, 0.019)
    assert hedged.calls(1, "get") == 0


def test_the_second_is_asked_when_the_first_takes_long(hedged: Vendors) -> None:
    hedged.plans[0].during(Fault.slow(0.05))
    hedged.plans[1].during(Fault.slow(0.01))
    assert timed(hedged, "k") == (b"second", 0.03)


def test_that_the_second_has_nothing_is_no_answer_yet(hedged: Vendors) -> None:
    hedged.plans[0].during(Fault.slow(0.05))
    hedged.stores[1].clear()
    assert timed(hedged, "k") == (b"first", 0.05)
    hedged.plans[0].during(HANG)
    assert timed(hedged, "k") == (None, TIMEOUT)


def test_that_the_first_has_nothing_is_an_answer(hedged: Vendors) -> None:
    hedged.stores[0].clear()
    hedged.plans[0].during(Fault.slow(0.05))
    hedged.plans[1].during(Fault.slow(0.09))
    assert timed(hedged, "k") == (None, 0.05)


def test_a_first_that_fails_is_not_waited_for(hedged: Vendors) -> None:
    hedged.plans[0].during(DEAD)
    assert timed(hedged, "k") == (b"second", 0.0)


def test_when_both_fail_it_is_an_error(hedged: Vendors) -> None:
    hedged.plans[0].during(HANG)
    hedged.plans[1].during(DEAD)
    found, _ = timed(hedged, "k")
    assert isinstance(found, StoreError)


def test_who_loses_is_left_to_end_by_itself(hedged: Vendors) -> None:
    hedged.plans[0].during(Fault.slow(0.05))

    async def main() -> None:
        assert await hedged.failover.get("k") == b"second"
        assert len(asyncio.all_tasks()) > 1
        await pass_time(1)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    hedged.run(main)
    stats = hedged.failover.stats()["primary"]
    assert (stats["store_get"], "store_get_timeout" in stats) == (1, False)


def test_closing_ends_who_lost(hedged: Vendors) -> None:
    hedged.plans[0].during(HANG)

    async def main() -> None:
        reading = asyncio.create_task(hedged.failover.get("none"))
        await pass_time(0.05)
        await hedged.failover.aclose()
        with pytest.raises(StoreError):
            await reading
        assert asyncio.all_tasks() == {asyncio.current_task()}

    hedged.stores[1].clear()
    hedged.plans[1].during(HANG)
    hedged.run(main)


def test_deletes_are_sent_side_by_side() -> None:
    vendors = Vendors("async", spawn=None)
    for plan in vendors.plans:
        plan.during(Fault.slow(0.08))
    began = vendors.clock.monotonic()
    vendors.delete("k")
    assert vendors.clock.monotonic() - began == pytest.approx(0.08)


@pytest.mark.parametrize(("operation", "args", "owed"), [("set", (b"v", 60.0), (0, 0)), ("delete", (), (1, 1))])
def test_who_is_cancelled_leaves_a_debt(operation: str, args: tuple[object, ...], owed: tuple[int, int]) -> None:
    vendors = Vendors("async")
    for plan in vendors.plans:
        plan.during(Fault.slow(0.08))

    async def main() -> None:
        task = asyncio.create_task(getattr(vendors.failover, operation)("k", *args))
        await pass_time(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (vendors.owed(0), vendors.owed(1)) == owed

    vendors.run(main)
    vendors.run_behind()


def test_one_failover_serves_one_loop_after_another() -> None:
    vendors = Vendors("async", spawn=None)
    vendors.plans[0].then("delete", DEAD)
    vendors.attempt("delete", "k")  # its task behind goes down with the loop
    assert vendors.owed(0) == 1

    async def main() -> None:
        await pass_time(1)
        await vendors.failover.get("k")
        await pass_time(1)

    vendors.run(main)
    assert vendors.owed(0) == 0
