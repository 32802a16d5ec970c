"""The decisions about snapshots: what of memory goes into a file, and what of a file is believed.

A file knows nothing of what was invalidated after it was written. So what comes out of one is held against everything
that this process has heard of by then, as an entry of a store is, and where invalidations may have passed unheard it
may only stand in: marks that nobody knows here, a backplane that was not listened to, an outage that is not trusted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from ._files import replacing
from ._reporting import LOGGER
from ._request import GATES, Candidate, Request, candidate_of
from ._rules import Rules
from .events import SnapshotRead, SnapshotWritten
from .memory import PAST, PLACE, STAMP
from .outcome import AfterOutage, Mode, Reason
from .snapshots import Refused, decode, encode

__all__ = ["Taken", "Written", "read", "told_read", "told_written", "write"]


class Written(NamedTuple):
    """What became of a snapshot: entries in it, and values that the codec cannot encode."""

    entries: int
    left_out: int


class Taken(NamedTuple):
    """What came out of a file: entries taken, and why not all, `HIT` when nothing is to be said against the file."""

    entries: int
    reason: Reason


def write(rules: Rules, path: str) -> Written:
    """Write what is in memory to `path`. Raises `OSError`; tells no hook, for it may run in another thread."""
    entries, left_out = 0, 0

    def sealed() -> Iterator[tuple[bytes, bytes]]:
        nonlocal entries, left_out
        for key, found in _kept(rules):
            envelope = rules.sealing.keep(key, found, *began)
            if envelope is None:
                left_out += 1
                continue
            entries += 1
            yield key.encode(), envelope

    began = rules.local.stamps.now(), rules.monotonic()
    with replacing(path) as file:
        for piece in encode(*rules.sealing.whose, sealed()):
            file.write(piece)
    return Written(entries, left_out)


def read(rules: Rules, path: str, fresh: bool) -> Taken:
    """Take what may be believed of the file at `path`, if all of it is whole. Never raises for a file."""
    taken = 0
    request = Request("", rules.policy, Mode.ON, GATES[Mode.ON], since=0.0, until=0.0)
    request.unsure = ()  # the store has been asked already, as far as it is
    request.lenient = True
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for whoever writes into it
            raise OSError("not a file")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            for _ in decode(file.read, size, *rules.sealing.whose):
                pass
            file.seek(0)
            for request.key, envelope in decode(file.read, size, *rules.sealing.whose):
                taken += _adopt(rules, request, envelope, fresh)
    except Refused as refused:
        return Taken(taken, refused.reason)
    except (OSError, MemoryError) as error:  # a damaged size may be more than there is room for
        return Taken(taken, Reason.ABSENT if isinstance(error, FileNotFoundError) else Reason.ERROR)
    return Taken(taken, Reason.HIT)


def told_written(rules: Rules, written: Written) -> int:
    """Count and report a snapshot; how many entries are in it."""
    rules.reporter.count("snapshots_written")
    rules.reporter.tell(SnapshotWritten(rules.name, *written))
    return written.entries


def told_read(rules: Rules, path: str, taken: Taken) -> int:
    """Count and report what came out of a file; how many entries. That there is no file yet is not worth a line."""
    entries, reason = taken
    rules.reporter.count("snapshots_read" if reason is Reason.HIT else f"snapshot_refused_{reason}")
    if reason is not Reason.HIT and reason is not Reason.ABSENT:
        LOGGER.warning("cache %s: %d entries are taken from the snapshot %s: %s", rules.name, entries, path, reason)
    rules.reporter.tell(SnapshotRead(rules.name, entries, reason))
    return entries


def _kept(rules: Rules) -> Iterator[tuple[str, Candidate]]:
    """What this process could still serve, what was asked for lately first: room may be short where it is read."""
    local = rules.local
    with rules.guard.lock:
        since, taken = rules.monotonic(), local.stamps.latest
        memory, asked = local.memory.entries.copy(), bytes(local.memory.marks)
        resting = local.stand_ins.entries.copy()
    for key, slot in sorted(memory.items(), key=lambda item: not asked[item[1][PLACE]]):
        found = candidate_of(slot, taken)
        if since < found.stale_until and local.admits(key, found):  # and what is invalidated meanwhile is not in it
            yield key, found
    for key, slot in resting.items():
        found = candidate_of(slot, taken)._replace(fresh_until=PAST)  # how long it rests is no window of its own
        if key not in memory and since < found.stale_until and local.admits(key, found):
            yield key, found


def _adopt(rules: Rules, request: Request, envelope: bytes, fresh: bool) -> bool:
    """Keep one entry of a file, unless it is no better than what is here; whether it was kept."""
    now, local, key = rules.monotonic(), rules.local, request.key
    found = rules.sealing.open(request, envelope, now)
    if not isinstance(found, Candidate) or now >= found.stale_until:
        return False
    unheard = found.stamp <= local.outage
    if unheard and rules.policy.after_outage is AfterOutage.DISCARD:
        return False
    until = found.fresh_until if fresh and not unheard and not local.tells else PAST
    memory = local.memory
    with rules.guard.lock:
        tiers = (memory, local.negatives, local.stand_ins)
        there = [slot for tier in tiers if (slot := tier.entries.get(key)) is not None]
        if any(slot[STAMP] >= found.stamp for slot in there) or not local.admits(key, found):
            return False
        if key not in memory.entries and len(memory) >= memory.capacity:
            return False  # what is there was asked for in this process
        local.negatives.drop_locked(key)
        memory.put_locked(key, found.value, until, found.stale_until, found.stamp, found.tags)
        if not local.admits(key, found):  # see `Local._put_locked`
            memory.drop_locked(key)
            return False
        return True
