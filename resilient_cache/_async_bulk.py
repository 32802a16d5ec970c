"""Many keys in one call, for tasks: from top to bottom. Twin of `_sync_bulk.py`, and held equal to it by a test."""

from __future__ import annotations

from typing import Any, final

from . import _bulk, _bulk_loads
from ._async_batches import Batches
from ._asyncio import Behind, check_loader, load
from ._bulk import Crew
from ._bulk_loads import Leg
from ._request import Draft, Request
from ._rules import Rules
from ._task_bench import Bench
from ._task_bulkhead import wait_turn
from .bulk import Loaded
from .flights import LEADING
from .outcome import Invalidation, Source

__all__ = ["Bulk"]


@final
class Bulk:
    """The calls for many keys of one cache. A store never makes them raise."""

    __slots__ = ("_batches", "_behind", "_rules")

    def __init__(self, rules: Rules, batches: Batches, behind: Behind) -> None:
        self._rules = rules
        self._batches = batches
        self._behind = behind

    async def get(self, keys: object) -> dict[Any, Any]:
        """What there is without a loader."""
        rules = self._rules
        begun = _bulk.begin_many(rules, keys, peek=rules.peek)
        requests = _bulk.requests_of(begun)
        found: dict[str, Any] = {request.key: rules.recall(request) for request in requests}
        asking = [request for request in requests if found[request.key] is None and request.gates.read]
        found.update(await self._batches.read(asking))
        await self._batches.delete([request for request in asking if request.refused])
        return _bulk.collect(rules, begun, found)

    async def load(self, keys: object, load_many: Any, policy: object, deadline: object) -> Loaded[Any, Any]:
        """What `get_or_load_many` gives; raises what it raises."""
        check_loader(_bulk_loads.check_plain(load_many), "load_many")
        rules = self._rules
        begun = _bulk.begin_many(rules, keys, policy, deadline, loads=True, peek=rules.peek)
        return _bulk.conclude(rules, begun, await self._answers(_bulk.requests_of(begun), load_many))

    async def set(self, values: object, ttl: object) -> bool:
        """Put all values in place; whether the store has them all now."""
        stored: list[bool] = []
        drafts = _bulk.place_many(self._rules, values, ttl)
        withheld = [request for request, _ in drafts if request.withheld]
        await self._invalidated(withheld)
        accepted = [(request, draft) for request, draft in drafts if not request.withheld]
        await self._batches.write(accepted, lambda _, stored_: stored.append(stored_))
        return not withheld and all(stored)

    async def invalidate(self, keys: object) -> Invalidation:
        """Invalidate all of them; `CONFIRMED` if the store says so of each."""
        return await self._invalidated(_bulk.invalidate_many(self._rules, keys))

    async def _invalidated(self, requests: list[Request]) -> Invalidation:
        answers = await self._batches.delete(requests)
        outcomes = [self._rules.invalidated(request, answers.get(request.key)) for request in requests]
        return Invalidation.PENDING if Invalidation.PENDING in outcomes else Invalidation.CONFIRMED

    async def _answers(self, requests: list[Request], load_many: Any) -> dict[str, Any]:
        outcomes: dict[str, Any] = {request.key: self._rules.recall(request) for request in requests}
        await self._fly([request for request in requests if outcomes[request.key] is None], outcomes, load_many)
        due = [request for request in requests if request.due is not None]
        if due and not self._refresh(due, load_many):
            inline = self._rules.loads.freshness.inline
            await self._fly([request for request in due if inline(request, outcomes[request.key])], outcomes, load_many)
        return outcomes

    def _refresh(self, due: list[Request], load_many: Any) -> bool:
        """Start one load behind for what is due, but for what is on its way; False when nothing can run there."""
        rules, legs = self._rules, _bulk_loads.depart(self._rules, due)
        if not legs or self._behind.spawn(lambda: self._renew(legs, load_many), lambda: _bulk_loads.leave(rules, legs)):
            return True
        _bulk_loads.leave(rules, legs)
        return False

    async def _renew(self, legs: list[Leg], load_many: Any) -> None:
        leading = LEADING.get()
        LEADING.set(())  # nobody waits for it, so it may ask for what its starter loads
        try:
            await self._lead(legs, load_many, behind=True)
        finally:
            LEADING.set(leading)

    async def _fly(self, missing: list[Request], outcomes: dict[str, Any], load_many: Any) -> None:
        bench = Bench()
        crew = Crew(self._rules, missing, outcomes, bench.place)
        try:
            while crew.todo or crew.led or crew.waiting:
                crew.board()
                if crew.led:
                    bench.busy = True
                    crew.woken(bench.rung())  # who made this call an heir before that is led along
                    await self._take_lead(crew, load_many)
                    bench.busy = False
                else:
                    rung = await bench.wait(crew.patience())
                    crew.woken(rung) if rung else crew.overdue()
        except BaseException:
            crew.leave()
            raise

    async def _take_lead(self, crew: Crew, load_many: Any) -> None:
        led, rules = crew.led, self._rules
        if led[0].request.policy.load_timeout is not None:  # the load is to go on when its callers have lost patience
            seated = crew.sit()
            if self._behind.spawn(
                lambda: self._lead(led, load_many, behind=True),
                lambda: _bulk_loads.leave(rules, led),
            ):
                crew.led = []
                return
            crew.stand(seated)
        await self._lead(led, load_many)
        crew.landed()

    async def _lead(self, legs: list[Leg], load_many: Any, *, behind: bool = False) -> None:
        leading = LEADING.get()
        try:
            _bulk_loads.lead_together(legs)
            await self._answer(legs, load_many)
        except BaseException as error:
            if not behind or not self._behind.strikes(error):
                _bulk_loads.abandon(self._rules, legs)
                raise
            _bulk_loads.fail(self._rules, legs, error)
        finally:
            LEADING.set(leading)  # not reset by token: what is closed may be closed in another context

    async def _answer(self, legs: list[Leg], load_many: Any) -> None:
        """Land each of them, with what the store has or a load gives."""
        rules, land = self._rules, self._rules.local.land
        asking = [
            leg.request for leg in legs if leg.request.gates.read and not (leg.request.asked or leg.flight.forced)
        ]
        _bulk_loads.ask(legs)
        found = await self._batches.read(asking)
        for leg in legs:
            if leg.request.key in found:
                land(leg.flight, found[leg.request.key])
        left = [leg for leg in legs if leg.request.key not in found]
        await self._batches.look([leg.request for leg in left if leg.request.answered or leg.flight.forced])
        if not left:
            return
        waits = _bulk_loads.queue(rules, left)
        if waits is not None:
            await wait_turn(rules.loads.origin, waits.request, waits.flight)
        started, spared = _bulk_loads.begin_loads(rules, left)
        for leg, instead in spared:
            land(leg.flight, instead)
        if started:
            await self._load(started, load_many)

    async def _load(self, legs: list[Leg], load_many: Any) -> None:
        rules, land = self._rules, self._rules.local.land
        _bulk_loads.lead_together(legs)  # once more, of those that the store did not have
        try:
            values = _bulk_loads.by_key(legs, await load(load_many, [leg.request.given for leg in legs]))
        except Exception as error:  # noqa: BLE001 - not swallowed: it is the flights' outcome, and raised as it is
            _bulk_loads.fail(rules, legs, error)
            return
        _bulk_loads.answered(rules, legs)
        loaded = {leg.request.key: (leg, *_bulk_loads.loaded(rules, leg, values)) for leg in legs}
        drafts: list[tuple[Request, Draft | None]] = []
        for leg, outcome, draft in loaded.values():
            if draft is None:
                land(leg.flight, outcome)
            if draft is not None or outcome.source is Source.NEGATIVE:  # what that ends is owed: `write` notes it
                drafts.append((leg.request, draft))

        def ended(request: Request, _: bool) -> None:
            leg, outcome = loaded[request.key][:2]
            land(leg.flight, outcome)

        await self._batches.write(drafts, ended)
