"""The rules about what is left when all has ended, and about being of use."""

from __future__ import annotations

from collections import Counter
from typing import Final

from ...errors import NotFound
from ...outcome import Source
from .histories import Call, Ending, History
from .limits import Limits, Violation, Violations

__all__ = ["check_counts", "check_rest"]

READS: Final = frozenset({"get", "lookup", "get_or_load", "refresh"})
NOTHING_LEFT: Final = ("flights", "stuck_flights", "store_calls_in_flight")
NEVER_COUNTED: Final = ("internal_errors", "hook_errors", "mode_errors", "close_errors", "not_stored")


def check_counts(history: History, _limits: Limits) -> Violations:
    """C10, L7: each request that was not taken away has one outcome, told once, and the counters add up to them."""
    told: dict[int, Counter[str]] = {rest.process: Counter() for rest in history.rests}
    for call in history.calls:
        if call.operation not in READS:
            continue
        ended = call.ending not in (Ending.OPEN, Ending.CANCELLED)
        if call.served != ended:
            yield Violation("not told once", f"{call.operation} {call.key}: {call.served} times", (call.number,))
        if ended and call.process in told:
            told[call.process][_outcome(call)] += 1
    for rest in history.rests:
        mine = told[rest.process]
        counted = {name: rest.stats.get(name, 0) for name in ("hits", "stale", "negative", "loads", "misses", "errors")}
        if dict(+mine) != {name: count for name, count in counted.items() if count}:
            yield Violation(
                "the counters do not add up", f"p{rest.process} counted {counted}, callers saw {dict(mine)}"
            )
        requests = rest.stats.get("requests")
        if requests != mine.total():
            yield Violation("requests do not add up", f"p{rest.process}: {requests} of {mine.total()}")


def _outcome(call: Call) -> str:
    if call.ending is Ending.RAISED:
        return "negative" if isinstance(call.error, NotFound) else "errors"
    return {
        Source.MEMORY: "hits", Source.STORE: "hits", Source.STALE: "stale", Source.NEGATIVE: "negative",
        Source.LOADER: "loads", Source.NONE: "misses", None: "unknown",
    }[call.source]  # fmt: skip


def check_rest(history: History, _limits: Limits) -> Violations:
    """C9, C10: no flight, call, task or waiter is left, and nothing failed in here."""
    for complaint in history.complaints:
        yield Violation("the runtime complains", complaint)
    for rest in history.rests:
        left = {name: count for name in NOTHING_LEFT if (count := rest.health.get(name, "unknown"))}
        if left:
            yield Violation("something is left", f"p{rest.process}: {left}")
        failed = {name: rest.stats[name] for name in NEVER_COUNTED if rest.stats.get(name)}
        if failed:
            yield Violation("it failed inside", f"p{rest.process}: {failed}")
