"""A simulated backplane: subscriptions that are lost, messages that are late or lost with them, publishers unheard."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final, NamedTuple, final

from .histories import EVERYTHING, History, Word
from .seeded import SeededLoop
from .tape import Tape

__all__ = ["Hub", "Interference", "Place"]


class Interference(StrEnum):
    """A kind of bad weather over a backplane."""

    CUT = "plane_cut"  # subscriptions end, none can be made, and nobody can publish
    MUTE = "plane_mute"  # publishing is refused
    LOSSY = "plane_lossy"  # messages are lost, and the subscription some time after that
    UNHEARD = "plane_unheard"  # a message is handed over, and nobody says so
    SLOW = "plane_slow"  # messages take their time; those of different publishers overtake each other


USUAL: Final = (0.0, 1 / 64, 1 / 8)
LONG: Final = (1 / 2, 1.0, 1 / 8)


class Disturbance(NamedTuple):
    """One state of bad weather, and whom it hits."""

    trouble: Interference
    processes: frozenset[int]


@final
class _Ear:
    """One subscription."""

    __slots__ = ("_over", "late", "process", "receive")

    def __init__(self, loop: SeededLoop, process: int, receive: Callable[[bytes], object]) -> None:
        self.process = process
        self.receive = receive
        self.late = False  # it has lost a message, and is about to end
        self._over = loop.create_future()

    @property
    def ended(self) -> bool:
        return self._over.done()

    def end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    async def wait(self) -> None:
        await self._over


@final
class Hub:
    """Where the backplanes of all processes meet. `names`: what a message may hold, and what the checker calls it."""

    def __init__(
        self, loop: SeededLoop, tape: Tape, history: History, keys: Iterable[str], tags: Iterable[str]
    ) -> None:
        self.loop = loop
        self.weather: list[Disturbance] = []
        self._well = False
        self._tape = tape
        self._history = history
        self._ears: dict[int, _Ear] = {}
        self._arrived: dict[tuple[int, int], float] = {}  # of the last message of one publisher to one subscriber
        told = {f"k{key}": key for key in keys} | {"m": EVERYTHING} | {f"mtag:{tag}": tag for tag in tags}
        self._names = [(len(name).to_bytes(4, "big") + name.encode(), shown) for name, shown in told.items()]

    def begin(self, disturbance: Disturbance) -> None:
        """From now on that is the weather, too."""
        self.weather.append(disturbance)
        if disturbance.trouble is Interference.CUT:
            for process in disturbance.processes & self._ears.keys():
                self._ears[process].end()

    def heal(self) -> None:
        """Let all be well; whoever has lost a message is cut off at last."""
        self._well = True
        self.weather.clear()
        for ear in self._ears.values():
            if ear.late:
                ear.end()

    def hits(self, process: int, *troubles: Interference) -> bool:
        """Whether any of the troubles is over that process."""
        return any(front.trouble in troubles and process in front.processes for front in self.weather)

    def publish(self, process: int, message: bytes) -> None:
        """Hand `message` to whoever listens now; the subscriber gets those of one publisher in their order."""
        names = tuple(shown for name, shown in self._names if name in message)
        if self.hits(process, Interference.CUT, Interference.MUTE):
            self._history.word(process, "untold", names)
            raise ConnectionRefusedError("refused")
        unheard = self.hits(process, Interference.UNHEARD)
        word = self._history.word(process, "unheard" if unheard else "told", names)
        for ear in list(self._ears.values()):
            self._send(ear, message, word)
        if unheard:
            raise ConnectionResetError("reset")

    async def listen(self, process: int, ready: Callable[[], object], receive: Callable[[bytes], object]) -> None:
        """As a backplane does."""
        if not self.hits(process, Interference.CUT):
            self._ears[process] = ear = _Ear(self.loop, process, receive)
            try:
                self._history.word(process, "ready")
                ready()
                await ear.wait()
            finally:
                del self._ears[process]
                ear.end()
        self._history.word(process, "lost")
        raise ConnectionResetError("reset")

    def leave(self, process: int) -> None:
        """End what listens there."""
        if process in self._ears:
            self._ears[process].end()

    def _send(self, ear: _Ear, message: bytes, word: Word) -> None:
        loop, way = self.loop, (word.process, ear.process)
        if self.hits(ear.process, Interference.LOSSY):
            ear.late = True
            loop.call_later(self._tape.pick(LONG), ear.end)
            return
        at = max(self._arrived.get(way, 0.0), loop.now + self._delay(ear.process))
        self._arrived[way] = at
        if at > loop.now:
            loop.call_at(at, self._arrive, ear, message, word)
        else:
            self._arrive(ear, message, word)

    def _arrive(self, ear: _Ear, message: bytes, word: Word) -> None:
        if not ear.ended:  # or its process knows that it missed something
            self._history.word(ear.process, "heard", word.names, word.process, word.number)
            ear.receive(message)

    def _delay(self, process: int) -> float:
        if self._well:
            return 0.0
        return self._tape.pick(LONG if self.hits(process, Interference.SLOW) else USUAL)


@final
class Place:
    """One process's `AsyncBackplane`."""

    def __init__(self, hub: Hub, process: int) -> None:
        self._hub = hub
        self._process = process

    async def publish(self, _channel: str, message: bytes, /) -> None:
        """Hand it over, unless the weather forbids."""
        self._hub.publish(self._process, message)

    async def listen(self, _channel: str, ready: Callable[[], object], receive: Callable[[bytes], object], /) -> None:
        """Until the subscription is lost."""
        await self._hub.listen(self._process, ready, receive)

    async def aclose(self) -> None:
        """Listen no more."""
        self._hub.leave(self._process)
