"""How long to wait before trying again: exponential, with full jitter, so that many who wait do not come back together.

The rule is tenacity's; the chance is the cache's own, so that a run can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

__all__ = ["backoff"]

FIRST: Final = 0.05
LONGEST: Final = 5.0


def backoff(random: Callable[[], float], longest: float = LONGEST) -> Callable[[int], float]:
    """A function from the number of failed tries to the seconds to wait: up to 0.05, 0.1, 0.2 ... `longest`."""

    def pause(tries: int) -> float:
        import tenacity  # noqa: PLC0415 - 30 ms, and only after a failure

        state: Any = tenacity.RetryCallState(None, None, (), {})  # type: ignore[arg-type]
        state.attempt_number = tries + 1
        return tenacity.wait_exponential(multiplier=FIRST, max=longest)(state) * random()

    return pause
