"""The numbers of a cache and of its circuits: validated once, at construction, and never changed after.

Every duration is in seconds, or a `timedelta`, and is kept as seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import iscoroutinefunction
from types import UnionType
from typing import Any, Final

from .entry import Duration, seconds
from .errors import MisuseError
from .outcome import AfterOutage, OnOverload

__all__ = ["BreakerPolicy", "CachePolicy"]

MOST_FACTOR: Final = 100


def _as_seconds(policy: object, least: dict[str, float]) -> None:
    for name, low in least.items():
        object.__setattr__(policy, name, seconds(name, getattr(policy, name), least=low))


def _whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise MisuseError(f"{name} must be a whole number, at least {least}, not {value!r}")


def _share(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise MisuseError(f"{name} must be a share between 0 and 1, not {value!r}")


def _is_awaited(value: object) -> bool:
    return iscoroutinefunction(value) or iscoroutinefunction(getattr(type(value), "__call__", None))  # noqa: B004


def _plain(name: str, value: object, of: str) -> None:
    if value is not None and (not callable(value) or _is_awaited(value)):
        raise MisuseError(f"{name} must be a plain function of {of} or None, not {value!r}")


def _one_of(name: str, value: object, kind: type | UnionType, said: str) -> None:
    if not isinstance(value, kind):
        raise MisuseError(f"{name} must be {said}, not {value!r}")


def _factor(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MOST_FACTOR:
        raise MisuseError(f"{name} must be a number more than 0 and at most {MOST_FACTOR}, not {value!r}")


def _check_refreshing(policy: CachePolicy) -> None:
    for name in ("early_refresh", "refresh_behind"):
        if not isinstance(getattr(policy, name), bool):
            raise MisuseError(f"{name} must be True or False, not {getattr(policy, name)!r}")
    _factor("beta", policy.beta)
    if policy.refresh_behind and policy.stale_for == 0:
        raise MisuseError("refresh_behind needs a stale_for of more than 0, the time in which it serves")
    _as_seconds(policy, {"degraded_ttl": 0.0})
    if policy.error_ttl is not None:
        _as_seconds(policy, {"error_ttl": 0.001})


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a circuit opens, for how long, and what closes it. Raises `MisuseError` for a value out of range.

    It opens on `consecutive` failures in a row that span at least `span` seconds (a 30 ms hiccup does not open it),
    or on a share of `failure_rate` failures among at least `min_calls` calls of the last `window` seconds. The k-th
    opening in a row lasts min(max_hold, hold * 2**(k-1)) seconds, jittered down to half. `probes` successes close it.

    Two rules for reads that are slow rather than failed, both off by default and heard by the read circuit only:
    `slow_after`: a share of `slow_rate` of the calls not answered within so many seconds opens it, and a probe that
    takes longer does not close it. `lost_time`: so many seconds lost per call on average open it; a call that fails
    loses the time it took, one that is answered what it took beyond `slow_after`.
    """

    consecutive: int = 5
    span: Duration = 0.1
    failure_rate: float = 0.5
    min_calls: int = 20
    window: Duration = 5.0
    hold: Duration = 1.0
    max_hold: Duration = 30.0
    probes: int = 2
    lease: Duration = 2.0
    decay: Duration = 30.0
    slow_after: Duration | None = None
    slow_rate: float = 0.8
    lost_time: Duration | None = None

    def __post_init__(self) -> None:
        """Raises `MisuseError` for a value out of range."""
        least = {"span": 0.0, "window": 0.01, "hold": 0.001, "max_hold": 0.001, "lease": 0.001, "decay": 0.001}
        _as_seconds(self, least)
        for name in ("consecutive", "min_calls", "probes"):
            _whole(name, getattr(self, name), 1)
        _as_seconds(self, {name: 0.001 for name in ("slow_after", "lost_time") if getattr(self, name) is not None})
        for name in ("failure_rate", "slow_rate"):
            _share(name, getattr(self, name))
            if getattr(self, name) == 0:
                raise MisuseError(f"{name} must be more than 0, or it would open without a failure")
        if float_of(self.max_hold) < float_of(self.hold):
            raise MisuseError(f"max_hold must be at least hold ({self.hold:g}), not {self.max_hold:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePolicy:
    """How long entries are served and what a request may cost. Raises `MisuseError` for a value out of range.

    `ttl`: served as it is for so long, counted from the start of the load; or a function of the value.
    `stale_for`: after that, stands in for a load that fails. 0 for answers that must not outlive their ttl.
    `jitter`: each ttl is shortened by a random share of up to this, so that entries do not expire together.
    `timeout`: the total deadline of one store operation.
    `hedge_after`: a load begins when the store has been thinking for so long, and the first good answer wins; less
    than `timeout`. None: the load waits for the store's answer.
    `load_timeout`: how long a caller waits for a load; None waits as long as it takes.
    `negative_ttl`: how long "there is none" is remembered; `negative` tells values that mean it.
    `stale_retry`: after a failed load a stale entry is served for so long before the loader is asked again.
    `flight_age`: a load older than this is given up as stuck and replaced.
    `max_ttl`: upper bound of `ttl` and of `stale_for`, enforced on every entry that is read.
    `epoch_ttl`: how long it may take until other processes heed `invalidate_all` and `invalidate_tag`, and how often
    the store is asked about them. None: it is not asked, and both are misuse where there is a store.
    `skew`: how far the clocks of the processes that share the store may be apart.
    `max_store_calls`: store calls in flight at once; more are misses.
    `inflight_max`: no write reaches the store later than this after it was sent; so long after a delete was
    acknowledged, it is sent once more.
    `accept(key, value)`: whether a value may be given for a key. Asked at every way out, also about a stale entry, a
    `negative` value and a default; what it refuses is a miss, and never kept. It must be quick and must not block. One
    that raises has refused. A cache's own holds for every call; that of a call's policy comes on top.
    `ramp`: after an outage or a mode that did not write, the store is given 1, 5, 25, then all of 100 keys, by their
    hash, each step so long. None: all at once.
    `after_outage`: what is made of entries that the store held before its circuit opened: `AfterOutage` or its value.
    `max_loads`: loads at once; the rest queue, those first that have nothing stale to stand in.
    `load_wait`: how long a load queues, at most half of `flight_age`; after that a stale entry stands in, else
    `on_overload` decides: `proceed` loads all the same, `raise` raises `OriginOverloaded`; or a function of the key
    that gives one of the two.
    `adaptive_loads`: let the number of loads at once follow how long they take, from 20 up to 200; or from and up to
    `max_loads` where that is less than 20, or more than 200.
    `origin`: a circuit for loads; while it is open none starts but its probes. None: there is none.
    `early_refresh`: towards the end of its ttl an entry that is asked for is loaded again behind its callers, at a
    random moment: when now - d * `beta` * ln(random) reaches the end, d being the time the last load took.
    `refresh_behind`: past its ttl an entry that may be stale is served at once, while one load runs behind.
    `error_ttl`: what a loader raised is raised again for so long without a load. None: every caller may load.
    `degraded_ttl`: how long at most memory keeps, while a circuit for reads is not closed, what a cache with
    `memory=0` has loaded or been given; jittered. 0: nothing.
    """

    ttl: Duration | Callable[[Any], Duration] = 60.0
    stale_for: Duration = 300.0
    jitter: float = 0.1
    timeout: Duration = 0.25
    hedge_after: Duration | None = None
    load_timeout: Duration | None = None
    negative_ttl: Duration = 60.0
    negative: Callable[[Any], bool] | None = None
    stale_retry: Duration = 1.0
    flight_age: Duration = 10.0
    max_ttl: Duration = 86_400.0
    epoch_ttl: Duration | None = 5.0
    skew: Duration = 0.5
    max_store_calls: int = 64
    inflight_max: Duration = 5.0
    after_outage: AfterOutage | str = AfterOutage.TRUST
    accept: Callable[[str, Any], bool] | None = None
    ramp: Duration | None = None
    max_loads: int = 64
    load_wait: Duration = 1.0
    on_overload: OnOverload | str | Callable[[str], OnOverload | str] = OnOverload.PROCEED
    adaptive_loads: bool = False
    origin: BreakerPolicy | None = None
    early_refresh: bool = False
    beta: float = 1.0
    refresh_behind: bool = False
    error_ttl: Duration | None = None
    degraded_ttl: Duration = 30.0

    def __post_init__(self) -> None:
        """Raises `MisuseError` for a value out of range or a pair that makes no sense."""
        _as_seconds(self, {"timeout": 0.001, "max_ttl": 0.001, "skew": 0.0, "flight_age": 0.001})
        _as_seconds(self, {"negative_ttl": 0.0, "stale_retry": 0.0, "inflight_max": 0.001})
        longest = float_of(self.max_ttl)
        object.__setattr__(self, "stale_for", seconds("stale_for", self.stale_for, most=longest))
        if callable(self.ttl):
            _plain("ttl", self.ttl, "the value, or seconds,")
        else:
            object.__setattr__(self, "ttl", seconds("ttl", self.ttl, most=longest))
        if self.load_timeout is not None:
            _as_seconds(self, {"load_timeout": 0.001})
        if self.epoch_ttl is not None:
            _as_seconds(self, {"epoch_ttl": 0.001})
        if self.ramp is not None:
            _as_seconds(self, {"ramp": 0.001})
        if self.hedge_after is not None:
            _as_seconds(self, {"hedge_after": 0.0})
            if float_of(self.hedge_after) >= float_of(self.timeout):
                raise MisuseError(f"hedge_after must be less than timeout ({self.timeout:g}), not {self.hedge_after:g}")
        _plain("negative", self.negative, "the value")
        _plain("accept", self.accept, "key and value")
        try:
            object.__setattr__(self, "after_outage", AfterOutage(self.after_outage))
        except ValueError:
            raise MisuseError(f"after_outage must be trust, revalidate or discard, not {self.after_outage!r}") from None
        _share("jitter", self.jitter)
        _check_refreshing(self)
        _whole("max_store_calls", self.max_store_calls, 1)
        self._check_loads()
        if self.ttl == 0 and self.stale_for == 0:
            raise MisuseError("ttl and stale_for are both 0: nothing could ever be served; make ttl at least 0.001")

    def _check_loads(self) -> None:
        _whole("max_loads", self.max_loads, 1)
        _as_seconds(self, {"load_wait": 0.0})
        _one_of("adaptive_loads", self.adaptive_loads, bool, "True or False")
        _one_of("origin", self.origin, BreakerPolicy | None, "a BreakerPolicy or None")
        if _is_awaited(self.on_overload):
            raise MisuseError(f"on_overload must be a plain function of the key, not {self.on_overload!r}")
        if callable(self.on_overload):
            return
        try:
            object.__setattr__(self, "on_overload", OnOverload(self.on_overload))
        except ValueError:
            text = f"on_overload must be proceed, raise or a function of the key, not {self.on_overload!r}"
            raise MisuseError(text) from None

    @property
    def longest_life(self) -> float:
        """Seconds from its load after which no entry may be served, whoever wrote it."""
        return 2 * float_of(self.max_ttl)

    def explain(self) -> str:
        """The timeline of an entry under this policy, in words."""
        fresh = "for as long as ttl(value) says" if callable(self.ttl) else f"for {self.ttl:g} s"
        shorter = f" (shortened by up to {self.jitter:.0%} at random)" if self.jitter else ""
        early = ", and loaded again behind its callers towards the end" if self.early_refresh else ""
        until = "while a load runs behind or fails" if self.refresh_behind else "when a load fails"
        stale = f"for {self.stale_for:g} s more it may stand in {until}" if self.stale_for else "never stale"
        return (
            f"served {fresh} after its load began{shorter}{early}; then {stale}; then gone. "
            f"A store operation takes at most {self.timeout:g} s; "
            f"'there is none' is remembered for {self.negative_ttl:g} s."
        )


def float_of(value: Duration) -> float:
    """A duration that validation has already turned into seconds."""
    assert isinstance(value, float)
    return value
