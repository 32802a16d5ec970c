"""Loaders that are handed what the cache still has, and may answer that it is as good as new.

For an origin that can tell cheaply whether something has changed: an ETag, a version number, a "modified since".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any, Final, Generic, NamedTuple, cast, final, overload

from typing_extensions import TypeVar

from .entry import Entry

__all__ = ["NOT_MODIFIED", "Conditional", "Known", "NotModified", "bare", "conditional"]

K = TypeVar("K")
V = TypeVar("V")


class NotModified(Enum):
    """The type of `NOT_MODIFIED`."""

    NOT_MODIFIED = "not modified"


NOT_MODIFIED: Final = NotModified.NOT_MODIFIED
"""What a conditional loader answers when what it was handed still holds."""


class Known(NamedTuple, Generic[V]):
    """What the cache has for a key: the value, and the seconds since the load that gave or confirmed it began."""

    value: V
    age: float


@final
class Conditional:
    """What `conditional` gives: a loader of the key, which a cache calls with what it knows as well."""

    __slots__ = ("loader",)

    def __init__(self, loader: Callable[[Any, Any], Any]) -> None:
        self.loader = loader

    def __call__(self, key: Any) -> Any:
        """What the loader gives for `key` when nothing is known."""
        return self.loader(key, None)

    def knowing(self, known: Known[Any] | None) -> Callable[[Any], Any]:
        """A loader of the key that is handed `known`."""
        return lambda key: self.loader(key, known)


@overload
def conditional(
    loader: Callable[[K, Known[V] | None], Awaitable[V | NotModified | Entry[V] | Entry[NotModified]]],
) -> Callable[[K], Awaitable[V | Entry[V]]]: ...
@overload
def conditional(
    loader: Callable[[K, Known[V] | None], V | NotModified | Entry[V] | Entry[NotModified]],
) -> Callable[[K], V | Entry[V]]: ...
def conditional(loader: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    """A loader for the cache from one that takes `(key, known)`; also as a decorator.

    `known` is a `Known(value, age)`: the entry that the load is to replace, fresh or past its windows, or None when
    there is none, when it was invalidated, and for `refresh`. The loader gives a value or an `Entry`, as any loader, or
    `NOT_MODIFIED`: then the known value is kept for another ttl that counts from this load's start, with the tags that
    it has. `Entry(NOT_MODIFIED, ttl=..., stale_for=..., tags=...)` decides these for the value, as any `Entry`.

    `NOT_MODIFIED` when `known` was None is a `MisuseError`, treated as any error of the loader. Called by anybody else
    with the key alone, it calls the loader with None. Never raises.
    """
    return Conditional(loader)


def bare(loader: object) -> object:
    """The function in a conditional loader, any other as it is."""
    return cast("object", loader.loader) if isinstance(loader, Conditional) else loader
