"""What is mutated, how many of its mutants must die, and which tests are asked."""

from __future__ import annotations

from pathlib import Path

__all__ = ["GATES", "PACKAGE", "PURE", "is_own", "tests_of"]

PACKAGE = Path(__file__).parents[2] / "resilient_cache"
TESTS = PACKAGE.parent / "tests"

PURE, FLOW = 95.0, 85.0

MACHINES = (
    *("entry", "envelope", "policy", "stamps", "fences", "breaker"),
    *("memory", "leases", "flights", "journal", "backoff", "marks", "_debts"),
    *("aimd", "bulkhead", "pauses", "ramp"),
)
DECISIONS = (
    *("_request", "_switch", "_sealing", "_partition", "_guard", "_loads", "_many", "_local"),
    *("_marking", "_plane", "_rules", "_switching"),
)
FLOWS = tuple(
    f"_{colour}{part}" for colour in ("sync", "async") for part in ("", "_flow", "_store", "_marks", "_upkeep")
)

GATES = {**dict.fromkeys(MACHINES + DECISIONS, PURE), **dict.fromkeys(FLOWS, FLOW)}
"""The files of the package, each with the percentage of its mutants that must be killed."""

OWN: dict[str, str | tuple[str, ...]] = {
    "entry": "test_values",
    "policy": "test_values",
    "_switch": "test_reporting",
    "_many": ("test_many", "test_local"),
    "_guard": ("test_guard", "test_partition"),
    **{room: (f"test_{room}", "test_reentry") for room in ("fences", "flights", "leases", "memory", "pauses")},
}
"""The tests that try a file bare are named after it, but for these."""


FACE = [TESTS / f"test_{name}.py" for name in ("misuse", "cached", "parity")]
"""What a caller may get wrong, and the part of the face that is no law."""


def is_own(file: str, test: Path) -> bool:
    """Whether `test` tries `file` bare."""
    return test.parent.name == "machines" and test.name.startswith(OWN.get(file, f"test_{file.lstrip('_')}"))


def tests_of(file: str) -> list[Path]:
    """The tests that are to notice a mutant of `file`: its own of a machine; of all else the laws too."""
    bare = [path for path in sorted(TESTS.glob("machines/test_*.py")) if is_own(file, path)]
    laws = [path for folder in ("laws", "regressions") for path in sorted(TESTS.glob(f"{folder}/test_*.py"))]
    return bare if file in MACHINES else [*bare, *laws, *FACE]
