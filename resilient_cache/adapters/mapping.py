"""A mapping in this process as a store: a dict, any cachetools cache, anything with the methods of one."""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Final, cast, final

from .. import locks
from ..errors import FailureKind, MisuseError, StoreError
from ..forking import protect

__all__ = ["AsyncMappingAdapter", "MappingAdapter"]

MARK: Final = b"\x00ttl"
HEADER: Final = struct.Struct(">4sd")


class _Entries:
    """A mapping whose entries expire, used by one thread at a time.

    What is stored is one bytes object: MARK, the moment of expiry as a big-endian double, the value. A tuple would
    spare two copies, but lost: `getsizeof=len` of a cachetools cache would measure 2 for every value, and a mapping
    that takes bytes only, such as `dbm`, could not be used. The lock may be taken again by its owner, because a
    signal handler may call a cache while the cache is in here.
    """

    __slots__ = ("__weakref__", "_mapping", "_now", "lock")

    def __init__(self, mapping: MutableMapping[str, bytes] | None, monotonic: Callable[[], float] | None) -> None:
        self._mapping: MutableMapping[str, bytes] = {} if mapping is None else mapping
        for name in ("get", "pop", "__setitem__"):
            if not callable(getattr(self._mapping, name, None)):
                kind = type(mapping).__name__
                raise MisuseError(f"mapping must be a mutable mapping such as a dict, but {kind} has no {name}()")
        self._now = monotonic or time.monotonic
        self.lock = locks.make_rlock()
        protect(self)

    def forked(self) -> None:
        """Nothing of the parent's is left in here: its threads were kept out while it forked."""

    def get(self, key: str) -> bytes | None:
        with self.lock:
            # .get() and not [key]: a defaultdict would make an entry out of a question.
            stored = cast("object", self._mapping.get(key))
            if stored is None:
                return None
            if not isinstance(stored, bytes):
                raise StoreError(FailureKind.PER_KEY, f"the mapping holds a {type(stored).__name__}, not bytes")
            if not stored.startswith(MARK) or len(stored) < HEADER.size:
                return stored
            if self._now() < HEADER.unpack_from(stored)[1]:
                return stored[HEADER.size :]
            self._mapping.pop(key, None)
            return None

    def set(self, key: str, value: bytes, ttl: float) -> None:
        with self.lock:
            try:
                self._mapping[key] = HEADER.pack(MARK, self._now() + ttl) + value
            except ValueError as error:
                if "value too large" not in str(error):  # what cachetools says
                    raise
                raise StoreError(FailureKind.PER_KEY, f"{len(value)} bytes do not fit the mapping") from error

    def delete(self, key: str) -> None:
        with self.lock:
            self._mapping.pop(key, None)

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for key in keys:
            with contextlib.suppress(StoreError):  # one bad entry is as good as none, as it is to Redis' MGET
                value = self.get(key)
                if value is not None:
                    found[key] = value
        return found

    def set_many(self, entries: Mapping[str, tuple[bytes, float]]) -> None:
        refused: StoreError | None = None
        for key, (value, ttl) in entries.items():
            try:
                self.set(key, value, ttl)
            except StoreError as error:  # the others are to be kept all the same
                refused = error
        if refused is not None:
            raise refused

    def delete_many(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.delete(key)


@final
class MappingAdapter:
    """A mutable mapping as a store, with a lifetime for every entry whatever the mapping itself knows about time.

    `mapping` is a dict, any cachetools cache or anything else with `get`, `pop` and `[key] = value`; None makes a
    plain dict, which never shrinks by itself. Where the mapping has a lifetime of its own the shorter one counts.
    Calls are serialised by a lock, as cachetools caches need; use the mapping elsewhere only while nothing else does.
    `monotonic` is the clock the lifetimes are measured with, in seconds; give `time.time` to a mapping that outlives
    the process. Bytes that this adapter did not write are handed out as they are, for the layer above to reject.

    Raises `MisuseError` for an object that is no mapping, `StoreError` of kind PER_KEY for a value too large for the
    mapping or an entry that is not bytes, and whatever the mapping raises.
    """

    __slots__ = ("_entries",)

    def __init__(
        self,
        mapping: MutableMapping[str, bytes] | None = None,
        *,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        self._entries = _Entries(mapping, monotonic)

    def get(self, key: str, /) -> bytes | None:
        """The bytes stored under `key`, None when there are none or their `ttl` is over."""
        return self._entries.get(key)

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        """Keep `value` for `ttl` seconds."""
        self._entries.set(key, value, ttl)

    def delete(self, key: str, /) -> None:
        """Remove `key`, whether it is there or not."""
        self._entries.delete(key)

    def get_many(self, keys: Sequence[str], /) -> dict[str, bytes]:
        """The bytes of those of `keys` that there are; an entry that is not bytes is left out."""
        return self._entries.get_many(keys)

    def set_many(self, entries: Mapping[str, tuple[bytes, float]], /) -> None:
        """Keep each value for its seconds. Raises for one that is too large when the others are kept."""
        self._entries.set_many(entries)

    def delete_many(self, keys: Sequence[str], /) -> None:
        """Remove all of them."""
        self._entries.delete_many(keys)


@final
class AsyncMappingAdapter:
    """The same as `MappingAdapter` for the async API: never suspends, and needs no thread."""

    __slots__ = ("_entries",)

    def __init__(
        self,
        mapping: MutableMapping[str, bytes] | None = None,
        *,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        self._entries = _Entries(mapping, monotonic)

    async def get(self, key: str, /) -> bytes | None:
        """The bytes stored under `key`, None when there are none or their `ttl` is over."""
        return self._entries.get(key)

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        """Keep `value` for `ttl` seconds."""
        self._entries.set(key, value, ttl)

    async def delete(self, key: str, /) -> None:
        """Remove `key`, whether it is there or not."""
        self._entries.delete(key)

    async def get_many(self, keys: Sequence[str], /) -> dict[str, bytes]:
        """The bytes of those of `keys` that there are; an entry that is not bytes is left out."""
        return self._entries.get_many(keys)

    async def set_many(self, entries: Mapping[str, tuple[bytes, float]], /) -> None:
        """Keep each value for its seconds. Raises for one that is too large when the others are kept."""
        self._entries.set_many(entries)

    async def delete_many(self, keys: Sequence[str], /) -> None:
        """Remove all of them."""
        self._entries.delete_many(keys)
