"""Where a mode can be kept so that it is switched from outside: in a file, or in the environment of the process.

What these hold is a line: a mode, and if need be when it ends. Empty lines and what follows a `#` say nothing.

    bypass
    bypass for 15m                      s, m, h, or seconds without a letter
    read_only until 2026-06-12T20:40Z   without an offset: UTC

After its end it is `on`. Nothing runs beside the requests: the one that finds the last look `every` seconds old looks
again, and in between it costs a reading of the clock. What cannot be read or understood leaves the mode and its
end as they were; the look that finds it so raises, which the cache counts in `mode_errors`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeVar, final

from ._files import check_path
from .entry import Duration, seconds
from .errors import MisuseError
from .outcome import Mode
from .protocols import Clock
from .stamps import SYSTEM_CLOCK

__all__ = ["ModeEnv", "ModeFile"]

T = TypeVar("T")

FOREVER: Final = float("inf")
LONGEST: Final = 4096
"""Characters of a file, at most."""

RACY: Final = 2.0
"""Seconds for which a file may be changed once more without another time of change, on the coarsest of file systems."""

LINE: Final = re.compile(r"([A-Za-z_-]+)(?:\s+(for|until)\s+(\S+))?")
SPAN: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smh]?)")
UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class Order(NamedTuple):
    """What a control says: a mode, and the end of it in seconds since the epoch."""

    mode: Mode
    until: float = FOREVER


def parse(text: str, since: float) -> Order:
    """The order in `text`, whose `for` counts from `since`. Raises `ValueError` for what is none."""
    if len(text) > LONGEST:  # what is not seen may go on
        raise ValueError(f"longer than {LONGEST} characters")
    said = [line for line in (line.partition("#")[0].strip() for line in text.splitlines()) if line]
    found = LINE.fullmatch(said[0]) if len(said) == 1 else None
    if found is None:
        raise ValueError(f"not one line with a mode, like 'bypass' or 'bypass for 15m': {text[:60]!r}")
    name, how, when = found.groups()
    mode = Mode(name.lower().replace("-", "_"))
    if how is None:
        return Order(mode)
    if how == "until":
        moment = datetime.fromisoformat(when)
        return Order(mode, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    span = SPAN.fullmatch(when)
    if span is None:
        raise ValueError(f"not a duration like 900, 15m or 1h: {when!r}")
    return Order(mode, since + float(span[1]) * UNITS[span[2]])


class Seen(NamedTuple):
    """What the last look found, and the order that it is, or that held before it when it is none."""

    order: Order = Order(Mode.ON)
    text: str = ""
    version: tuple[int, ...] = ()
    settled: bool = True


NOTHING: Final = Seen()


class Control:
    """A mode that is looked up outside, at most once in `every` seconds.

    Shared by threads without a lock: what a look has found is put in place at once, together with what it was found
    in, so one that comes late is put right by the next one.
    """

    __slots__ = ("_clock", "_due", "_every", "_over", "_seen")

    def __init__(self, every: Duration, clock: Clock) -> None:
        self._every = seconds("every", every)
        self._clock = clock
        self._due = -FOREVER
        self._seen = NOTHING
        self._over: Order | None = None  # the last one that has ended

    def __call__(self) -> Mode:
        """The mode that holds now. Raises `OSError` or `ValueError` when a look found nothing of use."""
        now = self._clock.monotonic()
        if now >= self._due:
            self._due = now + self._every  # first: others need not look too, and a look that fails is not repeated
            self._look()
        return self.in_force

    @property
    def in_force(self) -> Mode:
        """The mode that holds now, as of the last look that found one. An end that has come is final."""
        order = self._seen.order
        if order is self._over or self._clock.time() >= order.until:
            self._over = order  # or a clock that goes back would switch it on again
            return Mode.ON
        return order.mode

    @property
    def ends_in(self) -> float | None:
        """Seconds until the mode ends by itself, None when it does not."""
        order = self._seen.order
        left = order.until - self._clock.time()
        return left if 0 < left < FOREVER and order is not self._over else None

    def ahead_of(self, get: Callable[[str], T | None]) -> Callable[[str], T | None]:
        """`get`, as long as its answers need not be held against a mode: until the next look, and not in a bypass.

        A hit in memory that asks for the mode takes the long way, which is 20 times as long.
        """
        monotonic, time = self._clock.monotonic, self._clock.time

        def peek(key: str) -> T | None:
            if monotonic() < self._due:
                mode, until = self._seen.order
                if mode is not Mode.BYPASS or (until < FOREVER and until <= time()):
                    return get(key)
            return None

        return peek

    def _look(self) -> None:
        raise NotImplementedError

    def _heed(self, found: Seen, since: float) -> None:
        """Take over what was found. Raises `ValueError` when it is no order, the first time."""
        before = self._seen
        self._seen = found = found._replace(order=before.order)
        if (found.text, found.version) != (before.text, before.version):
            self._seen = found._replace(order=parse(found.text, since))


@final
class ModeFile(Control):
    """The mode that is written in a file: `mode=ModeFile("/run/shop/cache.mode")`. No file: `on`.

    `every`: seconds between two looks at the file, each of which is one `stat`; it is read only when it has changed.
    `for` counts from when the file was written, so it means the same to all processes and to one that starts later.
    The file is looked at where the request is: keep it on a local disk.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str | os.PathLike[str], *, every: Duration = 1.0, clock: Clock = SYSTEM_CLOCK) -> None:
        """Touches nothing. Raises `MisuseError` for what is no path and for a duration that is none."""
        super().__init__(every, clock)
        self._path = check_path(path)

    def _look(self) -> None:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            self._seen = NOTHING
            return
        if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for whoever writes into it
            raise OSError(f"not a file: {self._path}")
        version = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if version == self._seen.version and self._seen.settled:
            return
        with open(self._path, encoding="utf-8-sig", errors="replace") as file:
            text = file.read(LONGEST + 1)
        settled = abs(self._clock.time() - found.st_mtime) >= RACY
        self._heed(Seen(text=text, version=version, settled=settled), found.st_mtime)


@final
class ModeEnv(Control):
    """The mode that is set in `os.environ`: `mode=ModeEnv("REGIONS_CACHE_MODE")`. Not set, or empty: `on`.

    Nobody changes the environment of a running process from outside: this is for how it was started, and for what
    sets `os.environ` within, like an admin endpoint. `for` counts from when this process first read it.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str, *, every: Duration = 1.0, clock: Clock = SYSTEM_CLOCK) -> None:
        """Reads nothing. Raises `MisuseError` for what is no name of a variable and for a duration that is none."""
        super().__init__(every, clock)
        self._name = _variable(name)

    def _look(self) -> None:
        text = os.environ.get(self._name, "").strip()
        if text:
            self._heed(Seen(text=text), self._clock.time())
        else:
            self._seen = NOTHING


def _variable(name: object) -> str:
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:
        raise MisuseError(f"name must be the name of an environment variable, not {name!r}")
    return name
