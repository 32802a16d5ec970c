"""Bytes <-> entry: what a store is given and what is believed of what it gives back.

    magic  version  stamp  fresh_until  stale_until  node  mark  lengths  namespace  key  codec  tags  payload  crc32

Namespace and key are echoed, because stores and clients do hand out another key's bytes: one duplicated RESP3 reply
shifted the answers of 194 of 400 reads. The checksum covers every byte before it, lowest byte first: then the crc of
the whole, checksum included, is one number for every envelope that is whole, and nothing has to be cut to size for it.
Whatever does not open as it was sealed is a `Reason`, never an exception and never a value. Times are microseconds
since the epoch. `mark` and the tags (each: length, text, version) are what many entries are invalidated at once by.
"""

from __future__ import annotations

import struct
from typing import Final, cast
from zlib import crc32

from .entry import Stored, make
from .outcome import Reason

__all__ = ["VERSION", "open_envelope", "seal"]

MAGIC: Final = b"rc"
VERSION: Final = 2
HEAD: Final = struct.Struct(">2sBqqqQQHIBH")
TAG: Final = struct.Struct(">HQ")
TAIL: Final = struct.Struct("<I")
WHOLE: Final = crc32(TAIL.pack(crc32(b"")))
"""The crc of anything that ends with its own crc, lowest byte first."""

SHORTEST: Final = HEAD.size + TAIL.size


def seal(namespace: bytes, key: bytes, codec: bytes, entry: Stored) -> bytes:
    """The bytes to store for `entry`."""
    stamp, fresh_until, stale_until, node, payload, mark, tags = entry
    tagged = b"".join([TAG.pack(len(name := tag.encode()), version) + name for tag, version in tags]) if tags else b""
    sizes = len(namespace), len(key), len(codec), len(tagged)
    head = HEAD.pack(MAGIC, VERSION, stamp, fresh_until, stale_until, node, mark, *sizes)
    sealed = head + namespace + key + codec + tagged + payload
    return sealed + TAIL.pack(crc32(sealed))


def open_envelope(data: object, namespace: bytes, key: bytes, codec: bytes) -> Stored | Reason:
    """The entry in `data`, or why it is none for this key: `CORRUPT`, `VERSION`, `WRONG_KEY` or `CODEC`."""
    if type(data) is not bytes:
        data = _plain(data)
    if data is None or len(data) < SHORTEST or crc32(data) != WHOLE:
        return Reason.CORRUPT
    magic, version, stamp, fresh_until, stale_until, node, mark, spaces, keys, codecs, size = HEAD.unpack_from(data)
    if magic != MAGIC:
        return Reason.CORRUPT
    if version != VERSION:
        return Reason.VERSION
    echo = namespace + key
    start = HEAD.size + len(echo)
    if spaces != len(namespace) or keys != len(key) or not data.startswith(echo, HEAD.size):
        return Reason.WRONG_KEY
    end = start + codecs
    if data[start:end] != codec:
        return Reason.CODEC
    payload = data[end : -TAIL.size]
    tags: tuple[tuple[str, int], ...] | None = ()
    if size:
        tags, payload = _tags(payload[:size], size), payload[size:]
        if tags is None:
            return Reason.CORRUPT
    whole: Stored = make(Stored, (stamp, fresh_until, stale_until, node, payload, mark, tags))
    return whole


def _plain(data: object) -> bytes | None:
    """What a store gave, as bytes; None for what is no bytes. A subclass of them may answer anything to anything."""
    if not isinstance(data, bytearray | memoryview):
        return None
    try:
        return bytes(cast("bytearray", data))
    except ValueError:  # a view whose buffer has been released
        return None


def _tags(section: bytes, size: int) -> tuple[tuple[str, int], ...] | None:
    """The tags of an entry with their versions; None when they are not what was sealed."""
    if len(section) != size:
        return None
    tags: list[tuple[str, int]] = []
    try:
        while section:
            length, version = TAG.unpack_from(section)
            end = TAG.size + length
            if len(section) < end:
                return None
            tags.append((section[TAG.size : end].decode(), version))
            section = section[end:]
    except (struct.error, UnicodeDecodeError):
        return None
    return tuple(tags)
