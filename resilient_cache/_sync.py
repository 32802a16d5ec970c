"""The flow, for threads: one request from top to bottom. Twin of `_async.py`, and held equal to it by a test."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, Self, final, overload

from typing_extensions import TypeVar

from . import _build
from ._colours import shard_of
from ._guard import Answer
from ._local import KEY
from ._request import Draft, Request
from ._switch import ModeSetting
from ._sync_marks import MarkStore
from ._sync_store import Store
from ._sync_upkeep import Tended, Upkeep
from ._threads import Behind, Seat, Spawn, check_adapter, check_loader, close, load
from .decorators import MakeCached, make_cached
from .entry import Duration, Entry
from .events import Hook
from .flights import AGAIN, LEAD, LEADING, Flight, lead
from .marks import NAMESPACE
from .outcome import Invalidation, Lookup, Mode
from .policy import BreakerPolicy, CachePolicy
from .protocols import Backplane, CacheAdapter, Clock, Codec, DurableJournal
from .stamps import SYSTEM_CLOCK, SYSTEM_RANDOM

__all__ = ["ResilientCache"]

K = TypeVar("K", bound=str, default=str)
V = TypeVar("V", default=Any)
D = TypeVar("D", default=None)


@final
class ResilientCache(Tended, Generic[K, V]):
    """A cache whose store may fail in any way at the cost of a miss. Safe to share between threads.

    `adapter`: the store, or None for memory only; it is closed with the cache. `name` starts every key in the store and
    labels the metrics. `type` picks the codec (`codec` overrides it). `memory`: entries kept in process. `mode` is a
    `Mode` or a function asked at every request. `clock`, `random` and `spawn` are what the cache reads time and chance
    from and runs work behind with. `journal`: where it is written down what the store has not confirmed, so that the
    next process knows. `backplane`: tells the memory of other processes what is invalidated here, and the reverse.
    Both are closed with the cache.

    Raises `MisuseError` for an argument that can never be right. No store, clock or thread is touched.
    """

    __slots__ = ("_behind", "_marks", "_store")

    def __init__(
        self,
        adapter: CacheAdapter | None,
        *,
        name: str,
        policy: CachePolicy | None = None,
        type: type[V] | None = None,
        memory: int = 0,
        hooks: Iterable[Hook] = (),
        mode: ModeSetting = Mode.ON,
        breaker: BreakerPolicy | None = None,
        codec: Codec[V] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        random: Callable[[], float] = SYSTEM_RANDOM,
        spawn: Spawn | None = None,
        journal: DurableJournal | None = None,
        backplane: Backplane | None = None,
    ) -> None:
        if adapter is not None:
            check_adapter(adapter)
        self._adapter = adapter
        self._behind = Behind(spawn)
        self._rules = _build.build(
            name=name,
            has_store=adapter is not None,
            shard=shard_of(adapter),
            policy=policy,
            breaker=breaker,
            type=type,
            codec=codec,
            memory=memory,
            hooks=hooks,
            mode=mode,
            clock=clock,
            random=random,
            has_peers=backplane is not None,
        )
        self._store = Store(self._rules, adapter, self._behind)
        durable = _build.check_journal(journal, adapter)
        self._marks = marks = MarkStore(self._rules, adapter, self._behind)
        self._upkeep = Upkeep(self._store, marks, self._behind, spawn=spawn, durable=durable, backplane=backplane)

    # Reading

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    def get(self, key: K, default: Any = None) -> Any:
        """A fresh value, else `default`. Never raises for a store; costs at most `timeout`."""
        rules = self._rules
        entry = rules.peek(key) if type(key) is str else None
        if entry is not None and rules.monotonic() < entry[1]:
            rules.marks[entry[4]] = 1
            rules.memory_hits += 1
            if rules.hooks:
                rules.tell_hit()
            return entry[0]
        found = self._look_up(key)
        return found.value if found else default

    def lookup(
        self,
        key: K,
        loader: Callable[[K], V | Entry[V]] | None = None,
        *,
        policy: CachePolicy | None = None,
        deadline: Duration | None = None,
    ) -> Lookup[V]:
        """The answer with its provenance, falsy when there is none; with a `loader`, what `get_or_load` would give.

        Never raises for a store; with a loader, raises what `get_or_load` raises.
        """
        if loader is None:
            return self._look_up(key, policy, deadline)
        return self._resolve(key, loader, policy, deadline)

    def get_or_load(
        self,
        key: K,
        loader: Callable[[K], V | Entry[V]],
        *,
        policy: CachePolicy | None = None,
        deadline: Duration | None = None,
    ) -> V:
        """The value, from the cache or from `loader(key)`, which then runs once for everyone who asks meanwhile.

        `deadline`: the seconds that the caller has; store operations are given no more. Raises what the loader raises,
        as it is, unless a stale entry stands in; `LoadTimeout`, `NotFound`, `NoSafeValue`. Never raises for a store.
        """
        rules = self._rules
        entry = rules.peek(key) if type(key) is str else None
        if entry is not None and rules.monotonic() < entry[1]:
            rules.marks[entry[4]] = 1
            rules.memory_hits += 1
            if rules.hooks:
                rules.tell_hit()
            hit: V = entry[0]
            return hit
        found: Any = self._resolve(key, loader, policy, deadline)
        value: V = found.value
        return value

    def refresh(self, key: K, loader: Callable[[K], V | Entry[V]], *, policy: CachePolicy | None = None) -> V:
        """The value of a load that begins now, in place of whatever the cache has. Raises what the loader raises."""
        found: Any = self._resolve(key, loader, policy, None, forced=True)
        value: V = found.value
        return value

    # Writing

    def set(self, key: K, value: V, *, ttl: Duration | None = None) -> bool:
        """Put `value` in place of whatever the cache has; True when the store acknowledged it.

        False: the store does not have it or may not, and what it had before is not served again. To hold also against
        a store that acknowledges and then comes back with older data, invalidate.
        Never raises for a store; costs at most `timeout`.
        """
        rules = self._rules
        request = rules.begin(key, forced=True)
        return self._write(request, rules.place(request, value, ttl))

    def invalidate(self, key: K) -> Invalidation:
        """From now on nothing whose load began before this call is served for `key` in this process.

        `CONFIRMED` when the store deleted it too, `PENDING` when it could not be asked or did not answer: then it is
        asked again, behind, until it does. Never raises for a store; costs at most `timeout`.
        """
        rules = self._rules
        request = rules.begin(key)
        request.stamp = rules.local.invalidate(request.key)
        return rules.invalidated(request, self._delete(request))

    # Around it

    @property
    def cached(self) -> MakeCached:
        """`@cache.cached` or `@cache.cached(key=..., ttl=..., policy=...)`: a function whose results are cached.

        `key`: a template of its arguments like "region:{host}", or a function of them; by default all of them. The
        function gets `.lookup`, `.invalidate`, `.refresh` and `.key`. Raises `MisuseError` for a method without a key.
        """
        return make_cached(self, self._rules, check_loader)

    def explain(self, key: K) -> dict[str, object]:
        """Why `key` answers as it does; looks into the store as `lookup` does. Never holds the value."""
        return _build.explain(self._rules, key, self._look_up(key))

    def close(self) -> int:
        """Stop what runs behind and close the adapter; how many invalidations the store has not confirmed.

        It is asked for each of them once more, for a second at most. Later use is `MisuseError`; closing again is
        nothing.
        """
        if self._rules.close():
            return 0
        left = self._upkeep.close()
        self._behind.close()
        close(self._adapter, self._rules.reporter)
        return left

    def __enter__(self) -> Self:
        """The cache itself."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Close it."""
        self.close()

    # One request, from top to bottom

    def _look_up(self, key: K, policy: CachePolicy | None = None, deadline: Duration | None = None) -> Lookup[Any]:
        rules = self._rules
        request = rules.begin(key, policy, deadline)
        result = rules.recall(request)
        if result is None and request.gates.read:
            result = self._read(request)
            if request.refused:
                self._delete(request)
        if result is None:
            result = rules.loads.leftover(request)
        return rules.finish(result, request.reason)

    def _resolve(
        self, key: K, loader: Any, policy: CachePolicy | None, deadline: Duration | None, *, forced: bool = False
    ) -> Lookup[Any]:
        check_loader(loader)
        rules = self._rules
        request = rules.begin(key, policy, deadline, loads=True, forced=forced)
        recalled = rules.recall(request)
        if recalled is not None:
            return rules.finish(recalled, request.reason)
        return rules.finish(rules.loads.settle(request, self._fly(request, loader)), request.reason)

    def _fly(self, request: Request, loader: Any) -> Any:
        while True:
            flight, seat = self._rules.local.board(request, Seat, self._rules.monotonic())
            if seat is None:
                outcome = self._take_lead(request, flight, None, loader)
            else:
                outcome = self._follow(request, flight, seat, loader)
            if outcome is not AGAIN:
                return outcome

    def _take_lead(self, request: Request, flight: Flight[Any], seat: Any, loader: Any) -> Any:
        local, monotonic = self._rules.local, self._rules.monotonic
        if request.policy.load_timeout is not None:  # the load is to go on when its callers have lost patience
            behind = local.sit(flight, Seat)
            if self._behind.spawn(
                lambda: self._lead(request, flight, seat, loader, behind=True),
                lambda: local.leave(flight, seat, monotonic()),
            ):
                return self._follow(request, flight, behind, loader)
            local.leave(flight, behind, monotonic())
        return self._lead(request, flight, seat, loader)

    def _lead(self, request: Request, flight: Flight[Any], seat: Any, loader: Any, *, behind: bool = False) -> Any:
        local, leading = self._rules.local, LEADING.get()
        try:
            lead(flight)
            outcome = self._answer(request, flight, loader)
        except BaseException as error:
            if not behind or not self._behind.strikes(error):
                local.leave(flight, seat, self._rules.monotonic())
                raise
            outcome = self._rules.loads.failed(request, flight, error)
        finally:
            LEADING.set(leading)  # not reset by token: what is closed may be closed in another context
        local.land(flight, outcome)
        return outcome

    def _follow(self, request: Request, flight: Flight[Any], seat: Any, loader: Any) -> Any:
        rules = self._rules
        try:
            seat.wait(rules.loads.patience(request, flight))
        except BaseException:
            rules.local.leave(flight, seat, rules.monotonic())
            raise
        if seat.verdict == LEAD:
            return self._take_lead(request, flight, seat, loader)
        if flight.outcome is None:
            rules.local.leave(flight, seat, rules.monotonic())
            return rules.loads.timed_out(request, flight) or AGAIN
        return flight.outcome

    def _answer(self, request: Request, flight: Flight[Any], loader: Any) -> Any:
        rules = self._rules
        if request.gates.read and not request.asked and not flight.forced:
            found = self._read(request)
            if found is not None:
                return found
        if request.answered or flight.forced:  # then what is loaded is written, under the marks known before
            self._marks.look(request, (NAMESPACE,), request.since)
        instead = rules.loads.begin(request, flight)
        if instead is not None:
            return instead
        try:
            value = load(loader, request.given)
        except Exception as error:  # noqa: BLE001 - not swallowed: it is the flight's outcome, and raised as it is
            return rules.loads.failed(request, flight, error)
        outcome, draft = rules.loads.loaded(request, flight, value)
        self._write(request, draft)
        return outcome

    def _read(self, request: Request) -> Lookup[Any] | None:
        request.asked = True
        if self._upkeep.unread:
            self._upkeep.recover()
        answer = self._store.get(request)
        self._upkeep.soon()
        found = self._rules.judge(request, answer)
        return self._marks.judge(request, answer) if request.unsure else found

    def _write(self, request: Request, draft: Draft | None) -> bool:
        data = None if draft is None else self._marks.sealed(request, draft)
        stored = self._rules.written(request, None if data is None else self._store.set(request, data))
        if not stored:
            self._upkeep.note(KEY + request.key, request.stamp)
        self._upkeep.soon()
        return stored

    def _delete(self, request: Request) -> Answer | None:
        if request.stamp:
            self._upkeep.note(KEY + request.key, request.stamp)
        answer = self._store.delete(request) if request.gates.write else None
        self._upkeep.soon()
        return answer
