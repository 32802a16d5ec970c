"""Many keys in one round trip: MGET, SETs sent together, one DEL. Not in a cluster, where keys live on many nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from ..errors import FailureKind, StoreError
from ._redis_adapter import Adapter, AsyncAdapter
from ._redis_errors import failure
from ._redis_wire import milliseconds, packed

__all__ = ["AsyncManyAdapter", "ManyAdapter", "are_ok", "are_values", "encoded", "sets"]


class ManyAdapter(Adapter):
    """The methods for many keys, for the sync API."""

    __slots__ = ()

    def get_many(self, keys: Sequence[str], /) -> dict[str, bytes]:
        """The bytes of those of `keys` that there are, by one MGET."""
        if not keys:
            return {}
        try:
            reply: object = self._client.get_many(keys)
        except Exception as error:
            raise failure(error) from error
        return _found(keys, reply)

    def set_many(self, entries: Mapping[str, tuple[bytes, float]], /) -> None:
        """Store each (value, ttl), by SETs sent together; the server has acknowledged them all.

        They are no transaction: others may see some of them before the rest.
        """
        if not entries:
            return
        try:
            self._client.set_many(entries)
        except Exception as error:
            raise failure(error) from error

    def delete_many(self, keys: Sequence[str], /) -> None:
        """Remove all of `keys`, by one DEL; the server has acknowledged it."""
        if not keys:
            return
        try:
            self._client.delete_many(keys)
        except Exception as error:
            raise failure(error) from error


class AsyncManyAdapter(AsyncAdapter):
    """The same for the async API."""

    __slots__ = ()

    async def get_many(self, keys: Sequence[str], /) -> dict[str, bytes]:
        """The bytes of those of `keys` that there are, by one MGET."""
        if not keys:
            return {}
        try:
            reply: object = await self._bounded(self._client.get_many(keys))
        except Exception as error:
            raise failure(error) from error
        return _found(keys, reply)

    async def set_many(self, entries: Mapping[str, tuple[bytes, float]], /) -> None:
        """Store each (value, ttl), by SETs sent together; the server has acknowledged them all.

        They are no transaction: others may see some of them before the rest.
        """
        if not entries:
            return
        try:
            await self._bounded(self._client.set_many(entries))
        except Exception as error:
            raise failure(error) from error

    async def delete_many(self, keys: Sequence[str], /) -> None:
        """Remove all of `keys`, by one DEL; the server has acknowledged it."""
        if not keys:
            return
        try:
            await self._bounded(self._client.delete_many(keys))
        except Exception as error:
            raise failure(error) from error


def _found(keys: Sequence[str], reply: Any) -> dict[str, bytes]:
    if not are_values(reply) or len(reply) != len(keys):
        raise StoreError(FailureKind.CONNECTION, f"a {type(reply).__name__} in answer to MGET of {len(keys)} keys")
    return {key: value for key, value in zip(keys, _items(reply), strict=True) if isinstance(value, bytes)}


def encoded(keys: Sequence[str]) -> list[bytes]:
    """Keys as they are sent."""
    return [key.encode() for key in keys]


def sets(entries: Mapping[str, tuple[bytes, float]]) -> bytes:
    """As many SETs, one after the other."""
    return b"".join(
        packed(b"SET", key.encode(), value, b"PX", b"%d" % milliseconds(ttl)) for key, (value, ttl) in entries.items()
    )


def are_values(reply: object) -> bool:
    """Whether this can be the answer to MGET."""
    return is_list(reply) and all(value is None or isinstance(value, bytes) for value in _items(reply))


def are_ok(reply: object) -> bool:
    """Whether this can be the answer to as many SETs."""
    return is_list(reply) and all(value == "OK" for value in _items(reply))


def is_list(reply: object) -> bool:
    return isinstance(reply, list)


def _items(reply: object) -> list[object]:
    return cast("list[object]", reply)
