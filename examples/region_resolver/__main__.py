"""`python -m examples.region_resolver`: replay the incident, exit 0 if the resilient router never let anybody down.

Exit codes: 0 every deciding promise kept, 1 one was broken, 2 wrong usage, 130 Ctrl-C, 143 terminated.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from .demo import run
from .live import Screen, print_report
from .page import write_report
from .report import Report, Settings

__all__ = ["main"]

FULL = Settings(
    seed=1, rate=100, fast=False, ttl=5, timeout=0.25, naive_timeout=1.0, record_delay=0.02, hold=0.5, tenants=40
)
FAST = Settings(
    seed=1, rate=80, fast=True, ttl=1.5, timeout=0.25, naive_timeout=0.5, record_delay=0.02, hold=0.1, tenants=10
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Gives its exit code."""
    asked = _parser().parse_args(arguments)
    base = FAST if asked.fast else FULL
    settings = replace(base, seed=asked.seed, rate=asked.rate or base.rate)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(f"seed {settings.seed}, {settings.rate:g} requests a second to each router", highlight=False)
    terminated: list[int] = []
    try:
        report = asyncio.run(_run(settings, asked, console, terminated))
    except KeyboardInterrupt:
        return 130
    except asyncio.CancelledError:
        return 128 + terminated[0] if terminated else 130
    print_report(report, console)
    for path in write_report(report, asked.out):
        console.print(f"written: {path}", highlight=False, soft_wrap=True)
    return 0 if report.ok else 1


async def _run(settings: Settings, asked: argparse.Namespace, console: Console, terminated: list[int]) -> Report:
    task = asyncio.current_task()
    assert task is not None

    def end() -> None:
        terminated.append(signal.SIGTERM)
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    with Screen(console) as screen:
        return await run(settings, screen, url=asked.url, planted=asked.plant_fault)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.region_resolver", description=__doc__)
    parser.add_argument(
        "--fast", action="store_true", help="every act shortened: under 25 s, not a minute and three quarters"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the record and of the traffic (default %(default)s)")
    parser.add_argument("--rate", type=float, help="requests a second to each router (default 100, with --fast 80)")
    parser.add_argument("--url", help="a Redis or Valkey of yours, redis://host:port/db; acts that kill it are skipped")
    parser.add_argument(
        "--out", type=Path, default=Path("demo-report"), help="folder for the report (default %(default)s)"
    )
    parser.add_argument(
        "--plant-fault", action="store_true", help="the naive router in the resilient one's place: this must fail"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
