"""What a fault is played on: a real server, the wire in front of it, or a file; and the callers meanwhile."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from resilient_cache.adapters import from_functions
from resilient_cache.adapters.redis import AsyncRedisAdapter, RedisAdapter
from resilient_cache.testing import ChaosProxy

from ..servers import ValkeyServer
from .load import Load, Pace

__all__ = ["Stage", "Table"]


class Table:
    """A store in one SQLite file, which fails at once when somebody else holds the file."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        self._run("PRAGMA synchronous = OFF")
        self._run("CREATE TABLE IF NOT EXISTS cache (key TEXT PRIMARY KEY, value BLOB)")

    def get(self, key: str) -> bytes | None:
        rows = self._run("SELECT value FROM cache WHERE key = ?", key)
        return rows[0][0] if rows else None

    def set(self, key: str, value: bytes, ttl: float) -> None:
        self._run("INSERT OR REPLACE INTO cache VALUES (?, ?)", key, value)

    def delete(self, key: str) -> None:
        self._run("DELETE FROM cache WHERE key = ?", key)

    def close(self) -> None:
        self._connection.close()

    def _run(self, statement: str, *values: object) -> list[Any]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()


class Stage:
    """A scene begins by saying what the cache talks to: `valkey`, `wire` or `table`."""

    server: ValkeyServer
    proxy: ChaosProxy
    path: Path
    load: Load

    def __init__(self, colour: str, pace: Pace) -> None:
        self.colour, self.pace = colour, pace
        self.adapter: Any = None
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._exits.close()

    def valkey(self, *options: str, **client: Any) -> ValkeyServer:
        """A server, and an adapter that speaks to it."""
        self.server = self._exits.enter_context(ValkeyServer(*options))
        self._connect(self.server.port, **client)
        return self.server

    def wire(self) -> ChaosProxy:
        """A server, and an adapter that speaks to it through a proxy."""
        self.server = self._exits.enter_context(ValkeyServer())
        self.proxy = self._exits.enter_context(ChaosProxy(self.server.port))
        self._connect(self.proxy.port)
        return self.proxy

    def table(self) -> Path:
        """A file, and an adapter that keeps everything in it."""
        path = Path(self._exits.enter_context(tempfile.TemporaryDirectory(prefix="rc-")), "cache.sqlite")
        table = Table(path)
        self._exits.callback(table.close)
        self.adapter = _sync(table) if self.colour == "sync" else _awaited(table)
        return path

    def _connect(self, port: int, **client: Any) -> None:
        kind = RedisAdapter if self.colour == "sync" else AsyncRedisAdapter
        self.adapter = kind.from_url(f"redis://127.0.0.1:{port}", timeout=self.pace.timeout, **client)


def _sync(table: Table) -> Any:
    return from_functions(table.get, table.set, table.delete, close=table.close)


def _awaited(table: Table) -> Any:
    async def get(key: str) -> bytes | None:
        return await asyncio.to_thread(table.get, key)

    async def put(key: str, value: bytes, ttl: float) -> None:
        await asyncio.to_thread(table.set, key, value, ttl)

    async def delete(key: str) -> None:
        await asyncio.to_thread(table.delete, key)

    return from_functions(get, put, delete)
