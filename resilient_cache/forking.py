"""Locks over `fork`: taken by the forking thread, so that no other thread is left holding them in the child.

What is protected is consistent in the child, for whoever held its lock had to finish first. The child then drops what
only the parent's threads could have ended.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from threading import Lock, RLock
from typing import Protocol

__all__ = ["Forkable", "protect", "renew"]


class Forkable(Protocol):
    """Something with a lock that is never held while another such lock is taken.

    It may add `forking()`, called with the lock held before the fork, for what must not be open on both sides of it.
    """

    lock: RLock

    def forked(self) -> None:
        """Called in the child, with the lock held."""
        ...


FORKING = Lock()  # held from before until after: one fork at a time, or two would share `HELD`
PROTECTED: weakref.WeakSet[Forkable] = weakref.WeakSet()
HELD: list[Forkable] = []
RENEWED: list[Callable[[], object]] = []


def protect(thing: Forkable) -> None:
    """Keep `thing` usable in forked children for as long as it lives."""
    with FORKING:
        PROTECTED.add(thing)


def renew(action: Callable[[], object]) -> None:
    """Have `action` called in every forked child from now on."""
    RENEWED.append(action)


def _before() -> None:
    FORKING.acquire()
    for thing in sorted(PROTECTED.copy(), key=id):
        thing.lock.acquire()
        HELD.append(thing)
        forking: Callable[[], object] | None = getattr(thing, "forking", None)
        if forking is not None:
            forking()


def _after_in_parent() -> None:
    while HELD:
        HELD.pop().lock.release()
    FORKING.release()


def _after_in_child() -> None:
    for action in RENEWED:
        action()
    for thing in HELD:
        thing.forked()
    _after_in_parent()


if hasattr(os, "register_at_fork"):  # not where there are no processes
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
