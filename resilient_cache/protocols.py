"""What this library asks of the objects it is given. Nothing here is inherited from; having the methods is enough."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

__all__ = ["AsyncBackplane", "AsyncCacheAdapter", "Backplane", "CacheAdapter", "Clock", "Codec", "DurableJournal"]

V = TypeVar("V")


@runtime_checkable
class CacheAdapter(Protocol):
    """A synchronous store in bytes. It raises when the store fails and never swallows.

    A `StoreError` says what kind of failure it was; any other `Exception` is a failure of unknown kind.
    An adapter may add `close()`, and `shard(key) -> str`: a plain function without I/O that names the part of the store
    which the key lives on now, empty while it cannot tell. Each part then has circuits of its own, at most 64 of them.

    For many keys in one call it may add any of `get_many(keys)`, which gives a mapping of those that there are to their
    bytes; `set_many(entries)`, given a mapping of keys to (value, ttl); `delete_many(keys)`. Keys are a list of at most
    500, all of one shard. Each succeeds as a whole or raises: then nothing is taken to be known of any of its keys.

    One over several stores that stand in for each other may add `get_mark(key)` and `set_mark(key, value, ttl)`, which
    a cache calls for what all of them must have: see `Failover`. Who wraps such an adapter passes them on.
    """

    def get(self, key: str, /) -> bytes | None:
        """The bytes stored under `key`, or None when there are none."""
        ...

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        """Store `value` for `ttl` seconds; returning means that the store acknowledged it."""
        ...

    def delete(self, key: str, /) -> None:
        """Remove `key`, whether it is there or not; returning means that the store acknowledged it."""
        ...


@runtime_checkable
class AsyncCacheAdapter(Protocol):
    """The same as `CacheAdapter`, with coroutines.

    An adapter may add `shard(key)`, a plain function here, too; `aclose()`; the methods for many keys and for marks;
    and `futures`: `get`, `set` and `delete` as plain functions that give an `asyncio.Future`, which a cache calls
    instead, for it then needs no task to call them in.
    """

    def get(self, key: str, /) -> Coroutine[Any, Any, bytes | None]:
        """The bytes stored under `key`, or None when there are none."""
        ...

    def set(self, key: str, value: bytes, ttl: float, /) -> Coroutine[Any, Any, None]:
        """Store `value` for `ttl` seconds; returning means that the store acknowledged it."""
        ...

    def delete(self, key: str, /) -> Coroutine[Any, Any, None]:
        """Remove `key`, whether it is there or not; returning means that the store acknowledged it."""
        ...


class Backplane(Protocol):
    """Carries invalidations to the other processes that share a store. Messages are bytes and hold no value.

    It may lose messages, as long as `listen` then ends. A backplane may add `close()`, after which `listen` ends soon.
    """

    def publish(self, channel: str, message: bytes, /) -> None:
        """Hand `message` to whoever listens to `channel` now. Raises when that is not known to have happened."""
        ...

    def listen(self, channel: str, ready: Callable[[], object], receive: Callable[[bytes], object], /) -> None:
        """Call `ready` once, when from then on no message is lost, and then `receive` for each of them.

        Returns or raises as soon as a message may have been lost; whoever wants more listens again.
        """
        ...


class AsyncBackplane(Protocol):
    """The same as `Backplane`, with coroutines; `listen` may be cancelled. It may add `aclose()`."""

    def publish(self, channel: str, message: bytes, /) -> Coroutine[Any, Any, None]:
        """Hand `message` to whoever listens to `channel` now. Raises when that is not known to have happened."""
        ...

    def listen(
        self, channel: str, ready: Callable[[], object], receive: Callable[[bytes], object], /
    ) -> Coroutine[Any, Any, None]:
        """Call `ready` once, when from then on no message is lost, and then `receive` for each of them.

        Returns or raises as soon as a message may have been lost; whoever wants more listens again.
        """
        ...


class DurableJournal(Protocol):
    """Where a cache writes down what its store still owes it, so that it is not forgotten when the process dies.

    Called from any thread, never under a lock of the cache. Any exception means that it was not written down: the
    cache goes on with what it holds in memory, and says so. It may add `close()`. Names begin with that of the cache,
    so that caches of different names may share what they are written to.
    """

    def load(self) -> Iterable[tuple[str, int]]:
        """Everything that was added and not struck out: (name, stamp)."""
        ...

    def add(self, name: str, stamp: int, /) -> None:
        """Write `name` down; an earlier stamp of it is replaced, a later one stays."""
        ...

    def strike(self, settled: Sequence[tuple[str, int]], /) -> None:
        """Strike out each name, unless it has been added with a later stamp."""
        ...


class Clock(Protocol):
    """Both clocks a cache reads. Seconds; `monotonic` may tick coarsely or stand still, but never goes back."""

    def monotonic(self) -> float:
        """Seconds since any fixed moment: measures durations."""
        ...

    def time(self) -> float:
        """Seconds since the epoch: stamps that other processes read."""
        ...


class Codec(Protocol[V]):
    """Values to bytes and back. Both methods may raise any `Exception`: a value not stored, or a miss."""

    @property
    def id(self) -> str:
        """At most 32 ASCII characters, written with every value; bytes of another id are a miss."""
        ...

    def encode(self, value: V, /) -> bytes:
        """The value as bytes. Raises for a value that would not come back as it was."""
        ...

    def decode(self, data: bytes, /) -> V:
        """The value that `encode` was given."""
        ...
