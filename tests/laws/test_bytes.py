"""L8: what the store gives is served only if it is what was stored, whole, under this key, by this format and codec."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_cache import Source
from resilient_cache.codecs import BytesCodec, UnsafePickleCodec
from resilient_cache.testing import Fault, FaultKind

from .stage import Stage

Make = Callable[..., Stage]
colours = pytest.mark.parametrize("colour", ["sync", "async"])


def written(stage: Stage, key: str = "k", value: Any = "good") -> bytes:
    """The bytes that a value is stored as."""
    assert stage.set(key, value)
    return stage.stored[f"laws:{key}"][0]


def refused(stage: Stage, reason: str, key: str = "k") -> None:
    """The store's answer for `key` is a miss for `reason`, moves no circuit and does not stay in the store."""
    kept = stage.stored[f"laws:{key}"][0]
    seen = stage.lookup(key)
    assert (bool(seen), seen.value, str(seen.reason)) == (False, None, reason)
    assert stage.stored.get(f"laws:{key}", (None,))[0] != kept
    assert stage.cache.stats()[f"refused_{reason}"] == 1
    assert stage.cache.stats().get("store_get_unknown", 0) == 0
    assert stage.cache.health()["circuits"]["read"]["state"] == "closed"
    assert stage.load(key, "new") == "new"
    assert stage.get(key) == "new"


@colours
@given(data=st.data())
def test_no_changed_byte_is_believed(colour: str, data: st.DataObject) -> None:
    """L8: an entry of which any one byte is another is a miss."""
    stage = Stage(colour)
    good = written(stage)
    place = data.draw(st.integers(0, len(good) - 1))
    flip = data.draw(st.integers(1, 255))
    stage.poison("k", good[:place] + bytes([good[place] ^ flip]) + good[place + 1 :])
    refused(stage, "corrupt")


@colours
@given(data=st.data())
def test_no_part_is_believed(colour: str, data: st.DataObject) -> None:
    """L8: an entry that was cut short, or has more after it, is a miss."""
    stage = Stage(colour)
    good = written(stage)
    bad = data.draw(
        st.integers(0, len(good) - 1).map(lambda n: good[:n]) | st.binary(min_size=1).map(lambda b: good + b)
    )
    stage.poison("k", bad)
    refused(stage, "corrupt")


@colours
@given(garbage=st.binary(max_size=200))
def test_no_garbage_is_believed(colour: str, garbage: bytes) -> None:
    """L8: bytes that no cache wrote are a miss."""
    stage = Stage(colour)
    stage.poison("k", garbage)
    refused(stage, "corrupt")


@pytest.mark.parametrize("value", ["text", 7, [1], {"a": 1}, object(), True, 1.5])
def test_what_is_no_bytes_is_a_miss(stage: Make, value: Any) -> None:
    """L8: an answer of another type than bytes is a miss, not an error."""
    cache = stage()
    written(cache)
    cache.plan.then("get", Fault(FaultKind.WRONG_TYPE, value=value))
    assert not cache.lookup("k")
    assert cache.cache.stats()["refused_corrupt"] == 1


@pytest.mark.parametrize("other", ["kk", "", "K", "k:k"])
def test_another_keys_entry_is_a_miss(stage: Make, other: str) -> None:
    """L8: a whole entry that belongs to another key is not served for this one."""
    cache = stage()
    cache.poison("k", written(cache, other, "of another"))
    refused(cache, "wrong_key")


def test_keys_and_namespaces_do_not_run_into_each_other(stage: Make) -> None:
    """L8: namespace and key are told apart, though they stand next to each other in the entry."""
    cache = stage()
    other = cache.another(name="lawsk")
    assert cache.run(other.set, "ey", "of another")
    cache.poison("key", cache.stored["lawsk:ey"][0])
    refused(cache, "wrong_key", "key")


def test_another_namespaces_entry_is_a_miss(stage: Make) -> None:
    """L8: a whole entry of the same key, written by a cache of another name, is not served."""
    cache = stage()
    other = cache.another(name="else")
    assert cache.run(other.set, "k", "of another")
    cache.poison("k", cache.stored["else:k"][0])
    refused(cache, "wrong_key")


@pytest.mark.parametrize("codec", [BytesCodec(), UnsafePickleCodec()])
def test_another_codecs_entry_is_a_miss(stage: Make, codec: Any) -> None:
    """L8: what another codec wrote is not decoded by this one."""
    cache = stage()
    other = cache.another(codec=codec)
    assert cache.run(other.set, "k", b'"good"')
    refused(cache, "codec")


def test_another_versions_entry_is_a_miss(stage: Make) -> None:
    """L8: an entry of another version of the format is not read, however whole it is."""
    cache = stage()
    good = written(cache)
    newer = good[:2] + bytes([good[2] + 1]) + good[3:-4]
    cache.poison("k", newer + struct.pack("<I", crc32(newer)))
    refused(cache, "version")


def test_what_the_codec_cannot_decode_is_a_miss(stage: Make) -> None:
    """L8: a whole entry whose payload is nothing to the codec is a miss."""
    cache = stage()

    class Broken:
        id = "json"

        def encode(self, value: Any, /) -> bytes:
            return b"{"

        def decode(self, data: bytes, /) -> Any:
            return data

    other = cache.another(codec=Broken())
    assert cache.run(other.set, "k", "good")
    refused(cache, "codec")


@pytest.mark.parametrize("seconds", [-3 * 86_400.0, 10.0])
def test_an_entry_from_no_possible_time_is_a_miss(stage: Make, seconds: float) -> None:
    """L10: an entry stamped longer ago than any may live, or in the future, is not served."""
    cache = stage()
    cache.clock.jump(seconds)
    other = cache.another()
    assert cache.run(other.set, "k", "good", ttl=3600)
    cache.clock.jump(-seconds)
    cache.poison("k", cache.stored["laws:k"][0])
    refused(cache, "overage")


def test_a_whole_entry_is_served(stage: Make) -> None:
    """L4: what a cache has stored, another process's cache over the same store serves."""
    cache = stage()
    written(cache, value={"a": [1, None, "x"]})
    other = cache.another()
    seen = cache.run(other.lookup, "k")
    assert (seen.value, seen.source, seen.stale) == ({"a": [1, None, "x"]}, Source.STORE, False)
