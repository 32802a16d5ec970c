"""What the author of a contract leaves out is said: it fails, or is skipped with its reason."""

from __future__ import annotations

import multiprocessing
import os
import unittest
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from resilient_cache import MisuseError
from resilient_cache.testing import AdapterContract, AsyncAdapterContract, FaultyAdapter, ManualClock

from .well import OnStore, Queued


class Bare(AdapterContract):
    def open(self) -> Any:
        return FaultyAdapter(ManualClock())


class AsyncBare(AsyncAdapterContract):
    async def open(self) -> Any:
        return Queued(ManualClock())


MISSING = {
    "test_a_broken_store_is_an_error": "break_store",
    "test_a_dripping_store_is_left_at_the_deadline": "open_dripping",
}


@pytest.mark.parametrize("law", MISSING)
@pytest.mark.parametrize("contract", [Bare, AsyncBare])
def test_what_is_neither_shown_nor_excused_fails_and_says_what_to_write(contract: Any, law: str) -> None:
    told = rf"write {contract.__name__}\.{MISSING[law]}\(\), or say why not: excused = {{'{MISSING[law]}': "
    with pytest.raises(AssertionError, match=told):
        getattr(contract(), law)()


def test_an_outage_must_end() -> None:
    class Half(Bare):
        def break_store(self) -> None:
            """Never ends."""

    with pytest.raises(AssertionError, match=r"write Half\.heal_store\(\), or say why not"):
        Half().test_a_broken_store_is_an_error()


def test_an_outage_that_cannot_end_is_excused() -> None:
    class Fatal(OnStore):
        excused: ClassVar[Mapping[str, str]] = {"heal_store": "what is broken stays broken"}
        heal_store = AdapterContract.heal_store

    Fatal().test_a_broken_store_is_an_error()
    with pytest.raises(unittest.SkipTest, match="heal_store: what is broken stays broken"):
        Fatal().test_a_store_that_is_back_is_used_again()


def test_an_adapter_without_close_says_why() -> None:
    with pytest.raises(AssertionError, match=r"give the adapter close\(\), or say why not: excused = {'close': "):
        Bare().test_closed_means_closed()


@pytest.mark.parametrize(
    ("excuses", "told"),
    [({"clsoe": "typo"}, r"excused knows .*'close'.*, not \['clsoe'\]"), ({"close": ""}, "a reason")],
)
def test_an_excuse_names_something_and_gives_a_reason(excuses: dict[str, str], told: str) -> None:
    class Excused(Bare):
        excused: ClassVar[Mapping[str, str]] = excuses

    with pytest.raises(AssertionError, match=told):
        Excused().test_closed_means_closed()


class Awaits(AdapterContract):
    async def open(self) -> Any:  # type: ignore[override]
        return FaultyAdapter(ManualClock())


class AwaitsNot(AsyncAdapterContract):
    def open(self) -> Any:
        return Queued(ManualClock())


class GivesCoroutines(AdapterContract):
    def open(self) -> Any:
        return Queued(ManualClock())


class GivesPlain(AsyncAdapterContract):
    async def open(self) -> Any:
        return FaultyAdapter(ManualClock())


class GivesNothing(AdapterContract):
    def open(self) -> Any:
        """Forgets to return it."""


@pytest.mark.parametrize(
    ("contract", "told"),
    [
        (Awaits, "^open must not be async here: AsyncAdapterContract takes coroutines$"),
        (AwaitsNot, "^open must be async here: AdapterContract takes plain functions$"),
        (
            GivesCoroutines,
            "^open must give .* plain methods, or be held to AsyncAdapterContract; get is not one in <",
        ),
        (
            GivesPlain,
            "^open must give .* coroutine methods, or be held to AdapterContract; get is not one in <",
        ),
        (GivesNothing, "^open must give .*; get is not one in None$"),
    ],
)
def test_the_other_colour_is_told_before_anything_is_asked(contract: Any, told: str) -> None:
    with pytest.raises(MisuseError, match=told):
        contract().test_what_is_missing_is_none()


@pytest.mark.parametrize("contract", [AdapterContract, AsyncAdapterContract])
def test_a_contract_without_an_adapter_says_what_to_write(contract: Any) -> None:
    with pytest.raises(NotImplementedError, match=rf"write {contract.__name__}\.open\(\)"):
        contract().test_what_is_missing_is_none()


def test_where_there_is_no_fork_the_law_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    with pytest.raises(unittest.SkipTest, match="none on this platform"):
        Bare().test_a_forked_child_may_use_it_too()


def test_where_a_process_may_have_no_children_the_law_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a worker of a `multiprocessing.Pool`."""
    process: Any = multiprocessing.current_process()
    monkeypatch.setitem(process._config, "daemon", True)
    with pytest.raises(unittest.SkipTest, match="may have no children"):
        Bare().test_a_forked_child_may_use_it_too()


def test_unittest_runs_a_contract_and_shows_what_is_excused() -> None:
    class Case(OnStore, unittest.TestCase):
        def __init__(self, name: str) -> None:
            OnStore.__init__(self)
            unittest.TestCase.__init__(self, name)

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(result)
    assert not result.errors
    assert not result.failures
    assert result.testsRun >= 14
    skipped = {reason for _, reason in result.skipped}
    no = "the adapter has no"
    assert skipped == {"open_dripping: no network", f"{no} get_many, set_many, delete_many", f"{no} shard"}
