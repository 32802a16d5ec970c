"""`python -m examples.region_resolver.process PLAN`: both routers in an operating system process of their own.

It ends when its standard input does, so nobody is left behind, however the demo ends. On its standard output it tells,
a JSON object a line: first where its routers listen, then how many invalidations its store has not confirmed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from resilient_cache import BreakerPolicy, CachePolicy
from resilient_cache.events import Event, Settled

from .directory import Directory
from .naive import NaiveRouter
from .resilient import ResilientRouter
from .upstreams import serving
from .web import Router, router_app

__all__ = ["Plan"]

GLANCE = 0.01  # s between two looks at what is pending


@dataclass(frozen=True, slots=True)
class Plan:
    """What a process needs to know, as plain data. Durations in seconds; `journal` is a path, or empty for none."""

    record: str
    record_delay: float
    upstreams: dict[str, str]
    store: str
    journal: str
    ttl: float
    timeout: float
    naive_timeout: float
    hold: float
    planted: bool


def routers(plan: Plan, directory: Directory, diary: Diary) -> dict[str, Router]:
    """The two routers; with `planted` both are naive."""
    naive = NaiveRouter(directory, plan.store, ttl=plan.ttl, timeout=plan.naive_timeout)
    if plan.planted:
        again = NaiveRouter(directory, plan.store, ttl=plan.ttl, timeout=plan.naive_timeout)
        return {"naive": naive, "resilient": again}
    resilient = ResilientRouter(
        directory,
        plan.store,
        policy=CachePolicy(ttl=plan.ttl, stale_for=300, timeout=plan.timeout),
        breaker=BreakerPolicy(hold=plan.hold, max_hold=2 * plan.hold),
        journal=plan.journal or None,
        hooks=[diary],
    )
    diary.health = resilient.cache.health
    return {"naive": naive, "resilient": resilient}


@dataclass(slots=True)
class Diary:
    """A hook that tells whoever started this process what the resilient router's store owes."""

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
            print(json.dumps({"at": asyncio.get_running_loop().time(), **news}), flush=True)

    async def keep(self) -> None:
        """Look again and again."""
        while True:
            self.look()
            await asyncio.sleep(GLANCE)


async def serve(plan: Plan) -> None:
    """Serve until standard input ends."""
    diary = Diary()
    async with AsyncExitStack() as exits:
        directory = Directory(plan.record, delay=plan.record_delay)
        exits.callback(directory.close)
        bases = {
            name: await exits.enter_async_context(serving(router_app(router, plan.upstreams)))
            for name, router in routers(plan, directory, diary).items()
        }
        print(json.dumps(bases), flush=True)
        keeping = asyncio.create_task(diary.keep())
        exits.callback(keeping.cancel)
        await asyncio.to_thread(sys.stdin.buffer.read)


if __name__ == "__main__":
    asyncio.run(serve(Plan(**json.loads(sys.argv[1]))))
