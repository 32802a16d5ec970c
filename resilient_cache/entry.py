"""An entry: a value with the moment its load began and its two windows.

    stamp ---- fresh for ttl ---- stale for stale_for ---- gone

The stamp is kept as it was born, in whole microseconds: computing it back from a deadline rounds, and a rounded stamp
has let a value older than an invalidation through.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Generic, NamedTuple, TypeAlias, cast

from typing_extensions import TypeVar

from .errors import MisuseError

__all__ = ["LONGEST", "MICROS", "Duration", "Entry", "Slot", "Stored", "check_tag", "make", "parts", "seconds", "text"]

V = TypeVar("V")

Duration: TypeAlias = float | timedelta
"""Seconds, or a `timedelta`."""

MICROS: Final = 1_000_000
make: Final[Callable[[Any, tuple[Any, ...]], Any]] = cast("Any", tuple).__new__
"""`make(Kind, fields)`: what a named tuple's own constructor does, at half its price (0.12 us)."""

LONGEST: Final = 10 * 365 * 86_400.0
"""Ten years: no duration is longer, so every stamp stays far inside 64 bits of microseconds."""

MOST_TAGS: Final = 16
LONGEST_TAG: Final = 1_024


def seconds(name: str, value: object, *, least: float = 0.0, most: float = LONGEST) -> float:
    """`value` in seconds. Raises `MisuseError` naming the argument unless it is a number from `least` to `most`."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MisuseError(f"{name} must be seconds or a timedelta, not {type(value).__name__}")
    if not least <= value <= most:
        raise MisuseError(f"{name} must be at least {least:g} and at most {most:g} seconds, not {value!r}")
    return float(value)


def text(name: str, value: object) -> str:
    """`value` as a plain str. Raises `MisuseError` naming the argument unless it is text that can be encoded."""
    if not isinstance(value, str):
        raise MisuseError(f"{name} must be a str, not {type(value).__name__}")
    plain = str.__str__(value)  # a subclass may have a hash and an equality of its own
    try:
        plain.encode()
    except UnicodeEncodeError:
        raise MisuseError(f"{name} must be text that can be encoded: it holds a lone surrogate") from None
    return plain


def check_tag(name: str, tag: object) -> str:
    """`tag` itself. Raises `MisuseError` naming the argument unless it is text of at most `LONGEST_TAG` bytes."""
    plain = text(name, tag)
    size = len(plain.encode())
    if not 1 <= size <= LONGEST_TAG:
        raise MisuseError(f"{name} must have 1 to {LONGEST_TAG} bytes, not {size}")
    return plain


@dataclass(frozen=True, slots=True)
class Entry(Generic[V]):
    """What a loader returns to decide the windows and the tags of this one value itself.

    `ttl` and `stale_for` are durations counted from the start of the load; None leaves them to the policy.
    `tags`: at most 16, by each of which `invalidate_tag` reaches the value.
    """

    value: V
    ttl: Duration | None = None
    stale_for: Duration | None = None
    tags: Collection[str] = ()

    def __post_init__(self) -> None:
        """Raises `MisuseError` for a negative or infinite duration, and for tags that are none."""
        if self.tags != ():
            object.__setattr__(self, "tags", _tags(self.tags))
        for name in ("ttl", "stale_for"):
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, seconds(f"Entry.{name}", given))


def parts(given: object) -> tuple[Any, Duration | None, Duration | None, tuple[str, ...]]:
    """The value, the windows of its own and the tags of what a loader gave, an `Entry` or not."""
    if isinstance(given, Entry):
        return given.value, given.ttl, given.stale_for, tuple(given.tags)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return given, None, None, ()  # most are none, and to make one of each costs 1 us


def _tags(given: object) -> tuple[str, ...]:
    if not isinstance(given, tuple | list | set | frozenset):
        raise MisuseError(f"Entry.tags must be a tuple, list or set of str, not {type(given).__name__}")
    tags = dict.fromkeys(check_tag("Entry.tags", tag) for tag in cast("tuple[object, ...]", given))
    if len(tags) > MOST_TAGS:
        raise MisuseError(f"Entry.tags must be at most {MOST_TAGS}, not {len(tags)}")
    return tuple(tags)


class Stored(NamedTuple):
    """An entry as it stands in a store: times in microseconds since the epoch, the payload not yet decoded.

    `version` is that of the namespace's mark when the load began, `tags` are the marks of its tags: (tag, version).
    """

    stamp: int
    fresh_until: int
    stale_until: int
    node: int
    payload: bytes
    version: int = 0
    tags: tuple[tuple[str, int], ...] = ()


Slot: TypeAlias = tuple[V, float, float, int, int, tuple[str, ...], float]
"""An entry of the memory tier: value, answered at once until, stale until, stamp, place in the ring, tags, fresh until.

Times are monotonic seconds. The two ends of freshness differ where an entry is refreshed early: a hit between them
takes the longer way, on which it is decided whether it is now that it is loaded again.

A plain tuple: it costs a hit 20 ns where a frozen dataclass costs 300, and one of atoms is left alone by the garbage
collector.
"""
