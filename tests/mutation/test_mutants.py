"""What is made of a source, and what is said of it: the command is only as honest as these."""

from __future__ import annotations

import ast
from textwrap import dedent
from typing import Any

import pytest

from .ledger import LEDGER, read, score
from .mutants import Mutant, compiled, mutants
from .reach import line, marked
from .rooms import GATES, PACKAGE, PURE


def made(source: str) -> set[tuple[str, str, str]]:
    return {mutant.name[1:] for mutant in mutants("file", dedent(source))}


@pytest.mark.parametrize(
    ("statement", "wrongs"),
    [
        ("f(a)", {"pass"}),
        ("a = b < c", {"pass", "a = b <= c"}),
        ("a = b < c <= d", {"pass", "a = b <= c <= d", "a = b < c < d"}),
        ("a += b", {"pass", "a -= b"}),
        ("a = b and c", {"pass", "a = b or c", "a = b", "a = c"}),
        ("a = not b", {"pass", "a = b"}),
        ("a = 7", {"pass", "a = 8", "a = 6"}),
        ("a = True", {"pass", "a = False"}),
        ("a = 'text'", {"pass", "a = 'textt'"}),
        ("a = 'for people'", {"pass"}),
        ("a = max(b, c)", {"pass", "a = min(b, c)"}),
        ("a = f(b, c=d)", {"pass", "a = f(b)"}),
        ("a = b if c else d", {"pass", "a = b if True else d", "a = b if False else d"}),
        ("a = [b for b in c if d]", {"pass", "a = [b for b in c]"}),
        ("return a", {"return None"}),
        ("return None", set()),
        ("raise MisuseError('text')", set()),
        ("assert a > 1", set()),
        ("LOGGER.warning('text', 1, exc_info=True)", {"pass"}),
        ("a: int", set()),
        ("'text'", set()),
        ("yield", set()),
    ],
)  # fmt: skip
def test_a_statement_goes_wrong_in_these_ways_and_no_other(statement: str, wrongs: set[str]) -> None:
    """The operators, one by one."""
    assert made(f"def f():\n    {statement}\n") == {("f", statement, wrong) for wrong in wrongs}


def test_a_condition_goes_wrong_where_it_stands_and_apart_from_what_it_guards() -> None:
    """A mutant is named by the innermost statement that it changes."""
    assert made("""
        def f(a):
            if a:
                g()
            while a:
                break
            try:
                g()
            except OSError:
                g()
    """) == {
        ("f", "if a", "if True"),
        ("f", "if a", "if False"),
        ("f", "while a", "while False"),
        ("f", "break", "continue"),
        ("f", "except OSError", "except ()"),
        ("f", "g()", "pass"),
    }  # fmt: skip


def test_outside_of_functions_only_expressions_go_wrong() -> None:
    """Tables, defaults and fields are mutated; annotations, docstrings, decorators and slots are left alone."""
    assert made("""
        '''Docstring.'''
        import os
        A: Final = {1: True}
        B: TypeAlias = Union[1, 2]
        V = TypeVar('V')
        __all__ = ['A']

        @dataclass(slots=True)
        class C(Base[1]):
            '''Docstring.'''
            __slots__ = ('a',)
            a: int = 1

            @field(1)
            def f(self, b: Literal[3] = 2) -> Literal[4]:
                def g():
                    return b
                return g
    """) == {
        ("", "A: Final = {1: True}", "A: Final = {2: True}"),
        ("", "A: Final = {1: True}", "A: Final = {1: False}"),
        ("", "a: int = 1", "a: int = 2"),
        ("", "def f(self, b: Literal[3]=2) -> Literal[4]", "def f(self, b: Literal[3]=3) -> Literal[4]"),
        ("", "def f(self, b: Literal[3]=2) -> Literal[4]", "def f(self, b: Literal[3]=1) -> Literal[4]"),
        ("C.f", "return b", "return None"),
        ("C.f", "return g", "return None"),
    }  # fmt: skip


def test_a_mutant_differs_from_its_source_in_its_one_statement() -> None:
    """And leaves the parsed source as it was, for the next one."""
    source = "def f(a):\n    if a < 1:\n        return 2\n    return 3\n"
    before = ast.dump(ast.parse(source))
    behaves = set()
    for mutant in mutants("file", source):
        space: dict[str, object] = {}
        exec(compiled(mutant, "file.py"), space)  # noqa: S102
        f = space["f"]
        assert callable(f)
        behaves.add((f(0), f(1), f(2)))
    assert ast.dump(ast.parse(source)) == before
    assert (2, 3, 3) not in behaves
    assert {(2, 2, 3), (2, 2, 2), (3, 3, 3), (None, 3, 3), (2, None, None)} <= behaves


BRANCHES = """
class C:
    @staticmethod
    def f(a):
        'Text.'
        if a:
            return [b + 1
                    for b in a]
        elif a is None:
            a = 1
        def g(b=2):
            return b
        try:
            return a + g()
        except TypeError:
            return g
"""


@pytest.mark.parametrize(
    ("given", "lines"),
    [([1], {6, 7}), (None, {6, 9, 10, 11, 12, 13, 14}), (0, {6, 9, 11, 12, 13, 14}), ("", {6, 9, 11, 12, 13, 14, 16})],
)
def test_a_test_is_asked_when_it_comes_to_the_statement(given: object, lines: set[int]) -> None:
    """Whatever else stands in one counts to it: a test that is not asked cannot tell the mutant from its source."""
    came: set[int] = set()
    space: dict[str, Any] = {"__reached__": lambda number, _: came.add(number - 100)}
    exec(compile(marked(BRANCHES, 100), "file.py", "exec"), space)  # noqa: S102
    space["C"].f(given)
    assert came == lines
    assert {line(mutant) for mutant in mutants("file", BRANCHES)} == {6, 7, 9, 10, 11, 12, 13, 14, 16}


ONE = """
[[mutant]]
file = "file"
function = "f"
was = "return 2"
now = ["return 3"]
kind = "equivalent"
why = "a reason that is long enough"
"""


def living(*names: str) -> list[tuple[Mutant, bool]]:
    found = mutants("file", "def f():\n    return 2\n")
    return [(mutant, mutant.now not in names) for mutant in found]


def test_whoever_lives_is_listed_and_whoever_is_listed_lives() -> None:
    """A run fails for a mutant that lives and is not listed, and for one that is listed and was killed."""
    assert [mutant.now for mutant, _ in living()] == ["return None", "return 3", "return 1"]
    assert score("file", living(), {}).passes(100)
    assert score("file", living("return 3"), read(ONE)).passes(100)
    unlisted = score("file", living("return 3", "return 1"), read(ONE))
    assert ([mutant.now for mutant in unlisted.unlisted], unlisted.passes(0)) == (["return 1"], False)
    stale = score("file", living(), read(ONE))
    assert ([name[3] for name in stale.stale], stale.passes(0)) == (["return 3"], False)


def test_only_equivalents_leave_the_score() -> None:
    """An accepted survivor counts against the gate, an equivalent one counts for nothing."""
    equivalent = score("file", living("return 3"), read(ONE))
    accepted = score("file", living("return 3"), read(ONE.replace("equivalent", "accepted")))
    assert [round(each) for each in (equivalent.raw, equivalent.adjusted)] == [67, 100]
    assert [round(each) for each in (accepted.raw, accepted.adjusted)] == [67, 67]
    assert (accepted.passes(66), accepted.passes(67)) == (True, False)


@pytest.mark.parametrize(
    "bad", [ONE + ONE, ONE.replace("equivalent", "dull"), ONE.replace("a reason that is long enough", "dull")]
)
def test_a_ledger_without_reasons_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match=r"listed twice|of what kind"):
        read(bad)


def test_every_line_of_the_ledger_is_a_mutant_of_the_source_as_it_is() -> None:
    """A changed statement drops out of the ledger, and has to be looked at again."""
    listed = read(LEDGER.read_text())
    files = {name[0] for name in listed}
    assert files <= GATES.keys()
    there = {mutant.name for file in files for mutant in mutants(file, (PACKAGE / f"{file}.py").read_text())}
    assert not listed.keys() - there


def test_the_gates_are_those_promised() -> None:
    """95 % of the rooms without waiting, 85 % of the flows."""
    assert {gate for file, gate in GATES.items() if not file.startswith(("_sync", "_async"))} == {PURE} == {95.0}
    assert (GATES["_sync"], GATES["_async"]) == (85.0, 85.0)
