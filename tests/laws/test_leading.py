"""Who leads a flight and who does not any more, L14 and L17: bare, where no caller could see who it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from resilient_cache import Lookup, Reason, Source
from resilient_cache.flights import Flight

from .stage import POLICY, Stage

Make = Callable[..., Stage]


class Interrupt(BaseException):
    """What takes a caller away."""


class Seat:
    """Somebody who leads instead."""

    verdict: str | None = None

    def wake(self) -> bool:
        return True


def led(
    monkeypatch: pytest.MonkeyPatch, there: Stage, answer: Callable[[Flight[Any]], Any], *, behind: bool = False
) -> Any:
    """What comes of leading a flight that has a permit, when `answer` is what is made of it."""
    rules, flow = there.cache._rules, there.cache._flow
    request = rules.begin("k", loads=True)
    flight, _ = rules.local.board(request, Seat, rules.monotonic())
    assert not rules.loads.origin.is_full(request, flight)

    def answered(_: Any, __: Any, flight: Flight[Any], ___: Any) -> Any:
        return answer(flight)

    async def awaited(_: Any, __: Any, flight: Flight[Any], ___: Any) -> Any:
        return answer(flight)

    request.asked = True
    monkeypatch.setattr(type(flow), "_load", answered if there.colour == "sync" else awaited)
    return flight, there.run(flow._lead, request, flight, None, None, behind=behind)


def test_who_leads_no_more_gives_no_permit_back(monkeypatch: pytest.MonkeyPatch, stage: Make) -> None:
    """The load that was begun beside the store's read has it, and goes on when the caller is taken away."""

    def overtaken(flight: Flight[Any]) -> None:
        flight.leader = Seat()
        raise Interrupt

    there = stage()
    with pytest.raises(Interrupt):
        led(monkeypatch, there, overtaken)
    assert there.cache.health()["origin"]["loads"] == 1


def test_who_leads_no_more_lands_nothing(monkeypatch: pytest.MonkeyPatch, stage: Make) -> None:
    """The load does, when it ends."""
    found = Lookup(1, Source.LOADER, Reason.ABSENT, 0.0)

    def overtaken(flight: Flight[Any]) -> Any:
        flight.leader = Seat()
        return found

    flight, outcome = led(monkeypatch, stage(), overtaken)
    assert outcome is found
    assert flight.outcome is None


def test_a_fault_of_our_own_is_not_taken_for_the_loaders(monkeypatch: pytest.MonkeyPatch, stage: Make) -> None:
    """Also behind: it is not remembered as how the load ended, and nobody waits for that flight any more."""

    def broken(_: Flight[Any]) -> None:
        raise ZeroDivisionError

    there = stage()
    with pytest.raises(ZeroDivisionError):
        led(monkeypatch, there, broken, behind=True)
    assert (there.cache.health()["flights"], there.cache.health()["origin"]["loads"]) == (0, 0)


def test_who_inherits_a_refresh_knows_the_marks_that_it_is_written_under(stage: Make) -> None:
    """Who began it would have asked for them; without them nobody would believe what is stored."""
    there = stage(policy=replace(POLICY, epoch_ttl=10))
    rules, flow = there.cache._rules, there.cache._flow
    heir = rules.begin("k", loads=True)
    flight, _ = rules.local.board(heir, Seat, rules.monotonic())
    flight.forced = True
    assert there.run(flow._load, heir, flight, there.loader("new")).value == "new"
    assert "laws:k" in there.stored
