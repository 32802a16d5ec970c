"""Which statements of the package does each test come to? One that does not come to a mutant's cannot notice it.

Every statement of a function gets a mark in front of it, in memory that forked children share. Marking is a call of a
slot: it has no frame and no line of its own, and the tests' own profilers and tracers are not in its way.
"""

from __future__ import annotations

import ast
import builtins
import mmap
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias

from .mutants import Function, Mutant, at
from .placing import Made, put
from .rooms import PACKAGE

__all__ = ["Marks", "Reached", "line", "marked"]

NAME: Final = "__reached__"
BLOCKS: Final = ("body", "orelse", "finalbody", "handlers", "cases")

Reached: TypeAlias = Mapping[str, Mapping[str, str]]
"""By test and file: a "1" for every line with a statement that the test has come to, a "0" for every other."""


def line(mutant: Mutant) -> int:
    """Where the statement that it changes begins; for a handler that is its `try`."""
    tree = ast.parse(mutant.source)
    around = (at(tree, mutant.path[:depth]) for depth in range(len(mutant.path), -1, -1))
    return next(node.lineno for node in around if isinstance(node, ast.stmt))


def marked(source: str, first: int = 0) -> ast.Module:
    """The module with a mark before every statement in a function: the number `first` and its line."""
    tree = ast.parse(source)
    _mark(tree, first, inside=False)
    return ast.fix_missing_locations(tree)


def _mark(node: ast.AST, first: int, *, inside: bool) -> None:
    inside = inside or isinstance(node, Function)
    for field in BLOCKS:
        block = getattr(node, field, None)
        if isinstance(block, list):
            for child in block:
                _mark(child, first, inside=inside)
            setattr(node, field, [new for child in block for new in _with_mark(child, first, inside=inside)])


def _with_mark(child: ast.AST, first: int, *, inside: bool) -> Iterator[ast.AST]:
    is_text = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
    if inside and isinstance(child, ast.stmt) and not is_text:
        number = ast.Constant(first + child.lineno)
        call = ast.Call(ast.Name(NAME, ast.Load()), [number, ast.Constant(ord("1"))], [])
        yield ast.copy_location(ast.Expr(call), child)
    yield child


class Marks:
    """The marks of some files of the package."""

    def __init__(self, files: Iterable[str]) -> None:
        self._sources = {file: (PACKAGE / f"{file}.py").read_text() for file in files}
        self._first: dict[str, int] = {}
        size = 0
        for file, source in self._sources.items():
            self._first[file] = size
            size += source.count("\n") + 2
        self._memory = mmap.mmap(-1, size)
        self.wipe()

    def place(self, made: Made) -> None:
        """Put them into the functions there are, for good."""
        setattr(builtins, NAME, self._memory.__setitem__)
        for file, source in self._sources.items():
            path = sys.modules[f"resilient_cache.{file}"].__file__ or ""
            put(compile(marked(source, self._first[file]), path, "exec", dont_inherit=True), made)

    def wipe(self) -> None:
        """As if nothing had been come to."""
        self._memory[:] = b"0" * len(self._memory)

    def read(self) -> dict[str, str]:
        """What has been come to since, by file."""
        text = self._memory[:].decode()
        ends = [*self._first.values(), len(text)][1:]
        return {file: text[first:end] for (file, first), end in zip(self._first.items(), ends, strict=True)}
