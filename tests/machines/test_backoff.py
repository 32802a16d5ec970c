"""How long is waited before the next try: never more than the doubled ceiling, any part of it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_cache.backoff import FIRST, LONGEST, backoff

CEILINGS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0)


@pytest.mark.parametrize(("tries", "ceiling"), [*enumerate(CEILINGS)])
def test_the_ceiling_doubles_up_to_the_longest(tries: int, ceiling: float) -> None:
    assert backoff(lambda: 1.0)(tries) == pytest.approx(ceiling)
    assert backoff(lambda: 0.25)(tries) == pytest.approx(ceiling / 4)
    assert backoff(lambda: 0.0)(tries) == 0.0


@given(tries=st.integers(0, 5_000), chance=st.floats(0, 1), longest=st.floats(FIRST, 60))
def test_it_is_bounded_however_often_it_failed(tries: int, chance: float, longest: float) -> None:
    assert 0.0 <= backoff(lambda: chance, longest)(tries) <= longest


def test_the_longest_is_what_it_says() -> None:
    assert (FIRST, LONGEST) == (0.05, 5.0)
    assert backoff(lambda: 1.0, 0.3)(9) == 0.3


def test_one_function_for_all_tries_draws_one_chance_each() -> None:
    chances = iter([1.0, 0.5, 0.0])
    pause = backoff(lambda: next(chances))
    assert [pause(0), pause(1), pause(2)] == pytest.approx([0.05, 0.05, 0.0])


def test_nothing_is_imported_before_something_failed() -> None:
    code = (
        "import sys; from resilient_cache.backoff import backoff; pause = backoff(lambda: 0.5); "
        "assert 'tenacity' not in sys.modules; pause(0); assert 'tenacity' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
