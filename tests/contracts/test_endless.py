"""An adapter that hangs fails its law, and the next one is asked: the contract itself never hangs."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pytest

from resilient_cache.testing import _faces
from resilient_cache.testing._callers import Caller

from .well import InVirtualTime, OnStore, Queued, Store, failed

pytestmark = pytest.mark.realtime  # a thread hangs, and is waited for

EXCUSED = {"break_store": "not asked here", "open_dripping": "not asked here"}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_faces, "PATIENCE", 0.3)
    monkeypatch.setattr(_faces, "SCENE", 0.6)


class OnQueued(InVirtualTime):
    """The contract of a `Queued` in virtual time."""

    excused: ClassVar[Mapping[str, str]] = EXCUSED
    kind: type[Queued] = Queued

    async def open(self) -> Any:
        return type(self).kind(self.clock)


class LeaksItsLock(Queued):
    async def ask(self, operation: str, *args: Any) -> Any:
        if self.closed:
            raise ConnectionError("closed")
        await self.lock.acquire()
        await asyncio.sleep(0)
        self.line.send(operation, *args)
        answer = await self.answer()
        self.lock.release()  # in no finally
        return answer


class NeverCloses(Queued):
    async def aclose(self) -> None:
        await asyncio.get_running_loop().create_future()


class KeepsATask(Queued):
    """With a task behind that does not let itself be cancelled."""

    async def get(self, key: str, /) -> bytes | None:
        task: Any = asyncio.ensure_future(self.stay())
        task._log_destroy_pending = False  # that it is left behind is what is asked here
        await asyncio.sleep(0)
        return await super().get(key)

    async def stay(self) -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.get_running_loop().create_future()


def test_a_lock_that_a_cancelled_call_has_kept_is_found() -> None:
    class Contract(OnQueued):
        kind = LeaksItsLock

    with pytest.raises(AssertionError, match=r"^set must end: it has not for 0\.3 s$"):
        Contract().test_a_cancelled_call_disturbs_nobody()
    assert failed(Contract) == {"a_cancelled_call_disturbs_nobody", "two_hundred_cancelled_readers_disturb_nobody"}


def test_closing_must_end() -> None:
    class Contract(OnQueued):
        kind = NeverCloses

    with pytest.raises(AssertionError, match=r"^aclose must end: it has not for 0\.3 s$"):
        Contract().test_closed_means_closed()
    assert failed(Contract) == {"closed_means_closed"}


class Hanging:
    """What hangs until the test is over."""

    def __init__(self) -> None:
        self.ends = threading.Event()

    def hang(self) -> None:
        self.ends.wait(30)


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    hanging = Hanging()
    yield hanging
    hanging.ends.set()
    for thread in threading.enumerate():
        if isinstance(thread, Caller):
            thread.join(30)


def test_a_client_without_a_timeout_is_found(hanging: Hanging) -> None:
    """On a server that accepts and says nothing; the outage ends, and the adapter is closed."""

    class NoTimeout(Store):
        def check(self) -> None:
            if self.broken:
                hanging.hang()
            super().check()

    class Contract(OnStore):
        kind = NoTimeout

    contract = Contract()
    with pytest.raises(AssertionError, match=r"^get must end: it has not for 0\.6 s$"):
        contract.test_a_broken_store_is_left_at_the_deadline()
    assert not contract.store.broken
    assert contract.store.closed


def test_a_thread_that_hangs_is_found(hanging: Hanging) -> None:
    class Locks(Store):
        users = 0

        def get(self, key: str, /) -> bytes | None:
            self.users += 1
            if self.users == 5:
                hanging.hang()
            return super().get(key)

    class Contract(OnStore):
        kind = Locks

    with pytest.raises(AssertionError, match=r"^each thread must end: it has not for 0\.6 s$"):
        Contract().test_threads_may_share_it()


def test_a_loop_that_hangs_is_found(hanging: Hanging) -> None:
    class Blocks(Queued):
        async def get(self, key: str, /) -> bytes | None:
            hanging.hang()
            return await super().get(key)

    class Contract(OnQueued):
        kind = Blocks

    with pytest.raises(AssertionError, match=r"^get must end: it has not for 0\.9 s$"):
        Contract().test_what_is_missing_is_none()


def test_what_refuses_to_end_is_left_behind() -> None:
    class Contract(OnQueued):
        kind = KeepsATask

    Contract().test_what_is_missing_is_none()


def test_opening_must_end(hanging: Hanging) -> None:
    class Contract(OnStore):
        def open(self) -> Any:
            hanging.hang()

    with pytest.raises(AssertionError, match=r"^open must end: it has not for 0\.6 s$"):
        Contract().test_what_is_missing_is_none()


def test_opening_with_await_must_end() -> None:
    class Contract(OnQueued):
        async def open(self) -> Any:
            await asyncio.get_running_loop().create_future()

    with pytest.raises(AssertionError, match=r"^open must end: it has not for 60 s$"):
        Contract().test_what_is_missing_is_none()
