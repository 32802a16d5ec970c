"""Where the master is, as the sentinels say: asked by redis-py's `Sentinel`, before each new connection.

A sentinel that does not answer must not use up the time for the others and for the connection, so each is given a
share. Its clients are made anew each time, as nothing of them is then left in another thread, loop or process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import redis.asyncio.sentinel
import redis.sentinel

from ..deadline import remaining
from ..errors import MisuseError
from ._redis_deadline import Address
from ._redis_dial import ANONYMOUS, FAIL_FAST

__all__ = ["AsyncMaster", "Master"]

SENTINEL: Any = redis.sentinel.Sentinel
ASYNC_SENTINEL: Any = redis.asyncio.sentinel.Sentinel
RIGHT_AWAY = {name: FAIL_FAST[name] for name in ("retry", "health_check_interval", "protocol")} | ANONYMOUS


class _Asked:
    """The sentinels, the one that answered last in front, and what to ask them with."""

    __slots__ = ("_options", "_sentinels", "_service", "_timeout")

    def __init__(self, service: str, sentinels: Sequence[Address], timeout: float, options: dict[str, Any]) -> None:
        if not service or not sentinels:
            raise MisuseError("service must name the master, sentinels must have a (host, port) at least")
        self._service = service
        self._sentinels = [(str(host), int(port)) for host, port in sentinels]
        self._timeout = timeout
        self._options = options

    def ask_with(self) -> dict[str, Any]:
        left = remaining()
        left = self._timeout if left is None else min(left, self._timeout)
        share = max(left / 2 / len(self._sentinels), 0.001)
        return self._options | RIGHT_AWAY | {"socket_timeout": share, "socket_connect_timeout": share}

    def put_in_front(self, sentinel: Any) -> None:
        of = sentinel.sentinels[0].connection_pool.connection_kwargs
        first = (of["host"], of["port"])
        self._sentinels = [first, *(other for other in self._sentinels if other != first)]


@final
class Master(_Asked):
    """Calling it gives the master's address. Raises what redis-py's `discover_master` raises."""

    __slots__ = ()

    def __call__(self) -> Address:
        with SENTINEL(self._sentinels, sentinel_kwargs=self.ask_with()) as sentinel:
            host, port = sentinel.discover_master(self._service)
            self.put_in_front(sentinel)
        return host, port


@final
class AsyncMaster(_Asked):
    """The same, awaited."""

    __slots__ = ()

    async def __call__(self) -> Address:
        async with ASYNC_SENTINEL(self._sentinels, sentinel_kwargs=self.ask_with()) as sentinel:
            host, port = await sentinel.discover_master(self._service)
            self.put_in_front(sentinel)
        return host, port
