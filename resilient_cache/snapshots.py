"""The bytes of a snapshot: many entries in one file, believed only as a whole.

    line  version  sizes  namespace  codec        whose it is
    size  size  key  envelope   ...               each entry, sealed as for a store
    end  count  crc32                             that this is all, and that it is whole

The line says in words what the file is. Every envelope has its own key echoed and its own checksum inside, so what is
taken out of a file that somebody rewrites meanwhile is still an entry of its key or none. The checksum at the end is
over every byte before it. Entries come and go one by one: nothing holds a whole snapshot in memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Final, final
from zlib import crc32

from .outcome import Reason

__all__ = ["Refused", "decode", "encode"]

LINE: Final = b"resilient_cache snapshot\n"
VERSION: Final = 1
HEAD: Final = struct.Struct(">BHH")
SIZES: Final = struct.Struct(">II")
END: Final = 2**32 - 1
"""In place of a key's size: no key is as long."""

TAIL: Final = struct.Struct("<I")


class Refused(Exception):
    """The file is no whole snapshot of this cache: `CORRUPT`, `VERSION`, `WRONG_KEY` (another cache's) or `CODEC`."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


def encode(namespace: bytes, codec: bytes, entries: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """The pieces of a snapshot of (key, envelope) pairs, in order."""
    piece = LINE + HEAD.pack(VERSION, len(namespace), len(codec)) + namespace + codec
    crc, count = crc32(piece), 0
    yield piece
    for key, envelope in entries:
        piece = SIZES.pack(len(key), len(envelope)) + key + envelope
        crc, count = crc32(piece, crc), count + 1
        yield piece
    piece = SIZES.pack(END, count)
    yield piece + TAIL.pack(crc32(piece, crc))


def decode(read: Callable[[int], bytes], size: int, namespace: bytes, codec: bytes) -> Iterator[tuple[str, bytes]]:
    """The (key, envelope) pairs of a snapshot of `size` bytes. Raises `Refused`, perhaps at the very end.

    So whoever will have all or nothing goes through it twice.
    """
    source = _Source(read, size)
    _check_head(source, namespace, codec)
    count = 0
    while True:
        keys, envelopes = SIZES.unpack(source.take(SIZES.size))
        if keys == END:
            break
        both = source.take(keys + envelopes)
        count += 1
        try:
            key = both[:keys].decode()
        except UnicodeDecodeError:
            raise Refused(Reason.CORRUPT) from None
        yield key, both[keys:]
    crc = source.crc
    if TAIL.unpack(source.take(TAIL.size)) != (crc,) or envelopes != count or source.left:
        raise Refused(Reason.CORRUPT)


def _check_head(source: _Source, namespace: bytes, codec: bytes) -> None:
    if source.take(len(LINE)) != LINE:
        raise Refused(Reason.CORRUPT)
    version, namespaces, codecs = HEAD.unpack(source.take(HEAD.size))
    if version != VERSION:
        raise Refused(Reason.VERSION)
    if source.take(namespaces) != namespace:
        raise Refused(Reason.WRONG_KEY)
    if source.take(codecs) != codec:
        raise Refused(Reason.CODEC)


@final
class _Source:
    """What is left to read, and the checksum of what was read."""

    __slots__ = ("_read", "crc", "left")

    def __init__(self, read: Callable[[int], bytes], size: int) -> None:
        self._read = read
        self.left = size
        self.crc = 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes, all of them."""
        data = self._read(size) if size <= self.left else b""  # never asks for more than there can be
        if len(data) != size:
            raise Refused(Reason.CORRUPT)
        self.left -= size
        self.crc = crc32(data, self.crc)
        return data
