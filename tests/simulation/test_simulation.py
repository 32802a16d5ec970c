"""The simulation itself: repeatable, without a violation for the real cache, with one for each broken cache."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from resilient_cache import AsyncResilientCache
from resilient_cache.testing import Deadlock
from resilient_cache.testing.simulation import Run, Setup, shorten, shorten_threads, simulate, simulate_threads
from resilient_cache.testing.simulation.peers import Interference
from resilient_cache.testing.simulation.seeded import SeededLoop
from resilient_cache.testing.simulation.swarm import MANY, OPERATIONS
from resilient_cache.testing.simulation.tape import Tape, shrink
from resilient_cache.testing.simulation.weather import MISHAPS, Trouble

from ..prove.caches import BROKEN, breaking, real, run, short
from ..virtual import pass_time

SEEDS = range(250)
ENOUGH = 3_000
SINCE = {
    "late ticket counted": 483,
    "no second delete": 776,
    "replay confirmed by an older delete": 101,
    "mark written, word not kept": 148,
    "gap distrusted but for reads in the air": 148,
    "flight of before a gap joined": 148,
    "vendor's write of unknown outcome not doubted": 2_117,
    "overflow that forgets": 270,
    "flight ends with its first caller": 125,
    "write of unknown outcome forgotten": 325,
    "marks believed unread": 523,
    "any version of a mark accepted": 269,
    "loads in the air ignore a mark": 305,
    "gap not distrusted": 81,
    "read from a vendor that owes": 90,
    "confirmed although a vendor did not": 48,
    "debt of a vendor settled by an earlier delete": 1_053,
}
"""Each broken cache is caught within so many seeds, most within a hundred. Those that need more are looked for from
near where they were found, to save time."""

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return [run(seed) for seed in SEEDS]


def test_the_real_cache_keeps_every_promise(runs: list[Run]) -> None:
    """No violation, on any of some hundred seeds. A longer sweep is `make prove`."""
    assert not {seed: ran.violations for seed, ran in enumerate(runs) if ran.violations}


def test_the_seeds_are_rich(runs: list[Run]) -> None:
    """They meet every trouble, every operation and every state; some are calm; most hit and most load."""
    met = {cell for ran in runs for cell in ran.met}
    assert {trouble for trouble, _, _ in met} == set(Trouble) | set(Interference)
    assert {operation for _, operation, _ in met} == {*OPERATIONS, *MANY}
    assert any(ran.swarm.vendors for ran in runs)
    assert {state for _, _, state in met} == {"closed", "open", "half_open"}
    assert {trouble for ran in runs for trouble in ran.suffered} == set(Trouble) - MISHAPS
    assert any(ran.swarm.calm for ran in runs)
    assert sum(bool(ran.history.loads) for ran in runs) > len(runs) // 2
    assert sum(any(rest.stats["hits"] for rest in ran.history.rests) for ran in runs) > len(runs) // 2


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_cache_is_caught(broken: str) -> None:
    """Each, sooner or later."""
    since = SINCE.get(broken, 0)
    with breaking(broken):
        assert any(run(seed).violations for seed in range(since, since + ENOUGH))


DIGEST = """
import hashlib
from tests.prove.caches import run
print(hashlib.sha256("".join(run(seed).history.text() for seed in range(20)).encode()).hexdigest())
"""


def test_a_seed_is_a_history(runs: list[Run]) -> None:
    """Byte for byte the same history: again, from its own tape, and in a process whose hashes are others."""
    texts = [before.history.text() for before in runs[:20]]
    assert [run(seed).history.text() for seed in range(20)] == texts
    assert [run(choices=before.choices).history.text() for before in runs[:20]] == texts
    again = subprocess.run(
        [sys.executable, "-c", DIGEST], cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": "4711"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert again.stdout.strip() == hashlib.sha256("".join(texts).encode()).hexdigest()


def test_a_failing_run_is_shortened() -> None:
    """The shorter tape breaks the same promise, and a run that breaks another is not mistaken for it."""
    with breaking("confirmed whatever the store said"):
        found = next(found for seed in SEEDS if (found := run(seed)).violations)
        brief = short(found, 60)
    assert len(brief.choices) <= len(found.choices)
    assert found.violations[0].rule in {violation.rule for violation in brief.violations}
    assert len(brief.history.text(until=10).splitlines()) <= 10


def test_a_stuck_cache_is_reported() -> None:
    """A simulation in which nothing goes on any more ends, with a complaint."""

    async def never(*_: object) -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resilient_cache._async_flow.Flow.look_up", never)
        found = next(found for seed in SEEDS if (found := run(seed)).violations)
    shown = "\n".join(map(str, found.violations))
    assert "a call never ended: " in shown
    assert "the runtime complains: deadlock" in shown


def test_a_circuit_that_never_closes_is_reported() -> None:
    """Callers do not knock for ever."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resilient_cache.breaker.Breaker._success_locked", lambda *_: None)
        rules = {violation.rule for seed in range(20) for violation in simulate(real, seed).violations}
    assert "a circuit did not close again" in rules


def test_a_task_that_is_left_over_is_reported() -> None:
    """Even where everything else is as it should be."""

    leaks: list[asyncio.Task[bool]] = []

    async def leak(_: object) -> None:
        leaks.append(asyncio.get_running_loop().create_task(asyncio.Event().wait()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resilient_cache.AsyncResilientCache.aclose", leak)
        assert "tasks are left" in str(simulate(real, 0).violations)


def test_a_loader_that_is_asked_for_another_key_is_reported() -> None:
    """The loader's argument is the caller's key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resilient_cache._async_flow.load", lambda loader, key: loader("other"))
        assert "was asked for other" in str(simulate(real, 1).violations)


# The loop and the tape


def test_the_loop_chooses_the_order() -> None:
    """Tasks that are ready together run in an order that is the tape's; orderly, in asyncio's own."""

    async def main(loop: SeededLoop) -> str:
        order: list[str] = []
        tasks = [loop.create_task(pass_time(1.0, name)) for name in "abcdef"]
        for task in tasks:
            task.add_done_callback(lambda task: order.append(task.result()))
        await pass_time(2.0)
        return "".join(order)

    def order(seed: int, *, orderly: bool = False) -> str:
        loop = SeededLoop(Tape(seed), orderly=orderly)
        began = loop.time()
        result = loop.run(main(loop))
        assert loop.time() == began + 2.0
        return result

    assert order(0, orderly=True) == "abcdef"
    assert len({order(seed) for seed in range(30)}) > 10
    assert order(3) == order(3)


def test_the_loop_says_when_it_hangs() -> None:
    """Nothing to come, or no end to what comes."""

    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    async def spin() -> None:
        while True:
            await pass_time(0)

    for main, what in ((wait, "nothing left"), (spin, "no end")):
        with pytest.raises(Deadlock, match=what):
            SeededLoop(Tape()).run(main())


def test_the_loop_is_a_loop() -> None:
    """What is cancelled does not run, what fails is noted, a closed loop says so."""
    loop = SeededLoop(Tape())
    ran: list[str] = []

    async def main() -> None:
        timer = loop.call_later(1.0, ran.append, "timer")
        soon = loop.call_soon(ran.append, "soon")
        loop.call_soon(int, "no number")
        for handle in (timer, soon):
            handle.cancel()
        assert soon.cancelled()
        assert timer.when() == loop.time() + 1.0
        assert asyncio.get_running_loop() is loop
        await pass_time(2.0)

    loop.run(main())
    assert ran == []
    assert "a callback failed" in loop.complaints[0]
    assert not loop.get_debug()
    assert loop.is_running()
    loop.close()
    assert loop.is_closed()


def test_a_tape_is_read_back() -> None:
    """As it was, and with zeros after its end: the plainest choice."""
    tape = Tape(7)
    made = [tape.choose(10) for _ in range(5)] + [tape.chance(0.5), tape.pick("abc"), tape.some("xyz"), tape.random()]
    back = Tape(choices=tape.choices)
    assert [back.choose(10) for _ in range(5)] + [
        back.chance(0.5), back.pick("abc"), back.some("xyz"), back.random()
    ] == made  # fmt: skip
    assert (back.choose(9), back.chance(0.9), back.pick("abc"), back.some("xyz"), back.random()) == (
        0,
        False,
        "a",
        [],
        0,
    )


def test_shrinking_finds_what_matters() -> None:
    """From many choices to the few that fail, and no more tries than allowed."""
    long = [5, 0, 3, 9, 1, 7, 7, 2, 8, 4] * 8
    assert shrink(long, lambda choices: 9 in choices and 4 in choices) in ([9, 4], [4, 9])
    assert shrink(long, lambda choices: 9 in choices, runs=0) == long
    assert shrink([1, 1], lambda choices: False) == [1, 1]
    assert shrink([], lambda choices: True) == []


@pytest.mark.parametrize("method", ["stats", "health", "aclose"])
def test_what_a_cache_raises_at_its_end_is_a_complaint(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: object) -> None:
        raise RuntimeError("wrong")

    monkeypatch.setattr(AsyncResilientCache, method, fails)
    ran = simulate(lambda setup: AsyncResilientCache(setup.adapter, **setup.options), 1)
    assert "a cache raised RuntimeError: wrong" in ran.history.complaints
    assert "the runtime complains" in {violation.rule for violation in ran.violations}


def test_a_good_run_is_not_shortened_and_a_seed_is_a_number() -> None:
    def make(setup: Setup) -> AsyncResilientCache[str, str]:
        return AsyncResilientCache(setup.adapter, **setup.options)

    good, nobody = simulate(make, choices=[]), cast("Any", None)
    assert not good.violations
    for shortened in (shorten, shorten_threads):
        with pytest.raises(ValueError, match="run must have broken a promise"):
            shortened(make, good)
    for simulated in (simulate, simulate_threads):
        with pytest.raises(TypeError, match="seed must be int, not None"):
            simulated(make, nobody)
