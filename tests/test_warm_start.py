"""Real processes: killed while they write a snapshot, interrupted while they warm up."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resilient_cache import AsyncResilientCache, ResilientCache

pytestmark = pytest.mark.realtime

ROOT = Path(__file__).parent.parent
COUNT = 2_000

WRITER = """
import asyncio, sys
from resilient_cache import AsyncResilientCache, ResilientCache

async def write_async(path):
    cache = AsyncResilientCache(None, name="regions", memory=5_000)
    for number in range(2_000):
        await cache.set(str(number), "x" * 100)
    while True:
        assert await cache.snapshot(path) == 2_000
        print("written", flush=True)

def write(path):
    cache = ResilientCache(None, name="regions", memory=5_000)
    for number in range(2_000):
        cache.set(str(number), "x" * 100)
    while True:
        assert cache.snapshot(path) == 2_000
        print("written", flush=True)

colour, path = sys.argv[1:]
asyncio.run(write_async(path)) if colour == "async" else write(path)
"""

WARMER = """
import asyncio, sys, threading, time
from resilient_cache import AsyncResilientCache, ResilientCache

def load(key):
    print("loading\\n", end="", flush=True)
    time.sleep(0.3)
    return key

async def load_async(key):
    print("loading\\n", end="", flush=True)
    await asyncio.sleep(0.3)
    return key

async def warm_async():
    try:
        await AsyncResilientCache(None, name="regions", memory=10).warm(map(str, range(100_000)), load_async)
    finally:
        print("left", len(asyncio.all_tasks()) - 1, flush=True)

try:
    if sys.argv[1] == "async":
        asyncio.run(warm_async())
    else:
        ResilientCache(None, name="regions", memory=10).warm(map(str, range(100_000)), load)
except KeyboardInterrupt:
    print("interrupted", threading.active_count() - 1, flush=True)
"""


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def restored(colour: str, path: Path) -> int:
    if colour == "sync":
        return ResilientCache(None, name="regions", memory=5_000).restore(path)
    return asyncio.run(AsyncResilientCache(None, name="regions", memory=5_000).restore(path))


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_who_is_killed_while_writing_leaves_a_whole_file(colour: str, tmp_path: Path) -> None:
    path = tmp_path / "regions.snapshot"
    dice = random.Random(5)
    for _ in range(3):
        with start(WRITER, colour, str(path)) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "written\n"
            time.sleep(dice.uniform(0.0, 0.1))
            process.kill()
        assert restored(colour, path) == COUNT


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_ctrl_c_ends_a_warm_up_and_no_load_goes_on(colour: str) -> None:
    with start(WARMER, colour) as process:
        assert process.stdout is not None
        for _ in range(12):
            assert process.stdout.readline() == "loading\n"
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
    assert process.returncode == 0
    assert "interrupted 0\n" in said
    assert ("left 0\n" in said) is (colour == "async")
    assert said.count("loading") <= 8
