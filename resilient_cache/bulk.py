"""What a bulk load gives: a dict of the values there are, which knows why others are missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from typing_extensions import TypeVar

__all__ = ["Loaded"]

K = TypeVar("K", bound=str, default=str)
V = TypeVar("V", default=Any)


@final
class Loaded(dict[K, V]):
    """The values by key, in the order in which they were asked for.

    A key that the origin has none for is absent. So is one whose own load failed: its error is in `errors`, and
    `loaded[key]` raises it as it is, so that a failure is not taken for "there is none".
    """

    __slots__ = ("errors",)

    def __init__(self, values: Mapping[K, V] | None = None, errors: Mapping[K, Exception] | None = None) -> None:
        super().__init__(values or {})
        self.errors: dict[K, Exception] = dict(errors or {})

    def __missing__(self, key: K) -> V:
        """Raises the error of the key's load, `KeyError` when there was none."""
        error = self.errors.get(key)
        if error is None:
            raise KeyError(key)
        raise error

    def __reduce__(self) -> tuple[Any, ...]:
        """So that copies and pickles keep the errors."""
        return Loaded, (dict(self), self.errors)
