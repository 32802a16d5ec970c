"""Many keys in one call: what is given, what is raised, what a store is asked."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from resilient_cache import (
    BreakerPolicy,
    CachePolicy,
    Entry,
    Invalidation,
    MisuseError,
    Mode,
    NotFound,
    Source,
)
from resilient_cache.bulk import Loaded
from resilient_cache.events import Served, StoreCalled
from resilient_cache.testing import Fault, FaultKind

from .many import AsyncBare, Bare, OriginDown
from .stage import POLICY, Stage

DOWN = Fault(FaultKind.RAISE)
MARKED = replace(POLICY, epoch_ttl=5.0)
THOUSAND = [str(number) for number in range(1_000)]
Make = Callable[..., Stage]


class Origin:
    """A loader of many, in the colour of the stage, that remembers what it was asked for."""

    def __init__(self, there: Stage, give: Callable[[list[str]], Any] | None = None) -> None:
        self.asked: list[list[str]] = []
        self.give = give or (lambda keys: {key: key.upper() for key in keys})

        def load(keys: list[str]) -> Any:
            self.asked.append(keys)
            return self.give(keys)

        async def aload(keys: list[str]) -> Any:
            return load(keys)

        self.load: Any = load if there.colour == "sync" else aload


def operations(there: Stage) -> list[str]:
    return [call.operation for call in there.adapter.calls]


def bare(there: Stage) -> Any:
    return there.another(adapter=(Bare if there.colour == "sync" else AsyncBare)(there.adapter))


# What is given


def test_each_key_is_asked_for_once_and_given_in_the_order_of_the_call(stage: Make) -> None:
    there = stage()
    origin = Origin(there)
    assert list(there.get_or_load_many(["b", "a", "b", "c", "a"], origin.load).items()) == [
        ("b", "B"),
        ("a", "A"),
        ("c", "C"),
    ]
    assert origin.asked == [["b", "a", "c"]]
    assert list(there.get_many(iter(["c", "x", "a", "c"])).items()) == [("c", "C"), ("a", "A")]
    assert there.get_or_load_many(["d", "a"], origin.load) == {"d": "D", "a": "A"}
    assert origin.asked[1:] == [["d"]]
    assert operations(there) == ["get_many", "set_many", "get_many", "get_many", "set_many"]


def test_no_keys_are_no_call(stage: Make) -> None:
    there = stage()
    origin = Origin(there)
    assert there.get_many([]) == {}
    assert there.get_or_load_many([], origin.load) == {}
    assert there.set_many({}) is True
    assert there.invalidate_many([]) is Invalidation.CONFIRMED
    assert (origin.asked, there.adapter.calls) == ([], [])
    assert there.cache.stats()["requests"] == 0


def test_a_key_that_is_left_out_is_one_that_there_is_none_of(stage: Make) -> None:
    """Absent, and remembered for `negative_ttl`, as a loader's NotFound is."""
    there = stage(memory=10)
    origin = Origin(there, lambda keys: {"a": 1, "b": NotFound("b")})
    loaded = there.get_or_load_many(["a", "b", "c"], origin.load)
    assert (loaded, loaded.errors) == ({"a": 1}, {})
    with pytest.raises(KeyError):
        loaded["c"]
    assert there.get_or_load_many(["a", "b", "c"], origin.load) == {"a": 1}
    assert len(origin.asked) == 1
    assert there.lookup("c").source is Source.NEGATIVE
    there.clock.advance(60)
    there.get_or_load_many(["b", "c"], origin.load)
    assert origin.asked[1:] == [["b", "c"]]


def test_the_error_of_one_key_is_its_own(stage: Make) -> None:
    """The others are given and kept; its error is given as it is when it is asked for; nothing is remembered of it."""
    there = stage()
    error = OriginDown("b")
    origin = Origin(there, lambda keys: {key: error if key == "b" else key.upper() for key in keys})
    loaded = there.get_or_load_many(["a", "b", "c"], origin.load)
    assert (loaded, loaded.errors) == ({"a": "A", "c": "C"}, {"b": error})
    assert loaded.get("b") is None
    with pytest.raises(OriginDown) as raised:
        loaded["b"]
    assert raised.value is error
    assert there.get_many(["a", "b", "c"]) == {"a": "A", "c": "C"}
    there.get_or_load_many(["a", "b"], origin.load)
    assert origin.asked == [["a", "b", "c"], ["b"]]
    assert there.cache.stats()["errors"] == 2


def test_an_error_keeps_the_traceback_that_it_came_with(stage: Make) -> None:
    """It was caught in the loader, perhaps, and not raised here."""
    there = stage()
    try:
        raise OriginDown("b")
    except OriginDown as caught:
        error, trace = caught, caught.__traceback__
    loaded = there.get_or_load_many(["b"], Origin(there, lambda _: {"b": error}).load)
    assert loaded.errors["b"].__traceback__ is trace


def test_what_the_loader_raises_is_raised_and_nothing_is_remembered(stage: Make) -> None:
    """L3: the same object; what was there before stays, and nothing is cached as "there is none"."""
    for error in (OriginDown("all"), NotFound("all")):
        there = stage(memory=10)

        def give(_: list[str], error: Exception = error) -> Any:
            raise error

        there.set("a", 1)
        origin = Origin(there, give)
        for times in (1, 2):
            with pytest.raises(type(error)) as raised:
                there.get_or_load_many(["a", "b", "c"], origin.load)
            assert raised.value is error
            assert origin.asked == [["b", "c"]] * times
        assert there.cache.stats()["errors"] == 4
        assert there.get_many(["a", "b"]) == {"a": 1}
        assert there.lookup("b").source is Source.NONE


def test_an_error_that_is_raised_holds_nothing_of_this_library(stage: Make) -> None:
    """No circle keeps it, and what its frames hold, until a collection."""
    there = stage()

    def give(_: list[str]) -> Any:
        raise OriginDown("all")

    with pytest.raises(OriginDown) as raised:
        there.get_or_load_many(["a", "b"], Origin(there, give).load)
    frames = []
    trace = raised.value.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    held = [frame for frame in frames if raised.value in frame.f_locals.values() and "_bulk" in str(frame.f_code)]
    assert not held


def test_stale_entries_stand_in_for_what_is_not_loaded(stage: Make) -> None:
    """L12: when all keys have one nothing is raised; when one has none the error is."""
    there = stage(memory=10)
    there.set_many({"a": 1, "b": 2})
    there.clock.advance(61)
    error = OriginDown("all")

    def give(_: list[str]) -> Any:
        raise error

    origin = Origin(there, give)
    assert there.get_or_load_many(["a", "b"], origin.load) == {"a": 1, "b": 2}
    with pytest.raises(OriginDown):
        there.get_or_load_many(["a", "b", "c"], origin.load)
    assert origin.asked == [["a", "b"], ["c"]]  # the others rest for `stale_retry`
    there.clock.advance(1)
    origin.give = lambda keys: dict.fromkeys(keys, error)
    loaded = there.get_or_load_many(["a", "c"], origin.load)
    assert (loaded, loaded.errors) == ({"a": 1}, {"c": error})


def test_hooks_are_told_of_each_key(stage: Make) -> None:
    """L7, L18."""
    told: list[Any] = []
    there = stage(memory=10, hooks=[told.append])
    there.get_or_load_many(["a", "b"], Origin(there).load)
    there.get_many(["a", "b", "c"])
    served = [event.source for event in told if isinstance(event, Served)]
    assert served == [Source.LOADER, Source.LOADER, Source.MEMORY, Source.MEMORY, Source.NONE]


def test_values_may_be_entries_and_none(stage: Make) -> None:
    there = stage(memory=10)
    origin = Origin(there, lambda keys: {"a": Entry(1, ttl=5), "b": None})
    assert there.get_or_load_many(["a", "b"], origin.load) == {"a": 1, "b": None}
    there.clock.advance(6)
    assert there.get_many(["a", "b"]) == {"b": None}
    assert there.set_many({"c": Entry(3, ttl=50)}, ttl=2) is True
    there.clock.advance(3)
    assert there.get_many(["c"]) == {}


def test_what_was_not_asked_for_is_not_kept(stage: Make) -> None:
    """Nobody has taken off for it, so nothing says that it is not older than what is there."""
    there = stage(memory=10)
    origin = Origin(there, lambda keys: {"a": 1, "z": 26})
    assert there.get_or_load_many(["a"], origin.load) == {"a": 1}
    assert there.get_many(["z"]) == {}


def test_a_loaded_is_a_dict_that_can_be_copied() -> None:
    error = OriginDown("b")
    loaded = Loaded({"a": 1}, {"b": error})
    assert isinstance(loaded, dict)
    for other in (copy.copy(loaded), copy.deepcopy(loaded), pickle.loads(pickle.dumps(loaded))):
        assert other == {"a": 1}
        assert list(other.errors) == ["b"]
    assert Loaded() == {}


# Misuse


@pytest.mark.parametrize("name", ["get_many", "get_or_load_many", "invalidate_many"])
@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("abc", "keys must be an iterable of keys, such as a list, not str"),
        (b"abc", "keys must be an iterable of keys, such as a list, not bytes"),
        (None, "keys must be an iterable of keys, such as a list, not NoneType"),
        (["a", 7], "key must be a str, not int"),
        (["a", "\ud800"], "key must be text that can be encoded"),
    ],
)
def test_bad_keys_are_misuse_before_anything_is_touched(stage: Make, name: str, keys: Any, told: str) -> None:
    """L6."""
    there = stage(memory=10)
    there.set("a", 1)
    there.adapter.calls.clear()
    args = [Origin(there).load] if name == "get_or_load_many" else []
    with pytest.raises(MisuseError, match=told):
        getattr(there, name)(keys, *args)
    assert there.adapter.calls == []
    assert there.cache.health()["flights"] == 0
    assert there.get("a") == 1


def test_other_misuse_is_told_as_well(stage: Make) -> None:
    """L6."""
    there = stage()
    origin = Origin(there)
    wrong: Any = (lambda keys: keys) if there.colour == "async" else Stage("async").loader(1)
    if there.colour == "async":

        def plain(keys: list[str]) -> Any:
            return keys

        wrong = plain
    with pytest.raises(MisuseError, match="load_many must be"):
        there.get_or_load_many(["a"], wrong)
    with pytest.raises(MisuseError, match="load_many must be"):
        there.get_or_load_many(["a"], None)
    with pytest.raises(MisuseError, match="policy must be"):
        there.get_or_load_many(["a"], origin.load, policy=5)
    with pytest.raises(MisuseError, match="deadline must be"):
        there.get_or_load_many(["a"], origin.load, deadline="soon")
    with pytest.raises(MisuseError, match="values must be a mapping of keys to values, not list"):
        there.set_many(["a"])
    with pytest.raises(MisuseError, match="key must be a str, not int"):
        there.set_many({"a": 1, 2: 2})
    with pytest.raises(MisuseError, match="ttl must be"):
        there.set_many({"a": 1}, ttl=-1)
    with pytest.raises(MisuseError, match="load_many must give a mapping of keys to values, not list"):
        there.get_or_load_many(["a"], Origin(there, list).load)
    assert operations(there) == ["get_many"]
    there.run(there.cache.close if there.colour == "sync" else there.cache.aclose)
    for name, args in (("get_many", [[]]), ("get_or_load_many", [[], origin.load]), ("set_many", [{}])):
        with pytest.raises(MisuseError, match="is closed"):
            getattr(there, name)(*args)


def test_methods_for_many_of_the_other_colour_are_misuse(stage: Make) -> None:
    there = stage()

    class Wrong(Bare):
        async def get_many(self, keys: Sequence[str]) -> Any: ...

    class AsyncWrong(AsyncBare):
        def get_many(self, keys: Sequence[str]) -> Any: ...

    with pytest.raises(MisuseError, match="its get_many is"):
        there.another(adapter=(Wrong if there.colour == "sync" else AsyncWrong)(there.adapter))


# What a store is asked


def test_a_thousand_keys_are_three_calls(stage: Make) -> None:
    """Two chunks and the mark of the namespace."""
    there = stage(policy=MARKED)
    origin = Origin(there)
    assert len(there.get_or_load_many(THOUSAND, origin.load)) == 1_000
    there.cache = there.another()
    there.adapter.calls.clear()
    assert there.get_or_load_many(THOUSAND, origin.load) == {key: key for key in THOUSAND}
    assert sorted(operations(there)) == ["get", "get_many", "get_many"]
    there.adapter.calls.clear()
    assert there.invalidate_many(THOUSAND) is Invalidation.CONFIRMED
    assert operations(there) == ["delete_many", "delete_many"]
    assert there.get_many(THOUSAND) == {}


def test_a_failing_chunk_costs_its_keys_a_miss(stage: Make) -> None:
    """Half of the calls fail: the other half are hits, and what is missing is loaded in one call."""
    there = stage()
    origin = Origin(there)
    there.get_or_load_many(THOUSAND, origin.load)
    there.plan.then("get_many", DOWN)
    assert list(there.get_many(THOUSAND)) == THOUSAND[500:]
    there.plan.then("get_many", None, DOWN)
    assert len(there.get_or_load_many(THOUSAND, origin.load)) == 1_000
    assert origin.asked[1:] == [THOUSAND[500:]]
    there.plan.then("set_many", DOWN)
    assert there.set_many(dict.fromkeys(THOUSAND, "new")) is False
    assert there.get_many(THOUSAND) == dict.fromkeys(THOUSAND[500:], "new")
    there.plan.then("delete_many", None, DOWN)
    assert there.invalidate_many(THOUSAND) is Invalidation.PENDING
    assert there.cache.health()["pending_invalidations"] == 500


def test_a_circuit_hears_of_calls_and_not_of_keys(stage: Make) -> None:
    """One sample, one event and one permit for each call."""
    told: list[Any] = []
    there = stage(
        policy=replace(POLICY, max_store_calls=4),
        breaker=BreakerPolicy(consecutive=3, span=0),
        hooks=[told.append],
    )
    there.plan.during(DOWN)
    assert there.get_many(THOUSAND) == {}
    assert there.cache.health()["circuits"]["read"]["state"] == "closed"
    assert there.get_many(THOUSAND[:500]) == {}
    assert there.cache.health()["circuits"]["read"]["state"] == "open"
    assert there.get_many(THOUSAND) == {}
    assert len(there.adapter.calls) == 3
    assert sum(isinstance(event, StoreCalled) for event in told) == 3
    assert there.cache.stats()["misses"] == 2_500


def test_a_store_without_calls_for_many_is_asked_key_by_key(stage: Make) -> None:
    """Each is a call of its own: one that fails costs one key."""
    there = stage()
    there.cache = bare(there)
    assert there.set_many({"a": 1, "b": 2, "c": 3}) is True
    there.plan.then("get", None, DOWN)
    assert len(there.get_many(["a", "b", "c"])) == 2
    there.plan.then("delete", DOWN)
    assert there.invalidate_many(["a", "b", "c"]) is Invalidation.PENDING
    assert there.cache.health()["pending_invalidations"] == 1
    assert set(operations(there)) == {"get", "set", "delete"}


def test_a_silent_store_costs_one_timeout_for_each_call(stage: Make) -> None:
    """L5: and nothing when the caller's deadline leaves no time."""
    there = stage()
    origin = Origin(there)
    there.plan.during(Fault(FaultKind.HANG))
    began = there.clock.monotonic()
    assert there.get_many(["a", "b", "c"]) == {}
    assert there.clock.monotonic() - began <= 0.25
    there.cache = bare(there)
    began = there.clock.monotonic()
    assert there.get_many([*"abcdefgh"]) == {}
    assert there.clock.monotonic() - began <= 0.25
    there.adapter.calls.clear()
    assert there.get_or_load_many(["a"], origin.load, deadline=0) == {"a": "A"}
    assert there.adapter.calls == []


def test_each_call_has_a_timeout_of_its_own(stage: Make) -> None:
    """L5: many keys of a store that is slow, but not too slow, are all found."""
    there = stage()
    many = [*THOUSAND, *(f"more {number}" for number in range(500))]
    there.set_many(dict.fromkeys(many, 1))
    there.plan.during(Fault.slow(0.2))
    assert len(there.get_many(many)) == 1_500


def test_what_an_earlier_process_still_owes_is_taken_over_first(stage: Make) -> None:
    """L9: a durable journal is read before the store is."""
    there = stage()
    there.set_many({"a": 1, "b": 2})
    owed = [("laws:ka", there.cache._rules.local.stamps.next())]

    class Written:
        def load(self) -> Any:
            return owed

        def add(self, name: str, stamp: int) -> None: ...

        def strike(self, settled: Any) -> None: ...

    there.cache = there.another(journal=Written())
    assert there.get_many(["a", "b"]) == {"b": 2}


def test_promises_of_a_store_are_no_answers(stage: Make) -> None:
    """L1: something to await in place of an answer, from methods of the sync API or from what was awaited."""
    there = stage()

    async def promise() -> Any: ...

    class Lies(Bare):
        def get_many(self, keys: Sequence[str]) -> Any:
            return promise()

        def delete_many(self, keys: Sequence[str]) -> Any:
            return promise()

    class AsyncLies(AsyncBare):
        async def get_many(self, keys: Sequence[str]) -> Any:
            return promise()

        async def delete_many(self, keys: Sequence[str]) -> Any:
            return asyncio.get_running_loop().create_future()

    there.cache = there.another(adapter=(Lies if there.colour == "sync" else AsyncLies)(there.adapter))
    assert there.get_many(["a"]) == {}
    assert there.get_or_load_many(["a"], Origin(there).load) == {"a": "A"}
    there.invalidate_many(["a"])
    assert there.cache.health()["pending_invalidations"] == 1


def test_bytes_that_are_no_entry_cost_their_key_a_miss(stage: Make) -> None:
    """L8: and are deleted by a call that loads nothing, overwritten by one that does."""
    there = stage()
    there.set_many({"a": 1, "b": 2, "c": 3})
    there.poison("b", b"no entry")
    there.stored["laws:c"] = there.stored["laws:a"]
    assert there.get_many(["a", "b", "c"]) == {"a": 1}
    assert set(there.stored) == {"laws:a"}
    assert operations(there)[-1] == "delete_many"
    stats = there.cache.stats()
    assert (stats["refused_corrupt"], stats["refused_wrong_key"]) == (1, 1)


def test_tags_and_everything_are_heeded(stage: Make) -> None:
    """L9: by many as by one, also where the store has to be asked for the marks; once, whatever the number of keys."""
    there = stage(policy=MARKED)
    values = {key: Entry(key, tags=("odd",) if int(key) % 2 else ("even", "odd")) for key in map(str, range(10))}
    assert there.set_many(values) is True
    other = there.another()
    there.adapter.calls.clear()
    assert len(there.run(other.get_many, list(values))) == 10
    assert sorted(operations(there)) == ["get", "get", "get", "get_many"]
    assert there.invalidate_tag("even") is Invalidation.CONFIRMED
    assert list(there.get_many(list(values))) == [*"13579"]
    there.clock.advance(5)
    assert list(there.run(other.get_many, list(values))) == [*"13579"]
    there.invalidate_all()
    assert there.get_many(list(values)) == {}


def test_a_store_that_gives_no_mapping_has_failed(stage: Make) -> None:
    there = stage()

    class Lists(Bare):
        def get_many(self, keys: Sequence[str]) -> Any:
            return [None for _ in keys]

    class AsyncLists(AsyncBare):
        async def get_many(self, keys: Sequence[str]) -> Any:
            return [None for _ in keys]

    there.cache = there.another(adapter=(Lists if there.colour == "sync" else AsyncLists)(there.adapter))
    there.set("a", 1)
    assert there.get_many(["a"]) == {}
    assert there.cache.stats()["store_get_unknown"] == 1


def test_a_store_that_asks_the_cache_for_the_same_key_has_failed(stage: Make) -> None:
    """It would wait for itself."""
    there = stage()

    class Asks(Bare):
        def get_many(self, keys: Sequence[str]) -> Any:
            return there.cache.get_or_load("a", str.upper)

    class AsyncAsks(AsyncBare):
        async def get_many(self, keys: Sequence[str]) -> Any:
            return await there.cache.get_or_load("a", there.loader(1))

    there.cache = there.another(adapter=(Asks if there.colour == "sync" else AsyncAsks)(there.adapter))
    began = there.clock.monotonic()
    assert there.get_or_load_many(["a", "b"], Origin(there).load) == {"a": "A", "b": "B"}
    assert there.clock.monotonic() == began
    assert there.cache.stats()["store_get_unknown"] == 1


def test_a_value_that_cannot_be_stored_costs_the_others_nothing(stage: Make) -> None:
    there = stage()
    values = {"a": 1, "b": object(), "c": 3}
    origin = Origin(there, lambda _: values)
    assert there.get_or_load_many(["a", "b", "c"], origin.load) == values
    assert there.get_many(["a", "b", "c"]) == {"a": 1, "c": 3}
    assert there.set_many({"a": 2, "b": object()}) is False
    assert there.get_many(["a", "b"]) == {"a": 2}


def test_large_values_are_written_in_several_calls(stage: Make) -> None:
    """What is sent must get through within `timeout`."""
    there = stage()
    assert there.set_many({str(number): "x" * 400_000 for number in range(5)}) is True
    assert operations(there) == ["set_many"] * 3
    assert there.set_many({"0": "x" * 2_000_000, "1": 1}) is True
    assert operations(there)[3:] == ["set_many"] * 2


def test_each_shard_is_called_by_itself(stage: Make) -> None:
    """A call's outcome says nothing about another part of the store."""
    there = stage()

    def shard(key: str) -> Any:
        if key.endswith("c"):
            raise OSError("who knows")
        return {"a": "one", "b": "two", "d": 7}[key[-1]]

    there.adapter.shard = shard
    there.cache = there.another()
    there.set_many({"a": 1, "b": 2, "c": 3, "d": 4})
    assert operations(there) == ["set_many"] * 3
    there.plan.then("get_many", DOWN)
    assert there.get_many([*"abcd"]) == {"b": 2, "c": 3, "d": 4}
    assert set(there.cache.shards) == {"one", "two"}


def test_modes_hold_for_many(stage: Make) -> None:
    """L20."""
    there = stage(memory=10)
    origin = Origin(there)
    there.set_many({"a": 1, "b": 2})
    there.cache.mode = Mode.BYPASS
    calls = len(there.adapter.calls)
    assert there.get_many(["a", "b"]) == {}
    assert there.get_or_load_many(["a"], origin.load) == {"a": "A"}
    assert there.invalidate_many(["b"]) is Invalidation.PENDING
    assert len(there.adapter.calls) == calls
    there.cache.mode = Mode.FROZEN
    loaded = there.get_or_load_many(["a", "b", "c"], origin.load)
    assert (loaded, list(loaded.errors)) == ({"a": 1}, ["b", "c"])


def test_memory_alone_does_too(stage: Make) -> None:
    there = stage(memory=10)
    make: Any = type(there.cache)
    there.cache = make(None, name="alone", memory=10, policy=CachePolicy(epoch_ttl=None), clock=there.clock)
    origin = Origin(there)
    assert there.get_or_load_many(["a", "b"], origin.load) == {"a": "A", "b": "B"}
    assert there.set_many({"b": 2}) is True
    assert there.get_many(["a", "b", "c"]) == {"a": "A", "b": 2}
    assert there.invalidate_many(["a"]) is Invalidation.CONFIRMED
    assert there.get_many(["a", "b"]) == {"b": 2}


def test_an_invalidation_while_they_load_refuses_one_and_no_other(stage: Make) -> None:
    """L9: its value reaches the caller who asked before, and is not kept."""
    there = stage(memory=10)
    calls: list[Any] = []

    def give(keys: list[str]) -> Any:
        there.cache._rules.local.invalidate("a")
        calls.append(keys)
        return {key: key.upper() for key in keys}

    assert there.get_or_load_many(["a", "b"], Origin(there, give).load) == {"a": "A", "b": "B"}
    assert there.get_many(["a", "b"]) == {"b": "B"}
    assert set(there.stored) >= {"laws:b"}


def test_an_invalidation_before_they_load_has_the_key_loaded_anew(stage: Make) -> None:
    """L9: a load that begins after it, in a call of its own."""
    there = stage(memory=10)
    origin = Origin(there)
    local = there.cache._rules.local
    begin, left = local.begin_load, ["a"]

    def before(flight: Any) -> int:
        if left and flight.place[0] == left[0]:
            local.invalidate(left.pop())
        stamp: int = begin(flight)
        return stamp

    class Meddled:
        def __getattr__(self, name: str) -> Any:
            return before if name == "begin_load" else getattr(local, name)

    there.cache._rules.loads._local = Meddled()
    assert there.get_or_load_many(["a", "b"], origin.load) == {"b": "B", "a": "A"}
    assert origin.asked == [["b"], ["a"]]
