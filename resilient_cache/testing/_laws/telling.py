"""What an adapter's author tells a contract about it, and what the laws are made of."""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, Final, NoReturn, TypeVar

from .._excuses import skip_if_excused
from .._faces import Face

__all__ = ["CAPABILITIES", "LIFE", "LONG", "SHORT", "Telling", "arguments", "each_way", "told"]

CAPABILITIES: Final = frozenset({"break_store", "heal_store", "open_dripping", "close", "fork", "cancellation"})
LIFE: Final = 600.0
SHORT: Final = 0.1
LONG: Final = ("x" * 600, "x" * 599 + "y", "x" * 5_000, "x" * 4_999 + "y")
"""Keys longer than many a store takes (memcached: 250 bytes): an adapter hashes those."""

L = TypeVar("L", bound="Telling")


def each_way(law: Callable[[L], None]) -> Callable[[L], None]:
    """The law, and where the adapter has `futures` the law once more, over those: a cache calls them instead."""

    @functools.wraps(law)
    def kept(self: L) -> None:
        self.play(functools.partial(law, self))

    return kept


def arguments(operation: str, key: str, body: bytes = b"v") -> tuple[object, ...]:
    """What `operation` is called with for one key."""
    many = operation.endswith("_many")
    if operation.startswith("set"):
        return ({key: (body, LIFE)},) if many else (key, body, LIFE)
    return ([key],) if many else (key,)


def told(capability: str, what: str) -> str:
    """What is to be done about something that is neither shown nor excused."""
    return f"{what}, or say why not: excused = {{{capability!r}: 'the reason'}}"


class Telling:
    """What an adapter's author tells about it."""

    excused: ClassVar[Mapping[str, str]] = {}
    """What this adapter cannot show, with the reason: its tests are skipped and say so."""
    raises: ClassVar[type[Exception]] = Exception
    """What it raises for a store that fails."""
    deadline: ClassVar[float] = 0.2
    """Seconds that the deadline tests give a call ..."""
    slack: ClassVar[float] = 0.3
    """... and that it may take beyond them on a busy machine."""
    resolution: ClassVar[float] = 0.0
    """Seconds by which an entry may outlive its ttl: 1 for a store that counts in whole seconds, and 2 for one whose
    adapter adds a second to that, so that no entry ends early."""
    largest: ClassVar[int] = 2**20
    """Bytes of the largest value that it takes."""

    _by_futures = _has_futures = False
    _spent = False
    """Whether the store was broken and cannot be healed."""

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

    def key(self, name: str) -> str:
        """A key that no other test has used, as a cache makes one: the store may be shared."""
        return f"contract:{uuid.uuid4().hex}:{name}"

    def use(self, store: Face, name: str, rounds: int = 20) -> None:
        """Write, read and delete some keys of one's own. Raises when another's bytes show."""
        for number in range(rounds):
            key, body = self.key(name), f"{name}-{number}".encode()
            store.set(key, body, LIFE)
            assert store.get(key) == body, f"{name} must read its own bytes"
            store.delete(key)
            assert store.get(key) is None, f"{name} must see its own delete"

    def play(self, law: Callable[[], None]) -> None:
        """Ask for `law` over the adapter's methods, then over its futures."""
        law()
        if self._has_futures and not self._spent:
            self._by_futures = True
            try:
                law()
            except Exception as error:
                error.add_note("This was found through the adapter's `futures`.")
                raise
            finally:
                self._by_futures = False

    @contextmanager
    def _broken(self, store: Face) -> Generator[str]:
        """A store that breaks under an adapter in use, and is well again afterwards; gives a key that it holds."""
        key = self.key("before")
        store.set(key, b"v", LIFE)
        self.break_store()
        self._spent = "heal_store" in self.excused
        try:
            yield key
        finally:
            if not self._spent:
                self.heal_store()

    def _calls(self, store: Face, key: str = "") -> list[tuple[str, tuple[object, ...]]]:
        """All that a cache may call, for one key."""
        key = key or self.key("called")
        return [(operation, arguments(operation, key)) for operation in store.operations]

    def _needs(self, capability: str) -> None:
        """Skip the test where the adapter is excused from it."""
        skip_if_excused(capability, self.excused, CAPABILITIES)

    def _write(self, capability: str) -> NoReturn:
        self._needs(capability)
        raise AssertionError(told(capability, f"write {type(self).__name__}.{capability}()"))
