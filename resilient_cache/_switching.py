"""What follows when the mode changes: who may answer at once, what the store is given, and who is told.

Nothing here waits for a mode to end: the first request that comes after it finds the mode changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias, final

from ._guard import Guard
from ._local import Local
from ._reporting import Reporter
from ._request import Gates
from ._screening import Screening
from ._switch import Bypass, ModeSetting, Switch
from .entry import Slot, seconds
from .events import ModeChanged
from .outcome import Mode
from .ramp import Ramp

__all__ = ["NOTHING", "Peek", "Shown", "Switching"]

Peek: TypeAlias = Callable[[str], Slot[Any] | None]

FOREVER: Final = float("inf")
NOTHING: Final[dict[str, Slot[Any]]] = {}


@final
class Shown:
    """What hits in memory are answered from at once, where more is to be done for one than to look it up."""

    __slots__ = ("_monotonic", "_peek", "_reporter")

    def __init__(self, peek: Peek, monotonic: Callable[[], float], reporter: Reporter) -> None:
        self._peek = peek
        self._monotonic = monotonic
        self._reporter = reporter

    def __getitem__(self, key: str) -> Slot[Any]:
        entry = self._peek(key)
        if entry is None or self._monotonic() >= entry[1]:
            raise KeyError(key)
        self._reporter.tell_hit()
        return (entry[0], FOREVER, *entry[2:])  # what was told as a hit is one


class Switching:
    """The part of the decisions that is about modes.

    `peek` gives the entry of a key that may be answered at once, or None; so does `shown[key]`, or it raises
    `KeyError`, and the hooks have been told of the hit if it is one.
    """

    __slots__ = (
        *("_gates", "_seen", "_steady", "guard", "local", "monotonic"),
        *("peek", "ramp", "reporter", "screening", "shown", "switch"),
    )

    guard: Guard
    local: Local
    monotonic: Callable[[], float]
    ramp: Ramp
    reporter: Reporter
    screening: Screening
    shown: dict[str, Slot[Any]] | Shown
    switch: Switch
    _gates: Mapping[Mode, Gates]
    _seen: Mode
    _steady: Mode | None  # the mode while nobody has to be asked for it: one attribute instead of four calls

    def aim(self) -> None:
        """Let hits in memory be answered at once, or not. Under the lock, with what it follows from."""
        self._steady = self.switch.known if self.switch.fixed and self.switch.known is self._seen else None
        short = self.switch.steady and self.screening.own is None  # accept may change its mind: it is asked every time
        shown = self.local.memory.entries if short else NOTHING
        watched = self.switch.watched
        self.peek: Peek = shown.get if watched is None else watched.ahead_of(shown.get)
        plain = watched is None and not self.reporter.hooks  # a lookup in a dict takes half the time of a call of `get`
        self.shown = shown if plain else Shown(self.peek, self.monotonic, self.reporter)

    def mode(self) -> Mode:
        """The mode in force now."""
        mode = self.switch.mode()
        if mode is not self._seen:
            self._changed()
        return mode

    def set_mode(self, mode: ModeSetting) -> None:
        """Raises `MisuseError` for what is neither a mode nor a function."""
        with self.guard.lock:
            self.switch.set(mode)
            self.aim()
        self.mode()

    def bypass(self, for_: object = None) -> Bypass:
        """Begin one bypass. Raises `MisuseError` for a duration that is none."""
        lasting = FOREVER if for_ is None else seconds("for_", for_, least=0.001)
        with self.guard.lock:
            handle = self.switch.hold_locked(lasting)
            self.aim()
        self._changed()
        return Bypass(partial(self._release, handle))

    def close(self) -> bool:
        """Let no more requests in; whether it was closed already."""
        with self.guard.lock:
            was, self.switch.closed = self.switch.closed, True
            self.aim()
        return was

    def _release(self, handle: object) -> None:
        with self.guard.lock:
            self.switch.release_locked(handle)
            self.aim()
        self.mode()

    def _changed(self) -> None:
        with self.guard.lock:
            mode = Mode.BYPASS if self.switch.bypassed else self.switch.known  # by now: others may have switched since
            before, self._seen = self._seen, mode
            if self._gates[mode].write and not self._gates[before].write:
                self.ramp.begin(self.monotonic())
            self.aim()
        if before is not mode:
            self.reporter.tell(ModeChanged(self.reporter.name, before, mode))
