"""The snapshot format: whole and of this cache, or refused with a reason; bounded memory."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_cache.outcome import Reason
from resilient_cache.snapshots import END, HEAD, LINE, SIZES, Refused, decode, encode

WHOSE = b"space", b"json"
ENTRIES = [("a", b"one"), ("", b""), ("bä", b"three")]
PLAIN = [(key.encode(), envelope) for key, envelope in ENTRIES]


def opened(data: bytes, namespace: bytes = b"space", codec: bytes = b"json") -> list[tuple[str, bytes]]:
    return list(decode(io.BytesIO(data).read, len(data), namespace, codec))


def refusal(data: bytes, *whose: bytes) -> Reason:
    with pytest.raises(Refused) as caught:
        opened(data, *whose)
    return caught.value.reason


def sealed_again(data: bytes) -> bytes:
    """With a checksum that is right."""
    return data[:-4] + struct.pack("<I", crc32(data[:-4]))


WHOLE = b"".join(encode(*WHOSE, PLAIN))


@given(st.dictionaries(st.text(max_size=5), st.binary(max_size=50), max_size=4))
def test_what_was_written_is_read(entries: dict[str, bytes]) -> None:
    data = b"".join(encode(*WHOSE, [(key.encode(), envelope) for key, envelope in entries.items()]))
    assert opened(data) == list(entries.items())


def test_the_first_line_says_what_it_is() -> None:
    assert WHOLE.splitlines()[0] == b"resilient_cache snapshot"
    assert b"space" in WHOLE
    assert b"json" in WHOLE


@pytest.mark.parametrize("place", range(len(WHOLE)))
def test_no_damaged_byte_passes(place: int) -> None:
    for bit in range(8):
        damaged = bytearray(WHOLE)
        damaged[place] ^= 1 << bit
        assert isinstance(refusal(bytes(damaged)), Reason)


@pytest.mark.parametrize("size", range(len(WHOLE)))
def test_no_part_passes(size: int) -> None:
    assert refusal(WHOLE[:size]) is Reason.CORRUPT


def test_nothing_may_follow() -> None:
    assert refusal(WHOLE + b"x") is Reason.CORRUPT
    assert refusal(WHOLE + WHOLE) is Reason.CORRUPT


def test_whose_it_is_has_a_reason_of_its_own() -> None:
    assert refusal(WHOLE, b"spice", b"json") is Reason.WRONG_KEY
    assert refusal(WHOLE, b"spacex", b"json") is Reason.WRONG_KEY
    assert refusal(WHOLE, b"space", b"bytes") is Reason.CODEC
    assert refusal(b"something else that is long enough to be a snapshot") is Reason.CORRUPT
    other = WHOLE.replace(LINE + b"\x01", LINE + b"\x02")
    assert refusal(sealed_again(other)) is Reason.VERSION


def test_what_only_looks_whole_is_refused() -> None:
    """The checksum is right, but the count, a key or a size is not."""
    count = WHOLE.index(SIZES.pack(END, 3))
    assert refusal(sealed_again(WHOLE[:count] + SIZES.pack(END, 2) + WHOLE[count + 8 :])) is Reason.CORRUPT
    assert refusal(b"".join(encode(*WHOSE, [(b"\xff", b"one")]))) is Reason.CORRUPT
    start = len(LINE) + HEAD.size + len(b"spacejson")
    assert refusal(sealed_again(WHOLE[:start] + SIZES.pack(END - 1, 3) + WHOLE[start + 8 :])) is Reason.CORRUPT


def test_no_more_is_asked_for_than_there_can_be() -> None:
    """A size of 4 GiB must not be believed before it is read."""
    start = len(LINE) + HEAD.size + len(b"spacejson")
    data = WHOLE[:start] + SIZES.pack(END - 1, END) + WHOLE[start + 8 :]
    asked: list[int] = []
    source = io.BytesIO(data)

    def read(size: int) -> bytes:
        asked.append(size)
        return source.read(size)

    with pytest.raises(Refused):
        list(decode(read, len(data), *WHOSE))
    assert max(asked) <= len(data)


def test_a_file_that_shrinks_is_refused() -> None:
    with pytest.raises(Refused):
        list(decode(io.BytesIO(WHOLE[:-10]).read, len(WHOLE), *WHOSE))


def test_entries_come_one_by_one() -> None:
    """A piece for each entry, made when it is asked for, and the same on the way back."""
    made: list[int] = []

    def entries() -> Iterator[tuple[bytes, bytes]]:
        for number in range(1_000):
            made.append(number)
            yield str(number).encode(), b"x" * 1_000

    pieces = encode(*WHOSE, entries())
    next(pieces)
    assert len(made) == 0
    next(pieces)
    assert len(made) == 1
    assert max(map(len, pieces)) < 1_100
