"""L6: misuse raises at once and loudly, before any store is touched, and names what would be right."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from datetime import timedelta
from functools import partial, wraps
from typing import Any

import pytest

from resilient_cache import (
    AsyncResilientCache,
    BreakerPolicy,
    CachePolicy,
    Entry,
    MisuseError,
    ResilientCache,
    fallback,
)


class Untouched:
    """A store that must not be called."""

    def get(self, key: str) -> bytes | None:
        raise AssertionError("touched")

    def set(self, key: str, value: bytes, ttl: float) -> None:
        raise AssertionError("touched")

    def delete(self, key: str) -> None:
        raise AssertionError("touched")


class AsyncUntouched:
    """An async store that must not be called."""

    async def get(self, key: str) -> bytes | None:
        raise AssertionError("touched")

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        raise AssertionError("touched")

    async def delete(self, key: str) -> None:
        raise AssertionError("touched")


def load(key: str) -> str:
    raise AssertionError("loaded")


async def aload(key: str) -> str:
    raise AssertionError("loaded")


Colour = Callable[[str, tuple[Any, ...], dict[str, Any]], Any]


def call_sync(name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    cache: Any = ResilientCache(Untouched(), name="misused", memory=10)
    return getattr(cache, name)(*args, **options)


def call_async(name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    async def main() -> Any:
        cache: Any = AsyncResilientCache(AsyncUntouched(), name="misused", memory=10)
        return await getattr(cache, name)(*(aload if arg is load else arg for arg in args), **options)

    return asyncio.run(main())


@pytest.fixture(params=[call_sync, call_async], ids=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Colour:
    colour: Colour = request.param
    return colour


KEYED: list[tuple[str, tuple[Any, ...]]] = [
    ("get", ()),
    ("lookup", ()),
    ("get_or_load", (load,)),
    ("lookup", (load,)),
    ("refresh", (load,)),
    ("set", ("value",)),
    ("invalidate", ()),
    ("report_mistake", ("value",)),
    ("explain", ()),
]


@pytest.mark.parametrize(("name", "rest"), KEYED, ids=lambda part: part if isinstance(part, str) else "")
@pytest.mark.parametrize(
    ("key", "said"),
    [
        (7, "key must be a str, not int"),
        (b"host", "key must be a str, not bytes"),
        (None, "key must be a str, not NoneType"),
        (["host"], "key must be a str, not list"),
        ({}, "key must be a str, not dict"),
        ("\ud800", "key must be text that can be encoded"),
    ],
)
def test_a_key_that_is_no_text_is_misuse(
    call: Colour, name: str, rest: tuple[Any, ...], key: object, said: str
) -> None:
    with pytest.raises(MisuseError, match=said):
        call(name, (key, *rest), {})


@pytest.mark.parametrize(
    ("name", "args", "options", "said"),
    [
        ("get_or_load", ("k", None), {}, "loader must be a .*function of the key, not NoneType"),
        ("get_or_load", ("k", "value"), {}, "loader must be a .*function of the key, not str"),
        ("get_or_load", ("k", load), {"policy": 60}, "policy must be a CachePolicy or None, not int"),
        ("get_or_load", ("k", load), {"deadline": "soon"}, "deadline must be seconds or a timedelta, not str"),
        ("get_or_load", ("k", load), {"deadline": math.nan}, "deadline must be at least"),
        ("set", ("k", "v"), {"ttl": -1}, "ttl must be at least 0 and at most 86400 seconds, not -1"),
        ("set", ("k", "v"), {"ttl": timedelta(days=-1)}, "ttl must be at least 0"),
        ("set", ("k", "v"), {"ttl": 86_401}, "ttl must be at least 0 and at most 86400 seconds"),
        ("set", ("k", "v"), {"ttl": True}, "ttl must be seconds or a timedelta, not bool"),
    ],
)
def test_an_argument_that_can_never_be_right_is_misuse(
    call: Colour, name: str, args: tuple[Any, ...], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(MisuseError, match=said):
        call(name, args, options)


def test_the_wrong_colour_of_loader_is_misuse_before_the_store_is_touched() -> None:
    with pytest.raises(MisuseError, match="loader must be a plain function here; use AsyncResilientCache"):
        call_sync("get_or_load", ("k", aload), {})
    with pytest.raises(MisuseError, match="loader must be a plain function here"):
        call_sync("get_or_load", ("k", partial(aload)), {})

    async def main() -> None:
        cache: Any = AsyncResilientCache(AsyncUntouched(), name="misused")
        with pytest.raises(MisuseError, match=r"loader must be a coroutine function \(async def\) here"):
            await cache.get_or_load("k", load)

    asyncio.run(main())


def test_a_lambda_that_gives_nothing_to_await_is_misuse() -> None:
    async def main() -> None:
        cache: Any = AsyncResilientCache(None, name="misused")
        with pytest.raises(MisuseError, match=r"loader must be a coroutine function here; .* gave a str"):
            await cache.get_or_load("k", lambda key: "value")

    asyncio.run(main())


def test_every_kind_of_coroutine_function_is_a_loader() -> None:
    async def one(key: str) -> str:
        return key.upper()

    async def two(_: object, key: str) -> str:
        return await one(key)

    @wraps(one)
    def traced(key: str) -> Any:
        return one(key)

    class Loader:
        async def __call__(self, key: str) -> str:
            return await one(key)

        async def load(self, key: str) -> str:
            return await one(key)

    async def main() -> None:
        cache: AsyncResilientCache[str, str] = AsyncResilientCache(None, name="loaders")
        for loader in (one, lambda key: one(key), partial(two, None), traced, Loader(), Loader().load):
            assert await cache.get_or_load("k", loader) == "K"

    asyncio.run(main())


@pytest.mark.parametrize("name", ["get", "lookup", "invalidate", "explain"])
def test_a_closed_cache_is_misuse(name: str) -> None:
    cache: Any = ResilientCache(None, name="closed", memory=1)
    cache.set("k", "v")
    cache.close()
    cache.close()
    with pytest.raises(MisuseError, match="cache 'closed' is closed: make a new one"):
        getattr(cache, name)("k")

    async def main() -> None:
        other: Any = AsyncResilientCache(None, name="closed", memory=1)
        await other.set("k", "v")
        await other.aclose()
        await other.aclose()
        with pytest.raises(MisuseError, match="cache 'closed' is closed: make a new one"):
            await getattr(other, name)("k")

    asyncio.run(main())


class NoGet:
    def set(self, key: str, value: bytes, ttl: float) -> None: ...
    def delete(self, key: str) -> None: ...


@pytest.mark.parametrize("make", [ResilientCache, AsyncResilientCache])
@pytest.mark.parametrize(
    ("adapter", "options", "said"),
    [
        (NoGet(), {}, "adapter must have the methods get, set and delete; .* has no get"),
        ({}, {}, "adapter must .*(has no set|asynchronous|coroutine)"),
        (None, {"name": ""}, "name must be 1 to 64 letters"),
        (None, {"name": "a:b"}, "name must be 1 to 64 letters"),
        (None, {"name": 5}, "name must be 1 to 64 letters"),
        (None, {"memory": -1}, "memory must be a number of entries"),
        (None, {"memory": True}, "memory must be a number of entries"),
        (None, {"memory": 1.5}, "memory must be a number of entries"),
        (None, {"policy": {}}, "policy must be a CachePolicy"),
        (None, {"breaker": 5}, "breaker must be a BreakerPolicy"),
        (None, {"hooks": [None]}, "hooks must be plain callables"),
        (None, {"hooks": [aload]}, "hooks must be plain callables"),
        (None, {"mode": "sideways"}, "mode must be one of Mode.ON"),
        (None, {"mode": aload}, "mode must be a Mode or a plain function that gives one"),
        (None, {"spawn": 7}, "spawn must be a plain function"),
        (None, {"spawn": aload}, "spawn must be a plain function"),
        (None, {"codec": object()}, "codec must have an id"),
        (None, {"codec": type("C", (), {"id": "x"})()}, "codec must have the methods encode and decode"),
        (None, {"type": object()}, "type must be one that msgspec knows"),
    ],
)
def test_a_cache_that_can_never_work_is_misuse(make: Any, adapter: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(MisuseError, match=said):
        make(adapter, **{"name": "misused", **options})


def test_the_wrong_colour_of_adapter_is_misuse() -> None:
    wrong: Any = AsyncUntouched()
    with pytest.raises(MisuseError, match=r"adapter must not be asynchronous here .* use AsyncResilientCache"):
        ResilientCache(wrong, name="misused")
    wrong = Untouched()
    with pytest.raises(MisuseError, match=r"adapter must have coroutine methods here .* use ResilientCache"):
        AsyncResilientCache(wrong, name="misused")
    wrong = NoGet()
    with pytest.raises(MisuseError, match=r"adapter must have the methods get, set and delete; .* has no get"):
        fallback(wrong)
    with pytest.raises(MisuseError, match=r"timeout must be at least 0.001"):
        fallback(Untouched(), timeout=0)


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (CachePolicy, {"ttl": -1}, "ttl must be at least 0"),
        (CachePolicy, {"ttl": 0, "stale_for": 0}, "ttl and stale_for are both 0"),
        (CachePolicy, {"jitter": 2}, "jitter must be a share"),
        (CachePolicy, {"timeout": 0}, "timeout must be at least 0.001"),
        (BreakerPolicy, {"consecutive": 0}, "consecutive must be a whole number, at least 1"),
        (Entry, {"value": 1, "ttl": -1}, "Entry.ttl must be at least 0"),
    ],
)
def test_an_impossible_policy_is_misuse(make: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(MisuseError, match=said):
        make(**options)


def test_a_mode_that_is_none_changes_nothing() -> None:
    cache: Any = ResilientCache(None, name="modes")
    with pytest.raises(MisuseError, match=r"mode must be one of Mode.ON"):
        cache.mode = "off"
    assert cache.mode == "on"


class Plain:
    """A backplane for threads."""

    def publish(self, channel: str, message: bytes, /) -> None: ...

    def listen(self, channel: str, ready: Any, receive: Any, /) -> None: ...


class Awaited:
    """One for tasks."""

    async def publish(self, channel: str, message: bytes, /) -> None: ...

    async def listen(self, channel: str, ready: Any, receive: Any, /) -> None: ...


@pytest.mark.parametrize(
    ("make", "backplane", "words"),
    [
        (ResilientCache, 7, "backplane must have the methods publish and listen; 7 has no publish"),
        (AsyncResilientCache, 7, "backplane must have the methods publish and listen; 7 has no publish"),
        (ResilientCache, Awaited(), "backplane must not be asynchronous here (its publish is)"),
        (AsyncResilientCache, Plain(), "backplane must have coroutine methods here (its publish is none)"),
    ],
)
def test_what_is_no_backplane_of_this_colour_is_refused(make: Any, backplane: object, words: str) -> None:
    with pytest.raises(MisuseError, match=re.escape(words)):
        make(None, name="c", backplane=backplane)
