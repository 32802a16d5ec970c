"""The fail-fast clients behind `from_url` of the cluster adapters: one fail-fast client for each node, and the map.

redis-py opens the connections and computes the slots, as it does for a single server; who owns them is `_redis_slots`'.
A call goes to the owner, follows what that says of a move, and is bounded as a whole by one deadline, asking around
included. ASK, which is said while a slot is on its way, is followed on a connection of its own: it is rare, and the
permission it takes must not be left on a connection that others use.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from threading import Lock, RLock
from typing import Any, Final, Generic, NamedTuple, NoReturn, TypeVar, final
from urllib.parse import SplitResult, urlsplit, urlunsplit

from ..deadline import CURRENT, remaining
from ..errors import FailureKind, MisuseError, StoreError
from ..forking import protect
from ._redis_clients import AsyncClient, Client
from ._redis_errors import failure
from ._redis_slots import Slots
from ._redis_wire import milliseconds

__all__ = ["AsyncClusterClient", "ClusterClient"]

C = TypeVar("C", Client, AsyncClient)

REDIRECTED: Final = re.compile(r"(?:^|: )(MOVED|ASK) (\d+) (.*):(\d+)$")
MOST_REDIRECTIONS: Final = 3
SHARE: Final = 3
"""A node asked for the map is given one part in so many of the time left, as others and the call need some, too."""

LEAST: Final = 0.005
"""With fewer seconds left nobody is asked any more."""

MAP: Final = ("CLUSTER", "SLOTS")


class Command(NamedTuple):
    """One of the three."""

    method: str
    key: str
    args: tuple[Any, ...] = ()

    def words(self) -> tuple[str | bytes, ...]:
        """As it is sent."""
        if self.method == "set":
            value, ttl = self.args
            return "SET", self.key, value, "PX", str(milliseconds(ttl))
        return "GET" if self.method == "get" else "DEL", self.key


class Redirection(NamedTuple):
    """Where a node sends a call: for good, or for this once."""

    name: str
    slot: int
    once: bool


class _Nodes(Generic[C]):
    """The clients of the nodes, made when they are needed, and the map."""

    def __init__(self, make: type[C], urls: Sequence[str], timeout: float, options: dict[str, Any]) -> None:
        parts = [_split(url) for url in urls]
        if not parts:
            raise MisuseError("url must be one of a node, or a list of some")
        self._make: Callable[[str, float, dict[str, Any]], C] = make
        self._template = parts[0]
        self._timeout = timeout
        self._options = options
        self._clients: dict[str, C] = {}
        self._closed = False
        self.slots = Slots([f"{part.hostname or 'localhost'}:{part.port}" for part in parts])
        first = self.client(self.slots.candidates()[0])  # opens nothing, but knows the options
        self._options = options | first.dial.tls

    def client(self, name: str) -> C:
        if self._closed:
            raise StoreError(FailureKind.CONNECTION, "closed")
        client = self._clients.get(name)
        if client is None:  # outside of every lock, as it wants one of its own: who comes second drops it again
            client = self._clients.setdefault(name, self._make(self._url(name), self._timeout, self._options))
        return client

    def left(self) -> float:
        left = remaining()
        return self._timeout if left is None else min(left, self._timeout)

    def learn(self, reply: object, teller: str) -> None:
        for name in self.slots.learn(reply, teller):
            client = self._clients.pop(name, None)
            if client is not None:
                client.close()

    def redirected(self, error: Exception, owner: str) -> Redirection | None:
        """Where the error of a call to `owner` sends it; None where it is a failure."""
        told = REDIRECTED.search(str(error))
        if told is None:
            self.slots.failed(owner, failure(error).kind)
            return None
        word, slot, host, port = told.groups()
        to = Redirection(f"{host or owner.rpartition(':')[0]}:{port}", int(slot), word == "ASK")
        if not to.once:
            self.slots.moved(to.slot, to.name, owner)
        return to

    def nobody(self) -> NoReturn:
        kind = FailureKind.TIMEOUT if self.left() < LEAST else FailureKind.UNAVAILABLE
        raise StoreError(kind, "no node tells who owns the key")

    def close(self) -> None:
        self._closed = True
        for client in list(self._clients.values()):
            client.close()

    def _url(self, name: str) -> str:
        host, _, port = name.rpartition(":")
        user, at, _ = self._template.netloc.rpartition("@")
        place = f"[{host}]" if ":" in host else host
        return urlunsplit(self._template._replace(netloc=f"{user}{at}{place}:{port}"))


@final
class ClusterClient(_Nodes[Client]):
    """`get`, `set`, `delete` within `timeout` seconds in all, or what the current operation has left if less."""

    def __init__(self, urls: Sequence[str], timeout: float, options: dict[str, Any]) -> None:
        super().__init__(Client, urls, timeout, options)
        self._looking = Lock()
        self.lock = RLock()
        protect(self)

    def get(self, key: str) -> object:
        return self._bounded(Command("get", key))

    def set(self, key: str, value: bytes, ttl: float) -> None:
        self._bounded(Command("set", key, (value, ttl)))

    def delete(self, key: str) -> None:
        self._bounded(Command("delete", key))

    def forked(self) -> None:
        """Start over in a child, where nobody is looking; the clients of the nodes see to themselves."""
        self._looking = Lock()

    def _bounded(self, command: Command) -> object:
        token = CURRENT.set((time.monotonic() + self.left(), time.monotonic))
        try:
            return self._run(command)
        finally:
            CURRENT.reset(token)

    def _run(self, command: Command) -> object:
        to = Redirection(self._owner(command.key), 0, once=False)
        for _ in range(MOST_REDIRECTIONS):
            client = self.client(to.name)
            try:
                if to.once:
                    return client.aside(self.left(), ("ASKING",), command.words())
                reply: object = getattr(client, command.method)(command.key, *command.args)
            except Exception as error:
                found = self.redirected(error, to.name)
                if found is None:
                    raise
                to = found
            else:
                self.slots.answered(to.name)
                return reply
        raise StoreError(FailureKind.UNAVAILABLE, "sent from node to node")

    def _owner(self, key: str) -> str:
        owner = self.slots.owner(key)
        if self.slots.is_due(owner):
            self._look(wait=not owner)
            owner = self.slots.owner(key)
        return owner or self.nobody()

    def _look(self, *, wait: bool) -> None:
        """Ask around for the map. While another thread does, `wait` for it, or go on with the map there is."""
        looking = self._looking
        if not looking.acquire(timeout=self.left() if wait else 0):
            return
        try:
            if wait and not self.slots.is_due(""):  # the other thread has found one
                return
            for name in self.slots.candidates():
                left = self.left()
                if left < LEAST or self._told_by(name, left / SHARE):
                    return
        finally:
            looking.release()

    def _told_by(self, name: str, seconds: float) -> bool:
        self.slots.looked()
        try:
            self.learn(self.client(name).aside(seconds, MAP), name)
        except Exception as error:  # noqa: BLE001 - around a store: the next one is asked
            self.slots.failed(name, failure(error).kind)
            return False
        return True


@final
class AsyncClusterClient(_Nodes[AsyncClient]):
    """The same for asyncio. A call has no end of its own, as with a single server; asking for the map has."""

    def __init__(self, urls: Sequence[str], timeout: float, options: dict[str, Any]) -> None:
        super().__init__(AsyncClient, urls, timeout, options)
        self._looking: asyncio.Task[None] | None = None

    async def get(self, key: str) -> object:
        return await self._run(Command("get", key))

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        await self._run(Command("set", key, (value, ttl)))

    async def delete(self, key: str) -> None:
        await self._run(Command("delete", key))

    async def aclose(self) -> None:
        self.close()
        if self._looking is not None and self._looking.get_loop() is asyncio.get_running_loop():
            self._looking.cancel()

    async def _run(self, command: Command) -> object:
        to = Redirection(await self._owner(command.key), 0, once=False)
        for _ in range(MOST_REDIRECTIONS):
            try:
                reply = await self._asked(to, command)
            except Exception as error:
                found = self.redirected(error, to.name)
                if found is None:
                    raise
                to = found
            else:
                self.slots.answered(to.name)
                return reply
        raise StoreError(FailureKind.UNAVAILABLE, "sent from node to node")

    async def _asked(self, to: Redirection, command: Command) -> object:
        client, left = self.client(to.name), self.left()
        # Whoever has waited for so long has gone, and the call may go on for seconds: the others are to know now.
        late = asyncio.get_running_loop().call_later(left, self.slots.failed, to.name, FailureKind.TIMEOUT)
        try:
            if to.once:
                return await client.aside(("ASKING",), command.words())
            reply: object = await getattr(client, command.method)(command.key, *command.args)
        finally:
            late.cancel()
        return reply

    async def _owner(self, key: str) -> str:
        owner = self.slots.owner(key)
        if self.slots.is_due(owner):
            await self._look()
            owner = self.slots.owner(key)
        return owner or self.nobody()

    async def _look(self) -> None:
        """Ask around for the map, or wait for who does: a cancelled caller does not stop it for the others."""
        loop, looking = asyncio.get_running_loop(), self._looking
        if looking is None or looking.done() or looking.get_loop() is not loop:
            looking = self._looking = loop.create_task(self._ask_around(loop.time() + self.left()))
        await asyncio.shield(looking)

    async def _ask_around(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        for name in self.slots.candidates():
            left = until - loop.time()
            if left < LEAST or await self._told_by(name, left / SHARE):
                return

    async def _told_by(self, name: str, seconds: float) -> bool:
        self.slots.looked()
        try:
            async with asyncio.timeout(seconds):
                self.learn(await self.client(name).aside(MAP), name)
        except Exception as error:  # noqa: BLE001 - around a store: the next one is asked
            self.slots.failed(name, failure(error).kind)
            return False
        return True


def _split(url: str) -> SplitResult:
    """Raises `MisuseError` for a URL that names no node of a cluster."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise MisuseError(f"url cannot be used: {error}") from None
    if parts.scheme == "unix" or parts.path.strip("/") not in ("", "0"):
        raise MisuseError("url must be of a node of a cluster: no unix socket, and no database but 0")
    return parts if port is not None else parts._replace(netloc=f"{parts.netloc}:6379")
