"""Codecs give back what they were given, or refuse it."""

from __future__ import annotations

import importlib.util
from collections import OrderedDict, namedtuple
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, timezone
from enum import Enum, IntEnum, StrEnum
from numbers import Number
from types import NoneType
from typing import Annotated, Any, Literal, NewType, Optional, Protocol, TypedDict, runtime_checkable
from uuid import UUID

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_cache.codecs import BytesCodec, JsonCodec, MsgspecCodec, UnsafePickleCodec, codec_for
from resilient_cache.errors import MisuseError
from resilient_cache.protocols import Codec


class Colour(Enum):
    RED = 1


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    YES = "yes"


class Text(str):
    __slots__ = ()


class Names(dict[str, int]):
    pass


class Items(list[int]):
    pass


Pair = namedtuple("Pair", "a b")


@dataclass
class Region:
    host: str
    ports: list[int]
    note: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Frozen:
    host: str


@dataclass
class Child(Region):
    pass


@dataclass
class Counted:
    host: str
    length: int = field(init=False)

    def __post_init__(self) -> None:
        self.length = len(self.host)


@dataclass
class Shouting:
    host: str

    def __post_init__(self) -> None:
        self.host += "!"


@dataclass
class Holder:
    region: object


class Typed(TypedDict):
    host: str


class Opaque:
    pass


ATOMS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text('aé€\n"\\\0')
)
PLAIN = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)

NOT_PLAIN: list[Any] = [
    (1, 2),
    {1: 2},
    {None: 1},
    {True: 1},
    {1.5: 1},
    {Text("k"): 1},
    {Word.YES: 1},
    float("nan"),
    float("inf"),
    float("-inf"),
    {1},
    frozenset(),
    b"bytes",
    bytearray(b"x"),
    1j,
    Colour.RED,
    Level.LOW,
    Word.YES,
    Text("t"),
    Names(a=1),
    Items([1]),
    OrderedDict(a=1),
    Pair(1, 2),
    Region("h", []),
    Opaque(),
    range(3),
    "\ud800",
]


def same(left: Any, right: Any) -> bool:
    """Equal and of equal types all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[name], right[name]) for name in left)
    return bool(left == right) and repr(left) == repr(right)  # -0.0 is not 0.0


@given(PLAIN)
def test_json_gives_plain_values_back_as_they_were(value: object) -> None:
    codec: JsonCodec[object] = JsonCodec()
    assert same(codec.decode(codec.encode(value)), value)


@pytest.mark.parametrize("value", NOT_PLAIN, ids=repr)
@pytest.mark.parametrize(
    "wrap", [lambda v: v, lambda v: [[1], v], lambda v: {"k": {"l": v}}], ids=["bare", "list", "dict"]
)
def test_json_refuses_whatever_it_would_change(value: object, wrap: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        JsonCodec().encode(wrap(value))


def test_json_says_why_it_refuses_and_what_would_do() -> None:
    with pytest.raises(TypeError, match="int key"):
        JsonCodec().encode({1: 1})
    with pytest.raises(TypeError, match=r"a tuple back; install resilient-cache\[msgspec\]"):
        JsonCodec().encode((1,))


@pytest.mark.parametrize("data", [b"", b"1 2", b"[1", b" 1", b"\xff", b"nil"])
def test_bytes_that_are_not_json_alone_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"after it|Expecting|decode"):
        JsonCodec[Any]().decode(data)


def test_json_is_compact_utf_8() -> None:
    assert JsonCodec().encode({"a": [1, "é"]}) == '{"a":[1,"é"]}'.encode()
    assert JsonCodec().id == "json"


@pytest.mark.parametrize("value", [Region("h", [1, 2]), Region("h", [], note="n"), Frozen(host="h")])
def test_json_gives_dataclasses_of_plain_values_back(value: object) -> None:
    codec: JsonCodec[object] = JsonCodec(type(value))
    back = codec.decode(codec.encode(value))
    assert back == value
    assert type(back) is type(value)


REFUSED: list[tuple[type[Any], object]] = [
    (Region, Child("h", [])),
    (Region, {"host": "h", "ports": [], "note": None}),
    (Region, Region("h", (1, 2))),  # type: ignore[arg-type]
    (Region, Region(Word.YES, [])),
    (Holder, Holder(Region("h", []))),
    (Shouting, Shouting("h")),
]


@pytest.mark.parametrize(("kind", "value"), REFUSED, ids=repr)
def test_json_refuses_a_dataclass_that_would_come_back_as_another(kind: type[Any], value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        JsonCodec(kind).encode(value)


def test_json_keeps_a_field_that_follows_from_the_others_and_refuses_one_that_does_not() -> None:
    codec = JsonCodec(Counted)
    assert codec.decode(codec.encode(Counted("host"))) == Counted("host")
    odd = Counted("host")
    odd.length = 99
    with pytest.raises(ValueError, match="Counted"):
        codec.encode(odd)


@pytest.mark.parametrize(
    "data", [b'{"host":"h"}', b'{"host":"h","ports":[],"note":null,"x":1}', b"[]", b"1", b"nonsense", b""]
)
def test_json_of_other_fields_does_not_become_a_dataclass(data: bytes) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError)):
        JsonCodec(Region).decode(data)


KINDS: list[tuple[Any, list[object], list[object]]] = [
    (int, [1, True, None], [1.5, "1", [1]]),
    (float, [1.5, 1, None], ["1", [1.5]]),
    (str, ["1", None], [1, {}]),
    (NoneType, [None], [0, ""]),
    (list, [[1], None], [{}, 1]),
    (list[int], [[1], None], [{}, 1]),
    (dict[str, int], [{"a": 1}, None], [[], "a"]),
    (Typed, [{"host": "h"}, None], [[], "h"]),
    (Sequence, [[1], "text", None], [{}, 1]),
    (object, [1, {}, None], []),
    (Any, [1, {}, None], []),
    (int | str, [1, {}, None], []),
]


@pytest.mark.parametrize(("kind", "fitting", "others"), KINDS, ids=repr)
def test_json_gives_nothing_back_that_is_no_instance_of_its_type(
    kind: Any, fitting: list[object], others: list[object]
) -> None:
    """Nor takes it: it would never be read. What is no class is not looked into."""
    codec: JsonCodec[Any] = JsonCodec(kind)
    for value in fitting:
        assert same(codec.decode(codec.encode(value)), value)
    for value in others:
        with pytest.raises(TypeError, match=r"^a \w+ is no \w+$"):
            codec.encode(value)
        with pytest.raises(TypeError, match=r"^a \w+ is no \w+$"):
            codec.decode(JsonCodec[Any]().encode(value))


BERLIN = timezone(timedelta(hours=1), "CET")


class Kept(msgspec.Struct):
    what: Any


@attrs.define
class Attrs:
    what: Any


MSGPACK: list[tuple[Any, object]] = [
    (int, 5),
    (dict[str, int], {"a": 1}),
    (dict[int, str], {1: "a"}),
    (tuple[int, ...], (1, 2)),
    (set[int], {1, 2}),
    (Region, Region("h", [1])),
    (Frozen, Frozen(host="h")),
    (Colour, Colour.RED),
    (Level, Level.LOW),
    (Word, Word.YES),
    (float, float("inf")),
    (Any, [None, True, 1.5, "é", b"x"]),
    (list[Region], [Region("h", [1])]),
    (Kept, Kept([1])),
    (Attrs, Attrs("a")),
    (datetime, datetime(2024, 1, 1, tzinfo=UTC)),
    (datetime, datetime(2024, 1, 1)),
    (time, time(1, tzinfo=timezone(timedelta(hours=1)))),
    (set[tuple[int, str]], {(1, "a"), (2, "b")}),
]


@pytest.mark.parametrize(("kind", "value"), MSGPACK, ids=repr)
def test_msgspec_gives_back_what_the_type_says(kind: Any, value: object) -> None:
    codec: MsgspecCodec[Any] = MsgspecCodec(kind)
    back = codec.decode(codec.encode(value))
    assert back == value
    assert type(back) is type(value)
    assert codec.id == "msgpack"


CHANGED: list[tuple[Any, object]] = [
    (Any, (1, 2)),
    (Any, [(1, 2)]),
    (Any, {1, 2}),
    (Any, Region("h", [])),
    (Any, Colour.RED),
    (Any, Level.LOW),
    (Any, Word.YES),
    (Any, bytearray(b"x")),
    (Any, Pair(1, 2)),
    (Any, Opaque()),
    (int, True),
    (int, Level.LOW),
    (str, Text("t")),
    (int, "1"),
    (float, float("nan")),
    (tuple[int, ...], Pair(1, 2)),
    (Region, Child("h", [])),
    (Region, Region("h", ["no number"])),  # type: ignore[list-item]
    (dict[str, int], OrderedDict(a=1)),
    (Any, {"a": Word.YES}),
    (Any, {Word.YES: 1}),
    (Any, [{"a": Level.LOW}]),
    (Any, [OrderedDict(a=1)]),
    (Any, [bytearray(b"x")]),
    (Holder, Holder(Text("t"))),
    (Kept, Kept(Text("t"))),
    (Attrs, Attrs(Text("t"))),
    (list[float], [1.0, 2]),
    (set[Any], {1, Level(1), Text("t")}),
    (frozenset[datetime], frozenset([datetime(2024, 1, 1, tzinfo=BERLIN)])),
    (datetime, datetime(2024, 1, 1, tzinfo=BERLIN)),
    (datetime, datetime(2024, 1, 1, tzinfo=timezone(timedelta(), "GMT"))),
    (datetime, datetime(2024, 1, 1, fold=1)),
    (list[Holder], [Holder([datetime(2024, 1, 1, tzinfo=BERLIN)])]),
    (time, time(1, tzinfo=timezone(timedelta(), "GMT"))),
]


@pytest.mark.parametrize(("kind", "value"), CHANGED, ids=repr)
def test_msgspec_refuses_what_would_come_back_as_another(kind: Any, value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        MsgspecCodec(kind).encode(value)


MOMENTS = st.datetimes(timezones=st.sampled_from([None, UTC, BERLIN, timezone(timedelta(), "GMT")]))
LEAVES = ATOMS | MOMENTS | st.sampled_from([Word.YES, Level.LOW, Text("t"), Colour.RED, bytearray(b"x"), b"x"])
ODD = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.builds(Pair, inner, inner)
        | st.builds(Holder, inner)
        | st.builds(Kept, inner)
        | st.dictionaries(st.sampled_from(["a", Text("a"), Word.YES, 1, Level.LOW]), inner, max_size=3)
        | st.dictionaries(st.text(max_size=1), inner, max_size=2).map(OrderedDict)
    ),
    max_leaves=4,
)


@pytest.mark.parametrize(
    "kind", [Any, Holder, Kept, list[Holder], dict[str, Any], dict[Any, Any], tuple[Any, ...], datetime, list[datetime]]
)
@given(value=ODD)
def test_msgspec_gives_back_what_it_was_given_or_refuses_it(kind: Any, value: object) -> None:
    """The very types, in their order, at the hour of the same zone: all that a text of it would show."""
    codec: MsgspecCodec[Any] = MsgspecCodec(kind)
    for given_value in (value, Holder(value), Kept(value), [Holder(value)], {"a": value}, (value,)):
        try:
            data = codec.encode(given_value)
        except (TypeError, ValueError, OverflowError):
            continue
        assert shown(codec.decode(data)) == shown(given_value)


def shown(value: Any) -> object:
    """All of a value, told apart by types and texts alone."""
    if isinstance(value, Holder):
        return Holder, shown(value.region)
    if isinstance(value, Kept):
        return Kept, shown(value.what)
    if isinstance(value, dict):
        return type(value), [(shown(name), shown(item)) for name, item in value.items()]
    return type(value), [shown(item) for item in value] if isinstance(value, list | tuple) else repr(value)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\xa1a"])
def test_msgspec_refuses_bytes_of_another_type(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        MsgspecCodec(int).decode(data)


def test_bytes_are_left_alone_and_nothing_else_is_bytes() -> None:
    codec = BytesCodec()
    assert codec.decode(codec.encode(b"\0\xff")) == b"\0\xff"
    assert codec.id == "bytes"
    for value in ("text", bytearray(b"x"), memoryview(b"x"), None, type("B", (bytes,), {})(b"x")):
        with pytest.raises(TypeError, match="is no bytes"):
            codec.encode(value)  # type: ignore[arg-type]


@given(st.one_of(PLAIN, st.tuples(st.integers()), st.sets(st.integers())))
def test_pickle_gives_back_anything(value: object) -> None:
    codec: UnsafePickleCodec[object] = UnsafePickleCodec()
    assert codec.decode(codec.encode(value)) == value
    assert codec.id == "pickle"


@pytest.mark.parametrize(
    ("kind", "codec"),
    [
        (None, JsonCodec),
        (bytes, BytesCodec),
        (int, MsgspecCodec),
        (Region, MsgspecCodec),
        (dict[str, int], MsgspecCodec),
    ],
)
def test_the_codec_of_a_type_where_msgspec_is_installed(kind: Any, codec: type[object]) -> None:
    assert type(codec_for(kind)) is codec


class Silent(Protocol):
    """Cannot be asked whether something is an instance of it."""


@runtime_checkable
class Long(Protocol):
    def __len__(self) -> int: ...


@pytest.mark.parametrize("kind", [Opaque, OrderedDict, complex, Exception, Silent])
def test_a_class_that_msgspec_cannot_make_is_misuse(kind: Any) -> None:
    """Nothing of it would ever be stored, and nobody would be told but by a warning."""
    with pytest.raises(MisuseError, match=r"^type must be one that msgspec knows; for .*codec=\.\.\. \(msgspec cannot"):
        codec_for(kind)


@pytest.mark.parametrize(("kind", "value"), [(object, {"a": b"x"}), (Number, 5), (Long, "text")])
def test_a_class_that_plain_values_are_instances_of_is_one_that_msgspec_knows(kind: Any, value: object) -> None:
    codec = codec_for(kind)
    assert type(codec) is MsgspecCodec
    assert codec.decode(codec.encode(value)) == value


JSON_KNOWS: list[Any] = [
    *(None, str, int, float, bool, NoneType, list, dict, object, Sequence, Number, Long, Typed, Region),
    *(list[int], dict[str, int], Sequence[int], list[Region]),
    *(int | None, Optional[datetime], Any, Literal["a"], Annotated[int, "a"], NewType("Name", str)),  # noqa: UP045
]


@pytest.mark.parametrize("kind", JSON_KNOWS, ids=repr)
def test_what_may_come_from_json_needs_no_msgspec(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert type(codec_for(kind)) is JsonCodec


@pytest.mark.parametrize(
    "kind",
    [datetime, UUID, set, tuple, frozenset[int], tuple[int, str], Pair, Colour, Level, Word, Opaque, Kept, Silent],
    ids=repr,
)
def test_what_never_comes_from_json_is_misuse_without_msgspec(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MisuseError, match=r"^type must .* needs resilient-cache\[msgspec\] or codec="):
        codec_for(kind)


@pytest.mark.parametrize(
    ("kind", "codec"), [(None, JsonCodec), (bytes, BytesCodec), (int, JsonCodec), (Region, JsonCodec)]
)
def test_the_codec_of_a_type_where_it_is_not(kind: Any, codec: type[object], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(importlib.util, "find_spec", asked.append)
    assert type(codec_for(kind)) is codec
    assert asked == (["msgspec"] if kind not in (None, bytes) else [])


def test_a_dataclass_comes_back_as_itself_with_either_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    with_msgspec = codec_for(Region)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    without = codec_for(Region)
    assert with_msgspec.id != without.id
    for codec in (with_msgspec, without):
        assert codec.decode(codec.encode(Region("h", [1]))) == Region("h", [1])


def test_a_type_that_msgspec_does_not_know_is_misuse_that_says_what_would_do() -> None:
    with pytest.raises(MisuseError, match=r"^type .*codec="):
        codec_for(int | Region | list[int] | tuple[int, int])  # type: ignore[arg-type]


CODECS: list[Codec[Any]] = [JsonCodec(), MsgspecCodec(int), BytesCodec(), UnsafePickleCodec()]


def test_ids_tell_codecs_apart_and_fit_the_envelope() -> None:
    ids = [codec.id for codec in CODECS]
    assert len(set(ids)) == len(ids)
    assert all(name.isascii() and 1 <= len(name) <= 32 for name in ids)
