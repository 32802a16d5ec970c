"""The contract finds what is wrong with calls for many keys, also where an adapter has one of them only."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest

from .well import InVirtualTime, OnStore, Queued, Store, failed

pytestmark = pytest.mark.realtime  # two threads are to meet in the middle of a call

Entries = Mapping[str, tuple[bytes, float]]


class Dripping(Store):
    drips = False

    def check(self) -> None:
        if self.drips:
            self.clock.advance(0.2)
            raise TimeoutError
        super().check()


class GetsMany(Dripping):
    def get_many(self, keys: Sequence[str], /) -> Any:
        self.check()
        return {key: found for key in keys if (found := self.inner.get(key)) is not None}


class SetsMany(Dripping):
    def set_many(self, entries: Entries, /) -> None:
        self.check()
        for key, (value, ttl) in entries.items():
            self.inner.set(key, value, ttl)


class DeletesMany(Dripping):
    def delete_many(self, keys: Sequence[str], /) -> None:
        self.check()
        for key in keys:
            self.inner.delete(key)


class Many(GetsMany, SetsMany, DeletesMany):
    pass


class GivesViews(Many):
    def get_many(self, keys: Sequence[str], /) -> Any:
        return {key: bytearray(found) for key, found in super().get_many(keys).items()}


class MakesUp(GetsMany):
    def get_many(self, keys: Sequence[str], /) -> Any:
        self.check()
        return dict.fromkeys(keys, b"made up")


class Swallows(GetsMany):
    def get_many(self, keys: Sequence[str], /) -> Any:
        return {} if self.broken else super().get_many(keys)


class SetsTheFirst(SetsMany):
    def set_many(self, entries: Entries, /) -> None:
        super().set_many(dict(list(entries.items())[:1]))


class DeletesOnce(DeletesMany):
    def delete_many(self, keys: Sequence[str], /) -> None:
        self.check()
        for key in keys:
            del self.inner.entries[key]


class GetsWhenClosed(Many):
    def get_many(self, keys: Sequence[str], /) -> Any:
        closed, self.closed = self.closed, False
        try:
            return super().get_many(keys)
        finally:
            self.closed = closed


class TakesItsTime(Many):
    """Each key has the whole deadline."""

    def get_many(self, keys: Sequence[str], /) -> Any:
        self.clock.advance(2.0 if self.drips else 0.0)
        return super().get_many(keys)


class DeletesStayDown(Many):
    down = False

    def delete_many(self, keys: Sequence[str], /) -> None:
        self.down = self.down or self.broken
        if self.down:
            raise ConnectionError("still down")
        super().delete_many(keys)


class GetsOthers(Many):
    """After an outage, the answers of before it."""

    was = False

    def get_many(self, keys: Sequence[str], /) -> Any:
        self.was = self.was or self.broken
        found = super().get_many(keys)
        return dict.fromkeys(found, b"of before") if self.was else found


BROKEN: dict[type[Store], set[str]] = {
    GetsMany: set(),
    SetsMany: set(),
    DeletesMany: set(),
    Many: set(),
    GivesViews: {"many_keys_are_as_each_by_itself", "a_thousand_keys_come_back"},
    MakesUp: {
        "many_keys_are_as_each_by_itself",
        "a_thousand_keys_come_back",
        "a_store_that_is_back_is_used_again",
    },
    Swallows: {"a_broken_store_is_an_error"},
    SetsTheFirst: {"many_keys_are_as_each_by_itself", "a_thousand_keys_come_back"},
    DeletesOnce: {"many_keys_are_as_each_by_itself", "a_store_that_is_back_is_used_again"},
    GetsWhenClosed: {"closed_means_closed"},
    TakesItsTime: {"a_dripping_store_is_left_at_the_deadline"},
    DeletesStayDown: {"a_store_that_is_back_is_used_again"},
    GetsOthers: {"a_store_that_is_back_is_used_again"},
}


@pytest.mark.parametrize("store", BROKEN)
def test_a_broken_call_for_many_fails_its_law(store: type[Store], capfd: pytest.CaptureFixture[str]) -> None:
    class Contract(OnStore):
        kind = store
        excused: ClassVar[Mapping[str, str]] = {}

        def open_dripping(self) -> Any:
            self.store.drips = True
            return self.store

    assert failed(Contract) == BROKEN[store]


class AsyncMany(Queued):
    async def get_many(self, keys: Sequence[str], /) -> dict[str, bytes]:
        return {key: found for key in keys if (found := await self.get(key)) is not None}

    async def set_many(self, entries: Entries, /) -> None:
        for key, (value, ttl) in entries.items():
            await self.set(key, value, ttl)

    async def delete_many(self, keys: Sequence[str], /) -> None:
        for key in keys:
            await self.delete(key)


class LeavesRepliesUnread(AsyncMany):
    keeps = False

    async def get_many(self, keys: Sequence[str], /) -> dict[str, bytes]:
        self.keeps = True
        try:
            return await super().get_many(keys)
        finally:
            self.keeps = False

    def hang_up(self) -> None:
        if not self.keeps:
            super().hang_up()


class SwallowsCancellation(AsyncMany):
    async def get_many(self, keys: Sequence[str], /) -> dict[str, bytes]:
        try:
            return await super().get_many(keys)
        except asyncio.CancelledError:
            return {}


BROKEN_ASYNC: dict[type[AsyncMany], set[str]] = {
    AsyncMany: set(),
    LeavesRepliesUnread: {"a_cancelled_call_disturbs_nobody"},
    SwallowsCancellation: {"a_cancellation_gets_out"},
}


@pytest.mark.parametrize("adapter", BROKEN_ASYNC)
def test_a_broken_async_call_for_many_fails_its_law(adapter: type[AsyncMany]) -> None:
    class Contract(InVirtualTime):
        excused: ClassVar[Mapping[str, str]] = {"break_store": "not asked here", "open_dripping": "not asked here"}

        async def open(self) -> Queued:
            return adapter(self.clock)

    assert failed(Contract) == BROKEN_ASYNC[adapter]
