"""A journal in an SQLite file keeps what was added: over kill -9, forks, two processes, locks and a full disk."""

from __future__ import annotations

import gc
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_cache.adapters import sqlite_journal
from resilient_cache.adapters.sqlite_journal import SqliteJournal
from resilient_cache.errors import MisuseError
from resilient_cache.protocols import DurableJournal

from .servers import in_child

pytestmark = pytest.mark.realtime

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "owed.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[SqliteJournal]:
    opened = SqliteJournal(path)
    yield opened
    opened.close()


def loaded(path: Path) -> list[tuple[str, int]]:
    """What another process would find."""
    reader = SqliteJournal(path, patience=5.0)
    try:
        return reader.load()
    finally:
        reader.close()


# What it keeps


def test_the_later_stamp_stays_whichever_came_first(journal: SqliteJournal) -> None:
    as_protocol: DurableJournal = journal
    for name, stamp in (("a", 2), ("b", 5), ("a", 3), ("b", 4), ("c", 1)):
        as_protocol.add(name, stamp)
    assert list(as_protocol.load()) == [("c", 1), ("a", 3), ("b", 5)]


def test_what_was_added_again_later_is_not_struck_out(journal: SqliteJournal) -> None:
    for name, stamp in (("a", 2), ("b", 5), ("c", 7)):
        journal.add(name, stamp)
    journal.strike([("a", 2), ("b", 4), ("c", 8), ("unknown", 1)])
    assert journal.load() == [("b", 5)]
    journal.strike([])
    assert journal.load() == [("b", 5)]


def test_names_are_kept_whatever_is_in_them(journal: SqliteJournal, path: Path) -> None:
    @given(st.sets(st.text(st.characters(), max_size=40) | st.just("\ud800\x00'; DROP TABLE owed; --"), max_size=20))
    def check(names: set[str]) -> None:
        owed = [(name, 1_764_000_000_000_000 + number) for number, name in enumerate(sorted(names))]
        for name, stamp in owed:
            journal.add(name, stamp)
        assert loaded(path) == owed
        journal.strike(owed)
        assert journal.load() == []

    check()


def test_striking_is_all_or_nothing(journal: SqliteJournal) -> None:
    journal.add("a", 1)
    with pytest.raises(OverflowError):
        journal.strike([("a", 1), ("b", 2**70)])
    assert journal.load() == [("a", 1)]


def test_nothing_is_opened_before_it_is_used(path: Path) -> None:
    journal = SqliteJournal(str(path), patience=timedelta(seconds=0.1))
    assert not path.exists()
    assert journal.load() == []
    assert path.exists()
    journal.close()


def test_the_path_means_the_same_file_wherever_the_process_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    journal = SqliteJournal(":memory:")
    monkeypatch.chdir("/")
    journal.add("a", 1)
    journal.close()
    assert loaded(tmp_path / ":memory:") == [("a", 1)]


def test_what_cannot_work_is_misuse() -> None:
    paths: list[Any] = [b"owed", None, 3, "", "a\0b"]
    for bad in paths:
        with pytest.raises(MisuseError, match="path must be"):
            SqliteJournal(bad)
    for patience in (-1, 61.0, float("nan"), timedelta(days=1)):
        with pytest.raises(MisuseError, match="patience must be"):
            SqliteJournal("owed", patience=patience)


def test_closed_is_closed(journal: SqliteJournal) -> None:
    journal.add("a", 1)
    journal.close()
    journal.close()
    for call in (journal.load, lambda: journal.add("b", 1), lambda: journal.strike([("a", 1)])):
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            call()


# Files that cannot be used


def refused(journal: SqliteJournal, told: str) -> None:
    calls: list[Callable[[], object]] = [
        journal.load,
        lambda: journal.add("a", 1),
        lambda: journal.strike([("a", 1)]),
    ]
    for call in calls:
        with pytest.raises((sqlite3.Error, OSError), match=told):
            call()


def test_a_file_that_is_no_database_is_left_alone(journal: SqliteJournal, path: Path) -> None:
    path.write_bytes(b"not for you " * 1000)
    refused(journal, "not a database")
    assert path.read_bytes() == b"not for you " * 1000
    path.unlink()
    journal.add("a", 1)
    assert journal.load() == [("a", 1)]


@pytest.mark.parametrize(
    ("statements", "told"),
    [
        (["CREATE TABLE theirs (a)"], "another application's database"),
        (["PRAGMA user_version = 1"], "another application's database"),
        (["PRAGMA application_id = 7", "PRAGMA user_version = 1"], "another application's database"),
        ([f"PRAGMA application_id = {sqlite_journal.OURS}", "PRAGMA user_version = 2"], "a journal of version 2"),
    ],
)
def test_a_database_of_another_kind_is_left_alone(
    journal: SqliteJournal, path: Path, statements: list[str], told: str
) -> None:
    theirs = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        theirs.execute(statement)
    theirs.close()
    before = path.read_bytes()
    refused(journal, told)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_damaged_file_is_an_error_and_keeps_what_it_has(journal: SqliteJournal, path: Path) -> None:
    for number in range(500):
        journal.add(f"name-{number}", number)
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * 4096 + whole[8192:])
    damaged = path.read_bytes()
    broken = SqliteJournal(path)
    refused(broken, "malformed")
    assert path.read_bytes() == damaged
    path.write_bytes(whole)
    assert len(broken.load()) == 500
    broken.close()


def test_a_folder_that_is_not_there_is_an_error_until_it_is(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "later" / "owed")
    refused(journal, "unable to open")
    (tmp_path / "later").mkdir()
    journal.add("a", 1)
    assert journal.load() == [("a", 1)]
    journal.close()


@FORKS
def test_a_file_that_may_not_be_written_is_an_error_until_it_may() -> None:
    folder = Path(tempfile.mkdtemp())
    path = folder / "owed"
    first = SqliteJournal(path)
    first.add("a", 1)
    first.close()
    path.chmod(0o444)
    folder.chmod(0o555)

    def work() -> bool:
        if os.geteuid() == 0:
            os.seteuid(65534)  # root may write everything
        journal = SqliteJournal(path)
        refused_it = False
        try:
            journal.add("b", 2)
        except sqlite3.OperationalError:
            refused_it = True
        if os.getuid() == 0:
            os.seteuid(0)
        folder.chmod(0o755)
        path.chmod(0o644)
        journal.add("c", 3)
        return refused_it and journal.load() == [("a", 1), ("c", 3)]

    try:
        assert in_child(work)
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


@FORKS
def test_a_full_disk_is_an_error_until_there_is_room(path: Path) -> None:
    def work() -> bool:
        journal = SqliteJournal(path)
        journal.add("first", 0)
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        errors, kept = 0, []
        for number in range(200):
            try:
                journal.add(f"{number}-" + "x" * 1000, number)
                kept.append(number)
            except (sqlite3.Error, OSError):
                errors += 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        journal.add("last", 200)
        found = [stamp for name, stamp in journal.load() if name not in ("first", "last")]
        return errors > 0 and len(kept) > 10 and found == kept

    assert in_child(work)
    assert ("last", 200) in loaded(path)


# Locks, threads and processes


@contextmanager
def locked(path: Path) -> Iterator[None]:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_a_file_that_somebody_keeps_locked_is_an_error_after_a_while(path: Path) -> None:
    journal = SqliteJournal(path, patience=0.1)
    journal.add("a", 1)
    with locked(path):
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                journal.add("b", 2)
            assert 0.09 < time.monotonic() - began < 0.6
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            journal.strike([("a", 1)])
        assert journal.load() == [("a", 1)], "reading waits for nobody"
    journal.add("b", 2)
    assert journal.load() == [("a", 1), ("b", 2)]
    journal.close()


def test_threads_do_not_wait_in_a_row(journal: SqliteJournal, path: Path) -> None:
    journal.add("a", 1)
    times: list[float] = []

    def add() -> None:
        began = time.monotonic()
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            journal.add("b", 2)
        times.append(time.monotonic() - began)

    with locked(path):
        threads = [threading.Thread(target=add) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(times) == 20
    assert max(times) < 0.6, "20 times 0.05 s in a row"


def test_threads_share_it(path: Path) -> None:
    journal = SqliteJournal(path, patience=5.0)

    def use(thread: int) -> None:
        for number in range(100):
            journal.add(f"{thread}-{number}", number)
            journal.strike([(f"{thread}-{number - 1}", number)])

    threads = [threading.Thread(target=use, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(journal.load()) == sorted((f"{thread}-99", 99) for thread in range(8))
    journal.close()


WRITER = """
import sys
from resilient_cache.adapters.sqlite_journal import SqliteJournal
journal = SqliteJournal(sys.argv[1], patience=20.0)
print("up", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    journal.add(f"{sys.argv[2]}-{number}", number)
print("done", flush=True)
sys.stdin.readline()
"""


Writers = Callable[[str, int], "subprocess.Popen[str]"]


@pytest.fixture
def writer(path: Path) -> Iterator[Writers]:
    """Starts processes that add rows when they are told to; none is left behind."""
    with ExitStack() as started:

        def start(name: str, count: int) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", WRITER, str(path), name, str(count)]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            started.enter_context(process)
            started.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            return process

        yield start


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go on\n")
    process.stdin.flush()


def test_what_a_killed_process_added_is_there(path: Path, writer: Writers) -> None:
    process = writer("killed", 1_000)
    tell(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert loaded(path) == [(f"killed-{number}", number) for number in range(1_000)]


def test_two_processes_write_one_file_at_once_from_its_beginning(path: Path, writer: Writers) -> None:
    processes = [writer(name, 300) for name in ("a", "b")]
    for process in processes:
        tell(process)
    for process in processes:
        assert process.communicate("go on\n")[0] == "done\n"
        assert process.returncode == 0
    assert dict(loaded(path)) == {f"{name}-{number}": number for name in ("a", "b") for number in range(300)}


def test_a_file_that_somebody_reads_while_it_is_made_is_waited_for(path: Path) -> None:
    """SQLite refuses at once to log ahead in a file that another one reads, whatever its timeout."""
    path.touch()
    refused_in = []
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
        for patience in (0.0, 0.05):
            began = time.monotonic()
            refused(SqliteJournal(path, patience=patience), "locked")
            refused_in.append(time.monotonic() - began)
        patient = SqliteJournal(path, patience=5.0)
        thread = threading.Thread(target=patient.add, args=("a", 1))
        thread.start()
        time.sleep(0.02)
        reader.execute("COMMIT")
    thread.join()
    patient.close()
    assert loaded(path) == [("a", 1)]
    assert refused_in[1] >= 3 * 0.05


def test_one_that_was_faster_to_make_the_file_is_respected(
    journal: SqliteJournal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_ours, faster = sqlite_journal._is_ours, SqliteJournal(path)

    def be_late(connection: sqlite3.Connection, name: str) -> bool:
        found = is_ours(connection, name)
        monkeypatch.setattr(sqlite_journal, "_is_ours", is_ours)
        faster.add("a", 1)
        faster.close()
        return found

    monkeypatch.setattr(sqlite_journal, "_is_ours", be_late)
    journal.add("b", 2)
    assert journal.load() == [("a", 1), ("b", 2)]


@FORKS
def test_what_a_child_adds_stays_when_its_parent_closes_the_file(path: Path) -> None:
    """With a connection open on both sides of the fork, SQLite's log goes with the parent, and the child's rows too."""
    journal = SqliteJournal(path, patience=5.0)
    journal.add("parent", 1)
    closed_read, closed_write = os.pipe()
    tracing = sys.gettrace()
    sys.settrace(None)  # as `in_child` does
    child = os.fork()
    if child == 0:
        try:
            journal.add("child before", 2)
            os.read(closed_read, 1)
            journal.add("child after", 3)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.settrace(tracing)
    until = time.monotonic() + 5
    while ("child before", 2) not in journal.load() and time.monotonic() < until:
        time.sleep(0.002)
    journal.close()
    os.write(closed_write, b"x")
    os.waitpid(child, 0)
    os.close(closed_read)
    os.close(closed_write)
    assert loaded(path) == [("parent", 1), ("child before", 2), ("child after", 3)]


@FORKS
def test_threads_that_add_while_the_process_forks_lose_nothing(path: Path) -> None:
    journal = SqliteJournal(path, patience=5.0)
    stop, added = threading.Event(), 0

    def add() -> None:
        nonlocal added
        while not stop.is_set():
            journal.add(f"thread-{added}", added)
            added += 1

    def work(number: int) -> bool:
        journal.add(f"child-{number}", number)
        return (f"child-{number}", number) in journal.load()

    thread = threading.Thread(target=add)
    thread.start()
    try:
        for number in range(10):
            assert in_child(lambda number=number: work(number))  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()
    journal.close()
    names = {name for name, _ in loaded(path)}
    assert names == {f"child-{number}" for number in range(10)} | {f"thread-{number}" for number in range(added)}


def test_a_fork_that_python_was_not_told_of_is_an_error(
    journal: SqliteJournal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.add("a", 1)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(os, "getpid", lambda: -1)
        refused(journal, "before a fork")
        journal.forking()
    assert journal._connection is not None, "it is its parent's to close"
    journal.add("b", 2)
    assert journal.load() == [("a", 1), ("b", 2)]


def test_one_that_is_let_go_of_is_let_go_of(path: Path) -> None:
    journal = SqliteJournal(path)
    journal.add("a", 1)
    journal.close()
    gone = weakref.ref(journal)
    del journal
    gc.collect()
    assert gone() is None
