"""The kill switch of one cache: its mode, the bypasses in force, and whether it is closed."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from types import TracebackType
from typing import Final, TypeAlias, final

from ._reporting import LOGGER, Reporter
from .control import Control
from .errors import MisuseError
from .outcome import Mode

__all__ = ["Bypass", "ModeSetting", "Switch"]

ModeSetting: TypeAlias = Mode | Callable[[], Mode]
"""A mode, or a function asked for it at every request."""

FOREVER: Final = float("inf")
PAST: Final = -FOREVER


@final
class Switch:
    """The mode that requests are under. A mode function that fails leaves the mode as it last was.

    A bypass ends by itself without a timer: its end is a moment that whoever asks compares with the clock.
    """

    __slots__ = ("_bypasses", "_ends", "_last", "_monotonic", "_reporter", "_setting", "closed")

    def __init__(self, setting: ModeSetting, reporter: Reporter, monotonic: Callable[[], float]) -> None:
        self._reporter = reporter
        self._monotonic = monotonic
        self._bypasses: dict[object, float] = {}
        self._ends = PAST  # when the last of them ends
        self.closed = False
        self._setting: ModeSetting = Mode.ON
        self.set(setting)

    def set(self, setting: ModeSetting) -> None:
        """Raises `MisuseError` for what is neither a mode nor a function."""
        if iscoroutinefunction(setting):  # what it gives is no mode, so it would switch nothing off
            raise MisuseError(f"mode must be a Mode or a plain function that gives one, not {setting!r}")
        if not callable(setting):
            try:
                setting = Mode(setting)
            except ValueError:
                names = ", ".join(f"Mode.{mode.name}" for mode in Mode)
                raise MisuseError(
                    f"mode must be one of {names} or a function that gives one, not {setting!r}"
                ) from None
        self._last = self.known  # what a function last said, to begin with what there was
        self._setting = setting

    def hold_locked(self, seconds: float) -> object:
        """One more bypass, for so long; what to let go of it with."""
        now, handle = self._monotonic(), object()
        live = {held: until for held, until in self._bypasses.items() if now < until}
        self._ends_locked({**live, handle: now + seconds})
        return handle

    def release_locked(self, handle: object) -> None:
        """That bypass is over, if it is not yet."""
        self._ends_locked({held: until for held, until in self._bypasses.items() if held is not handle})

    @property
    def known(self) -> Mode:
        """The mode as it last was, but for bypasses."""
        setting = self._setting
        return setting if isinstance(setting, Mode) else self._last

    @property
    def bypassed(self) -> bool:
        """Whether a bypass holds now."""
        ends = self._ends
        return ends != PAST and self._monotonic() < ends

    @property
    def steady(self) -> bool:
        """Whether requests may be answered from memory without asking here again, but for what `watched` says."""
        asked = callable(self._setting) and self.watched is None
        return not (self.closed or self.bypassed or asked or self._setting is Mode.BYPASS)

    @property
    def fixed(self) -> bool:
        """Whether the mode stays as it is known until somebody switches it."""
        return not (self.closed or self.bypassed or callable(self._setting))

    @property
    def watched(self) -> Control | None:
        """What knows by itself when it has to be asked again."""
        return self._setting if isinstance(self._setting, Control) else None

    @property
    def ends_in(self) -> float | None:
        """Seconds after which the mode in force ends by itself; None when it does not, or nobody knows."""
        if self.bypassed:
            left = self._ends - self._monotonic()
            return left if left < FOREVER else None
        return None if self.watched is None else self.watched.ends_in

    def mode(self) -> Mode:
        """The mode in force now."""
        if self._ends != PAST and self.bypassed:  # the first spares most requests a call
            return Mode.BYPASS
        setting = self._setting  # once: it may be switched by hand at any moment, and that holds
        if isinstance(setting, Mode):
            return setting
        try:
            mode = Mode(setting())
        except Exception:  # noqa: BLE001 - the caller's function, as a hook
            mode = setting.in_force if isinstance(setting, Control) else self._last  # it knows when its last one ends
            self._reporter.count("mode_errors")
            if self._reporter.counts["mode_errors"] == 1:
                LOGGER.warning("cache %s: the mode function failed", self._reporter.name, exc_info=True)
        self._last = mode
        return mode

    def _ends_locked(self, bypasses: dict[object, float]) -> None:
        self._bypasses = bypasses
        self._ends = max(bypasses.values(), default=PAST)


@final
class Bypass:
    """The handle of a bypass: `release()`, once or more often, or leave its `with` block."""

    __slots__ = ("_release",)

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """End it, unless its time is over already. Releasing twice is harmless."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def __enter__(self) -> Bypass:
        """The handle itself. Raises `MisuseError` when it was released: nothing would be bypassed."""
        if self._release is None:
            raise MisuseError("this bypass was released: call bypassed() again for another one")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release it."""
        self.release()
