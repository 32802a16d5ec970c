"""Redis and Valkey as a backplane: invalidations reach the other processes at once, over pub/sub.

`RedisBackplane.from_url("redis://host")` makes its own connections, which needs the extra `resilient-cache[redis]`. It
may be the server that is the store as well, or another one. Pub/sub forgets: whoever does not listen misses a message,
which is why `listen` ends as soon as it may have missed one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Self, final

from ..errors import MisuseError
from ._redis_errors import failure

if TYPE_CHECKING:
    from ._redis_pubsub import AsyncPubSub, PubSub

__all__ = ["AsyncRedisBackplane", "RedisBackplane"]

MAX_CONNECTIONS: Final = 128  # publishing at once, as many as an adapter's calls


@final
class RedisBackplane:
    """Pub/sub of a Redis or Valkey server for the sync API. Threads may share it, and so may a process and its forks.

    `publish` and `listen` raise `StoreError`, with the kind of the failure, and nothing else for a server that fails.
    """

    __slots__ = ("_pubsub",)
    _pubsub: PubSub

    def __init__(self) -> None:
        raise MisuseError("a backplane is made by RedisBackplane.from_url(url)")

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        timeout: float | timedelta = 0.25,
        ping_every: float | timedelta = 1.0,
        max_connections: int = MAX_CONNECTIONS,
        **options: Any,
    ) -> Self:
        """A backplane that fails fast; no connection is made yet.

        `url` and `options` are those of `RedisAdapter.from_url`. To publish takes at most `timeout` seconds, or what
        the current operation of the cache has left: connecting, sending and every byte of the reply together; nothing
        is retried, and more than `max_connections` at once are refused. A connection is kept for the next message.

        `ping_every` seconds of silence make `listen` ask whether the server is still there. One that is frozen, or
        behind a network that drops everything, is noticed `ping_every + timeout` seconds after its last word at the
        latest; one that is gone, at once.

        Raises `MisuseError` for a URL or an option that cannot work and `ImportError` without redis-py.
        """
        from ._redis_pubsub import PubSub  # noqa: PLC0415 - redis-py is optional

        backplane = object.__new__(cls)
        times = _seconds("timeout", timeout), _seconds("ping_every", ping_every)
        backplane._pubsub = PubSub(url, *times, {"max_connections": max_connections, **options})
        return backplane

    def publish(self, channel: str, message: bytes, /) -> None:
        """Hand `message` to whoever listens to `channel` now; the server has acknowledged it.

        One that timed out may still be handed on, later. It is never sent twice.
        """
        try:
            self._pubsub.publish(channel, message)
        except Exception as error:
            raise failure(error) from error

    def listen(self, channel: str, ready: Callable[[], object], receive: Callable[[bytes], object], /) -> None:
        """Call `ready` once, when the server has subscribed us, and then `receive` for each message, in this thread.

        Never returns: it raises `StoreError` as soon as a message may have been lost, which is when the connection
        ends, also because `receive` is too slow for the server's patience, when the server falls silent, when it says
        what is no message, and after `close()`. What `ready` and `receive` raise passes as it is. It does not connect
        again: whoever wants more listens again.
        """
        self._pubsub.listen(channel, ready, receive)

    def close(self) -> None:
        """Disconnect: `listen` ends in all threads, and later calls raise `StoreError`. Again is harmless."""
        self._pubsub.close()


@final
class AsyncRedisBackplane:
    """The same as `RedisBackplane` for asyncio. `listen` and `publish` may be cancelled at any moment."""

    __slots__ = ("_pubsub",)
    _pubsub: AsyncPubSub

    def __init__(self) -> None:
        raise MisuseError("a backplane is made by AsyncRedisBackplane.from_url(url)")

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        timeout: float | timedelta = 0.25,
        ping_every: float | timedelta = 1.0,
        max_connections: int = MAX_CONNECTIONS,
        **options: Any,
    ) -> Self:
        """A backplane that fails fast, as `RedisBackplane.from_url` makes it."""
        from ._redis_pubsub import AsyncPubSub  # noqa: PLC0415 - redis-py is optional

        backplane = object.__new__(cls)
        times = _seconds("timeout", timeout), _seconds("ping_every", ping_every)
        backplane._pubsub = AsyncPubSub(url, *times, {"max_connections": max_connections, **options})
        return backplane

    async def publish(self, channel: str, message: bytes, /) -> None:
        """Hand `message` to whoever listens to `channel` now; the server has acknowledged it.

        One that timed out or was cancelled may still be handed on, later. It is never sent twice.
        """
        try:
            await self._pubsub.publish(channel, message)
        except Exception as error:
            raise failure(error) from error

    async def listen(self, channel: str, ready: Callable[[], object], receive: Callable[[bytes], object], /) -> None:
        """Call `ready` once, when the server has subscribed us, and then `receive` for each message, in this task.

        Never returns: it raises `StoreError` as soon as a message may have been lost, as `RedisBackplane.listen` does.
        """
        await self._pubsub.listen(channel, ready, receive)

    async def aclose(self) -> None:
        """Disconnect: `listen` ends in all tasks, and later calls raise `StoreError`. Again is harmless."""
        await self._pubsub.aclose()


def _seconds(name: str, duration: float | timedelta) -> float:
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if not seconds > 0:
        raise MisuseError(f"{name} must be above 0 s, not {duration!r}")
    return seconds
