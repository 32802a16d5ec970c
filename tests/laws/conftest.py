"""The stage of the directed law tests, in both colours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .stage import Stage


@pytest.fixture(params=["sync", "async"])
def stage(request: pytest.FixtureRequest) -> Iterator[Callable[..., Stage]]:
    """Makes a cache of either colour over a faulty store."""
    made: list[Stage] = []

    def make(**options: Any) -> Stage:
        made.append(Stage(request.param, **options))
        return made[-1]

    yield make
    for each in made:
        each.run_behind()
