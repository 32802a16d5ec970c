"""Locks over `fork`: taken by the forking thread, so that no other thread is left holding them in the child.

What is protected is consistent in the child, for whoever held its lock had to finish first. The child then drops what
only the parent's threads could have ended.
"""

from __future__ import annotations

import os
import weakref
from threading import RLock
from typing import Protocol

__all__ = ["Forkable", "protect"]


class Forkable(Protocol):
    """Something with a lock that is never held while another such lock is taken."""

    lock: RLock

    def forked(self) -> None:
        """Called in the child, with the lock held."""
        ...


PROTECTED: weakref.WeakSet[Forkable] = weakref.WeakSet()
HELD: list[Forkable] = []


def protect(thing: Forkable) -> None:
    """Keep `thing` usable in forked children for as long as it lives."""
    PROTECTED.add(thing)


def _before() -> None:
    for thing in list(PROTECTED):
        thing.lock.acquire()
        HELD.append(thing)


def _after_in_parent() -> None:
    while HELD:
        HELD.pop().lock.release()


def _after_in_child() -> None:
    for thing in HELD:
        thing.forked()
    _after_in_parent()


if hasattr(os, "register_at_fork"):  # not where there are no processes
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
