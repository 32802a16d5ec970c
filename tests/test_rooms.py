"""The rooms of the package: imports point down only, no room is too full; and nobody waits for time in the tests."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import resilient_cache

PACKAGE = Path(resilient_cache.__file__).parent

# From the bottom up; a module may import from its own floor or from one below it.
FLOORS: tuple[frozenset[str], ...] = (
    # values, and what every floor may need
    frozenset(
        {"errors", "deadline", "protocols", "entry", "outcome", "events", "policy", "forking", "locks", "_reentry"}
    )
    | frozenset({"_reply", "bulk", "conditional"}),
    # machines
    frozenset(
        {"stamps", "breaker", "fences", "envelope", "memory", "flights", "leases", "codecs", "journal", "backoff"}
    )
    | frozenset({"marks", "ramp", "snapshots", "bulkhead", "aimd", "pauses"}),
    # decisions
    frozenset({"_reporting", "_request", "_switch", "_partition", "_guard", "_local", "_sealing", "_loads", "_debts"})
    | frozenset({"_many", "_marking", "_mistakes", "_plane", "_rules", "_screening", "_vendors", "_switching"})
    | frozenset({"_bulk", "_bulk_loads"})
    | frozenset({"_degraded", "_files", "_freshness", "_hedging", "_keeping", "_origin", "_warming", "control"}),
    # waiting
    frozenset({"_colours", "_threads", "_thread_ticker", "_thread_calls", "_thread_turns", "_thread_listener"})
    | frozenset({"_thread_pool", "_task_pool", "_thread_bulkhead", "_task_bulkhead", "_thread_bench", "_task_bench"})
    | frozenset({"_asyncio", "_task_ticker", "_task_calls", "_task_turns", "_task_listener"}),
    frozenset({"_build", "_face", "keys", "_cached", "decorators"}),
    # flow
    frozenset({"_sync_collector", "_async_collector"}),
    frozenset({"_sync_store", "_sync_marks", "_sync_upkeep", "_sync_replay", "_lineup"})
    | frozenset({"_async_store", "_async_marks", "_async_upkeep", "_async_replay"})
    | frozenset({"_sync_hedge", "_async_hedge"}),
    frozenset({"_sync_flow", "_async_flow", "_sync_batches", "_async_batches"}),
    frozenset({"_sync_warm", "_async_warm", "_sync_bulk", "_async_bulk"}),
    frozenset({"_sync", "_async", "_sync_failover", "_async_failover", "failover", "fallback"}),
    frozenset({"__init__"}),
)
EDGES = frozenset({"adapters", "metrics", "testing"})
EDGES_MAY_KNOW = FLOORS[0]

FLOOR_OF = {module: floor for floor, modules in enumerate(FLOORS) for module in modules}


def imported(source: str) -> set[str]:
    """The first names of this package's modules that a source imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            found |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("resilient_cache."):
            found.add((node.module or "").split(".")[1])
    return found


def wrong_way(module: str, source: str) -> set[str]:
    """Imports of `module` that point up, or into an edge."""
    return {name for name in imported(source) if FLOOR_OF.get(name, len(FLOORS)) > FLOOR_OF[module]}


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_a_module_imports_only_from_its_floor_and_below(path: Path) -> None:
    assert path.stem in FLOOR_OF, "give the new module a floor"
    assert not wrong_way(path.stem, path.read_text())


@pytest.mark.parametrize("path", sorted(p for e in EDGES for p in (PACKAGE / e).rglob("*.py")), ids=str)
def test_an_edge_knows_values_and_itself_only(path: Path) -> None:
    edge = PACKAGE / path.relative_to(PACKAGE).parts[0]
    inside = {name for p in edge.rglob("*.py") for name in p.relative_to(edge).with_suffix("").parts}
    assert imported(path.read_text()) <= EDGES_MAY_KNOW | inside


def test_an_import_that_points_up_is_found() -> None:
    assert wrong_way("breaker", "from ._rules import Rules") == {"_rules"}
    assert wrong_way("_rules", "from .adapters import MappingAdapter") == {"adapters"}
    assert wrong_way("_asyncio", "from . import _sync") == {"_sync"}
    assert not wrong_way("_sync", "from ._rules import Rules\nimport asyncio")


def test_no_file_is_too_full() -> None:
    full = {path.name: count for path in PACKAGE.rglob("*.py") if (count := len(path.read_text().splitlines())) > 350}
    assert not full


def test_no_function_is_too_long() -> None:
    long: dict[str, int] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name != "__init__":
                lines = (node.end_lineno or 0) - node.body[0].lineno + 1
                if lines > 40:
                    long[f"{path.name}:{node.name}"] = lines
    assert not long


TESTS = Path(__file__).parent
WAITS = re.compile(r"\b(time|asyncio|anyio)\.sleep\(")
MAY_WAIT = {"servers.py", "topologies.py", "virtual.py"} | {  # real processes; it makes sure that the time is virtual
    f"faults/{name}.py"
    for name in ("load", "play", "scenes")  # what the real-time tests there are made of
}
MAY_WAIT |= {f"invalidation/{name}.py" for name in ("late", "million", "moves")}
MAY_WAIT |= {f"benchmarks/{name}.py" for name in ("crowds", "remote", "tier")}  # no tests


def waits(source: str) -> bool:
    """Whether a test file waits for real time without saying so."""
    return bool(WAITS.search(source)) and "pytest.mark.realtime" not in source


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_only_files_marked_realtime_wait_for_time(path: Path) -> None:
    assert str(path.relative_to(TESTS)) in MAY_WAIT or not waits(path.read_text())


def test_a_file_that_waits_is_found() -> None:
    assert waits("import time\ntime." + "sleep(1)")
    assert not waits("pytestmark = pytest.mark.realtime\ntime." + "sleep(1)")
