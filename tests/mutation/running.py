"""Does a test notice a mutant? Each is put into a forked copy of a process whose tests are collected and waiting.

What is inside a function is put in place by giving the function another `__code__`; what runs when a module is imported
needs a process that has not imported it. A test that fails, dies or takes far longer than it should has noticed.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib.machinery
import importlib.util
import json
import os
import resource
import signal
import sys
import time
import traceback
import types
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from .mutants import Mutant, compiled

__all__ = ["Killers", "run_session", "survives_import"]

ARGS = (
    "-o",
    "addopts=",
    "-p",
    "no:randomly",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:faulthandler",
    "-p",
    "no:terminal",
    "-o",
    "timeout=0",
    "-W",
    "error",
)
MEMORY = 4 << 30
Place: TypeAlias = tuple[str, str, int]


class Killers:
    """Which tests to ask first: those that noticed other mutants of the function, of the file, and the file's own."""

    def __init__(self) -> None:
        self._noticed: dict[str, Counter[str]] = {}
        self.seconds: dict[str, float] = {}

    def note(self, mutant: Mutant, test: str) -> None:
        for place in (mutant.file, f"{mutant.file}:{mutant.function}"):
            self._noticed.setdefault(place, Counter())[test] += 1

    def order(self, mutant: Mutant, own: Sequence[str], items: Sequence[pytest.Item]) -> list[pytest.Item]:
        near = self._noticed.get(f"{mutant.file}:{mutant.function}", Counter[str]())
        far = self._noticed.get(mutant.file, Counter[str]())

        def rank(item: pytest.Item) -> tuple[int, int, bool, float]:
            test = item.nodeid
            mine = any(Path(test.partition("::")[0]).name.startswith(name) for name in own)
            return -near[test], -far[test], not mine, self.seconds.get(test, 0.0)

        return sorted(items, key=rank)

    def patience(self, test: str) -> float:
        """Seconds after which a test hangs."""
        return 5.0 + 10.0 * self.seconds.get(test, 0.5)


def forked(work: Callable[[], object]) -> Any:
    """What `work` gives in a child process, None when that dies. Nothing of the child is left behind."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        try:
            said = json.dumps([work()])
        except BaseException:
            said = json.dumps(traceback.format_exc())
        with os.fdopen(writer, "w") as pipe:
            pipe.write(said)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    answer = json.loads(said) if said else [None]
    if isinstance(answer, str):
        sys.exit(f"no verdict:\n{answer}")
    return answer[0]


def _run(session: pytest.Session, items: Sequence[pytest.Item], killers: Killers) -> str:
    """The first of `items` that fails, "" when none does. A hang ends the process."""
    for item, after in zip(items, [*items[1:], None], strict=True):
        faulthandler.dump_traceback_later(killers.patience(item.nodeid), exit=True)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        if session.testsfailed:
            return item.nodeid
    return ""


class _Waiting:
    """A plugin: with the tests collected it does `work` instead of running them."""

    def __init__(self, work: Callable[[pytest.Session], object]) -> None:
        self._work = work

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("the tests cannot be collected")
        self._work(session)
        return True


def run_session(
    tests: Sequence[str], plan: Callable[[], Iterator[tuple[Mutant, str, Sequence[str]]]], killers: Killers,
    tell: Callable[[Mutant, bool], None],
) -> None:  # fmt: skip
    """Tell of each (mutant, its file's source, names of its own tests) of `plan` whether it was killed."""

    def work(session: pytest.Session) -> None:
        seconds = forked(lambda: _measure(session, killers))
        if not isinstance(seconds, dict):
            raise session.Failed(f"the tests fail without a mutant: {seconds}")
        killers.seconds.update(seconds)
        gc.collect()
        made = _made()
        gc.freeze()
        for mutant, source, own in plan():
            items = killers.order(mutant, own, session.items)

            def attempt(mutant: Mutant = mutant, source: str = source, items: list[pytest.Item] = items) -> str:
                _swap(mutant, source, made)
                return _run(session, items, killers)

            noticed = forked(attempt)
            if noticed:
                killers.note(mutant, noticed)
            tell(mutant, noticed != "")

    code = pytest.main([*ARGS, *tests], plugins=[_Waiting(work)])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        sys.exit(f"no verdict: pytest ended with {code!r}")


def _measure(session: pytest.Session, killers: Killers) -> dict[str, float] | str:
    taken: dict[str, float] = {}
    for item in session.items:
        began = time.perf_counter()
        if failed := _run(session, [item], killers):
            return failed
        taken[item.nodeid] = time.perf_counter() - began
    return taken


def survives_import(
    tests: Sequence[str], mutant: Mutant, source: str, own: Sequence[str], killers: Killers
) -> bool:  # fmt: skip
    """Whether no test notices a mutant that is there from the module's import on."""

    def attempt() -> str:
        noticed = ["?"]
        _import_as(mutant, source)

        def work(session: pytest.Session) -> None:
            noticed[0] = _run(session, killers.order(mutant, own, session.items), killers)

        pytest.main([*ARGS, *tests], plugins=[_Waiting(work)])
        return noticed[0]

    noticed = forked(attempt)
    if noticed and noticed != "?":
        killers.note(mutant, noticed)
    return bool(noticed == "")


def _made() -> dict[Place, list[types.FunctionType]]:
    """The package's functions by where they are written: a property's, a wrapped one's and a copied class's too."""
    made: dict[Place, list[types.FunctionType]] = {}
    for each in gc.get_objects():
        if isinstance(each, types.FunctionType):
            made.setdefault(_place(each.__code__), []).append(each)
    return made


def _place(code: types.CodeType) -> Place:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def _swap(mutant: Mutant, source: str, made: dict[Place, list[types.FunctionType]]) -> None:
    """Put the mutant's code into every function made from the one that it changes."""
    file = sys.modules[f"resilient_cache.{mutant.file}"].__file__ or ""
    targets = [
        (function, code)
        for code in _codes(compiled(mutant, source, file))
        if code.co_qualname == mutant.function
        for function in made.get(_place(code), ())
    ]
    assert targets, f"nothing there to change: {mutant.name}"
    for function, code in targets:
        function.__code__ = code


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _codes(inner)


def _import_as(mutant: Mutant, source: str) -> None:
    full = f"resilient_cache.{mutant.file}"
    assert full not in sys.modules

    class Loader(importlib.machinery.SourceFileLoader):
        def get_code(self, fullname: str) -> types.CodeType:
            return compiled(mutant, source, self.path)

    class Finder:
        def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> Any:
            if name != full or not path:
                return None
            file = str(Path(next(iter(path))) / f"{mutant.file}.py")
            return importlib.util.spec_from_file_location(name, file, loader=Loader(name, file))

    sys.meta_path.insert(0, Finder())
