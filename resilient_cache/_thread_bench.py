"""Waiting for many flights at once, for threads, and making many calls. Twin: `_task_bench.py`.

A caller that waited for one flight after the other would not notice that it is to lead one of the later ones, and
whoever waits for that one would wait with it.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import final

from ._threads import Seat
from .flights import AGAIN, LEAD

__all__ = ["Bench", "Place", "spread"]


@final
class Place:
    """Where one caller waits for one of its flights."""

    __slots__ = ("_bench", "verdict")

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.verdict: str | None = None

    def wake(self) -> bool:
        """Let the waiting side go on; False when it is known that nobody listens any more."""
        return self._bench.ring(self)


@final
class Bench:
    """The places of one caller. A place that is rung is given by the `wait` that is under way, or by the next.

    While its caller is `busy` it takes no lead: whoever waits for that flight, too, would wait until it is done. First
    `busy` is set, then what was rung before is asked for; `ring` does it the other way round.
    """

    __slots__ = ("_rung", "_seat", "busy")

    def __init__(self) -> None:
        self._rung: deque[Place] = deque()
        self._seat = Seat()
        self.busy = False

    def place(self) -> Place:
        """A new place."""
        return Place(self)

    def ring(self, place: Place) -> bool:
        """Called from any thread. First the place, then the seat: `wait` does it the other way round."""
        self._rung.append(place)
        if self.busy and place.verdict == LEAD and self._take_back(place):
            place.verdict = AGAIN
            self._rung.append(place)
            return False
        with contextlib.suppress(RuntimeError):  # rung before
            self._seat.wake()
        return True

    def wait(self, seconds: float) -> list[Place]:
        """Those that were rung, none when `seconds` are over."""
        self._seat = seat = Seat()
        if not self._rung:
            seat.wait(seconds)
        return self.rung()

    def rung(self) -> list[Place]:
        """Those that were rung by now."""
        return [self._rung.popleft() for _ in range(len(self._rung))]

    def _take_back(self, place: Place) -> bool:
        try:
            self._rung.remove(place)
        except ValueError:  # its caller takes it along
            return False
        return True


def spread(calls: Iterable[Callable[[], object]], _: int) -> None:
    """Make all calls, one after another."""
    for call in calls:
        call()
