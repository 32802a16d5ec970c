"""The decisions about many keys at once: which of them one call leads, which it waits for, and what it gives.

Theory. A call takes off in a flight of its own for every key that nobody loads yet, and waits for the others' flights
only when its own have landed. So no two calls wait for each other, whatever order their keys are in: nobody waits with
a load of his own still to be made. Every rule about a key is the one for single calls; here they are only put in order.

A loader that asks the cache waits with all the flights of its call: each of them is blocked on the last, which is the
one that `board` blocks, so that the walk that finds circles finds this one from any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias, TypeVar, cast, final

from ._bulk_loads import Leg, is_a, leave
from ._request import Draft, Failure, Request
from ._rules import Rules
from ._switching import NOTHING, Peek
from .bulk import Loaded
from .entry import Slot, seconds
from .errors import MisuseError
from .flights import AGAIN, FOUND, LEAD, Waiter
from .outcome import Lookup, Source
from .policy import float_of

__all__ = [
    "Crew",
    "begin_many",
    "collect",
    "conclude",
    "invalidate_many",
    "is_a",
    "place_many",
    "requests_of",
    "split",
]

CHUNK: Final = 500
"""Keys in one call to a store: with 500 a call costs about 2 ms of a Valkey server, and no other waits longer."""

MOST_BYTES: Final = 1_000_000
"""What is written in one call, unless one value is larger: a call must get through within `timeout`."""

FOREVER: Final = float("inf")
T = TypeVar("T")
Begun: TypeAlias = dict[str, "Request | Slot[Any]"]


@final
class Crew:
    """The keys of one call that are not answered yet. `outcomes` fills up, by key."""

    __slots__ = ("_make_seat", "_rules", "_until", "led", "outcomes", "todo", "waiting")

    def __init__(
        self, rules: Rules, requests: list[Request], outcomes: dict[str, Any], make_seat: Callable[[], Waiter]
    ) -> None:
        self._rules = rules
        self._make_seat = make_seat
        self._until: float | None = None  # nobody has waited long enough before; who lands or hands over makes it later
        self.outcomes = outcomes
        self.todo = requests  # not aboard
        self.led: list[Leg] = []  # to be landed by this call
        self.waiting: dict[Waiter, Leg] = {}  # landed by others

    def board(self) -> None:
        """Find each key's flight, or take off. Raises `MisuseError` when waiting would be waiting for oneself."""
        if not self.todo:
            return
        local, now = self._rules.local, self._rules.monotonic()
        todo, self.todo, self._until = self.todo, [], None
        for request in todo:
            flight, seat = local.board(request, self._make_seat, now)
            if seat is None:
                self.led.append(Leg(request, flight, None))
            else:
                self.waiting[seat] = Leg(request, flight, seat)

    def sit(self) -> list[Leg]:
        """Wait for the flights that this call leads, as they are to be led behind; gives the seats."""
        seated = [Leg(leg.request, leg.flight, self._rules.local.sit(leg.flight, self._make_seat)) for leg in self.led]
        self.waiting.update((leg.seat, leg) for leg in seated)
        self._until = None
        return seated

    def stand(self, seated: list[Leg]) -> None:
        """Do not wait for them: nothing runs behind."""
        for leg in seated:
            del self.waiting[leg.seat]
        leave(self._rules, seated)

    def landed(self) -> None:
        """All that this call leads has landed."""
        led, self.led = self.led, []
        for leg in led:
            self._end(leg, leg.flight.outcome)

    def woken(self, seats: Iterable[Waiter]) -> None:
        """Others have landed, or left and this call is to lead."""
        for seat in seats:
            leg = self.waiting.pop(seat, None)
            if leg is None:
                continue  # it has left
            if seat.verdict == LEAD:
                self.led.append(leg)
            elif seat.verdict == AGAIN:  # another leads it, as this call was busy
                self.todo.append(leg.request)
            else:
                outcome = leg.flight.found if seat.verdict == FOUND else leg.flight.outcome
                self._end(leg, self._rules.loads.shared(leg.request, outcome))

    def patience(self) -> float:
        """Seconds until it may have waited long enough for somebody; never more than that."""
        now, patience = self._rules.monotonic(), self._rules.loads.patience
        if self._until is None:
            self._until = now + min(patience(leg.request, leg.flight) for leg in self.waiting.values())
        return max(0.0, self._until - now)

    def overdue(self) -> None:
        """Give up whom it has waited for long enough. Who is only yet to be rung counts as rung."""
        loads, self._until = self._rules.loads, None
        self.woken([seat for seat, leg in self.waiting.items() if seat.verdict or leg.flight.outcome is not None])
        for seat, leg in list(self.waiting.items()):
            request, flight, _ = leg
            if seat.verdict is None and flight.outcome is None and not loads.patience(request, flight):
                del self.waiting[seat]
                leave(self._rules, [leg])
                late = loads.timed_out(request, flight)
                self._end(leg, late._replace(whole=True) if isinstance(late, Failure) else late)

    def leave(self) -> None:
        """The call is taken away."""
        leave(self._rules, [*self.led, *self.waiting.values()])

    def _end(self, leg: Leg, outcome: Any) -> None:
        request, loads = leg.request, self._rules.loads
        if outcome is not AGAIN:
            outcome = loads.settle(request, outcome)
            if outcome is not AGAIN:
                self.outcomes[request.key] = outcome
                return
        self.todo.append(request)


def begin_many(
    rules: Rules,
    keys: object,
    policy: object = None,
    deadline: object = None,
    *,
    loads: bool = False,
    peek: Peek = NOTHING.get,
) -> Begun:
    """A request for each of `keys`, once, by key; the entry itself where `peek` has one that is fresh.

    Each store call has its own `timeout`, within the caller's deadline. Raises `MisuseError`, with nothing touched yet.
    """
    rules.check_open()
    if is_a(keys, (str, bytes)) or not is_a(keys, Iterable):
        raise MisuseError(f"keys must be an iterable of keys, such as a list, not {type(keys).__name__}")
    if not rules.screening.may_peek(policy or rules.policy):
        peek = NOTHING.get
    begun: Begun = {}
    keys = tuple(cast("Iterable[object]", keys))  # they may take their time to come
    now = rules.monotonic()
    for key in keys:
        entry = peek(key) if type(key) is str else None
        if entry is not None and now < entry[1]:
            begun[cast("str", key)] = entry
            continue
        request = rules.begin(key, policy, deadline, loads=loads)
        if not loads:
            request.until = FOREVER
        begun.setdefault(request.key, request)
    return begun


def requests_of(begun: Begun) -> list[Request]:
    """Those that memory does not answer on the shortest way."""
    return [request for request in begun.values() if isinstance(request, Request)]


def place_many(rules: Rules, values: object, ttl: object) -> list[tuple[Request, Draft | None]]:
    """Put values in place of whatever there is in this process; what to write. Raises `MisuseError` likewise."""
    if not is_a(values, Mapping):
        raise MisuseError(f"values must be a mapping of keys to values, not {type(values).__name__}")
    if ttl is not None:
        seconds("ttl", ttl, most=float_of(rules.policy.max_ttl))
    entries = cast("Mapping[Any, object]", values)
    requests = requests_of(begin_many(rules, entries))
    for request in requests:
        request.force()
    return [(request, rules.place(request, entries[request.given], ttl)) for request in requests]


def invalidate_many(rules: Rules, keys: object) -> list[Request]:
    """Fence and drop the keys in this process. Raises `MisuseError` likewise."""
    requests = requests_of(begin_many(rules, keys))
    for request in requests:
        request.stamp = rules.local.invalidate(request.key)
    return requests


def collect(rules: Rules, begun: Begun, found: Mapping[str, Any]) -> dict[Any, Any]:
    """What there is without a loader, counted and reported."""
    values: dict[Any, Any] = {}
    for key, request in begun.items():
        if not isinstance(request, Request):
            values[key] = hit(rules, request)
            continue
        result = found.get(key)
        result = rules.finish(rules.loads.leftover(request) if result is None else result, request.reason)
        if result:
            values[request.given] = result.value
    return values


def hit(rules: Rules, entry: Slot[Any]) -> Any:
    """The value of a fresh entry of the memory tier, counted and reported as `get` does."""
    rules.marks[entry[4]] = 1
    rules.memory_hits += 1
    rules.reporter.tell_hit()
    return entry[0]


def conclude(rules: Rules, begun: Begun, outcomes: dict[str, Any]) -> Loaded[Any, Any]:
    """What the callers of a load get, counted and reported: the values, and the errors of single keys.

    Raises what a loader of many raised, unless stale entries stand in for all its keys.
    """
    given, errors, whole = Loaded[Any, Any](), dict[Any, Exception](), None
    for key, request in begun.items():
        if not isinstance(request, Request):
            given[key] = hit(rules, request)
            continue
        outcome: Lookup[Any] | Failure = outcomes.pop(key)
        trace = outcome.trace if isinstance(outcome, Failure) else None
        try:
            given[request.given] = rules.finish(outcome, request.reason).value
        except Exception as error:  # noqa: BLE001 - not swallowed: it is what became of this key
            error.__traceback__ = trace  # without this frame, which holds it
            if not isinstance(outcome, Failure) or outcome.source is not Source.NEGATIVE:
                errors[request.given] = error
            if whole is None and isinstance(outcome, Failure) and outcome.whole:
                whole = error
        del outcome
    if whole is None:
        given.errors = errors
        return given
    try:
        raise whole
    finally:
        del whole, errors  # or the error would hold this frame and this frame the error, until a collection


def split(items: Iterable[T], group: Callable[[T], object], size: Callable[[T], int]) -> Iterator[list[T]]:
    """`items` in chunks, each of one group, of at most `CHUNK` items and of `MOST_BYTES` in all, or of one item."""
    chunks: dict[object, tuple[list[T], int]] = {}
    for item in items:
        name, more = group(item), size(item)
        chunk, bytes_ = chunks.get(name, ([], 0))
        if chunk and (len(chunk) == CHUNK or bytes_ + more > MOST_BYTES):
            yield chunk
            chunk, bytes_ = [], 0
        chunk.append(item)
        chunks[name] = chunk, bytes_ + more
    for chunk, _ in chunks.values():
        yield chunk
