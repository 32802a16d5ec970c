"""The laws of calls for many keys, for an adapter that has any of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast
from unittest import SkipTest

from .._faces import FOR_MANY, Face
from .telling import LIFE, LONG, SHORT, Telling

__all__ = ["ManyLaws"]

Entries: TypeAlias = "Mapping[str, tuple[bytes, float]]"


class ManyLaws(Telling):
    """`get_many`, `set_many` and `delete_many`: what of these is missing is done here key by key, as by a cache."""

    def test_many_keys_are_as_each_by_itself(self) -> None:
        """Keys, bytes and ttls are those of single calls."""
        with self.opened(self.open) as store:
            self._has_many(store)
            key, body = self.key(""), bytes(range(256))
            short, long = [f"{key}short {n}" for n in range(9)], [f"{key}{name}" for name in LONG]
            names = enumerate([*long, key + "a b", key + "a\r\nb"])
            entries = {name: ((b"%d" % n + body)[: self.largest], LIFE) for n, name in names}
            self._set(store, {**entries, **dict.fromkeys(short, (b"", SHORT))})
            missing = self.key("missing")
            self._many(store, [*entries, missing], {name: value for name, (value, _) in entries.items()})
            for name, (value, _) in entries.items():
                assert store.get(name) == value, f"what set_many has stored must be there for get: {name!r:.60}"
            self.sleep(SHORT + self.resolution + 0.05)
            self._many(store, short, {})
            store.set(short[0], b"single", LIFE)
            self._many(store, short, {short[0]: b"single"})
            kept, *gone = entries
            for which in ("first", "second"):
                error = self._delete(store, [*gone, missing])
                assert error is None, f"a delete_many must be idempotent: the {which} raised {error!r}"
            self._many(store, list(entries), {kept: entries[kept][0]})

    def test_no_keys_are_no_error(self) -> None:
        """Nothing asked for is nothing found."""
        with self.opened(self.open) as store:
            self._has_many(store)
            self._many(store, [], {})
            self._set(store, {})
            error = self._delete(store, [])
            assert error is None, f"a delete_many of no keys must do nothing, not raise {error!r}"

    def test_a_thousand_keys_come_back(self) -> None:
        """However many there are, and however large the reply is."""
        with self.opened(self.open) as store:
            self._has_many(store)
            key = self.key("")
            entries = {f"{key}{n}": ((b"%d" % n * 100)[: self.largest], LIFE) for n in range(1_000)}
            self._set(store, entries)
            self._many(store, list(entries), {name: value for name, (value, _) in entries.items()})

    def _has_many(self, store: Face) -> None:
        """Skip the test where the adapter has no method for many keys, which it need not have."""
        if not set(FOR_MANY) & set(store.operations):
            raise SkipTest(f"the adapter has no {', '.join(FOR_MANY)}")

    def _set(self, store: Face, entries: Entries) -> None:
        if "set_many" in store.operations:
            store.expect("set_many", entries)
        else:
            for key, (value, ttl) in entries.items():
                store.set(key, value, ttl)

    def _delete(self, store: Face, keys: Sequence[str]) -> Exception | None:
        if "delete_many" in store.operations:
            return store.attempt("delete_many", keys).error
        return next((error for key in keys if (error := store.attempt("delete", key).error)), None)

    def _many(self, store: Face, keys: list[str], expected: dict[str, bytes]) -> None:
        """Fails unless `get_many` gives what is there, and nothing else; None stands for nothing."""
        if "get_many" not in store.operations:
            found: object = {key: store.get(key) for key in keys}
        else:
            found = store.expect("get_many", keys)
        kind = type(found)
        assert issubclass(kind, Mapping), f"get_many must give a mapping, not a {kind.__name__}"
        there = {key: value for key, value in cast("Mapping[str, object]", found).items() if value is not None}
        wrong = [key for key in {**expected, **there} if there.get(key) != expected.get(key)]
        assert not wrong, f"get_many must give the bytes of each key that is there: {wrong[0]!r:.60} is not right"
        kinds = {type(value).__name__ for value in there.values()}
        assert kinds <= {"bytes"}, f"get_many must give bytes, not {', '.join(kinds)}"
