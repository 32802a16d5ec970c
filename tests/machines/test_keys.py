"""Keys from calls: two different calls never share one, and nothing a caller brings is run to make it."""

from __future__ import annotations

import builtins
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from enum import Enum, IntEnum, StrEnum
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from resilient_cache.errors import MisuseError
from resilient_cache.keys import calls_of

HERE = __name__


class Word(StrEnum):
    YES = "yes"


class Level(IntEnum):
    LOW = 1


Old = Enum("Old", {"RED": "red"}, type=str)


def two(a: object, b: object) -> None: ...


def one(a: object) -> None: ...


def none() -> None: ...


def many(a: object, /, b: object = "b's", *more: object, c: object = None, d: object) -> None: ...


def named(**more: object) -> None: ...


def placed(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function as if a module had defined it."""
    made: Any = function
    made.__qualname__ = made.__name__
    made.__code__ = made.__code__.replace(co_qualname=made.__name__)
    return function


def key(function: Callable[..., Any], template: str | None = None) -> Callable[..., str]:
    return calls_of(function, template).key


TEXTS = st.text("ab:/%.'\"\\,()~_-é\ud800\0 ", max_size=6)
NUMBERS = st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False)
ARGUMENTS = st.recursive(TEXTS | NUMBERS, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)


def distinct(left: object, right: object) -> bool:
    """Whether two arguments differ, 1 from True and 0.0 from -0.0 too."""
    return type(left) is not type(right) or repr(left) != repr(right)


@given(st.tuples(ARGUMENTS, ARGUMENTS), st.tuples(ARGUMENTS, ARGUMENTS))
@example(("a,b", "c"), ("a", "b,c"))
@example(("a','b", "c"), ("a", "b','c"))
@example((1, 0), (True, False))
@example((1, 2), (1.0, 2.0))
@example(("1", "None"), (1, None))
@example((("a",), ()), ((), ("a",)))
@example(((("a", "b"),), 1), ((("a",), "b"), 1))
def test_two_different_calls_never_share_a_key(one_call: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    assume(distinct(one_call, other))
    assert key(two)(*one_call) != key(two)(*other)


@given(
    st.tuples(TEXTS, TEXTS), st.tuples(TEXTS, TEXTS), st.sampled_from(["{a}:{b}", "x:{b}/{a}:", "{a}{{{b}", "{a}é{b}"])
)
@example(("a:b", "c"), ("a", "b:c"), "{a}:{b}")
@example(("a%3A", "c"), ("a:", "c"), "{a}:{b}")
@example(("a{b", "c"), ("a", "b{c"), "{a}{{{b}")
def test_nor_do_two_different_texts_in_a_template(
    one_call: tuple[str, str], other: tuple[str, str], shape: str
) -> None:
    assume(one_call != other)
    assert key(two, shape)(*one_call) != key(two, shape)(*other)


@given(TEXTS, TEXTS)
def test_nor_in_a_template_of_one_field(left: str, right: str) -> None:
    assert (key(one, "r:{a}:")(left) == key(one, "r:{a}:")(right)) is (left == right)
    assert key(one, "r:{a}:")(left) == f"r:{left}:"


@given(st.lists(ARGUMENTS, max_size=3).map(tuple), st.lists(ARGUMENTS, max_size=3).map(tuple))
def test_nor_do_two_calls_with_more_arguments(left: tuple[Any, ...], right: tuple[Any, ...]) -> None:
    assume(distinct(left, right))
    assert key(many)(0, 1, *left, d=2) != key(many)(0, 1, *right, d=2)


def test_two_functions_never_share_a_key() -> None:
    assert len({key(one)("x"), key(none)(), key(two)("x", "y"), key(Methods.free)("x")}) == 4
    assert key(none)() == f"{HERE}.none()"
    assert key(one)("x") == f"{HERE}.one('x')"
    assert key(two)(1, None) == f"{HERE}.two(1,None)"


def test_however_a_call_is_written_its_key_is_the_same() -> None:
    made = key(many)
    assert made(1, "b's", d=2) == made(1, d=2, c=None) == made(1, d=2) == f'{HERE}.many(1,"b\'s",(),None,2)'
    assert made(1, 2, 3, d=4) == f"{HERE}.many(1,2,(3,),None,4)"
    assert key(two)(b=1, a=2) == key(two)(2, 1)
    assert key(many, "{d}/{a}/{b}")(1, d="x/y") == "x%2Fy/1/b%27s"


@pytest.mark.parametrize("call", [(), (1, 2, 3), (1,)])
def test_a_call_that_the_function_would_refuse_is_refused(call: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        key(two)(*call)
    with pytest.raises(TypeError):
        key(many)(a=1, d=2)


def test_a_template_may_name_any_argument_once_or_more() -> None:
    assert key(two, "x:{b}")(1, 2) == "x:2"
    assert key(two, "{a}")("a:b", 2) == "a:b"
    assert key(two, "{a}:{a}")("x y", 2) == "x%20y:x%20y"
    assert key(none, "all")() == "all"
    assert key(none, "")() == ""
    assert key(two, "{{{a}}}:'\"\\")(1, 2) == "{1}:'\"\\"
    assert key(one, "{a}")(None) == "None"
    assert key(one, "{a}")(1.5) == "1.5"
    assert key(one, "{a}")(Word.YES) == key(two, "{a}:{b}")(Word.YES, "").rstrip(":") == "yes"
    assert type(key(one, "{a}")(Word.YES)) is str
    assert key(one, "{a}")(Old["RED"]) == "red"


ILLEGAL = [
    ("{c}", "{c}"),
    ("{}", "{}"),
    ("{0}", "{0}"),
    ("{a.b}", "{a.b}"),
    ("{a[0]}", "{a[0]}"),
    ("{a!r}", "format or conversion"),
    ("{a:>5}", "format or conversion"),
    ("{a:{b}}", "format or conversion"),
    ("all", "must name an argument"),
    ("", "must name an argument"),
    ("{{a}}", "must name an argument"),
    ("{a", "template"),
    ("a}", "template"),
    ("{a}{b}", "separator"),
    ("{a}_{b}", "separator"),
    ("{a}:{b}-{a}", "separator"),
    ("{a}%{b}", "separator"),
    ("{a}.~x9{b}", "separator"),
]


@pytest.mark.parametrize(("template", "said"), ILLEGAL)
def test_a_template_that_cannot_be_is_misuse_at_decoration(template: str, said: str) -> None:
    with pytest.raises(MisuseError) as raised:
        key(two, template)
    assert str(raised.value).startswith("key ")
    assert said in str(raised.value)


def test_an_unknown_field_is_told_with_those_there_are() -> None:
    with pytest.raises(MisuseError, match=r"but the arguments are a, b$"):
        key(two, "{x}")
    with pytest.raises(MisuseError, match=r"but the arguments are none$"):
        key(named, "{more}")
    with pytest.raises(MisuseError, match=r"but the arguments are a, b, c, d$"):
        key(many, "{more}")


@pytest.mark.parametrize("template", [5, b"{a}", ["{a}"]])
def test_a_template_is_text(template: Any) -> None:
    with pytest.raises(MisuseError, match=r"^key must be a template .* or a function"):
        key(one, template)


def test_a_function_is_given_the_arguments_as_they_were_bound() -> None:
    def made(*args: object, **kwargs: object) -> str:
        return f"{args}{kwargs}"

    made_key = calls_of(two, made).key
    assert made_key("1", "2") == "('1', '2'){}"


NOT_PLAIN: list[Any] = [[1], {"a": 1}, {1}, b"x", object(), Level.LOW, 1j]


@pytest.mark.parametrize("value", NOT_PLAIN, ids=lambda value: type(value).__name__)
def test_an_argument_without_a_lasting_text_is_misuse(value: object) -> None:
    calls: list[tuple[Callable[..., str], tuple[object, ...]]] = [
        (key(one), (value,)),
        (key(one), ((value,),)),
        (key(one, "{a}"), (value,)),
        (key(two, "{a}:{b}"), (value, 1)),
        (key(two, "{a}:{b}"), (1, value)),
    ]
    for made, arguments in calls:
        with pytest.raises(MisuseError, match=f"^key cannot be made from a {type(value).__name__}"):
            made(*arguments)


def test_an_enumeration_is_text_in_a_template_only() -> None:
    for value in (Word.YES, Old["RED"]):
        with pytest.raises(MisuseError):
            key(one)(value)
    with pytest.raises(MisuseError, match="a tuple"):
        key(one, "{a}")((1,))
    with pytest.raises(MisuseError, match="a dict"):
        key(named)(x=1)


@pytest.mark.parametrize("template", [None, "r:{a}"])
def test_an_object_that_claims_to_be_text_is_refused(template: str | None) -> None:
    with pytest.raises(MisuseError):
        key(one, template)(Mock(spec=str))


class Methods:
    def asked(self, host: str) -> None: ...

    @classmethod
    def of(cls, host: str) -> None: ...

    @staticmethod
    def free(host: str) -> None: ...


def test_a_method_asks_for_a_key() -> None:
    for method in (Methods.asked, inspect.getattr_static(Methods, "of").__func__):
        with pytest.raises(MisuseError, match="key must be given for a method"):
            calls_of(method, None)
    assert key(Methods.asked, "r:{host}")(None, "h") == "r:h"
    assert key(Methods.free)("h") == f"{HERE}.Methods.free('h')"


def test_what_has_no_signature_or_no_name_is_misuse() -> None:
    odd: list[Any] = [min, functools.partial(two, 1), builtins.type("Callable", (), {"__call__": lambda me, a: a})()]
    for nameless in odd:
        with pytest.raises(MisuseError, match=r"^key must be"):
            calls_of(nameless, None)
    assert key(functools.partial(two, 1), "r:{b}")(b=2) == "r:2"
    assert calls_of(min, lambda *args, **options: f"{args}{options}").key(1, 2, default=3) == "(1, 2){'default': 3}"


def yields(a: object) -> Iterator[object]:
    yield a


async def yields_later(a: object) -> AsyncIterator[object]:
    yield a


def test_what_yields_is_misuse_and_so_is_what_shares_its_name_with_others_unless_a_key_is_given() -> None:
    def local(a: object) -> None: ...

    generators: list[Callable[..., object]] = [yields, yields_later]
    for function in generators:
        for template in (None, "{a}"):
            with pytest.raises(MisuseError, match="must return its result, not yield it"):
                key(function, template)
    nowhere: list[Callable[..., object]] = [local, lambda a: a]
    for function in nowhere:
        with pytest.raises(MisuseError, match=r"^key must be given for a function that is not defined by a module"):
            key(function)
        assert key(function, "r:{a}")(1) == "r:1"


# nothing is run


class Armed:
    """Runs away with whoever prints it."""

    def __repr__(self) -> str:
        return "__import__('sys').exit('run')"

    __str__ = __repr__


def test_a_default_is_never_printed_nor_run_and_stays_the_object_it_is() -> None:
    armed = Armed()

    def function(a: object = armed, b: object = "'); raise SystemExit('run') #") -> None: ...

    made: Any = key(placed(function))
    with pytest.raises(MisuseError, match="a Armed"):
        made()
    assert key(placed(function))(1).endswith(f"(1,{function.__defaults__[1]!r})")  # type: ignore[index]


@pytest.mark.parametrize("name", ["x' + exit('run') + '", "')", "\\", "{a}", "\n"])
def test_no_name_is_run(name: str) -> None:
    def function(a: object) -> None: ...

    placed(function).__qualname__ = name
    assert key(function)(1) == f"{HERE}.{name}(1)"
    escaped = name.replace("{", "{{").replace("}", "}}")
    assert key(function, escaped + "{a}" + escaped)(1) == f"{name}1{name}"


def test_an_annotation_is_never_run() -> None:
    def function(a: object) -> None: ...

    function.__annotations__ = {"a": "exit('run')", "return": Armed()}
    assert key(function, "{a}")(1) == "1"


def test_arguments_may_be_called_like_our_own_names() -> None:
    def function(
        _text: Any, _quoted: Any, _exact: Any, text: Any, exact_: Any, repr_: Any = 1, default_____0: Any = 2
    ) -> None: ...

    values = ("a", "b", "c", "d", "e")
    assert key(placed(function))(*values).endswith("('a','b','c','d','e',1,2)")
    assert key(function, "{_text}:{_quoted}:{_exact}:{text}")(*values) == "a:b:c:d"
    assert key(function, "{_text}")(*values) == "a"


def test_arguments_may_be_called_like_builtins() -> None:
    def function(repr: Any, str: Any, type: Any) -> None: ...

    assert key(placed(function))("a", "b", 1).endswith("('a','b',1)")
    assert key(function, "{repr}:{str}:{type}")("a", "b", 1) == "a:b:1"
    assert key(function, "{str}")("a", "b", 1) == "b"


@given(calls=st.lists(st.tuples(TEXTS | NUMBERS, TEXTS | NUMBERS), max_size=12), room=st.integers(1, 4))
def test_a_kept_key_is_the_one_that_would_be_made(calls: list[tuple[Any, Any]], room: int) -> None:
    """Of any arguments, in any order, and there are never more than there is room for."""
    made = calls_of(two, None)
    kept = made.kept(room)
    assert kept is not None
    source = "def made$({parameters}):\n    return kept$[{named}] if {texts} else None"
    find = made.function(source, kept=kept)
    for a, b in calls:
        texts = type(a) is type(b) is str
        assert find(a, b) == (made.key(a, b) if texts else None)
        assert len(kept) <= room


def test_keys_are_kept_where_they_are_made_from_named_arguments() -> None:
    """Not those of a function of the arguments, of any number of arguments, or of none."""
    assert calls_of(two, "{a}:{b}").kept(1) == {}
    assert [calls_of(*of).kept(1) for of in ((none, None), (many, None), (two, lambda a, b: a))] == [None] * 3
    assert calls_of(two, None).kept(0) is None
    single = calls_of(two, "b:{b}").kept(1)
    assert single is not None
    assert (single["x"], single) == ("b:x", {"x": "b:x"})
    assert (single["y"], single) == ("b:y", {"y": "b:y"})
