"""The contract can fail: each broken adapter fails the laws that it breaks, and no other."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from resilient_cache import deadline, fallback
from resilient_cache.testing import AdapterContract, Fault, FaultPlan, FaultyAdapter, ManualClock

from .well import OnStore, Store, failed

pytestmark = pytest.mark.realtime  # two threads are to meet in the middle of a call; a dripping server


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


def test_an_error_where_there_should_be_none_is_shown_as_it_is() -> None:
    contract = OnStore()
    contract.break_store()
    with pytest.raises(ConnectionError, match="down"):
        contract.test_what_is_missing_is_none()


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
