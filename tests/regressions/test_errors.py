"""A loader's error on its way to the caller: as it is, once, and leaving nothing behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resilient_cache import _async_flow, _sync_flow
from resilient_cache.flights import LEADING, Flight, lead
from resilient_cache.testing import Fault, FaultKind, ManualLoop

from ..laws.stage import Stage
from ..laws.tasks import Room
from ..laws.test_threads import Interrupt

both_colours = pytest.mark.parametrize("colour", ["sync", "async"])


class Stubborn(Exception):
    """An error that gives another in its place."""

    def with_traceback(self, _: Any) -> Any:
        return RuntimeError("another")


@both_colours
def test_an_error_that_gives_another_in_its_place(colour: str) -> None:
    """The loader's error reaches its caller as the same object, whatever its methods do."""
    stage, error = Stage(colour), Stubborn()
    with pytest.raises(Stubborn) as seen:
        stage.load("k", error)
    assert seen.value is error


@both_colours
def test_a_leader_that_is_struck_as_it_begins(colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt in the very moment of taking the lead leaves no trace of it: the key can be loaded at once."""
    stage = Stage(colour)

    def struck(flight: Flight[Any]) -> None:
        lead(flight)
        raise Interrupt

    with monkeypatch.context() as patched:
        patched.setattr(_sync_flow if colour == "sync" else _async_flow, "lead", struck)
        with pytest.raises(Interrupt):
            stage.load("k", "v")
    assert (LEADING.get(), stage.cache.health()["flights"]) == ((), 0)
    assert stage.load("k", "v") == "v"


@pytest.mark.parametrize("fault", [None, Fault(FaultKind.HANG)], ids=["load", "store"])
def test_a_request_that_dies_after_its_loop(fault: Fault | None) -> None:
    """A request thrown away outside its context, when its loop is closed, ends quietly and gives its permit back."""
    room = Room()
    room.plan.then("get", fault)
    loop = ManualLoop(room.clock)
    course = room.load("k", 30.0)
    task: Any = loop.create_task(course)
    for _ in range(5):
        loop.run_until_complete(_turn())
    abandoned: list[Any] = [each for each in asyncio.all_tasks(loop) if each is not task]
    loop.close()
    for each in (task, *abandoned):
        each._log_destroy_pending = False
    course.close()
    for each in abandoned:
        each.get_coro().close()
    health = room.cache.health()
    assert (health["flights"], health["store_calls_in_flight"]) == (0, 0)


async def _turn() -> None:
    """One turn of a loop."""
