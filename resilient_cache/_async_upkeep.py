"""What a cache does behind its callers, for tasks: collect what the store owes. Twin of `_sync_upkeep.py`."""

from __future__ import annotations

from typing import Any, final

from ._async_collector import Collector
from ._async_marks import MarkStore
from ._async_store import Store
from ._asyncio import Behind, Spawn
from ._face import Face
from ._guard import Answer
from ._local import KEY, MARK
from ._request import Request
from ._task_calls import FAILED, attempt, hand_over
from ._task_listener import Listener
from ._task_ticker import BATCH
from .entry import Duration
from .errors import MisuseError
from .journal import Debt
from .marks import NAMESPACE
from .outcome import Invalidation

__all__ = ["Tended", "Upkeep"]


@final
class Upkeep(Collector):
    """The work behind one cache."""

    __slots__ = (
        "_backplane",
        "_durable",
        "_listener",
        "_marks",
        "_rules",
        "_store",
    )

    def __init__(
        self,
        store: Store,
        marks: MarkStore,
        behind: Behind,
        *,
        spawn: Spawn | None,
        durable: Any,
        backplane: Any,
    ) -> None:
        self._rules = rules = store.rules
        super().__init__(rules.debts, behind, spawn, rules.monotonic)
        self._store = store
        self._marks = marks
        self._durable = durable
        if durable is not None:
            rules.debts.keep_book()

        self._backplane = backplane
        self._listener = None if rules.plane is None else Listener(rules.plane, backplane)

    async def recover(self) -> bool:
        """Take over what an earlier process left in the durable journal, and ask for it, for `timeout` at most.

        False while it is not known what was invalidated, because others are reading it yet.
        """
        debts, guard, written = self._rules.debts, self._rules.guard, None
        reader = debts.reads()
        try:
            written = await attempt(lambda: list(self._durable.load()))
        finally:
            known = debts.recovered(reader, written)
        until = guard.monotonic() + guard.timeout
        while await self._round(until):
            pass
        return known

    async def catch_up(self) -> None:
        """Know what was invalidated before: by the durable journal and the namespace's mark, within `timeout` each."""
        if self._rules.debts.unread:
            await self.recover()
        request = self._rules.begin(NAMESPACE)
        await self._marks.ask(request, self._rules.marking.unknown(request), request.since)

    async def note(self, name: str) -> None:
        """Write down what is owed under `name`, if anything is and there is a durable journal."""
        if self._durable is None:
            return
        debts = self._rules.debts
        stamp = debts.stamp(name)
        if stamp is not None and await attempt(self._durable.add, debts.row(name), stamp) is FAILED:
            debts.not_written()

    async def revoke(self, request: Request) -> Invalidation:
        """Have a mark changed, now and if need be behind; the word to give for it."""
        try:
            outcome = await self._marks.revoke(request)
            if outcome is Invalidation.PENDING:
                await self.note(MARK + request.key)
        finally:
            self.soon()
        return outcome

    def soon(self) -> None:
        """See to it that what is owed is asked for in time, that peers are told, and that somebody listens to them."""
        if self._listener is not None:
            self._listener.wake()
        elif not self._debts.any:
            return
        super().soon()

    async def flush(self, timeout: Duration) -> int:
        """Ask for everything that is owed until it is confirmed or the time is over; how many are left."""
        if self._closed:
            raise MisuseError(f"cache {self._rules.name!r} is closed: make a new one")
        return await super().flush(timeout)

    async def close(self) -> int:
        """Ask once more for everything, tell the peers, and close what stands beside the store; what is left."""
        if self._listener is not None:
            self._listener.end()  # first: whoever closes may be taken away while the store is asked
        left = await super().close()
        await self._tell()
        if self._listener is not None:
            await self._listener.close()
        if self._durable is not None:
            await attempt(getattr(self._durable, "close", list))  # or nothing
        return left

    async def _turn(self, most: int) -> int:
        settled = await super()._turn(most)
        await self._tell()
        return settled

    async def _round(self, until: float, most: int = BATCH) -> int:
        settled = await super()._round(until, most)
        await self._strike()
        return settled

    def _pause(self, pause: float | None) -> float | None:
        """The sooner of `pause` and of when there is something to tell."""
        plane = self._rules.plane
        untold = None if plane is None else plane.pause()
        return pause if untold is None else untold if pause is None else min(pause, untold)

    async def _tell(self) -> None:
        """Tell the peers what they have not been told."""
        plane, limit = self._rules.plane, self._rules.guard.timeout
        while plane is not None and (message := plane.message()) is not None:
            data, names = message
            told = await hand_over(limit, self._backplane.publish, plane.channel, data) is not FAILED
            plane.published(names, handed_over=told)

    async def _strike(self) -> None:
        if self._durable is None:
            return
        gone = self._rules.debts.let_go()
        if gone and await attempt(self._durable.strike, gone) is FAILED:
            self._rules.debts.not_written()

    async def _settle(self, debt: Debt) -> bool:
        await self._tell()  # first: a silent store takes its whole timeout for each debt, and peers wait for none
        began = self._rules.monotonic()
        if debt.name.startswith(MARK):
            answer = await self._marks.replay(debt, debt.name[len(MARK) :])
        else:
            answer = await self._delete(debt, debt.name[len(KEY) :])
        return self._rules.debts.answered(debt, answer, began)

    async def _delete(self, debt: Debt, key: str) -> Answer:
        answer = await self._store.get_behind(key) if debt.confirmed else None
        if answer is not None and self._rules.is_clean(key, answer, debt.newest):
            return answer
        return await self._store.delete_behind(key)


class Tended(Face):
    """The part of a cache's face that is seen to behind."""

    __slots__ = ("_upkeep",)

    _upkeep: Upkeep

    async def invalidate_all(self) -> Invalidation:
        """The same as `invalidate`, for every key. `CONFIRMED`: other processes heed it within `epoch_ttl`."""
        return await self._upkeep.revoke(self._rules.revoke_all())

    async def invalidate_tag(self, tag: str) -> Invalidation:
        """The same for every value that was given `tag`, as in `Entry(value, tags=(tag,))`."""
        return await self._upkeep.revoke(self._rules.revoke_tag(tag))

    async def flush(self, timeout: Duration = 1.0) -> int:
        """Ask the store for every invalidation that it has not confirmed; how many are left after `timeout` seconds.

        0: every other process that asks the store now finds nothing older. Takes one store operation longer at most,
        three where a mark is owed.
        Never raises for a store; `MisuseError` for an illegal timeout and when the cache is closed.
        """
        return await self._upkeep.flush(timeout)
