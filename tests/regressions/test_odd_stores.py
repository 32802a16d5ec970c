"""Stores and codecs that answer in ways nobody would have thought of cost a miss, and nothing else."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable, Generator
from typing import Any

import pytest

from resilient_cache import AsyncResilientCache, FailureKind, Invalidation, MisuseError, ResilientCache, StoreError
from resilient_cache.testing import Fault, ManualClock, run_virtual

from ..laws.stage import Stage
from ..laws.tasks import Room

both_colours = pytest.mark.parametrize("colour", ["sync", "async"])


class Interrupt(BaseException):
    """Like KeyboardInterrupt, but left alone by event loops."""


def outcomes(stage: Stage, cache: Any) -> list[Any]:
    """What each kind of call gives."""
    return [
        stage.run(cache.get, "k"),
        stage.run(cache.get_or_load, "k", stage.loader("v")),
        stage.run(cache.set, "k", "v"),
        stage.run(cache.invalidate, "k"),
    ]


MISSES = [None, "v", False, Invalidation.PENDING]


class Lazy:
    """A store whose methods cannot even be looked at before its client is connected."""

    def __getattr__(self, name: str) -> Any:
        if name in ("get", "set", "delete"):
            raise ConnectionError("not connected yet")
        raise AttributeError(name)


@both_colours
def test_a_store_whose_methods_fail_when_they_are_looked_up(colour: str) -> None:
    """A lazy client that fails while its method is looked up is a miss, when the cache is made and when it is asked."""
    stage = Stage(colour)
    cache = stage.another(adapter=Lazy())
    assert outcomes(stage, cache) == MISSES
    assert cache.stats()["store_get_connection"] == 2
    assert cache.health()["store_calls_in_flight"] == 0


class NoKind(StoreError):
    """Forgets what its base needs."""

    def __init__(self) -> None:
        Exception.__init__(self, "down")


class OddKind(StoreError):
    """Carries what is no kind at all."""

    def __init__(self, kind: Any) -> None:
        super().__init__(FailureKind.UNKNOWN)
        self.kind = kind


def masked() -> Exception:
    """An error that does not even tell what it is."""

    def fail(_: object) -> type:
        raise RuntimeError("who knows")

    made: type[Exception] = type("Masked", (Exception,), {"__class__": property(fail)})
    return made()


@both_colours
@pytest.mark.parametrize("make", [NoKind, lambda: OddKind([]), lambda: OddKind("zz"), masked], ids=range(4))
def test_an_error_of_a_store_that_has_no_kind(colour: str, make: Callable[[], Exception]) -> None:
    """Whatever an adapter raises is a failure of kind `unknown`, and the call's permit comes back."""
    stage = Stage(colour)
    stage.plan.during(Fault.raising(make()))
    assert outcomes(stage, stage.cache) == MISSES
    assert stage.cache.stats()["store_get_unknown"] == 2
    assert stage.cache.health()["store_calls_in_flight"] == 0


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_of_a_store_that_is_copied(copied: Callable[[StoreError], StoreError]) -> None:
    """A `StoreError` can be copied and pickled, so that it gets out of a pool of processes."""
    twin = copied(StoreError(FailureKind.POOL, "no connection"))
    assert (twin.kind, str(twin)) == (FailureKind.POOL, "no connection")
    assert str(copied(StoreError(FailureKind.AUTH))) == "auth"


class OddCodec:
    """A codec that gives what is not bytes."""

    id = "odd"

    def __init__(self, gives: Any) -> None:
        self.gives = gives

    def encode(self, value: Any) -> Any:
        return self.gives

    def decode(self, data: bytes) -> Any:
        raise AssertionError("nothing was written")


@both_colours
@pytest.mark.parametrize("gives", ["text", None, 5], ids=str)
def test_a_codec_that_gives_no_bytes(colour: str, gives: object) -> None:
    """A value that cannot be encoded reaches its caller and is not stored."""
    stage = Stage(colour, memory=10, codec=OddCodec(gives))
    assert stage.load("k", "v") == "v"
    assert stage.set("k", "w") is False
    assert stage.get("k") == "w"
    assert (stage.cache.stats()["not_stored"], stage.stored) == (2, {})


def test_a_client_that_cancels_its_own_work() -> None:
    """A caller whom nobody cancelled never sees a cancellation that a closed client did to itself; the circuit does."""
    room = Room(memory=0)

    async def cancelled(_: str) -> bytes:
        never: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(never.cancel)
        return await never

    room.store.get = cancelled

    async def main() -> None:
        for n in range(3):
            assert await room.load(f"k{n}", 0.0) == n + 1
        assert room.cache.health()["circuits"]["read"]["state"] == "open"

    room.run(main)


@pytest.mark.parametrize("operation", ["get", "set", "delete"])
def test_a_store_that_is_struck_by_what_is_no_exception(operation: str) -> None:
    """What is not an `Exception` gets out of an async store's task with its identity, and takes its permit along."""
    room, struck = Room(memory=0), Interrupt()
    room.plan.then(operation, Fault.raising(struck))
    calls: dict[str, Callable[[], Any]] = {
        "get": lambda: room.cache.get("k"),
        "set": lambda: room.cache.set("k", 1),
        "delete": lambda: room.cache.invalidate("k"),
    }

    async def main() -> None:
        with pytest.raises(Interrupt) as seen:
            await calls[operation]()
        assert seen.value is struck

    room.run(main)
    assert room.cache.stats()["requests"] == 0


class Late:
    """A synchronous store that takes half a second, whatever its deadline."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock

    def get(self, key: str) -> bytes | None:
        self.clock.advance(0.5)
        return None

    def set(self, key: str, value: bytes, ttl: float) -> None:
        self.clock.advance(0.5)

    def delete(self, key: str) -> None:
        self.clock.advance(0.5)


def test_an_answer_that_comes_after_its_deadline() -> None:
    """A sync store that answers too late has timed out: what it says is not believed."""
    stage = Stage("sync")
    cache = stage.another(adapter=Late(stage.clock))
    assert outcomes(stage, cache) == MISSES
    assert cache.stats()["store_get_timeout"] == 2


class Promise:
    """Something to await that is no coroutine."""

    def __await__(self) -> Generator[Any, Any, str]:
        yield
        return "v"


class AsyncCall:
    """An object whose call is a coroutine function."""

    async def __call__(self, key: str) -> str:
        return key


async def fetch(key: str) -> str:
    """An async origin."""
    return key


@pytest.mark.parametrize("loader", [lambda key: fetch(key), lambda _: Promise()], ids=["coroutine", "promise"])
def test_a_loader_of_the_sync_cache_that_gives_something_to_await(loader: Any) -> None:
    """A coroutine is never cached in place of its value: it is misuse, and leaves nothing behind."""
    cache: ResilientCache[str, Any] = ResilientCache(None, name="odd", memory=10)
    for _ in range(2):
        with pytest.raises(MisuseError, match="AsyncResilientCache"):
            cache.get_or_load("k", loader)
    assert cache.get("k") is None
    with pytest.raises(MisuseError, match="plain function"):
        cache.get_or_load("k", AsyncCall())


class Disguised:
    """An async client whose methods are plain functions that give coroutines."""

    def get(self, key: str) -> Any:
        return fetch(key)

    def set(self, key: str, value: bytes, ttl: float) -> Any:
        return fetch(key)

    def delete(self, key: str) -> Any:
        return Promise() if key.endswith("promise") else fetch(key)


def test_a_store_of_the_sync_cache_that_gives_something_to_await() -> None:
    """A store method that gives a coroutine has done nothing: that is a failure, not an acknowledgement."""
    stage = Stage("sync")
    cache = stage.another(adapter=Disguised())
    assert (cache.get("k"), cache.get_or_load("k", stage.loader("v")), cache.set("k", "v")) == (None, "v", False)
    assert cache.stats()["store_get_unknown"] == 2
    assert cache.stats()["store_set_unknown"] == 1
    assert {cache.invalidate("k"), cache.invalidate("promise")} == {Invalidation.PENDING}
    assert cache.health()["pending_invalidations"] == 2


def test_a_loader_that_delegates_to_a_coroutine_function() -> None:
    """The async cache takes a lambda for what it gives, and says what is wrong when that cannot be awaited."""

    async def main() -> None:
        cache: AsyncResilientCache[str, Any] = AsyncResilientCache(None, name="odd", memory=10)
        assert await cache.get_or_load("k", lambda key: fetch(key)) == "k"
        plain: Any = lambda key: key  # noqa: E731
        with pytest.raises(MisuseError, match="gave a str"):
            await cache.get_or_load("other", plain)

    run_virtual(main(), ManualClock())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_while_an_async_store_is_called_gets_out_and_keeps_no_permit(
    error: type[BaseException],
) -> None:
    """L2: before there is anything to await, as well."""

    class Interrupted:
        def get(self, *_: object) -> Any:
            raise error

        set = delete = get

    class Store:
        futures = Interrupted()

        async def get(self, key: str) -> bytes | None: ...
        async def set(self, key: str, value: bytes, ttl: float) -> None: ...
        async def delete(self, key: str) -> None: ...

    async def main() -> None:
        cache: AsyncResilientCache[str, int] = AsyncResilientCache(Store(), name="odd")
        with pytest.raises(error):
            await cache.get("k")
        assert cache.health()["store_calls_in_flight"] == 0
        await cache.aclose()

    run_virtual(main(), ManualClock())
