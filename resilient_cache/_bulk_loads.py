"""One call of a loader for many keys: each key has a flight, and the origin sees one load.

It takes one permit and is one sample for the origin's circuit, whatever becomes of single keys. Those that have nothing
stale to make do with are asked for first, and the others go along.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, cast

from ._loads import loaders_trace
from ._request import Draft, Failure, Request
from ._rules import Rules
from .conditional import Conditional
from .errors import MisuseError, NotFound, OriginOverloaded
from .flights import LEADING, Flight
from .outcome import Lookup, Source

__all__ = [
    "Leg",
    "abandon",
    "answered",
    "ask",
    "begin_loads",
    "by_key",
    "check_plain",
    "depart",
    "fail",
    "is_a",
    "lead_together",
    "leave",
    "loaded",
    "queue",
]


FOREVER: Final = float("inf")


class Leg(NamedTuple):
    """A key's flight as one call sees it; `seat` is None for the one who took off."""

    request: Request
    flight: Flight[Any]
    seat: Any


def check_plain(load_many: Any) -> Any:
    """`load_many` itself. Raises `MisuseError` for a conditional one: nobody would hand it the entries."""
    if is_a(load_many, Conditional):
        raise MisuseError("load_many must be a plain function of the keys, not a conditional one")
    return load_many


def lead_together(legs: list[Leg]) -> None:
    """Note that the running context leads all of them, and that none lands before their loader is done.

    The last stands for all, as the others are blocked on it: so a loader that asks for thousands does not look at each.
    """
    flights = [leg.flight for leg in legs]
    for flight in flights[:-1]:
        flight.block(flights[-1])
    these = set(map(id, flights))
    LEADING.set((*(led for led in LEADING.get() if led.outcome is None and id(led) not in these), flights[-1]))


def ask(legs: list[Leg]) -> None:
    """The store is to be asked for them, in as many calls as that takes: it is not the load that lasts."""
    for leg in legs:
        leg.flight.reading = FOREVER


def queue(rules: Rules, legs: list[Leg]) -> Leg | None:
    """Who is to wait for a permit, for all of them: they are one call of the origin. None when they have one."""
    now = rules.monotonic()
    for leg in legs:
        leg.flight.reading = now
    legs.sort(key=lambda leg: leg.request.stand_in is not None)  # those first that have nothing to make do with
    first = legs[0]
    if not rules.loads.origin.is_full(first.request, first.flight):
        return None
    since = first.request.queued if first.flight.queued is None else first.flight.queued
    for request, flight, _ in legs[1:]:  # that they wait is told of the first
        request.queued = flight.queued = now if since is None else since
    return first


def depart(rules: Rules, due: list[Request]) -> list[Leg]:
    """Those of the entries that are `due` that are to be loaded again behind, in one load."""
    departed = map(rules.loads.freshness.depart, due)
    return [Leg(*renewal, None) for renewal in departed if renewal is not None]


def begin_loads(rules: Rules, legs: list[Leg]) -> tuple[list[Leg], list[tuple[Leg, Any]]]:
    """Those that one call of the loader loads, and what to land the others with instead."""
    origin, loads = rules.loads.origin, rules.loads
    started: list[Leg] = []
    spared: list[tuple[Leg, Any]] = []
    bearer = legs[0].flight
    for leg in legs:
        instead: Any = loads.instead(leg.request, leg.flight)
        if instead is not None:  # and the next has the permit, if this one had it
            spared.append((leg, instead))
            continue
        if started:
            origin.accompany(leg.flight)
        else:
            origin.hand_over(bearer, leg.flight)
            bearer = leg.flight
            if not bearer.permit and leg is not legs[0]:
                origin.is_full(leg.request, bearer)
        instead = loads.start(leg.request, leg.flight)
        if instead is None:
            started.append(leg)
        else:
            spared.append((leg, instead))
    if started:
        return started, spared
    origin.left(bearer)
    return started, [(leg, _of_all(instead)) for leg, instead in spared]


def _of_all(instead: Any) -> Any:
    """What is landed in place of a load where none was started of any: to have been shed is an error of the call."""
    shed = isinstance(instead, Failure) and isinstance(instead.error, OriginOverloaded)
    return instead._replace(whole=True) if shed else instead


def answered(rules: Rules, legs: list[Leg]) -> None:
    """The loader has given something for `legs`: that is one answer of the origin, whatever it says of single keys."""
    for request, flight, _ in legs:
        rules.loads.origin.answered(request, flight)


def abandon(rules: Rules, legs: Iterable[Leg]) -> None:
    """The load of all `legs` was taken away."""
    legs = list(legs)
    for leg in legs:
        rules.loads.origin.left(leg.flight)
    leave(rules, legs)


def leave(rules: Rules, legs: Iterable[Leg]) -> None:
    """Go from all flights that have not landed; where this call led, another one does."""
    now = rules.monotonic()
    for leg in legs:
        rules.local.leave(leg.flight, leg.seat, now)


def fail(rules: Rules, legs: Iterable[Leg], error: BaseException) -> None:
    """The loader of all `legs` raised `error`: nothing is known of any of them, not even that there is none."""
    trace = loaders_trace(error)
    for request, flight, _ in legs:
        rules.loads.origin.failed(request, flight, error)
        rules.loads.freshness.put_off(request)
        if flight.outcome is None:
            rules.local.land(flight, Failure(error, trace, Source.NONE, request.stand_in, whole=True))


def by_key(legs: Iterable[Leg], given: object) -> dict[str, Any]:
    """What a loader of many gave, by key. Raises `MisuseError` when it is no mapping."""
    if not is_a(given, Mapping):
        raise MisuseError(f"load_many must give a mapping of keys to values, not {type(given).__name__}")
    values = cast("Mapping[Any, Any]", given)
    return {request.key: values[request.given] for request, _, _ in legs if request.given in values}


def loaded(rules: Rules, leg: Leg, values: Mapping[str, Any]) -> tuple[Lookup[Any] | Failure, Draft | None]:
    """The outcome of one key of a load, and what to write. Left out means "there is none"; an error is the key's."""
    request, flight, _ = leg
    value = values[request.key] if request.key in values else NotFound(request.key)
    if isinstance(value, BaseException) and not isinstance(value, Exception):  # `gather` gives a cancellation so
        value = MisuseError(f"load_many must give values and exceptions, not a {type(value).__name__}")
    if not isinstance(value, Exception):
        return rules.loads.loaded(request, flight, value)
    trace = value.__traceback__
    failure = rules.loads.failed(request, flight, value)._replace(trace=trace)
    value.__traceback__ = trace
    return failure, None


def is_a(value: object, kind: type | tuple[type, ...]) -> bool:
    """`isinstance`, of what may hold anything."""
    return isinstance(value, kind)
