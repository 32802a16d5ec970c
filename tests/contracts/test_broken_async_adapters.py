"""The contract of async adapters can fail: each broken one fails the laws that it breaks, and no other."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resilient_cache import deadline
from resilient_cache.testing import AsyncAdapterContract, ManualClock, ManualLoop

from .well import Queued, failed

pytestmark = pytest.mark.realtime  # waits in turns of the loop, and in virtual time


class LeavesRepliesUnread(Queued):
    def hang_up(self) -> None:
        """Keeps the connection, and the reply in it."""


class SwallowsCancellation(Queued):
    async def ask(self, operation: str, *args: Any) -> Any:
        try:
            return await super().ask(operation, *args)
        except asyncio.CancelledError:
            return None


class MakesAFailureOfIt(Queued):
    async def ask(self, operation: str, *args: Any) -> Any:
        try:
            return await super().ask(operation, *args)
        except asyncio.CancelledError:
            raise ConnectionError("interrupted") from None


class BlocksTheLoop(Queued):
    async def answer(self) -> Any:
        self.clock.advance(3.0 if self.drips else 0.0)
        return await super().answer()


class CannotBeCancelled(Queued):
    async def answer(self) -> Any:
        if not self.drips:
            return await super().answer()
        try:
            return await super().answer()
        except asyncio.CancelledError:
            return await asyncio.sleep(2.0)


class MixesTasks(Queued):
    async def ask(self, operation: str, *args: Any) -> Any:
        self.key = args[0]
        await asyncio.sleep(0)
        return await super().ask(operation, self.key, *args[1:])


class NeverStopsSuspending(Queued):
    async def ask(self, operation: str, *args: Any) -> Any:
        for _ in range(100):
            await asyncio.sleep(0)
        return await super().ask(operation, *args)


BROKEN_ASYNC: dict[type[Queued], set[str]] = {
    Queued: set(),
    NeverStopsSuspending: set(),
    LeavesRepliesUnread: {
        "a_cancelled_call_disturbs_nobody",
        "two_hundred_cancelled_readers_disturb_nobody",
    },
    SwallowsCancellation: {"a_cancellation_gets_out"},
    MakesAFailureOfIt: {"a_cancellation_gets_out"},
    BlocksTheLoop: {"a_dripping_store_is_left_at_the_deadline"},
    CannotBeCancelled: {"a_dripping_store_is_left_at_the_deadline"},
    MixesTasks: {"tasks_may_share_it"},
}


@pytest.mark.parametrize("adapter", BROKEN_ASYNC)
def test_a_broken_async_adapter_fails_its_law(adapter: type[Queued]) -> None:
    class Contract(AsyncAdapterContract):
        def __init__(self) -> None:
            self.clock = ManualClock()

        async def open(self) -> Queued:
            self.adapter = adapter(self.clock)
            return self.adapter

        async def open_dripping(self) -> Queued:
            opened = await self.open()
            opened.drips = True
            return opened

        def break_store(self) -> None:
            self.adapter.broken = True

        def heal_store(self) -> None:
            self.adapter.broken = False

        def new_loop(self) -> asyncio.AbstractEventLoop:
            return ManualLoop(self.clock)

        def monotonic(self) -> float:
            return self.clock.monotonic()

        def sleep(self, seconds: float) -> None:
            self.clock.advance(seconds)

    assert failed(Contract) == BROKEN_ASYNC[adapter]


def test_an_async_call_is_given_its_deadline() -> None:
    left: list[float | None] = []

    class Asks(Queued):
        async def get(self, key: str, /) -> bytes | None:
            left.append(deadline.remaining())
            raise ConnectionError

    class Contract(AsyncAdapterContract):
        async def open(self) -> Queued:
            return Asks(ManualClock())

        async def open_dripping(self) -> Queued:
            opened = await self.open()
            opened.broken = True
            return opened

    Contract().test_a_dripping_store_is_left_at_the_deadline()
    (given,) = left
    assert given is not None
    assert 0 < given <= Contract.deadline
