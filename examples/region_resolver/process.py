"""`python -m examples.region_resolver.process PLAN`: routers of each kind in an operating system process of their own.

It ends when its standard input does, so nobody is left behind, however the demo ends. On its standard output it tells,
a JSON object a line: first where its routers listen, then how many invalidations their stores have not confirmed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from resilient_cache import BreakerPolicy
from resilient_cache.events import Event, Settled

from .directory import Directory
from .naive import NaiveRouter
from .resilient import POLICY, ResilientRouter
from .upstreams import serving
from .web import Router, router_app

__all__ = ["NAMES", "Plan"]

NAMES = ("naive", "resilient", "two vendors")

GLANCE = 0.01  # s between two looks at what is pending


@dataclass(frozen=True, slots=True)
class Plan:
    """What a process needs to know, as plain data. Durations in seconds; `journal` is a path, or empty for none."""

    record: str
    record_delay: float
    upstreams: dict[str, str]
    store: str
    far: str
    journal: str
    ttl: float
    timeout: float
    naive_timeout: float
    hold: float
    planted: bool


def routers(plan: Plan, directory: Directory) -> tuple[dict[str, Router], list[Diary]]:
    """The routers by name, and the diaries of the resilient ones; with `planted` all are naive."""

    def naive() -> Router:
        return NaiveRouter(directory, plan.store, ttl=plan.ttl, timeout=plan.naive_timeout)

    if plan.planted:
        return {name: naive() for name in NAMES}, []
    diaries = [Diary(name) for name in NAMES[1:]]
    single, double = diaries
    both: dict[str, Router] = {
        single.name: resilient(plan, directory, single, plan.store, None),
        double.name: resilient(plan, directory, double, f"{plan.store}/1", plan.far),
    }
    return {NAMES[0]: naive(), **both}, diaries


def resilient(plan: Plan, directory: Directory, diary: Diary, store: str, second: str | None) -> Router:
    """A router on `store`, and on `second` where there is one."""
    router = ResilientRouter(
        directory,
        store,
        second_url=second,
        policy=replace(POLICY, ttl=plan.ttl, stale_for=300, timeout=plan.timeout),
        breaker=BreakerPolicy(hold=plan.hold, max_hold=2 * plan.hold),
        journal=plan.journal and f"{plan.journal}-{diary.name}",
        hooks=[diary],
    )
    diary.health = router.cache.health
    return router


@dataclass(slots=True)
class Diary:
    """A hook that tells whoever started this process what is pending in one router."""

    name: str
    health: Callable[[], Mapping[str, object]] = dict
    settled: int = 0
    told: object = None

    def __call__(self, event: Event) -> None:
        """Takes every event; counts one kind."""
        if isinstance(event, Settled):
            self.settled += 1
            self.look()

    def look(self) -> None:
        """Tell how many invalidations are pending, and how many were confirmed late, if that is news."""
        news = {"pending": self.health().get("pending_invalidations", 0), "settled": self.settled}
        if news != self.told:
            self.told = news
            print(json.dumps({"router": self.name, "at": asyncio.get_running_loop().time(), **news}), flush=True)

    async def keep(self) -> None:
        """Look again and again."""
        while True:
            self.look()
            await asyncio.sleep(GLANCE)


async def serve(plan: Plan) -> None:
    """Serve until standard input ends."""
    async with AsyncExitStack() as exits:
        directory = Directory(plan.record, delay=plan.record_delay)
        exits.callback(directory.close)
        named, diaries = routers(plan, directory)
        bases = {
            name: await exits.enter_async_context(serving(router_app(router, plan.upstreams)))
            for name, router in named.items()
        }
        print(json.dumps(bases), flush=True)
        for diary in diaries:
            exits.callback(asyncio.create_task(diary.keep()).cancel)
        await asyncio.to_thread(sys.stdin.buffer.read)


if __name__ == "__main__":
    asyncio.run(serve(Plan(**json.loads(sys.argv[1]))))
