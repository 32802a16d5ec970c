"""What one simulation is made of, drawn from its tape.

Each seed gets a random part of the operations, the faults and the limits, so that no mixture hides another ("swarm
testing"). Times are of one order, and exact in binary, so that boundaries meet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, final

from ...entry import seconds
from ...outcome import OnOverload
from ...policy import BreakerPolicy, CachePolicy
from .histories import NEVER
from .limits import Limits
from .peers import Interference
from .tape import Tape
from .vendors import NAMES
from .weather import Trouble

__all__ = ["MANY", "MARKS", "OPERATIONS", "Setup", "Swarm", "Vendors", "draw"]

OPERATIONS: Final = ("get_or_load", "get", "lookup", "invalidate", "set", "refresh")
MANY: Final = ("invalidate_all", "invalidate_tag")
"""Operations on many keys, of swarms that have marks."""
MARKS: Final = ("sim!", "sim!tag:")
TICK: Final = 1 / 1024
LONGEST_PAUSE: Final = 5.0  # between two attempts to have an invalidation confirmed
UNHEARD: Final = (Trouble.LATE, Trouble.REFUSED, Trouble.RESET, Trouble.LOST_REPLY, Trouble.FROZEN)
LONG: Final = 40.0  # a life that outlasts the end of the simulation
MORE_KEYS: Final = 2  # that are set or invalidated when all is well


@final
@dataclass(frozen=True, slots=True)
class Setup:
    """What one simulated process is to build its cache from: `AsyncResilientCache(setup.adapter, **setup.options)`.

    `fences`: a bound for the number of fences, for a cache that can be given one.
    """

    adapter: Any
    options: dict[str, Any]
    fences: int


@final
@dataclass(frozen=True, slots=True)
class Vendors:
    """How two stores are one: what the failover is built with, in seconds."""

    timeout: float
    stand_in_ttl: float
    hedge_after: float | None


@final
@dataclass(frozen=True, slots=True)
class Swarm:
    """The configuration of one simulation. Durations in seconds."""

    calm: bool
    orderly: bool
    keys: tuple[str, ...]
    operations: tuple[str, ...]
    troubles: tuple[Trouble, ...]
    offsets: tuple[float, ...]  # of each process's wall clock; one for each process
    memories: tuple[int, ...]
    callers: int  # for each process
    calls: int  # for each caller
    gaps: tuple[float, ...]
    latency: tuple[float, ...]
    slow: tuple[float, ...]
    loading: tuple[float, ...]
    failing: float  # share of loads
    cancelling: float  # share of calls
    switching: bool
    connections: int
    fences: int
    policy: CachePolicy
    breaker: BreakerPolicy
    tags: tuple[str, ...] = ()  # with marks: those that values may have
    peers: tuple[Interference, ...] | None = None  # with a backplane: what goes wrong with it
    vendors: Vendors | None = None

    @property
    def exposed(self) -> tuple[str, ...]:
        """What is in the store: the keys, and the marks."""
        return (*self.keys, *([MARKS[0], *(MARKS[1] + tag for tag in self.tags)] if self.tags else ()))

    @property
    def limits(self) -> Limits:
        """What the history is to be held to."""
        policy, breaker, vendors = self.policy, self.breaker, self.vendors
        given = policy.load_timeout
        timeout, inflight_max = seconds("timeout", policy.timeout), seconds("inflight_max", policy.inflight_max)
        replay = seconds("max_hold", breaker.max_hold) + LONGEST_PAUSE + timeout
        replay *= 1 if vendors is None else 2  # the cache asks again when each vendor has been asked again
        return Limits(
            timeout=timeout,
            skew=seconds("skew", policy.skew),
            flight_age=seconds("flight_age", policy.flight_age),
            negative_ttl=seconds("negative_ttl", policy.negative_ttl),
            error_ttl=None if policy.error_ttl is None else seconds("error_ttl", policy.error_ttl),
            load_timeout=None if given is None else seconds("load_timeout", given),
            max_store_calls=policy.max_store_calls,
            max_loads=policy.max_loads if policy.on_overload is OnOverload.RAISE else None,
            load_wait=seconds("load_wait", policy.load_wait),
            permit_life=max(inflight_max, 4 * timeout),
            consecutive=breaker.consecutive,
            min_failures=max(1, int(breaker.min_calls * breaker.failure_rate)),
            probes=breaker.probes,
            max_hold=seconds("max_hold", breaker.max_hold),
            floors=self.fences < len(self.keys) + MORE_KEYS,
            remembers=tuple(memory > 0 for memory in self.memories) if self.calm else None,
            replay=replay,
            inflight_max=inflight_max,
            epoch_ttl=None if policy.epoch_ttl is None else seconds("epoch_ttl", policy.epoch_ttl),
            peers=self.peers is not None,
            vendors=() if vendors is None else NAMES,
            vendor_timeout=timeout if vendors is None else vendors.timeout,
            stand_in_ttl=NEVER if vendors is None else vendors.stand_in_ttl,
        )


def draw(tape: Tape, *, plain: bool = False) -> Swarm:
    """A configuration: one in eight is about what is left in the store, one in five has more, unless `plain`."""
    swarm = _draw(tape)
    if swarm.calm:
        return swarm
    swarm = _leaving(tape, swarm) if tape.choose(8) == 7 else swarm
    if plain or tape.choose(5) < 4:
        return swarm
    for extend in tape.pick(((_marked,), (_told,), (_doubled,), (_told, _marked), (_doubled, _marked))):
        swarm = extend(tape, swarm)
    return swarm


def _marked(tape: Tape, swarm: Swarm) -> Swarm:
    """Values have tags, and many are invalidated at once; half of the time others find in the end what there was."""
    swarm = replace(
        swarm,
        tags=("t1", "t2")[: 1 + tape.choose(2)],
        operations=(*swarm.operations, *tape.pick((MANY, MANY[:1], MANY[1:]))),
        policy=replace(swarm.policy, epoch_ttl=tape.pick((1.0, 0.5, 2.5))),
    )
    if tape.choose(2) == 0:
        return swarm
    processes = 2 + tape.choose(2)
    return replace(
        swarm,
        offsets=(swarm.offsets * processes)[:processes],
        memories=tuple(0 if swarm.peers is None else 64 for _ in range(processes)),
        operations=("get_or_load", "get_or_load", tape.pick(MANY), tape.pick(("get", *swarm.operations))),
        callers=1 + tape.choose(2),
        calls=4 + tape.choose(8),
        failing=0.0,
        cancelling=0.0,
        policy=replace(swarm.policy, ttl=LONG, max_ttl=60.0),
    )


def _told(tape: Tape, swarm: Swarm) -> Swarm:
    """Two processes or three, whose memories are told of what is invalidated."""
    processes = 2 + tape.choose(2)
    return replace(
        swarm,
        offsets=(swarm.offsets * processes)[:processes],
        memories=(tape.pick((64, 0)), *(64 for _ in range(1, processes))),
        operations=(*swarm.operations, "invalidate"),
        peers=tuple(tape.pick(tuple(Interference)) for _ in range(tape.choose(4))),
        policy=_longer(tape, swarm.policy),
    )


def _doubled(tape: Tape, swarm: Swarm) -> Swarm:
    """Two stores, each with its own weather; half of the time for one key that is set again and again."""
    if tape.choose(2):
        swarm = replace(
            swarm,
            keys=swarm.keys[:1],
            operations=("get", "set", "get_or_load", tape.pick(("set", "invalidate"))),
            troubles=(tape.pick((Trouble.LATE, *UNHEARD)), tape.pick(UNHEARD)),
            memories=(0,) * len(swarm.memories),
            callers=1 + tape.choose(2),
            calls=8 + tape.choose(8),
            gaps=(0.0, 1 / 4, 1 / 2),
            slow=(1.0, 2.0),
            cancelling=0.0,
        )
    timeout = seconds("timeout", swarm.policy.timeout)
    return replace(
        swarm,
        operations=(*swarm.operations, *tape.pick((("set",), ("invalidate",), ()))),
        vendors=Vendors(
            timeout=tape.pick((timeout / 2, timeout)),
            stand_in_ttl=tape.pick((2.0, 0.5, LONG)),
            hedge_after=tape.pick((None, None, 1 / 64)),
        ),
    )


def _longer(tape: Tape, policy: CachePolicy) -> CachePolicy:
    """Half of the time with lives that outlast what is invalidated, or nothing but their end would be seen."""
    return replace(policy, ttl=LONG, max_ttl=60.0) if tape.choose(2) else policy


def _leaving(tape: Tape, swarm: Swarm) -> Swarm:
    """One key that lives long, invalidated again and again while writes land late or the store goes and comes back."""
    lasting = tape.pick((Trouble.LATE, Trouble.LATE, Trouble.REFUSED, Trouble.RESET))
    return replace(
        swarm,
        keys=swarm.keys[:1],
        operations=("get_or_load", "get_or_load", "invalidate", tape.pick(OPERATIONS)),
        troubles=(lasting, tape.pick((lasting, Trouble.RESTART_OLD))),
        memories=(0,) * len(swarm.memories),
        gaps=(0.0, 1 / 4, 1 / 2),
        slow=(1.0, 2.0),
        failing=0.0,
        cancelling=0.0,
        policy=replace(swarm.policy, ttl=LONG, max_ttl=60.0),
    )


def _draw(tape: Tape) -> Swarm:
    calm = tape.choose(10) == 9
    skew = tape.pick((0.5, 0.125))
    processes = 1 + tape.choose(3)
    callers = 1 if calm else 1 + tape.choose(4)
    policy = _policy(tape, skew, calm=calm)
    policy = policy if calm else _fresher(tape, policy)
    return Swarm(
        calm=calm,
        orderly=bool(tape.choose(2) == 0),
        keys=("k1", "k2", "k3")[: 1 + tape.choose(3)],
        operations=("get_or_load", *tape.some(OPERATIONS)),
        troubles=() if calm else tuple(tape.pick(tuple(Trouble)) for _ in range(tape.choose(6))),
        offsets=tuple(0.0 if calm else tape.pick((0.0, skew / 2, -skew / 2, skew / 4)) for _ in range(processes)),
        memories=tuple(tape.pick((64, 0) if calm else (64, 0, 1)) for _ in range(processes)),
        callers=callers,
        calls=max(2, tape.pick((6, 16, 24, 40, 40)) // (processes * callers)),
        gaps=tape.pick(((0.0, 1 / 8, 1 / 4), (0.0, 0.0, 1 / 2, 1.0), (1 / 16, 1 / 8), (0.0, TICK, 1 / 4, 1 / 2))),
        latency=(0.0,) if calm else tape.pick(((0.0,), (1 / 64,), (TICK, 1 / 16, 1 / 8))),
        slow=tape.pick(_slow(seconds("timeout", policy.timeout))),
        loading=(0.0,) if calm else tape.pick(((0.0, 1 / 8), (0.0, 1 / 4, 1 / 2), (1 / 8, 1.0), (0.0, 1 / 4, 4.0))),
        failing=0.0 if calm else tape.pick((0.0, 0.125, 0.5)),
        cancelling=0.0 if calm else tape.pick((0.0, 0.125, 0.375)),
        switching=not calm and tape.choose(4) == 3,
        connections=1 + tape.choose(3),
        fences=10_000 if calm else tape.pick((10_000, 1, 1, 2)),
        policy=policy,
        breaker=_breaker(tape),
    )


def _slow(timeout: float) -> tuple[tuple[float, ...], ...]:
    """Delays, each for one way, around the timeout, and around half of it, so that there and back meets it."""
    return (timeout / 2,), (timeout / 2, timeout / 2 - TICK), (timeout, timeout + TICK, timeout - TICK), (1.0, 2.0)


def _policy(tape: Tape, skew: float, *, calm: bool) -> CachePolicy:
    ttl = tape.pick((1.0, 0.5, 2.0) if calm else (1.0, 0.5, 2.0, LONG))
    policy = CachePolicy(
        ttl=ttl,
        stale_for=tape.pick((2.0, 0.0, 0.5)),
        jitter=0.0 if calm else tape.pick((0.0, 0.25)),
        timeout=tape.pick((0.25, 0.125, 0.75)),
        load_timeout=None if calm else tape.pick((None, None, 0.5)),
        negative_ttl=tape.pick((0.5, 1.0)),
        stale_retry=tape.pick((0.5, 0.25)),
        flight_age=tape.pick((4.0, 1.0)),
        max_ttl=tape.pick((60.0, 60.0 if ttl == LONG else 3.0)),
        inflight_max=tape.pick((5.0,) if calm else (5.0, 2.5)),  # 5.0: longer than what the store has lives
        skew=skew,
        max_store_calls=64 if calm else tape.pick((64, 2, 3)),
        epoch_ttl=None,  # a mark that is lost costs hits that a model counts on; see _marked
    )
    if policy.max_store_calls == 64:
        return policy
    return replace(  # from what is drawn already: one more choice would make other runs of all the tapes there are
        policy,
        max_loads=policy.max_store_calls - 1,
        load_wait=policy.stale_retry,
        on_overload=OnOverload.RAISE if policy.negative_ttl == 0.5 else OnOverload.PROCEED,
    )


def _fresher(tape: Tape, policy: CachePolicy) -> CachePolicy:
    return replace(
        policy,
        early_refresh=tape.choose(3) == 2,
        beta=tape.pick((1.0, 4.0)),
        refresh_behind=tape.choose(3) == 2 and policy.stale_for != 0,
        error_ttl=tape.pick((None, None, None, 0.5)),
        degraded_ttl=tape.pick((30.0, 0.5, 0.0)),
    )


def _breaker(tape: Tape) -> BreakerPolicy:
    return BreakerPolicy(
        consecutive=tape.pick((2, 3, 5)),
        span=tape.pick((0.0, 0.0, 0.125)),
        min_calls=tape.pick((4, 20)),
        window=tape.pick((5.0, 1.0)),
        hold=tape.pick((0.5, 0.125, 1.0)),
        max_hold=2.0,
        probes=tape.pick((2, 1, 3)),
        lease=2.0,
        decay=tape.pick((30.0, 1.0)),
    )
