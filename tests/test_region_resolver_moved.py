"""Routers in processes of their own, and what is made of their answers after a move."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from aiohttp import ClientSession

from examples.region_resolver.directory import Tenant, seeded
from examples.region_resolver.fleet import ROOT, Move, RouterProcess
from examples.region_resolver.moved import Moved, moved
from examples.region_resolver.process import NAMES, Plan
from examples.region_resolver.report import Report, Settings
from examples.region_resolver.traffic import Sample
from examples.region_resolver.upstreams import region_app, serving

from .servers import ValkeyServer

pytestmark = pytest.mark.realtime

PLAN = Plan(
    record="",
    record_delay=0,
    upstreams={},
    store="redis://127.0.0.1:1",
    far="redis://127.0.0.1:1",
    journal="",
    ttl=60,
    timeout=0.25,
    naive_timeout=0.5,
    hold=0.05,
    planted=False,
)
HOST, NAME = "acme.example", "resilient"
TOLD, OTHER, HEIR = "http://told", "http://other", "http://heir"


def sample(at: float, base: str, *, wrong: bool = True, host: str = HOST, source: str = "memory") -> Sample:
    return Sample(at, 0.01, 200, wrong, source, False, host, base)


def judged(
    *samples: Sample, router: str = "resilient", naive: int = 0, confirmed: float | None = 103.0, killed: bool = False
) -> Moved:
    """A move in a run that began at 100 s; told at 101 s; the store was back at 102 s, and confirmed at `confirmed`."""
    process = RouterProcess(PLAN)
    process.bases = {router: HEIR if killed else TOLD}
    process.diaries[router] = [(101.0, 0, 4), (101.5, 2, 4), (102.1, 0, 0)]
    process.diaries[router] += [] if confirmed is None else [(confirmed, 0, 2)]
    hosts, bases = frozenset({HOST}), {TOLD, HEIR}
    move = Move(router, hosts, process, bases, down=100.5, told=101.0, pending=2, back=102.0, killed=killed)
    plain = [sample(9.0, OTHER)] * naive
    [found] = moved([move], {router: samples, "naive": plain}, 100.0)
    return found


def broken(move: Moved) -> list[str]:
    settings = Settings(seed=1, rate=1, fast=True, ttl=1, timeout=1, naive_timeout=1, record_delay=0, hold=1, tenants=1)
    report = Report(settings, moved=[move])
    report.judge([], {"naive": [], "resilient": []}, None)
    return [check.seen for check in report.checks if check.fatal and not check.kept]


def test_wrong_answers_of_the_others_are_counted_by_when_they_were_asked_for() -> None:
    move = judged(*(sample(at, OTHER) for at in (1.0, 2.9, 3.0, 3.9)), sample(4.5, OTHER, wrong=False), naive=3)
    assert (move.told, move.before, move.within, move.later) == (0, 2, 2, 0)
    assert (move.last, move.asked, move.naive, move.replayed) == (0.9, 1, 3, 1.0)
    assert not broken(move)


def test_one_wrong_answer_after_the_bound_breaks_the_promise() -> None:
    move = judged(sample(4.01, OTHER))
    assert (move.later, move.last) == (1, 1.01)
    assert broken(move) == ["1 of 1 requests; 0 before, 0 until 1.01 s after"]


def test_with_a_second_vendor_the_others_can_know_as_soon_as_one_is_told() -> None:
    move = judged(*(sample(at, OTHER) for at in (0.9, 1.5, 2.5)), router="two vendors")
    assert (move.before, move.within, move.later, move.last) == (1, 1, 1, 1.5)
    assert "1 of 1 requests; 1 before, 1 until 1.50 s after" in broken(move)


@pytest.mark.parametrize(
    ("at", "source", "hits"), [(0.4, "store", 0), (1.9, "store", 1), (1.9, "memory", 0), (2.0, "store", 0)]
)
def test_a_hit_of_the_second_vendor_is_an_answer_from_a_store_while_the_first_is_down(
    at: float, source: str, hits: int
) -> None:
    move = judged(sample(at, OTHER, wrong=False, source=source), router="two vendors")
    assert move.hits == hits
    assert broken(move) == ([] if hits else ["0"])


@pytest.mark.parametrize("base", [TOLD, HEIR])
def test_one_wrong_answer_of_the_router_that_was_told_breaks_it_at_any_time(base: str) -> None:
    move = judged(sample(1.0, base))
    assert (move.told, move.before) == (1, 0)
    assert broken(move) == ["1"]


def test_answers_about_other_hosts_are_not_counted() -> None:
    move = judged(sample(1.0, TOLD, host="else.example"), sample(9.0, OTHER, host="else.example"))
    assert (move.told, move.before, move.later, move.asked) == (0, 0, 0, 0)


def test_a_store_that_never_confirmed_breaks_the_promise() -> None:
    move = judged(sample(1.0, OTHER), confirmed=None)
    assert (move.replayed, move.before, move.asked) == (None, 1, 0)
    assert broken(move) == ["the store never confirmed"]


def test_the_first_answer_of_a_router_that_was_killed_is_timed() -> None:
    nothing_asked = sample(2.9, HEIR, wrong=False, source="")  # what is no host name needs no store
    answers = (
        nothing_asked,
        sample(1.0, TOLD, wrong=False),
        sample(3.1, HEIR, wrong=False),
        sample(3.2, HEIR, wrong=False),
    )
    assert judged(*answers, killed=True).first == 0.11
    assert judged(*answers, killed=True, confirmed=103.2).first == -0.09
    assert judged(*answers).first is None


def test_a_process_tells_what_is_pending_and_its_successor_deletes_it_before_its_first_answer(
    valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    tenant = seeded(tmp_path / "record", seed=3, count=1)[0]

    async def scene() -> None:
        async with serving(region_app("eu")) as eu, serving(region_app("us")) as us, ClientSession() as http:
            plan = replace(
                PLAN,
                record=str(tmp_path / "record"),
                store=valkey_server.url,
                journal=str(tmp_path / "journal"),
                upstreams={"eu": eu, "us": us},
            )
            first, second = RouterProcess(plan), RouterProcess(plan)
            try:
                await first.start()
                assert await region(http, first, tenant) == tenant.region
                valkey_server.command("SAVE")
                valkey_server.kill()
                target = "us" if tenant.region == "eu" else "eu"
                await http.post(f"{first.bases[NAME]}/-/move", params={"tenant": tenant.name, "region": target})
                await until_pending(first, 2)
                await first.kill()
                valkey_server.start()
                assert valkey_server.command("EXISTS", f"regions:{tenant.hosts[0]}") == b":1"
                await second.start()
                assert await region(http, second, tenant) == target
                assert second.diaries[NAME][-1][1:] == (0, 2)
            finally:
                await first.kill()
                await second.kill()

    asyncio.run(scene())


async def region(http: ClientSession, process: RouterProcess, tenant: Tenant) -> str:
    async with http.get(process.bases[NAME], headers={"Host": tenant.hosts[0]}) as reply:
        return await reply.text()


async def until_pending(process: RouterProcess, count: int) -> None:
    for _ in range(500):
        if process.diaries[NAME] and process.diaries[NAME][-1][1] == count:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"never {count} pending: {process.diaries}")


def test_a_process_ends_when_whoever_started_it_is_gone(tmp_path: Path) -> None:
    seeded(tmp_path / "record", seed=3, count=1)
    told = json.dumps(asdict(replace(PLAN, record=str(tmp_path / "record"))))
    command = [sys.executable, "-W", "error", "-m", "examples.region_resolver.process", told]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert set(json.loads(process.stdout.readline())) == set(NAMES)
        process.stdin.close()
        assert process.wait(timeout=10) == 0
