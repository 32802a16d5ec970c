"""The contract of async adapters can fail: each broken one fails the laws that it breaks, and no other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from resilient_cache import deadline
from resilient_cache.testing import AsyncAdapterContract, ManualClock

from .well import InVirtualTime, Queued, failed

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


class BlocksTheLoopForItsDeadline(Queued):
    """A client without asyncio, which is left at the deadline all the same."""

    async def answer(self) -> Any:
        if self.drips:
            self.clock.advance(deadline.remaining() or 0.0)
            raise TimeoutError
        return await super().answer()


class BlocksOnce(Queued):
    """As does a busy machine."""

    blocked = False

    async def answer(self) -> Any:
        if self.drips and not self.blocked:
            self.blocked = True
            self.clock.advance(0.15)
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


class Futures:
    """What the adapter does, as futures."""

    def __init__(self, adapter: Queued) -> None:
        self.adapter = adapter

    def ask(self, operation: str, *args: Any) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self.adapter.ask(operation, *args))

    def get(self, key: str) -> asyncio.Future[Any]:
        return self.ask("get", key)

    def set(self, key: str, value: bytes, ttl: float) -> asyncio.Future[Any]:
        return self.ask("set", key, value, ttl)

    def delete(self, key: str) -> asyncio.Future[Any]:
        return self.ask("delete", key)


class Lies(Futures):
    def get(self, key: str) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()
        future.set_result(b"other's")
        return future


class Content(Futures):
    def set(self, key: str, value: bytes, ttl: float) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self.swallow(key, value, ttl))

    async def swallow(self, *args: Any) -> None:
        with contextlib.suppress(ConnectionError):
            await super().ask("set", *args)


class HasFutures(Queued):
    kind: type[Futures] = Futures

    @property
    def futures(self) -> Futures | None:
        return None if self.closed else self.kind(self)


class FuturesLie(HasFutures):
    kind = Lies


class FuturesSwallow(HasFutures):
    kind = Content


class HasOneFuture(Queued):
    """A cache calls the adapter itself then, and so do the laws."""

    class futures:  # noqa: N801 - an attribute
        get = Lies.get


class HasShards(Queued):
    def shard(self, key: str) -> str:
        return f"shard {len(key) % 2}"


class ShardsAreAwaited(Queued):
    async def shard(self, key: str) -> str:
        return "shard"


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
    BlocksTheLoopForItsDeadline: {"a_dripping_store_is_left_at_the_deadline"},
    BlocksOnce: set(),
    HasFutures: set(),
    HasOneFuture: set(),
    FuturesLie: {
        "what_is_missing_is_none",
        "bytes_come_back_untouched",
        "keys_do_not_cross",
        "the_last_write_counts",
        "a_delete_removes_and_may_be_repeated",
        "an_entry_is_gone_after_its_ttl",
        "a_long_ttl_is_a_long_life",
        "a_broken_store_is_an_error",
        "a_store_that_is_back_is_used_again",
        "a_dripping_store_is_left_at_the_deadline",
        "closed_means_closed",
        "tasks_may_share_it",
        "a_cancelled_call_disturbs_nobody",
        "two_hundred_cancelled_readers_disturb_nobody",
    },
    FuturesSwallow: {"a_broken_store_is_an_error", "closed_means_closed"},
    HasShards: set(),
    ShardsAreAwaited: {"a_shard_has_a_name"},
}


@pytest.mark.parametrize("adapter", BROKEN_ASYNC)
def test_a_broken_async_adapter_fails_its_law(adapter: type[Queued]) -> None:
    class Contract(InVirtualTime):
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

    assert failed(Contract) == BROKEN_ASYNC[adapter]


def test_a_store_that_stays_broken_is_broken_once() -> None:
    """The laws are not asked of the futures then."""
    asked: list[str] = []

    class Notes(Futures):
        def ask(self, operation: str, *args: Any) -> asyncio.Future[Any]:
            asked.append(operation)
            return super().ask(operation, *args)

    class NotesFutures(HasFutures):
        kind = Notes

    class Contract(AsyncAdapterContract):
        excused: ClassVar[Mapping[str, str]] = {"heal_store": "what is broken stays broken"}

        async def open(self) -> Queued:
            self.adapter = NotesFutures(ManualClock())
            return self.adapter

        def break_store(self) -> None:
            self.adapter.broken = True

    contract = Contract()
    contract.test_what_is_missing_is_none()
    assert asked == ["get"]
    contract.test_a_broken_store_is_an_error()
    assert asked == ["get"]


def test_what_is_found_through_futures_says_so() -> None:
    class Contract(AsyncAdapterContract):
        async def open(self) -> Queued:
            return FuturesLie(ManualClock())

    with pytest.raises(AssertionError) as raised:
        Contract().test_what_is_missing_is_none()
    assert raised.value.__notes__ == ["This was found through the adapter's `futures`."]


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
