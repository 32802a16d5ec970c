"""What a connection is made with: the caller's URL and options, and over both what failing fast requires."""

from __future__ import annotations

import inspect
from typing import Any, Final, final

import redis.connection as sync
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..errors import MisuseError
from ._redis_deadline import tls

__all__ = ["ANONYMOUS", "FAIL_FAST", "Dialler", "dialler"]

FAIL_FAST: Final[dict[str, Any]] = {
    "retry": Retry(NoBackoff(), 0),
    "retry_on_timeout": False,
    "retry_on_error": [],
    "health_check_interval": 0,
    # RESP3 with one reply sent twice gave another key's value in 194 of 400 reads, RESP2 in none. It also switches
    # redis-py's maintenance notifications and client-side cache off.
    "protocol": 2,
}

# No CLIENT SETINFO: two round trips less for every connection. redis-py 8 renamed the option and warns of the old name.
ANONYMOUS: Final[dict[str, Any]] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(sync.AbstractConnection).parameters
    else {"lib_name": None, "lib_version": None}
)


@final
class Dialler:
    """Makes connections, not yet connected: the options, over them the URL's, over both what failing fast requires."""

    __slots__ = ("_pool", "finds", "max_connections", "tls")

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self.finds = "find" in pool.connection_kwargs  # its server may have changed places when it fails
        self.max_connections: int = pool.max_connections
        # for other clients with the same options
        self.tls = {name: value for name, value in pool.connection_kwargs.items() if name == "tls"}

    def __call__(self) -> Any:
        return self._pool.connection_class(**self._pool.connection_kwargs)


def dialler(
    module: Any, bounded: dict[type, type], url: str, options: dict[str, Any], forced: dict[str, Any]
) -> Dialler:
    """Raises `MisuseError` for a URL or an option that cannot work, before anything is opened."""
    arguments = {"connection_class": module.Connection} | options | _parsed(module, url)
    if arguments.get("decode_responses"):
        raise MisuseError("decode_responses must be left out: values are bytes and stay bytes")
    base = arguments["connection_class"]
    if base not in bounded:
        raise MisuseError(f"connection_class must be left out: {base!r} cannot be given a deadline")
    try:
        if base is module.SSLConnection and "tls" not in arguments:
            arguments["tls"] = tls(arguments)
        pool = module.ConnectionPool(**arguments | FAIL_FAST | ANONYMOUS | forced | {"connection_class": bounded[base]})
        dial = Dialler(pool)
        dial()  # opens nothing, but knows its arguments
    except Exception as error:
        raise MisuseError(f"options cannot be used: {error}") from error
    return dial


def _parsed(module: Any, url: str) -> dict[str, Any]:
    scheme, separator, rest = url.partition("://")
    scheme = {"valkey": "redis", "valkeys": "rediss"}.get(scheme, scheme)
    try:
        arguments: dict[str, Any] = module.parse_url(scheme + separator + rest)
    except ValueError as error:
        raise MisuseError(f"url cannot be used: {error}") from None
    return arguments
