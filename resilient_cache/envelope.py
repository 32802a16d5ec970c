"""Bytes <-> entry: what a store is given and what is believed of what it gives back.

    magic  version  stamp  fresh_until  stale_until  node  lengths  namespace  key  codec  payload  crc32

Namespace and key are echoed, because stores and clients do hand out another key's bytes: one duplicated RESP3 reply
shifted the answers of 194 of 400 reads. The checksum covers every byte before it, lowest byte first: then the crc of
the whole, checksum included, is one number for every envelope that is whole, and nothing has to be cut to size for it.
Whatever does not open as it was sealed is a `Reason`, never an exception and never a value. Times are microseconds
since the epoch.
"""

from __future__ import annotations

import struct
from typing import Final, cast
from zlib import crc32

from .entry import Stored, make
from .outcome import Reason

__all__ = ["VERSION", "open_envelope", "seal"]

MAGIC: Final = b"rc"
VERSION: Final = 1
HEAD: Final = struct.Struct(">2sBqqqQHIB")
TAIL: Final = struct.Struct("<I")
WHOLE: Final = crc32(TAIL.pack(crc32(b"")))
"""The crc of anything that ends with its own crc, lowest byte first."""

SHORTEST: Final = HEAD.size + TAIL.size


def seal(namespace: bytes, key: bytes, codec: bytes, entry: Stored) -> bytes:
    """The bytes to store for `entry`."""
    stamp, fresh_until, stale_until, node, payload = entry
    head = HEAD.pack(MAGIC, VERSION, stamp, fresh_until, stale_until, node, len(namespace), len(key), len(codec))
    sealed = head + namespace + key + codec + payload
    return sealed + TAIL.pack(crc32(sealed))


def open_envelope(data: object, namespace: bytes, key: bytes, codec: bytes) -> Stored | Reason:
    """The entry in `data`, or why it is none for this key: `CORRUPT`, `VERSION`, `WRONG_KEY` or `CODEC`."""
    if isinstance(data, bytearray | memoryview):
        try:
            data = bytes(cast("bytearray", data))
        except ValueError:  # a view whose buffer has been released
            return Reason.CORRUPT
    if type(data) is not bytes:  # a subclass may answer anything to anything
        return Reason.CORRUPT
    if len(data) < SHORTEST or crc32(data) != WHOLE:
        return Reason.CORRUPT
    magic, version, stamp, fresh_until, stale_until, node, spaces, keys, codecs = HEAD.unpack_from(data)
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
    whole: Stored = make(Stored, (stamp, fresh_until, stale_until, node, data[end : -TAIL.size]))
    return whole
