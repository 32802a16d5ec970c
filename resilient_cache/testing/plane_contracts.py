"""What a cache needs of a backplane, as tests: subclass one of these in a test module and say how yours is opened.

    class TestMyBackplane(BackplaneContract):
        excused = {"break_backplane": "...", "heal_backplane": "..."}

        def open(self):
            return MyBackplane(url)

Used like the contracts of adapters: what a backplane cannot show is excused with a reason and skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Generator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, ClassVar, Final, TypeVar

from ..protocols import AsyncBackplane, Backplane
from ._callers import endless
from ._excuses import skip_if_excused

__all__ = ["AsyncBackplaneContract", "BackplaneContract"]

T = TypeVar("T")

PATIENCE: Final = 5.0
BODIES: Final = [b"", b"\r\n", b"*3\r\n$7\r\nmessage\r\n", bytes(range(256))]
LAST: Final = b"the last"
TURNS: Final = 15
CAPABILITIES: Final = frozenset({"break_backplane", "heal_backplane", "close"})


class _Face:
    """A backplane of either colour, called from outside of it: what it does ends in a future."""

    def __init__(self, backplane: Any) -> None:
        self.backplane = backplane

    def start(self, name: str, *args: object) -> Future[object]:
        """Call the method `name`, in a thread of its own."""
        outcome = Future[object]()
        threading.Thread(target=self._run, args=(outcome, name, args), daemon=True).start()
        return outcome

    def call(self, name: str, *args: object) -> object:
        return self.start(name, *args).result(PATIENCE)

    def close(self) -> object:
        return self.call("close")

    def _run(self, outcome: Future[object], name: str, args: tuple[object, ...]) -> None:
        try:
            outcome.set_result(getattr(self.backplane, name)(*args))
        except BaseException as error:  # noqa: BLE001 - for whoever asks for the outcome
            outcome.set_exception(error)


class _AwaitedFace(_Face):
    """An async backplane in the loop of a thread."""

    def __init__(self, open_one: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            super().__init__(self.run(open_one()))
        except BaseException:
            self.end()
            raise

    def start(self, name: str, *args: object) -> Future[object]:
        return self._submit(_awaited(getattr(self.backplane, name), args))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` returns, run in the loop."""
        return self._submit(work).result(PATIENCE)

    def close(self) -> object:
        return self.call("aclose")

    def end(self) -> None:
        """End the loop, when what was cancelled has ended."""
        self.run(_rest())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)


async def _awaited(method: Callable[..., Coroutine[Any, Any, object]], args: tuple[object, ...]) -> object:
    return await method(*args)


async def _rest() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class _Listening:
    """One `listen` under way: what it received, and what became of it."""

    def __init__(self, face: _Face, channel: str) -> None:
        self.received: list[bytes] = []
        self.readied: list[int] = []
        self._is_ready = threading.Event()
        self._arrived = threading.Condition()
        self.outcome = face.start("listen", channel, self._ready, self._receive)
        self.outcome.add_done_callback(lambda _: self._is_ready.set())

    def wait(self) -> _Listening:
        """Return when it is ready; raise what it raised if it ended instead."""
        assert self._is_ready.wait(PATIENCE), "listen must call ready when it is"
        if self.outcome.done():
            self.outcome.result()
        return self

    def up_to(self, last: bytes) -> list[bytes]:
        """What it received, when `last` has come."""
        with self._arrived:
            self._arrived.wait_for(lambda: last in self.received, PATIENCE)
        return self.received

    def _ready(self) -> None:
        self.readied.append(len(self.received))
        self._is_ready.set()

    def _receive(self, message: bytes) -> None:
        with self._arrived:
            self.received.append(message)
            self._arrived.notify_all()


class _Laws:
    """The laws of both colours."""

    excused: ClassVar[Mapping[str, str]] = {}
    """What this backplane cannot show, of `break_backplane`, `heal_backplane` and "close", with the reason."""
    raises: ClassVar[type[Exception]] = Exception
    """What it raises when it fails."""
    largest: ClassVar[int] = 2**18
    """Bytes of the largest message that it carries. Those of a cache have 32 KiB, and more for a longer key only."""
    within: ClassVar[float] = 2.0
    """Seconds in which `publish` fails, and `listen` ends, when the backplane is broken."""

    opened: Callable[[], contextlib.AbstractContextManager[_Face]]

    def break_backplane(self) -> None:
        """Make the backplane fail: kill the server, freeze it, take the network away."""
        self._needs("break_backplane")
        raise AssertionError(f"write {type(self).__name__}.break_backplane(), or excuse it with a reason")

    def heal_backplane(self) -> None:
        """Make the backplane well again."""
        self._needs("heal_backplane")
        raise AssertionError(f"write {type(self).__name__}.heal_backplane(), or excuse it with a reason")

    def test_messages_arrive_once_in_order_and_untouched(self) -> None:
        """After `ready`, everything that is published on the channel is received, and nothing else."""
        with self.opened() as face:
            channel = _channel()
            others = (_channel(), channel.swapcase(), channel + "s", channel[:-1])
            face.call("publish", channel, b"too early")
            listening = _Listening(face, channel).wait()
            bodies = [body[: self.largest] for body in [*BODIES, b"x" * self.largest]]
            sent = [message for number in range(4) for body in bodies for message in (body, b"%d" % number)] + [LAST]
            for number, message in enumerate(sent):
                face.call("publish", others[number % len(others)], b"elsewhere")
                face.call("publish", channel, message)
            received = listening.up_to(LAST)
            assert received == sent, "messages must arrive once each, in order, byte for byte, and of one channel only"
            kinds = {type(message).__name__ for message in received}
            assert kinds == {"bytes"}, f"receive must be given bytes, not {', '.join(sorted(kinds))}"
            assert listening.readied == [0], "ready must be called once, before the first message"

    def test_everybody_who_listens_receives(self) -> None:
        """A message goes to all who listen, at this object and at another one."""
        with self.opened() as face, self.opened() as another:
            channel = _channel()
            all_of_them = [_Listening(each, channel).wait() for each in (face, face, another)]
            face.call("publish", channel, LAST)
            for listening in all_of_them:
                assert listening.up_to(LAST) == [LAST], "a message must reach everybody who listens"

    def test_what_the_cache_raises_passes(self) -> None:
        """What `ready` or `receive` raises ends `listen`, as the same object."""
        with self.opened() as face:
            channel, error, is_ready = _channel(), LookupError("ready"), threading.Event()
            outcome = face.start("listen", channel, _raising(error), _raising(error))
            assert _error("listen", outcome) is error, "what ready raises must end listen, as it is"
            outcome = face.start("listen", channel, is_ready.set, _raising(error))
            assert is_ready.wait(PATIENCE), "listen must call ready when it is"
            face.call("publish", channel, b"m")
            assert _error("listen", outcome) is error, "what receive raises must end listen, as it is"

    def test_a_broken_backplane_is_noticed(self) -> None:
        """`listen` ends, `publish` raises, both in time; healed, both work again, at the same object."""
        with self.opened() as face:
            channel = _channel()
            listening = _Listening(face, channel).wait()
            face.call("publish", channel, b"before")
            assert listening.up_to(b"before") == [b"before"]
            self.break_backplane()
            try:
                self._must_fail("listen", listening.outcome)
                self._must_fail("publish", face.start("publish", channel, b"lost"))
                self._must_fail("listen", _Listening(face, channel).outcome)
            finally:
                if "heal_backplane" not in self.excused:
                    self.heal_backplane()
            self._needs("heal_backplane")
            again = _Listening(face, channel).wait()
            face.call("publish", channel, b"after")
            assert again.up_to(b"after") == [b"after"], "a backplane that is well again must work again"

    def test_closed_means_closed(self) -> None:
        """Closing ends `listen`, may be repeated, and later calls raise."""
        self._needs("close")
        with self.opened() as face:
            channel = _channel()
            listening = _Listening(face, channel).wait()
            face.close()
            face.close()
            self._must_fail("listen", listening.outcome)
            self._must_fail("publish", face.start("publish", channel, b"m"))
            self._must_fail("listen", _Listening(face, channel).outcome)

    def _must_fail(self, name: str, outcome: Future[object]) -> None:
        began = time.monotonic()
        error = _error(name, outcome)
        took = time.monotonic() - began
        assert isinstance(error, self.raises), f"{name} must raise {self.raises.__name__}, not end with {error!r}"
        assert took <= self.within, f"{name} took {took:.2f} s to end, not {self.within:g} s"

    def _needs(self, capability: str) -> None:
        skip_if_excused(capability, self.excused, CAPABILITIES)


class BackplaneContract(_Laws):
    """The contract of a synchronous backplane. Each `listen` runs in a thread of its own."""

    def open(self) -> Backplane:
        """A new backplane, which is well; all of one test's meet in the same place."""
        raise NotImplementedError(f"write {type(self).__name__}.open(): it returns a new backplane")

    @contextmanager
    def opened(self) -> Generator[_Face]:
        """A backplane that is closed afterwards."""
        face = _Face(self.open())
        try:
            yield face
        finally:
            with contextlib.suppress(Exception):
                face.close()


class AsyncBackplaneContract(_Laws):
    """The contract of an async backplane: the same, and that it can be cancelled. `open` is a coroutine."""

    async def open(self) -> AsyncBackplane:
        """A new backplane, which is well; all of one test's meet in the same place."""
        raise NotImplementedError(f"write {type(self).__name__}.open(): it returns a new backplane")

    @contextmanager
    def opened(self) -> Generator[_AwaitedFace]:
        """A backplane that is closed afterwards, with the loop that it was used in."""
        face = _AwaitedFace(self.open)
        try:
            yield face
        finally:
            with contextlib.suppress(Exception):
                face.close()
            face.end()

    def test_a_cancelled_call_ends_and_disturbs_nobody(self) -> None:
        """Cancelled at any moment, `listen` and `publish` end as cancelled; who else listens misses nothing."""
        with self.opened() as face:
            channel = _channel()
            kept = _Listening(face, channel).wait()
            for turns in range(TURNS):
                face.run(self._leave(face.backplane, channel, turns))
            face.call("publish", channel, LAST)
            received = [message for message in kept.up_to(LAST) if message != b"left"]
            wanted = [b"%d" % turns for turns in range(TURNS)]
            assert received == [*wanted, LAST], "a call that is cancelled must not disturb the others"

    async def _leave(self, backplane: AsyncBackplane, channel: str, turns: int) -> None:
        heard: list[bytes] = []
        listen = backplane.listen(channel, lambda: None, heard.append)
        for name, call in (("listen", listen), ("publish", backplane.publish(channel, b"left"))):
            task = asyncio.ensure_future(call)
            for _ in range(turns):
                await asyncio.sleep(0)
            accepted = task.cancel()
            (end,) = await asyncio.gather(task, return_exceptions=True)
            told = f"{name}, cancelled after {turns} turns of the loop, must end as cancelled, not with {end!r:.60}"
            assert isinstance(end, asyncio.CancelledError) or not accepted, told
        await backplane.publish(channel, b"%d" % turns)
        assert b"%d" % turns not in heard, "a listen that was cancelled must receive nothing more"


def _error(name: str, outcome: Future[object]) -> BaseException | None:
    try:
        return outcome.exception(PATIENCE)
    except TimeoutError:
        raise AssertionError(endless(name, PATIENCE)) from None


def _channel() -> str:
    return f"contract:{uuid.uuid4().hex}:{'x' * 100}"  # more than a name, so that none is cut in secret


def _raising(error: Exception) -> Callable[..., object]:
    def call(*_: object) -> None:
        raise error

    return call
