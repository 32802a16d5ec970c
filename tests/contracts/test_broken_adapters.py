"""The contracts can fail: each broken adapter fails the laws that it breaks, and no other."""

from __future__ import annotations

import asyncio
import os
import socket
import time
import unittest
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest

from resilient_cache import deadline, fallback
from resilient_cache.testing import (
    AdapterContract,
    AsyncAdapterContract,
    DictStore,
    Fault,
    FaultPlan,
    FaultyAdapter,
    ManualClock,
    ManualLoop,
)

pytestmark = pytest.mark.realtime  # two threads are to meet in the middle of a call; a dripping server


def failed(contract: type[AdapterContract | AsyncAdapterContract]) -> set[str]:
    """The laws that the contract's adapter breaks."""
    found: set[str] = set()
    for law in (name for name in dir(contract) if name.startswith("test_")):
        try:
            getattr(contract(), law)()
        except unittest.SkipTest:
            continue
        except Exception:
            found.add(law.removeprefix("test_"))
    return found


class Store:
    """What a well synchronous adapter does."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.inner: Any = DictStore(clock)
        self.broken = self.closed = False

    def check(self) -> None:
        if self.broken or self.closed:
            raise ConnectionError("down")

    def get(self, key: str, /) -> bytes | None:
        self.check()
        found: bytes | None = self.inner.get(key)
        return found

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        self.check()
        self.inner.set(key, value, ttl)

    def delete(self, key: str, /) -> None:
        self.check()
        self.inner.delete(key)

    def close(self) -> None:
        self.closed = True


class OnStore(AdapterContract):
    """The contract of a `Store`."""

    excused: ClassVar[Mapping[str, str]] = {"open_dripping": "no network"}
    kind: Callable[[ManualClock], Any] = Store

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = type(self).kind(self.clock)

    def open(self) -> Any:
        return self.store

    def break_store(self) -> None:
        self.store.broken = True

    def heal_store(self) -> None:
        self.store.broken = False

    def monotonic(self) -> float:
        return self.clock.monotonic()

    def sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)


class Swallows(Store):
    def get(self, key: str, /) -> bytes | None:
        return None if self.broken else super().get(key)


class SwallowsDeletes(Store):
    def delete(self, key: str, /) -> None:
        if not self.broken:
            super().delete(key)


class RoundsToNever(Store):
    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        super().set(key, value, int(ttl) or 1e9)


class RoundsToNothing(Store):
    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        super().set(key, value, int(ttl))


class TakesLongTtlsForDates(Store):
    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        super().set(key, value, ttl if ttl <= 30 * 86_400 else ttl - self.clock.time())


class SharesBytes(Store):
    def get(self, key: str, /) -> bytes | None:
        return super().get(key.lower())

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        super().set(key.lower(), value, ttl)

    def delete(self, key: str, /) -> None:
        super().delete(key.lower())


class ShortensKeys(SharesBytes):
    def get(self, key: str, /) -> bytes | None:
        return Store.get(self, key[:250])

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        Store.set(self, key[:250], value, ttl)

    def delete(self, key: str, /) -> None:
        Store.delete(self, key[:250])


class Strips(Store):
    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        super().set(key, value.strip(), ttl)


class TakesNothingForMissing(Store):
    def get(self, key: str, /) -> bytes | None:
        return super().get(key) or None


class GivesViews(Store):
    def get(self, key: str, /) -> Any:
        found = super().get(key)
        return found and bytearray(found)


class MissingIsEmpty(Store):
    def get(self, key: str, /) -> bytes | None:
        found = super().get(key)
        return b"" if found is None else found


class FirstWriteWins(Store):
    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        if super().get(key) is None:
            super().set(key, value, ttl)


class KeepsTheFirstTtl(Store):
    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        _, until = self.inner.entries.get(key, (None, None))
        super().set(key, value, ttl if until is None else until - self.clock.monotonic())


class DeletesOnce(Store):
    def delete(self, key: str, /) -> None:
        self.check()
        del self.inner.entries[key]


class WorksAfterClose(Store):
    def close(self) -> None:
        """Closes nothing."""


class ClosesOnce(Store):
    def close(self) -> None:
        self.check()
        super().close()


class Retries(Store):
    def check(self) -> None:
        self.clock.advance(2.0 if self.broken else 0.0)
        super().check()


class StaysDown(Store):
    def check(self) -> None:
        try:
            super().check()
        except ConnectionError:
            self.closed = True
            raise


class MixesThreads(Store):
    def get(self, key: str, /) -> bytes | None:
        self.key = key
        time.sleep(0.0002)
        return super().get(self.key)


class ParentOnly(Store):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.pid = os.getpid()

    def check(self) -> None:
        self.closed = self.closed or os.getpid() != self.pid
        super().check()


BROKEN: dict[type[Store], set[str]] = {
    Store: set(),
    Swallows: {"a_broken_store_is_an_error"},
    SwallowsDeletes: {"a_broken_store_is_an_error"},
    RoundsToNever: {"an_entry_is_gone_after_its_ttl"},
    RoundsToNothing: {"an_entry_is_gone_after_its_ttl"},
    TakesLongTtlsForDates: {"a_long_ttl_is_a_long_life"},
    SharesBytes: {"keys_do_not_cross"},
    ShortensKeys: {"keys_do_not_cross"},
    Strips: {"bytes_come_back_untouched"},
    TakesNothingForMissing: {"bytes_come_back_untouched"},
    GivesViews: {"bytes_come_back_untouched"},
    MissingIsEmpty: {
        "an_entry_is_gone_after_its_ttl",
        "what_is_missing_is_none",
        "a_delete_removes_and_may_be_repeated",
        "threads_may_share_it",
        "a_forked_child_may_use_it_too",
    },
    FirstWriteWins: {"the_last_write_counts"},
    KeepsTheFirstTtl: {"the_last_write_counts"},
    DeletesOnce: {"a_delete_removes_and_may_be_repeated"},
    WorksAfterClose: {"closed_means_closed"},
    ClosesOnce: {"closed_means_closed"},
    Retries: {"a_broken_store_is_left_at_the_deadline"},
    StaysDown: {"a_store_that_is_back_is_used_again"},
    MixesThreads: {"threads_may_share_it"},
    ParentOnly: {"a_forked_child_may_use_it_too"},
}


@pytest.mark.parametrize("store", BROKEN)
def test_a_broken_adapter_fails_its_law(store: type[Store], capfd: pytest.CaptureFixture[str]) -> None:
    class Contract(OnStore):
        kind = store

    assert failed(Contract) == BROKEN[store]


def test_a_guard_in_front_of_a_store_is_no_adapter() -> None:
    """`fallback` swallows: that is what it is for."""

    class Guarded(OnStore):
        excused: ClassVar[Mapping[str, str]] = {"open_dripping": "no network", "close": "not asked here"}

        def __init__(self) -> None:
            super().__init__()
            self.plan = FaultPlan()
            self.store = fallback(FaultyAdapter(self.clock, plan=self.plan))

        def break_store(self) -> None:
            self.plan.during(Fault.raising(ConnectionError("down")))

        def heal_store(self) -> None:
            self.plan.calm()

    assert failed(Guarded) == {"a_broken_store_is_an_error"}


class TimesEachRead(Store):
    """A client as most are: its timeout starts anew with every receive."""

    url_port = 0

    def get(self, key: str, /) -> bytes | None:
        return self.ask() if self.url_port else super().get(key)

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        self.ask() if self.url_port else super().set(key, value, ttl)

    def delete(self, key: str, /) -> None:
        self.ask() if self.url_port else super().delete(key)

    def ask(self) -> bytes:
        with socket.create_connection(("127.0.0.1", self.url_port)) as connection:
            connection.settimeout(deadline.remaining())
            connection.sendall(b"?")
            return b"".join(connection.recv(1) for _ in range(16))


def test_a_timeout_for_each_read_is_no_deadline(dripping_url: str) -> None:
    class Contract(AdapterContract):
        excused: ClassVar[Mapping[str, str]] = {"break_store": "not asked here"}

        def open(self) -> Store:
            return TimesEachRead(ManualClock())

        def open_dripping(self) -> Store:
            adapter = TimesEachRead(ManualClock())
            adapter.url_port = int(dripping_url.rpartition(":")[2])
            return adapter

    with pytest.raises(AssertionError, match=r"get took [\d.]+ s, with a deadline of 0\.2 s for all of it"):
        Contract().test_a_dripping_store_is_left_at_the_deadline()


def test_a_call_is_given_its_deadline() -> None:
    """Through `deadline.remaining()`, as by a cache."""
    left: list[float | None] = []

    class Asks(Store):
        def get(self, key: str, /) -> bytes | None:
            left.append(deadline.remaining())
            return super().get(key)

    class Contract(OnStore):
        kind = Asks

    Contract().test_a_broken_store_is_left_at_the_deadline()
    assert left == [pytest.approx(Contract.deadline)]


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


# Async


class Line:
    """A connection to a store: answers come in the order of the questions, a moment later."""

    def __init__(self, clock: ManualClock) -> None:
        self.store = DictStore(clock)
        self.answers: asyncio.Queue[Any] = asyncio.Queue()

    def send(self, operation: str, *args: Any) -> None:
        loop = asyncio.get_running_loop()
        answer = getattr(self.store, operation)(*args)
        loop.call_soon(loop.call_soon, self.answers.put_nowait, answer)


class Queued:
    """A well async adapter over one connection: one call at a time, and a new queue after one that was cancelled."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.line = Line(clock)
        self.lock = asyncio.Lock()
        self.broken = self.closed = self.drips = False

    async def ask(self, operation: str, *args: Any) -> Any:
        if self.broken or self.closed:
            raise ConnectionError("down")
        async with self.lock:
            self.line.send(operation, *args)
            try:
                return await self.answer()
            except BaseException:
                self.hang_up()
                raise

    async def answer(self) -> Any:
        return await (asyncio.Event().wait() if self.drips else self.line.answers.get())

    def hang_up(self) -> None:
        self.line.answers = asyncio.Queue()  # what is still to come goes to the old one

    async def get(self, key: str, /) -> bytes | None:
        found: bytes | None = await self.ask("get", key)
        return found

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        await self.ask("set", key, value, ttl)

    async def delete(self, key: str, /) -> None:
        await self.ask("delete", key)

    async def aclose(self) -> None:
        self.closed = True


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


# What an author leaves out


class Bare(AdapterContract):
    def open(self) -> Any:
        return FaultyAdapter(ManualClock())


class AsyncBare(AsyncAdapterContract):
    async def open(self) -> Any:
        return LeavesRepliesUnread(ManualClock())


MISSING = {
    "test_a_broken_store_is_an_error": "break_store",
    "test_a_dripping_store_is_left_at_the_deadline": "open_dripping",
}


@pytest.mark.parametrize("law", MISSING)
@pytest.mark.parametrize("contract", [Bare, AsyncBare])
def test_what_is_neither_shown_nor_excused_fails_and_says_what_to_write(contract: Any, law: str) -> None:
    told = rf"write {contract.__name__}\.{MISSING[law]}\(\), or say why not: excused = {{'{MISSING[law]}': "
    with pytest.raises(AssertionError, match=told):
        getattr(contract(), law)()


def test_an_outage_must_end() -> None:
    class Half(Bare):
        def break_store(self) -> None:
            """Never ends."""

    with pytest.raises(AssertionError, match=r"write Half\.heal_store\(\), or say why not"):
        Half().test_a_broken_store_is_an_error()


def test_an_outage_that_cannot_end_is_excused() -> None:
    class Fatal(OnStore):
        excused: ClassVar[Mapping[str, str]] = {"heal_store": "what is broken stays broken"}
        heal_store = AdapterContract.heal_store

    Fatal().test_a_broken_store_is_an_error()
    with pytest.raises(unittest.SkipTest, match="heal_store: what is broken stays broken"):
        Fatal().test_a_store_that_is_back_is_used_again()


def test_an_adapter_without_close_says_why() -> None:
    with pytest.raises(AssertionError, match=r"give the adapter close\(\), or say why not: excused = {'close': "):
        Bare().test_closed_means_closed()


@pytest.mark.parametrize(
    ("excuses", "told"),
    [({"clsoe": "typo"}, r"excused knows .*'close'.*, not \['clsoe'\]"), ({"close": ""}, "a reason")],
)
def test_an_excuse_names_something_and_gives_a_reason(excuses: dict[str, str], told: str) -> None:
    class Excused(Bare):
        excused: ClassVar[Mapping[str, str]] = excuses

    with pytest.raises(AssertionError, match=told):
        Excused().test_closed_means_closed()


@pytest.mark.parametrize("contract", [AdapterContract, AsyncAdapterContract])
def test_a_contract_without_an_adapter_says_what_to_write(contract: Any) -> None:
    with pytest.raises(NotImplementedError, match=rf"write {contract.__name__}\.open\(\)"):
        contract().test_what_is_missing_is_none()


def test_where_there_is_no_fork_the_law_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    with pytest.raises(unittest.SkipTest, match="none on this platform"):
        Bare().test_a_forked_child_may_use_it_too()


def test_unittest_runs_a_contract_and_shows_what_is_excused() -> None:
    class Case(OnStore, unittest.TestCase):
        def __init__(self, name: str) -> None:
            OnStore.__init__(self)
            unittest.TestCase.__init__(self, name)

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(result)
    assert not result.errors
    assert not result.failures
    assert result.testsRun >= 14
    assert [reason for _, reason in result.skipped] == ["open_dripping: no network"]
