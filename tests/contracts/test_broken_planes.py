"""The contract of backplanes finds what is wrong with one: a bug for each of its laws."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from unittest import SkipTest

import pytest

from resilient_cache.testing import (
    AsyncBackplaneContract,
    AsyncLocalBackplane,
    BackplaneContract,
    BackplaneHub,
    LocalBackplane,
    plane_contracts,
)

pytestmark = pytest.mark.realtime

Ready = Callable[[], object]
Receive = Callable[[bytes], object]


class Sound:
    """A backplane that does as it should; those below it differ in one thing."""

    def __init__(self, hub: BackplaneHub) -> None:
        self.plane = LocalBackplane(hub)

    def publish(self, channel: str, message: bytes) -> None:
        self.plane.publish(channel, message)

    def listen(self, channel: str, ready: Ready, receive: Receive) -> None:
        self.plane.listen(channel, ready, receive)

    def close(self) -> None:
        self.plane.close()


class Twice(Sound):
    def publish(self, channel: str, message: bytes) -> None:
        self.plane.publish(channel, message)
        self.plane.publish(channel, message)


class Stripping(Sound):
    def publish(self, channel: str, message: bytes) -> None:
        self.plane.publish(channel, message.strip())


class Hearsay(Sound):
    """Hears every channel."""

    def publish(self, channel: str, message: bytes) -> None:
        self.plane.publish("all", message)

    def listen(self, channel: str, ready: Ready, receive: Receive) -> None:
        self.plane.listen("all", ready, receive)


class Folding(Sound):
    def publish(self, channel: str, message: bytes) -> None:
        self.plane.publish(channel.lower(), message)

    def listen(self, channel: str, ready: Ready, receive: Receive) -> None:
        self.plane.listen(channel.lower(), ready, receive)


class Cutting(Sound):
    def publish(self, channel: str, message: bytes) -> None:
        self.plane.publish(channel[:100], message)

    def listen(self, channel: str, ready: Ready, receive: Receive) -> None:
        self.plane.listen(channel[:100], ready, receive)


class CuttingMessages(Sound):
    def publish(self, channel: str, message: bytes) -> None:
        self.plane.publish(channel, message[:200_000])


class DroppingNothing(Sound):
    def publish(self, channel: str, message: bytes) -> None:
        if message:
            self.plane.publish(channel, message)


class GivingViews(Sound):
    def listen(self, channel: str, ready: Ready, receive: Receive) -> None:
        anything: Any = receive
        self.plane.listen(channel, ready, lambda message: anything(bytearray(message)))


class Silent(Sound):
    def listen(self, channel: str, ready: Ready, receive: Receive) -> None:
        self.plane.listen(channel, lambda: None, receive)


class AtOnce(Sound):
    """Ends without a word."""

    def listen(self, channel: str, ready: Ready, receive: Receive) -> None:
        pass


class ReadyAgain(Sound):
    def listen(self, channel: str, ready: Ready, receive: Receive) -> None:
        def receive_one(message: bytes) -> None:
            ready()
            receive(message)

        self.plane.listen(channel, ready, receive_one)


class ForOne(Sound):
    """Lets the one who listens last hear, like a queue."""

    def listen(self, channel: str, ready: Ready, receive: Receive) -> None:
        self.plane.hub.cut()
        with contextlib.suppress(Exception):
            self.plane.listen(channel, ready, receive)


class Wrapping(Sound):
    def listen(self, channel: str, ready: Ready, receive: Receive) -> None:
        try:
            self.plane.listen(channel, ready, receive)
        except LookupError as error:
            raise RuntimeError from error


class Swallowing(Sound):
    def listen(self, channel: str, ready: Ready, receive: Receive) -> None:
        def receive_one(message: bytes) -> None:
            with contextlib.suppress(LookupError):
                receive(message)

        self.plane.listen(channel, ready, receive_one)


class Content(Sound):
    """Loses what it cannot publish."""

    def publish(self, channel: str, message: bytes) -> None:
        with contextlib.suppress(Exception):
            self.plane.publish(channel, message)


class Returning(Sound):
    """Does not say why it ended. Allowed by the protocol; not where `raises` asks for an error."""

    def listen(self, channel: str, ready: Ready, receive: Receive) -> None:
        with contextlib.suppress(Exception):
            self.plane.listen(channel, ready, receive)


class Reopening(Sound):
    def close(self) -> None:
        self.plane.close()
        self.plane = LocalBackplane(self.plane.hub)


class Waiting(Sound):
    """Listens again by itself, and so hides that messages were lost."""

    is_closed = False

    def listen(self, channel: str, ready: Ready, receive: Receive) -> None:
        while not self.is_closed:
            with contextlib.suppress(Exception):
                self.plane.listen(channel, lambda: None, receive)

    def close(self) -> None:
        self.is_closed = True
        self.plane.close()


class Contract(BackplaneContract):
    kind: type[Sound] = Sound

    def __init__(self) -> None:
        self.hub = BackplaneHub()

    def open(self) -> Sound:
        return self.kind(self.hub)

    def break_backplane(self) -> None:
        self.hub.down()

    def heal_backplane(self) -> None:
        self.hub.heal()


LAWS = [name for name in dir(BackplaneContract) if name.startswith("test_")]


def held(kind: type[Sound], law: str) -> None:
    contract = Contract()
    contract.kind = kind
    getattr(contract, law)()


@pytest.mark.parametrize("law", LAWS)
def test_a_sound_one_passes(law: str) -> None:
    held(Sound, law)


@pytest.mark.parametrize(
    ("kind", "law", "told"),
    [
        (Twice, "test_messages_arrive_once_in_order_and_untouched", "once each"),
        (Stripping, "test_messages_arrive_once_in_order_and_untouched", "byte for byte"),
        (Hearsay, "test_messages_arrive_once_in_order_and_untouched", "once each"),
        (Folding, "test_messages_arrive_once_in_order_and_untouched", "of one channel only"),
        (Cutting, "test_messages_arrive_once_in_order_and_untouched", "of one channel only"),
        (CuttingMessages, "test_messages_arrive_once_in_order_and_untouched", "byte for byte"),
        (DroppingNothing, "test_messages_arrive_once_in_order_and_untouched", "once each"),
        (GivingViews, "test_messages_arrive_once_in_order_and_untouched", "bytes, not bytearray"),
        (AtOnce, "test_messages_arrive_once_in_order_and_untouched", "once each"),
        (ReadyAgain, "test_messages_arrive_once_in_order_and_untouched", "ready must be called once"),
        (Silent, "test_messages_arrive_once_in_order_and_untouched", "must call ready"),
        (ForOne, "test_everybody_who_listens_receives", "everybody"),
        (Wrapping, "test_what_the_cache_raises_passes", "ready raises"),
        (Swallowing, "test_what_the_cache_raises_passes", "listen must end"),
        (Content, "test_a_broken_backplane_is_noticed", "publish must raise"),
        (Returning, "test_a_broken_backplane_is_noticed", "listen must raise"),
        (Waiting, "test_a_broken_backplane_is_noticed", "must call ready"),
        (Reopening, "test_closed_means_closed", "publish must raise"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_broken_one_is_found(kind: type[Sound], law: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plane_contracts, "PATIENCE", 0.2)
    with pytest.raises(AssertionError, match=told):
        held(kind, law)


def test_no_message_is_larger_than_the_largest() -> None:
    class Short(Contract):
        kind = CuttingMessages
        largest = 200_000

    Short().test_messages_arrive_once_in_order_and_untouched()
    Short.largest = 100
    Short().test_messages_arrive_once_in_order_and_untouched()


def test_one_that_does_not_notice_in_time_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    contract = Contract()
    monkeypatch.setattr(contract, "within", -1.0)
    with pytest.raises(AssertionError, match="took"):
        contract.test_a_broken_backplane_is_noticed()


def test_one_that_never_notices_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    contract = Contract()
    monkeypatch.setattr(plane_contracts, "PATIENCE", 0.1)
    monkeypatch.setattr(contract, "break_backplane", lambda: None)
    with pytest.raises(AssertionError, match="listen must end"):
        contract.test_a_broken_backplane_is_noticed()


class AsyncSound:
    """The same for the colour's own law."""

    def __init__(self, hub: BackplaneHub) -> None:
        self.plane = AsyncLocalBackplane(hub)

    async def publish(self, channel: str, message: bytes) -> None:
        await asyncio.sleep(0)
        await self.plane.publish(channel, message)

    async def listen(self, channel: str, ready: Ready, receive: Receive) -> None:
        await self.plane.listen(channel, ready, receive)


class Uncancellable(AsyncSound):
    async def publish(self, channel: str, message: bytes) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        await self.plane.publish(channel, message)


class Lingering(AsyncSound):
    """Goes on listening when it is cancelled."""

    async def listen(self, channel: str, ready: Ready, receive: Receive) -> None:
        self.task = asyncio.ensure_future(self.plane.listen(channel, ready, receive))
        await asyncio.shield(self.task)


class Shifting(AsyncSound):
    """A cancelled publish takes the next one's place."""

    left: bytes | None = None

    async def publish(self, channel: str, message: bytes) -> None:
        sent, self.left = (self.left, None) if self.left is not None else (message, None)
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.left = message
            raise
        await self.plane.publish(channel, sent)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (AsyncSound, None),
        (Uncancellable, "publish, cancelled after 1 turns .* must end as cancelled"),
        (Lingering, "must receive nothing more"),
        (Shifting, "must not disturb"),
    ],
)
def test_what_a_cancellation_must_not_do(
    kind: type[AsyncSound], told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asynchronous(AsyncBackplaneContract):
        async def open(self) -> AsyncSound:
            return kind(BackplaneHub())

    monkeypatch.setattr(plane_contracts, "PATIENCE", 1.0)
    with pytest.raises(AssertionError, match=told) if told else contextlib.nullcontext():
        Asynchronous().test_a_cancelled_call_ends_and_disturbs_nobody()


def test_what_is_excused_is_skipped_and_what_is_neither_is_told() -> None:
    class Excused(Contract):
        excused: ClassVar[Mapping[str, str]] = {"heal_backplane": "it never comes back", "close": "it has none"}

    with pytest.raises(SkipTest, match="it never comes back"):
        Excused().test_a_broken_backplane_is_noticed()
    with pytest.raises(SkipTest, match="it has none"):
        Excused().test_closed_means_closed()
    Excused.excused = {"close": ""}
    with pytest.raises(AssertionError, match="excused must give a reason for 'close'"):
        Excused().test_closed_means_closed()
    bare: list[Any] = [BackplaneContract(), AsyncBackplaneContract()]
    for contract in bare:
        for call in (contract.break_backplane, contract.heal_backplane):
            with pytest.raises(AssertionError, match="or excuse it"):
                call()
        with pytest.raises(NotImplementedError, match="open"), contract.opened():
            pass
        contract.excused = {"typo": "?"}
        with pytest.raises(AssertionError, match="excused knows"):
            contract.break_backplane()
