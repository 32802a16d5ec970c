"""RESP2 replies: whole or in pieces, of whatever bytes, and never two for one command."""

from __future__ import annotations

import select
import socket
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resilient_cache.adapters import _redis_wire
from resilient_cache.adapters._redis_deadline import Deadline, DeadlineSocket
from resilient_cache.adapters._redis_wire import LONGEST_LINE, MORE, Refused, Replies, Wire, packed

LINES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=30)
REPLIES: st.SearchStrategy[tuple[bytes, object]] = st.one_of(
    st.binary(max_size=60).map(lambda value: (b"$%d\r\n%b\r\n" % (len(value), value), value)),
    st.just((b"$-1\r\n", None)),
    LINES.map(lambda line: (f"+{line}\r\n".encode(), line)),
    LINES.map(lambda line: (f"-{line}\r\n".encode(), Refused(line))),
    st.integers(0, 10**20).map(lambda number: (b":%d\r\n" % number, number)),
)


@given(reply=REPLIES, cuts=st.lists(st.integers(0, 80), max_size=5), following=REPLIES)
@example(reply=(b"$4\r\n\r\n\r\n\r\n", b"\r\n\r\n"), cuts=[1, 2, 3, 4, 5, 6], following=(b"$-1\r\n", None))
def test_a_reply_in_pieces_is_the_reply(
    reply: tuple[bytes, object], cuts: list[int], following: tuple[bytes, object]
) -> None:
    replies = Replies()
    for sent, expected in (reply, following):
        places = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
        *before, last = [replies.feed(sent[start:end]) for start, end in pairwise(places)]
        assert all(piece is MORE for piece in before)
        assert type(last) is type(expected)
        assert last == expected or str(last) == str(expected)


@given(reply=REPLIES, more=st.binary(min_size=1, max_size=10))
def test_more_than_one_reply_is_refused(reply: tuple[bytes, object], more: bytes) -> None:
    with pytest.raises(ValueError, match="more than one"):
        Replies().feed(reply[0] + more)


@pytest.mark.parametrize(
    "data",
    [
        b"$1_0\r\n" + b"v" * 10 + b"\r\n",
        b"$ 1\r\nv\r\n",
        b"$-2\r\n",
        b"$1\r\nvvv",
        b"$\r\n",
        b":+1\r\n",
        b"*0\r\n",
        b"\r\n",
    ],
)
def test_what_is_no_reply_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"no number|no RESP2|longer than it says"):
        Replies().feed(data)


@given(data=st.binary(max_size=50))
def test_any_bytes_are_a_reply_or_refused(data: bytes) -> None:
    try:
        reply = Replies().feed(data)
    except ValueError:
        return
    assert reply is MORE or (data[:1] in b"$+-:" and data.endswith(b"\r\n"))


def test_a_line_without_end_is_given_up() -> None:
    with pytest.raises(ValueError, match="without end"):
        Replies().feed(b"+" * (LONGEST_LINE + 1))


def test_commands_are_arrays_of_bytes() -> None:
    assert packed(b"GET", b"a\r\nb") == b"*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n"


class Connected:
    """As much of a redis-py connection as a wire needs."""

    def __init__(self, end: socket.socket) -> None:
        self._sock = DeadlineSocket(end, Deadline())

    def connect(self) -> None:
        pass

    def can_read(self) -> bool:
        return False


@pytest.mark.parametrize("polls", [True, False])
def test_an_idle_connection_is_silent_until_something_comes(polls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not polls:  # as on Windows
        monkeypatch.delattr(select, "poll")
    here, there = socket.socketpair()
    with here, there:
        wire: Any = Wire(Connected(here))
        assert wire.is_silent()
        assert wire.is_silent()
        there.sendall(b"+unasked\r\n")
        assert not wire.is_silent()
    here, there = socket.socketpair()
    with here:
        there.close()
        assert not Wire(Connected(here)).is_silent()


@pytest.mark.parametrize("looked", [True, False])
def test_the_last_millisecond_is_one(looked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new connection waited as long as for its login once more; one that was looked at took that for a failure."""
    if looked:
        monkeypatch.delattr(select, "poll")
    monkeypatch.setattr(_redis_wire, "monotonic", lambda: 100.0)
    here, there = socket.socketpair()
    with here, there:
        here.settimeout(1.0)
        wire: Any = Wire(Connected(here))
        assert wire.is_silent()
        with pytest.raises(TimeoutError):
            wire.ask(b"PING\r\n", bool, 100.0005)
        assert here.gettimeout() == pytest.approx(0.0005, rel=0.01)


def test_an_operation_without_time_does_not_begin() -> None:
    with pytest.raises(TimeoutError, match="no time left"):
        Deadline().start(0)
