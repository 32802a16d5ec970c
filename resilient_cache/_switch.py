"""The kill switch of one cache: its mode, the bypasses in force, and whether it is closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, final

from ._reporting import LOGGER, Reporter
from .errors import MisuseError
from .outcome import Mode

__all__ = ["ModeSetting", "Switch"]

ModeSetting: TypeAlias = Mode | Callable[[], Mode]
"""A mode, or a function asked for it at every request."""


@final
class Switch:
    """The mode that requests are under. A mode function that fails leaves the mode as it last was."""

    __slots__ = ("_known", "_reporter", "_setting", "bypasses", "closed")

    def __init__(self, setting: ModeSetting, reporter: Reporter) -> None:
        self._reporter = reporter
        self._known = Mode.ON
        self.bypasses = 0
        self.closed = False
        self.set(setting)

    def set(self, setting: ModeSetting) -> None:
        """Raises `MisuseError` for what is neither a mode nor a function."""
        if not callable(setting):
            try:
                setting = self._known = Mode(setting)
            except ValueError:
                names = ", ".join(f"Mode.{mode.name}" for mode in Mode)
                raise MisuseError(
                    f"mode must be one of {names} or a function that gives one, not {setting!r}"
                ) from None
        self._setting = setting

    @property
    def steady(self) -> bool:
        """Whether requests may be answered from memory without asking here again."""
        return not (self.closed or self.bypasses or callable(self._setting) or self._setting is Mode.BYPASS)

    def mode(self) -> Mode:
        """The mode in force now."""
        if self.bypasses:
            return Mode.BYPASS
        if callable(self._setting):
            try:
                self._known = Mode(self._setting())
            except Exception:  # noqa: BLE001 - the caller's function, as a hook
                self._reporter.count("mode_errors")
                if self._reporter.counts["mode_errors"] == 1:
                    LOGGER.warning("cache %s: the mode function failed", self._reporter.name, exc_info=True)
        return self._known
