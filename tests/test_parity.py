"""The two flows are one flow: equal, once waiting is left out."""

from __future__ import annotations

import ast
import difflib
import re
from pathlib import Path

import pytest

import resilient_cache

PACKAGE = Path(resilient_cache.__file__).parent

# What one colour calls otherwise than the other; nothing else may differ.
NAMES = {
    "AsyncResilientCache": "ResilientCache",
    "AsyncCacheAdapter": "CacheAdapter",
    "MakeAsyncCached": "MakeCached",
    "make_async_cached": "make_cached",
    "_asyncio": "_threads",
    "_async_flow": "_sync_flow",
    "_async_hedge": "_sync_hedge",
    "_async_marks": "_sync_marks",
    "_async_store": "_sync_store",
    "_async_upkeep": "_sync_upkeep",
    "_async_collector": "_sync_collector",
    "_async_replay": "_sync_replay",
    "_async_warm": "_sync_warm",
    "_task_pool": "_thread_pool",
    "_async_batches": "_sync_batches",
    "_async_bulk": "_sync_bulk",
    "_task_bench": "_thread_bench",
    "_task_calls": "_thread_calls",
    "_task_listener": "_thread_listener",
    "_task_turns": "_thread_turns",
    "_task_bulkhead": "_thread_bulkhead",
    "AsyncFailover": "Failover",
    "_task_ticker": "_thread_ticker",
    "AsyncBackplane": "Backplane",
    "aclose": "close",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
}


class Bleach(ast.NodeTransformer):
    """Takes the waiting and the docstrings out of a tree."""

    def seen(self, node: ast.AST) -> ast.AST:
        bare: ast.AST = self.visit(node)
        return bare

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self.seen(ast.FunctionDef(**dict(ast.iter_fields(node))))

    def visit_Await(self, node: ast.Await) -> ast.AST:
        return self.seen(node.value)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id == "Awaitable":
            return self.seen(node.slice)
        return self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        node.names = sorted((n for n in node.names if n.name != "Awaitable"), key=lambda n: NAMES.get(n.name, n.name))
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return (
            None
            if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
            else self.generic_visit(node)
        )


def bleached(source: str) -> list[str]:
    """The lines of a flow without its colour."""
    tree = ast.fix_missing_locations(Bleach().visit(ast.parse(source)))
    text = re.sub(r"\w+", lambda word: NAMES.get(word[0], word[0]), ast.unparse(tree))
    lines = text.splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("class "))
    return sorted(lines[:first]) + lines[first:]  # imports are sorted by names that differ


def differences(first: str, second: str) -> str:
    """A diff of two flows, empty when they are one."""
    return "\n".join(difflib.unified_diff(bleached(first), bleached(second), "sync", "async", lineterm="", n=2))


def twins(name: str) -> tuple[str, str]:
    return (PACKAGE / f"_sync{name}.py").read_text(), (PACKAGE / f"_async{name}.py").read_text()


@pytest.fixture
def flows() -> tuple[str, str]:
    return twins("_flow")


@pytest.mark.parametrize(
    "name",
    [
        *("", "_flow", "_hedge", "_bulk", "_batches", "_marks", "_store", "_upkeep", "_collector", "_replay"),
        *("_failover", "_warm"),
    ],
)
def test_the_flows_are_equal_but_for_waiting(name: str) -> None:
    found = differences(*twins(name))
    assert not found, f"the flows have drifted apart:\n{found}"


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        ("request.asked = True", "request.asked = False"),
        ("if outcome is not AGAIN:", "if outcome is AGAIN:"),
        ("            local.leave(flight, seat, self._rules.monotonic())\n", ""),
    ],
)
def test_a_flow_that_drifts_is_found(flows: tuple[str, str], there: str, instead: str) -> None:
    sync_flow, async_flow = flows
    assert there in async_flow
    assert differences(sync_flow, async_flow.replace(there, instead))
