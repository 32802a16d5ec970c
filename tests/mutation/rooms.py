"""What is mutated, how many of its mutants must die, and which tests are asked first."""

from __future__ import annotations

from pathlib import Path

__all__ = ["GATES", "OWN", "PACKAGE", "PURE", "TESTS"]

PACKAGE = Path(__file__).parents[2] / "resilient_cache"

PURE, FLOW = 95.0, 85.0

GATES = {
    **dict.fromkeys(
        ("entry", "envelope", "policy", "stamps", "fences", "breaker", "memory", "leases", "flights"), PURE
    ),
    **dict.fromkeys(("_request", "_switch", "_sealing", "_guard", "_loads", "_local", "_rules"), PURE),
    **dict.fromkeys(("_sync", "_async"), FLOW),
}
"""The files of the package, each with the percentage of its mutants that must be killed."""

TESTS = ("tests/machines", "tests/laws", "tests/regressions", "tests/test_misuse.py")

OWN: dict[str, tuple[str, ...]] = {
    "entry": ("test_values",),
    "policy": ("test_values",),
    "envelope": ("test_envelope",),
    "stamps": ("test_stamps",),
    "fences": ("test_fences",),
    "breaker": ("test_breaker",),
    "memory": ("test_memory",),
    "leases": ("test_leases",),
    "flights": ("test_flights",),
    "_sealing": ("test_sealing",),
}
"""By file, how the names of the tests begin that try it bare."""
