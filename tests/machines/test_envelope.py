"""Whatever does not open as it was sealed is a `Reason`: never an exception, never a value."""

from __future__ import annotations

import struct
from zlib import crc32

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from resilient_cache.entry import Stored
from resilient_cache.envelope import HEAD, SHORTEST, VERSION, open_envelope, seal
from resilient_cache.outcome import Reason

INT64 = st.integers(-(2**63), 2**63 - 1)
NAMES = st.binary(max_size=12)
CODECS = st.binary(max_size=8)
ENTRIES = st.builds(
    Stored,
    stamp=INT64,
    fresh_until=INT64,
    stale_until=INT64,
    node=st.integers(0, 2**64 - 1),
    payload=st.binary(max_size=60),
    version=st.integers(0, 2**64 - 1),
    tags=st.lists(st.tuples(st.text(max_size=9), st.integers(0, 2**64 - 1)), max_size=3).map(tuple),
)
ENTRY = Stored(1_000_000, 2_000_000, 3_000_000, 7, b"payload", 9)
SEALED = seal(b"space", b"key", b"json", ENTRY)


def reopened(data: object) -> Stored | Reason:
    return open_envelope(data, b"space", b"key", b"json")


def resealed(data: bytes) -> bytes:
    """`data` without its checksum, with a right one."""
    return data + struct.pack("<I", crc32(data))


@given(NAMES, NAMES, CODECS, ENTRIES)
def test_what_was_sealed_opens_as_it_was(namespace: bytes, key: bytes, codec: bytes, entry: Stored) -> None:
    opened = open_envelope(seal(namespace, key, codec, entry), namespace, key, codec)
    assert opened == entry
    assert type(opened) is Stored
    assert type(opened.payload) is bytes


@pytest.mark.parametrize(
    ("namespace", "key", "codec"), [(b"n" * 65_535, b"k", b"c"), (b"n", b"k" * 70_000, b"c"), (b"n", b"k", b"c" * 255)]
)
def test_long_names_are_told_in_full(namespace: bytes, key: bytes, codec: bytes) -> None:
    assert open_envelope(seal(namespace, key, codec, ENTRY), namespace, key, codec) == ENTRY


@given(st.tuples(NAMES, NAMES, CODECS), st.tuples(NAMES, NAMES, CODECS), ENTRIES)
@example((b"a", b"bc", b"x"), (b"ab", b"c", b"x"), ENTRY)
@example((b"", b"k", b""), (b"k", b"", b""), ENTRY)
@example((b"n", b"k", b"ab"), (b"n", b"k", b"a"), ENTRY)
@example((b"n", b"k", b"a"), (b"n", b"k", b"ab"), ENTRY._replace(payload=b"b"))
@example((b"n", b"ka", b""), (b"n", b"k", b"a"), ENTRY)
@example((b"n", b"k", b"c"), (b"n", b"kc", b""), ENTRY)
def test_it_opens_for_nothing_else(
    here: tuple[bytes, bytes, bytes], there: tuple[bytes, bytes, bytes], entry: Stored
) -> None:
    assume(here != there)
    assert open_envelope(seal(*here, entry), *there) is (Reason.CODEC if here[:2] == there[:2] else Reason.WRONG_KEY)


@given(st.integers(0, len(SEALED) * 8 - 1))
def test_a_flipped_bit_is_corrupt(bit: int) -> None:
    data = bytearray(SEALED)
    data[bit // 8] ^= 1 << bit % 8
    assert reopened(bytes(data)) is Reason.CORRUPT


def test_every_other_length_is_corrupt() -> None:
    for length in range(len(SEALED)):
        assert reopened(SEALED[:length]) is Reason.CORRUPT
        assert reopened(SEALED[len(SEALED) - length :]) is Reason.CORRUPT


@given(st.binary(min_size=1, max_size=50))
@example(b"\0\0\0\0")
@example(SEALED)
def test_bytes_before_or_after_are_corrupt(more: bytes) -> None:
    assert reopened(SEALED + more) is Reason.CORRUPT
    assert reopened(more + SEALED) is Reason.CORRUPT


@given(st.tuples(NAMES, NAMES, CODECS, ENTRIES), st.integers(0, 200), st.integers(0, 200))
def test_two_envelopes_spliced_are_never_a_value(
    other: tuple[bytes, bytes, bytes, Stored], end: int, start: int
) -> None:
    second = seal(*other)
    spliced = SEALED[:end] + second[start:]
    assume(spliced not in (SEALED, second))
    assert isinstance(reopened(spliced), Reason)


@given(st.lists(st.tuples(st.integers(0, len(SEALED) - 5), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_forged_checksum_gives_only_what_is_addressed_to_the_key(
    changes: list[tuple[int, int]],
) -> None:
    data = bytearray(SEALED[:-4])
    for place, byte in changes:
        data[place] = byte
    opened = reopened(resealed(bytes(data)))
    if isinstance(opened, Stored):
        assert seal(b"space", b"key", b"json", opened) == resealed(bytes(data))


@given(st.binary(max_size=120))
@example(b"")
@example(b"rc")
@example(b"rc\2" + bytes(SHORTEST - 3))
def test_any_bytes_are_a_reason(data: bytes) -> None:
    assert isinstance(reopened(data), Reason)
    assert isinstance(reopened(resealed(b"rc" + data)), Reason)


@given(st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.booleans(), st.lists(st.integers(0, 255))))
@example(SEALED.decode("latin-1"))
@example(list(SEALED))
@example(ENTRY)
def test_anything_but_bytes_is_corrupt(data: object) -> None:
    assert reopened(data) is Reason.CORRUPT


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_other_kinds_of_bytes_are_taken_as_bytes(kind: type[bytearray] | type[memoryview]) -> None:
    opened = reopened(kind(SEALED))
    assert opened == ENTRY
    assert isinstance(opened, Stored)
    assert type(opened.payload) is bytes


def test_a_view_with_gaps_is_taken_as_what_it_shows() -> None:
    gapped = bytes(byte for pair in zip(SEALED, bytes(len(SEALED)), strict=True) for byte in pair)
    assert reopened(memoryview(gapped)[::2]) == ENTRY


def test_a_view_that_was_released_is_corrupt() -> None:
    view = memoryview(SEALED)
    view.release()
    assert reopened(view) is Reason.CORRUPT


def test_the_smallest_envelope_is_whole() -> None:
    smallest = seal(b"", b"", b"", ENTRY._replace(payload=b""))
    assert len(smallest) == SHORTEST
    assert open_envelope(smallest, b"", b"", b"") == ENTRY._replace(payload=b"")


@pytest.mark.parametrize("version", [0, 1, 255])
def test_another_version_is_named_before_anything_else_is_asked(version: int) -> None:
    assert VERSION == 2
    data = resealed(SEALED[:2] + bytes([version]) + SEALED[3:-4])
    assert reopened(data) is Reason.VERSION
    assert open_envelope(data, b"other", b"key", b"json") is Reason.VERSION


def test_another_magic_is_corrupt_even_with_its_checksum_right() -> None:
    assert reopened(resealed(b"rd" + SEALED[2:-4])) is Reason.CORRUPT


def test_the_key_is_asked_before_the_codec() -> None:
    assert open_envelope(SEALED, b"space", b"kez", b"other") is Reason.WRONG_KEY
    assert open_envelope(SEALED, b"spade", b"key", b"other") is Reason.WRONG_KEY


def test_the_layout_is_the_one_that_other_processes_know() -> None:
    assert HEAD.size == 52
    numbers = struct.pack(">qqqQQ", 1_000_000, 2_000_000, 3_000_000, 7, 9)
    sizes = b"\0\5" + b"\0\0\0\3" + b"\4"
    assert resealed(b"rc\2" + numbers + sizes + b"\0\0" + b"spacekeyjson" + b"payload") == SEALED
    tagged = b"\0\3" + struct.pack(">Q", 5) + "tä".encode() + b"\0\1" + struct.pack(">Q", 6) + b"u"
    data = resealed(b"rc\2" + numbers + sizes + b"\0\x18" + b"spacekeyjson" + tagged + b"payload")
    assert data == seal(b"space", b"key", b"json", ENTRY._replace(tags=(("tä", 5), ("u", 6))))
    assert reopened(data) == ENTRY._replace(tags=(("tä", 5), ("u", 6)))


@pytest.mark.parametrize(
    ("size", "tagged"),
    [
        (3, b"\0\1\0"),  # no room for a version
        (10, b"\0\2" + bytes(8)),  # the text is missing
        (12, b"\0\2" + bytes(8) + b"\xc3\x28"),  # the text is no UTF-8
        (99, b"\0\1" + bytes(8) + b"t"),  # the section ends after the envelope
        (11, b"\0\0" + bytes(8) + b"t"),  # something is left
    ],
)
def test_tags_that_are_none_are_corrupt(size: int, tagged: bytes) -> None:
    head = HEAD.pack(b"rc", VERSION, 1, 2, 3, 4, 5, 5, 3, 4, size)
    assert reopened(resealed(head + b"spacekeyjson" + tagged)) is Reason.CORRUPT
