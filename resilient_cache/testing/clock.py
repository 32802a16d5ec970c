"""Time under the control of a test: a clock that is moved by hand, an event loop that moves it instead of waiting."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar, final

__all__ = ["Deadlock", "ManualClock", "ManualLoop", "MovableClock", "run_virtual"]

T = TypeVar("T")


class Deadlock(RuntimeError):
    """Raised where a real program would wait for ever: nothing is ready and no timer is set."""


class MovableClock(Protocol):
    """What a test's stores and loaders need of a clock: a `ManualClock`, or the one that threads of a run share."""

    def monotonic(self) -> float:
        """Seconds since any fixed moment; never goes back."""
        ...

    def time(self) -> float:
        """Seconds since the epoch, as far as `jump` leaves it so."""
        ...

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass for the caller."""
        ...

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back by a negative number."""
        ...


@final
class ManualClock:
    """Both clocks that a cache reads, in seconds. They stand still until they are moved.

    `start` is the first reading of the monotonic clock, `wall` that of the wall clock. A clock may be read by any
    number of threads and is moved by one at a time.
    """

    __slots__ = ("_monotonic", "_wall")

    def __init__(self, start: float = 1_000.0, *, wall: float = 1_750_000_000.0) -> None:
        self._monotonic = start
        self._wall = wall

    def monotonic(self) -> float:
        """Seconds since any fixed moment; never goes back."""
        return self._monotonic

    def time(self) -> float:
        """Seconds since the epoch, as far as `jump` leaves it so."""
        return self._wall

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass on both clocks. Raises `ValueError` for less than none."""
        if not seconds >= 0:
            raise ValueError(f"seconds must be at least 0, not {seconds!r}: only the wall clock goes back, by jump()")
        self._monotonic += seconds
        self._wall += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back by a negative number, as an operator or NTP does."""
        self._wall += seconds


class _NoWaiting(selectors.BaseSelector):
    """A real selector that is only ever polled; where it would wait, the clock moves."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._real = selectors.DefaultSelector()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if not ready and timeout is None:
            raise Deadlock("every task waits for something that nothing left will bring, and no timer is set")
        if not ready and timeout is not None:
            self._clock.advance(max(0.0, timeout))
        return ready


@final
class ManualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time: with nothing ready it moves `clock` to the next timer instead of waiting for it.

    An hour of timeouts takes no time. Whoever is awaited must be in this loop too: a reply over a network is not waited
    for. What is to run in a thread (`asyncio.to_thread`) runs at once, in this one. Raises `Deadlock` where a real loop
    would hang.
    """

    def __init__(self, clock: ManualClock) -> None:
        self._manual = clock
        super().__init__(_NoWaiting(clock))
        # A timer fires when it is due before time() plus this. Of 1e-9, as it comes, nothing is left in a sum beyond
        # 2**24 s: no timer would ever be due after 194 days. Of 1e-6, there is until 2**34 s, five centuries.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """The clock's monotonic reading."""
        return self._manual.monotonic()

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """The result of `func(*args)`, which runs here and now."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited
            future.set_exception(error)
        return future


def run_virtual(main: Coroutine[Any, Any, T], clock: ManualClock) -> T:
    """What `main` returns, run to its end in a `ManualLoop` over `clock`; like `asyncio.run` otherwise."""
    with asyncio.Runner(loop_factory=lambda: ManualLoop(clock)) as runner:
        return runner.run(main)
