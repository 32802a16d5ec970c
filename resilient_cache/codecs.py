"""Values to bytes and back. A codec refuses what would not come back as it was: a value not stored is only a miss."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import pickle
from collections.abc import Callable, Collection
from datetime import datetime, time
from typing import Any, Final, Generic, cast, final

from typing_extensions import TypeVar

from .errors import MisuseError
from .protocols import Codec

__all__ = ["BytesCodec", "JsonCodec", "MsgspecCodec", "UnsafePickleCodec", "codec_for"]

V = TypeVar("V", default=Any)

ATOMS: Final = (str, int, float, bool, type(None))

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


@final
class JsonCodec(Generic[V]):
    """JSON by the standard library: None, bool, int, finite float, str, list, dict with str keys, nothing else.

    With `type` a dataclass whose fields hold such values, its instances. `encode` raises `TypeError` or `ValueError`
    for a value that JSON would change.
    """

    __slots__ = ("_fields", "_make", "id")

    def __init__(self, type: type[V] | None = None) -> None:
        self.id = "json"
        self._make: Any = None
        self._fields: frozenset[str] = frozenset()
        if dataclasses.is_dataclass(type):
            self._make = type
            self._fields = frozenset(field.name for field in dataclasses.fields(type) if field.init)

    def encode(self, value: V, /) -> bytes:
        """Compact UTF-8."""
        plain: object = value
        if self._make is not None:
            if type(value) is not self._make:
                raise TypeError(f"a {type(value).__name__} is no {self._make.__name__}")
            plain = {name: getattr(value, name) for name in self._fields}
            if self._make(**plain) != value:
                raise ValueError(f"this {self._make.__name__} is not made of its fields alone")
        _check_plain(plain)
        return TO_JSON(plain).encode()

    def decode(self, data: bytes, /) -> V:
        """The value. Raises `ValueError` for no JSON, `TypeError` when a dataclass has other fields by now."""
        plain: Any = _from_json(data.decode())
        if self._make is not None:
            if plain.keys() != self._fields:
                raise TypeError(f"these are not the fields of {self._make.__name__}")
            plain = self._make(**plain)
        value: V = plain
        return value


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values are the same all the way down, which == is too kind to tell.

    To == a StrEnum is its text, a dict has no order, and an hour in Berlin is one in UTC.
    """
    kind: Any = type(one)
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
    """MessagePack by msgspec, for whatever type it knows. Needs the extra `resilient-cache[msgspec]`."""

    __slots__ = ("_decode", "_encode", "id")

    def __init__(self, type: type[V]) -> None:
        import msgspec  # noqa: PLC0415 - an extra

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
        return JsonCodec(type)
    try:
        return MsgspecCodec(type)
    except TypeError as error:
        raise MisuseError(f"type must be one that msgspec knows; for {type!r} pass codec=... ({error})") from error
