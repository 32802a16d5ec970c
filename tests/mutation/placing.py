"""Put a mutant in place: into functions that are there already, or into a module before it is imported.

A function is given another `__code__`, so nothing stands between it and its callers: no frame more in a traceback, no
depth, no time. What runs when a module is imported needs a process that has not imported it.
"""

from __future__ import annotations

import gc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from .mutants import Mutant, compiled

__all__ = ["Made", "functions", "import_as", "put", "swap"]

Place: TypeAlias = tuple[str, str, int]
Made: TypeAlias = dict[Place, list[types.FunctionType]]


def functions() -> Made:
    """The package's functions by where they are written: a property's, a wrapped one's and a copied class's too."""
    made: Made = {}
    for each in gc.get_objects():
        if isinstance(each, types.FunctionType):
            made.setdefault(_place(each.__code__), []).append(each)
    return made


def _place(code: types.CodeType) -> Place:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def swap(mutant: Mutant, made: Made) -> None:
    """Put the mutant's code into every function made from the one that it changes."""
    file = sys.modules[f"resilient_cache.{mutant.file}"].__file__ or ""
    assert put(compiled(mutant, file), made, mutant.function), f"nothing there to change: {mutant.name}"


def put(module: types.CodeType, made: Made, name: str = "") -> int:
    """Put the code in a module's into the functions made of the same place, or into `name` only; into how many."""
    targets = [
        (function, code)
        for code in _codes(module)
        if not name or code.co_qualname == name
        for function in made.get(_place(code), ())
    ]
    for function, code in targets:
        free = function.__code__.co_freevars  # of a method `__class__` at most, which a mutant may not need any more
        function.__code__ = code if code.co_freevars else code.replace(co_freevars=free)
    return len(targets)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _codes(inner)


def import_as(mutant: Mutant) -> None:
    full = f"resilient_cache.{mutant.file}"
    assert full not in sys.modules

    class Loader(importlib.machinery.SourceFileLoader):
        def get_code(self, fullname: str) -> types.CodeType:
            return compiled(mutant, self.path)

    class Finder:
        def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> Any:
            if name != full or not path:
                return None
            file = str(Path(next(iter(path))) / f"{mutant.file}.py")
            return importlib.util.spec_from_file_location(name, file, loader=Loader(name, file))

    sys.meta_path.insert(0, Finder())
