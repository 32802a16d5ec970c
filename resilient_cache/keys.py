"""Keys from calls: worked out once, when a function is decorated, because `Signature.bind` costs 3.8 us a call.

What is worked out is source: of the key, and of a function with the very parameters of the decorated one, so that a
call binds its arguments once, in the interpreter, and a hit needs no call to make its key.

Texts are the usual arguments, and their keys are made once: one that is made anew has to be hashed and compared again,
too, which is half of what a hit takes.

Without a template two different calls never share a key. In a template a value stands as its text, so a function that
is called with 1 and with "1" needs another key; in one of several fields every value is percent-quoted, and the text
between two fields must hold a character that quoting would not leave, so that ("a:b", "c") differs from ("a", "b:c").
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from string import Formatter
from types import ModuleType
from typing import Any, Final, TypeAlias, cast, final
from urllib.parse import quote

from .errors import MisuseError

__all__ = ["Calls", "calls_of"]

KeyOf: TypeAlias = Callable[..., str]

VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
SEPARATOR: Final = re.compile(r"[^\w.~%-]", re.ASCII)
UNQUOTED: Final = re.compile(r"[\w.~-]*", re.ASCII).fullmatch
OF_FUNCTION: Final = "(made$ if type$(made$ := keyed$({})) is str$ else own$(made$))"
PLAIN: Final = (str, int, float, bool, type(None))


@final
class Kept(dict[Any, str]):
    """Keys by the text, or the texts, that each is made from; at most `room`, then it starts over.

    Not to be asked for what is no plain text: 1 and True are one to a dict.
    """

    def __init__(self, make: KeyOf, texts: int, room: int) -> None:
        super().__init__()
        self._make = make
        self._single = texts == 1
        self._room = room

    def __missing__(self, named: Any) -> str:
        if len(self) >= self._room:
            self.clear()
        made = self[named] = self._make(named) if self._single else self._make(*named)
        return made


@final
class Calls:
    """The calls of one function, as source. `key` gives the key of a call from its arguments.

    `named`: the parameters that the source of a key is made from, if it is made from no other. `owner`: the parameter
    that a method is bound to.
    """

    def __init__(self, parameters: list[inspect.Parameter], key: str | KeyOf, named: list[str] | None = None) -> None:
        self.owner = parameters[0].name if parameters and parameters[0].name in ("self", "cls") else None
        self._tag = tag = _tag(parameters)
        helpers = {
            "text": _text,
            "quoted": _quoted,
            "exact": _exact,
            "own": _own,
            "type": type,
            "str": str,
            "repr": repr,
        }
        self._scope: dict[str, Any] = {f"{name}{tag}": helper for name, helper in helpers.items()}
        self._arguments = ", ".join(map(_handed_on, parameters))
        plain = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
        for place, parameter in enumerate(plain):
            if parameter.default is not inspect.Parameter.empty:
                self._scope[f"default{tag}{place}"] = parameter.default
                plain[place] = parameter.replace(default=_Name(f"default{tag}{place}"))
        self._parameters = str(inspect.Signature(plain))[1:-1]
        self._scope[f"keyed{tag}"] = key
        self._key = key if isinstance(key, str) else OF_FUNCTION.replace("$", tag).format(self._arguments)
        self._named = named or []
        self.key: KeyOf = eval(f"lambda {self._parameters}: {self._key}", self._scope)  # noqa: S307 - from a signature

    def kept(self, room: int) -> Kept | None:
        """The keys of calls whose arguments are plain texts; None where keys are not made from named arguments."""
        if not self._named or not room:
            return None
        return Kept(eval(f"lambda {', '.join(self._named)}: {self._key}", self._scope), len(self._named), room)  # noqa: S307

    def function(self, source: str, **names: object) -> Any:
        """The function `made` that `source` defines.

        In it `{parameters}` are those of the decorated function, `{arguments}` hands them on and `{key}` is the key of
        the call. `{named}` are those that the key is made from, and `{texts}` is whether all of them are plain texts.
        A name with a $ behind it is one of `names`, or nobody's.
        """
        scope = self._scope | {f"{name}{self._tag}": value for name, value in names.items()}
        holes = {
            "parameters": self._parameters,
            "arguments": self._arguments,
            "key": self._key,
            "named": ", ".join(self._named),
            "texts": " is ".join([*(f"type{self._tag}({name})" for name in self._named), f"str{self._tag}"]),
        }
        exec(source.replace("$", self._tag).format(**holes), scope)  # noqa: S102
        return scope[f"made{self._tag}"]


def calls_of(function: Callable[..., Any], key: str | KeyOf | None) -> Calls:
    """How `function` is called and keyed. Raises `MisuseError` where no key can be made."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise MisuseError(f"function must return its result, not yield it: {function!r}")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        if callable(key):
            return Calls([inspect.Parameter("args", VARIADIC[0]), inspect.Parameter("kwargs", VARIADIC[1])], key)
        raise MisuseError(f"key must be a function of the arguments: {function!r} has no signature") from None
    if callable(key):
        return Calls(parameters, key)
    if key is not None:
        return Calls(parameters, *_from_template(key, parameters))
    if parameters and parameters[0].name in ("self", "cls"):
        raise MisuseError(f"key must be given for a method: @cached(key=...) on {function!r}")
    named = [p.name for p in parameters]
    return Calls(parameters, _from_all(function, parameters), named if _are_plain(parameters) else None)


def _are_plain(parameters: list[inspect.Parameter]) -> bool:
    return all(p.kind not in VARIADIC for p in parameters)


def _from_template(template: object, parameters: list[inspect.Parameter]) -> tuple[str, list[str]]:
    if not isinstance(template, str):
        raise MisuseError(f"key must be a template like 'region:{{host}}' or a function, not {template!r}")
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise MisuseError(f"key must be a template like 'region:{{host}}': {error}") from None
    names = {p.name for p in parameters if p.kind not in VARIADIC}
    fields = [field for _, field, _, _ in pieces if field is not None]
    for field in fields:
        if field not in names:
            raise MisuseError(f"key names {{{field}}}, but the arguments are {', '.join(sorted(names)) or 'none'}")
    if parameters and not fields:
        raise MisuseError(f"key must name an argument in braces, or every call has the same: {template!r}")
    if any(spec or conversion for _, _, spec, conversion in pieces):
        raise MisuseError("key must hold plain {name} fields, without format or conversion")
    if any(not SEPARATOR.search(text) for text in _between(pieces)):
        raise MisuseError("key must have a separator such as ':' or '/' between two fields")
    show = "quoted{1}({0})" if len(fields) > 1 else "({0} if type{1}({0}) is str{1} else text{1}({0}))"
    made = " + ".join(
        repr(text) + (" + " + show.format(field, _tag(parameters)) if field else "") for text, field, _, _ in pieces
    )
    return made or "''", fields


def _between(pieces: list[tuple[str, str | None, str | None, str | None]]) -> list[str]:
    """The text between each two fields; a doubled brace makes a piece of its own."""
    texts = [""]
    for text, field, _, _ in pieces:
        texts[-1] += text
        if field is not None:
            texts.append("")
    return texts[1:-1]


def _from_all(function: Callable[..., Any], parameters: list[inspect.Parameter]) -> str:
    name = getattr(function, "__qualname__", None)
    if name is None:
        raise MisuseError(f"key must be given for what has no name of its own, as {function!r}")
    if not isinstance(getattr(function, "__self__", None), ModuleType | None):  # a built-in's is its module
        raise MisuseError(f"key must be given for a bound method, as its instances share one name: {name}")
    code = getattr(function, "__code__", None)
    copied = "__qualname__" in getattr(function, "__dict__", ())  # by functools.wraps, to what is no function itself
    if copied or "<" in name or (code and "<" in code.co_qualname):  # <locals>, <lambda>: others may be called the same
        raise MisuseError(f"key must be given for a function that is not defined by a module or a class: {name}")
    prefix = f"{function.__module__}.{name}("
    show = "(repr{1}({0}) if type{1}({0}) is str{1} else exact{1}({0}))"
    shown = " + ',' + ".join(show.format(p.name, _tag(parameters)) for p in parameters)
    return f"{prefix!r} + {shown} + ')'" if shown else f"{prefix + ')'!r}"


def _tag(parameters: list[inspect.Parameter]) -> str:
    """Makes the helpers' names longer than any parameter's, so that none hides them."""
    return "_" * (1 + max((len(parameter.name) for parameter in parameters), default=0))


def _handed_on(parameter: inspect.Parameter) -> str:
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
        return f"{parameter.name}={parameter.name}"
    stars = "*" if parameter.kind is VARIADIC[0] else "**" if parameter.kind is VARIADIC[1] else ""
    return stars + parameter.name


class _Name:
    """Prints as a name, so that a default stands in the source of the key function without being evaluated."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


def _text(value: object) -> str:
    if issubclass(type(value), str):  # isinstance would believe an object that claims to be one
        return str.__str__(cast("str", value))
    if type(value) in PLAIN:
        return repr(value)
    raise MisuseError(f"key cannot be made from a {type(value).__name__}: pass key= a function of the arguments")


def _own(made: object) -> str:
    if isinstance(made, str):
        return str.__str__(made)  # a subclass may have a hash and an equality of its own
    raise MisuseError(f"key must be a function that gives a str, not a {type(made).__name__}")


def _quoted(value: object) -> str:
    if type(value) is str and UNQUOTED(value):  # 0.2 us instead of 0.8
        return value
    return quote(_text(value), safe="", errors="surrogatepass")


def _exact(value: object) -> str:
    if type(value) in PLAIN:
        return repr(value)
    if type(value) is tuple:
        return "(" + "".join(_exact(item) + "," for item in cast("tuple[object, ...]", value)) + ")"
    raise MisuseError(f"key cannot be made from a {type(value).__name__}: pass key= a template or a function")
