"""What a contract is excused from, each time with a reason."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from unittest import SkipTest

__all__ = ["skip_if_excused"]


def skip_if_excused(capability: str, excused: Mapping[str, str], capabilities: Collection[str]) -> None:
    """Skip the test where `excused` says why. Raises `AssertionError` for what is no capability, or without a why."""
    unknown = sorted(set(excused) - set(capabilities))
    assert not unknown, f"excused knows {sorted(capabilities)}, not {unknown}"
    if capability in excused:
        assert excused[capability], f"excused must give a reason for {capability!r}"
        raise SkipTest(f"{capability}: {excused[capability]}")
