"""The memory tier: bounded, in step with itself after every operation, and worth having."""

from __future__ import annotations

from bisect import bisect
from collections import OrderedDict
from itertools import accumulate
from random import Random
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resilient_cache.memory import FRESH, PAST, PLACE, STAMP, TAGS, Memory


class Key(str):
    """A key whose hash is its number, so that places and ghosts are the same in every run."""

    __slots__ = ()

    def __hash__(self) -> int:
        return int(self)

    def __eq__(self, other: object) -> bool:
        return str(self) == other


def check_invariants(memory: Memory[object]) -> None:
    """Those of the module docstring, and that nothing points past the ends."""
    keys, entries = memory._keys, memory.entries
    assert len(memory) == len(entries) <= memory.capacity
    assert len(keys) == len(memory.marks) == len(memory._ghosts) == memory.capacity
    for key, entry in entries.items():
        assert keys[entry[PLACE]] == key
    assert set(memory.marks) <= {0, 1}
    assert not any(memory.marks[place] for place in memory._free)
    taken = [entry[PLACE] for entry in entries.values()]  # each place is taken, free or was never used: nothing leaks
    assert sorted([*taken, *memory._free, *range(memory._unused, memory.capacity)]) == list(range(memory.capacity))
    if memory.capacity:
        assert 0 <= memory._small_hand < memory._main_start <= memory.capacity
        assert memory._main_start <= memory._main_hand <= memory.capacity


def put(memory: Memory[object], key: str, stamp: int = 1) -> bool:
    return memory.put_locked(key, f"value of {key}", 10.0, 20.0, stamp)


def ask(memory: Memory[object], key: str) -> bool:
    """One use: a hit, or a miss that is then kept."""
    if memory.get(key) is not None:
        return True
    put(memory, key)
    return False


class MemoryMachine(RuleBasedStateMachine):
    KEYS = st.integers(0, 14).map(lambda number: Key(str(number)))

    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory[object](0)
        self.newest: dict[str, tuple[object, float, float, int]] = {}

    @initialize(capacity=st.sampled_from([0, 1, 2, 3, 10]))
    def of(self, capacity: int) -> None:
        self.memory = Memory[object](capacity)

    @rule(key=KEYS, stamp=st.integers(1, 6), fresh=st.sampled_from([1.0, 2.0]))
    def put(self, key: str, stamp: int, fresh: float) -> None:
        there = self.memory.entries.get(key)
        full = len(self.memory) == self.memory.capacity
        before = len(self.memory)
        kept = self.memory.put_locked(key, (key, stamp), fresh, fresh + 1, stamp)
        assert kept is (self.memory.capacity > 0 and (there is None or there[STAMP] <= stamp))
        if kept:
            self.newest[key] = ((key, stamp), fresh, fresh + 1, stamp)
            assert key in self.memory.entries
            assert len(self.memory) == before + (there is None and not full)

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        entry = self.memory.get(key)
        assert (entry is None) is (key not in self.memory.entries)
        if entry is not None:
            assert self.memory.marks[entry[PLACE]] == 1

    @rule(key=KEYS)
    def drop(self, key: str) -> None:
        self.memory.drop_locked(key)
        assert self.memory.get(key) is None
        self.newest.pop(key, None)

    @invariant()
    def is_whole_and_holds_only_what_was_put_last(self) -> None:
        check_invariants(self.memory)
        for key, entry in self.memory.entries.items():
            assert entry[:PLACE] == self.newest[key]
            assert type(entry) is tuple


TestMemory = MemoryMachine.TestCase


def test_an_entry_is_a_plain_tuple_in_its_known_order() -> None:
    memory = Memory[object](10)
    assert memory.put_locked("k", "v", 1.0, 2.0, 3)
    entry = memory.get("k")
    assert entry is not None
    assert entry[:4] == ("v", 1.0, 2.0, 3)
    assert entry[STAMP] == 3
    assert memory.get("other") is None


def test_the_longer_way_begins_early_and_the_freshness_ends_when_it_did() -> None:
    memory = Memory[object](10)
    assert memory.put_locked("k", "v", 10.0, 20.0, 3, ("t",), 2.5)
    assert memory.entries["k"] == ("v", 7.5, 20.0, 3, 0, ("t",), 10.0)
    assert memory.entries["k"][FRESH] == 10.0


def test_who_writes_while_all_expires_is_not_overwritten() -> None:
    """In the same thread, as a finalizer: an entry that is new stays as it is, and what was dropped stays away."""

    class Sly(dict[str, Any]):
        asked = 0

        def get(self, key: str, default: Any = None) -> Any:
            found = super().get(key, default)
            Sly.asked += 1
            if Sly.asked == 1:
                memory.put_locked("a", "new", 10.0, 20.0, 5)
                memory.put_locked("c", "more", 10.0, 20.0, 6)
                del self["b"]
            return found

    memory = Memory[object](4)
    for stamp, key in enumerate("ab"):
        memory.put_locked(key, "old", 10.0, 20.0, stamp)
    memory.entries = Sly(memory.entries)
    memory.expire_locked()
    assert {key: (entry[0], entry[FRESH]) for key, entry in memory.entries.items()} == {
        "a": ("new", 10.0),
        "c": ("more", 10.0),
    }


def test_what_is_expired_is_past_in_both_and_else_what_it_was() -> None:
    memory = Memory[object](4)
    memory.put_locked("a", "v", 10.0, 20.0, 3, ("t", "u"), 2.5)
    memory.put_locked("b", "w", 11.0, 21.0, 4)
    memory.expire_locked()
    assert memory.entries == {
        "a": ("v", PAST, 20.0, 3, 0, ("t", "u"), PAST),
        "b": ("w", PAST, 21.0, 4, 1, (), PAST),
    }
    memory.drop_older_locked(9, "u")
    assert list(memory.entries) == ["b"]


def test_what_is_cleared_is_forgotten_with_its_marks_and_its_tags() -> None:
    memory = Memory[object](3)
    for number, key in enumerate("abc"):
        memory.put_locked(key, key, 1.0, 2.0, number, ("t", key))
        memory.get(key)
    memory.clear_locked()
    assert (len(memory), any(memory.marks), memory._tagged) == (0, False, {})
    check_invariants(memory)


def test_an_older_stamp_never_replaces_a_newer_one_and_an_equal_one_does() -> None:
    memory = Memory[object](10)
    for value, stamp, kept in [("new", 5, True), ("old", 4, False), ("same", 5, True), ("newer", 6, True)]:
        assert memory.put_locked("k", value, 1.0, 2.0, stamp) is kept
        assert (memory.entries["k"][0] == value) is kept
    assert len(memory) == 1


def test_without_room_nothing_is_kept_and_nothing_raises() -> None:
    memory = Memory[object](0)
    assert not put(memory, "k")
    assert memory.get("k") is None
    memory.drop_locked("k")
    check_invariants(memory)


@pytest.mark.parametrize("capacity", [1, 2, 3, 10, 25])
def test_nothing_is_evicted_while_there_is_room(capacity: int) -> None:
    memory = Memory[object](capacity)
    keys = [Key(str(number)) for number in range(3 * capacity)]
    for count, key in enumerate(keys[:capacity], 1):
        put(memory, key)
        assert len(memory) == count
    assert all(key in memory.entries for key in keys[:capacity])
    for key in keys[capacity:]:
        put(memory, key)
        check_invariants(memory)
        assert len(memory) == capacity


@pytest.mark.parametrize("capacity", [2, 3, 10, 25])
def test_room_that_was_given_back_is_used_again(capacity: int) -> None:
    memory = Memory[object](capacity)
    for number in range(2 * capacity):
        put(memory, Key(str(number)))
    for victim in list(memory.entries)[::2]:
        memory.drop_locked(victim)
        check_invariants(memory)
    left = len(memory)
    for number in range(capacity - left):
        put(memory, Key(str(1_000 + number)))
        check_invariants(memory)
        assert len(memory) == left + number + 1
    for victim in list(memory.entries):
        memory.drop_locked(victim)
    assert len(memory) == 0
    for number in range(capacity):
        put(memory, Key(str(5_000 + number)))
    assert len(memory) == capacity


@pytest.mark.parametrize("capacity", [1, 2, 3, 9, 10, 11, 100])
def test_every_operation_leaves_it_whole(capacity: int) -> None:
    random = Random(capacity)
    memory = Memory[object](capacity)
    for step in range(2_000):
        key = Key(str(int(random.paretovariate(0.7)) % (5 * capacity)))
        if random.random() < 0.1:
            memory.drop_locked(key)
        else:
            ask(memory, key)
        if step % 7 == 0 or capacity < 10:
            check_invariants(memory)
    check_invariants(memory)


def test_a_key_that_was_asked_for_outlives_those_that_were_not() -> None:
    memory = Memory[object](10)
    put(memory, Key("3"))
    memory.get(Key("3"))
    for number in range(10, 30):
        put(memory, Key(str(number)))
        assert memory.get(Key("3")) is not None


def test_one_that_is_asked_for_no_more_goes_at_last() -> None:
    memory = Memory[object](10)
    for number in range(10):
        for _ in range(3):
            ask(memory, Key(str(number)))
    for round_ in range(1, 40):
        for number in range(10 * round_, 10 * round_ + 10):
            for _ in range(3):
                ask(memory, Key(str(number)))
    assert not any(Key(str(number)) in memory.entries for number in range(10))


def test_the_hand_of_a_ring_of_marked_ones_goes_round_once_and_takes_the_next() -> None:
    memory = Memory[object](3)
    keys = [Key(str(number)) for number in range(3)]
    for key in keys:
        put(memory, key)
    for _ in range(6):
        for standing in list(memory.entries):
            memory.get(standing)
        put(memory, Key(str(max(map(int, memory.entries)) + 1)))
        check_invariants(memory)
        assert len(memory) == 3


def zipf(keys: int, requests: int, seed: int) -> list[Key]:
    weights = list(accumulate(1.0 / rank for rank in range(1, keys + 1)))
    random = Random(seed)
    names = [Key(str(name)) for name in random.sample(range(1_000_000_007), keys)]  # hashes without any order
    return [names[bisect(weights, random.random() * weights[-1])] for _ in range(requests)]


def lru_ratio(asked: list[Key], capacity: int) -> float:
    kept: OrderedDict[str, None] = OrderedDict()
    hits = 0
    for key in asked:
        hits += key in kept
        kept[key] = None
        kept.move_to_end(key)
        if len(kept) > capacity:
            kept.popitem(last=False)
    return hits / len(asked)


def ratio(asked: list[Key], capacity: int) -> float:
    memory = Memory[object](capacity)
    hits = sum(ask(memory, key) for key in asked)
    check_invariants(memory)
    return hits / len(asked)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_with_room_for_one_key_in_a_hundred_it_hits_8_points_more_than_lru(seed: int) -> None:
    asked = zipf(keys=20_000, requests=120_000, seed=seed)
    ours, theirs = ratio(asked, 200), lru_ratio(asked, 200)
    print(f"hit ratio, zipf 1.0, 1 %: {ours:.4f}, lru {theirs:.4f}, {100 * (ours - theirs):.2f} points")  # noqa: T201
    assert ours - theirs >= 0.08


def test_a_working_set_that_fits_is_loaded_once() -> None:
    random = Random(5)
    memory = Memory[object](100)
    asked = [Key(str(random.randrange(100))) for _ in range(5_000)]
    assert sum(not ask(memory, key) for key in asked) == len(set(asked))


def test_a_scan_does_not_push_out_the_hot_set() -> None:
    memory = Memory[object](100)
    hot = [Key(str(number)) for number in range(50)]
    for _ in range(5):
        for number, key in enumerate(hot):
            ask(memory, key)
            ask(memory, Key(str(1_000 + number)))
    for number in range(10_000):
        put(memory, Key(str(1_000_000 + number)))
    assert sum(key in memory.entries for key in hot) >= 40  # all but those that stood in the small ring


def test_during_a_scan_the_hot_set_is_hit_where_lru_hits_nothing() -> None:
    names = [Key(str(name)) for name in Random(3).sample(range(1_000_000_007), 6_060)]
    hot, scan = names[:60], names[60:]
    asked = [key for step, once in enumerate(scan) for key in (hot[step % 60], once)]
    assert lru_ratio(asked, 100) == 0.0
    memory = Memory[object](100)
    assert sum(ask(memory, key) for key in asked[:6_000]) > 0
    assert sum(ask(memory, key) for key in asked[6_000:]) >= 0.95 * 3_000


def test_a_key_that_comes_back_while_its_ghost_is_there_stays_longer() -> None:
    memory = Memory[object](100)
    for number in range(200):
        put(memory, Key(str(number)))  # full; whoever went has left a ghost
    gone = next(key for number in range(199, 0, -1) if (key := Key(str(number))) not in memory.entries)
    put(memory, gone)
    assert memory.entries[gone][PLACE] >= memory._main_start
    put(memory, Key("1000001"))
    assert memory.entries[Key("1000001")][PLACE] < memory._main_start


def test_new_keys_pass_through_a_tenth_of_the_room_in_their_order() -> None:
    """In a full memory of a hundred places the first to come is the first to go, and the ten newest are there."""
    memory = Memory[object](100)
    for number in range(103):
        put(memory, Key(str(number)))
    assert not any(Key(str(number)) in memory.entries for number in range(3))
    assert len(memory) == 100
    for number in range(103, 120):
        put(memory, Key(str(number)))
    assert [int(key) for key in memory.entries if int(key) >= 100] == list(range(110, 120))


@pytest.mark.parametrize("other", [20_000, 20_001 - 2**63, -20_001])
def test_a_ghost_is_known_by_its_whole_hash(other: int) -> None:
    """A key that was never there is not taken for one that went, though their hashes differ in one bit only."""
    memory = Memory[object](100)
    for number in [*range(100), 20_001, *range(102, 122)]:  # none but it leaves a ghost at that place
        put(memory, Key(str(number)))
    put(memory, Key(str(other)))
    assert memory.entries[Key(str(other))][PLACE] < memory._main_start
    put(memory, Key("20001"))
    assert memory.entries[Key("20001")][PLACE] >= memory._main_start
    for number in range(122, 132):  # a hash below zero leaves a ghost like any
        put(memory, Key(str(number)))
    put(memory, Key(str(other)))
    assert memory.entries[Key(str(other))][PLACE] >= memory._main_start
    check_invariants(memory)


def full(capacity: int) -> Memory[object]:
    memory = Memory[object](capacity)
    for number in range(capacity):
        put(memory, Key(str(number)))
    return memory


def test_a_turn_over_marked_ones_only_ends_where_it_began() -> None:
    """The hand takes the mark of each, and then the place at which it started."""
    memory = full(11)
    memory.marks[:] = b"\1" * 11
    memory._main_hand = 5
    assert memory._main_place() == 5
    assert (memory._main_hand, bytes(memory.marks[1:])) == (6, bytes(10))


@pytest.mark.parametrize(("hand", "found"), [(5, 11), (17, 2), (16, 20)])
def test_the_hand_looks_at_so_many_places_and_takes_the_next(
    monkeypatch: pytest.MonkeyPatch, hand: int, found: int
) -> None:
    """Marked or not: one eviction costs so much at most, however many there are. Twice, as the ring may end between."""
    monkeypatch.setattr("resilient_cache.memory.SWEEP", 3)
    memory = Memory[object](21)
    memory.marks[:] = [1] * 21
    if hand == 16:
        memory.marks[20] = 0
    memory._main_hand = hand
    assert memory._main_place() == found
    assert memory._main_hand == (2 if found == 20 else found + 1)
    seen = {*range(hand, min(hand + 6, 21)), found}
    assert [place for place in range(21) if not memory.marks[place]] == sorted(seen)


def test_after_the_last_place_the_hand_is_at_the_first() -> None:
    """So that a turn is a turn: those that are marked are spared once, wherever it begins."""
    memory = full(11)
    memory._main_hand = 10
    assert memory._main_place() == 10
    assert memory._main_hand == 1
    memory.marks[:] = b"\1" * 11
    assert memory._main_place() == 1
    assert bytes(memory.marks[1:]) == bytes(10)


def test_a_key_that_lives_elsewhere_is_not_moved_for_a_hint_of_it() -> None:
    """What an interrupted writer has left in `_keys` moves nobody."""
    memory = full(20)  # two places in the small ring
    del memory.entries[Key("0")]
    memory._keys[0], memory.marks[0] = Key("1"), 1
    put(memory, Key("100"))
    assert [memory.entries[key][PLACE] for key in (Key("100"), Key("1"))] == [0, 1]
    check_invariants(memory)


def test_the_hand_spares_a_marked_one_once() -> None:
    memory = Memory[object](3)  # one place in the small ring, two in the main one
    first, second, third, fourth, fifth = (Key(str(number)) for number in range(1, 6))
    for key in (first, second, third):
        put(memory, key)
    for asked, new, gone in [((first, second), fourth, third), ((fourth,), fifth, second)]:
        for key in asked:
            memory.get(key)
        put(memory, new)
        check_invariants(memory)
        assert gone not in memory.entries
    assert set(memory.entries) == {first, fourth, fifth}


def test_replacing_an_entry_is_no_eviction() -> None:
    memory = Memory[object](10)
    for stamp in (1, 2):
        put(memory, Key("3"), stamp)
    assert not any(memory._ghosts)


def test_a_place_whose_entry_an_interrupted_writer_had_taken_out_counts_as_empty() -> None:
    memory = Memory[object](3)
    for number in (1, 2, 3):
        put(memory, Key(str(number)))
    memory.get(Key("1"))
    del memory.entries[Key("1")]  # so far it came when the signal did
    for number in range(4, 10):
        put(memory, Key(str(number)))
        check_invariants(memory)
    assert len(memory) == 3


class Parting:
    """A value that writes to the memory it is pushed out of."""

    def __init__(self, memory: Memory[object], number: int) -> None:
        self.memory, self.number = memory, number

    def __del__(self) -> None:
        put(self.memory, Key(str(self.number % 40)))
        self.memory.drop_locked(Key(str(self.number % 7)))


def check_owned(memory: Memory[object]) -> None:
    kept = list(memory.entries.items())  # holds the values: nothing parts while this looks on
    assert len(kept) <= memory.capacity
    assert [memory._keys[entry[PLACE]] for _, entry in kept] == [there for there, _ in kept]


@pytest.mark.parametrize("capacity", [1, 2, 3, 10])
def test_finalizers_that_write_leave_it_whole(capacity: int) -> None:
    memory = Memory[object](capacity)
    random = Random(capacity)
    for _ in range(500):
        key = Key(str(random.randrange(30)))
        memory.put_locked(key, Parting(memory, random.randrange(1_000)), 1.0, 2.0, 1)
        memory.get(Key(str(random.randrange(30))))
        check_owned(memory)
    assert len(memory) > 0


class Tagged(RuleBasedStateMachine):
    """Entries with tags, against a scan of all entries."""

    def __init__(self) -> None:
        super().__init__()
        self.memory: Memory[int] = Memory(6)
        self.stamp = 0

    @rule(key=st.sampled_from("abcdefghij"), tags=st.lists(st.sampled_from("tuv"), unique=True, max_size=2))
    def put(self, key: str, tags: list[str]) -> None:
        self.stamp += 1
        self.memory.put_locked(key, self.stamp, 9.0, 9.0, self.stamp, tuple(tags))
        assert self.memory.entries[key][TAGS] == tuple(tags)

    @rule(key=st.sampled_from("abcdefghij"))
    def ask(self, key: str) -> None:
        self.memory.get(key)

    @rule(key=st.sampled_from("abcdefghij"))
    def drop(self, key: str) -> None:
        self.memory.drop_locked(key)

    @rule(tag=st.sampled_from(["t", "u", "v", None]), back=st.integers(0, 3))
    def drop_older(self, tag: str | None, back: int) -> None:
        stamp = self.stamp - back
        gone = {k for k, e in self.memory.entries.items() if e[STAMP] <= stamp and (tag is None or tag in e[TAGS])}
        before = set(self.memory.entries)
        self.memory.drop_older_locked(stamp, tag)
        assert set(self.memory.entries) == before - gone

    @invariant()
    def the_index_holds_what_is_there(self) -> None:
        hinted = {(tag, key) for tag, keys in self.memory._tagged.items() for key in keys}
        assert hinted == {(tag, key) for key, entry in self.memory.entries.items() for tag in entry[TAGS]}
        assert all(self.memory._tagged.values())


TestTagged = Tagged.TestCase


class Meddling(dict[str, dict[str, None]]):
    """An index in which somebody else comes between."""

    meddle: Any = None

    def setdefault(self, key: str, default: Any = None) -> Any:
        found = super().setdefault(key, default)
        meddle, self.meddle = self.meddle, None
        if meddle:
            meddle()
        return found


def test_a_tag_is_not_lost_when_another_write_comes_between() -> None:
    """As a signal handler may, which drops the last entry of the tag."""
    memory: Memory[int] = Memory(3)
    memory.put_locked("a", 1, 9.0, 9.0, 1, ("t",))
    index = memory._tagged = Meddling(memory._tagged)
    index.meddle = lambda: memory.drop_locked("a")
    memory.put_locked("b", 2, 9.0, 9.0, 2, ("t",))
    memory.drop_older_locked(2, "t")
    assert not memory.entries


def test_a_tag_that_is_not_an_entrys_own_any_more_drops_nothing() -> None:
    """A writer may be interrupted anywhere: the index by tag is a hint, and the entry's word counts."""
    memory = Memory[str](4)
    memory.put_locked("k", "v", 1.0, 2.0, 7)
    memory._tagged["t"] = {"k": None}
    memory.drop_older_locked(9, "t")
    assert memory.get("k") is not None
