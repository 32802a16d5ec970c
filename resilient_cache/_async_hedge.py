"""A load that does not wait for a store that thinks for long, for tasks. Twin of `_sync_hedge.py`.

What is decided is in `_hedging.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, final

from ._async_marks import MarkStore
from ._asyncio import Behind, Seat
from ._hedging import Race
from ._request import Request
from ._rules import Rules
from .flights import Flight
from .marks import NAMESPACE
from .outcome import Lookup
from .policy import float_of

__all__ = ["Hedge"]


@final
class Hedge:
    """The hedged reads of one cache."""

    __slots__ = ("_behind", "_marks", "_rules")

    def __init__(self, rules: Rules, marks: MarkStore, behind: Behind) -> None:
        self._rules = rules
        self._marks = marks
        self._behind = behind

    async def read(
        self,
        request: Request,
        flight: Flight[Any],
        read: Callable[[Request], Awaitable[Lookup[Any] | None]],
        load: Callable[[Request], Awaitable[Any]],
    ) -> tuple[Lookup[Any] | None, Any]:
        """What the store has, and None; or None, and the seat in which to wait for the flight, led by a load by then.

        Where nothing runs behind there is no hedge, nor where the store will not be asked or no load may begin.
        """
        rules = self._rules
        now = rules.monotonic()
        race = Race(request, flight, rules.local, rules.guard.lock, until=rules.within(request, now))
        if (
            not request.gates.load
            or rules.guard.is_down(f"{rules.name}:{request.key}")
            or not self._behind.spawn(lambda: self._read(race, read), race.end)
        ):
            return await read(request), None
        request.asked = True
        await self._wait(race, now + float_of(request.policy.hedge_after or 0.0))
        if rules.loads.origin.crowded:  # the load would only queue
            await self._wait(race, race.until)
        place = race.overtake(request, Seat)
        if place is not None:
            if self._behind.spawn(
                lambda: self._load(race, flight, load), lambda: rules.local.leave(flight, race, rules.monotonic())
            ):
                return None, place
            race.give_back(place, rules.monotonic())
            await self._wait(race, race.until)
        return race.take(request), None

    async def _wait(self, race: Race, until: float) -> None:
        seat = race.sit(Seat)
        if seat is not None:
            await seat.wait(max(0.0, until - self._rules.monotonic()))

    async def _read(self, race: Race, read: Callable[[Request], Awaitable[Lookup[Any] | None]]) -> None:
        try:
            found = await read(race.reading)
        except BaseException as error:
            taken_away = not isinstance(error, Exception) and not self._behind.strikes(error)
            if not race.end(error=None if taken_away else error) or taken_away:
                raise
            return
        if not race.end(found) and race.reading.answered:  # so that it is known which marks later loads are under
            await self._marks.look(race.reading, (NAMESPACE,), self._rules.monotonic())

    async def _load(self, race: Race, flight: Flight[Any], load: Callable[[Request], Awaitable[Any]]) -> None:
        rules, running = self._rules, race.running
        try:
            outcome = await load(running)
            if race.lacks(outcome):
                await self._wait(race, race.until)
            outcome = race.best(outcome)
        except BaseException as error:
            rules.loads.origin.left(flight)
            if not self._behind.strikes(error):
                rules.local.leave(flight, race, rules.monotonic())
                raise
            outcome = rules.loads.failed(running, flight, error)
        rules.local.land(flight, outcome)
