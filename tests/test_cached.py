"""`@cache.cached`, in both colours."""

from __future__ import annotations

import asyncio
import functools
from typing import Any
from unittest.mock import Mock

import pytest

from resilient_cache import AsyncResilientCache, CachePolicy, Invalidation, MisuseError, ResilientCache, Source

greetings: ResilientCache[str, str] = ResilientCache(None, name="c", memory=10)
calls: list[tuple[str, int]] = []


@greetings.cached
def greet(name: str, *, times: int = 1) -> str:
    """Greets."""
    calls.append((name, times))
    return f"hello {name}" * times


def test_a_cached_function_has_its_result_and_its_methods() -> None:
    assert greet("a") == greet(name="a") == greet("a", times=1) == "hello a"
    assert greet("a", times=2) == "hello ahello a"
    assert calls == [("a", 1), ("a", 2)]
    assert greet.__doc__ == "Greets."
    assert greet.lookup("a").source is Source.MEMORY
    assert not greet.lookup("b")
    assert greet.key("a").endswith("greet('a',1)")
    assert greet.invalidate("a") is Invalidation.CONFIRMED
    assert not greet.lookup("a")
    assert greet.refresh("a") == greet.refresh("a") == "hello a"
    assert calls == [("a", 1), ("a", 2), ("a", 1), ("a", 1)]


@greetings.cached(key=lambda *made, key, **cache: f"{made}{key}{cache}")
def hostile(*made: int, key: int = 1, **cache: int) -> object:
    return made, key, cache


def test_arguments_of_any_kind_and_name_are_handed_on() -> None:
    """Once in the function that is made, once to the function that is called for a miss."""
    for _ in range(2):
        assert hostile(1, 2, key=3, function=4) == hostile.__wrapped__(1, 2, key=3, function=4)
    assert hostile.refresh(1, key=3, made=5) == ((1,), 3, {"made": 5})


def test_a_cached_coroutine_function_has_its_result_and_its_methods() -> None:
    async def main() -> None:
        cache: AsyncResilientCache[str, str] = AsyncResilientCache(None, name="c", memory=10)
        calls: list[str] = []

        @cache.cached(key="greeting:{name}", ttl=5)
        async def greet(name: str) -> str:
            calls.append(name)
            return f"hello {name}"

        together = await asyncio.gather(greet("a"), greet("a"), greet(name="a"))
        assert set(together) == {"hello a"}
        assert calls == ["a"]
        assert greet.key("a") == "greeting:a"
        assert (await greet.lookup("a")).source is Source.MEMORY
        assert await greet.invalidate("a") is Invalidation.CONFIRMED
        assert await greet.refresh("a") == await greet("a") == "hello a"
        assert calls == ["a", "a"]

    asyncio.run(main())


def test_a_hit_of_a_cached_function_is_told_to_hooks_and_counted() -> None:
    told: list[Any] = []
    cache: ResilientCache[str, str] = ResilientCache(None, name="c", memory=10, hooks=[told.append])

    @cache.cached(key="k:{x}")
    def f(x: str) -> str:
        return x

    assert [f("a"), f("a")] == ["a", "a"]
    assert [event.source for event in told] == [Source.LOADER, Source.MEMORY]

    async def main() -> None:
        other: AsyncResilientCache[str, str] = AsyncResilientCache(None, name="c", memory=10, hooks=[told.append])

        @other.cached(key="k:{x}", policy=CachePolicy(ttl=1))
        async def g(x: str) -> str:
            return x

        assert [await g("a"), await g("a")] == ["a", "a"]

    asyncio.run(main())
    assert [event.source for event in told] == [Source.LOADER, Source.MEMORY] * 2
    assert cache.stats()["requests"] == 2


class Directory:
    cache: ResilientCache[str, str] = ResilientCache(None, name="c", memory=10)

    def __init__(self, region: str) -> None:
        self.region = region

    @cache.cached(key="region:{host}")
    def find(self, host: str) -> str:
        return f"{host} is in {self.region}"


def test_a_method_with_a_key_is_cached_and_one_without_asks_for_it() -> None:
    directory = Directory("eu")
    assert directory.find("a") == directory.find("a") == "a is in eu"
    assert Directory.find.key(directory, "a") == "region:a"
    with pytest.raises(MisuseError, match=r"key must be given for a method: @cached\(key=...\)"):

        class Forgetful:
            @Directory.cache.cached
            def find(self, host: str) -> str:
                return host


zones: ResilientCache[str, str] = ResilientCache(None, name="c", memory=10)


def logged(function: Any) -> Any:
    """A decorator of methods."""

    @functools.wraps(function)
    def log(self: object, *args: Any) -> Any:
        return function(self, *args)

    return log


class Router:
    """Methods with a defaulted parameter: without the instance their arguments would shift, and still fit."""

    @zones.cached(key="region:{host}:{zone}")
    def region(self, host: str, zone: str = "a") -> str:
        return f"{host} in {zone}"

    @classmethod
    @zones.cached(key="made:{host}:{zone}")
    def made(cls, host: str, zone: str = "a") -> str:
        return f"{host} in {zone} of {cls.__name__}"

    @property
    @zones.cached(key=lambda self: "home")
    def home(self) -> str:
        return "home"

    @logged
    @zones.cached(key="far:{host}")
    def far(self, host: str) -> str:
        return host

    _hidden = far
    aliased = region


class Elsewhere:
    """Has the method under another name only."""

    zone: Any = Router.region


class Kin(Router):
    """Has one of its own under that name."""

    def own(self, host: str, zone: str = "a") -> str:
        return super().region(host, zone)

    region: Any = own


@pytest.mark.parametrize("helper", ["key", "lookup", "invalidate", "refresh"])
def test_what_hangs_on_a_method_is_told_the_instance(helper: str) -> None:
    """Through an instance too: what Python has bound is the method alone, and another key would be answered for."""
    router = Router()
    assert router.region("h", "z") == "h in z"
    for bound, owner in (
        (router.region, "self"),
        (router.aliased, "self"),
        (Elsewhere().zone, "self"),
        (Router.made, "cls"),
    ):
        call: Any = getattr(bound, helper)
        for args, more in ((("h", "z"), {}), (("h",), {}), ((), {"host": "h"}), ((), {"host": "h", owner: None})):
            with pytest.raises(
                MisuseError, match=rf"^{owner} must be given first, .* Router\.\w+\.invalidate\({owner}, "
            ):
                call(*args, **more)
    assert Router.region.lookup(router, "h", "z").value == "h in z"


def test_who_has_a_method_may_be_given_to_what_hangs_on_it() -> None:
    """Its instances, those of a subclass and of whoever borrows it, the class of a classmethod, what passes for one."""
    owners: list[Any] = [Router(), Kin(), Elsewhere(), Mock(spec=Router)]
    for owner in owners:
        assert (
            Router.region.key(owner, "h", zone="z") == Router.region.key(self=owner, host="h", zone="z") == "region:h:z"
        )
    for kind in (Router, Kin):
        made: Any = kind.made
        assert made.key(kind, "h") == "made:h:a"
    home: Any = vars(Router)["home"]
    assert home.fget.key(Kin()) == "home"
    far: Any = vars(Router)["far"].__wrapped__
    assert far.key(Router(), "h") == "far:h"
    assert Router.region.refresh(Router(), "h") == Router().region("h") == "h in a"
    assert Router.region.invalidate(Router(), "h") is Invalidation.CONFIRMED
    assert not Router.region.lookup(Router(), "h")


def test_what_hangs_on_a_coroutine_method_is_told_the_instance() -> None:
    """The same for tasks; it is said at once."""
    cache: AsyncResilientCache[str, str] = AsyncResilientCache(None, name="c", memory=10)

    class Tasks:
        @cache.cached(key="region:{host}:{zone}")
        async def region(self, host: str, zone: str = "a") -> str:
            return f"{host} in {zone}"

    async def main() -> None:
        tasks = Tasks()
        assert await tasks.region("h") == await Tasks.region.refresh(tasks, "h") == "h in a"
        for helper in ("key", "lookup", "invalidate", "refresh"):
            with pytest.raises(MisuseError, match=r"self must be given first"):
                getattr(tasks.region, helper)("h", "z")
        assert await Tasks.region.invalidate(tasks, "h") is Invalidation.CONFIRMED

    asyncio.run(main())


def test_misuse_of_the_decorator_is_loud() -> None:
    cache: Any = ResilientCache(None, name="c")
    other: Any = AsyncResilientCache(None, name="c")

    def plain(host: str) -> str:
        return host

    async def awaited(host: str) -> str:
        return host

    for made, function in ((cache, awaited), (other, plain)):
        with pytest.raises(MisuseError, match="loader must be"):
            made.cached(function)
    for made in (cache, other):
        with pytest.raises(MisuseError, match="key must be a template"):
            made.cached(key=5)
        with pytest.raises(MisuseError, match="policy must be a CachePolicy"):
            made.cached(policy=5)
        with pytest.raises(MisuseError, match="ttl must be at least 0"):
            made.cached(ttl=-5)
    with pytest.raises(MisuseError, match=r"names {tenant}, but the arguments are host"):
        cache.cached(key="x:{tenant}")(plain)


def test_a_key_function_is_given_the_same_however_the_call_is_written() -> None:
    made: list[object] = []
    cache: ResilientCache[str, int] = ResilientCache(None, name="c", memory=10)

    @cache.cached(key=lambda *args, **kwargs: f"{args}{kwargs}")
    def price(sku: int, currency: str = "EUR") -> int:
        made.append(sku)
        return len(made)

    assert price(1) == price(sku=1) == 1
    price.invalidate(1)
    assert price(1) == 2
    assert price.lookup(sku=1, currency="EUR").value == 2
    assert price.key(1) == price.key(sku=1)


class Lying(str):
    """A text that says it is another one."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash("a")

    def __eq__(self, other: object) -> bool:
        return other == "a"


def test_a_text_that_says_it_is_another_gets_its_own() -> None:
    """Whether it is an argument or what a function has made of the arguments."""
    cache: ResilientCache[str, str] = ResilientCache(None, name="c", memory=10)
    for key in ("{name}", lambda name: name):
        cached: Any = cache.cached(key=key)(lambda name: f"for {str.__str__(name)}")
        assert [cached(name) for name in ("a", Lying("b"), "a", Lying("b"), "b")] == [
            f"for {name}" for name in ("a", "b", "a", "b", "b")
        ]


@pytest.mark.parametrize("key", [1, None, ["a"], b"a"])
def test_a_function_that_makes_no_key_is_said_to(key: Any) -> None:
    cache: ResilientCache[str, str] = ResilientCache(None, name="c", memory=10)
    cached: Any = cache.cached(key=lambda _: key)(str)
    with pytest.raises(MisuseError, match="key must be a function that gives a str, not a "):
        cached("a")


def test_what_a_function_of_the_arguments_raises_is_raised() -> None:
    """Also where it looks like what the memory says of a key that is not there."""
    cache: ResilientCache[str, str] = ResilientCache(None, name="c", memory=10)
    cached: Any = cache.cached(key=lambda name: {"a": "a"}[name])(lambda name: name)
    assert cached("a") == "a"
    with pytest.raises(KeyError, match="b"):
        cached("b")


def test_hooks_are_told_of_each_hit_once() -> None:
    """However it is asked for."""
    told: list[Any] = []
    cache: ResilientCache[str, str] = ResilientCache(None, name="c", memory=10, hooks=[told.append])
    cached = cache.cached(key="{name}")(lambda name: name)
    cached("a")
    told.clear()
    assert [cached("a"), cache.get("a"), cache.get_or_load("a", str), cache.get_many(["a"])] == [
        "a",
        "a",
        "a",
        {"a": "a"},
    ]
    assert [event.source for event in told] == [Source.MEMORY] * 4
    assert cache.stats()["hits_memory"] == 4
