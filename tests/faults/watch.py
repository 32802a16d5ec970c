"""What is seen from outside while a cache works: by its callers, by the record behind it, by the store before it."""

from __future__ import annotations

import inspect
import mmap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from resilient_cache import FailureKind, Reason, Source
from resilient_cache.adapters import from_functions
from resilient_cache.events import CircuitChanged, CircuitState, EntryRefused, Event, Served, StoreCalled
from resilient_cache.outcome import Direction, Operation

__all__ = ["KEYS", "Origin", "Watch"]

KEYS = [f"k{number}" for number in range(50)]
PLACES = {key: place for place, key in enumerate(KEYS)}
DIRECTIONS = {"get": Direction.READ, "set": Direction.WRITE, "delete": Direction.WRITE}
FOREVER = float("inf")


class Origin:
    """The system of record: a version for each key, told in every value, and the least that may still be served.

    The versions are shared with forked children, as a record is: a child that loaded what it remembers would put old
    values into the store.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._versions = memoryview(mmap.mmap(-1, 8 * len(KEYS))).cast("Q")
        self._least = dict.fromkeys(KEYS, 0)

    def value(self, key: str) -> str:
        """What a load gives now."""
        return f"{key}={self._versions[PLACES[key]]}"

    def change(self, key: str) -> int:
        """The version from now on."""
        with self._lock:
            self._versions[PLACES[key]] += 1
            return self._versions[PLACES[key]]

    def invalidated(self, key: str, version: int) -> None:
        """An invalidation that began after the change to `version` has returned."""
        with self._lock:
            self._least[key] = max(self._least[key], version)

    def least(self, key: str) -> int:
        """What a request that begins now must be given, at least."""
        return self._least[key]


class Watch:
    """Everything that happened, with its moment. A hook of the cache, too."""

    def __init__(self) -> None:
        self.requests: list[tuple[float, float, Direction]] = []  # when it began, how long it took, what it asks for
        self.errors: list[Exception] = []
        self.wrong: list[str] = []
        self.calls: list[tuple[float, Direction]] = []
        self.kinds: set[FailureKind] = set()
        self.refused: set[Reason] = set()
        self.hits: list[float] = []
        self.writes: list[float] = []
        self.changes: list[tuple[float, Direction, CircuitState]] = []

    def __call__(self, event: Event) -> None:
        match event:
            case Served(source=Source.STORE):
                self.hits.append(time.monotonic())
            case StoreCalled(operation=Operation.SET, failure=None):
                self.writes.append(time.monotonic())
            case StoreCalled(failure=FailureKind() as kind):
                self.kinds.add(kind)
            case EntryRefused():
                self.refused.add(event.reason)
            case CircuitChanged():
                self.changes.append((time.monotonic(), event.direction, event.after))
            case _:
                pass

    @contextmanager
    def request(self, direction: Direction) -> Iterator[None]:
        """Around one request of a caller: a read, or an invalidation."""
        began = time.monotonic()
        try:
            yield
        except Exception as error:
            self.errors.append(error)
        self.requests.append((began, time.monotonic() - began, direction))

    def judge(self, key: str, value: object, least: int) -> None:
        """A caller was given `value` for `key`, and is due version `least`."""
        name, _, version = str(value).partition("=")
        if name != key or int(version) < least:
            self.wrong.append(f"{value} for {key}, at least version {least}")

    def begin_anew(self) -> float:
        """Forget how the store failed; the moment."""
        self.kinds.clear()
        return time.monotonic()

    def was_of_use(self, since: float) -> bool:
        """Whether the store has answered since then, has failed in no way but slowness, and nothing was ever wrong."""
        well = not self.wrong and not self.errors and self.kinds <= {FailureKind.TIMEOUT}
        return well and self.hits[-1:] > [since]

    def watched(self, adapter: Any) -> Any:
        """`adapter`, whose calls are noted when they begin."""

        def noted(name: str) -> Callable[..., Any]:
            method = getattr(adapter, name)

            def call(*args: object) -> Any:
                self.calls.append((time.monotonic(), DIRECTIONS[name]))
                return method(*args)

            async def call_awaited(*args: object) -> Any:
                return await call(*args)

            return call_awaited if inspect.iscoroutinefunction(method) else call

        close: Any = getattr(adapter, "close", None) or adapter.aclose
        return from_functions(noted("get"), noted("set"), noted("delete"), close=close)

    def open_spans(self, direction: Direction) -> list[tuple[float, float]]:
        """From when to when the circuit let through nothing but probes."""
        spans: list[tuple[float, float]] = []
        for at, of, state in self.changes:
            if of is direction and state is CircuitState.CLOSED:
                spans[-1] = spans[-1][0], at
            elif of is direction and (not spans or spans[-1][1] < FOREVER):
                spans.append((at, FOREVER))
        return spans

    def is_open(self, direction: Direction, moment: float, since: float = 0.0) -> bool:
        """Whether it was so then, for at least `since` seconds."""
        return any(opened + since <= moment < closed for opened, closed in self.open_spans(direction))

    def opened(self) -> set[Direction]:
        """The circuits that ever opened."""
        return {direction for _, direction, _ in tuple(self.changes)}

    def is_well(self, since: float) -> bool:
        """Whether every circuit is closed, and the store has answered and been written to since then."""
        closed = {direction: state is CircuitState.CLOSED for _, direction, state in tuple(self.changes)}
        return all(closed.values()) and self.hits[-1:] > [since] and self.writes[-1:] > [since]
