"""Does a test notice a mutant? Each is put into a forked copy of a process whose tests are collected and waiting.

A test that fails, dies or takes far longer than it should has noticed.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import json
import math
import os
import resource
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, zip_longest
from pathlib import Path
from typing import Any

import pytest

from .mutants import Mutant
from .placing import Made, functions, import_as, swap
from .reach import Marks, Reached, line
from .rooms import is_own, tests_of

__all__ = ["run"]

OFF = ("randomly", "cacheprovider", "faulthandler", "terminal")
# Plain assertions, because pytest would rewrite this package too, for its plugin, and import it past the mutant.
HARD = ("--assert=plain", "-o", "addopts=", "-o", "timeout=0", "-W", "ignore::pytest.PytestAssertRewriteWarning")
ARGS = (*HARD, *(word for plugin in OFF for word in ("-p", f"no:{plugin}")))
SHARED = ("hypothesis.stateful", "redis.asyncio", "valkey.asyncio")  # so that not every fork has to import them
MEMORY = 4 << 30
STACK = 1 << 20  # some tests have hundreds of threads
FEW = 2


class Killers:
    """Which tests to ask: those that come to the mutant.

    First those that noticed other mutants of the function, then of the file, then the file's own, then the quick.
    """

    def __init__(self, seconds: Mapping[str, float], reached: Reached, within: float = math.inf) -> None:
        self._noticed: dict[str, Counter[str]] = {}
        self._seconds = seconds
        self._reached = reached
        self._within = within

    def note(self, mutant: Mutant, test: str | None) -> None:
        if not test:
            return
        for place in (mutant.file, f"{mutant.file}:{mutant.function}"):
            self._noticed.setdefault(place, Counter())[test] += 1

    def order(self, mutant: Mutant, items: Sequence[pytest.Item]) -> list[pytest.Item]:
        asked = set(tests_of(mutant.file))
        near = self._noticed.get(f"{mutant.file}:{mutant.function}", Counter[str]())
        far = self._noticed.get(mutant.file, Counter[str]())

        def rank(item: pytest.Item) -> tuple[int, int, bool, float]:
            test = item.nodeid
            return -near[test], -far[test], not is_own(mutant.file, item.path), self._seconds.get(test, 0.0)

        place = line(mutant) if mutant.function else 0

        def reaches(item: pytest.Item) -> bool:
            lines = self._reached.get(item.nodeid)
            return lines is not None and (not place or lines[mutant.file][place] == "1")

        order = sorted((item for item in items if item.path in asked and reaches(item)), key=rank)
        spent = accumulate(self._seconds[item.nodeid] for item in order)
        return [item for item, seconds in zip(order, spent, strict=True) if seconds <= self._within]

    def knows(self, file: str, tests: Path) -> bool:
        """Whether one of `tests` has noticed a mutant of `file`."""
        return any(test.split("::")[0].endswith(f"/{tests.name}") for test in self._noticed.get(file, ()))

    def patience(self, test: str) -> float:
        """Seconds after which a test hangs."""
        return 10.0 + 10.0 * self._seconds.get(test, 10.0)


def forked(work: Callable[[], object]) -> Any:
    """What `work` gives in a child process, None when that dies. Nothing of the child is left behind."""
    with tempfile.TemporaryFile("w+") as answer:
        child = os.fork()
        if child == 0:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
            threading.stack_size(STACK)
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            try:
                said = json.dumps([work()])
            except BaseException:
                said = json.dumps(traceback.format_exc())
            answer.write(said)
            answer.flush()
            os._exit(0)
        os.waitpid(child, 0)
        with contextlib.suppress(ProcessLookupError):  # it may have left children of its own
            os.killpg(child, signal.SIGKILL)
        answer.seek(0)
        told: Any = json.loads(answer.read() or "[null]")
    if isinstance(told, str):
        sys.exit(f"no verdict:\n{told}")
    return told[0]


def _run(session: pytest.Session, items: Sequence[pytest.Item], killers: Killers) -> str:
    """The first of `items` that fails, "" when none does. A hang ends the process."""
    for item, after in zip_longest(items, items[1:]):
        faulthandler.dump_traceback_later(killers.patience(item.nodeid), exit=True, file=2)
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        except KeyboardInterrupt:  # it was to stay inside, and the mutant let it out: pytest lets it end the run
            return item.nodeid
        if session.testsfailed:
            return item.nodeid
    return ""


class _Waiting:
    """A plugin: with the tests collected it does `work` instead of running them."""

    def __init__(self, work: Callable[[pytest.Session], object]) -> None:
        self._work = work

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        session.config.option.tbstyle = "native"  # nobody reads it, and no source is parsed for it
        if not session.testsfailed:  # else they cannot even be collected
            self._work(session)
        return True


def run(chosen: Sequence[Mutant], tell: Callable[[Mutant, bool], None], within: float = math.inf) -> None:
    """Tell of each mutant whether it was killed, by so many seconds of tests.

    Ends the process when the tests fail without one.
    """
    for module in SHARED:
        importlib.import_module(module)
    tests = sorted({path for mutant in chosen for path in tests_of(mutant.file)})
    killers = Killers(*_baseline(tests, {mutant.file for mutant in chosen}), within)
    for mutant in chosen:
        if not mutant.function:
            noticed = _import(mutant, killers)
            killers.note(mutant, noticed)
            tell(mutant, noticed != "")

    def work(session: pytest.Session) -> None:
        gc.collect()
        made = functions()
        gc.freeze()
        for mutant in chosen:
            if mutant.function:
                noticed = _try(mutant, made, session, killers)
                killers.note(mutant, noticed)
                tell(mutant, noticed != "")

    told: list[bool] = []

    def whole(session: pytest.Session) -> None:
        work(session)
        told.append(True)

    _collected(tests, whole)
    if not told:  # pytest has caught whatever it was, and said so
        sys.exit("no verdict: the run did not come to its end")


def _baseline(tests: Sequence[Path], files: Iterable[str]) -> tuple[dict[str, float], Reached]:
    """What each test takes without a mutant, and where it comes to. Ends the process when several fail.

    One or two that are only too slow for a busy machine are left out: they would notice any mutant, by luck.
    """
    taken: dict[str, float] = {}
    reached: dict[str, dict[str, str]] = {}
    failed: list[str] = []

    def work(session: pytest.Session) -> None:
        marks = Marks(files)
        marks.place(functions())
        for item in session.items:
            marks.wipe()
            began = time.perf_counter()
            if _run(session, [item], Killers({}, {})):
                failed.append(item.nodeid)
                session.testsfailed = 0
            else:
                taken[item.nodeid] = time.perf_counter() - began
                reached[item.nodeid] = marks.read()

    def measured() -> list[object]:
        _collected(tests, work)
        return [taken, reached, failed]

    seconds, reach, fail = forked(measured) or ({}, {}, ["one of them, by a hang"])
    if len(fail) > FEW or not seconds:
        sys.exit(f"no verdict, these tests fail without a mutant: {fail}")
    if fail:
        sys.stderr.write(f"not asked, as they fail without a mutant: {fail}\n")
    return seconds, reach


def _try(mutant: Mutant, made: Made, session: pytest.Session, killers: Killers) -> str | None:
    """The test that notices a mutant in a function; "" when none does, None when it hangs or dies."""
    items = killers.order(mutant, session.items)

    def attempt() -> str:
        swap(mutant, made)
        return _run(session, items, killers)

    noticed: str | None = forked(attempt)
    return noticed


def _import(mutant: Mutant, killers: Killers) -> str | None:
    """The same of a mutant that is there from its module's import on; most are noticed by few files, and soon."""
    every = tests_of(mutant.file)
    likely = [test for test in every if is_own(mutant.file, test) or killers.knows(mutant.file, test)]
    noticed = _import_for(likely, mutant, killers) if likely else ""
    return _import_for(every, mutant, killers) if noticed == "" else noticed


def _import_for(tests: Sequence[Path], mutant: Mutant, killers: Killers) -> str | None:
    def attempt() -> str | None:
        noticed: list[str] = []
        import_as(mutant)
        _collected(tests, lambda session: noticed.append(_run(session, killers.order(mutant, session.items), killers)))
        return noticed[0] if noticed else None

    noticed: str | None = forked(attempt)
    return noticed


def _collected(tests: Iterable[Path], work: Callable[[pytest.Session], object]) -> None:
    pytest.main([*ARGS, *map(str, tests)], plugins=[_Waiting(work)])
