"""Entries, policies and answers: the illegal is named at once, the legal is kept as seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_cache.entry import LONGEST, MICROS, Entry, Stored, check_tag, parts, seconds
from resilient_cache.errors import (
    FailureKind,
    LoadTimeout,
    MisuseError,
    NoSafeValue,
    NotFound,
    OriginOverloaded,
    ResilientCacheError,
    StoreError,
)
from resilient_cache.outcome import AfterOutage, Lookup, OnOverload, Reason, Source
from resilient_cache.policy import BreakerPolicy, CachePolicy, float_of

NAN, INF = float("nan"), float("inf")
NO_NUMBERS = [True, False, "1", None, [], 1j, object()]
NO_DURATIONS = [-1, -0.001, NAN, INF, -INF, 10**400, timedelta(seconds=-1), timedelta.max, *NO_NUMBERS]
NO_SHARES = [-0.1, 1.1, 2, NAN, INF, timedelta(0), *NO_NUMBERS]
NO_COUNTS = [0, -1, 1.0, 0.5, NAN, INF, *NO_NUMBERS]

Make = Callable[..., object]


async def later(*_: object) -> bool:
    """No plain function."""
    return True


class Later:
    """The same as an object."""

    async def __call__(self, *_: object) -> bool:
        return True


DURATIONS: list[tuple[Make, str, bool]] = [  # made of, named, may be 0
    (BreakerPolicy, "span", True),
    (BreakerPolicy, "window", False),
    (BreakerPolicy, "hold", False),
    (BreakerPolicy, "max_hold", False),
    (BreakerPolicy, "lease", False),
    (BreakerPolicy, "decay", False),
    (CachePolicy, "ttl", True),
    (CachePolicy, "stale_for", True),
    (CachePolicy, "timeout", False),
    (CachePolicy, "load_timeout", False),
    (CachePolicy, "negative_ttl", True),
    (CachePolicy, "stale_retry", True),
    (CachePolicy, "flight_age", False),
    (CachePolicy, "max_ttl", False),
    (CachePolicy, "skew", True),
    (BreakerPolicy, "slow_after", False),
    (BreakerPolicy, "lost_time", False),
    (CachePolicy, "inflight_max", False),
    (CachePolicy, "epoch_ttl", False),
    (CachePolicy, "load_wait", True),
    (CachePolicy, "ramp", False),
    (CachePolicy, "error_ttl", False),
    (CachePolicy, "degraded_ttl", True),
]
SHARES: list[tuple[Make, str]] = [
    (BreakerPolicy, "failure_rate"),
    (BreakerPolicy, "slow_rate"),
    (CachePolicy, "jitter"),
]
COUNTS: list[tuple[Make, str]] = [
    (BreakerPolicy, "consecutive"),
    (BreakerPolicy, "min_calls"),
    (BreakerPolicy, "probes"),
    (CachePolicy, "max_store_calls"),
    (CachePolicy, "max_loads"),
]
WITHOUT = {"load_timeout", "slow_after", "lost_time", "epoch_ttl", "ramp", "error_ttl"}  # those that may be None
ILLEGAL: list[tuple[Make, str, object]] = [
    *(
        (make, name, bad)
        for make, name, _ in DURATIONS
        for bad in NO_DURATIONS
        if bad is not None or name not in WITHOUT
    ),
    *((make, name, 0) for make, name, zero in DURATIONS if not zero),
    *((make, name, bad) for make, name in SHARES for bad in NO_SHARES),
    *((make, name, bad) for make, name in COUNTS for bad in NO_COUNTS),
    (BreakerPolicy, "failure_rate", 0),
    (BreakerPolicy, "slow_rate", 0),
    (CachePolicy, "negative", "no function"),
    (CachePolicy, "negative", 0),
    (CachePolicy, "negative", later),
    (CachePolicy, "ttl", later),
    *(
        (CachePolicy, name, bad)
        for name in ("adaptive_loads", "early_refresh", "refresh_behind")
        for bad in (0, 1, None)
    ),
    *((CachePolicy, "beta", bad) for bad in (0, -1, 100.1, NAN, INF, *NO_NUMBERS)),
    *((CachePolicy, "origin", bad) for bad in (1, "on", CachePolicy())),
    *((CachePolicy, "accept", bad) for bad in (1, "all", later, Later())),
    *((CachePolicy, "on_overload", bad) for bad in (1, None, "wait", later, Later())),
    *((CachePolicy, "after_outage", bad) for bad in (1, None, "hope")),
    *((CachePolicy, "hedge_after", bad) for bad in (-0.001, 0.25, 1.0, NAN, "1", True)),
]


@pytest.mark.parametrize(("make", "name", "bad"), ILLEGAL)
def test_an_illegal_value_is_misuse_that_names_the_argument(make: Make, name: str, bad: object) -> None:
    with pytest.raises(MisuseError) as raised:
        make(**{name: bad})
    assert str(raised.value).startswith(f"{name} ")


@pytest.mark.parametrize("make", [BreakerPolicy, CachePolicy])
def test_no_option_is_left_out_above(make: Any) -> None:
    assert {name for made, name, _ in ILLEGAL if made is make} == {option.name for option in fields(make)}


@pytest.mark.parametrize(("make", "name", "zero"), DURATIONS)
def test_a_duration_is_kept_as_seconds(make: Make, name: str, zero: bool) -> None:
    for given_, kept in [(2, 2.0), (2.5, 2.5), (timedelta(milliseconds=2_500), 2.5), *([(0, 0.0)] if zero else [])]:
        others: dict[str, Any] = {"stale_for": 0, "ttl": 1} if name == "max_ttl" else {}
        others |= {"hold": 1} if name == "max_hold" else {}
        got = getattr(make(**{**others, name: given_}), name)
        assert got == kept
        assert type(got) is float


@pytest.mark.parametrize(("make", "name"), [(make, name) for make, name, _ in DURATIONS])
def test_a_duration_may_be_as_long_as_its_bound_and_no_longer(make: Make, name: str) -> None:
    others = {"max_hold": LONGEST} if name == "hold" else {"max_ttl": 3_600} if name in ("ttl", "stale_for") else {}
    most = float(others.get("max_ttl", LONGEST))
    assert getattr(make(**{**others, name: most}), name) == most
    with pytest.raises(MisuseError, match=f"^{name}"):
        make(**{**others, name: most + 1.0})


def test_no_duration_is_longer_than_ten_years() -> None:
    """Ten years of 365 days, so that stamps stay far inside 64 bits of microseconds."""
    assert timedelta(days=3_650).total_seconds() == LONGEST
    assert timedelta(seconds=1) // timedelta(microseconds=1) == MICROS


LEAST = {"window": 0.01}


@pytest.mark.parametrize(("make", "name"), [(make, name) for make, name, zero in DURATIONS if not zero])
def test_a_duration_may_be_as_short_as_its_bound_and_no_shorter(make: Make, name: str) -> None:
    least = LEAST.get(name, 0.001)
    others: dict[str, Any] = {"hold": least} if name == "max_hold" else {}
    others |= {"ttl": least, "stale_for": 0} if name == "max_ttl" else {}
    assert getattr(make(**{**others, name: least}), name) == least
    with pytest.raises(MisuseError, match=f"^{name}"):
        make(**{**others, name: least * 0.99})


@pytest.mark.parametrize("share", [1, 1.0, 0.25])
def test_a_share_may_be_anything_up_to_1(share: float) -> None:
    assert BreakerPolicy(failure_rate=share).failure_rate == share
    assert CachePolicy(jitter=share).jitter == share
    assert CachePolicy(jitter=0).jitter == 0


@pytest.mark.parametrize(("make", "name"), COUNTS)
def test_a_count_may_be_1_or_many(make: Make, name: str) -> None:
    assert [getattr(make(**{name: count}), name) for count in (1, 10**9)] == [1, 10**9]


def test_what_else_may_be_told() -> None:
    """Each end of what is allowed, and names in place of members."""

    make: Any = CachePolicy

    def own(_: object) -> str:
        return "raise"

    for policy in (
        CachePolicy(beta=100, early_refresh=True, refresh_behind=True, adaptive_loads=True),
        CachePolicy(beta=1e-9, origin=BreakerPolicy(), accept=lambda *_: True, negative=bool),
        CachePolicy(hedge_after=0.2499, timeout=0.25),
        CachePolicy(hedge_after=timedelta(0)),
        *(make(**{name: None}) for name in ("load_timeout", "epoch_ttl", "ramp", "error_ttl", "hedge_after")),
    ):
        assert isinstance(policy, CachePolicy)
    assert type(CachePolicy(hedge_after=timedelta(0)).hedge_after) is float
    assert CachePolicy(on_overload="raise").on_overload is OnOverload.RAISE
    assert CachePolicy(on_overload=own).on_overload is own
    assert CachePolicy(after_outage="discard").after_outage is AfterOutage.DISCARD
    assert CachePolicy(refresh_behind=True, stale_for=0.5).refresh_behind
    assert not CachePolicy(refresh_behind=False, stale_for=0).refresh_behind


def test_refreshing_behind_needs_time_to_serve() -> None:
    with pytest.raises(MisuseError, match="refresh_behind needs a stale_for"):
        CachePolicy(refresh_behind=True, stale_for=0)


@pytest.mark.parametrize("tags", [("a", "b"), ["a", "b"], ["a", "b", "a"]])
def test_tags_are_kept_in_their_order_and_once(tags: Any) -> None:
    assert Entry(1, tags=tags).tags == ("a", "b")


def test_tags_are_few_and_not_long() -> None:
    """At most 16, each of 1 to 1 024 bytes."""
    assert Entry(1, tags={"a"}).tags == Entry(1, tags=frozenset({"a"})).tags == ("a",)
    assert len(Entry(1, tags=[str(number) for number in range(16)]).tags) == 16
    assert Entry(1, tags=("x" * 1_024,)).tags == ("x" * 1_024,)
    assert Entry(1).tags == ()
    with pytest.raises(MisuseError, match=r"^Entry.tags must be at most 16, not 17"):
        Entry(1, tags=[str(number) for number in range(17)])
    for tag, said in [("", "1 to 1024 bytes, not 0"), ("x" * 1_025, "not 1025"), ("é" * 513, "not 1026")]:
        with pytest.raises(MisuseError, match=rf"^Entry.tags must have.*{said}"):
            Entry(1, tags=(tag,))


@pytest.mark.parametrize("tags", ["ab", b"ab", None, 1, [1], [None], ["\ud800"], {"a": 1}, iter("a")])
def test_what_is_no_tag_is_misuse(tags: Any) -> None:
    with pytest.raises(MisuseError, match=r"^Entry.tags must be"):
        Entry(1, tags=tags)


def test_a_tag_is_a_plain_str() -> None:
    """A subclass may have a hash and an equality of its own."""

    class Odd(str):
        __slots__ = ()
        __hash__ = None  # type: ignore[assignment]

    assert check_tag("tag", "a") == "a"
    assert type(check_tag("tag", Odd("a"))) is str
    with pytest.raises(MisuseError, match=r"^tag must be a str, not int"):
        check_tag("tag", 1)


def test_pairs_that_make_no_sense_are_misuse() -> None:
    with pytest.raises(MisuseError, match=r"max_hold must be at least hold \(5\), not 4"):
        BreakerPolicy(hold=5, max_hold=4)
    assert BreakerPolicy(hold=5, max_hold=5).max_hold == 5.0
    with pytest.raises(MisuseError, match="ttl and stale_for are both 0"):
        CachePolicy(ttl=0, stale_for=0)
    assert CachePolicy(ttl=0, stale_for=1).ttl == 0.0
    assert CachePolicy(ttl=1, stale_for=0).stale_for == 0.0


def test_ttl_may_be_a_function_of_the_value() -> None:
    policy = CachePolicy(ttl=len, negative=bool, stale_for=0)
    assert (policy.ttl, policy.negative) == (len, bool)


@pytest.mark.parametrize("policy", [BreakerPolicy(), CachePolicy()])
def test_policies_are_frozen_and_compare_by_their_numbers(policy: BreakerPolicy | CachePolicy) -> None:
    for field in fields(policy):
        with pytest.raises(FrozenInstanceError):
            setattr(policy, field.name, 1)
    assert policy == type(policy)()
    with pytest.raises(TypeError):
        type(policy)(1)  # type: ignore[call-arg]


def test_the_defaults_are_those_of_the_contract() -> None:
    breaker = BreakerPolicy()
    assert (breaker.consecutive, breaker.span, breaker.failure_rate, breaker.min_calls) == (5, 0.1, 0.5, 20)
    assert (breaker.window, breaker.hold, breaker.max_hold, breaker.probes) == (5.0, 1.0, 30.0, 2)
    assert (breaker.lease, breaker.decay) == (2.0, 30.0)
    cache = CachePolicy()
    assert (cache.ttl, cache.stale_for, cache.jitter, cache.timeout) == (60.0, 300.0, 0.1, 0.25)
    assert (cache.load_timeout, cache.negative_ttl, cache.negative, cache.stale_retry) == (None, 60.0, None, 1.0)
    assert (cache.flight_age, cache.max_ttl, cache.skew, cache.max_store_calls) == (10.0, 86_400.0, 0.5, 64)
    assert cache.longest_life == 172_800.0
    assert (breaker.slow_after, breaker.slow_rate, breaker.lost_time) == (None, 0.8, None)
    assert (cache.hedge_after, cache.epoch_ttl, cache.inflight_max, cache.after_outage) == (None, 5.0, 5.0, "trust")
    assert (cache.accept, cache.ramp, cache.max_loads, cache.load_wait, cache.origin) == (None, None, 64, 1.0, None)
    assert (cache.on_overload, cache.adaptive_loads, cache.early_refresh) == ("proceed", False, False)
    assert (cache.beta, cache.refresh_behind, cache.error_ttl, cache.degraded_ttl) == (1.0, False, None, 30.0)


def test_explain_tells_the_timeline_in_words() -> None:
    told = CachePolicy().explain()
    assert told == (
        "served for 60 s after its load began (shortened by up to 10% at random); "
        "then for 300 s more it may stand in when a load fails; then gone. "
        "A store operation takes at most 0.25 s; 'there is none' is remembered for 60 s."
    )
    told = CachePolicy(ttl=len, stale_for=0, jitter=0).explain()
    told = CachePolicy(early_refresh=True, refresh_behind=True).explain()
    assert "at random), and loaded again behind its callers towards the end; then" in told
    assert "more it may stand in while a load runs behind or fails; then gone" in told
    told = CachePolicy(ttl=len, stale_for=0, jitter=0).explain()
    assert told.startswith("served for as long as ttl(value) says after its load began; then never stale; then gone.")


@given(
    st.one_of(st.floats(0, LONGEST), st.integers(0, int(LONGEST)), st.timedeltas(timedelta(0), timedelta(days=3_650)))
)
def test_seconds_keep_the_value(value: float | timedelta) -> None:
    kept = seconds("x", value)
    assert type(kept) is float
    assert kept == (value.total_seconds() if isinstance(value, timedelta) else value)


def test_seconds_take_their_bounds_in() -> None:
    assert seconds("x", 1, least=1.0, most=2.0) == 1.0
    assert seconds("x", 2, least=1.0, most=2.0) == 2.0
    assert seconds("x", -INF, least=-INF) == -INF
    with pytest.raises(MisuseError, match="x must be at least 1 and at most 2 seconds, not 3"):
        seconds("x", 3, least=1.0, most=2.0)
    with pytest.raises(MisuseError, match="x must be seconds or a timedelta, not bool"):
        seconds("x", True)


def test_float_of_takes_what_was_validated_only() -> None:
    assert float_of(1.5) == 1.5
    with pytest.raises(AssertionError):
        float_of(timedelta(1))


def test_an_entry_keeps_its_windows_as_seconds_and_is_frozen() -> None:
    entry = Entry("v", ttl=timedelta(minutes=1), stale_for=2)
    assert (entry.value, entry.ttl, entry.stale_for) == ("v", 60.0, 2.0)
    assert (Entry("v").ttl, Entry("v").stale_for) == (None, None)
    assert Entry("v", ttl=0).ttl == 0.0
    with pytest.raises(FrozenInstanceError):
        entry.ttl = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("name", ["ttl", "stale_for"])
@pytest.mark.parametrize("bad", [bad for bad in NO_DURATIONS if bad is not None])
def test_an_entry_names_the_window_that_is_illegal(name: str, bad: Any) -> None:
    with pytest.raises(MisuseError, match=rf"^Entry\.{name} "):
        Entry("v", **{name: bad})


def test_a_stored_entry_is_a_tuple_in_the_order_of_the_envelope() -> None:
    assert Stored(1, 2, 3, 4, b"5") == (1, 2, 3, 4, b"5", 0, ())


@pytest.mark.parametrize("source", list(Source))
def test_an_answer_is_true_when_it_holds_a_value_even_None(source: Source) -> None:  # noqa: N802
    assert bool(Lookup(None, source, Reason.HIT)) is (source not in (Source.NONE, Source.NEGATIVE))


def test_an_answer_is_frozen_and_tells_its_provenance() -> None:
    answer = Lookup("v", Source.STALE, Reason.ERROR, age=3.0, stale=True)
    assert (answer.value, answer.age, answer.stale) == ("v", 3.0, True)
    assert (Lookup("v", Source.STORE, Reason.HIT).age, Lookup("v", Source.STORE, Reason.HIT).stale) == (None, False)
    with pytest.raises(AttributeError):
        setattr(answer, "value", "w")  # noqa: B010 - as a type checker would not let it be written


def test_errors_are_what_callers_would_catch_them_as() -> None:
    for kind in (MisuseError, StoreError, LoadTimeout, OriginOverloaded, NoSafeValue, NotFound):
        assert issubclass(kind, ResilientCacheError)
    assert issubclass(LoadTimeout, TimeoutError)
    assert issubclass(NotFound, LookupError)


def test_a_store_error_says_its_kind_when_it_says_nothing_else() -> None:
    plain, told = StoreError(FailureKind.AUTH), StoreError(FailureKind.POOL, "no connection free")
    assert (plain.kind, str(plain)) == (FailureKind.AUTH, "auth")
    assert (told.kind, str(told)) == (FailureKind.POOL, "no connection free")


def test_what_a_loader_gave_has_parts_whether_or_not_it_is_an_entry() -> None:
    assert parts(Entry("v", ttl=2, stale_for=3, tags=["t"])) == ("v", 2.0, 3.0, ("t",))
    assert parts("v") == ("v", None, None, ())
