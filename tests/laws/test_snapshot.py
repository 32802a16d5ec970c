"""Snapshots: what an earlier process left is served as that process would have served it, or not at all."""

from __future__ import annotations

import errno
import logging
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_cache import AsyncResilientCache, CachePolicy, Entry, Lookup, MisuseError, Mode, NotFound, ResilientCache
from resilient_cache.codecs import JsonCodec
from resilient_cache.entry import Stored
from resilient_cache.envelope import open_envelope
from resilient_cache.events import SnapshotRead, SnapshotWritten
from resilient_cache.outcome import AfterOutage, Reason, Source
from resilient_cache.snapshots import decode, encode
from resilient_cache.testing import AsyncLocalBackplane, Fault, FaultKind, LocalBackplane

from .stage import POLICY, Stage
from .test_durable import Disk

DOWN = Fault(FaultKind.RAISE)
MARKED = replace(POLICY, epoch_ttl=5.125)
Make = Callable[..., Stage]

KEYS = ("a", "b", "c")
loads = st.tuples(
    st.just("load"), st.sampled_from(KEYS), st.sampled_from([0.0625, 2.125, 9.125]), st.sampled_from([0.0, 4.0, 30.0])
)
steps = st.lists(
    st.one_of(
        loads,
        loads,
        st.tuples(st.just("invalidate"), st.sampled_from(KEYS)),
        st.tuples(st.just("advance"), st.sampled_from([0.5, 1.0, 3.0, 8.0])),
    ),
    max_size=12,
)
gaps = st.sampled_from([0.0, 0.5, 2.0, 6.0, 20.0, 60.0])


def seen(stage: Stage, cache: Any, key: str) -> tuple[Source, Any]:
    """What `key` comes to while the origin fails."""

    def fail() -> Any:
        raise OSError("the origin is down")

    try:
        found = stage.run(cache.lookup, key, stage.loader(fail))
    except OSError:
        return Source.NONE, None
    return found.source, found.value


@pytest.mark.parametrize("colour", ["sync", "async"])
@settings(max_examples=40)
@given(steps=steps, later=gaps)
def test_a_later_process_serves_what_the_earlier_one_would(
    colour: str, steps: list[Any], later: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Against a model of three lines, after any time."""
    path = tmp_path_factory.getbasetemp() / f"later-{colour}"
    stage = Stage(colour, memory=10)
    stage.plan.during(DOWN)
    model: dict[str, tuple[float, float, float]] = {}  # key -> born, ttl, stale_for
    for number, (op, *args) in enumerate(steps):
        now = stage.clock.monotonic()
        if op == "load":
            key, ttl, stale_for = args
            stage.refresh(key, stage.loader(Entry(number, ttl=ttl, stale_for=stale_for)))
            model[key] = (now, ttl, stale_for)
        elif op == "invalidate":
            stage.invalidate(*args)
            model.pop(args[0], None)
        else:
            stage.clock.advance(*args)
    at = stage.clock.monotonic()
    alive = {key for key, (born, ttl, stale) in model.items() if at < born + ttl + stale}
    assert stage.snapshot(path) == len(alive)
    stage.clock.advance(later)
    now = stage.clock.monotonic()
    right: dict[str, Source] = dict.fromkeys(KEYS, Source.NONE)
    for key, (born, ttl, stale) in model.items():
        right[key] = Source.MEMORY if now < born + ttl else Source.STALE if now < born + ttl + stale else Source.NONE
    second = stage.another()
    taken = stage.run(second.restore, path)
    assert taken == sum(source is not Source.NONE for source in right.values())
    for key in KEYS:
        answer = seen(stage, second, key)
        assert answer[0] is right[key]
        assert answer == seen(stage, stage.cache, key)
    stage.run_behind()


@pytest.mark.parametrize("colour", ["sync", "async"])
@settings(max_examples=40)
@given(data=st.data())
def test_nothing_of_a_damaged_file_is_served(
    colour: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"damaged-{colour}"
    stage = Stage(colour, memory=10)
    for key in KEYS:
        stage.set(key, f"value of {key}")
    assert stage.snapshot(path) == 3
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(whole[:place])
    else:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :])
    second = stage.another()
    stage.plan.during(DOWN)
    assert stage.run(second.restore, path) == 0
    assert second.health()["memory_entries"] == 0
    assert [name for name in second.stats() if name.startswith("snapshot_refused_")]
    stage.run_behind()


def kept(stage: Stage, path: Path, **options: Any) -> Any:
    """A later process that has read the file."""
    second = stage.another(**options)
    stage.run(second.restore, path)
    return second


def value(stage: Stage, cache: Any, key: str) -> Any:
    return stage.run(cache.get, key)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "regions.snapshot"


def test_the_age_is_the_true_one_but_for_the_skew(stage: Make, path: Path) -> None:
    first = stage(memory=10)
    first.load("k", "v")
    first.clock.advance(10)
    first.snapshot(path)
    first.clock.advance(20)
    found: Lookup[Any] = first.run(kept(first, path).lookup, "k")
    assert found.source is Source.MEMORY
    assert found.age == pytest.approx(31, abs=0.01)  # as of any entry of another process: 2 * skew more


def test_a_newer_value_stays_and_so_does_a_newer_none(stage: Make, path: Path) -> None:
    first = stage(memory=10)
    for key in KEYS:
        first.set(key, "old")
    first.snapshot(path)
    first.plan.during(DOWN)
    second = first.another()
    first.clock.advance(3)
    first.run(second.get_or_load, "a", first.loader("new"))
    with pytest.raises(NotFound):
        first.run(second.get_or_load, "b", first.loader(NotFound()))
    assert first.run(second.restore, path) == 1
    assert value(first, second, "a") == "new"
    assert first.run(second.lookup, "b").source is Source.NEGATIVE
    assert value(first, second, "c") == "old"
    assert first.run(second.restore, path) == 0  # it is there already


def test_what_is_older_than_a_none_that_has_passed_is_taken_all_the_same(stage: Make, path: Path) -> None:
    """A remembered "there is none" of before the entry's load says nothing about it."""
    first = stage(memory=10)
    second = first.another(adapter=None)
    with pytest.raises(NotFound):
        first.run(second.get_or_load, "k", first.loader(NotFound()))
    first.clock.advance(5)
    first.set("k", "born since")
    first.snapshot(path)
    first.plan.during(DOWN)
    assert first.run(second.restore, path, fresh=False) == 1
    assert seen(first, second, "k") == (Source.STALE, "born since")


def test_an_invalidation_of_this_process_stands(stage: Make, path: Path) -> None:
    """Before the snapshot, after it, and in the process that reads it."""
    first = stage(memory=10)
    for key in KEYS:
        first.set(key, "old")
    first.plan.during(DOWN)
    first.invalidate("a")
    assert first.snapshot(path) == 2
    first.invalidate("b")
    assert first.restore(path) == 0
    assert first.lookup("b").source is Source.NONE
    second = first.another()
    first.run(second.invalidate, "c")
    assert first.run(second.restore, path) == 1
    assert value(first, second, "c") is None
    assert value(first, second, "b") == "old"  # as any other process would read it that was not told


def test_what_was_loaded_after_a_pending_invalidation_is_kept(stage: Make, path: Path) -> None:
    first = stage(memory=10)
    first.set("k", "old")
    first.plan.during(DOWN)
    first.invalidate("k")
    first.load("k", "new")
    assert first.snapshot(path) == 1
    assert value(first, kept(first, path), "k") == "new"


def test_the_durable_journal_is_read_first(stage: Make, path: Path) -> None:
    """What an earlier process still owed is not taken from the file either."""
    disk = Disk()
    first = stage(memory=10, journal=disk)
    first.set("k", "old")
    first.snapshot(path)
    first.plan.during(DOWN)
    first.invalidate("k")
    second = first.another(journal=disk)
    assert first.run(second.restore, path) == 0
    assert value(first, second, "k") is None


def test_with_marks_an_entry_is_fresh_when_the_store_says_so(stage: Make, path: Path) -> None:
    first = stage(memory=10, policy=MARKED)
    first.load("k", "v")
    first.snapshot(path)
    assert seen(first, kept(first, path), "k") == (Source.MEMORY, "v")


def test_with_marks_an_entry_stands_in_when_the_store_is_down(stage: Make, path: Path) -> None:
    """The case that snapshots are for: store and origin are gone, and a process starts."""
    first = stage(memory=10, policy=MARKED)
    first.set("k", "v")
    first.snapshot(path)
    first.plan.during(DOWN)
    second = kept(first, path)
    assert value(first, second, "k") is None
    assert seen(first, second, "k") == (Source.STALE, "v")
    assert first.run(second.get_or_load, "k", first.loader("new")) == "v"  # for `stale_retry`
    first.clock.advance(1.125)
    assert first.run(second.get_or_load, "k", first.loader("new")) == "new"


@pytest.mark.parametrize("up", [True, False])
def test_what_was_invalidated_with_all_others_since_is_gone(stage: Make, path: Path, up: bool) -> None:
    """If the store can be asked it is not taken, else it goes as soon as the store is heard."""
    first = stage(memory=10, policy=MARKED)
    first.set("k", "old")
    first.snapshot(path)
    first.clock.advance(10)
    first.invalidate_all()
    if not up:
        first.plan.during(DOWN)
    second = kept(first, path)
    if not up:
        assert seen(first, second, "k") == (Source.STALE, "old")
        first.plan.calm()
        first.clock.advance(10)
        value(first, second, "other")
    assert seen(first, second, "k") == (Source.NONE, None)


@pytest.mark.parametrize("policy", [POLICY, MARKED])
def test_tags_come_back_with_the_entries(stage: Make, path: Path, policy: CachePolicy) -> None:
    first = stage(memory=10, policy=policy)
    for _ in range(2):  # the first time nobody knows yet how old the tag is
        first.clock.advance(5)
        first.refresh("k", first.loader(Entry("v", tags=("t",))))
    first.snapshot(path)
    make: Any = ResilientCache if first.colour == "sync" else AsyncResilientCache
    alone = make(None, name="laws", memory=10, clock=first.clock)
    first.run(alone.restore, path)
    assert value(first, alone, "k") == "v"
    first.run(alone.invalidate_tag, "t")
    assert value(first, alone, "k") is None


def test_a_tag_that_nobody_has_asked_for_may_stand_in(stage: Make, path: Path) -> None:
    first = stage(memory=10, policy=MARKED)
    first.load("k", lambda: Entry("v", tags=("t",)))
    first.snapshot(path)
    first.plan.during(DOWN)
    assert seen(first, kept(first, path), "k") == (Source.STALE, "v")


def test_a_tag_whose_mark_is_younger_than_the_load_lets_nothing_be_fresh(stage: Make, path: Path) -> None:
    first = stage(memory=10, policy=MARKED)
    first.load("k", lambda: Entry("v", tags=("new",)))
    first.load("l", "v")
    first.snapshot(path)
    with path.open("rb") as file:
        data = dict(decode(file.read, path.stat().st_size, b"laws", b"json"))
    fresh_until = {}
    for key, envelope in data.items():
        stored = open_envelope(envelope, b"laws", key.encode(), b"json")
        assert isinstance(stored, Stored)
        fresh_until[key] = stored.fresh_until
    assert fresh_until["k"] == 0
    assert fresh_until["l"] > 0


def test_what_may_have_missed_an_invalidation_with_a_lost_mark_is_not_fresh(stage: Make, path: Path) -> None:
    first = stage(memory=10, policy=MARKED)
    first.set("k", "v")
    first.clock.advance(10)
    first.stored.clear()  # the mark is lost, and another is made
    first.load("other", "v")
    first.snapshot(path)
    second = kept(first, path)
    first.stored.pop("laws:k", None)
    assert value(first, second, "other") == "v"
    assert seen(first, second, "k") == (Source.STALE, "v")


def test_where_a_backplane_was_not_heard_everything_may_only_stand_in(stage: Make, path: Path) -> None:
    first = stage(memory=10)
    first.set("k", "v")
    first.snapshot(path)
    plane: Any = LocalBackplane() if first.colour == "sync" else AsyncLocalBackplane()
    second = first.another(backplane=plane, mode=Mode.MEMORY_ONLY)  # in which nobody begins to listen either
    assert first.run(second.restore, path) == 1
    assert seen(first, second, "k") == (Source.STALE, "v")


@pytest.mark.parametrize("trust", AfterOutage)
def test_after_an_outage_it_is_what_after_outage_says(stage: Make, path: Path, trust: AfterOutage) -> None:
    first = stage(memory=10, policy=replace(POLICY, after_outage=trust))
    first.set("k", "v")
    first.snapshot(path)
    second = first.another()
    first.plan.during(DOWN)
    for _ in range(5):
        value(first, second, "other")
    first.plan.calm()
    for _ in range(4):
        first.clock.advance(5)
        value(first, second, "other")
        first.run_behind()
    first.stored.clear()
    taken = first.run(second.restore, path)
    right = {AfterOutage.TRUST: Source.MEMORY, AfterOutage.REVALIDATE: Source.STALE, AfterOutage.DISCARD: Source.NONE}
    assert taken == (trust is not AfterOutage.DISCARD)
    assert seen(first, second, "k")[0] is right[trust]


def test_the_caller_may_want_nothing_fresh(stage: Make, path: Path) -> None:
    first = stage(memory=10)
    first.set("k", "v")
    first.snapshot(path)
    first.plan.during(DOWN)
    second = first.another()
    assert first.run(second.restore, path, fresh=False) == 1
    assert seen(first, second, "k") == (Source.STALE, "v")


def test_what_stands_in_is_kept_as_well(stage: Make, path: Path) -> None:
    """Without memory the earlier process had nothing but what stood in; it is not fresh."""
    first = stage(memory=0)
    first.set("k", "v")
    first.clock.advance(61)
    assert seen(first, first.cache, "k") == (Source.STALE, "v")
    first.plan.during(DOWN)
    assert first.snapshot(path) == 1
    second = kept(first, path, memory=10)
    assert value(first, second, "k") is None
    assert seen(first, second, "k") == (Source.STALE, "v")
    assert first.run(first.another().restore, path) == 0  # where there is no memory there is no room
    first.clock.advance(300)
    assert first.snapshot(path) == 0


def test_what_stands_in_and_is_gone_or_in_memory_is_not_written_twice(stage: Make, path: Path) -> None:
    first = stage(memory=10)
    first.set("k", "v")
    first.clock.advance(61)
    assert seen(first, first.cache, "k") == (Source.STALE, "v")
    assert first.snapshot(path) == 1
    first.clock.advance(400)
    assert first.snapshot(path) == 0


def test_with_little_room_what_was_asked_for_comes_first_and_pushes_nothing_out(stage: Make, path: Path) -> None:
    first = stage(memory=10)
    for key in "abcdefgh":
        first.set(key, key)
    for key in "gh":
        first.get(key)
    first.snapshot(path)
    first.plan.during(DOWN)
    second = first.another(memory=3)
    first.run(second.get_or_load, "mine", first.loader("mine"))
    assert first.run(second.restore, path) == 2
    assert [key for key in "abcdefgh" if value(first, second, key)] == ["g", "h"]
    assert value(first, second, "mine") == "mine"


def test_a_value_that_cannot_be_encoded_is_left_out(stage: Make, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "resilient_cache")  # whatever others have made of it
    told: list[Any] = []
    first = stage(memory=10, hooks=[told.append])
    first.plan.during(DOWN)
    first.load("odd", lambda: {1, 2})
    first.load("odd too", lambda: {3})
    first.load("even", "v")
    before = first.stats()["not_stored"] if "not_stored" in first.cache.stats() else 0
    del told[:]
    assert first.snapshot(path) == 1
    assert [event for event in told if not isinstance(event, SnapshotWritten)] == []
    assert told == [SnapshotWritten("laws", 1, 2)]
    assert first.stats()["not_stored"] == before + 2
    assert sum("set is not stored" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, Reason.ABSENT),
        (b"", Reason.CORRUPT),
        (b"not a snapshot, but long enough to be taken for one\n" * 3, Reason.CORRUPT),
    ],
)
def test_a_file_that_is_none_is_counted_told_and_logged(
    stage: Make, path: Path, caplog: pytest.LogCaptureFixture, data: bytes | None, reason: Reason
) -> None:
    caplog.set_level(logging.WARNING, "resilient_cache")
    told: list[object] = []
    first = stage(memory=10, hooks=[told.append])
    if data is not None:
        path.write_bytes(data)
    assert first.restore(path) == 0
    assert told == [SnapshotRead("laws", 0, reason)]
    assert first.cache.stats()[f"snapshot_refused_{reason}"] == 1
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == (reason is not Reason.ABSENT)  # that there is none yet is how every service begins


def test_another_caches_and_another_codecs_are_refused(stage: Make, path: Path) -> None:
    first = stage(memory=10)
    first.set("k", "v")
    first.snapshot(path)
    for options, reason in (({"name": "other"}, Reason.WRONG_KEY), ({"type": bytes}, Reason.CODEC)):
        second = kept(first, path, **options)
        assert second.stats()[f"snapshot_refused_{reason}"] == 1
        assert second.health()["memory_entries"] == 0


def test_a_folder_cannot_be_read_and_not_be_written(stage: Make, tmp_path: Path) -> None:
    first = stage(memory=10)
    assert first.restore(tmp_path) == 0
    assert first.cache.stats()["snapshot_refused_error"] == 1
    with pytest.raises(OSError, match="not a file"):
        first.snapshot(tmp_path)
    with pytest.raises(FileNotFoundError):
        first.snapshot(tmp_path / "nowhere" / "file")
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_is_no_snapshot_and_nobody_waits_for_what_comes_out_of_it(stage: Make, path: Path) -> None:
    os.mkfifo(path)
    first = stage(memory=10)
    assert first.restore(path) == 0
    assert first.cache.stats()["snapshot_refused_error"] == 1


def test_a_snapshot_takes_the_place_of_a_file_only(stage: Make, path: Path) -> None:
    """Or whoever gives /dev/null as the path would be left without it. Also where a link leads there."""
    os.mkfifo(path)
    link = path.with_name("link")
    link.symlink_to(path)
    for name in (path, link):
        with pytest.raises(OSError, match="not a file"):
            stage(memory=10).snapshot(name)
    assert path.is_fifo()
    assert sorted(path.parent.iterdir()) == sorted([path, link])


def test_a_damaged_size_that_there_is_no_room_for_is_a_file_that_cannot_be_read(
    stage: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stage(memory=10)
    first.set("k", "v")
    assert first.snapshot(path) == 1

    def decode(*_: object) -> Any:
        raise MemoryError

    monkeypatch.setattr("resilient_cache._keeping.decode", decode)
    assert first.restore(path) == 0
    assert first.cache.stats()["snapshot_refused_error"] == 1


def test_an_entry_that_is_damaged_inside_is_left_out(stage: Make, path: Path) -> None:
    """Somebody wrote a file that is whole around an envelope that is not."""
    first = stage(memory=10)
    first.set("a", "v")
    first.set("b", "v")
    first.snapshot(path)
    with path.open("rb") as file:
        entries = [(key.encode(), data) for key, data in decode(file.read, path.stat().st_size, b"laws", b"json")]
    (a, of_a), (b, of_b) = entries
    path.write_bytes(b"".join(encode(b"laws", b"json", [(a, of_b), (b, of_b[:-1] + b"x"), (b, of_b)])))
    first.plan.during(DOWN)
    second = first.another()
    assert first.run(second.restore, path) == 1
    assert value(first, second, "a") is None
    assert of_a


def test_a_failed_write_leaves_the_old_file(stage: Make, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = stage(memory=10)
    first.set("k", "v")
    first.snapshot(path)
    old = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        first.snapshot(path)
    assert path.read_bytes() == old
    assert list(path.parent.iterdir()) == [path]


def test_the_file_is_for_this_user_and_a_link_stays_one(stage: Make, tmp_path: Path) -> None:
    first = stage(memory=10)
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    first.snapshot(link)
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o600


def test_what_killed_processes_left_is_swept_away(stage: Make, path: Path) -> None:
    first = stage(memory=10)
    left, young, foreign = (
        path.with_name(name) for name in (f".{path.name}.1-a.tmp", f".{path.name}.2-b.tmp", "x.tmp")
    )
    for file in (left, young, foreign):
        file.write_bytes(b"part of one")
    for file in (left, foreign):
        os.utime(file, (1, 1))
    first.snapshot(path)
    assert sorted(path.parent.iterdir()) == sorted([path, young, foreign])


@pytest.mark.parametrize("bad", [None, 7, b"bytes", "", "a\0b", "\ud800", ["x"]])
@pytest.mark.parametrize("call", ["snapshot", "restore"])
def test_a_path_that_names_no_file_is_misuse(stage: Make, call: str, bad: object) -> None:
    with pytest.raises(MisuseError, match="path must"):
        getattr(stage(memory=10), call)(bad)


@pytest.mark.parametrize("call", ["snapshot", "restore"])
def test_a_closed_cache_is_misuse(stage: Make, path: Path, call: str) -> None:
    first = stage(memory=10)
    first.run(first.cache.close if first.colour == "sync" else first.cache.aclose)
    with pytest.raises(MisuseError, match="closed"):
        getattr(first, call)(path)
    assert not path.exists()


@pytest.mark.parametrize("mode", ["bypass", "memory_only"])
def test_a_mode_that_touches_no_store_asks_it_for_no_mark(stage: Make, path: Path, mode: str) -> None:
    first = stage(memory=10, policy=MARKED)
    first.set("k", "v")
    first.snapshot(path)
    calls = len(first.adapter.calls)
    second = first.another(mode=Mode(mode))
    assert first.run(second.restore, path) == 1
    assert len(first.adapter.calls) == calls


def test_an_entry_invalidated_while_it_is_kept_is_not_kept(stage: Make, path: Path) -> None:
    """A finalizer of what is pushed out may invalidate in the very thread that keeps."""
    first = stage(memory=10)
    first.set("k", "v")
    first.snapshot(path)
    first.plan.during(DOWN)
    second = first.another()
    local = second._rules.local
    put = local.memory.put_locked

    def meddled(key: str, *args: Any) -> bool:
        kept = bool(put(key, *args))
        local.fences.raise_locked(key, local.stamps.next())
        return kept

    class Around:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return meddled if name == "put_locked" else getattr(self.inner, name)

        def __len__(self) -> int:
            return len(self.inner)

    local.memory = Around(local.memory)
    assert first.run(second.restore, path) == 0
    assert second.health()["memory_entries"] == 0


def test_a_load_during_which_messages_were_missed_may_stand_in(stage: Make, path: Path) -> None:
    """As what was in memory by then; or a process whose backplane is down would have little to leave."""
    first = stage(memory=10)
    first.plan.during(DOWN)

    def give() -> str:
        first.clock.advance(1)
        first.cache._rules.local.distrust()
        return "v"

    first.load("k", give)
    assert first.lookup("k").source is Source.NONE
    assert seen(first, first.cache, "k") == (Source.STALE, "v")
    assert first.snapshot(path) == 1


def test_what_is_invalidated_while_the_file_is_written_is_not_in_it(stage: Make, path: Path) -> None:
    class Meddling(JsonCodec[Any]):  # type: ignore[misc]
        """Somebody invalidates the second key while the first is encoded."""

        def encode(self, value: Any, /) -> bytes:
            first.cache._rules.local.invalidate("b")
            return super().encode(value)

    first = stage(memory=10, codec=Meddling())
    first.plan.during(DOWN)
    for key in KEYS:
        first.load(key, "v")
    assert first.snapshot(path) == 2


def test_ten_thousand_entries_are_no_matter(stage: Make, path: Path) -> None:
    """They fit through a few megabytes: nothing holds the whole file."""
    first = stage(memory=10_000, policy=replace(POLICY, timeout=60))
    first.plan.during(DOWN)
    local = first.cache._rules.local
    for number in range(10_000):
        local.memory.put_locked(str(number), "x" * 1_000, 2_000.0, 2_000.0, local.stamps.next())
    tracemalloc.start()
    try:
        assert first.snapshot(path) == 10_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 10_000_000
    assert peak < 3_000_000
