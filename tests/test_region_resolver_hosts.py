"""A host has one spelling or is no host: what reaches the cache of the region resolver as a key."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.region_resolver.hosts import BadHost, canonical_host

LABELS = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True).filter(lambda label: label[:4] != "xn--")
HOSTS = st.lists(LABELS, min_size=1, max_size=5).map(".".join)
SNIPPETS = st.sampled_from(
    [
        "a",
        "B",
        "ß",
        "ü",
        "İ",
        "ς",
        "一",
        "🤖",
        ".",
        "。",
        ":",
        "80",
        "-",
        "--",
        "_",
        "xn--",
        "[",
        "\u200d",
        "\u00ad",
        " ",
        "\n",
    ]
)
SPELLINGS = st.one_of(
    st.text(max_size=80),
    st.lists(SNIPPETS, max_size=14).map("".join),
    st.from_regex(r"xn--[a-z0-9-]{0,12}\.example", fullmatch=True),
    st.text(min_size=1, max_size=8).map(lambda label: f"{label}.example:443"),
    st.text(alphabet="ab.", min_size=200, max_size=300),
)


def canonical_or_none(spelling: str) -> str | None:
    try:
        return canonical_host(spelling)
    except BadHost:
        return None


@given(SPELLINGS)
def test_any_text_is_a_host_in_the_allowed_alphabet_or_a_bad_host(spelling: str) -> None:
    host = canonical_or_none(spelling)
    if host is not None:
        assert re.fullmatch(r"[a-z0-9.-]{1,253}", host)
        assert all(1 <= len(label) <= 63 and label.strip("-") == label for label in host.split("."))


@given(SPELLINGS)
def test_the_canonical_spelling_is_its_own(spelling: str) -> None:
    host = canonical_or_none(spelling)
    if host is not None:
        assert canonical_host(host) == host


@given(HOSTS, st.integers(0, 65_535), st.data())
def test_case_port_and_trailing_dot_make_no_difference(host: str, port: int, data: st.DataObject) -> None:
    upper = data.draw(st.lists(st.booleans(), min_size=len(host), max_size=len(host)))
    mixed = "".join(char.upper() if up else char for char, up in zip(host, upper, strict=True))
    spelled = mixed + data.draw(st.sampled_from(["", "."])) + data.draw(st.sampled_from(["", ":", f":{port}"]))
    assert canonical_host(spelled) == host


@given(st.text(alphabet="abcäöüßéñøåğ一二三", min_size=1, max_size=12).map(lambda label: f"{label}.example"))
def test_an_internationalised_name_and_its_ascii_form_are_one_host(name: str) -> None:
    host = canonical_host(name)
    assert host.isascii()
    assert canonical_host(host.upper()) == host
    assert canonical_host(name.replace(".", "。")) == host


@pytest.mark.parametrize(
    ("spelling", "host"),
    [
        ("Acme.Example:8443", "acme.example"),
        ("acme.example.", "acme.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("r3---sn-4g5.example", "r3---sn-4g5.example"),
        ("localhost", "localhost"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
        (".".join(["a" * 49] * 5) + ".abc", ".".join(["a" * 49] * 5) + ".abc"),
        ("acme.example:", "acme.example"),
    ],
)
def test_these_are_hosts(spelling: str, host: str) -> None:
    assert canonical_host(spelling) == host


@pytest.mark.parametrize(
    "spelling",
    [
        "", ".", "..", "acme..example", "acme.example..", ".acme.example", "-acme.example", "acme-.example",
        "under_score.example", "[::1]", "[::1]:443", "::1", "192.0.2.7", "192.0.2.7:80", "0x7f.1", "1.0x7f",
        "acme.example:70000", "acme.example:http", "acme.example:٣", "acme.example:80:80", "user@acme.example",
        "acme example", "acme.example\n", "acme.example/path", "xn--a", "☃.example", "a" * 64 + ".example",
        ".".join(["a" * 49] * 5) + ".abcd", "a" * 100_000,
    ],
)  # fmt: skip
def test_these_are_none(spelling: str) -> None:
    with pytest.raises(BadHost):
        canonical_host(spelling)


def test_the_refusal_does_not_repeat_what_was_sent() -> None:
    with pytest.raises(BadHost) as caught:
        canonical_host("<script>.example")
    assert "script" not in str(caught.value)
