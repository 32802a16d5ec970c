"""Stores that fail on cue: a `FaultPlan` says which call meets which fault, an adapter makes it happen.

Time passes on their clock only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, final

from .. import deadline
from ..protocols import AsyncCacheAdapter, CacheAdapter
from .clock import MovableClock
from .faults import Fault, FaultKind, FaultPlan

__all__ = ["AsyncFaultyAdapter", "DictStore", "FaultyAdapter", "StoreCall", "in_both_colours"]

FOREVER: Final = float("inf")


class StoreCall(NamedTuple):
    """One call that reached the store: its operation, key, the fault it met, the monotonic moment.

    "get", "set" or "delete"; or "get_many" and so on, with the first of its keys.
    """

    operation: str
    key: str
    fault: Fault | None
    at: float


@final
class DictStore:
    """A well store: a dict whose entries expire on `clock`. `entries` holds (bytes, monotonic end of life)."""

    __slots__ = ("_clock", "entries")

    def __init__(self, clock: MovableClock) -> None:
        self._clock = clock
        self.entries: dict[str, tuple[bytes, float]] = {}

    def get(self, key: str, /) -> bytes | None:
        """The bytes, None when there are none or their life is over."""
        value, until = self.entries.get(key, (None, FOREVER))
        return value if self._clock.monotonic() < until else None

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        """Keep `value` for `ttl` seconds."""
        self.entries[key] = (value, self._clock.monotonic() + ttl)

    def delete(self, key: str, /) -> None:
        """Remove `key`."""
        self.entries.pop(key, None)


class _Wait(NamedTuple):
    seconds: float


class _Ask(NamedTuple):
    operation: str
    args: tuple[Any, ...]


Steps: TypeAlias = Generator[_Wait | _Ask, Any, Any]


class _Faults:
    """What both colours share: the course of a call as steps, which each runs in its own way."""

    def __init__(self, clock: MovableClock, plan: FaultPlan | None) -> None:
        self.plan = plan or FaultPlan()
        self.calls: list[StoreCall] = []
        self._clock = clock
        self._late: list[tuple[float, _Ask]] = []
        self._written: dict[str, None] = {}

    def share(self, other: _Faults) -> None:
        """From now on both are one: what was called, what has yet to land, what was written last."""
        self.calls, self._late, self._written = other.calls, other._late, other._written

    def begin(self, operation: str, key: str) -> Fault | None:
        fault = self.plan.draw(operation)
        self.calls.append(StoreCall(operation, key, fault, self._clock.monotonic()))
        if fault is not None and fault.kind is FaultKind.JUMP:
            self._clock.jump(fault.seconds)
        return fault

    def course(self, ask: _Ask, fault: Fault | None) -> Steps:
        kind = fault.kind if fault is not None else None
        yield from self._land()
        if fault is None or kind is FaultKind.JUMP:
            return (yield self._noted(ask))
        if kind in (FaultKind.RAISE, FaultKind.RAISE_AT_CALL):
            raise fault.error.with_traceback(None)
        if kind is FaultKind.LATE:
            self._put_off(ask, fault.seconds)
            raise fault.error.with_traceback(None)
        if kind in (FaultKind.HANG, FaultKind.SLOW):
            yield from self._take_time(ask, fault)
        answer = yield self._noted(ask)
        if kind is FaultKind.LOST:
            raise fault.error.with_traceback(None)
        if ask.operation == "get_many":
            return _spoilt_many(fault, ask.args[0], answer)
        if ask.operation != "get":
            return answer
        if kind is FaultKind.WRONG_KEY:
            others = [key for key in self._written if key != ask.args[0]]
            return (yield _Ask("get", (others[-1],))) if others else None
        return _spoilt(fault, answer)

    def _noted(self, ask: _Ask) -> _Ask:
        if ask.operation == "set":
            self._written.pop(ask.args[0], None)
            self._written[ask.args[0]] = None
        return ask

    def _take_time(self, ask: _Ask, fault: Fault) -> Steps:
        began = self._clock.monotonic()
        try:
            yield _Wait(fault.seconds if fault.kind is FaultKind.SLOW else FOREVER)
        except TimeoutError:
            if fault.kind is FaultKind.SLOW:
                self._put_off(ask, began + fault.seconds - self._clock.monotonic())
            raise
        yield from self._land()

    def _put_off(self, ask: _Ask, seconds: float) -> None:
        if not ask.operation.startswith("get"):
            self._late.append((self._clock.monotonic() + seconds, ask))

    def _land(self) -> Steps:
        """Let what is late and due take effect, in the order of its time."""
        now = self._clock.monotonic()
        due = sorted((late for late in self._late if late[0] <= now), key=lambda late: late[0])
        self._late[:] = [late for late in self._late if late[0] > now]
        for _, ask in due:
            yield self._noted(ask)


def _spoilt(fault: Fault, answer: object) -> object:
    if fault.kind is FaultKind.WRONG_TYPE:
        return fault.value
    if not isinstance(answer, bytes) or fault.kind not in (FaultKind.CORRUPT, FaultKind.TRUNCATE):
        return answer
    middle = len(answer) // 2
    rest = b"" if fault.kind is FaultKind.TRUNCATE else bytes([answer[middle] ^ 1]) + answer[middle + 1 :]
    return answer[:middle] + rest


def _spoilt_many(fault: Fault, keys: Sequence[str], answers: dict[str, bytes]) -> object:
    if fault.kind is FaultKind.WRONG_KEY:  # each is that of the next
        return dict(zip(answers, [*list(answers.values())[1:], *list(answers.values())[:1]], strict=True))
    spoilt = {key: _spoilt(fault, answers.get(key)) for key in keys}
    return {key: answer for key, answer in spoilt.items() if answer is not None}


def _singly(ask: _Ask) -> list[_Ask]:
    """What a call for many keys comes to."""
    if ask.operation == "set_many":
        return [_Ask("set", (key, *entry)) for key, entry in ask.args[0].items()]
    return [_Ask(ask.operation.removesuffix("_many"), (key,)) for key in ask.args[0]]


def _together(ask: _Ask, answers: list[Any]) -> object:
    """The answer to it."""
    if ask.operation != "get_many":
        return None
    return {key: answer for key, answer in zip(ask.args[0], answers, strict=True) if answer is not None}


def _first(args: tuple[Any, ...]) -> str:
    return args[0] if isinstance(args[0], str) else next(iter(args[0]), "")


@final
class FaultyAdapter(_Faults):
    """A synchronous store in front of `inner` (a `DictStore` by default) that fails as `plan` says.

    `calls` tells what reached it. A hang moves `clock` to the end of the operation's deadline and raises
    `TimeoutError`, as a client does that is given `deadline.remaining()`; without a deadline it raises at once.
    """

    def __init__(
        self, clock: MovableClock, inner: CacheAdapter | None = None, *, plan: FaultPlan | None = None
    ) -> None:
        super().__init__(clock, plan)
        self.inner = inner if inner is not None else DictStore(clock)

    def get(self, key: str, /) -> bytes | None:
        """The bytes under `key`, unless the plan has something else in mind."""
        value: bytes | None = self._run("get", key)
        return value

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        """Store `value` for `ttl` seconds."""
        self._run("set", key, value, ttl)

    def delete(self, key: str, /) -> None:
        """Remove `key`."""
        self._run("delete", key)

    def get_many(self, keys: Sequence[str], /) -> dict[str, bytes]:
        """The bytes of those of `keys` that there are. A fault is one of the whole call."""
        values: dict[str, bytes] = self._run("get_many", keys)
        return values

    def set_many(self, entries: Mapping[str, tuple[bytes, float]], /) -> None:
        """Store each (value, ttl)."""
        self._run("set_many", entries)

    def delete_many(self, keys: Sequence[str], /) -> None:
        """Remove all of `keys`."""
        self._run("delete_many", keys)

    def _run(self, operation: str, *args: Any) -> Any:
        course = self.course(_Ask(operation, args), self.begin(operation, _first(args)))
        try:
            step = next(course)
            while True:
                step = self._wait(course, step) if isinstance(step, _Wait) else course.send(self._ask(step))
        except StopIteration as end:
            return end.value

    def _ask(self, ask: _Ask) -> Any:
        if ask.operation.endswith("_many"):
            return _together(ask, [self._ask(one) for one in _singly(ask)])
        return getattr(self.inner, ask.operation)(*ask.args)

    def _wait(self, course: Steps, wait: _Wait) -> _Wait | _Ask:
        left = deadline.remaining()
        if left is None:
            left = 0.0 if wait.seconds == FOREVER else wait.seconds
        self._clock.advance(min(left, wait.seconds))
        return course.send(None) if wait.seconds <= left else course.throw(TimeoutError("by plan"))


@final
class AsyncFaultyAdapter(_Faults):
    """The same as `FaultyAdapter` with coroutines, for a `ManualLoop` over the same clock.

    A hang awaits until it is cancelled; an operation that is slow goes on when nobody waits for it any more.
    """

    def __init__(
        self, clock: MovableClock, inner: AsyncCacheAdapter | None = None, *, plan: FaultPlan | None = None
    ) -> None:
        super().__init__(clock, plan)
        self.inner: Any = inner if inner is not None else _AsyncStore(DictStore(clock))
        self.get: Callable[[str], Coroutine[Any, Any, bytes | None]] = _Method(self, "get")
        self.set: Callable[[str, bytes, float], Coroutine[Any, Any, None]] = _Method(self, "set")
        self.delete: Callable[[str], Coroutine[Any, Any, None]] = _Method(self, "delete")
        self.get_many: Callable[[Sequence[str]], Coroutine[Any, Any, dict[str, bytes]]] = _Method(self, "get_many")
        self.set_many: Callable[[Mapping[str, tuple[bytes, float]]], Coroutine[Any, Any, None]]
        self.set_many = _Method(self, "set_many")
        self.delete_many: Callable[[Sequence[str]], Coroutine[Any, Any, None]] = _Method(self, "delete_many")

    async def run(self, course: Steps) -> Any:
        """Carry out the steps of one call."""
        try:
            step = next(course)
            while True:
                step = course.send(await self._step(step))
        except StopIteration as end:
            return end.value

    async def _step(self, step: _Wait | _Ask) -> Any:
        if isinstance(step, _Ask):
            if step.operation.endswith("_many"):
                return _together(step, [await self._step(one) for one in _singly(step)])
            return await getattr(self.inner, step.operation)(*step.args)
        if step.seconds == FOREVER:
            return await asyncio.get_running_loop().create_future()
        return await asyncio.sleep(step.seconds)


class _AsyncStore:
    """A `DictStore` behind coroutines."""

    def __init__(self, store: DictStore) -> None:
        self.entries = store.entries
        self._store = store

    async def get(self, key: str, /) -> bytes | None:
        return self._store.get(key)

    async def set(self, key: str, value: bytes, ttl: float, /) -> None:
        self._store.set(key, value, ttl)

    async def delete(self, key: str, /) -> None:
        self._store.delete(key)


class _Method:
    """One method of an async adapter. Not a coroutine function, so that it can fail before it is awaited."""

    def __init__(self, adapter: AsyncFaultyAdapter, operation: str) -> None:
        self._adapter = adapter
        self._operation = operation

    def __call__(self, *args: Any) -> Coroutine[Any, Any, Any]:
        fault = self._adapter.begin(self._operation, _first(args))
        if fault is not None and fault.kind is FaultKind.RAISE_AT_CALL:
            raise fault.error.with_traceback(None)
        return self._adapter.run(self._adapter.course(_Ask(self._operation, args), fault))


def in_both_colours(clock: MovableClock, plan: FaultPlan) -> tuple[FaultyAdapter, AsyncFaultyAdapter]:
    """One store for threads and for tasks: its entries, what has yet to land, and the list of calls are of both."""
    entries = DictStore(clock)
    store = FaultyAdapter(clock, entries, plan=plan)
    other = AsyncFaultyAdapter(clock, _AsyncStore(entries), plan=plan)
    other.share(store)
    return store, other
