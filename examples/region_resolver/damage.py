"""Every value in the store, made wrong: bits flipped, cut short, or swapped with another host's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, cast

from redis.asyncio import Redis

__all__ = ["Damage"]


class _Client(Protocol):
    """The calls used here, typed more narrowly than the client types them."""

    async def keys(self, pattern: str) -> list[bytes]: ...
    async def get(self, name: bytes) -> bytes | None: ...
    async def set(self, name: bytes, value: bytes, *, keepttl: bool) -> object: ...
    async def aclose(self) -> None: ...


class Damage:
    """Spoils the values under keys that match `patterns`, each value once, through a client of its own."""

    def __init__(self, url: str, patterns: Iterable[str]) -> None:
        self._client = cast(_Client, Redis.from_url(url))  # pyright: ignore[reportUnknownMemberType]
        self._patterns = tuple(patterns)
        self._done: dict[bytes, bytes] = {}

    async def spoil(self) -> int:
        """Make every value wrong that is not yet; how many there were."""
        spoiled = 0
        for pattern in self._patterns:
            values = {key: value for key in await self._client.keys(pattern) if (value := await self._client.get(key))}
            fresh = sorted(key for key, value in values.items() if self._done.get(key) != value)
            for place, key in enumerate(fresh):
                other = values[fresh[place - 1]]
                self._done[key] = wrong = _wrong(values[key], other, place % 3)
                await self._client.set(key, wrong, keepttl=True)
            spoiled += len(fresh)
        return spoiled

    async def aclose(self) -> None:
        """Closes the connection."""
        await self._client.aclose()


def _wrong(value: bytes, other: bytes, way: int) -> bytes:
    """`other` is what the store held for another host."""
    if way == 0:
        return bytes(byte ^ 0xFF for byte in value)
    return value[: len(value) // 2] if way == 1 else other
