"""The flow, for threads: one request from top to bottom. Twin of `_async_flow.py`, and held equal to it by a test."""

from __future__ import annotations

from typing import Any, final

from ._guard import NOT_ASKED, Answer
from ._local import KEY
from ._mistakes import Mistakes
from ._request import Draft, Request
from ._sync_hedge import Hedge
from ._sync_marks import MarkStore
from ._sync_store import Store
from ._sync_upkeep import Upkeep
from ._thread_bulkhead import wait_turn
from ._threads import Behind, Seat, check_loader, load
from .entry import Duration
from .flights import AGAIN, FOUND, LEAD, LEADING, Flight, lead
from .marks import NAMESPACE
from .outcome import Lookup, Mistake, Reason, Source
from .policy import CachePolicy

__all__ = ["Flow"]


@final
class Flow:
    """The requests of one cache. A store never makes it raise."""

    __slots__ = ("_behind", "_hedge", "_marks", "_mistakes", "_rules", "_store", "_upkeep")

    def __init__(self, store: Store, marks: MarkStore, upkeep: Upkeep, behind: Behind) -> None:
        self._rules = store.rules
        self._store = store
        self._marks = marks
        self._mistakes = Mistakes(store.rules)
        self._upkeep = upkeep
        self._behind = behind
        self._hedge = Hedge(store.rules, marks, behind)

    def look_up(self, key: str, policy: CachePolicy | None = None, deadline: Duration | None = None) -> Lookup[Any]:
        """What there is for `key` without a loader."""
        rules = self._rules
        request = rules.begin(key, policy, deadline)
        result = rules.recall(request)
        if result is None and request.gates.read:
            result = self._read(request)
            if request.refused:
                self.delete(request)
        if result is None:
            result = rules.loads.leftover(request)
        return rules.finish(result, request.reason)

    def resolve(
        self, key: str, loader: Any, policy: CachePolicy | None, deadline: Duration | None, *, forced: bool = False
    ) -> Lookup[Any]:
        """What `get_or_load` gives, with its provenance; raises what it raises."""
        check_loader(loader)
        rules = self._rules
        request = rules.begin(key, policy, deadline, loads=True, forced=forced)
        found: Any = rules.recall(request)
        while found is None or (request.due is not None and self._is_inline(request, found, loader)):
            flight, seat = rules.local.board(request, Seat, rules.monotonic())
            if seat is None:
                outcome = self._take_lead(request, flight, None, loader)
            else:
                outcome = self._follow(request, flight, seat, loader)
            if outcome is not AGAIN:
                outcome = rules.loads.settle(request, outcome)
            found = None if outcome is AGAIN else outcome
        return rules.finish(found, request.reason)

    def write(self, request: Request, draft: Draft | None) -> bool:
        """Write `draft`, if any, for a request; whether the store has the value now."""
        try:
            data = None if draft is None else self._marks.sealed(request, draft)
            stored = self._rules.written(request, None if data is None else self._store.set(request, data))
            if not stored:
                self._upkeep.note(KEY + request.key)
        finally:
            self._upkeep.soon()
        return stored

    def delete(self, request: Request) -> Answer | None:
        """Have the store delete the request's key; what it said, None when it was not asked."""
        try:
            if request.stamp:
                self._upkeep.note(KEY + request.key)
            return self._store.delete(request) if request.gates.write else None
        finally:  # also for a caller who is taken away: it is owed from the first moment on
            self._upkeep.soon()

    def correct(self, key: str, seen: object) -> Mistake:
        """What came of a report that `seen` was wrong."""
        rules, mistakes = self._rules, self._mistakes
        request = rules.begin(key)
        since = rules.local.stamps.next()
        found = mistakes.recall(request)
        if found is None and request.gates.read and mistakes.may_heed(request.key):
            found = self._read(request)
        mistake = mistakes.judge(request, found, seen, since)
        if mistake is None:
            mistake = Mistake(rules.invalidated(request, self.delete(request)))
        return mistakes.told(mistake)

    def _is_inline(self, request: Request, found: Any, loader: Any) -> bool:
        """Have what is due loaded behind; whether the request has to wait for the load, as nothing runs there."""
        started, request.due = self._refresh(request, loader), None
        return not started and self._rules.loads.freshness.inline(request, found)

    def _refresh(self, request: Request, loader: Any) -> bool:
        """Start the load that is due behind, unless one is on its way; False when nothing can run there."""
        local, monotonic = self._rules.local, self._rules.monotonic
        departed = self._rules.loads.freshness.depart(request)
        if departed is None:
            return True
        renewal, flight = departed
        if self._behind.spawn(
            lambda: self._renew(renewal, flight, loader), lambda: local.leave(flight, None, monotonic())
        ):
            return True
        local.leave(flight, None, monotonic())
        return False

    def _renew(self, request: Request, flight: Flight[Any], loader: Any) -> None:
        leading = LEADING.get()
        LEADING.set(())  # nobody waits for it, so it may ask for what its starter loads
        try:
            self._lead(request, flight, None, loader, behind=True)
        finally:
            LEADING.set(leading)

    def _take_lead(self, request: Request, flight: Flight[Any], seat: Any, loader: Any) -> Any:
        if request.policy.load_timeout is None:
            return self._lead(request, flight, seat, loader)
        return self._lead_behind(request, flight, seat, loader)

    def _lead_behind(self, request: Request, flight: Flight[Any], seat: Any, loader: Any) -> Any:
        local, monotonic = self._rules.local, self._rules.monotonic
        behind = local.sit(flight, Seat)  # the load is to go on when its callers have lost patience
        if self._behind.spawn(
            lambda: self._lead(request, flight, seat, loader, behind=True),
            lambda: local.leave(flight, seat, monotonic()),
        ):
            return self._follow(request, flight, behind, loader)
        local.leave(flight, behind, monotonic())
        return self._lead(request, flight, seat, loader)

    def _lead(self, request: Request, flight: Flight[Any], seat: Any, loader: Any, *, behind: bool = False) -> Any:
        local, leading = self._rules.local, LEADING.get()
        try:
            lead(flight)
            outcome: Any = None
            if request.gates.read and not request.asked and not flight.forced:
                if request.policy.hedge_after is None or request.renews:
                    outcome = self._read(request)
                else:
                    outcome = self._hedged(request, flight, loader)
            if outcome is None:
                outcome = self._load(request, flight, loader)
        except BaseException as error:
            if flight.leader is seat:
                self._rules.loads.origin.left(flight)
            if not behind or not self._behind.strikes(error):
                local.leave(flight, seat, self._rules.monotonic())
                raise
            outcome = self._rules.loads.failed(request, flight, error)
        finally:
            LEADING.set(leading)  # not reset by token: what is closed may be closed in another context
        if flight.leader is seat:  # else a load that was begun beside the store's read leads it, and lands it
            local.land(flight, outcome)
        return outcome

    def _follow(self, request: Request, flight: Flight[Any], seat: Any, loader: Any) -> Any:
        rules = self._rules
        try:
            seat.wait(rules.loads.patience(request, flight))
        except BaseException:
            seat.leave()
            rules.local.leave(flight, seat, rules.monotonic())
            raise
        if seat.verdict == LEAD:
            return self._take_lead(request, flight, seat, loader)
        if seat.verdict == FOUND:
            return rules.loads.shared(request, flight.found)
        if flight.outcome is None:
            rules.local.leave(flight, seat, rules.monotonic())
            return rules.loads.timed_out(request, flight)
        return rules.loads.shared(request, flight.outcome)

    def _hedged(self, request: Request, flight: Flight[Any], loader: Any) -> Any:
        found, place = self._hedge.read(request, flight, self._read, lambda beside: self._load(beside, flight, loader))
        return found if place is None else self._follow(request, flight, place, loader)

    def _load(self, request: Request, flight: Flight[Any], loader: Any) -> Any:
        rules = self._rules
        if request.answered or flight.forced:  # then what is loaded is written, under the marks known before
            self._marks.look(request, (NAMESPACE,), request.since)
        if rules.loads.origin.is_full(request, flight):
            wait_turn(rules.loads.origin, request, flight)
        instead = rules.loads.begin(request, flight)
        if instead is not None:
            return instead
        try:
            value = load(rules.loads.freshness.armed(request, loader), request.given)
        except Exception as error:  # noqa: BLE001 - not swallowed: it is the flight's outcome, and raised as it is
            failure = rules.loads.failed(request, flight, error)
            if failure.source is Source.NEGATIVE:
                self.write(request, None)
            return failure
        outcome, draft = rules.loads.loaded(request, flight, value)
        if draft is not None or request.forced or outcome.source is Source.NEGATIVE:
            self.write(request, draft)
        return outcome

    def _read(self, request: Request) -> Lookup[Any] | None:
        request.asked = True
        try:
            known = not self._rules.debts.unread or self._upkeep.recover()
            answer = self._store.get(request) if known else NOT_ASKED[Reason.BUSY]
        finally:
            self._upkeep.soon()
        found = self._rules.judge(request, answer)
        return self._marks.judge(request, answer) if request.unsure else found
