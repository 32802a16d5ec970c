"""What follows when the mode changes, bare: who is told, and when."""

from __future__ import annotations

import pytest

from resilient_cache import MisuseError, Mode
from resilient_cache.events import Event, ModeChanged

from ..laws.stage import Stage


def test_the_end_of_a_bypass_is_told_when_it_is_released() -> None:
    """And not with the next request."""
    told: list[Event] = []
    rules = Stage("sync", hooks=[told.append]).cache._rules
    bypass = rules.bypass()
    bypass.release()
    changes = [(event.before, event.after) for event in told if isinstance(event, ModeChanged)]
    assert changes == [(Mode.ON, Mode.BYPASS), (Mode.BYPASS, Mode.ON)]


def test_a_function_that_answers_late_changes_nothing_that_was_set_by_hand() -> None:
    """It was asked before that, and another thread has switched meanwhile: nobody hears of a change back."""
    told: list[Event] = []
    answers = [Mode.ON, Mode.ON]

    def late() -> Mode:
        if len(answers) == 1:
            cache.mode = Mode.BYPASS
        return answers.pop()

    cache = Stage("sync", hooks=[told.append], mode=late).cache
    cache.get("k")
    cache.get("k")
    assert cache.mode is Mode.BYPASS
    changes = [(event.before, event.after) for event in told if isinstance(event, ModeChanged)]
    assert changes == [(Mode.ON, Mode.BYPASS)]


def test_what_is_wrong_with_a_duration_is_said_by_its_name() -> None:
    with pytest.raises(MisuseError, match=r"^for_ must be"):
        Stage("sync").cache._rules.bypass(-1)
