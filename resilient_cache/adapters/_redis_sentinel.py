"""Where the master is, as the sentinels say: asked one after the other, before each new connection.

A sentinel that does not answer must not use up the time for the others and for the connection, so each is given a
share: for connecting and every byte of its answer together. Each is asked on a connection of its own, as nothing of it
is then left in another thread, loop or process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar, final

from ..deadline import remaining
from ..errors import MisuseError
from ._redis_clients import AsyncClient, Client
from ._redis_deadline import Address

__all__ = ["AsyncMaster", "Master"]

C = TypeVar("C", Client, AsyncClient)

MASTERS: Final = ("SENTINEL", "MASTERS")
DOWN: Final = {b"s_down", b"o_down"}
"""What a sentinel says of a master that it does not reach: it may have been cut off itself, and another is asked."""


class _Asked(Generic[C]):
    """The clients of the sentinels, the one that answered last in front."""

    __slots__ = ("_clients", "_service", "_timeout")

    def __init__(
        self, make: type[C], service: str, sentinels: Sequence[Address], timeout: float, options: dict[str, Any]
    ) -> None:
        if not service or not sentinels:
            raise MisuseError("service must name the master, sentinels must have a (host, port) at least")
        client: Callable[[str, float, dict[str, Any]], C] = make
        url = "rediss://" if options.pop("ssl", False) else "redis://"
        self._clients: list[C] = []
        for host, port in sentinels:
            self._clients.append(client(url, timeout, options | {"host": str(host), "port": int(port)}))
            options |= self._clients[0].dial.tls
        self._service = service
        self._timeout = timeout

    def share(self) -> float:
        left = remaining()
        left = self._timeout if left is None else min(left, self._timeout)
        return max(left / 2 / len(self._clients), 0.001)

    def told(self, by: C, reply: Any) -> Address:
        for words in reply:
            state: dict[bytes, bytes] = dict(zip(words[::2], words[1::2], strict=True))
            flags = {*state[b"flags"].split(b",")}
            if state[b"name"] == self._service.encode() and b"master" in flags and not flags & DOWN:
                self._clients = sorted(self._clients, key=lambda client: client is not by)
                return state[b"ip"].decode(), int(state[b"port"])
        raise LookupError("no master of that name that it reaches")

    def nobody(self, errors: list[Exception]) -> ConnectionError:
        return ConnectionError(f"no sentinel tells of a master {self._service!r}: {errors}")


@final
class Master(_Asked[Client]):
    """Calling it gives the master's address. Raises `ConnectionError` when no sentinel tells of one."""

    __slots__ = ()

    def __init__(self, service: str, sentinels: Sequence[Address], timeout: float, options: dict[str, Any]) -> None:
        super().__init__(Client, service, sentinels, timeout, options)

    def __call__(self) -> Address:
        share, errors = self.share(), list[Exception]()
        for client in self._clients:
            try:
                return self.told(client, client.aside(share, MASTERS))
            except Exception as error:  # noqa: BLE001 - around a store: the next one is asked
                errors.append(error)
        raise self.nobody(errors)


@final
class AsyncMaster(_Asked[AsyncClient]):
    """The same, awaited."""

    __slots__ = ()

    def __init__(self, service: str, sentinels: Sequence[Address], timeout: float, options: dict[str, Any]) -> None:
        super().__init__(AsyncClient, service, sentinels, timeout, options)

    async def __call__(self) -> Address:
        share, errors = self.share(), list[Exception]()
        for client in self._clients:
            try:
                async with asyncio.timeout(share):
                    reply = await client.aside(MASTERS)
                return self.told(client, reply)
            except Exception as error:  # noqa: BLE001 - around a store: the next one is asked
                errors.append(error)
        raise self.nobody(errors)
