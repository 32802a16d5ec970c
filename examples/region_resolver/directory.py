"""The system of record: which tenant owns a host, and in which region that tenant lives. One SQLite file.

The demo slows it down (`delay`) and switches it off (`down`); it is asked on a thread, so the event loop never waits.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple

from resilient_cache import NotFound

from .hosts import canonical_host

__all__ = ["REGIONS", "Directory", "DirectoryDown", "Region", "Tenant", "crowded", "seeded"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

REGIONS: Final = ("eu", "us")
SCHEMA: Final = """
create table tenant (name text primary key, region text not null);
create table host (name text primary key, tenant text not null references tenant);
"""
FIND: Final = "select tenant.name, region from host join tenant on tenant.name = host.tenant where host.name = ?"
COLOURS: Final = ("amber", "azure", "coral", "ivory", "jade", "olive", "ruby", "teal")
TRADES: Final = ("bakery", "books", "bäckerei", "garden", "imkerei", "kiosk", "möbel", "optik", "tools", "wines")


@dataclass(frozen=True, slots=True)
class Region:
    """Where a tenant's data lives: what is cached."""

    tenant: str
    name: str


@dataclass(frozen=True, slots=True)
class Tenant:
    """A row of the record with all its hosts, for whoever has to know the right answers."""

    name: str
    region: str
    hosts: tuple[str, ...]


class DirectoryDown(Exception):
    """The record cannot be asked."""


class Directory:
    """A connection to the record. `lookup` is a loader as `get_or_load` wants it."""

    def __init__(self, path: str | Path, *, delay: float = 0.0) -> None:
        """`delay` is in seconds and is added to every question."""
        self.delay = delay
        self.down = False
        self.lookups = 0
        self.asking = 0  # questions that are under way
        self.peak = 0  # and the most there ever were
        self._connection = sqlite3.connect(path, check_same_thread=False)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="directory")

    async def lookup(self, host: str) -> Region:
        """The home region of `host`. Raises `NotFound` for a host nobody owns, `DirectoryDown` when nobody can say."""
        self.lookups += 1
        self.asking += 1
        self.peak = max(self.peak, self.asking)
        try:
            await self._reachable()
            row = await self._run(self._find, host)
        finally:
            self.asking -= 1
        if row is None:
            raise NotFound(host)
        return row

    async def move(self, tenant: str, region: str) -> list[str]:
        """Give `tenant` another home region; the hosts whose answer changed. Idempotent.

        Raises `NotFound` for an unknown tenant, `DirectoryDown` as `lookup` does.
        """
        await self._reachable()
        return await self._run(self._move, tenant, region)

    def close(self) -> None:
        """Ends the thread and the connection."""
        self._thread.shutdown(wait=True)
        self._connection.close()

    async def _reachable(self) -> None:
        if self.down:
            raise DirectoryDown("the record is switched off")
        await asyncio.sleep(self.delay)

    async def _run(self, call: Callable[[*Ts], T], *args: *Ts) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)
        except (sqlite3.Error, RuntimeError) as error:  # locked, full, damaged, other tables; or closed
            raise DirectoryDown(str(error)) from error

    def _find(self, host: str) -> Region | None:
        row = self._connection.execute(FIND, (host,)).fetchone()
        return Region(*row) if row else None

    def _move(self, tenant: str, region: str) -> list[str]:
        with self._connection:
            found = self._connection.execute("update tenant set region = ? where name = ?", (region, tenant)).rowcount
            rows = self._connection.execute("select name from host where tenant = ?", (tenant,)).fetchall()
        if not found:
            raise NotFound(tenant)
        return [name for (name,) in rows]


def seeded(path: Path, seed: int, count: int) -> list[Tenant]:
    """Write a record of `count` tenants with two hosts each into a new file; the same seed gives the same record."""
    dice = random.Random(seed)
    names = dice.sample([f"{colour}-{trade}" for colour in COLOURS for trade in TRADES], count)
    tenants = [Tenant(name, dice.choice(REGIONS), _hosts(name)) for name in names]
    connection = sqlite3.connect(path)
    with connection:
        connection.executescript(SCHEMA)
        connection.executemany("insert into tenant values (?, ?)", [(t.name, t.region) for t in tenants])
        connection.executemany("insert into host values (?, ?)", [(h, t.name) for t in tenants for h in t.hosts])
    connection.close()
    return tenants


def crowded(path: Path, tenants: Sequence[Tenant], count: int) -> dict[str, str]:
    """Give `count` more hosts to `tenants` in turn; region by host."""
    owners = {
        f"www{number}.{tenants[number % len(tenants)].hosts[0]}": number % len(tenants) for number in range(count)
    }
    connection = sqlite3.connect(path)
    with connection:
        rows = [(host, tenants[place].name) for host, place in owners.items()]
        connection.executemany("insert into host values (?, ?)", rows)
    connection.close()
    return {host: tenants[place].region for host, place in owners.items()}


def _hosts(tenant: str) -> tuple[str, ...]:
    return canonical_host(f"{tenant}.example"), canonical_host(f"shop.{tenant}.example")
