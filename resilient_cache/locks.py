"""Where the locks are made that threads share, so that a test can decide at each of them which thread goes on.

`testing.Scheduler` puts its own makers here for as long as it is entered. A maker is looked up when a lock is made,
never bound before, and a lock is kept as it was made: this costs a request nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock, RLock

__all__ = ["make_lock", "make_rlock"]

make_lock: Callable[[], Lock] = Lock
make_rlock: Callable[[], RLock] = RLock
