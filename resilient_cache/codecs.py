"""Values to bytes and back. A codec refuses what would not come back as it was: a value not stored is only a miss."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import pickle
from collections.abc import Callable, Collection
from datetime import datetime, time
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Generic, cast, final, get_origin

from typing_extensions import TypeVar, is_typeddict

from .errors import MisuseError
from .protocols import Codec

__all__ = ["BytesCodec", "JsonCodec", "MsgspecCodec", "UnsafePickleCodec", "codec_for"]

V = TypeVar("V", default=Any)

ATOMS: Final = (str, int, float, bool, NoneType)
OF_JSON: Final = (*ATOMS, list, dict)
OF_MSGPACK: Final = (*OF_JSON, bytes)
FORMS: Final[tuple[Any, ...]] = (Any, Annotated, UnionType)
"""Types that are no classes, though Python 3.11 has made classes of them."""

# Made once: json.dumps makes an encoder for every call with options, json.loads looks for UTF-16 and for white space.
TO_JSON: Final = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode
FROM_JSON: Final = json.JSONDecoder().raw_decode


def _check_plain(value: Any) -> None:
    kind = cast("type[object]", type(value))
    if kind is list:
        for item in value:
            _check_plain(item)
    elif kind is dict:
        for name, item in value.items():
            if type(name) is not str:
                raise TypeError(f"JSON would turn a {type(name).__name__} key into text")
            _check_plain(item)
    elif kind not in ATOMS:
        raise TypeError(f"JSON would not give a {kind.__name__} back; install resilient-cache[msgspec] or pass a codec")


def _from_json(text: str) -> Any:
    value, end = FROM_JSON(text)
    if end != len(text):
        raise ValueError("JSON and something after it")
    return value


def _class_of(kind: Any) -> Any:
    """The class of a class, or of an alias such as list[int]; None of what is no class, as a union or a Literal."""
    made = kind if isinstance(kind, type) else get_origin(kind)
    return made if isinstance(made, type) and made not in FORMS else None


def _may_be(kind: Any, *plain: type[object]) -> bool:
    """Whether a value of one of the classes `plain` is an instance of `kind`."""
    try:
        return any(issubclass(each, kind) for each in plain)
    except TypeError:  # a Protocol that cannot be asked, as it will not be when a value is read
        return False


@final
class JsonCodec(Generic[V]):
    """JSON by the standard library: None, bool, int, finite float, str, list, dict with str keys, nothing else.

    With `type` a dataclass whose fields hold such values, its instances; with another class, its instances and None.
    `encode` raises `TypeError` or `ValueError` for a value that JSON would change.
    """

    __slots__ = ("_fields", "_kinds", "_make", "id")

    def __init__(self, type: type[V] | None = None) -> None:
        self.id = "json"
        self._make: Any = None
        self._fields: frozenset[str] = frozenset()
        if dataclasses.is_dataclass(type):
            self._make = type
            self._fields = frozenset(field.name for field in dataclasses.fields(type) if field.init)
        kind = None if self._make else _class_of(type)
        self._kinds: tuple[Any, ...] = () if kind is None else (dict if is_typeddict(kind) else kind, NoneType)
        if kind is float:
            self._kinds += (int,)

    def encode(self, value: V, /) -> bytes:
        """Compact UTF-8."""
        plain: object = value
        if self._make is not None:
            if type(value) is not self._make:
                raise TypeError(f"a {type(value).__name__} is no {self._make.__name__}")
            plain = {name: getattr(value, name) for name in self._fields}
            if self._make(**plain) != value:
                raise ValueError(f"this {self._make.__name__} is not made of its fields alone")
        self._check_kind(plain)
        _check_plain(plain)
        return TO_JSON(plain).encode()

    def decode(self, data: bytes, /) -> V:
        """The value. Raises `ValueError` for no JSON, `TypeError` for what is no `type`, or not with these fields."""
        plain: Any = _from_json(data.decode())
        if self._make is not None:
            if plain.keys() != self._fields:
                raise TypeError(f"these are not the fields of {self._make.__name__}")
            plain = self._make(**plain)
        self._check_kind(plain)
        value: V = plain
        return value

    def _check_kind(self, value: object) -> None:
        if self._kinds and not isinstance(value, self._kinds):
            raise TypeError(f"a {type(value).__name__} is no {self._kinds[0].__name__}")


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values are the same all the way down, which == is too kind to tell.

    To == a StrEnum is its text, a dict has no order, and an hour in Berlin is one in UTC.
    """
    kind = _type_of(one)
    if kind is not type(other):
        return False
    names = _fields_of(kind)
    if names is not None:
        return all(_is_same(getattr(one, name, ...), getattr(other, name, ...)) for name in names)
    if issubclass(kind, dict):
        return _is_same([*one.items()], [*other.items()])
    if issubclass(kind, list | tuple):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if issubclass(kind, set | frozenset):
        found = {each: each for each in other}
        return bool(one == other) and all(_is_same(each, found[each]) for each in one)
    if issubclass(kind, datetime | time):
        return bool(one == other) and _zone(one) == _zone(other)
    return bool(one == other)


def _type_of(value: object) -> type[Any]:
    return type(value)


def _fields_of(kind: type[Any]) -> Collection[str] | None:
    """Of a dataclass, of a Struct of msgspec or of a class of attrs."""
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    attributes: Collection[Any] | None = getattr(kind, "__attrs_attrs__", None)
    if attributes is not None:
        return [attribute.name for attribute in attributes]
    return cast("Collection[str] | None", getattr(kind, "__struct_fields__", None))


def _zone(moment: datetime | time) -> tuple[object, ...]:
    return moment.utcoffset(), moment.tzname(), moment.fold


@final
class MsgspecCodec(Generic[V]):
    """MessagePack by msgspec, for whatever type it knows. Needs the extra `resilient-cache[msgspec]`.

    Raises `TypeError` for a type that it does not know, such as a plain class.
    """

    __slots__ = ("_decode", "_encode", "id")

    def __init__(self, type: type[V]) -> None:
        import msgspec  # noqa: PLC0415 - an extra

        known = msgspec.inspect.type_info(type)
        if isinstance(known, msgspec.inspect.CustomType) and not _may_be(known.cls, *OF_MSGPACK):
            raise TypeError(f"msgspec cannot make {known.cls!r}")
        self._encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
        self._decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder(type).decode
        self.id = "msgpack"

    def encode(self, value: V, /) -> bytes:
        """MessagePack. Raises `ValueError` for a value that would come back as another (costs one decode)."""
        data: bytes = self._encode(value)
        back = self._decode(data)
        if not _is_same(back, value):
            raise ValueError("it would not come back as what it was")
        return data

    def decode(self, data: bytes, /) -> V:
        """The value, checked against the type."""
        value: V = self._decode(data)
        return value


@final
class BytesCodec:
    """Bytes as they are."""

    __slots__ = ()
    id = "bytes"

    def encode(self, value: bytes, /) -> bytes:
        """`value` itself. Raises `TypeError` for anything but bytes."""
        if type(value) is not bytes:
            raise TypeError(f"a {type(value).__name__} is no bytes")
        return value

    def decode(self, data: bytes, /) -> bytes:
        """`data` itself."""
        return data


@final
class UnsafePickleCodec(Generic[V]):
    """Pickle. Unsafe: whoever can write to the store can run code in every process that reads from it."""

    __slots__ = ()
    id = "pickle"

    def encode(self, value: V, /) -> bytes:
        """The pickle of `value`."""
        return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)

    def decode(self, data: bytes, /) -> V:
        """Whatever the pickle builds."""
        value: V = pickle.loads(data)  # noqa: S301 - the class is named for it
        return value


def codec_for(type: type[Any] | None) -> Codec[Any]:
    """The codec for values of `type`: bytes as they are, else msgspec where installed, else JSON.

    Without a type always JSON: msgspec needs the type to give a value back as what it was. Raises `MisuseError` for a
    type that the codec does not know.
    """
    if type is bytes:
        return BytesCodec()
    if type is None or importlib.util.find_spec("msgspec") is None:
        if type is not None and not _is_of_json(type):
            raise MisuseError(f"type must be one that JSON knows; {type!r} needs resilient-cache[msgspec] or codec=...")
        return JsonCodec(type)
    try:
        return MsgspecCodec(type)
    except TypeError as error:
        raise MisuseError(f"type must be one that msgspec knows; for {type!r} pass codec=... ({error})") from error


def _is_of_json(kind: Any) -> bool:
    """Whether JSON may give an instance of it back. What is no class is not looked into."""
    made = _class_of(kind)
    return made is None or dataclasses.is_dataclass(kind) or is_typeddict(made) or _may_be(made, *OF_JSON)
