"""Thousands of hosts that nobody has asked for before, all at once: what reaches the record while no cache answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from resilient_cache import NotFound

from .directory import Directory
from .web import Router

__all__ = ["BURST", "BURSTS_EVERY", "LIMIT", "Rush", "rush"]

BURST: Final = 250
BURSTS_EVERY: Final = 0.3  # s
LIMIT: Final = 64  # questions to the record at once that a router may have by default


@dataclass(frozen=True, slots=True)
class Rush:
    """How it went. `peak`: questions to the record at once, those of the usual traffic included."""

    hosts: int
    failed: int
    wrong: int
    peak: int


async def rush(router: Router, directory: Directory, right: Mapping[str, str]) -> Rush:
    """Ask `router` for every host of `right`, host -> region, in bursts; past HTTP, which would be the bottleneck."""
    directory.peak = 0
    hosts = list(right)
    async with asyncio.TaskGroup() as asked:
        answers: list[asyncio.Task[str]] = []
        for start in range(0, len(hosts), BURST):
            answers += [asked.create_task(_ask(router, host)) for host in hosts[start : start + BURST]]
            await asyncio.sleep(BURSTS_EVERY)
    said = [answer.result() for answer in answers]
    failed = said.count("")
    wrong = sum(answer not in ("", right[host]) for host, answer in zip(hosts, said, strict=True))
    return Rush(len(hosts), failed, wrong, directory.peak)


async def _ask(router: Router, host: str) -> str:
    """The region, empty where HTTP would answer with a 5xx."""
    try:
        return (await router.resolve(host)).region.name
    except NotFound:
        return "nobody's"
    except Exception:  # noqa: BLE001 - what a router raises is what is counted here
        return ""
