"""Whether a history keeps the promises. Each rule looks at one promise and names it in what it reports.

A miss is always allowed, so nothing is searched for: a value names its key and its birth, and every rule is a sort and
a look. What nobody promises is not reported: a process may go back to an older value of the store after a newer one
that was not written, and an acknowledged `set` is no promise against a store that forgets.
"""

from __future__ import annotations

from . import _answers, _marked, _protection, _resting, _settling, _told, _vendored
from .histories import History
from .limits import Limits, Violation
from .oracle import check_usefulness

__all__ = ["check"]

RULES = (
    _answers.check_values,
    _answers.check_fences,
    _answers.check_age,
    _answers.check_cancellation,
    _answers.check_errors,
    _answers.check_confirmed,
    _answers.check_waiting,
    _protection.check_loads,
    _protection.check_permits,
    _protection.check_modes,
    _protection.check_circuits,
    _protection.check_recovery,
    _resting.check_counts,
    _resting.check_rest,
    _settling.check_owed,
    _settling.check_settled,
    _marked.check_marks,
    _told.check_told,
    _told.check_retold,
    _told.check_gaps,
    _vendored.check_vendors,
    check_usefulness,
)


def check(history: History, limits: Limits) -> list[Violation]:
    """Every promise that `history` breaks, in the order of the rules; empty when all were kept. Never raises."""
    return [violation for rule in RULES for violation in rule(history, limits)]
