"""`@cache.cached`: a function whose results are cached, typed as it was before."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import FunctionType
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar

from ._cached import AsyncCached, AsyncDecorator, Cached, Decorator, KeyOption, MakeAsyncCached, MakeCached
from ._rules import Rules
from .entry import Duration
from .errors import MisuseError
from .keys import calls_of
from .policy import CachePolicy

__all__ = [
    "AsyncCached",
    "AsyncDecorator",
    "Cached",
    "Decorator",
    "MakeAsyncCached",
    "MakeCached",
    "make_async_cached",
    "make_cached",
]

Check: TypeAlias = Callable[[object], None]

INSIDE: Final[dict[type[Any], str]] = {
    FunctionType: "__wrapped__",
    classmethod: "__wrapped__",
    staticmethod: "__wrapped__",
    property: "fget",
}
"""Where a class keeps a method inside something else."""

P = ParamSpec("P")
R = TypeVar("R")


def make_cached(cache: Any, rules: Rules, check: Check) -> MakeCached:
    """`cached` of a sync cache."""

    def cached(
        function: Any = None, /, *, key: Any = None, ttl: Duration | None = None, policy: CachePolicy | None = None
    ) -> Any:
        decorate: Any = _decorator(cache, rules, check, key, _with_ttl(rules, policy, ttl))
        return decorate if function is None else decorate(function)

    return cached


def make_async_cached(cache: Any, rules: Rules, check: Check) -> MakeAsyncCached:
    """`cached` of an async cache."""

    def cached(
        function: Any = None, /, *, key: Any = None, ttl: Duration | None = None, policy: CachePolicy | None = None
    ) -> Any:
        decorate: Any = _async_decorator(cache, rules, check, key, _with_ttl(rules, policy, ttl))
        return decorate if function is None else decorate(function)

    return cached


HIT: Final = """
def made$({parameters}):
    key$ = {key}
    try:
        entry$ = rules$.shown[key$]
    except missing$:
        pass
    else:
        now$ = rules$.monotonic
        if now$() < entry$[1]:
            rules$.marks[entry$[4]] = 1
            rules$.memory_hits += 1
            return entry$[0]
    return miss$(key$, {arguments})
"""
"""A cached function: `get_or_load`'s shortest way, with the function's own parameters. With *args it takes twice as
long."""

KEPT: Final = "keys$[{named}] if {texts} else {key}"
"""In place of the `{key}` of a function whose keys are kept: a quarter less for one argument, half for three (#6)."""

LONG: Final = """
def made$({parameters}):
    return miss$({key}, {arguments})
"""
"""For a policy with an `accept`, which is to be asked about every value."""


def _of_tasks(source: str) -> str:
    return source.replace("def ", "async def ").replace("return miss", "return await miss")


def _decorator(cache: Any, rules: Rules, check: Check, key: KeyOption, policy: CachePolicy | None) -> Decorator:
    """The decorator of a sync cache. Raises `MisuseError` on a function that it cannot cache."""
    _check_key(key)

    def decorate(function: Any) -> Any:
        check(function)

        def miss(made: str, /, *args: Any, **kwargs: Any) -> Any:
            return cache.get_or_load(made, _calling(function, *args, **kwargs), policy=policy)

        def refresh(made: str, /, *args: Any, **kwargs: Any) -> Any:
            return cache.refresh(made, _calling(function, *args, **kwargs), policy=policy)

        return _dressed(function, cache, rules, key=key, policy=policy, miss=miss, refresh=refresh)

    return decorate


def _async_decorator(
    cache: Any, rules: Rules, check: Check, key: KeyOption, policy: CachePolicy | None
) -> AsyncDecorator:
    """The decorator of an async cache. Raises `MisuseError` on a function that it cannot cache."""
    _check_key(key)

    def decorate(function: Any) -> Any:
        check(function)

        def miss(made: str, /, *args: Any, **kwargs: Any) -> Any:
            return cache.get_or_load(made, _awaiting(function, *args, **kwargs), policy=policy)

        def refresh(made: str, /, *args: Any, **kwargs: Any) -> Any:
            return cache.refresh(made, _awaiting(function, *args, **kwargs), policy=policy)

        return _dressed(function, cache, rules, key=key, policy=policy, waits=True, miss=miss, refresh=refresh)

    return decorate


def _check_key(key: object) -> None:
    if key is not None and not isinstance(key, str) and not callable(key):
        raise MisuseError(f"key must be a template like 'region:{{host}}' or a function, not {key!r}")


def _with_ttl(rules: Rules, policy: object, ttl: Duration | None) -> CachePolicy | None:
    if policy is not None and not isinstance(policy, CachePolicy):
        raise MisuseError(f"policy must be a CachePolicy or None, not {policy!r}")
    return policy if ttl is None else replace(policy or rules.policy, ttl=ttl)


def _calling(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Callable[[str], R]:
    def load(_: str) -> R:
        return function(*args, **kwargs)

    return load


def _awaiting(
    function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
) -> Callable[[str], Awaitable[R]]:
    async def load(_: str) -> R:
        return await function(*args, **kwargs)

    return load


def _dressed(
    function: Callable[..., Any],
    cache: Any,
    rules: Rules,
    *,
    key: KeyOption,
    policy: CachePolicy | None,
    miss: Callable[..., Any],
    refresh: Callable[..., Any],
    waits: bool = False,
) -> Any:
    calls = calls_of(function, key)
    keys = calls.kept(rules.local.memory.capacity)
    source = HIT if policy is None or policy.accept is None else LONG
    source = source if keys is None else source.replace("{key}", KEPT)
    made = calls.function(_of_tasks(source) if waits else source, rules=rules, missing=KeyError, keys=keys, miss=miss)
    cached: Any = functools.wraps(function)(made)

    made_key = calls.key if calls.owner is None else _owned(calls.key, calls.owner, cached)

    def lookup(*args: Any, **kwargs: Any) -> Any:
        return cache.lookup(made_key(*args, **kwargs), policy=policy)

    def invalidate(*args: Any, **kwargs: Any) -> Any:
        return cache.invalidate(made_key(*args, **kwargs))

    def forced(*args: Any, **kwargs: Any) -> Any:
        return refresh(made_key(*args, **kwargs), *args, **kwargs)

    cached.key, cached.lookup, cached.invalidate, cached.refresh = made_key, lookup, invalidate, forced
    return cached


def _owned(key: Callable[..., str], owner: str, cached: Any) -> Callable[..., str]:
    """`key` of a method. Python binds a method to its instance, but not what hangs on it: that is told the instance.

    Without it the arguments would shift where one has a default, and another key would be invalidated. A descriptor
    could bind both, but the hit would pay for it.
    """

    def owned(*args: Any, **kwargs: Any) -> str:
        if not _has(args[0] if args else kwargs.get(owner), cached):
            name = cached.__qualname__
            raise MisuseError(
                f"{owner} must be given first, even on an instance, as in {name}.invalidate({owner}, ...)"
            )
        return key(*args, **kwargs)

    return owned


def _has(owner: Any, cached: Any) -> bool:
    """Whether `cached` is a method of `owner`, by its name or, which takes longer, by any other."""
    kind: type[Any] = owner.__class__
    kinds: list[type[Any]] = [kind, owner] if isinstance(owner, type) else [kind]
    spaces = [vars(base) for kind in kinds for base in kind.__mro__]
    named = [space[cached.__name__] for space in spaces if cached.__name__ in space]
    return any(_holds(attribute, cached) for attribute in named) or any(
        _holds(attribute, cached) for space in spaces for attribute in list(space.values())
    )


def _holds(attribute: Any, cached: Any) -> bool:
    """Whether it is `cached`, bare or inside what is put on methods."""
    while attribute is not cached and type(attribute) in INSIDE:
        attribute = getattr(attribute, INSIDE[type(attribute)], None)
    return attribute is cached
