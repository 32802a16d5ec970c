"""README and docs say what the code does: their tables, their links, their size. Their examples run on their own."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

import pytest

from resilient_cache import (
    AsyncResilientCache,
    BreakerPolicy,
    CachePolicy,
    Entry,
    FailureKind,
    Invalidation,
    Lookup,
    Mistake,
    Mode,
    NotFound,
    OriginOverloaded,
    Reason,
    ResilientCache,
    ResilientCacheError,
    Source,
    StoreError,
    errors,
    events,
    fallback,
)
from resilient_cache.adapters import AsyncMappingAdapter, MappingAdapter, from_functions
from resilient_cache.adapters.redis import AsyncRedisAdapter, RedisAdapter
from resilient_cache.adapters.redis_backplane import AsyncRedisBackplane, RedisBackplane
from resilient_cache.adapters.redis_cluster import AsyncRedisClusterAdapter, RedisClusterAdapter
from resilient_cache.adapters.sqlite_journal import SqliteJournal
from resilient_cache.control import ModeEnv, ModeFile
from resilient_cache.events import CircuitState
from resilient_cache.failover import AsyncFailover, Failover
from resilient_cache.metrics import LoggingHook
from resilient_cache.outcome import (
    AfterOutage,
    Direction,
    OnOverload,
    Operation,
    OverloadCause,
    OverloadVerdict,
    Progress,
)
from resilient_cache.stamps import SYSTEM_CLOCK, SYSTEM_RANDOM
from resilient_cache.testing import AdapterContract, AsyncAdapterContract, FaultKind, WireFault, strategies
from resilient_cache.testing._laws import CAPABILITIES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(path for path in DOCS.rglob("*.md") if "changelog.d" not in path.parts)]
REGISTRIES = re.compile(
    r"pypi|pythonhosted|anaconda\.org|conda-forge|npmjs|docker\.io|ghcr\.io|quay\.io|badge", re.IGNORECASE
)


def section(page: str, heading: str) -> str:
    """The text below a heading, up to the next heading of the same or a higher level."""
    text = (DOCS / page).read_text()
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no section {heading!r}"
    return found[1]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every table row that starts with a code span."""
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip().strip("`") for cell in line.strip("|").split("|")]


def table(page: str, heading: str) -> dict[str, str]:
    """First column -> second column."""
    listed = [(cells[0], cells[1]) for cells in rows(section(page, heading))]
    assert listed
    assert len(dict(listed)) == len(listed), f"{heading}: a name stands twice"
    return dict(listed)


def shown(default: object) -> str:
    """A default as the tables write it."""
    if default is inspect.Parameter.empty:
        return "required"
    if default is SYSTEM_CLOCK:
        return "SYSTEM_CLOCK"
    if default == SYSTEM_RANDOM:
        return "SYSTEM_RANDOM"
    if isinstance(default, Enum):
        return f"{type(default).__name__}.{default.name}"
    if isinstance(default, float):
        return f"{default:g}"
    return repr(default)


def arguments(function: Callable[..., Any]) -> dict[str, str]:
    """Name -> default of everything one can pass."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: "any" if p.kind is p.VAR_KEYWORD else shown(p.default) for p in parameters if p.name != "self"}


@pytest.mark.parametrize(
    ("heading", "functions"),
    [
        ("CachePolicy", [CachePolicy]),
        ("BreakerPolicy", [BreakerPolicy]),
        ("ResilientCache", [ResilientCache, AsyncResilientCache]),
        ("Entry", [Entry]),
        ("fallback", [fallback]),
        ("Failover", [Failover, AsyncFailover]),
        ("MappingAdapter", [MappingAdapter, AsyncMappingAdapter]),
        ("from_functions", [from_functions]),
        ("RedisAdapter", [RedisAdapter, AsyncRedisAdapter]),
        ("RedisAdapter.from_url", [RedisAdapter.from_url, AsyncRedisAdapter.from_url]),
        ("RedisBackplane.from_url", [RedisBackplane.from_url, AsyncRedisBackplane.from_url]),
        ("SqliteJournal", [SqliteJournal]),
        ("RedisAdapter.from_sentinel", [RedisAdapter.from_sentinel, AsyncRedisAdapter.from_sentinel]),
        ("RedisClusterAdapter", [RedisClusterAdapter, AsyncRedisClusterAdapter]),
        ("RedisClusterAdapter.from_url", [RedisClusterAdapter.from_url, AsyncRedisClusterAdapter.from_url]),
        ("ModeFile", [ModeFile]),
        ("ModeEnv", [ModeEnv]),
        ("LoggingHook", [LoggingHook]),
    ],
)
def test_the_options_table_is_the_code(heading: str, functions: list[Callable[..., Any]]) -> None:
    listed = table("reference/options.md", heading)
    for function in functions:
        assert listed == arguments(function)


@pytest.mark.parametrize("policy", [CachePolicy, BreakerPolicy])
def test_every_field_of_a_policy_is_an_option(policy: type[Any]) -> None:
    assert list(table("reference/options.md", policy.__name__)) == [field.name for field in fields(policy)]


def test_the_calls_table_is_the_code() -> None:
    """The names in a row's first two cells, up to the first colon, are the parameters of the method."""
    for called, further, *_ in rows(section("reference/options.md", "Calls")):
        name, _, rest = called.partition("(")
        told = set(re.findall(r"(?:^|[(,]) *(\w+)", rest)) | set(re.findall(r"\w+", further.partition(":")[0]))
        for cache in (ResilientCache[str, Any](None, name="sync"), AsyncResilientCache[str, Any](None, name="async")):
            assert told == set(arguments(getattr(cache, name))), name


LOADING = [OnOverload, OverloadCause, OverloadVerdict]
OUTCOMES = [Source, Reason, Mode, AfterOutage, Invalidation, Mistake, Direction, Operation, CircuitState, *LOADING]


@pytest.mark.parametrize("kind", OUTCOMES)
def test_every_outcome_is_listed(kind: type[StrEnum]) -> None:
    assert list(table("reference/outcomes.md", kind.__name__)) == [member.value for member in kind]


def test_every_kind_of_failure_is_listed() -> None:
    assert list(table("reference/errors.md", "FailureKind")) == [kind.value for kind in FailureKind]


def test_every_field_of_a_lookup_is_listed() -> None:
    assert list(table("reference/outcomes.md", "Lookup")) == list(Lookup._fields)


def test_every_field_of_progress_is_listed() -> None:
    assert list(table("reference/outcomes.md", "Progress")) == list(Progress._fields)


def test_every_mode_stands_in_the_how_to() -> None:
    text = (DOCS / "how-to/switch-it-off-at-run-time.md").read_text()
    assert [cells[0] for cells in rows(text)] == [mode.name for mode in Mode]


def test_every_fault_stands_in_the_how_to() -> None:
    listed = table("how-to/test-your-service.md", "What can go wrong")
    assert list(listed) == [kind.value for kind in FaultKind]


def test_every_fault_of_a_wire_stands_in_the_how_to() -> None:
    assert list(table("how-to/test-your-service.md", "A real server")) == [kind.value for kind in WireFault]


def test_every_law_of_the_contracts_stands_in_the_how_to() -> None:
    listed = table("how-to/write-an-adapter.md", "Hold it to the contract")
    laws = {name for kind in (AdapterContract, AsyncAdapterContract) for name in dir(kind) if name.startswith("test_")}
    assert {name for name in listed if name.startswith("test_")} == laws
    assert set(re.findall(r'"(\w+)"', listed["excused"])) == CAPABILITIES


@pytest.mark.parametrize(
    "strategy", [strategies.fault_plans, strategies.cache_histories], ids=lambda made: made.__name__
)
def test_every_option_of_a_strategy_stands_in_the_how_to(strategy: Callable[..., Any]) -> None:
    told = table("how-to/test-with-pytest.md", "For all faults and all histories")[strategy.__name__]
    assert re.findall(r"`(\w+)`", told) == list(arguments(strategy))


def test_every_event_stands_in_the_how_to_with_its_fields() -> None:
    listed = {cells[0]: cells[2] for cells in rows(section("how-to/watch-it.md", "Hooks"))}
    told = {name: getattr(events, name) for name in events.__all__ if hasattr(getattr(events, name), "__slots__")}
    known = {name: kind for name, kind in told.items() if hasattr(kind, "__dataclass_fields__")}
    assert set(listed) == set(known)
    for name, cell in listed.items():
        mentioned = re.findall(r"(?<![A-Za-z])[a-z_]+(?=`|$)", cell)
        assert [field.name for field in fields(known[name])] == ["cache", *mentioned], name


def test_the_tree_of_errors_is_the_code() -> None:
    text = (DOCS / "reference/errors.md").read_text()
    drawn = re.findall(r"^(?:\|   )?[|`]-- (\w+)", text, re.MULTILINE)
    assert drawn == re.findall(r"[|`]-- (\w+)", errors.__doc__ or "")
    assert set(drawn) == {
        kind.__name__
        for family in (ResilientCacheError, OriginOverloaded)
        for kind in family.__subclasses__()
        if kind.__module__ == errors.__name__
    }


class Bad:
    """A store that fails at every operation, each time in the next way."""

    def __init__(self) -> None:
        self._kinds = itertools.cycle(FailureKind)

    def get(self, key: str, /) -> bytes | None:
        raise StoreError(next(self._kinds))

    def set(self, key: str, value: bytes, ttl: float, /) -> None:
        raise StoreError(next(self._kinds))

    def delete(self, key: str, /) -> None:
        raise StoreError(next(self._kinds))

    def close(self) -> None:
        raise OSError


def provoked() -> ResilientCache[str, Any]:
    """A cache that has counted nearly everything there is to count."""

    def bad_hook(event: object) -> None:
        raise RuntimeError

    def bad_mode() -> Mode:
        raise RuntimeError

    def none(key: str) -> str:
        raise NotFound(key)

    cache = ResilientCache[str, Any](Bad(), name="bad", memory=10, hooks=[bad_hook], mode=bad_mode)
    for number in range(60):
        cache.get(f"k{number}")
        cache.set(f"k{number}", number)
        cache.invalidate(f"k{number}")
    with pytest.raises(NotFound):
        cache.get_or_load("none", none)
    cache.close()
    return cache


def counted(cache: ResilientCache[str, Any]) -> set[str]:
    return set(cache.stats())


def test_the_counters_that_are_always_there_are_listed() -> None:
    always, later = section("reference/outcomes.md", "stats").split("These are there from their first event on:")
    assert [cells[0] for cells in rows(always)] == list(ResilientCache(None, name="new").stats())
    assert list(rows(later))


def test_every_counter_that_appears_is_listed() -> None:
    places = {"operation": Operation, "kind": FailureKind, "reason": Reason, "outcome": Invalidation} | {
        "direction": Direction,
        "state": CircuitState,
        "mistake": Mistake,
        "cause": OverloadCause,
        "verdict": OverloadVerdict,
    }
    patterns = set()
    for cells in rows(section("reference/outcomes.md", "stats")):
        names = re.findall(r"<(\w+)>", cells[0])
        for values in itertools.product(*(places[name] for name in names)):
            text = cells[0]
            for value in values:
                text = re.sub(r"<\w+>", str(value), text, count=1)
            patterns.add(text)
    refused = ResilientCache[str, Any](MappingAdapter({"refused:k": b"garbage"}), name="refused")
    refused.get("k")
    refused.set("k", object())
    assert refused.invalidate("k") is Invalidation.CONFIRMED
    seen = counted(provoked()) | counted(refused)
    assert seen <= patterns
    assert {"hook_errors", "mode_errors", "close_errors", "not_stored", "loader_calls", "refused_corrupt"} <= seen


def test_every_key_of_health_is_listed() -> None:
    assert list(table("reference/outcomes.md", "health")) == list(ResilientCache(MappingAdapter(), name="new").health())


def test_every_key_of_explain_is_listed() -> None:
    assert list(table("reference/outcomes.md", "explain")) == list(
        ResilientCache(MappingAdapter(), name="new").explain("k")
    )


def test_a_mode_of_the_table_does_what_it_says() -> None:
    """memory, store read, store written, loads: for each mode, by watching the store."""
    text = (DOCS / "how-to/switch-it-off-at-run-time.md").read_text()
    for cells in rows(text):
        mode, said = Mode[cells[0]], [cell.strip("*") == "yes" for cell in cells[1:5]]
        calls: list[str] = []

        def noted(name: str, calls: list[str] = calls) -> Callable[..., None]:
            return lambda *_: calls.append(name)

        cache = ResilientCache[str, int](
            from_functions(noted("get"), noted("set"), noted("delete")), name="m", memory=9
        )
        cache.set("in memory", 1)
        calls.clear()
        cache.mode = mode
        memory = cache.get("in memory") == 1
        try:
            loads = cache.get_or_load("new", len) == 3
        except errors.NoSafeValue:
            loads = False
        read = "get" in calls
        cache.set("other", 2)
        assert [memory, read, "set" in calls, loads] == said, mode


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_resolve(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        assert "://" not in target, f"{target}: pages stand for themselves"
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.is_file(), target
        if anchor:
            assert anchor in anchors(there), target


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_reached_from_the_index() -> None:
    linked = set(re.findall(r"\]\(([^)#\s]+)", (DOCS / "index.md").read_text()))
    reached = {(DOCS / target).resolve() for target in linked}
    assert {page.resolve() for page in PAGES} - reached == {(DOCS / "index.md").resolve()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_a_registry_or_a_place_on_somebodys_disk(page: Path) -> None:
    text = page.read_text()
    assert not REGISTRIES.search(text)
    assert not re.search(r"(?<![\w.])/(home|root|tmp|Users|usr|opt|work)/", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_are_short_enough_to_read(page: Path) -> None:
    prose = [line for line in page.read_text().splitlines() if not line.startswith("|")]
    assert max(map(len, prose)) <= 120


def test_the_readme_is_short_and_starts_with_code() -> None:
    lines = README.read_text().splitlines()
    assert len(lines) <= 180
    assert lines.index("```python") < 25


def test_every_example_can_fail() -> None:
    """A block asserts something, or is there for one below it that does."""
    for page in PAGES:
        blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
        if blocks:
            assert any("assert " in block for block in blocks), page.name
            assert "assert " in blocks[-1], page.name


def test_async_names_are_the_sync_names() -> None:
    """README: the two have the same names."""

    def names(kind: type[object]) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert {"aclose" if name == "close" else name for name in names(ResilientCache)} == names(AsyncResilientCache)
