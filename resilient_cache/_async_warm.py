"""How a cache is filled before it is asked, for tasks: from the origin, and from a file. Twin of `_sync_warm.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from os import PathLike
from typing import Any, Generic

from typing_extensions import TypeVar

from . import _keeping
from ._async_flow import Flow
from ._async_upkeep import Tended
from ._asyncio import check_loader
from ._files import check_path
from ._task_calls import aside
from ._task_pool import KINDS, Keys, Pool
from ._warming import Tally, patient
from .entry import Duration, Entry
from .errors import MisuseError
from .outcome import Lookup, Progress
from .policy import CachePolicy

__all__ = ["Warmed"]

K = TypeVar("K", bound=str, default=str)
V = TypeVar("V", default=Any)


class Warmed(Tended, Generic[K, V]):
    """The part of a cache's face that is for its start and its end."""

    __slots__ = ()

    _flow: Flow

    async def warm(
        self,
        keys: Keys[K],
        loader: Callable[[K], Awaitable[V | Entry[V]]],
        concurrency: int = 8,
        *,
        progress: Callable[[Progress], object] | None = None,
        retries: int = 0,
        policy: CachePolicy | None = None,
        deadline: Duration | None = None,
    ) -> int:
        """Ask for each of `keys` as `get_or_load` does, `concurrency` at once; how many were loaded.

        A key whose load fails stops nothing and raises nothing: it is tried again up to `retries` times, each time
        after a longer pause, and then counts as failed. `progress` is told of each key when it is through, in the
        thread of the caller. `keys` may be a generator and is read as it is needed; `deadline` is for each key.

        Raises what `keys` raises, and `MisuseError`, also for a key that is none. Cancelled, it leaves nothing behind.
        """
        check_loader(loader)
        tally = Tally(self._rules, keys, KINDS, concurrency, retries, progress)
        policy = patient(self._rules, policy)

        async def work(key: K) -> Lookup[Any] | Exception:
            tries = 0
            while True:
                outcome = await self._try(key, loader, policy, deadline)
                pause = tally.again(outcome, tries)
                if pause is None or not await pool.nap(pause):
                    return outcome
                tries += 1

        pool = Pool(tally.concurrency, work)
        await pool.each(keys, tally.ended)
        return tally.loaded

    async def snapshot(self, path: str | PathLike[str]) -> int:
        """Write what is in memory to a file, for `restore` in a later process; how many entries are in it.

        The file is replaced in one step: a process that is killed meanwhile leaves the old one, whole. A value that
        the codec cannot encode is left out and counted. The work is done in a thread; memory is held up for 0.1 ms per
        1 000 entries. Raises `OSError` when the file cannot be written, and `MisuseError` for a path that is none.
        """
        rules, where = self._rules, check_path(path)
        rules.check_open()
        return _keeping.told_written(rules, await aside(_keeping.write, rules, where))

    async def restore(self, path: str | PathLike[str], *, fresh: bool = True) -> int:
        """Take into memory what an earlier process has left in a file; how many entries were taken.

        They keep their age and their windows, and are refused for all that an entry of the store would be: older than
        an invalidation that is known by then, not of this cache or codec. What is here already and newer stays. Where
        invalidations may have passed unheard an entry may only stand in for a load that fails; with `fresh=False` all.

        Costs one store operation at most, so that it is known what was invalidated. A file that is not there, not
        whole or another's gives 0, a count, an event and a line in the log. Never raises but `MisuseError`.
        """
        rules, where = self._rules, check_path(path)
        rules.check_open()
        await self._upkeep.catch_up()
        return _keeping.told_read(rules, where, await aside(_keeping.read, rules, where, fresh))

    async def _try(
        self, key: K, loader: Any, policy: CachePolicy | None, deadline: Duration | None
    ) -> Lookup[Any] | Exception:
        try:
            return await self._flow.resolve(key, loader, policy, deadline)
        except MisuseError:
            raise
        except Exception as error:  # noqa: BLE001 - not swallowed: it is what came of the key, and `progress` is told
            return error
