"""Values to sealed bytes and back to what may be believed of them, on clocks that are numbers."""

from __future__ import annotations

import logging
from threading import RLock
from typing import Any

import pytest

from resilient_cache._local import Local
from resilient_cache._reporting import Reporter
from resilient_cache._request import GATES, Candidate, Draft, Request
from resilient_cache._sealing import Sealing
from resilient_cache.codecs import JsonCodec
from resilient_cache.entry import Stored
from resilient_cache.envelope import seal
from resilient_cache.events import Event, NotStored
from resilient_cache.marks import NAMESPACE, Mark, tag_mark
from resilient_cache.outcome import Mode, Reason
from resilient_cache.policy import CachePolicy


class Clocks:
    def __init__(self) -> None:
        self.wall = 1_000_000.0
        self.steady = 500.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady


class Sealed:
    """A sealing with its clocks and what it told."""

    def __init__(self, **policy: Any) -> None:
        self.clocks = Clocks()
        self.told: list[Event] = []
        self.policy = CachePolicy(max_ttl=100.0, **{"stale_for": 50.0, "epoch_ttl": None, **policy})
        self.reporter = Reporter("space", [self.told.append], self.clocks.monotonic)
        self.local = Local(10, self.policy, self.clocks, RLock())
        self.sealing = Sealing(JsonCodec(), self.policy, self.reporter, self.local, has_store=True)

    def request(self, stamp: int = 0) -> Request:
        request = Request("k", self.policy, Mode.ON, GATES[Mode.ON], since=500.0, until=999.0)
        request.loads = True
        request.stamp = stamp or self.local.stamps.next()
        return request

    def opened(self, data: object) -> Candidate | Reason:
        return self.sealing.open(self.request(1), data, self.clocks.steady)

    def of_age(self, age: float, *, node: int = 0, fresh: float = 1e3, stale: float = 1e4) -> Candidate | Reason:
        """What becomes of an entry whose load began `age` seconds ago, as another process (or `node`) wrote it."""
        stamp = self.local.stamps.now() - round(age * 1_000_000)
        times = stamp, stamp + round(fresh * 1_000_000), stamp + round(stale * 1_000_000)
        return self.opened(seal(b"space", b"k", b"json", Stored(*times, node or 2, b'"v"')))


def test_what_is_sealed_opens_with_its_windows_on_the_monotonic_clock() -> None:
    sealed = Sealed()
    request = sealed.request()
    data = sealed.sealing.seal(request, Draft({"a": 1}, 4.0, 8.0))
    assert data is not None
    assert request.life == 12.0
    sealed.clocks.steady += 1.0
    sealed.clocks.wall += 1.0
    opened = sealed.opened(data)
    assert isinstance(opened, Candidate)
    assert (opened.value, opened.stamp) == ({"a": 1}, request.stamp)
    assert opened.fresh_until == pytest.approx(504.0, abs=1e-3)
    assert opened.stale_until == pytest.approx(512.0, abs=1e-3)


@pytest.mark.parametrize(("ttl", "stale_for", "kept"), [(0.0, 0.0, False), (0.0, 1.0, True), (1.0, 0.0, True)])
def test_what_has_no_life_is_not_sealed(ttl: float, stale_for: float, kept: bool) -> None:
    sealed = Sealed()
    assert (sealed.sealing.seal(sealed.request(), Draft(1, ttl, stale_for)) is not None) is kept
    assert sealed.told == []


def test_a_value_no_codec_can_take_is_told_each_time_and_logged_once_a_type(caplog: pytest.LogCaptureFixture) -> None:
    sealed = Sealed()
    with caplog.at_level(logging.WARNING, "resilient_cache"):
        for value in ((1,), (2,), {3}):
            assert sealed.sealing.seal(sealed.request(), Draft(value, 1.0, 1.0)) is None
    assert sealed.told == [NotStored("space")] * 3
    assert sealed.reporter.counts["not_stored"] == 3
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"cache space: a {kind} is not stored: the codec cannot encode it: TypeError" for kind in ("tuple", "set")
    ]


def test_no_more_than_a_hundred_types_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Classes made anew for each request neither fill the log nor are kept alive for it."""
    sealed = Sealed()
    with caplog.at_level(logging.WARNING, "resilient_cache"):
        for number in range(120):
            sealed.sealing.cannot_keep(type(f"Made{number}", (), {})(), "of no use")
    assert len(caplog.records) == 100
    assert sealed.reporter.counts["not_stored"] == 120


def test_what_the_envelope_or_the_codec_refuses_is_its_reason() -> None:
    sealed = Sealed()
    stamp = sealed.local.stamps.now()
    entry = Stored(stamp, stamp + 10**6, stamp + 10**6, 1, b"no json")
    assert sealed.opened(None) is Reason.CORRUPT
    assert sealed.opened(seal(b"space", b"k", b"json", entry)) is Reason.CODEC
    assert sealed.opened(seal(b"space", b"l", b"json", entry)) is Reason.WRONG_KEY
    assert sealed.opened(seal(b"spade", b"k", b"json", entry)) is Reason.WRONG_KEY
    assert sealed.opened(seal(b"space", b"k", b"other", entry)) is Reason.CODEC


@pytest.mark.parametrize(
    ("age", "told"), [(200.0, "opens"), (200.000_001, "overage"), (-1.0, "opens"), (-1.000_001, "overage")]
)
def test_an_entry_older_than_any_may_be_or_from_the_future_is_refused(age: float, told: str) -> None:
    opened = Sealed().of_age(age)
    assert ("overage" if opened is Reason.OVERAGE else "opens") == told


def test_another_process_cannot_make_an_entry_last_longer_than_the_policy_does() -> None:
    opened = Sealed().of_age(10.0)
    assert isinstance(opened, Candidate)
    assert opened.fresh_until == pytest.approx(500.0 + 90.0)
    assert opened.stale_until == pytest.approx(500.0 + 190.0)
    opened = Sealed().of_age(10.0, fresh=20.0, stale=30.0)
    assert isinstance(opened, Candidate)
    assert opened.fresh_until == pytest.approx(510.0)
    assert opened.stale_until == pytest.approx(520.0)


@pytest.mark.parametrize(("own", "age", "fenced"), [(True, -0.000_001, False), (True, 0.0, True), (False, -1.0, True)])
def test_a_fence_stops_what_is_older_or_may_be_older(own: bool, age: float, fenced: bool) -> None:
    sealed = Sealed()
    sealed.local.fences.raise_locked("k", sealed.local.stamps.now())
    opened = sealed.of_age(age, node=sealed.local.node if own else 2)
    assert (opened is Reason.FENCED) is fenced


def test_the_stamp_of_another_process_is_taken_as_older_by_twice_the_skew() -> None:
    sealed = Sealed()
    own, other = sealed.of_age(5.0, node=sealed.local.node), sealed.of_age(5.0)
    assert isinstance(own, Candidate)
    assert isinstance(other, Candidate)
    assert own.stamp - other.stamp == 1_000_000
    sealed.local.fences.raise_locked("k", sealed.local.stamps.now() - 6_000_000)
    assert sealed.of_age(5.0) is Reason.FENCED
    assert isinstance(sealed.of_age(4.999_999), Candidate)


class Careless:
    """A codec that gives whatever it was given."""

    id = "careless"

    def encode(self, value: Any, /) -> Any:
        return value

    def decode(self, data: bytes, /) -> Any:
        return data


@pytest.mark.parametrize("value", ["text", None, bytearray(b"x"), 5])
def test_a_codec_that_gives_no_bytes_is_a_value_not_stored(value: object) -> None:
    sealed = Sealed()
    sealing = Sealing(Careless(), sealed.policy, sealed.reporter, sealed.local, has_store=True)
    assert sealing.seal(sealed.request(), Draft(value, 1.0, 1.0)) is None
    assert sealed.told == [NotStored("space")]
    assert sealing.seal(sealed.request(), Draft(b"bytes", 1.0, 1.0)) is not None


@pytest.mark.parametrize("fenced", ["a", "b", ""])
def test_one_tag_that_was_invalidated_is_enough(fenced: str) -> None:
    """Whichever."""
    sealed = Sealed()
    request = sealed.request()
    entry = Stored(request.stamp, request.stamp + 10**6, request.stamp + 10**6, 2, b"1", 0, (("a", 1), ("b", 1)))
    data = seal(b"space", b"k", b"json", entry)
    if fenced:
        sealed.local.tag_fences.raise_locked(tag_mark(fenced), request.stamp)
    opened = sealed.opened(data)
    assert (opened is Reason.FENCED) if fenced else isinstance(opened, Candidate)


def test_the_mark_is_asked_for_again_at_its_moment_and_not_before() -> None:
    """Half of `epoch_ttl` after it was last seen one request asks for all."""
    sealed = Sealed(epoch_ttl=10.0)
    sealed.local.learn(NAMESPACE, Mark(7, 0), sealed.clocks.steady)
    assert sealed.local.marks.namespace.renew == 505.0
    stamp = sealed.local.stamps.next()
    data = seal(b"space", b"k", b"json", Stored(stamp, stamp + 10**8, stamp + 10**8, 2, b"1", 7))
    for seconds, unsure in ((4.75, None), (5.0, (NAMESPACE,))):
        request = sealed.request(1)
        opened = sealed.sealing.open(request, data, 500.0 + seconds)
        assert request.unsure == unsure
        assert (opened is Reason.UNMARKED) is (unsure is not None)


def test_tags_are_written_where_somebody_heeds_them() -> None:
    """Without marks no other process could know what became of them."""
    sealed = Sealed()
    data = sealed.sealing.seal(sealed.request(), Draft(1, 4.0, 8.0, ("t",)))
    opened = sealed.opened(data)
    assert isinstance(opened, Candidate)
    assert opened.tags == ()


def test_what_is_known_of_all_marks_is_not_asked_for_again() -> None:
    """Of the namespace, and of each tag."""
    sealed = Sealed(epoch_ttl=10.0)
    for name, version in ((NAMESPACE, 7), (tag_mark("t"), 8)):
        sealed.local.learn(name, Mark(version, 0), sealed.clocks.steady)
    stamp = sealed.local.stamps.next()
    entry = Stored(stamp, stamp + 10**8, stamp + 10**8, 2, b"1", 7, (("t", 8),))
    request = sealed.request(1)
    opened = sealed.sealing.open(request, seal(b"space", b"k", b"json", entry), 500.0)
    assert isinstance(opened, Candidate)
    assert (opened.tags, request.unsure) == (("t",), ())


@pytest.mark.parametrize(
    ("known", "under", "placed", "kept"),
    [
        (7, 7, False, True),
        (7, 6, False, False),
        (7, 0, False, False),
        (0, 0, False, False),
        (7, 0, True, True),
        (0, 0, True, False),
    ],
)
def test_a_load_is_written_under_the_mark_it_began_under(known: int, under: int, placed: bool, kept: bool) -> None:
    """And `set` under the one known now; under none nobody would believe it."""
    sealed = Sealed(epoch_ttl=10.0)
    if known:
        sealed.local.learn(NAMESPACE, Mark(known, 0), sealed.clocks.steady)
    request = sealed.request()
    request.version = under
    data = sealed.sealing.seal(request, Draft(1, 4.0, 8.0, (), placed))
    assert (data is not None) is kept


def test_what_was_invalidated_while_its_marks_were_asked_for_is_not_written() -> None:
    """It would be refused whenever it was read."""
    sealed = Sealed(epoch_ttl=10.0)
    sealed.local.learn(NAMESPACE, Mark(7, 0), sealed.clocks.steady)
    request = sealed.request()
    request.version = 7
    sealed.local.fences.raise_locked("k", request.stamp)
    assert sealed.sealing.seal(request, Draft(1, 4.0, 8.0)) is None
