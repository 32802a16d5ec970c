"""A host name as one spelling, before it becomes a cache key.

`Acme.Example:8443`, `acme.example.` and `acme.example` are one tenant; what is no host name at all is answered 400
and reaches neither the cache nor the record, so that nonsense cannot fill either.

Decided here: a tenant has a name, not an address, so IPv4 and IPv6 literals are refused; underscores are refused (not
a host name by RFC 952 and 1123, and browsers disagree about cookies on them); `--` at the third place is accepted,
as real host names have it.
"""

from __future__ import annotations

import re
from typing import Final

import idna

__all__ = ["BadHost", "canonical_host"]

LONGEST: Final = 253  # RFC 1035: 255 octets on the wire
LONGEST_SPELLING: Final = 4 * LONGEST  # refused before any work: what is mapped away could otherwise be endless
PORT: Final = re.compile(r"[0-9]{0,5}", re.ASCII)
LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)  # a name that ends in one is an IPv4 address (WHATWG URL)


class BadHost(ValueError):
    """Not a host name. The text says why, without repeating what was sent."""


def canonical_host(spelling: str) -> str:
    """The one spelling of a host: lower case, ASCII (IDNA, UTS 46), no port, no trailing dot; 1 to 253 characters.

    Raises `BadHost`, and nothing else. Idempotent.
    """
    if len(spelling) > LONGEST_SPELLING:
        raise BadHost("too long")
    name = _mapped(_without_port(spelling)).removesuffix(".")
    labels = [_label(label) for label in name.split(".")]
    host = ".".join(labels)
    if len(host) > LONGEST:
        raise BadHost("longer than 253 characters")
    if NUMBER.fullmatch(labels[-1]):
        raise BadHost("an address, not a name")
    return host


def _without_port(spelling: str) -> str:
    if spelling.startswith("["):
        raise BadHost("an address, not a name")
    name, colon, port = spelling.partition(":")
    if colon and (not PORT.fullmatch(port) or int(port or 0) > 65_535):
        raise BadHost("not a port")
    return name


def _mapped(name: str) -> str:
    if name.isascii():
        return name.lower()
    try:
        return idna.uts46_remap(name)
    except idna.IDNAError as error:
        raise BadHost("characters no host name has") from error


def _label(label: str) -> str:
    if not label.isascii() or label.startswith("xn--"):
        try:
            label = idna.alabel(label).decode("ascii")
        except idna.IDNAError as error:
            raise BadHost("not an internationalised label") from error
    if not LABEL.fullmatch(label):
        raise BadHost("a label of letters, digits and inner hyphens has 1 to 63 characters")
    return label
