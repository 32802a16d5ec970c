"""L17: loads that are to run behind, where nothing can."""

from __future__ import annotations

from typing import Any

import pytest

from resilient_cache import CachePolicy

from .stage import Stage


class Interrupt(BaseException):
    """What takes a caller away."""


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_where_nothing_runs_behind_nobody_is_waited_for_there(colour: str) -> None:
    """A caller that leads after all leaves no seat of its own behind that somebody might wake instead of another."""

    def refuses(work: Any) -> None:
        raise RuntimeError("can't start new thread")

    stage = Stage(colour, policy=CachePolicy(load_timeout=1), spawn=refuses)
    with pytest.raises(Interrupt):
        stage.load("k", Interrupt())
    assert stage.cache.health()["flights"] == 0
    assert stage.load("k", 1) == 1
