"""A mode kept in a file or in the environment: what it may say, when it is looked at, and what bad ones do."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_cache import MisuseError, Mode, ResilientCache, control
from resilient_cache.control import Control, ModeEnv, ModeFile, Order, parse
from resilient_cache.testing import ManualClock

NAME = "RESILIENT_CACHE_TEST_MODE"


class Source:
    """A control of either kind on a manual clock, and the place it looks at."""

    def __init__(self, kind: str, folder: Path, patch: pytest.MonkeyPatch, every: float = 1.0) -> None:
        self.clock = ManualClock()
        self.path = folder / "cache.mode"
        self.patch = patch
        self.file = kind == "file"
        self.control: Any = (
            ModeFile(self.path, every=every, clock=self.clock)
            if self.file
            else ModeEnv(NAME, every=every, clock=self.clock)
        )

    def say(self, text: str | None) -> None:
        if not self.file:
            self.patch.delenv(NAME, raising=False) if text is None else self.patch.setenv(NAME, text)
        elif text is None:
            self.path.unlink(missing_ok=True)
        else:
            self.path.write_text(text, "utf-8")
            self.date(self.clock.time())

    def date(self, moment: float) -> None:
        os.utime(self.path, (moment, moment))

    def look(self, after: float = 1.0) -> Mode:
        self.clock.advance(after)
        mode: Mode = self.control()
        return mode


@pytest.fixture(params=["file", "env"])
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    return Source(request.param, tmp_path, monkeypatch)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    return Source("file", tmp_path, monkeypatch)


# What it may say


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("form", ["{}", "  {}\n", "# why\n\n{}  # who\n"])
def test_a_mode_is_understood_as_people_write_it(mode: Mode, form: str) -> None:
    for name in (mode.value, mode.name, mode.value.replace("_", "-")):
        assert parse(form.format(name), 0.0) == Order(mode)


@pytest.mark.parametrize(
    ("said", "lasting"),
    [("900", 900), ("900s", 900), ("15m", 900), ("1h", 3600), ("0.5h", 1800), ("2.125", 2.125), ("0", 0)],
)
def test_for_counts_from_when_it_was_written(said: str, lasting: float) -> None:
    assert parse(f"bypass for {said}", 1_000.0) == Order(Mode.BYPASS, 1_000.0 + lasting)


@pytest.mark.parametrize(
    "said", ["2026-06-12T20:40:00Z", "2026-06-12T20:40", "2026-06-12T22:40+02:00", "20260612T204000Z"]
)
def test_until_is_a_moment_and_without_an_offset_it_is_in_utc(said: str) -> None:
    assert parse(f"frozen  until {said}", 0.0) == Order(
        Mode.FROZEN, datetime(2026, 6, 12, 20, 40, tzinfo=UTC).timestamp()
    )


BAD = [
    *(
        "",
        "\n",
        "# on",
        "off",
        "bypas",
        "bypass for",
        "bypass for ever",
        "bypass for -5",
        "bypass for 5d",
        "bypass 900",
    ),
    *(
        "bypass until",
        "bypass until noon",
        "bypass until 20:40",
        "on\nbypass",
        "bypass for 5 m",
        "bypass until 1e9",
        "5",
    ),
    *("bypass for 5 # or\nmore", "bypass for 1234567890", "bypass for \u0661"),
]


@pytest.mark.parametrize("text", BAD)
def test_anything_else_is_no_order(text: str) -> None:
    with pytest.raises(ValueError, match=r"not (one line|a duration)|not a valid|Invalid isoformat"):
        parse(text, 0.0)


@given(st.text() | st.from_regex(r"[a-z_-]* (for|until) \S*", fullmatch=True), st.floats(0, 1e10))
def test_whatever_is_written_is_an_order_or_a_value_error(text: str, since: float) -> None:
    try:
        order = parse(text, since)
    except ValueError:
        return
    assert isinstance(order.mode, Mode)
    assert isinstance(order.until, float)


# When it is looked at


def test_nothing_said_is_on_and_what_is_said_holds_until_something_else_is(source: Source) -> None:
    assert source.look() is Mode.ON
    for mode in (Mode.BYPASS, Mode.FROZEN, Mode.READ_ONLY):
        source.say(mode)
        assert source.look() is mode
        assert source.look() is mode
    source.say(None)
    assert source.look() is Mode.ON


def test_it_is_looked_at_once_in_so_many_seconds_and_not_before(source: Source) -> None:
    """A switch takes effect within `every`; in between nothing is touched."""
    source.say("bypass")
    assert source.look() is Mode.BYPASS
    source.say("frozen")
    assert source.look(0.999) is Mode.BYPASS
    assert source.look(0.001) is Mode.FROZEN


def test_nothing_is_touched_before_it_is_asked(source: Source, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def touched(*_: object, **__: object) -> Any:
        raise AssertionError("touched")

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", touched)
        patch.setattr(ManualClock, "monotonic", touched)
        patch.setattr(ManualClock, "time", touched)
        ResilientCache(None, name="control", memory=10, clock=source.clock, mode=source.control)


def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often the file system is asked by `control`."""
    calls = {"stat": 0, "open": 0}
    real_stat, real_open = os.stat, open

    def stat(path: Any, **options: Any) -> Any:
        calls["stat"] += "cache.mode" in str(path)
        return real_stat(path, **options)

    def opened(*args: Any, **options: Any) -> Any:
        calls["open"] += 1
        return real_open(*args, **options)

    monkeypatch.setattr("resilient_cache.control.os.stat", stat)
    monkeypatch.setattr("resilient_cache.control.open", opened, raising=False)
    return calls


def test_a_file_is_read_when_it_has_changed_and_not_again(file: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """One `stat` a second, however many ask; a read only for another version of the file."""
    file.say("bypass")
    file.clock.advance(60)
    calls = counted(monkeypatch)
    for _ in range(40):
        assert file.look(0.25) is Mode.BYPASS
    assert calls == {"stat": 10, "open": 1}


def test_a_file_that_was_just_written_is_read_again_until_another_write_would_show(
    file: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two writes of one length within a tick of the file system look like one."""
    file.say("bypass")
    written = file.clock.time()
    assert file.look(0.25) is Mode.BYPASS
    file.path.write_text("frozen")
    file.date(written)  # in place: the same inode, length and time
    calls = counted(monkeypatch)
    assert [file.look() for _ in range(4)] == [Mode.FROZEN] * 4
    assert calls == {"stat": 4, "open": 2}


def test_a_file_put_in_its_place_is_read(file: Source) -> None:
    """As an editor or a mounted config map does it, with the old time."""
    file.say("bypass")
    file.clock.advance(60)
    assert file.look() is Mode.BYPASS
    other = file.path.with_name("other")
    other.write_text("frozen")
    written = file.path.stat().st_mtime_ns
    os.utime(other, ns=(written, written))
    other.replace(file.path)
    assert file.look() is Mode.FROZEN


# When it ends


def test_a_mode_ends_by_itself_at_its_moment_and_not_before(source: Source) -> None:
    """Nobody has to think of it; it comes back as `on`."""
    source.clock.advance(0.5)
    source.say("bypass for 10")
    assert (source.look(0.0), source.control.ends_in) == (Mode.BYPASS, 10.0)
    assert (source.look(9.875), source.control.ends_in) == (Mode.BYPASS, 0.125)
    assert (source.look(0.125), source.control.ends_in) == (Mode.ON, None)


def test_until_is_told_by_the_wall_clock(source: Source) -> None:
    moment = datetime.fromtimestamp(source.clock.time(), UTC) + timedelta(seconds=5)
    source.say(f"frozen until {moment.isoformat()}")
    assert source.look(4.875) is Mode.FROZEN
    source.clock.jump(1.0)
    assert source.look(0.0) is Mode.ON


def test_without_an_end_there_is_none(source: Source) -> None:
    source.say("bypass")
    assert (source.look(), source.control.ends_in) == (Mode.BYPASS, None)


def test_for_means_the_same_to_a_process_that_starts_later(file: Source) -> None:
    file.say("bypass for 10")
    file.clock.advance(8)
    later = ModeFile(str(file.path), clock=file.clock)
    assert (later(), later.ends_in) == (Mode.BYPASS, 2.0)


# What is of no use


def told(control: Callable[[], Mode]) -> str:
    try:
        return str(control())
    except (OSError, ValueError) as error:
        return type(error).__name__


@pytest.mark.parametrize("text", [text for text in BAD if text.strip()])
def test_what_is_not_understood_leaves_mode_and_end_as_they_were_and_raises_once(source: Source, text: str) -> None:
    source.say("frozen for 100")
    assert source.look() is Mode.FROZEN
    source.clock.advance(60)
    source.say(text)
    answers = [told(source.control) for _ in range(3)]
    for _ in range(5):
        source.clock.advance(1)
        answers.append(told(source.control))
    assert answers == ["ValueError", *["frozen"] * 7]
    source.clock.advance(40)
    assert told(source.control) == "on"  # its end has come
    source.say("read_only")
    assert source.look() is Mode.READ_ONLY


def test_an_empty_file_is_one_that_is_being_written(file: Source) -> None:
    file.say("bypass")
    assert file.look() is Mode.BYPASS
    file.say("")
    file.clock.advance(1)
    assert [told(file.control) for _ in range(2)] == ["ValueError", "bypass"]


def test_what_is_no_text_is_not_understood(file: Source) -> None:
    file.path.write_bytes(b"\xff\xfe" * 5_000)
    assert [told(file.control) for _ in range(2)] == ["ValueError", "on"]


def test_no_more_of_a_file_is_read_than_a_line_may_need(file: Source) -> None:
    """And what is not read may change what is: `for 15m` must not become `for 1`."""
    line = "bypass for 15m"
    for size, answer in ((4096, "bypass"), (4097, "ValueError")):
        file.say("#" * (size - len(line) - 1) + "\n" + line)
        assert str(told(file.control)) == answer
        file.clock.advance(1)


def test_a_mark_of_its_encoding_is_no_part_of_the_line(file: Source) -> None:
    """Some editors begin a file with one."""
    file.path.write_bytes(b"\xef\xbb\xbfbypass")
    assert told(file.control) == "bypass"


def test_what_has_ended_stays_so_when_the_clock_goes_back(source: Source) -> None:
    source.say("bypass for 60")
    assert [source.look(), source.look(60)] == [Mode.BYPASS, Mode.ON]
    source.clock.jump(-30)
    assert (source.look(), source.control.ends_in) == (Mode.ON, None)
    source.say("bypass for 90")
    assert source.look() is Mode.BYPASS


def test_an_order_that_comes_as_another_ends_is_heeded(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread finds that the old one is over while the new one is being understood."""
    source.say("bypass for 60")
    assert source.look() is Mode.BYPASS
    understand = control.parse

    def slowly(text: str, since: float) -> Any:
        assert source.control.in_force is Mode.ON
        return understand(text, since)

    monkeypatch.setattr(control, "parse", slowly)
    source.clock.advance(60)
    source.say("bypass")
    assert [source.look(), source.look()] == [Mode.BYPASS] * 2


@pytest.mark.parametrize("every", [0.0, 1.0])
def test_a_mode_ends_although_it_cannot_be_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: float
) -> None:
    """However often the look fails, and also where each request is the one that looks."""
    file = Source("file", tmp_path, monkeypatch, every)
    cache = ResilientCache[str, int](None, name="control", memory=10, clock=file.clock, mode=file.control)
    file.say("bypass for 60")
    seen = [cache.mode]
    file.path.unlink()
    file.path.mkdir()
    for _ in range(3):
        file.clock.advance(29)
        seen.append(cache.mode)
    assert seen == [Mode.BYPASS, Mode.BYPASS, Mode.BYPASS, Mode.ON]
    assert cache.stats()["mode_errors"] == 3


def test_what_is_no_file_leaves_the_mode_and_is_tried_once_a_second(file: Source) -> None:
    """Nothing waits for whoever writes into a pipe."""
    file.say("bypass")
    assert file.look() is Mode.BYPASS
    file.path.unlink()
    os.mkfifo(file.path)
    answers = []
    for _ in range(4):
        file.clock.advance(0.5)
        answers.append(told(file.control))
    assert answers == ["bypass", "OSError", "bypass", "OSError"]


def test_an_unreadable_file_is_tried_again(file: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rights may be put right without a change of the file."""
    file.say("bypass")
    file.clock.advance(60)

    def refuse(*_: object, **__: object) -> Any:
        raise PermissionError("cache.mode")

    with monkeypatch.context() as patch:
        patch.setattr("resilient_cache.control.open", refuse, raising=False)
        assert [told(file.control) for _ in range(2)] == ["PermissionError", "on"]
    assert file.look() is Mode.BYPASS


def test_a_cache_counts_it_and_says_so_once(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    cache = ResilientCache[str, int](None, name="control", memory=10, clock=source.clock, mode=source.control)
    source.say("bypass")
    assert (cache.get("k"), cache.mode) == (None, Mode.BYPASS)
    source.say("by-pass")
    source.clock.advance(60)
    with caplog.at_level(logging.WARNING, "resilient_cache"):
        assert [cache.mode for _ in range(3)] == [Mode.BYPASS] * 3
    assert cache.stats()["mode_errors"] == 1
    assert [record.getMessage() for record in caplog.records] == ["cache control: the mode function failed"]


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: ModeFile(5), "path must be the name of a file"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        (lambda: ModeFile(""), "path must be the name of a file"),  # as of an environment variable that is not set
        (lambda: ModeFile("a\0b"), "path must be the name of a file"),
        (lambda: ModeFile("f", every=-1), "every must be"),
        (lambda: ModeEnv("", every=1), "name must be the name of an environment variable"),
        (lambda: ModeEnv("a=b"), "name must be"),
        (lambda: ModeEnv("a\0b"), "name must be"),
        (lambda: ModeEnv(None), "name must be"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        (lambda: ModeEnv("MODE", every=float("nan")), "every must be"),
    ],
)
def test_misuse_is_named(make: Callable[[], object], named: str) -> None:
    with pytest.raises(MisuseError, match=named):
        make()


def test_a_control_has_a_place_to_look_at() -> None:
    with pytest.raises(NotImplementedError):
        Control(1.0, ManualClock())()
