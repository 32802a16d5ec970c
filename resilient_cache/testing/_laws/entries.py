"""The laws of one entry: its bytes, its key, its life."""

from __future__ import annotations

import functools
import inspect
import time
from typing import Final
from unittest import SkipTest

from ...entry import LONGEST
from .._faces import Face, own
from .telling import LIFE, LONG, SHORT, Telling, each_way

__all__ = ["EntryLaws"]

BODIES: Final = {
    "every byte": bytes(range(256)),
    "nothing": b"",
    "a protocol's own words": b"$-1\r\n+OK\r\n*0\r\n-ERR\r\nEND\r\nVALUE k 0 1\r\n'; DROP TABLE cache; --\x00",
    "white space around it": b" \t\n v \r\n",
    "text in no encoding": b"\xff\xfe\xed\xa0\x80",
    "a number": b"42",
    "the word null": b"null",
}
KEYS: Final = {
    "letters": ("key", "KEY", "keys", "ke"),
    "spaces and line ends": ("a b", "a  b", "a\nb", "a\r\nb", "a\tb", "ab", "ab ", " ab"),
    "signs with a meaning elsewhere": (
        "*",
        "?",
        "[a-z]",
        "%20",
        "..",
        "../x",
        "/x",
        "x;y",
        "'",
        '"',
        "\\",
        "\x00",
        ":",
    ),
    "letters beyond ASCII": ("caf\xe9", "cafe\u0301", "\u96ea", "\U0001f9ca"),
    "long": LONG,
}
MIDDLE: Final = 1.3
"""Seconds, of which one that counts whole seconds makes 1 or 2."""
PARTS: Final = (0.0, 0.6, 0.85)
"""Parts of a ttl after which an entry is looked at: 0.85 of `MIDDLE` is more than 1. A ttl that slides then slides."""


class EntryLaws(Telling):
    """What holds of an entry in a store that is well."""

    @each_way
    def test_bytes_come_back_untouched(self) -> None:
        """`get` gives the very bytes that `set` was given."""
        with self.opened(self.open) as store:
            large = (bytes(range(256)) * (self.largest // 256 + 1))[: self.largest]
            for name, whole in {**BODIES, f"{self.largest} bytes": large}.items():
                key, body = self.key("bytes"), whole[: self.largest]
                store.set(key, body, LIFE)
                found = store.get(key)
                assert type(found) is bytes, f"get must give bytes, not {type(found).__name__}, for {name}"
                assert found == body, f"bytes must come back as they were: {name} did not"

    @each_way
    def test_what_is_missing_is_none(self) -> None:
        """`get` gives None for a key that nobody set."""
        with self.opened(self.open) as store:
            found = store.get(self.key("missing"))
            assert found is None, f"a key that is not there must be None, not {found!r:.60}"

    @each_way
    def test_keys_do_not_cross(self) -> None:
        """Two keys that differ are two entries, whatever characters they hold and however long they are."""
        with self.opened(self.open) as store:
            key = self.key("")
            bodies = {key + name: b"%d" % n for n, name in enumerate(name for group in KEYS.values() for name in group)}
            for name, body in bodies.items():
                store.set(name, body, LIFE)
            for group, names in KEYS.items():
                for name in names:
                    found = store.get(key + name)
                    assert found == bodies[key + name], f"each key must keep its own bytes: {name!r:.60} ({group})"

    @each_way
    def test_the_last_write_counts(self) -> None:
        """A second `set` replaces bytes and ttl of the first."""
        with self.opened(self.open) as store:
            key = self.key("twice")
            store.set(key, b"a first value", SHORT)
            store.set(key, b"second", LIFE)
            self.sleep(SHORT + self.resolution + 0.05)
            found = store.get(key)
            assert found == b"second", f"the last set must replace bytes and ttl of the one before, not {found!r:.60}"

    @each_way
    def test_a_delete_removes_and_may_be_repeated(self) -> None:
        """`delete` is an order that there be none: nothing to complain of when there is none."""
        with self.opened(self.open) as store:
            key, other = self.key("deleted"), self.key("kept")
            store.set(key, b"v", LIFE)
            store.set(other, b"other", LIFE)
            for which in ("first", "second"):
                error = store.attempt("delete", key).error
                assert error is None, f"a delete must be idempotent: the {which} raised {error!r}"
                assert store.get(key) is None, "a key that was deleted must be gone when delete returns"
            assert store.get(other) == b"other", "a delete must leave other keys alone"
            store.set(key, b"again", LIFE)
            assert store.get(key) == b"again", "a deleted key can be set again"

    @each_way
    def test_an_entry_is_gone_after_its_ttl(self) -> None:
        """`ttl` is in seconds, with fractions: an entry lives for so long, read or not, and no longer."""
        with self.opened(self.open) as store:
            started = time.monotonic()
            self._live(store, 0.001, SHORT, MIDDLE)
            if time.monotonic() - started < MIDDLE / 2:  # a clock moved by hand: ten minutes take no time
                self._live(store, LIFE)

    @each_way
    def test_a_long_ttl_is_a_long_life(self) -> None:
        """No ttl is too long: a store with a limit keeps the entry for as long as it can."""
        with self.opened(self.open) as store:
            for days in (1, 40, 2 * LONGEST / 86_400):
                key = self.key(f"{days:g}")
                store.set(key, b"long", days * 86_400)
                assert store.get(key) == b"long", f"an entry with a ttl of {days:g} days must be there at first"

    def test_a_shard_has_a_name(self) -> None:
        """`shard`, where it has one, names a part of the store by a `str`, the same each time."""
        with self.opened(self.open) as store:
            shard = own(store.adapter, "shard")
            if shard is None:
                raise SkipTest("the adapter has no shard")
            assert not inspect.iscoroutinefunction(shard), "shard must be a plain function, which asks nobody"
            for key in (self.key(name) for names in KEYS.values() for name in names):
                store.get(key)  # a name may be empty until the adapter has been used
                first, second = (store.plainly(functools.partial(shard, key)) for _ in range(2))
                assert type(first) is str, f"shard must give a str, not {first!r:.60}"
                assert first == second, f"shard must name the same part each time, not {first!r:.60} and {second!r:.60}"

    def _live(self, store: Face, *ttls: float) -> None:
        """Write an entry with each of `ttls`, and read all of them again and again until the last must be gone."""
        keys = {ttl: self.key(f"{ttl:g}") for ttl in ttls}
        began = self.monotonic()
        for ttl, key in keys.items():
            store.set(key, b"v", ttl)
        written = self.monotonic()
        ends = {ttl: ttl + self.resolution + 0.05 for ttl in ttls}
        for moment in sorted([*ends.values(), *(ttl * part for ttl in ttls if ttl >= SHORT for part in PARTS)]):
            self.sleep(max(0.0, written + moment - self.monotonic()))
            for ttl, key in keys.items():
                found = store.get(key)
                if moment >= ends[ttl]:
                    assert found is None, f"an entry must be gone {self.resolution:g} s after its ttl of {ttl:g} s"
                elif ttl >= SHORT and self.monotonic() - began < ttl:  # else this machine was too busy to look in time
                    assert found == b"v", f"an entry must live for its ttl of {ttl:g} s"
