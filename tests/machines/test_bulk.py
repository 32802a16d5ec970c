"""Parts of bulk calls by themselves: chunks, replies that come together, waiting for many."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_cache import _bulk, _colours, _task_bench, _thread_bench
from resilient_cache.adapters._redis_wire import MORE, ManyReplies, Refused, Replies


@given(items=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 600_000))), most=st.integers(1, 5))
def test_chunks_hold_everything_once_and_not_too_much(items: list[Any], most: int) -> None:
    numbered = list(enumerate(items))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_bulk, "CHUNK", most)
        chunks = list(_bulk.split(numbered, lambda item: item[1][0], lambda item: item[1][1]))
    assert sorted(item for chunk in chunks for item in chunk) == numbered
    for chunk in chunks:
        assert len({item[1][0] for item in chunk}) == 1
        assert len(chunk) <= most
        assert len(chunk) == 1 or sum(item[1][1] for item in chunk) <= _bulk.MOST_BYTES
        assert chunk == sorted(chunk)


def test_chunks_are_as_full_as_they_may_be() -> None:
    assert [len(chunk) for chunk in _bulk.split(range(1_200), lambda _: "", lambda _: 0)] == [500, 500, 200]
    assert [len(chunk) for chunk in _bulk.split(range(4), lambda _: "", lambda _: 500_000)] == [2, 2]


REPLIES: dict[bytes, object] = {b"$3\r\na\r\n\r\n": b"a\r\n", b"$-1\r\n": None, b"$0\r\n\r\n": b"", b"+OK\r\n": "OK"}


@given(
    chosen=st.lists(st.sampled_from(sorted(REPLIES)), min_size=1, max_size=6),
    array=st.booleans(),
    cuts=st.lists(st.integers(0, 80), max_size=6),
)
def test_replies_that_come_together_are_told_apart_wherever_they_are_cut(
    chosen: list[bytes], array: bool, cuts: list[int]
) -> None:
    data = (b"*%d\r\n" % len(chosen) if array else b"") + b"".join(chosen)
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    replies = ManyReplies(len(chosen), array=array)
    *early, last = [replies.feed(data[start:end]) for start, end in itertools.pairwise(places)]
    assert all(each is MORE for each in early)
    assert last == [REPLIES[each] for each in chosen]


@pytest.mark.parametrize(
    ("data", "array"),
    [
        (b"+OK\r\n+OK\r\n+OK\r\n", False),
        (b"*3\r\n$-1\r\n", True),
        (b"*2\r\n$-1\r\n$-1\r\n$-1\r\n", True),
        (b"*x\r\n", True),
        (b"-ERR no\r\n+OK\r\n", True),
        (b"*2\r\n$-1\r\n$-1\r\n", False),
        (b"?", False),
    ],
)
def test_what_answers_another_question_is_found(data: bytes, array: bool) -> None:
    with pytest.raises(ValueError, match=r"replies|values|number|RESP2|line"):
        ManyReplies(2, array=array).feed(data + (b"\r\n" if data == b"?" else b""))


def test_an_error_among_them_is_the_answer() -> None:
    told = ManyReplies(2).feed(b"+OK\r\n-OOM no memory\r\n")
    assert isinstance(told, Refused)
    whole = ManyReplies(2, array=True).feed(b"-LOADING soon\r\n")
    assert str(whole) == "LOADING soon"
    assert Replies().feed(b"+OK\r\n") == "OK"


def test_a_seat_that_is_rung_after_its_caller_has_left_it_is_nobodys() -> None:
    crew = _bulk.Crew(cast("Any", None), [], {}, _thread_bench.Bench().place)
    crew.woken([_thread_bench.Bench().place()])
    assert (crew.led, crew.todo, crew.outcomes) == ([], [], {})


def test_a_bench_gives_whoever_was_rung_before_and_while_it_waits() -> None:
    bench = _thread_bench.Bench()
    places = [bench.place() for _ in range(3)]
    places[0].wake()
    assert places[1].wake()
    assert bench.wait(5) == places[:2]
    assert bench.wait(0) == []
    ringer = threading.Timer(0.01, places[2].wake)
    ringer.start()
    assert bench.wait(5) == [places[2]]
    ringer.join()


def test_a_bench_for_tasks_does_too_and_says_when_nobody_listens() -> None:
    async def main() -> Any:
        bench = _task_bench.Bench()
        places = [bench.place() for _ in range(3)]
        places[0].wake()
        assert places[1].wake()
        assert await bench.wait(5) == places[:2]
        assert await bench.wait(0) == []
        ringer = threading.Thread(target=places[2].wake)
        ringer.start()
        assert await bench.wait(5) == [places[2]]
        ringer.join()
        return bench.place()

    assert asyncio.run(main()).wake() is False  # its loop is gone


def test_calls_are_spread_over_so_many_tasks() -> None:
    running, most, done = 0, 0, 0

    async def call() -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await turn
        running -= 1
        done += 1

    async def main() -> None:
        await _task_bench.spread([], 3)
        await _task_bench.spread([call] * 10, 3)
        await _task_bench.spread([call], 3)

    asyncio.run(main())
    assert (done, most) == (11, 3)


def test_methods_for_many_are_found_where_they_are_and_not_in_a_mock() -> None:
    class Some:
        def get_many(self, keys: Any) -> Any: ...

        set_many = None
        delete_many = 5

    class Lazy:
        def __getattr__(self, name: str) -> Any:
            return lambda *_: None

    assert _colours.many_of(Some(), awaited=False) == {"get_many"}
    assert _colours.many_of(Lazy(), awaited=False) == frozenset()
    assert _colours.many_of(None, awaited=True) == frozenset()
