"""Telling functions from coroutine functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from .errors import MisuseError

__all__ = [
    "METHODS",
    "ForMarks",
    "check_adapter",
    "check_backplane",
    "check_spawn",
    "forget",
    "is_async",
    "is_plain",
    "many_of",
    "marks_of",
    "method_of",
    "part_of",
    "shard_of",
]

METHODS: Final = ("get", "set", "delete")
FOR_MANY: Final = ("get_many", "set_many", "delete_many")
FOR_MARKS: Final = {"get_mark": "get", "set_mark": "set"}
UNSEEN: Final = object()


def is_async(function: object) -> bool:
    """Whether calling `function` is known to give a coroutine; sees through `functools.partial` and `wraps`."""
    while isinstance(function, functools.partial):
        function = function.func
    if not callable(function):
        return False
    return any(map(inspect.iscoroutinefunction, (function, inspect.unwrap(function), type(function).__call__)))


def is_plain(function: object) -> bool:
    """Whether `function` is one that is known to give no coroutine, as far as its definition tells."""
    return inspect.isroutine(function) and not is_async(function)


def method_of(adapter: object, name: str) -> Any:
    """The attribute, None when there is none, `UNSEEN` for a lazy client that fails while it is looked at."""
    try:
        return getattr(adapter, name, None)
    except Exception:  # noqa: BLE001 - around a store: it may try to connect
        return UNSEEN


def check_adapter(adapter: object, *, awaited: bool) -> None:
    """Raises `MisuseError` for an adapter that lacks a method or is of the other colour."""
    _check("adapter", adapter, METHODS, awaited=awaited)


def check_backplane(backplane: object, *, awaited: bool) -> None:
    """Raises `MisuseError` for a backplane that lacks a method or is of the other colour."""
    _check("backplane", backplane, ("publish", "listen"), awaited=awaited)


def _check(what: str, thing: object, methods: Sequence[str], *, awaited: bool) -> None:
    names = " and ".join([", ".join(methods[:-1]), methods[-1]])
    for name in methods:
        method = method_of(thing, name)
        if method is UNSEEN:
            continue
        if not callable(method):
            raise MisuseError(f"{what} must have the methods {names}; {thing!r} has no {name}")
        if is_async(method) and not awaited:
            raise MisuseError(f"{what} must not be asynchronous here (its {name} is); use AsyncResilientCache")
        if awaited and is_plain(method):
            raise MisuseError(f"{what} must have coroutine methods here (its {name} is none); use ResilientCache")


def shard_of(adapter: object) -> Callable[[str], object] | None:
    """What names the shard of a key, None for a store without shards. Raises `MisuseError` for a coroutine function.

    Not what `__getattr__` finds: a mock has everything.
    """
    if inspect.getattr_static(adapter, "shard", None) is None:
        return None
    shard = method_of(adapter, "shard")
    if is_async(shard):
        raise MisuseError("adapter.shard must be a plain function: it names a part of the store and asks nobody")
    return shard if callable(shard) else None


def check_spawn(spawn: object) -> None:
    """Raises `MisuseError` for what can start nothing: a coroutine function, which would only give another one."""
    if spawn is not None and (not callable(spawn) or is_async(spawn)):
        raise MisuseError(f"spawn must be a plain function that starts what it is given, or None, not {spawn!r}")


def forget(value: object) -> None:
    """Make nothing of what should have been an answer; Python warns of a coroutine that nobody awaits."""
    if inspect.iscoroutine(value):
        value.close()


def part_of(shard: Callable[[str], object] | None, key: str) -> str:
    """What `shard` names for `key`, empty where it does not know; if it fails the guard says so."""
    try:
        part = "" if shard is None else shard(key)
    except Exception:  # noqa: BLE001 - around a store
        return ""
    return part if type(part) is str else ""


def many_of(adapter: object, *, awaited: bool) -> frozenset[str]:
    """Which of the methods for many keys it has. Raises `MisuseError` for one of the other colour."""
    return _own(adapter, FOR_MANY, awaited=awaited)


class ForMarks(NamedTuple):
    """What to get and to set a mark with; `several`: whether all of several stores are given one."""

    get: Callable[..., Any]
    set: Callable[..., Any]
    several: bool


def marks_of(adapter: Any, quick: Any, *, awaited: bool) -> ForMarks:
    """What to call for a mark, of `quick` where `adapter` has no methods of its own for that.

    They are looked up when they are called. Raises `MisuseError` for one of the other colour.
    """
    own = _own(adapter, FOR_MARKS, awaited=awaited)
    get, put = (
        functools.partial(_call, *((adapter, name) if name in own else (quick, plain)))
        for name, plain in FOR_MARKS.items()
    )
    return ForMarks(get, put, "set_mark" in own)


def _call(store: Any, name: str, *args: object) -> Any:
    return getattr(store, name)(*args)


def _own(adapter: object, names: Iterable[str], *, awaited: bool) -> frozenset[str]:
    # Not what `__getattr__` finds: a mock has everything.
    found: set[str] = set()
    for name in names:
        method = None if inspect.getattr_static(adapter, name, None) is None else method_of(adapter, name)
        if not callable(method):
            continue
        if is_async(method) and not awaited:
            raise MisuseError(f"adapter must not be asynchronous here (its {name} is); use AsyncResilientCache")
        if awaited and is_plain(method):
            raise MisuseError(f"adapter must have coroutine methods here (its {name} is none); use ResilientCache")
        found.add(name)
    return frozenset(found)
