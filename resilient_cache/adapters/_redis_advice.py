"""What is wrong with a client that somebody else made, said before it hurts."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from typing import Any

from ..errors import MisuseError

__all__ = ["check_client", "warn_if_slow"]


def check_client(client: Any, *, is_async: bool) -> None:
    """Raise `MisuseError` for an object that cannot serve an adapter of that colour."""
    for name in ("get", "set", "delete"):
        if not callable(getattr(client, name, None)):
            raise MisuseError(f"client must be a Redis or Valkey client, but {type(client).__name__} has no {name}()")
    if _is_async(client) != is_async:
        needed, other = ("redis.asyncio.Redis", "RedisAdapter") if is_async else ("redis.Redis", "AsyncRedisAdapter")
        raise MisuseError(f"client must be a {needed}; this one belongs into {other}")
    if _settings(client).get("decode_responses"):
        raise MisuseError("client must return bytes: make it with decode_responses=False")


def warn_if_slow(client: Any, timeout: float, *, is_async: bool) -> None:
    """Warn, once for all its faults, that a client may take longer than `timeout` seconds, and say what to change."""
    faults = "; ".join(_faults(client, timeout, is_async=is_async))
    if faults:
        text = f"this client may take longer than {timeout:g} s: {faults}. Or use from_url(), which sets all of it"
        warnings.warn(text, RuntimeWarning, stacklevel=3)


def _faults(client: Any, timeout: float, *, is_async: bool) -> Iterator[str]:
    settings = _settings(client)
    for name in () if is_async else ("socket_timeout", "socket_connect_timeout"):
        seconds = settings.get(name, "the default")
        if not isinstance(seconds, int | float) or seconds > timeout:
            yield f"{name} is {seconds}, set {name}={timeout:g}"
    retries = getattr(settings.get("retry") or getattr(client, "retry", None), "_retries", 0)
    if retries:
        yield f"it retries {retries} times, set retry=Retry(NoBackoff(), 0)"
    if settings.get("retry_on_timeout") or settings.get("retry_on_error"):
        yield "it retries on errors, leave out retry_on_timeout and retry_on_error"
    if settings.get("health_check_interval"):
        yield "it sends a PING before some calls, set health_check_interval=0"
    if any(kind.__name__ == "BlockingConnectionPool" for kind in type(_pool(client)).__mro__):
        yield "its pool makes callers wait for a connection, use a ConnectionPool"


def _is_async(client: Any) -> bool:
    methods = (getattr(client, name, None) for name in ("execute_command", "get"))
    return any(inspect.iscoroutinefunction(method) for method in methods)


def _pool(client: Any) -> Any:
    return getattr(client, "connection_pool", None)


def _settings(client: Any) -> dict[str, Any]:
    nodes = getattr(client, "nodes_manager", None)  # of a cluster, which has a pool for each
    return getattr(_pool(client) or nodes, "connection_kwargs", {})
