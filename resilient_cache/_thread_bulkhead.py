"""Waiting for a permit, for threads. Twin: `_task_bulkhead.py`."""

from __future__ import annotations

from typing import Any

from ._origin import Origin
from ._request import Request
from ._threads import Seat
from .flights import Flight

__all__ = ["wait_turn"]


def wait_turn(origin: Origin, request: Request, flight: Flight[Any]) -> None:
    """Queue until the request has a permit, or it is time to do without one."""
    seat = Seat()
    try:
        seat.wait(origin.join(request, flight, seat))
    except BaseException:
        seat.leave()
        origin.leave(seat)
        raise
    origin.take(request, flight, seat)
