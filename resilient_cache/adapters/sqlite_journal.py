"""A file in which a cache writes down what its store still owes it: one table in SQLite, from the standard library.

What `add` has returned from survives the end of the process, `kill -9` included. A power cut or a crash of the
operating system may take the last of it, for nothing waits for the disk (a write-ahead log, `synchronous=NORMAL`), but
does not damage the file.

A connection to SQLite must not be open on both sides of a fork: its locks belong to a process, and what the library
remembers of them goes on being remembered in the child, which then holds none. Measured: a row that a child wrote was
gone when its parent had closed the file. So the file is closed before a fork and opened again by whoever uses it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from threading import RLock
from typing import Any, Final, TypeVar, final

from ..errors import MisuseError
from ..forking import protect

__all__ = ["SqliteJournal"]

T = TypeVar("T")

OURS: Final = 0x72634A31  # "rcJ1": SQLite's place for saying whose file it is
VERSION: Final = 1
LONGEST_PATIENCE: Final = 60.0
UNSEEN: Final = "the file was opened before a fork that Python was not told of"

# Names as bytes: a str may hold half of a surrogate pair, which SQLite's text cannot.
CREATE: Final = "CREATE TABLE owed (name BLOB PRIMARY KEY, stamp INTEGER NOT NULL) WITHOUT ROWID"
ADD: Final = "INSERT INTO owed VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET stamp = max(stamp, excluded.stamp)"
STRIKE: Final = "DELETE FROM owed WHERE name = ? AND stamp <= ?"
LOAD: Final = "SELECT name, stamp FROM owed ORDER BY stamp, name"
WHOSE: Final = (
    "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master) "
    "FROM pragma_application_id, pragma_user_version"
)


@final
class SqliteJournal:
    """A durable journal in the SQLite file at `path`, made at the first use if it is not there; its folder must be.

    Threads may share it, several processes may share the file, and so may a process and its forks, and caches of
    different names. The file holds a row for each name that is owed, and must not be removed while somebody uses it.

    Every method raises `sqlite3.Error`, or `OSError`, for a file that cannot be used: no SQLite, another application's,
    of a later version, damaged, read-only, on a full disk, in no folder, locked by another process for longer than
    `patience` seconds (then the call took about that long, at the first use a few times that). Nothing was written
    then, nothing is ever repaired or removed, and the next call tries anew.

    Raises `MisuseError` for a path that can never work. Costs 20 us for each `add`, and every thousand or so a few
    milliseconds more, when the log is written back to the disk.
    """

    __slots__ = ("__weakref__", "_closed", "_connection", "_path", "_patience", "_pid", "lock")

    def __init__(self, path: str | Path, *, patience: float | timedelta = 0.05) -> None:
        self._path = _whole(path)
        self._patience = _seconds(patience)
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._closed = False
        self.lock = RLock()
        protect(self)

    def load(self) -> list[tuple[str, int]]:
        """Everything that was added and not struck out, by anybody: (name, stamp), the earliest first."""
        rows = self._run(lambda connection: connection.execute(LOAD).fetchall())
        return [(name.decode("utf-8", "surrogatepass"), stamp) for name, stamp in rows]

    def add(self, name: str, stamp: int, /) -> None:
        """Write `name` down; an earlier stamp of it is replaced, a later one stays."""
        self._run(lambda connection: connection.execute(ADD, _row(name, stamp)))

    def strike(self, settled: Sequence[tuple[str, int]], /) -> None:
        """Strike out each name, unless it has been added with a later stamp. All of them, or none and an exception."""
        self._run(lambda connection: _strike(connection, settled))

    def close(self) -> None:
        """Close the file; later calls raise `sqlite3.ProgrammingError`. Again is harmless."""
        with self.lock:
            self._closed = True
            self._hang_up()

    def forking(self) -> None:
        """Close the file before a fork: whoever uses it next, on either side, opens it again."""
        self._hang_up()

    def forked(self) -> None:
        """Nothing is open in a child."""

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if not self.lock.acquire(timeout=self._patience):  # or threads would wait in a row, each for its own patience
            raise sqlite3.OperationalError("locked by other threads")
        try:
            connection = self._opened()
            try:
                return work(connection)
            except BaseException:
                self._hang_up()  # what is wrong with the file may be gone when it is opened again
                raise
        finally:
            self.lock.release()

    def _opened(self) -> sqlite3.Connection:
        if self._closed:
            raise sqlite3.ProgrammingError("closed")
        if self._connection is None:
            self._connection, self._pid = _connected(self._path, self._patience), os.getpid()
        elif self._pid != os.getpid():
            raise sqlite3.ProgrammingError(UNSEEN)
        return self._connection

    def _hang_up(self) -> None:
        connection = self._connection
        if connection is not None and self._pid == os.getpid():
            self._connection = None
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _connected(path: str, patience: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
        if not _is_ours(connection, path):
            _log_ahead(connection, patience)
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                if not _is_ours(connection, path):  # nobody was faster
                    connection.execute(CREATE)
                    connection.execute(f"PRAGMA application_id = {OURS}")
                    connection.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


def _log_ahead(connection: sqlite3.Connection, patience: float) -> None:
    """SQLite itself waits for no other here: of four processes that make one file at once 26 in 600 were refused."""
    import tenacity  # noqa: PLC0415 - 30 ms, and only when the file is made

    tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_busy),
        wait=tenacity.wait_random(0, 0.002),
        stop=tenacity.stop_after_delay(patience),
        reraise=True,
    )(connection.execute, "PRAGMA journal_mode = WAL")


def _is_busy(error: BaseException) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY


def _is_ours(connection: sqlite3.Connection, path: str) -> bool:
    """Whether the table is there; not in a file that is empty. Raises for any other file, which is left alone."""
    owner, version, tables = connection.execute(WHOSE).fetchone()
    if (owner, version) == (OURS, VERSION):
        return True
    if (owner, version, tables) == (0, 0, 0):
        return False
    what = f"a journal of version {version}" if owner == OURS else "another application's database"
    raise sqlite3.DatabaseError(f"{path} is {what}")


def _strike(connection: sqlite3.Connection, settled: Sequence[tuple[str, int]]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        connection.executemany(STRIKE, [_row(name, stamp) for name, stamp in settled])


def _row(name: str, stamp: int) -> tuple[bytes, int]:
    return name.encode("utf-8", "surrogatepass"), stamp


def _whole(path: Any) -> str:
    """The path from the root on: it means the same file wherever the process goes, and never one in memory."""
    if not isinstance(path, str | Path) or not str(path) or "\0" in str(path):
        raise MisuseError(f"path must be a str or a Path that names a file, not {path!r}")
    return os.path.abspath(path)


def _seconds(patience: float | timedelta) -> float:
    seconds = patience.total_seconds() if isinstance(patience, timedelta) else patience
    if not 0 <= seconds <= LONGEST_PATIENCE:
        raise MisuseError(f"patience must be 0 to {LONGEST_PATIENCE:g} s, not {patience!r}")
    return seconds
