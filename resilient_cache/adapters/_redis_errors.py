"""What a Redis or Valkey client raises, as the kinds of failure this library knows.

By name and by text, not by class: redis-py and valkey-py have unrelated classes of the same names, and neither has to
be installed for the other to be understood.
"""

from __future__ import annotations

from typing import Final

from ..errors import FailureKind, StoreError

__all__ = ["failure", "kind_of"]

CODES: Final = {  # the first word of an error reply
    "NOAUTH": FailureKind.AUTH,
    "WRONGPASS": FailureKind.AUTH,
    "NOPERM": FailureKind.AUTH,
    "LOADING": FailureKind.UNAVAILABLE,
    "CLUSTERDOWN": FailureKind.UNAVAILABLE,
    "MASTERDOWN": FailureKind.UNAVAILABLE,
    "TRYAGAIN": FailureKind.UNAVAILABLE,
    "BUSY": FailureKind.UNAVAILABLE,
    "MOVED": FailureKind.UNAVAILABLE,  # a cluster behind a client that speaks to one server
    "ASK": FailureKind.UNAVAILABLE,
    "READONLY": FailureKind.READ_ONLY,
    "OOM": FailureKind.READ_ONLY,
    "MISCONF": FailureKind.READ_ONLY,
    "NOREPLICAS": FailureKind.READ_ONLY,
    "WRONGTYPE": FailureKind.PER_KEY,
    "CROSSSLOT": FailureKind.PER_KEY,
}

PHRASES: Final = {  # replies and errors without a code or a class of their own
    "max number of clients reached": FailureKind.UNAVAILABLE,
    "Connection not ready": FailureKind.UNAVAILABLE,  # it spoke before it was asked: maxclients, protected mode
    "Too many connections": FailureKind.POOL,  # an exhausted pool in valkey-py and in redis-py before 5.3
    "No connection available": FailureKind.POOL,  # the same of a blocking pool
    "can't start new thread": FailureKind.POOL,  # no thread to resolve a name in
    "string exceeds maximum allowed size": FailureKind.PER_KEY,
    "invalid expire time": FailureKind.PER_KEY,
}

CLASSES: Final = {  # the client strips the code from a reply that has a class
    "AuthenticationError": FailureKind.AUTH,
    "AuthenticationWrongNumberOfArgsError": FailureKind.AUTH,
    "AuthorizationError": FailureKind.AUTH,
    "NoPermissionError": FailureKind.AUTH,
    "ExternalAuthProviderError": FailureKind.AUTH,
    "MaxConnectionsError": FailureKind.POOL,
    "BusyLoadingError": FailureKind.UNAVAILABLE,
    "ClusterDownError": FailureKind.UNAVAILABLE,
    "SlotNotCoveredError": FailureKind.UNAVAILABLE,
    "ClusterError": FailureKind.UNAVAILABLE,
    "TryAgainError": FailureKind.UNAVAILABLE,
    "AskError": FailureKind.UNAVAILABLE,
    "ReadOnlyError": FailureKind.READ_ONLY,
    "OutOfMemoryError": FailureKind.READ_ONLY,
    "ClusterCrossSlotError": FailureKind.PER_KEY,
    "DataError": FailureKind.PER_KEY,  # the client cannot send it
    "UnicodeEncodeError": FailureKind.PER_KEY,  # half a surrogate pair in the key
    "InvalidResponse": FailureKind.CONNECTION,  # not RESP: something else listens there
    "ValueError": FailureKind.CONNECTION,  # the same: a length that is no number, a line without end
    "TimeoutError": FailureKind.TIMEOUT,
    "ConnectionError": FailureKind.CONNECTION,
    "OSError": FailureKind.CONNECTION,
}


def failure(error: Exception) -> StoreError:
    """The `StoreError` to raise from `error`; a `StoreError` is handed back as it is."""
    if isinstance(error, StoreError):
        return error
    return StoreError(kind_of(error), f"{type(error).__name__}: {error}")


def kind_of(error: Exception) -> FailureKind:
    """The kind of a client's error. A reply that is in no table is UNKNOWN, which counts against the server.

    Not PER_KEY: proxies say "ERR upstream failure" and the like when what is behind them is gone. A cluster client that
    has found no node at all is as its last try was.
    """
    if type(error).__name__.endswith("ClusterException") and isinstance(error.__cause__, Exception):
        error = error.__cause__
    text = str(error)
    code = CODES.get(text.partition(" ")[0])
    if code is not None:
        return code
    for phrase, kind in PHRASES.items():
        if phrase in text:
            return kind
    names = (CLASSES.get(base.__name__) for base in type(error).__mro__)
    return next((kind for kind in names if kind is not None), FailureKind.UNKNOWN)
