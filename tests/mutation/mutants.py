"""The mutants of a module: each is its source with one small thing done wrong.

A mutant is known by what it changes and not by where: file, function, the statement as it was and as it is now. So a
ledger of mutants outlives everything that moves lines, and a changed statement drops out of it.

What is mutated: relations, arithmetic, boolean operands, conditions (always, never), negations, constants, `max`/`min`
and `any`/`all`, keyword arguments (left to their default), results (None), handlers (that catch nothing), and whole
statements (left out). What is not: annotations, docstrings, decorators, `assert` (for the type checker), `__slots__`
and `__all__`, texts for people (f-strings, what is raised or logged, what has a space in it), and locks, which only
schedules can test.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any, TypeAlias

__all__ = ["Mutant", "mutants"]

Path: TypeAlias = tuple[tuple[str, int | None], ...]
Change: TypeAlias = tuple[Path, ast.AST]
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

SWAPS: dict[type[ast.AST], type[Any]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
    ast.And: ast.Or, ast.Or: ast.And, ast.Break: ast.Continue, ast.Continue: ast.Break,
}  # fmt: skip
NAMES = {"max": "min", "min": "max", "any": "all", "all": "any"}
UNTOUCHED = (ast.Assert, ast.Import, ast.ImportFrom, ast.Raise, ast.JoinedStr, ast.Pass, ast.Global, ast.Nonlocal)
FOR_TYPES = {"cast", "TypeVar", "ContextVar", "Generic"}
FOR_PEOPLE = {"warning", "exception", "info", "debug"}
NOT_CODE = {"__slots__", "__all__", "decorator_list", "annotation", "returns", "bases", "type_params"}


@dataclass(frozen=True)
class Mutant:
    """One change. `function` is empty for what runs when the module is imported."""

    file: str
    function: str
    was: str
    now: str
    path: Path
    node: ast.AST
    source: str

    @property
    def name(self) -> tuple[str, str, str, str]:
        """What the ledger knows it by."""
        return self.file, self.function, self.was, self.now


def at(tree: ast.AST, path: Path) -> Any:
    """The node at `path`."""
    node: Any = tree
    for field, index in path:
        node = getattr(node, field) if index is None else getattr(node, field)[index]
    return node


def changed(tree: ast.AST, path: Path, node: ast.AST) -> Any:
    """A copy of `tree` with `node` at `path`."""
    if not path:
        return node
    parent = copy.copy(tree)
    (field, index), rest = path[0], path[1:]
    child = getattr(tree, field)
    if index is None:
        setattr(parent, field, changed(child, rest, node))
    else:
        setattr(parent, field, [*child[:index], changed(child[index], rest, node), *child[index + 1 :]])
    return parent


def head(statement: ast.AST) -> str:
    """A statement on one line, without the statements in it."""
    bare = copy.copy(statement)
    for field in ("body", "orelse", "finalbody", "handlers", "decorator_list"):
        if isinstance(getattr(bare, field, None), list):
            setattr(bare, field, [ast.Pass()] if field == "body" else [])
    if isinstance(bare, ast.Try):
        bare.finalbody = [ast.Pass()]
    return ast.unparse(ast.fix_missing_locations(bare)).removesuffix("\n    pass").rstrip(":")


def wrong(node: ast.AST) -> Iterator[ast.AST]:
    """What could stand there instead of `node`."""
    match node:
        case ast.Compare(ops=[op]) | ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in SWAPS:
            swapped: Any = SWAPS[type(op)]()
            yield _with(node, **({"ops": [swapped]} if isinstance(node, ast.Compare) else {"op": swapped}))
        case ast.Compare(left=left, ops=[first, second], comparators=[middle, right]):
            yield ast.Compare(left, [SWAPS[type(first)](), second], [middle, right])
            yield ast.Compare(left, [first, SWAPS[type(second)]()], [middle, right])
        case ast.BoolOp(op=op, values=values):
            yield _with(node, op=SWAPS[type(op)]())
            for i in range(len(values)):
                rest = values[:i] + values[i + 1 :]
                yield rest[0] if len(rest) == 1 else _with(node, values=rest)
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int() | float() as number):
            yield ast.Constant(number + 1)
            if number not in (0, 1):
                yield ast.Constant(number - 1)
        case ast.Constant(value=str() as text) if " " not in text:
            yield ast.Constant(text + (text[:1] or "x"))
        case ast.Constant(value=bytes() as data):
            yield ast.Constant(data + (data[:1] or b"x"))
        case ast.Name(id=name) if name in NAMES:
            yield ast.Name(NAMES[name], ast.Load())
        case ast.Call(keywords=[*keywords]):
            for i in range(len(keywords)):
                yield _with(node, keywords=keywords[:i] + keywords[i + 1 :])
    yield from _wrong_statements(node)


def _wrong_statements(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.If() | ast.IfExp():
            yield from (_with(node, test=ast.Constant(always)) for always in (True, False))
        case ast.While(test=test) if not isinstance(test, ast.Constant):
            yield _with(node, test=ast.Constant(False))
        case ast.comprehension(ifs=[_, *_]):
            yield _with(node, ifs=[])
        case ast.ExceptHandler(type=ast.AST()):
            yield _with(node, type=ast.Tuple([], ast.Load()))
        case ast.Return(value=ast.AST() as value) if not isinstance(value, ast.Constant) or value.value is not None:
            yield ast.Return(ast.Constant(None))
        case ast.Break() | ast.Continue():
            yield SWAPS[type(node)]()
        case ast.Assign() | ast.AugAssign() | ast.AnnAssign(value=ast.AST()) | ast.Delete():
            yield ast.Pass()
        case ast.Expr(value=value) if not isinstance(value, ast.Constant | ast.Yield):
            yield ast.Pass()


def _with(node: Any, **fields: Any) -> Any:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def mutants(file: str, source: str) -> list[Mutant]:
    """Every mutant of a module, each kind of change of a function once, in the order of the source."""
    tree = ast.parse(source)
    found: list[Mutant] = []
    seen: set[tuple[Path, str]] = set()

    def visit(node: ast.AST, path: Path, statement: Path, function: str, scope: str, *, runs: bool) -> None:
        if _is_left_alone(node):
            return
        if isinstance(node, ast.stmt | ast.ExceptHandler):
            statement = path
        for new in wrong(node) if runs or not isinstance(node, ast.stmt) else ():
            add(path, new, statement, function)
        for field, index, child in _children(node):
            inner, within = function, scope
            if isinstance(node, Function | ast.ClassDef) and field == "body":
                within = f"{scope}.{node.name}" if scope else node.name
                inner = (
                    within if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not function else function
                )
            visit(child, (*path, (field, index)), statement, inner, within, runs=runs or inner != "")

    def add(path: Path, new: ast.AST, statement: Path, function: str) -> None:
        was = at(tree, statement)
        now = changed(was, path[len(statement) :], new)
        mutant = Mutant(file, function, head(was), head(now), path, new, source)
        if (statement, mutant.now) not in seen:
            seen.add((statement, mutant.now))
            found.append(mutant)

    visit(tree, (), (), "", "", runs=False)
    return found


def _children(node: ast.AST) -> Iterator[tuple[str, int | None, ast.AST]]:
    for field, value in ast.iter_fields(node):
        if field in NOT_CODE:
            continue
        if isinstance(value, list):
            yield from ((field, i, child) for i, child in enumerate(value) if isinstance(child, ast.AST))
        elif isinstance(value, ast.AST):
            yield field, None, value


def _is_left_alone(node: ast.AST) -> bool:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name in NOT_CODE or (isinstance(node, ast.AnnAssign) and "TypeAlias" in ast.unparse(node.annotation))
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in FOR_TYPES or name in FOR_PEOPLE
        case ast.Expr(value=ast.Constant()):
            return True
    return isinstance(node, UNTOUCHED)


def compiled(mutant: Mutant, filename: str) -> CodeType:
    """The code of the whole module with the change."""
    tree = changed(ast.parse(mutant.source), mutant.path, mutant.node)
    code: CodeType = compile(ast.fix_missing_locations(tree), filename, "exec", dont_inherit=True)
    return code
