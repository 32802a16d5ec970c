"""`make prove`, in small: it counts, it replays, and it fails where it should."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from ..prove.__main__ import report, report_broken
from ..prove.kinds import KINDS
from ..prove.work import Tally, catch, sweep

ROOT = Path(__file__).parents[2]


def test_a_sweep_counts_what_it_ran() -> None:
    """A batch of every kind at least, each seed once."""
    tallies = sweep(start=5, step=2, seconds=0.01)
    assert set(tallies) == set(KINDS)
    assert sum(tally.schedules for tally in tallies.values()) > 0
    assert not any(tally.failed for tally in tallies.values())


def test_a_broken_cache_is_caught_after_some_seeds() -> None:
    """The number of seeds and the promise it broke."""
    count, rule = catch("tasks", "keeps nothing", 1)
    assert count == 1
    assert "did not hit" in rule


def test_the_report_fails_on_an_empty_cell_and_on_a_violation(capsys: pytest.CaptureFixture[str]) -> None:
    """And passes without either."""
    full = Counter(dict.fromkeys(KINDS["tasks"].cells, 1))
    assert report("tasks", Tally(schedules=10, spent=1.0, met=full))
    assert not report("tasks", Tally(schedules=10, spent=1.0))
    assert "empty cells: {cells} of {cells}".format(cells=len(KINDS["tasks"].cells)) in capsys.readouterr().out
    assert not report("tasks", Tally(schedules=10, spent=1.0, met=full, failed={3: ["wrong key: a for b"]}))
    assert "replay: python -m tests.prove --kind tasks --seed 3" in capsys.readouterr().out


def test_the_report_fails_on_a_broken_cache_that_is_not_caught() -> None:
    """One is enough."""
    names = [("tasks", "a"), ("tasks", "b")]
    assert report_broken(names, [(3, "x"), (4, "y")])
    assert not report_broken(names, [(3, "x"), (0, "")])


def test_a_seed_is_replayed_from_the_command_line() -> None:
    """The one-line command prints the violation and a shortened history, and fails where there is one."""

    def replay(*broken: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "tests.prove", "--seed", "1", *broken]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    failed, shown = replay("--broken", "keeps nothing")
    assert failed == 1
    assert "seed 1: a second read did not hit" in shown
    assert "shortened from" in shown
    assert "get_or_load" in shown
    failed, shown = replay()
    assert failed == 0
    assert "seed 1 keeps every promise" in shown
