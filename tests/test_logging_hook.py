"""The log says what a person needs in an outage, in few lines, and never a key or a value."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from resilient_cache import Entry, FailureKind, Mode, Reason, ResilientCache, Source
from resilient_cache.events import (
    CircuitChanged,
    CircuitState,
    EntryRefused,
    Invalidated,
    ModeChanged,
    Served,
    StoreCalled,
)
from resilient_cache.metrics import LoggingHook
from resilient_cache.outcome import Direction, Invalidation, Operation


def test_a_transition_is_a_line_at_once(caplog: pytest.LogCaptureFixture) -> None:
    hook = LoggingHook()
    with caplog.at_level(logging.INFO, logger="resilient_cache.events"):
        hook(CircuitChanged("regions", Direction.READ, CircuitState.CLOSED, CircuitState.OPEN, 0.75))
        hook(CircuitChanged("regions", Direction.READ, CircuitState.HALF_OPEN, CircuitState.CLOSED))
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "cache regions: read circuit closed -> open, next probe in 0.8 s"),
        ("INFO", "cache regions: read circuit half_open -> closed"),
    ]


def test_another_mode_is_a_line_at_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="resilient_cache.events"):
        LoggingHook()(ModeChanged("regions", Mode.ON, Mode.BYPASS))
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "cache regions: mode on -> bypass")
    ]


def test_all_else_is_summed_up_at_most_once_an_interval(caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    hook = LoggingHook(logging.getLogger("mine"), interval=30, monotonic=lambda: now[0])
    with caplog.at_level(logging.INFO, logger="mine"):
        for _ in range(3):
            hook(Served("regions", Source.MEMORY, Reason.HIT))
        hook(Served("regions", Source.NONE, Reason.ABSENT))
        hook(Served("regions", Source.NONE, Reason.ABSENT, error=True))
        hook(Served("tenants", Source.STALE, Reason.TIMEOUT))
        hook(StoreCalled("regions", Operation.GET, 0.001))
        hook(StoreCalled("regions", Operation.GET, 0.25, FailureKind.TIMEOUT))
        hook(EntryRefused("regions", Reason.CORRUPT))
        now[0] += 29.9
        hook(Invalidated("regions", Invalidation.PENDING))
        assert not caplog.records
        now[0] += 0.1
        hook(Served("regions", Source.LOADER, Reason.ABSENT))
        now[0] += 29
        hook(Served("regions", Source.LOADER, Reason.ABSENT))
    assert [record.message for record in caplog.records] == [
        "cache regions: in 30 s: Invalidated 1, error 1, loader 1, memory 3, miss 1, refused (corrupt) 1, store get 2, "
        "store get failed (timeout) 1"
    ]


def test_no_line_holds_a_key_or_a_value(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def get(self, key: str) -> bytes | None:
            raise OSError("secret-key")

        set: Any = get
        delete: Any = get

    cache: ResilientCache[str, object] = ResilientCache(Broken(), name="r", hooks=[LoggingHook(interval=0)], memory=9)
    with caplog.at_level(logging.DEBUG, logger="resilient_cache.events"):
        for _ in range(30):
            cache.get_or_load("secret-key", lambda _: Entry({"secret-value"}, ttl=0, stale_for=0))
            cache.set("secret-key", {"secret-value"})
            cache.invalidate("secret-key")
    assert len(caplog.records) > 30
    assert "secret" not in caplog.text
