"""The ledger of mutants that may live, and the verdict over a run: who lives, who may, and what score that makes."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from .mutants import Mutant

__all__ = ["LEDGER", "Listed", "Name", "Score", "read", "score"]

LEDGER = Path(__file__).with_name("ledger.toml")
KINDS = ("equivalent", "accepted")

Name: TypeAlias = tuple[str, str, str, str]
Listed: TypeAlias = dict[Name, str]


def read(text: str) -> Listed:
    """The kind of every listed mutant, by its name. Raises `ValueError` for an entry without a reason, or twice there.

    `equivalent` mutants cannot be told apart by anything the library promises, and leave the score. `accepted` ones
    could be, and are not: they count against it.
    """
    listed: Listed = {}
    for entry in tomllib.loads(text).get("mutant", ()):
        if entry["kind"] not in KINDS or len(entry["why"]) < 10:
            raise ValueError(f"say of what kind it is, and why: {entry}")
        for now in entry["now"]:
            name = entry["file"], entry["function"], entry["was"], now
            if name in listed:
                raise ValueError(f"listed twice: {name}")
            listed[name] = entry["kind"]
    return listed


@dataclass(frozen=True)
class Score:
    """How one file did: counts, the mutants that live without leave, and the ledger's lines that none bears out."""

    file: str
    total: int
    killed: int
    equivalent: int
    accepted: int
    unlisted: tuple[Mutant, ...]
    stale: tuple[Name, ...]

    @property
    def raw(self) -> float:
        """Killed of all, in percent."""
        return 100.0 * self.killed / max(1, self.total)

    @property
    def adjusted(self) -> float:
        """Killed of those that could be, in percent."""
        return 100.0 * self.killed / max(1, self.total - self.equivalent)

    def passes(self, gate: float) -> bool:
        """Whether all who live are listed, all who are listed live, and enough were killed."""
        return not self.unlisted and not self.stale and self.adjusted >= gate


def score(file: str, verdicts: Sequence[tuple[Mutant, bool]], listed: Listed) -> Score:
    """The score of `file` from its mutants, each with whether it was killed."""
    living = [mutant for mutant, killed in verdicts if not killed]
    kinds = [listed.get(mutant.name) for mutant in living]
    mine = {name for name in listed if name[0] == file}
    return Score(
        file,
        len(verdicts),
        len(verdicts) - len(living),
        kinds.count("equivalent"),
        kinds.count("accepted"),
        tuple(mutant for mutant, kind in zip(living, kinds, strict=True) if kind is None),
        tuple(sorted(mine - {mutant.name for mutant in living})),
    )
