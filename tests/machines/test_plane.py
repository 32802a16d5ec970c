"""What a cache tells its peers and makes of what they say, bare: messages are bytes and nobody sends them."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from resilient_cache._local import KEY, MARK
from resilient_cache._plane import MOST_BYTES, Plane
from resilient_cache.events import BackplaneChanged, Event
from resilient_cache.memory import PAST

from ..laws.stage import Stage


class Hub:
    """Never asked."""

    publish = listen = lambda *_: None


def made(**options: Any) -> Plane:
    plane: Plane = Stage("sync", backplane=Hub(), **options).cache._rules.plane
    return plane


def counts(plane: Plane) -> dict[str, int]:
    return dict(plane._reporter.counts)


def test_a_message_is_who_speaks_and_names() -> None:
    """As other versions read it."""
    plane = made()
    assert plane.message() is None
    plane._local.tell([KEY + "k", MARK + "ä"])
    names = b"".join(struct.pack(">I", len(data)) + data for data in (b"kk", "mä".encode()))
    assert plane.message() == (b"rc1" + struct.pack(">Q", plane._local.node) + names, ["kk", "mä"])
    assert plane.message() is None


@pytest.mark.parametrize(("spare", "first"), [(0, 2), (-1, 1)])
def test_a_message_is_no_longer_than_a_channel_takes(spare: int, first: int) -> None:
    """32 KiB of names, in the order in which they were invalidated; but one name is sent, however long."""
    assert MOST_BYTES == 32_768
    plane = made()
    half = MOST_BYTES // 2 - 4
    names = ["a" * half, "b" * (half - spare), "c"]
    plane._local.tell(names)
    sent = []
    while (message := plane.message()) is not None:
        sent.append(message[1])
    assert sent == [names[:first], names[first:]]
    plane._local.tell(["d" * MOST_BYTES, "e"])
    assert [len(names) for _, names in (plane.message() or (b"", []), plane.message() or (b"", []))] == [1, 1]


@pytest.mark.parametrize(("pause", "waits"), [(0.0, 0.01), (2.5, 2.5)])
def test_what_was_not_handed_over_is_told_after_a_pause(pause: float, waits: float) -> None:
    """Which is never none, and grows with the tries until one succeeds."""
    plane, tries = made(), []

    def pause_after(tried: int) -> float:
        tries.append(tried)
        return pause

    plane.pause_after = pause_after
    assert plane.pause() is None
    for handed_over in (False, False, True, False):
        plane.published(["kk"], handed_over=handed_over)
    assert tries == [0, 1, 0]
    assert plane.pause() == pytest.approx(waits)
    assert plane.message() is None
    assert (counts(plane)["backplane_published"], counts(plane)["backplane_errors"]) == (1, 3)


def said(node: int, *names: bytes) -> bytes:
    return b"rc1" + struct.pack(">Q", node) + b"".join(struct.pack(">I", len(name)) + name for name in names)


def test_what_peers_say_is_heeded_and_what_one_says_oneself_is_not() -> None:
    """A message without names says nothing."""
    plane = made(memory=10)
    local = plane._local
    plane.receive(said(local.node, b"kk"))
    plane.receive(said(2))
    assert (local.fences.at("k"), local.trusted_since, counts(plane)["backplane_messages"]) == (0, PAST, 1)
    plane.receive(said(2, b"kk"))
    assert (local.fences.at("k") > 0, local.trusted_since) == (True, PAST)


@pytest.mark.parametrize("message", [b"rc2" + said(2, b"kk")[3:], said(2)[:-1], said(2, b"kk")[:-1], said(2, b"\xff")])
def test_a_message_that_nobody_understands_may_have_been_about_anything(message: bytes) -> None:
    plane = made(memory=10)
    plane.receive(message)
    assert plane._local.trusted_since == plane._local.now()
    assert plane._local.fences.at("k") == 0


def test_it_is_told_once_that_somebody_listens() -> None:
    """And once that nobody does."""
    told: list[Event] = []
    plane = made(hooks=[told.append])
    for turn in (plane.ready, plane.ready, plane.lost, plane.lost):
        turn()
    assert [event.listening for event in told if isinstance(event, BackplaneChanged)] == [True, False]
    assert (counts(plane)["backplane_joined"], counts(plane)["backplane_lost"]) == (1, 1)
