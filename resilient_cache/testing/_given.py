"""Checks of what the kit is given, where it is given: a fault that silently does not happen lets a test pass for ever.

Each raises `ValueError` or `TypeError` that names the argument and says what would be right.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from numbers import Real
from typing import Any, Final, TypeVar

__all__ = ["all_of", "is_a", "one_of", "seconds_of"]

T = TypeVar("T")

LARGEST: Final = sys.float_info.max


def is_a(name: str, value: object, *kinds: type) -> None:
    """Check that `value` is one of `kinds`."""
    if not isinstance(value, kinds):
        raise TypeError(f"{name} must be {' or '.join(kind.__name__ for kind in kinds)}, not {value!r}")


def one_of(name: str, value: object, choices: Iterable[T]) -> T:
    """The one of `choices` that `value` is, or spells."""
    known = list(choices)
    for choice in known:
        if choice == value:
            return choice
    names = ", ".join(getattr(choice, "__name__", str(choice)) for choice in known)
    raise ValueError(f"{name} must be one of {names}, not {value!r}")


def all_of(name: str, values: Iterable[T], kind: type, *, least: int = 0) -> tuple[T, ...]:
    """`values`, each a `kind`, at least so many. Neither one on its own, nor a set, whose order no seed decides."""
    given: Any = values
    if isinstance(given, (kind, set, frozenset)) or not isinstance(given, Iterable):
        raise TypeError(f"{name} must be a list of {kind.__name__}, not {given!r}")
    found = tuple(values)
    for value in found:
        is_a(f"each of {name}", value, kind)
    if len(found) < least:
        raise ValueError(f"{name} must hold at least {least} {kind.__name__}, not none")
    return found


def seconds_of(seconds: float, least: float = 0.0) -> None:
    """Check that `seconds` is a number, `least` or more, that a clock can be set by."""
    is_a("seconds", seconds, Real)
    if not (seconds >= least and abs(seconds) <= LARGEST):
        raise ValueError(f"seconds must be at least {least:g} and finite, not {seconds!r}")
