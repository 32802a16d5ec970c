"""Three functions as a store, and daemon threads for those that cannot bound themselves."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from resilient_cache import deadline
from resilient_cache.adapters import MappingAdapter, from_functions
from resilient_cache.adapters.threads import ThreadedAdapter
from resilient_cache.errors import FailureKind, MisuseError, StoreError
from resilient_cache.protocols import AsyncCacheAdapter, CacheAdapter

pytestmark = pytest.mark.realtime


class Store:
    """A dict with the three functions, that notes when it was closed."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.ttls: list[float] = []
        self.closed = 0

    def get(self, key: str) -> bytes | None:
        return self.entries.get(key)

    def set(self, key: str, value: bytes, ttl: float) -> None:
        self.entries[key] = value
        self.ttls.append(ttl)

    def delete(self, key: str) -> bool:
        return self.entries.pop(key, None) is not None

    def close(self) -> None:
        self.closed += 1


class AsyncStore:
    def __init__(self) -> None:
        self.store = Store()

    async def get(self, key: str) -> bytes | None:
        return self.store.get(key)

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        self.store.set(key, value, ttl)

    async def delete(self, key: str) -> bool:
        return self.store.delete(key)

    async def close(self) -> None:
        self.store.close()


def close(adapter: Any) -> None:
    adapter.close()


async def aclose(adapter: Any) -> None:
    await adapter.aclose()


def use(adapter: CacheAdapter) -> None:
    assert adapter.get("k") is None
    adapter.set("k", b"v", 5.0)
    assert adapter.get("k") == b"v"
    adapter.delete("k")
    adapter.delete("k")
    assert adapter.get("k") is None


@pytest.mark.parametrize("threads", [None, 2])
def test_sync_functions_make_a_sync_adapter(threads: int | None) -> None:
    store = Store()
    adapter = from_functions(store.get, store.set, store.delete, close=store.close, threads=threads)
    assert isinstance(adapter, CacheAdapter)
    use(adapter)
    assert store.ttls == [5.0]
    close(adapter)
    assert store.closed == 1


def test_any_sync_adapter_may_be_given_threads() -> None:
    adapter = ThreadedAdapter(MappingAdapter(), threads=1, timeout=5.0)
    use(adapter)
    adapter.close()


@pytest.mark.parametrize("threads", [None, 2])
def test_close_is_harmless_without_a_function_for_it(threads: int | None) -> None:
    store = Store()
    close(from_functions(store.get, store.set, store.delete, threads=threads))
    assert store.closed == 0


def test_coroutine_functions_make_an_async_adapter() -> None:
    async def main() -> None:
        functions = AsyncStore()
        adapter = from_functions(functions.get, functions.set, functions.delete, close=functions.close)
        assert isinstance(adapter, AsyncCacheAdapter)
        assert await adapter.get("k") is None
        await adapter.set("k", b"v", 5.0)
        assert await adapter.get("k") == b"v"
        await adapter.delete("k")
        assert await adapter.get("k") is None
        await aclose(adapter)
        assert functions.store.closed == 1
        await aclose(async_adapter_without_close())

    asyncio.run(main())


def async_adapter_without_close() -> Any:
    functions = AsyncStore()
    return from_functions(functions.get, functions.set, functions.delete)


def test_partials_and_callable_objects_count_by_what_they_do() -> None:
    class Getter:
        async def __call__(self, key: str) -> bytes | None:
            return key.encode()

    functions = AsyncStore()
    adapter = from_functions(Getter(), functools.partial(functions.set), functions.delete)
    assert isinstance(adapter, AsyncCacheAdapter)
    assert asyncio.run(adapter.get("k")) == b"k"


@pytest.mark.parametrize("wrong", ["get", "set", "delete", "close"])
def test_what_is_no_function_is_refused_by_name(wrong: str) -> None:
    store = Store()
    functions: dict[str, Any] = {"get": store.get, "set": store.set, "delete": store.delete, wrong: 5}
    with pytest.raises(MisuseError, match=f"{wrong} must be a function, not int"):
        from_functions(**functions)


@pytest.mark.parametrize("wrong", ["set", "delete", "close"])
@pytest.mark.parametrize("base", [Store(), AsyncStore()], ids=["sync", "async"])
def test_a_mixture_of_colours_is_refused_by_name(wrong: str, base: Any) -> None:
    other: Any = AsyncStore() if isinstance(base, Store) else Store()
    functions = {name: getattr(base, name) for name in ("get", "set", "delete")} | {wrong: getattr(other, wrong)}
    with pytest.raises(MisuseError, match=f"{wrong} is `.*def` but get is"):
        from_functions(**functions)


def test_threads_are_refused_for_coroutines_and_for_senseless_numbers() -> None:
    functions: Any = AsyncStore()
    with pytest.raises(MisuseError, match="threads is for synchronous functions"):
        from_functions(functions.get, functions.set, functions.delete, threads=2)
    store = Store()
    for threads, timeout in ((0, 1.0), (1, 0.0), (1, -1.0), (1, float("nan"))):
        with pytest.raises(MisuseError, match="threads must be at least 1"):
            from_functions(store.get, store.set, store.delete, threads=threads, timeout=timeout)


class Hanging(Store):
    """A store whose `get` waits to be let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()
        self.ended = threading.Semaphore(0)

    def get(self, key: str) -> bytes | None:
        self.let_go.wait(10)
        self.ended.release()
        return b"late"

    def adapter(self, **options: Any) -> CacheAdapter:
        return from_functions(self.get, self.set, self.delete, **options)


def kind_of(call: Callable[[], object]) -> FailureKind:
    with pytest.raises(StoreError) as caught:
        call()
    return caught.value.kind


def test_a_hanging_store_costs_the_timeout_and_its_permit_until_it_ends() -> None:
    store = Hanging()
    adapter = store.adapter(threads=1, timeout=0.05)
    start = time.monotonic()
    assert kind_of(lambda: adapter.get("k")) is FailureKind.TIMEOUT
    assert 0.04 <= time.monotonic() - start < 0.5
    start = time.monotonic()
    assert kind_of(lambda: adapter.set("k", b"v", 1.0)) is FailureKind.POOL
    assert time.monotonic() - start < 0.04, "full must be rejected, not queued"
    assert store.entries == {}
    store.let_go.set()
    assert store.ended.acquire(timeout=5)
    until = time.monotonic() + 5
    while True:
        try:
            adapter.set("k", b"v", 1.0)
            break
        except StoreError:  # the thread has not given its permit back yet
            assert time.monotonic() < until
    assert store.entries == {"k": b"v"}


def test_the_current_operations_deadline_shortens_the_timeout() -> None:
    store = Hanging()
    adapter = store.adapter(threads=2, timeout=5.0)
    token = deadline.CURRENT.set((time.monotonic() + 0.05, time.monotonic))
    try:
        start = time.monotonic()
        assert kind_of(lambda: adapter.get("k")) is FailureKind.TIMEOUT
        assert time.monotonic() - start < 0.5
        assert kind_of(lambda: adapter.set("k", b"v", 1.0)) is FailureKind.TIMEOUT
    finally:
        deadline.CURRENT.reset(token)
        store.let_go.set()
    assert store.entries == {}, "with no time left the store is not asked at all"


@pytest.mark.parametrize("error", [OSError("down"), KeyError("k"), SystemExit(3)])
def test_what_the_store_raises_is_raised_through_and_gives_the_permit_back(error: BaseException) -> None:
    def fail(key: str) -> bytes | None:
        raise error

    store = Store()
    adapter = from_functions(fail, store.set, store.delete, threads=1)
    for _ in range(3):
        with pytest.raises(type(error)) as caught:
            adapter.get("k")
        assert caught.value is error
    adapter.set("k", b"v", 1.0)


def test_the_callers_context_is_seen_in_the_thread() -> None:
    name: ContextVar[str] = ContextVar("name")
    token = name.set("caller")
    seen: list[tuple[str, bool, bool]] = []

    def get(key: str) -> bytes | None:
        thread = threading.current_thread()
        seen.append((name.get(), thread.daemon, thread is threading.main_thread()))
        return None

    store = Store()
    try:
        assert from_functions(get, store.set, store.delete, threads=1).get("k") is None
    finally:
        name.reset(token)
    assert seen == [("caller", True, False)]


def test_no_thread_to_be_had_is_a_full_pool_and_no_permit_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    adapter = from_functions(store.get, store.set, store.delete, threads=1)
    error: BaseException = RuntimeError("can't start new thread")

    def start(self: threading.Thread) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        for _ in range(3):
            assert kind_of(lambda: adapter.get("k")) is FailureKind.POOL
        error = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            adapter.get("k")
    use(adapter)


def test_a_start_that_is_interrupted_gives_its_permit_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Hanging()
    adapter = store.adapter(threads=1, timeout=5.0)
    start = threading.Thread.start
    begun: list[threading.Thread] = []

    def interrupted(self: threading.Thread) -> None:
        begun.append(self)
        start(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        adapter.get("k")
    monkeypatch.undo()
    assert kind_of(lambda: adapter.get("k")) is FailureKind.POOL, "the call goes on"
    store.let_go.set()
    begun[0].join()
    assert adapter.get("k") == b"late"
    assert permits(adapter) == 1


def test_a_thread_that_begins_after_its_caller_was_interrupted_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    adapter = from_functions(store.get, store.set, store.delete, threads=1)
    late: list[threading.Thread] = []

    def interrupted(self: threading.Thread) -> None:
        late.append(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            adapter.set("k", b"v", 1.0)
    late[0].run()
    assert store.entries == {}
    assert permits(adapter) == 1


def permits(adapter: Any) -> int:
    return len(adapter._permits)
