"""The types of `@cache.cached`: what it is put on, and what becomes of that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeAlias, TypeVar, overload

from .entry import Duration, Entry
from .outcome import Invalidation, Lookup
from .policy import CachePolicy

__all__ = ["AsyncCached", "AsyncDecorator", "Cached", "Decorator", "KeyOption", "MakeAsyncCached", "MakeCached"]

KeyOption: TypeAlias = str | Callable[..., str] | None

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")


class Cached(Protocol[P, R]):
    """A cached function. Each method takes the arguments of the function itself.

    That of a method takes the instance first, even through an instance: `Shop.price.key(shop, sku)`. It raises
    `MisuseError` for what is no instance.
    """

    __name__: str
    __wrapped__: Callable[..., Any]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The result, from the cache or by calling the function."""
        ...

    @overload
    def __get__(self, instance: None, owner: object = None, /) -> Self: ...
    @overload
    def __get__(self: Cached[Concatenate[S, Q], R], instance: S, owner: object = None, /) -> Callable[Q, R]: ...

    def lookup(self, *args: P.args, **kwargs: P.kwargs) -> Lookup[R]:
        """What the cache has for this call, without calling the function."""
        ...

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> Invalidation:
        """Invalidate the result of this call."""
        ...

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function and replace what the cache has."""
        ...

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key of this call."""
        ...


class AsyncCached(Protocol[P, R]):
    """A cached coroutine function. Each method takes the arguments of the function itself.

    That of a method takes the instance first, even through an instance: `Shop.price.key(shop, sku)`. It raises
    `MisuseError` for what is no instance.
    """

    __name__: str
    __wrapped__: Callable[..., Any]

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The result, from the cache or by calling the function."""
        ...

    @overload
    def __get__(self, instance: None, owner: object = None, /) -> Self: ...
    @overload
    def __get__(
        self: AsyncCached[Concatenate[S, Q], R], instance: S, owner: object = None, /
    ) -> Callable[Q, Awaitable[R]]: ...

    async def lookup(self, *args: P.args, **kwargs: P.kwargs) -> Lookup[R]:
        """What the cache has for this call, without calling the function."""
        ...

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> Invalidation:
        """Invalidate the result of this call."""
        ...

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function and replace what the cache has."""
        ...

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key of this call."""
        ...


class Decorator(Protocol):
    """What `@cache.cached(...)` gives: put it on a function."""

    @overload
    def __call__(self, function: Callable[P, Entry[R]], /) -> Cached[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R | Entry[R]], /) -> Cached[P, R]: ...


class AsyncDecorator(Protocol):
    """What `@cache.cached(...)` of an async cache gives: put it on a coroutine function."""

    @overload
    def __call__(self, function: Callable[P, Awaitable[Entry[R]]], /) -> AsyncCached[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, Awaitable[R | Entry[R]]], /) -> AsyncCached[P, R]: ...


class MakeCached(Protocol):
    """`cache.cached`, with and without options."""

    @overload
    def __call__(self, function: Callable[P, Entry[R]], /) -> Cached[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R | Entry[R]], /) -> Cached[P, R]: ...
    @overload
    def __call__(
        self, *, key: KeyOption = None, ttl: Duration | None = None, policy: CachePolicy | None = None
    ) -> Decorator: ...


class MakeAsyncCached(Protocol):
    """`cache.cached` of an async cache, with and without options."""

    @overload
    def __call__(self, function: Callable[P, Awaitable[Entry[R]]], /) -> AsyncCached[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, Awaitable[R | Entry[R]]], /) -> AsyncCached[P, R]: ...
    @overload
    def __call__(
        self, *, key: KeyOption = None, ttl: Duration | None = None, policy: CachePolicy | None = None
    ) -> AsyncDecorator: ...
