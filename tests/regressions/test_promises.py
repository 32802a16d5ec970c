"""What is refused when a cache or a function is made, what a loader is given, and switches under a lock."""

from __future__ import annotations

import functools
import operator
import threading
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import pytest

from resilient_cache import AsyncResilientCache, MisuseError, Mode, ResilientCache
from resilient_cache._switch import Switch

from ..laws.stage import Stage

both_colours = pytest.mark.parametrize("colour", ["sync", "async"])


class NoWall:
    """A clock that lacks the wall's time."""

    def monotonic(self) -> float:
        return 0.0


@pytest.mark.parametrize("make", [ResilientCache, AsyncResilientCache])
@pytest.mark.parametrize("option", [{"clock": None}, {"clock": NoWall()}, {"random": None}, {"random": 0.5}], ids=str)
def test_clocks_and_chances_that_are_none(make: Any, option: dict[str, Any]) -> None:
    """A clock or a random source that can never work is refused when the cache is made, not when it is needed."""
    with pytest.raises(MisuseError, match="clock must have"):
        make(None, name="promises", **option)


class Region(StrEnum):
    """Keys that are more than text."""

    NORTH = "n"
    SOUTH = "s"


@both_colours
def test_a_loader_is_given_the_key_itself(colour: str) -> None:
    """A loader gets the key as its caller gave it, while all that is kept stands under its text."""
    stage, given = Stage(colour, memory=10), []

    def note(key: Region) -> str:
        given.append(key)
        return key.name

    async def anote(key: Region) -> str:
        return note(key)

    assert stage.get_or_load(Region.NORTH, note if colour == "sync" else anote) == "NORTH"
    assert [type(key) for key in given] == [Region]
    assert stage.get("n") == stage.get(Region.NORTH) == "NORTH"
    assert list(stage.stored) == ["laws:n"]


class Shouting(str):
    """A key with an equality and a hash of its own."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.lower() == other.lower()


@both_colours
def test_a_key_with_a_hash_of_its_own(colour: str) -> None:
    """Keys are the same when their text is: an invalidation finds them, and no other key does."""
    stage = Stage(colour, memory=10)
    stage.set(Shouting("k"), "v")
    assert (stage.get("k"), stage.get(Shouting("K"))) == ("v", None)
    stage.invalidate("k")
    assert stage.get(Shouting("k")) is None


def adder(by: int) -> Callable[[int], int]:
    """A function that shares its name with others."""

    def add(number: int) -> int:
        return number + by

    return add


async def awaited(number: int) -> int:
    """What an async cache can cache."""
    return number


@pytest.mark.parametrize("function", [adder(1), lambda number: number], ids=["closure", "lambda"])
def test_functions_that_share_their_name(function: Callable[[int], int]) -> None:
    """A lambda, or what a function defines, must be given a key: another of its name computes something else."""
    cache: ResilientCache[str, int] = ResilientCache(None, name="promises", memory=10)
    with pytest.raises(MisuseError, match="key must be given"):
        cache.cached(function)
    by_one, by_two = cache.cached(key="one:{number}")(adder(1)), cache.cached(key="two:{number}")(adder(2))
    assert (by_one(1), by_two(1)) == (2, 3)


def test_coroutine_functions_that_share_their_name() -> None:
    """The same for tasks."""
    cache: AsyncResilientCache[str, int] = AsyncResilientCache(None, name="promises", memory=10)

    async def local(number: int) -> int:
        return number

    with pytest.raises(MisuseError, match="key must be given"):
        cache.cached(local)
    assert cache.cached(awaited).key(1) == f"{__name__}.awaited(1)"


class Shop:
    """Its methods have one name, whatever the shop, and its keys say nothing of the shop."""

    def __init__(self, country: str) -> None:
        self.country = country

    def stock(self, sku: str) -> str:
        return f"{sku} in {self.country}"

    async def order(self, sku: str) -> str:
        return f"{sku} from {self.country}"

    @classmethod
    def kind(cls, sku: str) -> str:
        return f"{sku} of {cls.__name__}"

    @staticmethod
    def shown(sku: str) -> str:
        return sku


class Stall(Shop):
    """Inherits them."""


def scaled(by: int) -> Callable[[Callable[[int], int]], Callable[[int], int]]:
    """A decorator whose result is called as what it is put on."""

    def decorate(function: Callable[[int], int]) -> Callable[[int], int]:
        @functools.wraps(function)
        def scale(number: int) -> int:
            return by * function(number)

        return scale

    return decorate


def priced(number: int) -> int:
    """What is scaled."""
    return number


def doubled() -> Callable[[int], int]:
    """No function at all, under the name of one."""
    return functools.update_wrapper(functools.partial(operator.mul, 2), priced)


@pytest.mark.parametrize(
    "function",
    [Shop("NL").stock, Shop.kind, Stall.kind, "NL".join, scaled(2)(priced), scaled(3)(priced), doubled()],
    ids=["bound", "class", "subclass", "built-in", "wrapper", "another", "partial"],
)
def test_what_only_shares_a_name_asks_for_a_key(function: Callable[..., Any]) -> None:
    """A bound method has no instance among its arguments, and a wrapper is called as what it wraps."""
    cache: ResilientCache[str, Any] = ResilientCache(None, name="promises", memory=10)
    with pytest.raises(MisuseError, match="key must be given"):
        cache.cached(function)


def test_bound_methods_with_keys_of_their_own() -> None:
    """With keys each gives its own; what a module or a class names still needs none."""
    cache: ResilientCache[str, Any] = ResilientCache(None, name="promises", memory=10)
    shops = [cache.cached(key=f"stock:{country}:{{sku}}")(Shop(country).stock) for country in ("NL", "DE")]
    assert [stock("A1") for stock in shops * 2] == ["A1 in NL", "A1 in DE"] * 2
    assert cache.cached(Shop.shown).key("A1") == f"{__name__}.Shop.shown('A1')"
    assert cache.cached(len).key("A1") == "builtins.len('A1')"
    assert cache.cached(cache.cached(priced)).key(1) == f"{__name__}.priced(1)"


def test_a_bound_coroutine_method_asks_for_a_key() -> None:
    """The same for tasks."""
    cache: AsyncResilientCache[str, str] = AsyncResilientCache(None, name="promises", memory=10)
    with pytest.raises(MisuseError, match="key must be given for a bound method"):
        cache.cached(Shop("NL").order)


def test_two_who_switch_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A switch to `BYPASS` that comes while another is half done is obeyed, and memory answers no more."""
    cache: ResilientCache[str, str] = ResilientCache(None, name="promises", memory=10)
    cache.set("k", "v")
    lock = cache._rules.guard.lock
    steady: Callable[[Switch], bool] = vars(Switch)["steady"].fget
    barged_in: list[bool] = []

    def bypass_if_free() -> None:
        free = lock.acquire(blocking=False)
        barged_in.append(free)
        if free:
            cache.mode = Mode.BYPASS
            lock.release()

    def slow(self: Switch) -> bool:
        seen = steady(self)
        if not barged_in and threading.current_thread() is threading.main_thread():
            other = threading.Thread(target=bypass_if_free)
            other.start()
            other.join()
        return seen

    with monkeypatch.context() as patched:
        patched.setattr(Switch, "steady", property(slow))
        cache.mode = Mode.ON
    if not all(barged_in):
        cache.mode = Mode.BYPASS
    assert (len(barged_in), cache.mode, cache.get("k")) == (1, Mode.BYPASS, None)
