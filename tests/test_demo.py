"""The demo replays its incident, writes what it saw, and fails when the router it shows off does."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from examples.region_resolver.process import NAMES

from .servers import ValkeyServer

pytestmark = pytest.mark.realtime

ROOT = Path(__file__).parent.parent
ACTS = [
    "healthy", "killed", "back", "record down", "corrupted", "frozen", "rush",
    "thawed", "slow", "swift", "bypassed", "moved", "old data", "cold start", "snapshot", "nothing",
]  # fmt: skip
THREE = ["three", "told one", "old disk", "told again", "kill -9", "its journal"]  # acts of three processes


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-m", "examples.region_resolver", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def demo(*arguments: str) -> tuple[int, str, float]:
    begun = time.monotonic()
    process = start(*arguments)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said, time.monotonic() - begun


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str, float, Path]:
    out = tmp_path_factory.mktemp("demo")
    return *demo("--fast", "--seed", "7", "--out", str(out)), out


@pytest.fixture(scope="module")
def seen(fast: tuple[int, str, float, Path]) -> Any:
    return json.loads((fast[3] / "report.json").read_text("utf-8"))


def test_the_fast_run_succeeds_in_time(fast: tuple[int, str, float, Path]) -> None:
    code, said, seconds, _ = fast
    assert code == 0, said
    assert seconds < 30  # under 25 on a machine with nothing else to do
    assert "seed 7" in said


def test_the_resilient_router_fails_nobody_while_there_is_something_to_serve(seen: Any) -> None:
    assert list(seen["rows"]) == [*ACTS, *THREE]
    for act, routers in seen["rows"].items():
        assert routers["resilient"]["requests"] == routers["naive"]["requests"] > 0
        assert act in THREE or routers["resilient"]["wrong"] == 0, act
        assert act == "nothing" or routers["resilient"]["failed"] == 0, act
    assert seen["ok"] is True


def test_with_nothing_to_serve_it_says_503_and_when_to_ask_again(seen: Any) -> None:
    rows = seen["rows"]["nothing"]
    assert rows["resilient"]["failed"] == rows["resilient"]["sources"]["503"] > 0
    assert rows["naive"]["failed"] > 0
    assert next(check for check in seen["checks"] if "503" in check["promise"])["kept"]


def test_the_faults_are_real_for_the_naive_router_shows_them(seen: Any) -> None:
    rows = {act: routers["naive"] for act, routers in seen["rows"].items()}
    for act in ("killed", "corrupted", "frozen", "record down", "moved", "cold start", "snapshot"):
        assert rows[act]["failed"] > 0, act
    assert rows["slow"]["p99_ms"] >= 300
    assert rows["old data"]["wrong"] > 0
    assert seen["refused_moves"] == {"naive": 6, "resilient": 0}


def test_of_three_routers_the_one_that_is_told_of_a_move_is_never_wrong_and_the_others_hear_of_it(seen: Any) -> None:
    told = [(move["router"], move["how"]) for move in seen["moved"]]
    assert told == [(name, how) for how in ("store", "store + router") for name in ("resilient", "two vendors")]
    for move in seen["moved"]:
        assert move["pending"] > 0
        assert move["told"] == move["later"] == 0
        assert move["asked"] > 0
        assert move["last"] <= 1.0
        assert move["naive"] > 0
    assert seen["moved"][2]["before"] > 0  # the store did come back with the old regions, while nobody knew


def test_the_second_vendor_stands_in_while_the_first_is_down(seen: Any) -> None:
    hits = {name: sum(move["hits"] for move in seen["moved"] if move["router"] == name) for name in NAMES[1:]}
    assert hits["resilient"] == 0
    assert hits["two vendors"] > 0
    assert all(seen["rows"][act]["two vendors"]["failed"] == 0 for act in THREE)


def test_a_router_that_was_killed_makes_good_what_it_owed_before_it_answers(seen: Any) -> None:
    first = [move["first"] for move in seen["moved"]]
    assert first[:2] == [None, None]
    assert min(first[2:]) > 0  # before its first answer


def test_a_rush_of_strangers_is_answered_while_the_store_is_frozen(seen: Any) -> None:
    assert (seen["rush"]["hosts"], seen["rush"]["failed"], seen["rush"]["wrong"]) == (1_000, 0, 0)
    assert seen["rush"]["peak"] > 0


def test_a_bypass_by_the_control_file_is_obeyed_while_traffic_goes_on_and_ended(seen: Any) -> None:
    assert seen["bypassed"]["cached"] == 0
    assert seen["bypassed"]["loads"] > 0
    assert seen["bypassed"]["hits_after"] > 0


def test_who_starts_with_cache_and_record_gone_serves_what_the_last_process_left(seen: Any) -> None:
    rows = seen["rows"]["snapshot"]
    assert set(rows["resilient"]["sources"]) <= {"stale", "400"}
    assert rows["resilient"]["sources"]["stale"] > 0
    assert rows["naive"]["failed"] > 0.9 * rows["naive"]["requests"]


def test_caching_is_back_after_every_outage(seen: Any) -> None:
    for act in ("back", "thawed", "swift"):
        assert seen["rows"][act]["resilient"]["sources"].get("store", 0) > 0, act
    assert seen["rows"]["record down"]["resilient"]["sources"]["stale"] > 0


def test_the_page_is_complete_and_refers_to_nothing_outside(fast: tuple[int, str, float, Path]) -> None:
    page = (fast[3] / "index.html").read_text("utf-8")
    assert all(f">{act}<" in page for act in (*ACTS, *THREE))
    assert "<td>store + router</td>" in page
    assert page.count("<polyline") >= 2
    assert "prefers-color-scheme: dark" in page
    assert not re.search(r"(?:src|href)=|https?:|url\(|@import|<script", page)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, Any]]:
    """Two runs at once: one with a planted fault, one with a store of one's own."""
    with ValkeyServer() as store:
        outs = {name: tmp_path_factory.mktemp(name) for name in ("planted", "own")}
        runs = {
            "planted": start("--fast", "--plant-fault", "--out", str(outs["planted"])),
            "own": start("--fast", "--url", store.url, "--out", str(outs["own"])),
        }
        said = {name: process.communicate(timeout=60)[0] for name, process in runs.items()}
    assert all((out / "report.json").exists() for out in outs.values()), said
    reports = {name: json.loads((out / "report.json").read_text("utf-8")) for name, out in outs.items()}
    return {name: (process.returncode, said[name], reports[name]) for name, process in runs.items()}


def test_a_planted_fault_makes_it_fail(others: dict[str, tuple[int, str, Any]]) -> None:
    code, said, report = others["planted"]
    assert code == 1
    assert "BROKEN" in said
    assert report["ok"] is False


def test_a_store_of_ones_own_is_not_killed(others: dict[str, tuple[int, str, Any]]) -> None:
    code, said, report = others["own"]
    assert code == 0, said
    assert "skipped" in said
    assert report["skipped"] == ["killed", "back", "frozen", "rush", "thawed", *THREE]
    assert "killed" not in report["rows"]
    assert report["moved"] == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_while_its_server_is_frozen_it_leaves_no_process_behind(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    process = start("--fast", "--out", str(tmp_path))
    try:
        assert process.stdout is not None
        assert any("corrupted" in line for line in process.stdout)
        time.sleep(0.3)  # the next act has frozen the server
        servers = children(process.pid)
        assert len(servers) >= 3 + 3  # the stores, and the routers that wait for their act
        process.send_signal(number)
        said, _ = process.communicate(timeout=10)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert not [pid for pid in servers if Path(f"/proc/{pid}").exists()]
    assert not list(tmp_path.iterdir())


def children(pid: int) -> list[int]:
    lists = list(Path("/proc").glob(f"{pid}/task/*/children"))
    if not lists:
        pytest.skip("no /proc here to find children in")
    return [int(word) for path in lists for word in path.read_text("ascii").split()]
