"""Namespaces and tags: what is invalidated at once does not come back, whatever becomes of the marks in the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from resilient_cache import CachePolicy, Entry, Invalidation, MisuseError, Mode, Reason, ResilientCache, Source
from resilient_cache.entry import Stored
from resilient_cache.envelope import open_envelope, seal
from resilient_cache.marks import Mark
from resilient_cache.testing import Fault, FaultKind

from .stage import POLICY, Stage

Staged = Callable[..., Stage]

MARKED = replace(POLICY, epoch_ttl=4.0)
DOWN = Fault.raising(OSError("down"))
LOST = Fault.raising(OSError("the origin is down"))
EVERYTHING = ["all", "tag"]


def tagged(value: Any, *tags: str) -> Entry[Any]:
    return Entry(value, tags=tags or ("t",))


class Fleet:
    """A stage whose cache is the first of several processes, each a cache over the same store."""

    def __init__(self, stage: Stage, *, memory: int = 0, count: int = 3) -> None:
        self.stage = stage
        self.caches = [stage.cache, *(stage.another(memory=memory, policy=MARKED) for _ in range(count - 1))]

    def load(self, process: int, value: Any, key: str = "k", **options: Any) -> Any:
        return self.stage.run(self.caches[process].get_or_load, key, self.stage.loader(value), **options)

    def lookup(self, process: int, key: str = "k") -> Any:
        return self.stage.run(self.caches[process].lookup, key)

    def get(self, process: int, key: str = "k") -> Any:
        return self.stage.run(self.caches[process].get, key)

    def set(self, process: int, value: Any, key: str = "k") -> Any:
        return self.stage.run(self.caches[process].set, key, value)

    def invalidate(self, process: int, what: str) -> Any:
        cache = self.caches[process]
        return self.stage.run(cache.invalidate_all) if what == "all" else self.stage.run(cache.invalidate_tag, "t")

    def flush(self, process: int) -> Any:
        return self.stage.run(self.caches[process].flush, 1.0)

    def pass_time(self, seconds: float) -> None:
        self.stage.clock.advance(seconds)

    @property
    def marks(self) -> list[str]:
        return [key for key in self.stage.stored if key.startswith("laws!")]

    def warm(self, value: Any = "old") -> None:
        """Every process has the value, and knows the marks."""
        self.set(0, tagged(value))
        for process in range(len(self.caches)):
            assert self.get(process) == value


@pytest.fixture
def fleet(stage: Staged) -> Callable[..., Fleet]:
    def make(memory: int = 0, count: int = 3, **options: Any) -> Fleet:
        return Fleet(stage(memory=memory, policy=MARKED, **options), memory=memory, count=count)

    return make


def mark_in(there: Fleet, key: str) -> bytes:
    opened = open_envelope(there.stage.stored[key][0], b"laws!", key.removeprefix("laws!").encode(), b"mark")
    assert not isinstance(opened, Reason)
    return opened.payload


@pytest.mark.parametrize("what", EVERYTHING)
@pytest.mark.parametrize("memory", [0, 10])
def test_what_is_invalidated_is_gone_here_at_once_and_elsewhere_within_epoch_ttl(
    fleet: Callable[..., Fleet], what: str, memory: int
) -> None:
    there = fleet(memory)
    there.warm()
    assert there.invalidate(0, what) is Invalidation.CONFIRMED
    assert there.lookup(0).source is Source.NONE
    there.set(0, tagged("of another"), "another")
    there.pass_time(4.0)
    for process in (1, 2):
        assert there.get(process, "another") == "of another"  # not in memory here: the store is asked for the marks too
        assert there.lookup(process).source is Source.NONE
    assert there.load(0, tagged("new")) == "new"
    assert [there.get(process) for process in range(3)] == ["new"] * 3
    assert there.stage.loads == 1


@pytest.mark.parametrize("what", EVERYTHING)
def test_others_heed_it_within_epoch_ttl_though_they_asked_just_before(fleet: Callable[..., Fleet], what: str) -> None:
    there = fleet()
    there.warm()
    there.invalidate(0, what)
    there.load(0, tagged("new"))
    there.pass_time(3.9)
    for process in (1, 2):
        assert there.get(process) in ("new", None)
    there.pass_time(0.2)
    assert there.get(1) == there.get(2) == "new"
    assert there.stage.loads == 1


def test_a_tag_reaches_what_has_it_and_nothing_else(fleet: Callable[..., Fleet]) -> None:
    there = fleet(memory=10)
    there.set(0, tagged(1, "t", "u"), "both")
    there.set(0, tagged(2, "u"), "one")
    there.set(0, 3, "none")
    there.invalidate(0, "tag")
    assert [there.get(0, key) for key in ("both", "one", "none")] == [None, 2, 3]
    assert [there.get(1, key) for key in ("both", "one", "none")] == [None, 2, 3]


@pytest.mark.parametrize("what", EVERYTHING)
@pytest.mark.parametrize("memory", [0, 10])
def test_a_load_in_the_air_is_neither_kept_nor_written(fleet: Callable[..., Fleet], what: str, memory: int) -> None:
    there = fleet(memory, count=2)
    there.warm("warm")
    there.pass_time(61)

    def invalidated_meanwhile() -> Any:
        cache = there.caches[0]
        done = cache.invalidate_all() if what == "all" else cache.invalidate_tag("t")
        if there.stage.colour == "sync":
            return tagged("old")

        async def awaited() -> Any:
            await done
            return tagged("old")

        return awaited()

    assert there.load(0, invalidated_meanwhile) == "old"
    assert there.get(0) is None
    assert there.get(1) is None


@pytest.mark.parametrize("what", EVERYTHING)
def test_a_load_in_the_air_elsewhere_is_neither_kept_nor_written(fleet: Callable[..., Fleet], what: str) -> None:
    """Its process learns of the invalidation before the load ends, or readers refuse what it wrote."""
    there = fleet(memory=10, count=2)
    there.warm("warm")
    there.pass_time(55)
    there.set(0, tagged("of another"), "another")
    there.pass_time(6)

    def meanwhile() -> Any:
        zero, one = there.caches
        steps = [zero.invalidate_all if what == "all" else lambda: zero.invalidate_tag("t")]
        steps.append(lambda: one.get("another"))
        if there.stage.colour == "sync":
            for step in steps:
                step()
                there.pass_time(5)
            return tagged("old")

        async def awaited() -> Any:
            for step in steps:
                await step()
                there.pass_time(5)
            return tagged("old")

        return awaited()

    assert there.load(1, meanwhile) == "old"
    assert [there.get(0), there.get(1)] == [None, None]


@pytest.mark.parametrize("what", EVERYTHING)
@pytest.mark.parametrize("how", ["error", "black hole", "bypass", "read only"])
def test_what_the_store_has_not_acknowledged_is_owed(fleet: Callable[..., Fleet], what: str, how: str) -> None:
    there = fleet()
    there.warm()
    if how == "error":
        there.stage.plan.during(DOWN)
    elif how == "black hole":
        there.stage.plan.during(Fault.slow(9.0), "set")
    else:
        there.caches[0].mode = Mode.BYPASS if how == "bypass" else Mode.READ_ONLY
    assert there.invalidate(0, what) is Invalidation.PENDING
    assert there.caches[0].health()["pending_invalidations"] == 1
    there.stage.plan.calm()
    there.caches[0].mode = Mode.ON
    assert there.get(0) is None
    there.pass_time(40)
    assert there.flush(0) == 0
    there.pass_time(4)
    assert there.get(0) is None
    assert there.get(1) is None
    assert there.get(2) is None


@pytest.mark.parametrize("what", EVERYTHING)
@pytest.mark.parametrize("how", ["evicted", "garbled", "old data"])
def test_a_lost_mark_revives_nothing(fleet: Callable[..., Fleet], what: str, how: str) -> None:
    there = fleet()
    there.warm()
    before = dict(there.stage.stored)
    there.invalidate(0, what)
    for mark in there.marks:
        if how == "evicted":
            del there.stage.stored[mark]
        elif how == "garbled":
            there.stage.stored[mark] = (b"garbled", 1e9)
    if how == "old data":
        there.stage.stored.clear()
        there.stage.stored.update(before)
    for _ in range(3):
        there.pass_time(4.0)
        assert there.get(0) is None
        if how == "old data":  # only the one who knows better can tell
            there.flush(0)
            there.pass_time(4.0)
        assert there.get(1) is None
        assert there.get(2) is None


@pytest.mark.parametrize("what", EVERYTHING)
@pytest.mark.parametrize("memory", [0, 10])
def test_a_mark_that_is_lost_with_whoever_knew_it_revives_nothing(
    fleet: Callable[..., Fleet], what: str, memory: int
) -> None:
    """Those who are left know an older version, and that the mark is gone: they do not write theirs back."""
    there = fleet(memory)
    there.warm()
    there.set(0, tagged("kept"), "another")
    there.invalidate(0, what)
    there.stage.stored.pop("laws!", None)
    there.stage.stored.pop("laws!tag:t", None)
    there.pass_time(4.0)
    for process in (1, 2):
        assert there.get(process, "another") is None
        assert there.get(process) == ("old" if memory else None)  # within the bound, the life of a memory copy
    there.load(1, tagged("new"), "another")
    there.pass_time(4.0)
    there.load(1, tagged("new"), "third")
    assert there.get(2, "third") == "new"


@pytest.mark.parametrize("what", EVERYTHING)
def test_after_old_data_came_back_the_cache_works_again(fleet: Callable[..., Fleet], what: str) -> None:
    there = fleet(count=2)
    there.warm()
    before = dict(there.stage.stored)
    there.invalidate(0, what)
    there.stage.stored.update(before)
    there.pass_time(4.0)
    assert there.get(0) is None
    for _ in range(2):  # the first one began before the tag's mark was made anew
        there.load(0, tagged("new"))
    there.pass_time(4.0)
    assert [there.get(process) for process in (0, 1)] == ["new", "new"]


@pytest.mark.parametrize("what", EVERYTHING)
def test_a_mark_that_lands_late_revives_nothing_for_longer_than_the_second_look(
    fleet: Callable[..., Fleet], what: str
) -> None:
    """Somebody wrote the mark again, so that the store would not forget it, and that lands after an invalidation."""
    there = fleet()
    there.warm()
    before = {key: data for key, data in there.stage.stored.items() if key.startswith("laws!")}
    assert there.invalidate(0, what) is Invalidation.CONFIRMED
    there.stage.stored.update(before)
    assert there.get(2) == "old"  # which knows no better
    there.pass_time(5.0)
    there.stage.run(there.caches[0]._upkeep.step)
    there.pass_time(4.0)
    assert [there.get(process) for process in (0, 1, 2)] == [None] * 3
    asked = len(there.stage.adapter.calls)
    there.pass_time(9.0)
    there.stage.run(there.caches[0]._upkeep.step)
    assert len(there.stage.adapter.calls) == asked, "once is enough"


@pytest.mark.parametrize("what", EVERYTHING)
def test_a_mark_that_is_as_it_was_set_is_left_alone(fleet: Callable[..., Fleet], what: str) -> None:
    there = fleet(count=2)
    there.warm()
    there.invalidate(0, what)
    there.pass_time(5.0)
    there.load(0, tagged("new"))
    calls = there.stage.adapter.calls
    asked = len(calls)
    there.stage.plan.then("get", DOWN)
    there.stage.run(there.caches[0]._upkeep.step)  # the store is asked again later
    there.pass_time(9.0)
    there.stage.run(there.caches[0]._upkeep.step)
    assert there.get(0) == there.get(1) == "new"
    assert {call.operation for call in calls[asked:]} == {"get"}


@pytest.mark.parametrize("kind", [FaultKind.RAISE, FaultKind.LOST])
def test_a_mark_whose_write_failed_is_written_again_only_where_it_is_not(
    fleet: Callable[..., Fleet], kind: FaultKind
) -> None:
    """What had landed was found, and written over whatever had come between: an invalidation that was confirmed."""
    there = fleet(count=1)
    there.stage.plan.then("set", Fault(kind))
    there.load(0, "v")
    for _ in range(3):
        there.pass_time(1.9)
        there.load(0, "v")
    made = [call for call in there.stage.adapter.calls if call.operation == "set" and call.key == "laws!"]
    assert len(made) == (1 if kind is FaultKind.LOST else 2)


@pytest.mark.parametrize("what", EVERYTHING)
def test_an_invalidation_that_had_landed_is_made_anew(fleet: Callable[..., Fleet], what: str) -> None:
    """The same version, written again, might land on that of another process, and undo what was confirmed there."""
    there = fleet(count=2)
    there.warm()
    key = "laws!" if what == "all" else "laws!tag:t"
    there.stage.plan.then("set", Fault(FaultKind.LOST))
    assert there.invalidate(0, what) is Invalidation.PENDING
    landed = mark_in(there, key)
    assert there.flush(0) == 0
    assert mark_in(there, key) > landed


@pytest.mark.parametrize("what", EVERYTHING)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_nobody_joins_a_load_that_may_have_missed_it(fleet: Callable[..., Fleet], what: str, elsewhere: bool) -> None:
    there = fleet(memory=10, count=2)
    there.warm("warm")
    there.set(0, tagged("there"), "another")
    there.pass_time(61)
    local = there.caches[0]._rules.local
    request = there.caches[0]._rules.begin("k", loads=True)
    flight, _ = local.board(request, lambda: None, there.stage.clock.monotonic())
    there.caches[0]._rules.loads.begin(request, flight)
    there.invalidate(1 if elsewhere else 0, what)
    if elsewhere:
        there.load(1, tagged("new"), "another")
        there.load(1, tagged("new"), "another")
        there.get(0, "another")
    assert there.load(0, tagged("new")) == "new"
    assert flight.outcome is None


def test_a_load_that_began_before_an_invalidation_elsewhere_is_not_written(fleet: Callable[..., Fleet]) -> None:
    """Nobody would believe it."""
    there = fleet(count=2)
    there.warm("warm")
    there.pass_time(61)
    rules = there.caches[1]._rules
    request = rules.begin("k", loads=True)
    flight, _ = rules.local.board(request, lambda: None, there.stage.clock.monotonic())
    rules.loads.begin(request, flight)
    there.set(0, "v", "another")
    there.invalidate(0, "all")
    there.set(0, "v", "another")
    there.get(1, "another")
    request.answered = True
    flight.detached = False  # as if it had not been noticed
    _, draft = rules.loads.loaded(request, flight, "old")
    assert draft is None or rules.sealing.seal(request, draft) is None


@pytest.mark.parametrize("what", EVERYTHING)
def test_where_the_mark_cannot_be_read_an_entry_only_stands_in(fleet: Callable[..., Fleet], what: str) -> None:
    there = fleet(count=2)
    there.warm()
    there.pass_time(5)
    there.stage.plan.then("get", None, DOWN, DOWN)
    found = there.lookup(1)
    assert (found.source, found.reason) == (Source.NONE, Reason.UNMARKED)
    there.stage.plan.then("get", None, DOWN, DOWN)
    found = there.stage.run(there.caches[1].lookup, "k", there.stage.loader(OSError("origin")))
    assert (found.value, found.source, found.reason) == ("old", Source.STALE, Reason.UNMARKED)
    assert there.get(1) == "old"
    assert "refused_unmarked" not in there.caches[1].stats()
    there.invalidate(0, what)
    there.pass_time(5)
    assert there.get(1) is None


def test_a_process_that_knows_no_mark_believes_nothing(fleet: Callable[..., Fleet]) -> None:
    there = fleet(count=2)
    there.set(0, tagged("old"))
    there.stage.plan.then("get", None, DOWN, DOWN)
    found = there.stage.run(there.caches[1].lookup, "k", there.stage.loader("loaded"))
    assert (found.source, found.reason) == (Source.LOADER, Reason.UNMARKED)
    there.stage.plan.then("get", None, DOWN, DOWN)
    with pytest.raises(OSError, match="origin"):
        there.load(1, OSError("origin"))


def test_a_mark_is_asked_for_once_in_half_its_life(fleet: Callable[..., Fleet]) -> None:
    there = fleet(count=1)
    there.set(0, "v")
    calls: Any = there.stage.adapter.calls
    asked = [len(calls)]
    for _ in range(80):
        there.pass_time(0.1)
        assert there.get(0) == "v"
    asked = [call.key for call in calls[asked[0] :] if call.key.startswith("laws!")]
    assert len(asked) == 4  # in two lives


def test_what_the_store_says_of_marks_costs_no_more_than_the_timeout(fleet: Callable[..., Fleet]) -> None:
    there = fleet(count=1)
    there.stage.plan.during(Fault.slow(0.2), "get")
    began = there.stage.clock.monotonic()
    there.load(0, tagged("v"))
    # the entry (0.2 s of 0.25 s) and what is left for the mark of the namespace; then that of the tag
    assert there.stage.clock.monotonic() - began <= 0.5 + 1e-9


def test_a_value_set_with_a_new_tag_is_stored_at_once(fleet: Callable[..., Fleet]) -> None:
    there = fleet(count=2)
    assert there.set(0, tagged("v"))
    assert there.get(1) == "v"


def test_the_mark_of_a_loaded_tag_must_be_known_before_the_load(fleet: Callable[..., Fleet]) -> None:
    """Or an invalidation, and the loss of it, might lie inside the load."""
    there = fleet(count=2)
    there.load(0, tagged("first"))
    assert there.get(1) is None
    there.load(0, tagged("second"))
    assert there.get(1) == "second"


def test_marks_are_made_once_where_many_find_none(stage: Staged) -> None:
    there = Fleet(stage(policy=MARKED), count=1)
    there.load(0, "a", "a")
    there.load(0, "b", "b")
    sets = [call for call in there.stage.adapter.calls if call.operation == "set" and call.key.startswith("laws!")]
    assert len(sets) == 1
    assert there.get(0, "a") == "a"


def test_a_mark_is_written_again_before_the_store_forgets_it(fleet: Callable[..., Fleet]) -> None:
    there = fleet(count=1)
    there.set(0, "v")
    (mark,) = there.marks
    until = there.stage.stored[mark][1]
    there.pass_time(86_400 + 1)
    there.load(0, "w")
    assert there.stage.stored[mark][1] > until


def test_the_journal_that_forgets_owes_the_namespace(stage: Staged) -> None:
    there = Fleet(stage(policy=MARKED), count=2)
    there.set(0, "old", "first")
    assert there.get(1, "first") == "old"
    there.caches[0].mode = Mode.READ_ONLY
    there.stage.run(there.caches[0].invalidate, "first")
    for number in range(10_050):
        there.caches[0]._rules.local.invalidate(f"k{number}")
    assert there.caches[0].health()["pending_invalidations"] == 10_000
    there.caches[0].mode = Mode.ON
    journal = there.caches[0]._rules.local.journal
    names = {debt.name for debt in iter(lambda: journal.next_locked(1e9), None)}
    assert "kfirst" not in names
    assert "m" in names


@pytest.mark.parametrize("policy", [CachePolicy(epoch_ttl=None), CachePolicy()])
@pytest.mark.parametrize("what", EVERYTHING)
def test_where_there_is_no_store_marks_do_not_matter(what: str, policy: CachePolicy) -> None:
    cache: ResilientCache[str, Any] = ResilientCache(None, name="here", memory=5, policy=policy)
    cache.get_or_load("k", lambda _: tagged("v"))
    done = cache.invalidate_all() if what == "all" else cache.invalidate_tag("t")
    assert done is Invalidation.CONFIRMED
    assert cache.get("k") is None


@pytest.mark.parametrize("what", EVERYTHING)
def test_without_marks_it_is_misuse_where_there_is_a_store(stage: Staged, what: str) -> None:
    there = Fleet(stage(policy=POLICY), count=1)
    with pytest.raises(MisuseError, match="epoch_ttl must not be None"):
        there.invalidate(0, what)
    assert there.set(0, tagged("v"))
    assert there.get(0) == "v"


@pytest.mark.parametrize(
    ("tag", "complaint"),
    [(None, "must be a str, not NoneType"), ("\ud800", "lone surrogate"), ("", "1 to 1024"), ("ä" * 513, "not 1026")],
)
def test_a_tag_that_is_none_is_misuse(stage: Staged, tag: Any, complaint: str) -> None:
    there = stage(policy=MARKED)
    with pytest.raises(MisuseError, match=f"tag .*{complaint}"):
        there.invalidate_tag(tag)
    with pytest.raises(MisuseError, match=rf"Entry\.tags .*{complaint}"):
        Entry("v", tags=(tag,))
    assert there.adapter.calls == []


@pytest.mark.parametrize(("tags", "complaint"), [("t", "not str"), (5, "not int"), ([*map(str, range(17))], "not 17")])
def test_tags_that_are_none_are_misuse(tags: Any, complaint: str) -> None:
    with pytest.raises(MisuseError, match=rf"Entry\.tags must be .*{complaint}"):
        Entry("v", tags=tags)
    assert Entry("v", tags=["b", "a", "b"]).tags == ("b", "a")


def test_a_value_that_is_invalidated_while_its_marks_are_asked_for_is_not_written(stage: Staged) -> None:
    there = stage(policy=MARKED)
    there.set("k", "known")
    rules = there.cache._rules
    request = rules.begin("k", forced=True)
    draft = rules.place(request, "old", None)
    assert rules.sealing.seal(request, draft) is not None
    rules.local.invalidate("k")
    assert rules.sealing.seal(request, draft) is None


@pytest.mark.parametrize("what", ["", "tag:t", "tag:unknown"])
def test_what_peers_tell_of_a_mark_holds_at_once(fleet: Callable[..., Fleet], what: str) -> None:
    there = fleet(memory=10, count=2)
    there.warm()
    there.caches[1]._rules.local.heard([f"m{what}"])
    assert there.caches[1]._rules.local.marks.due(what, there.stage.clock.monotonic())
    assert there.get(1) == ("old" if what == "tag:unknown" else None)


@pytest.mark.parametrize("what", ["", "tag:t"])
def test_what_an_earlier_process_was_owed_of_a_mark_holds_here(fleet: Callable[..., Fleet], what: str) -> None:
    there = fleet(memory=10, count=2)
    there.warm()
    local = there.caches[1]._rules.local
    local.remember(f"m{what}", local.stamps.next())
    assert there.get(1) is None
    assert there.caches[1].health()["pending_invalidations"] == 1


@pytest.mark.parametrize("payload", [b"short", bytes(16), b"\xff" * 16, b"\0" * 7 + b"\1" + b"\0" * 7 + b"\2"])
def test_a_mark_that_is_none_is_as_good_as_lost(stage: Staged, payload: bytes) -> None:
    there = stage(policy=MARKED)
    entry = Stored(1, 2, 2, 3, payload)
    there.stored["laws!"] = (seal(b"laws!", b"", b"mark", entry), 1e9)
    assert there.set("k", "v")
    assert there.get("k") == "v"


class Midway:
    """A codec in whose `decode` something else happens."""

    id = "midway"

    def __init__(self) -> None:
        self.meanwhile: Callable[[], None] | None = None

    def encode(self, value: Any) -> bytes:
        return str(value).encode()

    def decode(self, data: bytes) -> Any:
        if self.meanwhile is not None:
            self.meanwhile()
        return data.decode()


def test_what_is_opened_while_an_invalidation_is_learned_of_is_not_kept(stage: Staged) -> None:
    """By another thread: who reads it has it, and nobody after."""
    codec = Midway()
    there = stage(policy=MARKED, codec=codec)
    reader = there.another(memory=10)
    for key in ("k", "another"):
        there.set(key, "old")
    assert there.run(reader.get, "another") == "old"  # it knows the mark, and the time
    there.clock.advance(0.05)
    local = reader._rules.local
    version = (local.stamps.at(there.clock.monotonic()) + 1) << 12
    codec.meanwhile = lambda: local.learn("", Mark(version, version), there.clock.monotonic())
    there.run(reader.get, "k")
    codec.meanwhile = None
    assert local.marks.namespace.invalidated == version
    assert there.run(reader.get, "k") is None
