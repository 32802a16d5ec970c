"""The contract can fail: each broken adapter fails the laws that it breaks, and no other."""

from __future__ import annotations

import math
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


class RoundsDownAboveOne(Store):
    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        super().set(key, value, int(ttl) if ttl >= 1 else ttl)


class RoundsUp(Store):
    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        super().set(key, value, math.ceil(ttl) if ttl >= 1 else ttl)


class TakesSecondsForMilliseconds(Store):
    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        super().set(key, value, ttl / 1_000)


class Halves(Store):
    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        super().set(key, value, ttl / 2)


class KeepsNothingForLong(Store):
    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        super().set(key, value, min(ttl, 500))


class RenewsWhatIsRead(Store):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.ttls: dict[str, float] = {}

    def get(self, key: str, /) -> bytes | None:
        found = super().get(key)
        if found is not None:
            super().set(key, found, self.ttls[key])
        return found

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        super().set(key, value, ttl)
        self.ttls[key] = ttl


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


class ShortensLongKeys(SharesBytes):
    def get(self, key: str, /) -> bytes | None:
        return Store.get(self, key[:650])

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        Store.set(self, key[:650], value, ttl)

    def delete(self, key: str, /) -> None:
        Store.delete(self, key[:650])


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


class DeletesStayDown(Store):
    down = False

    def delete(self, key: str, /) -> None:
        self.down = self.down or self.broken
        if self.down:
            raise ConnectionError("still down")
        super().delete(key)


class SetsSucceedNowAndThen(Store):
    """After an outage 19 of 20 fail, for ever."""

    calls: int | None = None

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        if self.broken:
            self.calls = 0
        if self.calls is not None:
            self.calls += 1
            if self.calls % 20 != 5:
                raise ConnectionError("still down")
        super().set(key, value, ttl)


class StopsAsking(Store):
    """A circuit of its own, that swallows when it is open."""

    errors = 0

    def get(self, key: str, /) -> bytes | None:
        return None if self.is_open() else super().get(key)

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        if not self.is_open():
            super().set(key, value, ttl)

    def delete(self, key: str, /) -> None:
        if not self.is_open():
            super().delete(key)

    def is_open(self) -> bool:
        self.errors = self.errors + 1 if self.broken else 0
        return self.errors > 4


class AnswersFromACopy(Store):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.copy: dict[str, bytes] = {}

    def get(self, key: str, /) -> bytes | None:
        return self.copy[key] if self.broken and key in self.copy else super().get(key)

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        super().set(key, value, ttl)
        self.copy[key] = value


class HasShards(Store):
    def shard(self, key: str) -> Any:
        return f"shard {len(key) % 2}"


class ShardsAreNumbers(HasShards):
    def shard(self, key: str) -> Any:
        return len(key) % 2


class ShardsRaise(HasShards):
    def shard(self, key: str) -> Any:
        raise LookupError(key)


class ShardsWander(HasShards):
    def shard(self, key: str) -> Any:
        self.calls = getattr(self, "calls", 0) + 1
        return f"shard {self.calls % 2}"


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
    RoundsDownAboveOne: {"an_entry_is_gone_after_its_ttl"},
    RoundsUp: {"an_entry_is_gone_after_its_ttl"},
    TakesSecondsForMilliseconds: {"an_entry_is_gone_after_its_ttl"},
    Halves: {"an_entry_is_gone_after_its_ttl"},
    KeepsNothingForLong: {"an_entry_is_gone_after_its_ttl"},
    RenewsWhatIsRead: {"an_entry_is_gone_after_its_ttl"},
    TakesLongTtlsForDates: {"a_long_ttl_is_a_long_life"},
    SharesBytes: {"keys_do_not_cross"},
    ShortensKeys: {"keys_do_not_cross"},
    ShortensLongKeys: {"keys_do_not_cross"},
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
    DeletesStayDown: {"a_store_that_is_back_is_used_again"},
    SetsSucceedNowAndThen: {"a_store_that_is_back_is_used_again"},
    StopsAsking: {"a_broken_store_is_an_error"},
    AnswersFromACopy: {"a_broken_store_is_an_error"},
    HasShards: set(),
    ShardsAreNumbers: {"a_shard_has_a_name"},
    ShardsRaise: {"a_shard_has_a_name"},
    ShardsWander: {"a_shard_has_a_name"},
    MixesThreads: {"threads_may_share_it"},
    ParentOnly: {"a_forked_child_may_use_it_too"},
}


@pytest.mark.parametrize("store", BROKEN)
def test_a_broken_adapter_fails_its_law(store: type[Store], capfd: pytest.CaptureFixture[str]) -> None:
    class Contract(OnStore):
        kind = store

    assert failed(Contract) == BROKEN[store]


class TakesLittle(Store):
    most = 100

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        if len(value) > self.most:
            raise ValueError("too large")
        super().set(key, value, ttl)

    def set_many(self, entries: Mapping[str, tuple[bytes, float]], /) -> None:
        for key, (value, ttl) in entries.items():
            self.set(key, value, ttl)


@pytest.mark.parametrize("most", [100, 256])
def test_no_value_is_larger_than_the_largest(most: int, capfd: pytest.CaptureFixture[str]) -> None:
    class Contract(OnStore):
        kind = type("Little", (TakesLittle,), {"most": most})
        largest = most

    assert not failed(Contract)


class CountsWholeSeconds(Store):
    """As memcached does; its adapter adds one so that nothing ends early."""

    def get(self, key: str, /) -> bytes | None:
        self.check()
        value, until = self.inner.entries.get(key, (None, 0))
        return value if int(self.clock.monotonic()) < until else None

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        self.check()
        self.inner.entries[key] = value, int(self.clock.monotonic()) + math.ceil(ttl) + 1


@pytest.mark.parametrize("part", [n / 8 for n in range(8)])
def test_two_seconds_are_enough_for_a_store_that_counts_whole_ones(part: float) -> None:
    class Contract(OnStore):
        kind = CountsWholeSeconds
        resolution = 2.0

        def __init__(self) -> None:
            self.clock = ManualClock(1_000 + part)
            self.store = CountsWholeSeconds(self.clock)

    Contract().test_an_entry_is_gone_after_its_ttl()
    Contract().test_the_last_write_counts()


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
