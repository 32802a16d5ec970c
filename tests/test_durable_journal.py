"""A process that is killed with invalidations pending: the next one on its journal deletes them before it reads."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from resilient_cache import CachePolicy, ResilientCache
from resilient_cache.adapters.redis import RedisAdapter
from resilient_cache.adapters.sqlite_journal import SqliteJournal

from .servers import ValkeyServer

pytestmark = pytest.mark.realtime

PENDING = 1_000
POLICY = CachePolicy(ttl=3600, jitter=0, timeout=1.0)  # of a first read, for a machine with other work

VICTIM = """
import os, signal, sys
from resilient_cache import CachePolicy, Invalidation, ResilientCache
from resilient_cache.adapters.redis import RedisAdapter
from resilient_cache.adapters.sqlite_journal import SqliteJournal

url, path, pending = sys.argv[1], sys.argv[2], int(sys.argv[3])
cache = ResilientCache(RedisAdapter.from_url(url), name="durable", journal=SqliteJournal(path))
for number in range(pending):
    assert cache.set(f"k{number}", "old")
print("written", flush=True)
sys.stdin.readline()  # the server is saved and killed
for number in range(pending):
    assert cache.invalidate(f"k{number}") is Invalidation.PENDING
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_thousand_pending_are_replayed_before_the_first_read(valkey_server: ValkeyServer, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    arguments = [valkey_server.url, str(path), str(PENDING)]
    with subprocess.Popen(
        [sys.executable, "-c", VICTIM, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == "written\n"
        valkey_server.command("SAVE")
        valkey_server.kill()
        victim.communicate("go\n", timeout=60)
    assert victim.returncode == -signal.SIGKILL
    valkey_server.start()
    assert int(valkey_server.command("DBSIZE")[1:]) >= PENDING  # the old data is back

    with ResilientCache[str, str](
        RedisAdapter.from_url(valkey_server.url), name="durable", policy=POLICY, journal=SqliteJournal(path)
    ) as cache:
        assert cache.get("k0") is None  # the first read
        assert cache.stats()["invalidations_replayed"] == PENDING
        assert cache.health()["pending_invalidations"] == 0
        for number in range(PENDING):
            assert valkey_server.command("EXISTS", f"durable:k{number}") == b":0"
