"""The laws that hold for an adapter of either colour, and what its author tells a contract about it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, Final, NoReturn, cast
from unittest import SkipTest

from ..entry import LONGEST
from ._faces import Face, LeftBehind

__all__ = ["Laws"]

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
    "long": ("x" * 600, "x" * 599 + "y"),
}
CAPABILITIES: Final = frozenset({"break_store", "heal_store", "open_dripping", "close", "fork", "cancellation"})
LIFE: Final = 600.0
SHORT: Final = 0.1
TRIES: Final = 20
"""Calls within which an adapter must have found its store again; a connection that broke may cost one each."""


class Laws:
    """What an adapter's author tells about it, and the laws that hold in both colours."""

    excused: ClassVar[Mapping[str, str]] = {}
    """What this adapter cannot show, with the reason: its tests are skipped and say so."""
    raises: ClassVar[type[Exception]] = Exception
    """What it raises for a store that fails."""
    deadline: ClassVar[float] = 0.2
    """Seconds that the deadline tests give a call ..."""
    slack: ClassVar[float] = 0.3
    """... and that it may take beyond them on a busy machine."""
    resolution: ClassVar[float] = 0.0
    """Seconds by which an entry may outlive its ttl: 1 for a store that counts in whole seconds."""
    largest: ClassVar[int] = 2**20
    """Bytes of the largest value that it takes."""

    def break_store(self) -> None:
        """Make every call to the store fail: kill the server, take the permission away."""
        self._write("break_store")

    def heal_store(self) -> None:
        """Make the store well again."""
        self._write("heal_store")

    def monotonic(self) -> float:
        """The clock that the store's time passes on."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let time pass on the store's clock: for a clock moved by hand, move it."""
        time.sleep(seconds)

    open: Callable[[], Any]
    """A new adapter on the store, which is well."""
    open_dripping: Callable[[], Any]
    """An adapter on a server that drips."""
    opened: Callable[[Callable[[], Any]], AbstractContextManager[Face]]
    """An adapter by one of the two, that is closed afterwards."""

    def test_bytes_come_back_untouched(self) -> None:
        """`get` gives the very bytes that `set` was given."""
        with self.opened(self.open) as store:
            large = (bytes(range(256)) * (self.largest // 256 + 1))[: self.largest]
            for name, body in {**BODIES, f"{self.largest} bytes": large}.items():
                key = self.key("bytes")
                store.set(key, body, LIFE)
                found = store.get(key)
                assert type(found) is bytes, f"get must give bytes, not {type(found).__name__}, for {name}"
                assert found == body, f"bytes must come back as they were: {name} did not"

    def test_what_is_missing_is_none(self) -> None:
        """`get` gives None for a key that nobody set."""
        with self.opened(self.open) as store:
            found = store.get(self.key("missing"))
            assert found is None, f"a key that is not there must be None, not {found!r:.60}"

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

    def test_the_last_write_counts(self) -> None:
        """A second `set` replaces bytes and ttl of the first."""
        with self.opened(self.open) as store:
            key = self.key("twice")
            store.set(key, b"a first value", SHORT)
            store.set(key, b"second", LIFE)
            self.sleep(SHORT + self.resolution + 0.05)
            found = store.get(key)
            assert found == b"second", f"the last set must replace bytes and ttl of the one before, not {found!r:.60}"

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

    def test_an_entry_is_gone_after_its_ttl(self) -> None:
        """`ttl` is in seconds, with fractions: a short one is neither for ever nor an error."""
        with self.opened(self.open) as store:
            key, shortest = self.key("short"), self.key("shortest")
            began = self.monotonic()
            store.set(key, b"short", SHORT)
            found = store.get(key)
            assert found == b"short" or self.monotonic() - began >= SHORT, f"an entry of {SHORT} s must live that long"
            store.set(shortest, b"shortest", 0.001)
            self.sleep(SHORT + self.resolution + 0.05)
            for name, ttl in ((shortest, 0.001), (key, SHORT)):
                found = store.get(name)
                assert found is None, f"an entry must be gone {self.resolution:g} s after its ttl of {ttl} s"

    def test_a_long_ttl_is_a_long_life(self) -> None:
        """No ttl is too long: a store with a limit keeps the entry for as long as it can."""
        with self.opened(self.open) as store:
            for days in (1, 40, 2 * LONGEST / 86_400):
                key = self.key(f"{days:g}")
                store.set(key, b"long", days * 86_400)
                assert store.get(key) == b"long", f"an entry with a ttl of {days:g} days must be there at first"

    def test_a_broken_store_is_an_error(self) -> None:
        """A failure is raised, in every operation: never None, never a return that passes for an acknowledgement."""
        with self.opened(self.open) as store, self._broken(store):
            for operation, args in self._calls():
                answer, error, _ = store.attempt(operation, *args, within=self.deadline)
                assert error is not None, f"{operation} must raise, not return {answer!r:.60}"
                told = f"{operation} must raise {self.raises.__name__}, not {error!r:.60}"
                assert isinstance(error, (self.raises, LeftBehind)), told

    def test_a_broken_store_is_left_at_the_deadline(self) -> None:
        """A store that fails costs no more than the deadline: no retries beyond it, no longer timeout."""
        with self.opened(self.open) as store, self._broken(store):
            self._left_in_time(store)

    def test_a_store_that_is_back_is_used_again(self) -> None:
        """After an outage the adapter works again by itself."""
        self._needs("heal_store")
        with self.opened(self.open) as store:
            with self._broken(store):
                for operation, args in self._calls():
                    store.attempt(operation, *args, within=self.deadline)
            key = self.key("back")
            errors = [
                attempt.error for _ in range(TRIES) if (attempt := store.attempt("set", key, b"back", LIFE)).error
            ]
            assert len(errors) < TRIES, f"the store is back, but set still raises: {errors[-1]!r}"
            assert store.get(key) == b"back", "what is set after an outage must be there"

    def test_a_dripping_store_is_left_at_the_deadline(self) -> None:
        """`resilient_cache.deadline.remaining()` bounds the operation as a whole, not each of its reads."""
        with self.opened(self.open_dripping) as store:
            for operation, error in self._left_in_time(store).items():
                assert error is not None, f"{operation} must raise for a reply that does not come in time"

    def test_many_keys_are_as_each_by_itself(self) -> None:
        """`get_many`, `set_many`, `delete_many`, where it has them: keys, bytes and ttls are those of single calls."""
        with self.opened(self.open) as store:
            self._has_many(store)
            key, body = self.key(""), bytes(range(256))
            short, long = [f"{key}short {n}" for n in range(9)], [f"{key}{name}" for name in KEYS["long"]]
            entries = {name: (b"%d" % n + body, LIFE) for n, name in enumerate([*long, key + "a b", key + "a\r\nb"])}
            store.expect("set_many", {**entries, **dict.fromkeys(short, (b"", SHORT))})
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
                error = store.attempt("delete_many", [*gone, missing]).error
                assert error is None, f"a delete_many must be idempotent: the {which} raised {error!r}"
            self._many(store, list(entries), {kept: entries[kept][0]})

    def test_no_keys_are_no_error(self) -> None:
        """Nothing asked for is nothing found."""
        with self.opened(self.open) as store:
            self._has_many(store)
            self._many(store, [], {})
            store.expect("set_many", {})
            store.expect("delete_many", [])

    def test_a_thousand_keys_come_back(self) -> None:
        """However many there are, and however large the reply is."""
        with self.opened(self.open) as store:
            self._has_many(store)
            key = self.key("")
            entries = {f"{key}{n}": (b"%d" % n * min(100, self.largest // 4), LIFE) for n in range(1_000)}
            store.expect("set_many", entries)
            self._many(store, list(entries), {name: value for name, (value, _) in entries.items()})

    def test_a_broken_store_is_an_error_for_many(self) -> None:
        """A failure is raised: never an empty answer, never a return that passes for an acknowledgement."""
        with self.opened(self.open) as store:
            self._has_many(store)
            with self._broken(store):
                for operation, args in self._calls_for_many():
                    answer, error, seconds = store.attempt(operation, *args, within=self.deadline)
                    assert error is not None, f"{operation} must raise, not return {answer!r:.60}"
                    told = f"{operation} must raise {self.raises.__name__}, not {error!r:.60}"
                    assert isinstance(error, (self.raises, LeftBehind)), told
                    assert seconds <= self.deadline + self.slack, f"{operation} took {seconds:.2f} s"

    def test_closed_means_closed(self) -> None:
        """Closing twice is harmless, and a closed adapter raises rather than opens a connection anew."""
        self._needs("close")
        with self.opened(self.open) as store:
            assert hasattr(store.adapter, store.closing), _told("close", f"give the adapter {store.closing}()")
            store.set(self.key("closed"), b"v", LIFE)
            store.close()
            store.close()
            for operation, args in self._calls():
                answer = store.attempt(operation, *args)
                assert answer.error is not None, f"{operation} must raise after {store.closing}()"

    def key(self, name: str) -> str:
        """A key that no other test has used, as a cache makes one: the store may be shared."""
        return f"contract:{uuid.uuid4().hex}:{name}"

    def use(self, store: Face, name: str) -> None:
        """Write, read and delete some keys of one's own. Raises when another's bytes show."""
        for number in range(20):
            key, body = self.key(name), f"{name}-{number}".encode()
            store.set(key, body, LIFE)
            assert store.get(key) == body, f"{name} must read its own bytes"
            store.delete(key)
            assert store.get(key) is None, f"{name} must see its own delete"

    @contextmanager
    def _broken(self, store: Face) -> Generator[None]:
        """A store that breaks under an adapter in use, and is well again afterwards."""
        store.set(self.key("before"), b"v", LIFE)
        self.break_store()
        try:
            yield
        finally:
            if "heal_store" not in self.excused:
                self.heal_store()

    def _calls(self) -> list[tuple[str, tuple[object, ...]]]:
        key = self.key("called")
        return [("get", (key,)), ("set", (key, b"v", LIFE)), ("delete", (key,))]

    def _calls_for_many(self) -> list[tuple[str, tuple[object, ...]]]:
        key = self.key("called")
        return [("get_many", ([key],)), ("set_many", ({key: (b"v", LIFE)},)), ("delete_many", ([key],))]

    def _has_many(self, store: Face) -> None:
        """Skip the test where the adapter has no methods for many keys, which it need not have."""
        missing = [name for name, _ in self._calls_for_many() if not callable(getattr(store.adapter, name, None))]
        if missing:
            raise SkipTest(f"the adapter has no {', '.join(missing)}")

    def _many(self, store: Face, keys: list[str], expected: dict[str, bytes]) -> None:
        """Fails unless `get_many` gives what is there, and nothing else; None stands for nothing."""
        found = store.expect("get_many", keys)
        kind = type(found)
        assert issubclass(kind, Mapping), f"get_many must give a mapping, not a {kind.__name__}"
        there = {key: value for key, value in cast("Mapping[str, object]", found).items() if value is not None}
        wrong = [key for key in {**expected, **there} if there.get(key) != expected.get(key)]
        assert not wrong, f"get_many must give the bytes of each key that is there: {wrong[0]!r:.60} is not right"

    def _left_in_time(self, store: Face) -> dict[str, Exception | None]:
        """What each operation raised. Fails for one that took longer than its deadline."""
        errors: dict[str, Exception | None] = {}
        for operation, args in self._calls():
            attempt = store.attempt(operation, *args, within=self.deadline)
            limit = self.deadline + self.slack
            told = f"{operation} took {attempt.seconds:.2f} s, with a deadline of {self.deadline:g} s for all of it"
            assert attempt.seconds <= limit, told
            errors[operation] = attempt.error
        return errors

    def _needs(self, capability: str) -> None:
        """Skip the test where the adapter is excused from it."""
        unknown = sorted(set(self.excused) - CAPABILITIES)
        assert not unknown, f"excused knows {sorted(CAPABILITIES)}, not {unknown}"
        if capability in self.excused:
            assert self.excused[capability], f"excused must give a reason for {capability!r}"
            raise SkipTest(f"{capability}: {self.excused[capability]}")

    def _write(self, capability: str) -> NoReturn:
        self._needs(capability)
        raise AssertionError(_told(capability, f"write {type(self).__name__}.{capability}()"))


def _told(capability: str, what: str) -> str:
    return f"{what}, or say why not: excused = {{{capability!r}: 'the reason'}}"
