"""Backplanes in one process: deterministic, and as unreliable as they are told to be."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from resilient_cache import FailureKind, StoreError
from resilient_cache.testing import AsyncLocalBackplane, BackplaneHub, LocalBackplane, ManualClock, run_virtual

from .virtual import pass_time


class Ear:
    """A thread that listens."""

    def __init__(self, plane: LocalBackplane, channel: str = "c", receive: Callable[[bytes], object] | None = None):
        self.received: list[bytes] = []
        self.error: Exception | None = None
        self._is_ready = threading.Event()
        self._receive = receive or self.received.append
        self._thread = threading.Thread(target=self._listen, args=(plane, channel))
        self._thread.start()
        assert self._is_ready.wait(5)

    def _listen(self, plane: LocalBackplane, channel: str) -> None:
        try:
            plane.listen(channel, self._is_ready.set, self._receive)
        except Exception as error:
            self.error = error

    def ended(self) -> Exception | None:
        self._thread.join(5)
        return self.error


def test_a_message_is_received_before_publish_returns_and_in_the_same_thread() -> None:
    plane = LocalBackplane()
    where: list[int] = []
    ear = Ear(plane, receive=lambda _: where.append(threading.get_ident()))
    plane.publish("c", b"m")
    plane.publish("other", b"n")
    assert where == [threading.get_ident()]
    assert plane.hub.messages == [("c", b"m"), ("other", b"n")]
    plane.close()
    assert isinstance(ear.ended(), StoreError)


def test_a_lost_message_cuts_off_those_who_would_have_received_it_and_nobody_else() -> None:
    hub = BackplaneHub()
    plane = LocalBackplane(hub)
    ear, other = Ear(plane), Ear(plane, "other")
    hub.drop()
    plane.publish("c", b"lost")
    assert "a message was lost by plan" in str(ear.ended())
    assert ear.received == []
    again = Ear(plane)
    plane.publish("c", b"kept")
    assert again.received == [b"kept"]
    hub.drop(2)
    plane.publish("c", b"lost")
    plane.publish("other", b"lost")
    assert isinstance(again.ended(), StoreError)
    assert isinstance(other.ended(), StoreError)
    assert hub.listening == 0


def test_cut_ends_everybody_and_down_refuses_them_until_it_is_healed() -> None:
    hub = BackplaneHub()
    first, second = LocalBackplane(hub), LocalBackplane(hub)
    ears = [Ear(first), Ear(second)]
    hub.cut()
    assert [str(ear.ended()) for ear in ears] == ["cut by plan"] * 2
    ear = Ear(first)
    hub.down()
    assert str(ear.ended()) == "down by plan"
    calls: list[Callable[[], None]] = [lambda: first.publish("c", b"m"), lambda: first.listen("c", list, list)]
    for call in calls:
        with pytest.raises(StoreError) as caught:
            call()
        assert caught.value.kind is FailureKind.CONNECTION
    hub.heal()
    first.publish("c", b"m")
    assert hub.messages == [("c", b"m")]


def test_closing_one_leaves_the_others_of_the_hub_alone() -> None:
    hub = BackplaneHub()
    first, second = LocalBackplane(hub), LocalBackplane(hub)
    mine, others = Ear(first), Ear(second)
    first.close()
    assert str(mine.ended()) == "closed"
    second.publish("c", b"m")
    assert others.received == [b"m"]
    second.close()
    others.ended()


def test_what_is_published_while_it_gets_ready_is_received() -> None:
    plane = LocalBackplane()
    received: list[bytes] = []

    def receive(message: bytes) -> None:
        received.append(message)
        raise LookupError

    with pytest.raises(LookupError):
        plane.listen("c", lambda: plane.publish("c", b"m"), receive)
    assert received == [b"m"]


def test_what_a_receiver_raises_ends_it_and_not_the_publisher() -> None:
    plane, error = LocalBackplane(), LookupError("bad")

    def fail(_: bytes) -> None:
        raise error

    ear = Ear(plane, receive=fail)
    plane.publish("c", b"m")
    assert ear.ended() is error
    plane.publish("c", b"m")


def test_the_async_one_works_in_virtual_time() -> None:
    async def main() -> None:
        hub = BackplaneHub()
        plane, other = AsyncLocalBackplane(hub), AsyncLocalBackplane(hub)
        received: list[bytes] = []
        is_ready = asyncio.Event()
        listening = asyncio.ensure_future(plane.listen("c", is_ready.set, received.append))
        await is_ready.wait()
        await other.publish("c", b"m")
        assert received == [b"m"], "before publish returns"
        hub.cut()
        await other.publish("c", b"nobody listens")
        with pytest.raises(StoreError, match="cut by plan"):
            await listening
        again = asyncio.ensure_future(plane.listen("c", is_ready.set, received.append))
        await pass_time(3600)
        again.cancel()
        await asyncio.wait({again})
        assert again.cancelled()
        assert hub.listening == 0
        await plane.aclose()
        with pytest.raises(StoreError, match="closed"):
            await plane.publish("c", b"m")

    run_virtual(main(), ManualClock())
