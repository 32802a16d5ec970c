"""Plays one fault under load and measures it: a row of the failure matrix."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from resilient_cache import BreakerPolicy

from .load import LOADS, Pace
from .scenes import FAULTS, Fault
from .stage import Stage
from .watch import Watch

__all__ = ["DEFAULTS", "PACES", "QUICK", "Row", "play"]

QUICK = Pace(timeout=0.25, breaker=BreakerPolicy(hold=0.2, max_hold=0.4), hits=40, held=0.3)
DEFAULTS = Pace(timeout=0.25, breaker=BreakerPolicy(), hits=500, held=3.0)
PACES = {"quick": QUICK, "defaults": DEFAULTS}

ROOT = Path(__file__).parents[2]
PATIENCE = 10.0
"""How long is waited for what ought to happen."""
IN_FLIGHT = 0.02
"""What was let through before a circuit opened may reach the store so much later."""


@dataclass(frozen=True)
class Row:
    """What was measured, in seconds. `before` and `after`: the 99th percentile of what requests took during the fault,
    those that began before their circuit opened and those that began while it was open; None where there was none.
    `back`: from the end of the fault until the circuits were closed and the store was of use; None: never."""

    errors: list[str]
    wrong: list[str]
    hits_before: int
    before: float | None
    after: float | None
    opened: list[str]
    changes: int
    calls_while_open: int
    kinds: list[str]
    refused: list[str]
    back: float | None


def play(fault: Fault, colour: str, pace: str) -> Row:
    """The row of `fault`; one that changes the limits of its process gets a process of its own."""
    if not fault.alone:
        return play_here(fault, colour, PACES[pace])
    command = [sys.executable, "-m", "tests.faults", "--alone", fault.name, colour, pace]
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=90, check=True)
    return Row(**json.loads(ended.stdout))


def play_alone(name: str, colour: str, pace: str) -> str:
    """The row as JSON."""
    return json.dumps(asdict(play_here(FAULTS[name], colour, PACES[pace])))


def play_here(fault: Fault, colour: str, pace: Pace) -> Row:
    with Stage(colour, pace) as stage:
        scene = fault.scene(stage)
        next(scene)
        with LOADS[colour](stage.adapter, pace) as stage.load:
            watch = stage.load.watch
            if fault.well_first:
                until(lambda: len(watch.hits) >= pace.hits)
            injected = time.monotonic()
            again = next(scene)
            until(lambda: fault.opens <= watch.opened(), again)
            until(lambda: False, again, pace.held)
            ended = time.monotonic()
            next(scene, None)
            healed = time.monotonic()
            is_back = until(lambda: watch.is_well(healed))
            back = time.monotonic() - healed if is_back else None
        return measured(watch, injected, ended, back)


def until(
    happens: Callable[[], bool], meanwhile: Callable[[], object] | None = None, patience: float = PATIENCE
) -> bool:
    """Whether it happened in time; `meanwhile` is done again and again."""
    end = time.monotonic() + patience
    while not happens():
        if time.monotonic() > end:
            return False
        if meanwhile is not None:
            meanwhile()
        time.sleep(0.005)
    return True


def measured(watch: Watch, injected: float, ended: float, back: float | None) -> Row:
    times: dict[bool, list[float]] = {False: [], True: []}
    for began, took, direction in watch.requests:
        if began + took > injected and began < ended:
            times[watch.is_open(direction, began)].append(took)
    return Row(
        errors=[repr(error) for error in watch.errors],
        wrong=watch.wrong,
        hits_before=sum(hit < injected for hit in watch.hits),
        before=p99(times[False]),
        after=p99(times[True]),
        opened=sorted(watch.opened()),
        changes=len(watch.changes),
        calls_while_open=sum(watch.is_open(direction, at, since=IN_FLIGHT) for at, direction in watch.calls),
        kinds=sorted(watch.kinds),
        refused=sorted(watch.refused),
        back=back,
    )


def p99(times: Sequence[float]) -> float | None:
    return sorted(times)[int(0.99 * (len(times) - 1) + 0.5)] if times else None
