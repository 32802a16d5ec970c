"""The rules about marks, peers and vendors, on histories made by hand: each sees its breach, and not its neighbour."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from resilient_cache import AsyncResilientCache, Invalidation, Mode, Source
from resilient_cache.outcome import Operation
from resilient_cache.testing.simulation import Setup, Tape, simulate
from resilient_cache.testing.simulation.histories import (
    EVERYTHING,
    SECOND,
    Command,
    Ending,
    History,
    Load,
    Rest,
    value_of,
)
from resilient_cache.testing.simulation.limits import Limits
from resilient_cache.testing.simulation.peers import Disturbance, Hub, Interference, Place
from resilient_cache.testing.simulation.seeded import SeededLoop
from resilient_cache.testing.simulation.vendors import Together, serving

from ..virtual import pass_time
from .test_checker import Tale

GET, SET, DELETE = Operation.GET, Operation.SET, Operation.DELETE
MARKED = Limits(epoch_ttl=1.0, replay=7.0, inflight_max=5.0)
PEERS = Limits(peers=True, replay=7.0, inflight_max=5.0)
VENDORS = Limits(vendors=("first", "second"), stand_in_ttl=2.0)

Telling = Callable[["Several", bool], tuple[str, Limits]]


class Several(Tale):
    """A history of several processes, or vendors."""

    def tagged(self, *tags: str, process: int = 1) -> Load:
        load = self.load(fresh=100.0, process=process)
        load.tags = tags
        return load

    def many(self, tag: str = EVERYTHING, result: Invalidation = Invalidation.PENDING) -> None:
        self.answer(self.call("invalidate_all" if tag == EVERYTHING else "invalidate_tag", tag), result)

    def read(self, load: Load, source: Source, process: int = 0) -> None:
        self.answer(self.call(process=process), value_of("k", load.number), source)

    def sent(self, operation: Operation, key: str = "sim:k", process: int = 0, **more: Any) -> Command:
        command = self.history.command(process, operation, key)
        for name, value in more.items():
            setattr(command, name, value)
        self.history.end(command, Ending.DONE)
        return command

    def begun(self, operation: Operation, store: str = "", within: int = 0, **more: Any) -> Command:
        command = self.history.command(0, operation, "sim:k")
        command.store, command.within, command.effect = store, within, self.at
        for name, value in more.items():
            setattr(command, name, value)
        return command

    def ended(self, command: Command, ending: Ending = Ending.DONE) -> None:
        self.history.end(command, ending, None if ending is Ending.DONE else OSError())

    def on(self, operation: Operation, *stores: str, **more: Any) -> Command:
        """The cache's own call, answered by each of these vendors."""
        whole = self.begun(operation, **more)
        for store in stores:
            self.ended(self.begun(operation, store, whole.number, **more))
        self.ended(whole)
        return whole


def own_mark(tale: Several, wrong: bool) -> tuple[str, Limits]:
    load = tale.tagged("t", process=0)
    tale.many("t" if wrong else "another")
    tale.read(load, Source.MEMORY)
    return "served past a fence", Limits()


def unasked(tale: Several, wrong: bool) -> tuple[str, Limits]:
    load = tale.tagged("t")
    tale.sent(GET, "sim!")
    tale.at = 0.5
    tale.sent(GET, "sim!tag:t", fault="corrupt" if wrong else "")
    tale.at = 0.9
    tale.read(load, Source.STORE)
    return "trusted a mark unasked", MARKED


def asked_too_long_ago(tale: Several, wrong: bool) -> tuple[str, Limits]:
    load = tale.tagged()
    tale.sent(GET, "sim!")
    tale.at = 1.1 if wrong else 0.9
    tale.read(load, Source.STORE)
    return "trusted a mark unasked", MARKED


def unheeded(tale: Several, wrong: bool) -> tuple[str, Limits]:
    load = tale.tagged("t")
    tale.many("t")
    tale.history.healed = 0.0
    tale.at = 13.1 if wrong else 12.9
    for mark in ("sim!", "sim!tag:t"):
        tale.sent(GET, mark, 2)
    tale.read(load, Source.STORE, 2)
    return "an invalidation of many was not heeded", MARKED


def forgotten(tale: Several, wrong: bool) -> tuple[str, Limits]:
    load = tale.tagged()
    tale.many()
    if not wrong:
        tale.history.event("weather: restart_old for 100%")
    tale.history.healed = 0.0
    tale.at = 20.0
    tale.sent(GET, "sim!", 2)
    tale.read(load, Source.STORE, 2)
    return "an invalidation of many was not heeded", MARKED


def untold(tale: Several, wrong: bool) -> tuple[str, Limits]:
    load = tale.load(fresh=100.0, process=1)
    early = tale.call(process=1)
    invalidation = tale.call("invalidate")
    told = tale.history.word(0, "told", ("k",))
    if wrong:
        tale.history.word(1, "heard", ("k",), 0, told.number)
    tale.answer(early, value_of("k", load.number))
    tale.answer(invalidation, Invalidation.PENDING)
    tale.read(load, Source.MEMORY, 1)
    return "served although a peer had told", Limits()


def told_before(tale: Several, wrong: bool) -> tuple[str, Limits]:
    load = tale.load(fresh=100.0, process=1)
    told = tale.history.word(0, "told", ("k",)).number
    tale.invalidate()
    if wrong:
        told = tale.history.word(0, "told", ("k",)).number
    tale.history.word(1, "heard", ("k",), 0, told)
    tale.read(load, Source.MEMORY, 1)
    return "served although a peer had told", Limits()


def refused(tale: Several, wrong: bool) -> tuple[str, Limits]:
    for what, at in (("untold", 0.0), ("unheard", 0.55), ("told", 1.16 if wrong else 1.15)):
        tale.at = at  # 0.05, then 0.1 s, and each time two timeouts
        tale.history.word(0, what, ("k",))
    return "lost message not told again", PEERS


def refused_another(tale: Several, wrong: bool) -> tuple[str, Limits]:
    tale.history.word(0, "untold", ("k", "t"))
    tale.history.word(1, "told", ("k", "t"))
    tale.history.word(0, "told", ("k",) if wrong else (EVERYTHING,))
    tale.at = 0.6
    return "lost message not told again", PEERS


def refused_after_success(tale: Several, wrong: bool) -> tuple[str, Limits]:
    for what, at in (("untold", 0.0), ("told", 0.1), ("untold", 0.2)):
        tale.at = at
        tale.history.word(0, what, ("k",))
    tale.at = 0.76 if wrong else 0.75
    return "lost message not told again", PEERS


def gap(tale: Several, wrong: bool) -> tuple[str, Limits]:
    load = tale.load(fresh=100.0)
    tale.at = 1.0
    tale.history.word(0, "lost")
    tale.at = 2.0
    tale.sent(GET, gave=0 if wrong else load.number)
    tale.read(load, Source.MEMORY)
    return "trusted across a gap", Limits()


def gap_in_the_air(tale: Several, wrong: bool) -> tuple[str, Limits]:
    call = tale.call()
    load = tale.load(fresh=100.0)
    tale.at = 1.0
    tale.history.word(0, "lost")
    tale.answer(call, value_of("k", load.number))
    if wrong:
        tale.read(load, Source.LOADER)
    return "trusted across a gap", Limits()


def memory_in_the_end(tale: Several, wrong: bool) -> tuple[str, Limits]:
    load = tale.load(fresh=100.0, process=1)
    tale.invalidate()
    tale.history.healed = 0.0
    tale.at = 13.1 if wrong else 12.9
    tale.read(load, Source.MEMORY, 1)
    return "the store was left with an old value", PEERS


def long_lived(tale: Several, wrong: bool) -> tuple[str, Limits]:
    tale.sent(SET, store="second" if wrong else "first", life=2.1)
    return "a stand-in was given a long life", VENDORS


def unconfirmed(tale: Several, wrong: bool) -> tuple[str, Limits]:
    tale.on(DELETE, *(("first",) if wrong else VENDORS.vendors))
    return "confirmed without a word of each vendor", VENDORS


def owing(tale: Several, wrong: bool) -> tuple[str, Limits]:
    whole = tale.begun(DELETE)
    tale.ended(tale.begun(DELETE, "first", whole.number), Ending.RAISED if wrong else Ending.DONE)
    tale.ended(whole, Ending.RAISED)
    tale.on(GET, "first")
    return "a vendor was asked that owes", VENDORS


def owing_what_another_was_given(tale: Several, wrong: bool) -> tuple[str, Limits]:
    tale.on(SET, "second" if wrong else "first", gives=1)
    tale.on(GET, "first")
    return "a vendor was asked that owes", VENDORS


def replaced(tale: Several, wrong: bool) -> tuple[str, Limits]:
    old, new = tale.load(), tale.load()
    tale.on(SET, "first", gives=old.number)
    tale.on(SET, "first", gives=new.number)
    tale.on(GET, "first", gave=(old if wrong else new).number)
    return "a vendor gave what was replaced", VENDORS


def replaced_in_the_air(tale: Several, wrong: bool) -> tuple[str, Limits]:
    old, new = tale.load(), tale.load()
    whole = tale.begun(SET, gives=old.number)
    write = tale.begun(SET, "first", whole.number, gives=old.number)
    if wrong:
        tale.ended(whole)
    tale.on(SET, "first", gives=new.number)
    tale.ended(write)
    tale.on(GET, "first", gave=old.number)
    return "a vendor gave what was replaced", VENDORS


def another_wrote_it(tale: Several, wrong: bool) -> tuple[str, Limits]:
    old = tale.load(process=1)
    write = tale.begun(SET, "first", gives=old.number, process=1)
    tale.ended(write)
    tale.on(DELETE if wrong else SET, *VENDORS.vendors if wrong else ("first",), gives=0 if wrong else 7)
    tale.on(GET, "first", gave=old.number)
    return "a vendor gave what was replaced", VENDORS


def written_after(tale: Several, wrong: bool) -> tuple[str, Limits]:
    old = tale.load()
    if wrong:
        tale.on(SET, "first", gives=old.number)
    tale.on(DELETE, *VENDORS.vendors)
    if not wrong:
        tale.on(SET, "first", gives=old.number)
    tale.on(GET, "first", gave=old.number)
    return "a vendor gave what was replaced", VENDORS


def overflowing(tale: Several, wrong: bool) -> tuple[str, Limits]:
    tale.load(fresh=100.0)
    if not wrong:
        tale.history.word(0, "heard", (), 1, 1)
    second = tale.call()
    second.caller = SECOND
    tale.answer(second, None, Source.NONE)
    tale.history.healed = 0.0
    return "a second read did not hit", Limits(floors=True)


def unmarked(tale: Several, wrong: bool) -> tuple[str, Limits]:
    tale.load(fresh=100.0)
    tale.history.healed = 0.0
    tale.at = 1.0
    if not wrong:
        tale.ended(tale.begun(GET, key="sim!"), Ending.RAISED)
    second = tale.call()
    second.caller = SECOND
    tale.answer(second, None, Source.NONE)
    return "a second read did not hit", Limits()


def at_rest(tale: Several, serves: str, owed: int) -> Limits:
    vendors = {name: {"pending_invalidations": owed} for name in VENDORS.vendors}
    health: dict[str, object] = {"flights": 0, "stuck_flights": 0, "store_calls_in_flight": 0}
    tale.history.healed = 0.0
    tale.history.rests.append(Rest(0, {"requests": 0}, health | {"store": {"serving": serves, "vendors": vendors}}))
    return VENDORS


def not_back(tale: Several, wrong: bool) -> tuple[str, Limits]:
    return "the first vendor does not serve again", at_rest(tale, "second" if wrong else "first", 0)


def still_owed(tale: Several, wrong: bool) -> tuple[str, Limits]:
    return "a vendor still owes", at_rest(tale, "first", int(wrong))


@pytest.mark.parametrize(
    "telling",
    [
        own_mark, unasked, asked_too_long_ago, unheeded, forgotten, untold, told_before, refused,
        refused_another, refused_after_success, gap, gap_in_the_air, memory_in_the_end,
        long_lived, unconfirmed, owing, owing_what_another_was_given, replaced, replaced_in_the_air, another_wrote_it,
        written_after, overflowing, unmarked, not_back, still_owed,
    ],
)  # fmt: skip
def test_a_breach_is_seen_and_its_neighbour_is_not(telling: Telling) -> None:
    for wrong in (True, False):
        tale = Several()
        rule, limits = telling(tale, wrong)
        assert (rule in tale.broken(limits)) is wrong


def test_what_several_things_say_of_themselves_is_in_the_text() -> None:
    """Words and vendors, as the checker knows them."""
    tale = Several()
    tale.history.word(1, "heard", ("k",), 0, 1)
    tale.sent(SET, store="second")
    lines = tale.history.text().splitlines()
    assert lines[0].endswith("p1   backplane: heard of k from p0")
    assert lines[1].endswith("p0   second set #2 for #0 [closed] sim:k ...")


# The backplane and the vendors themselves


def plane(*hits: tuple[Interference, int]) -> tuple[SeededLoop, History, Hub]:
    loop = SeededLoop(Tape(), orderly=True)
    history = History(loop.time)
    hub = Hub(loop, Tape(), history, ["k"], ["t"])
    for trouble, process in hits:
        hub.begin(Disturbance(trouble, frozenset({process})))
    return loop, history, hub


MESSAGE = b"rc1" + bytes(8) + b"\0\0\0\2kk" + b"\0\0\0\2dx" + b"\0\0\0\1m" + b"\0\0\0\6mtag:t"


def talk(*hits: tuple[Interference, int]) -> tuple[list[str], bool]:
    """What is noted when process 0 tells process 1, and whether it was heard; then all is well and it ends."""
    loop, history, hub = plane(*hits)
    heard: list[bytes] = []

    async def main() -> None:
        here, there = Place(hub, 0), Place(hub, 1)
        listening = loop.create_task(there.listen("c", list, heard.append))
        await pass_time(0.01)
        try:
            await here.publish("c", MESSAGE)
        except ConnectionError as error:
            history.event(str(error))
        await pass_time(2.0)
        hub.heal()
        await there.aclose()
        await asyncio.wait([listening])
        assert isinstance(listening.exception(), ConnectionResetError)

    loop.run(main())
    return [word.what for word in history.words] + [event.what for event in history.events], heard == [MESSAGE]


@pytest.mark.parametrize(
    ("hits", "noted", "heard"),
    [
        ((), ["ready", "told", "heard", "lost"], True),
        (((Interference.SLOW, 1),), ["ready", "told", "heard", "lost"], True),
        (((Interference.LOSSY, 1),), ["ready", "told", "lost"], False),
        (((Interference.CUT, 1),), ["lost", "told"], False),
        (((Interference.MUTE, 0),), ["ready", "untold", "lost", "refused"], False),
        (((Interference.UNHEARD, 0),), ["ready", "unheard", "heard", "lost", "reset"], True),
    ],
)
def test_a_backplane_fails_as_it_is_told(
    hits: tuple[tuple[Interference, int], ...], noted: list[str], heard: bool
) -> None:
    assert talk(*hits) == (noted, heard)


def test_whoever_lost_a_message_is_cut_off_when_all_is_well() -> None:
    """And those who did not are not; what is on its way to who is gone does not arrive."""
    loop, history, hub = plane((Interference.LOSSY, 1), (Interference.SLOW, 2), (Interference.SLOW, 3))

    async def main() -> None:
        listening = [loop.create_task(Place(hub, process).listen("c", list, list)) for process in (1, 2, 3)]
        await pass_time(0.01)
        hub.publish(0, MESSAGE)
        hub.begin(Disturbance(Interference.CUT, frozenset({3, 4})))
        hub.leave(4)
        hub.heal()
        await pass_time(1.0)
        assert [task.done() for task in listening] == [True, False, True]
        hub.leave(2)
        await asyncio.wait(listening)
        for task in listening:
            assert task.exception()

    loop.run(main())
    assert [(word.process, word.names) for word in history.words if word.what == "heard"] == [(2, ("k", "*", "t"))]


class Broken:
    """A failover that cannot, and one that is left."""

    async def get(self, _key: str) -> None:
        await pass_time(1.0)

    async def delete(self, _key: str) -> None:
        raise OSError("no")

    def health(self) -> dict[str, object]:
        circuits = {"read": {"state": "open"}, "write": {"state": "closed"}}
        return {"serving": "first", "vendors": {"first": {"circuits": circuits}}}


def test_what_the_cache_asks_of_all_vendors_is_recorded() -> None:
    loop, history, _ = plane()
    first: Any = type("Vendor", (), {"name": "first", "state": None})()
    together = Together(history, 0, [first], Broken())

    async def main() -> None:
        with pytest.raises(OSError, match="no"):
            await together.delete("k")
        left = loop.create_task(together.get("k"))
        await pass_time(0.1)
        left.cancel()
        await asyncio.wait([left])

    loop.run(main())
    assert [command.ending for command in history.commands] == [Ending.RAISED, Ending.CANCELLED]
    assert [first.state(operation) for operation in (GET, SET)] == ["open", "closed"]
    assert serving(together.health()) == "first"
    assert serving(None) is None


class Wrapped:
    """A cache of one's own: the methods of ours, and nothing else."""

    def __init__(self, setup: Setup) -> None:
        self._cache = AsyncResilientCache[str, Any](setup.adapter, **setup.options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._cache, name)

    @property
    def mode(self) -> Mode:
        return self._cache.mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._cache.mode = mode


def test_a_cache_of_ones_own_is_simulated_with_one_store() -> None:
    """Without a failover nobody has two vendors."""
    runs = [simulate(Wrapped, seed) for seed in range(90)]
    assert not [violation for run in runs for violation in run.violations]
    assert any(run.swarm.peers is not None for run in runs)
    assert not any(run.swarm.vendors for run in runs)
