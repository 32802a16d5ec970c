"""`fallback(adapter)`: the same adapter, whose failures are misses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from resilient_cache import BreakerPolicy, FailureKind, MisuseError, StoreError, fallback
from resilient_cache.adapters import AsyncMappingAdapter, MappingAdapter
from resilient_cache.events import CircuitChanged, CircuitState, StoreCalled


class Failing:
    """A store that does what it is told to."""

    def __init__(self) -> None:
        self.inner = MappingAdapter()
        self.error: BaseException | None = None
        self.calls = 0
        self.closed = 0

    def _step(self) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error

    def get(self, key: str, /) -> bytes | None:
        self._step()
        return self.inner.get(key)

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        self._step()
        self.inner.set(key, value, ttl)

    def delete(self, key: str, /) -> None:
        self._step()
        self.inner.delete(key)

    def close(self) -> None:
        self.closed += 1
        self._step()


class AsyncFailing:
    """The same with coroutines."""

    def __init__(self) -> None:
        self.plain = Failing()

    async def get(self, key: str, /) -> bytes | None:
        return self.plain.get(key)

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        self.plain.set(key, value, ttl)

    async def delete(self, key: str, /) -> None:
        self.plain.delete(key)

    async def aclose(self) -> None:
        self.plain.close()


class Colour:
    """A guarded store of either colour, called synchronously."""

    def __init__(self, *, is_async: bool, **options: Any) -> None:
        self.runner = asyncio.Runner() if is_async else None
        adapter: Any = AsyncFailing() if is_async else Failing()
        self.store: Failing = adapter.plain if is_async else adapter
        self.guarded: Any = fallback(adapter, **options)

    def __call__(self, name: str, *args: Any) -> Any:
        if self.runner is None:
            return getattr(self.guarded, name)(*args)
        return self.runner.run(getattr(self.guarded, {"close": "aclose"}.get(name, name))(*args))


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Any:
    made: list[Colour] = []

    def make_one(**options: Any) -> Colour:
        made.append(Colour(is_async=request.param, **options))
        return made[-1]

    yield make_one
    for colour in made:
        if colour.runner is not None:
            colour.runner.close()


Make = Callable[..., Colour]


def test_a_store_that_works_is_as_it_was(make: Make) -> None:
    call = make()
    assert call("get", "k") is None
    assert call("set", "k", b"v", 60.0) is True
    assert call("get", "k") == b"v"
    assert call("delete", "k") is True
    assert call("get", "k") is None
    assert call.guarded.stats() == {"store_get": 3, "store_set": 1, "store_delete": 1}


@pytest.mark.parametrize("error", [OSError(), TimeoutError(), ValueError(), StoreError(FailureKind.AUTH)])
def test_a_store_that_fails_is_a_miss(make: Make, error: Exception) -> None:
    call = make()
    call.store.error = error
    assert call("get", "k") is None
    assert call("set", "k", b"v", 60.0) is False
    assert call("delete", "k") is False


MISUSES = [
    (("get", 5), "key must be a str, not int"),
    (("get", b"k"), "key must be a str, not bytes"),
    (("delete", None), "key must be a str, not NoneType"),
    (("delete", "\ud800"), "key must be text that can be encoded"),
    (("set", 5, b"v", 1), "key must be a str, not int"),
    (("set", "k", "v", 1), "value must be bytes, not str"),
    (("set", "k", bytearray(b"v"), 1), "value must be bytes, not bytearray"),
    (("set", "k", b"v", "60"), "ttl must be seconds or a timedelta, not str"),
    (("set", "k", b"v", None), "ttl must be seconds or a timedelta, not NoneType"),
    (("set", "k", b"v", -1), "ttl must be at least 0"),
    (("set", "k", b"v", float("nan")), "ttl must be at least 0"),
    (("set", "k", b"v", float("inf")), "ttl must be at least 0"),
    (("set", "k", b"v", 10**400), "ttl must be at least 0"),
]


@pytest.mark.parametrize(("call", "said"), MISUSES, ids=str)
def test_a_mistake_of_a_caller_is_not_the_stores(make: Make, call: tuple[Any, ...], said: str) -> None:
    """It is told to who made it; the store is not asked, and stays open to the others."""
    there = make(breaker=BreakerPolicy(consecutive=1, span=0, hold=60, max_hold=60))
    for _ in range(10):
        with pytest.raises(MisuseError, match=f"^{said}"):
            there(*call)
    assert there.store.calls == 0
    assert there.guarded.stats() == {}
    assert there("set", "k", b"v", timedelta(minutes=1)) is True
    assert there("get", "k") == b"v"


def test_a_store_is_given_plain_arguments(make: Make) -> None:
    """A subclass of str may have a hash and an equality of its own; seconds are a float."""
    call, given = make(), list[Any]()
    told: Any = SimpleNamespace(set=lambda *args: given.extend(args))
    call.store.inner = told
    assert call("set", type("Text", (str,), {})("k"), b"v", timedelta(minutes=1)) is True
    assert [(type(each), each) for each in given] == [(str, "k"), (bytes, b"v"), (float, 60.0)]


class Gone(BaseException):
    """As `SystemExit` is, but unknown to asyncio, which lets that one through the loop at once."""


def test_what_is_no_exception_gets_out(make: Make) -> None:
    call = make()
    call.store.error = Gone()
    for name, *args in (("get", "k"), ("set", "k", b"v", 1.0), ("delete", "k")):
        with pytest.raises(Gone) as caught:
            call(str(name), *args)
        assert caught.value is call.store.error
    assert call.guarded.stats() == {}


def test_a_client_that_cancels_its_own_work_has_failed() -> None:
    call = Colour(is_async=True)
    call.store.error = asyncio.CancelledError()
    assert call("get", "k") is None
    assert call("set", "k", b"v", 1.0) is False
    assert call.guarded.stats()["store_get_unknown"] == 1
    assert call.runner is not None
    call.runner.close()


def test_the_circuit_opens_and_spares_the_store(make: Make) -> None:
    told: list[Any] = []
    call = make(breaker=BreakerPolicy(consecutive=3, span=0, hold=60, max_hold=60), hooks=[told.append])
    call.store.error = OSError()
    for _ in range(10):
        assert call("get", "k") is None
    assert call.store.calls == 3
    assert call.guarded.health()["read"]["state"] == "open"
    assert call.guarded.health()["write"]["state"] == "closed"
    assert [event.failure for event in told if isinstance(event, StoreCalled)] == [FailureKind.CONNECTION] * 3
    changes = [event for event in told if isinstance(event, CircuitChanged)]
    assert [(change.before, change.after) for change in changes] == [(CircuitState.CLOSED, CircuitState.OPEN)]
    assert 30 <= changes[0].retry_in <= 60


def test_closing_closes_the_store_and_its_failure_is_counted(make: Make) -> None:
    call = make()
    call("close")
    assert call.store.closed == 1
    call.store.error = OSError()
    call("close")
    assert call.store.closed == 2
    assert call.guarded.stats() == {"close_errors": 1}


def test_a_store_without_close_is_let_go() -> None:
    class Bare:
        get = Failing.get
        set = Failing.set
        delete = Failing.delete

    bare: Any = Bare()
    fallback(bare).close()

    class AsyncBare:
        get = AsyncFailing.get
        set = AsyncFailing.set
        delete = AsyncFailing.delete

    bare = AsyncBare()
    asyncio.run(fallback(bare).aclose())


def test_the_mapping_adapters_can_be_guarded() -> None:
    assert fallback(MappingAdapter()).get("k") is None
    assert asyncio.run(fallback(AsyncMappingAdapter()).get("k")) is None


def test_a_lazy_client_that_fails_while_it_is_looked_at_can_be_guarded() -> None:
    class Lazy:
        def __getattr__(self, name: str) -> Any:
            raise ConnectionError("not connected yet")

    lazy: Any = Lazy()
    store = fallback(lazy)
    assert (store.get("k"), store.set("k", b"v", 1.0), store.delete("k")) == (None, False, False)
    store.close()
