"""One request on its way through a flow, and what the mode lets it do."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from types import TracebackType
from typing import Any, Final, NamedTuple, final

from .entry import Slot
from .memory import FRESH, STAMP, TAGS
from .outcome import Lookup, Mode, Reason, Source
from .policy import CachePolicy

__all__ = ["GATES", "Candidate", "Draft", "Failure", "Gates", "Request", "candidate_of"]


class Gates(NamedTuple):
    """What a mode lets a request do."""

    memory: bool
    read: bool
    write: bool
    load: bool
    serve_stale: bool = False


GATES: Final = {
    Mode.ON: Gates(memory=True, read=True, write=True, load=True),
    Mode.READ_ONLY: Gates(memory=True, read=True, write=False, load=True),
    Mode.BYPASS: Gates(memory=False, read=False, write=False, load=True),
    Mode.MEMORY_ONLY: Gates(memory=True, read=False, write=False, load=True),
    Mode.FROZEN: Gates(memory=True, read=True, write=True, load=False, serve_stale=True),
}


_OFF: Final = Reason.OFF  # see `_rules.py`


class Candidate(NamedTuple):
    """An entry that may yet answer: times in monotonic seconds.

    The stamp of another process is taken as `2 * skew` older than it says, for its clock may be ahead of ours.
    `taken` is the stamp of the moment since when it has been in hand.
    """

    value: Any
    fresh_until: float
    stale_until: float
    stamp: int
    tags: tuple[str, ...] = ()
    taken: int = 0


def candidate_of(entry: Slot[Any], taken: int) -> Candidate:
    """An entry of memory as one that may yet answer, in hand since the moment stamped `taken`."""
    return Candidate(entry[0], entry[FRESH], entry[2], entry[STAMP], entry[TAGS], taken)


class Draft(NamedTuple):
    """A value that is to be written to the store, and its windows in seconds; `placed`: by `set`, not by a load."""

    value: Any
    ttl: float
    stale_for: float
    tags: tuple[str, ...] = ()
    placed: bool = False


class Failure(NamedTuple):
    """A load that gave no value: its error with the traceback as it was, and what the leader had to stand in.

    `source` is `NEGATIVE` when the error is the origin's answer, else `NONE`. `withheld`: what the loader did give, but
    the leader's `accept` refused; who shares the load may think otherwise. `whole`: the error is that of a load of many
    keys, and not of this one.
    """

    error: BaseException
    trace: TracebackType | None
    source: Source
    stand_in: Candidate | None
    withheld: Lookup[Any] | None = None
    again: bool = False  # shed for want of a permit: whoever has nothing stale to make do with asks again
    whole: bool = False


@final
class Request:
    """One call of a caller. Lives in one thread or task; nothing here is shared."""

    # Slots, all of them set: 0.4 us. A default in the class takes 30 ns to find on Python 3.11, here 7; and an instance
    # without slots gets a dict as soon as it is given what the first thirty of its class were not (1 us, 1 300 bytes).
    __slots__ = (
        *(
            "answered",
            "asked",
            "boarded",
            "due",
            "early",
            "forced",
            "gates",
            "given",
            "inline",
            "key",
            "known",
            "lenient",
        ),
        *(
            "life",
            "loading_since",
            "loads",
            "mode",
            "picky",
            "policy",
            "queued",
            "reason",
            "refused",
            "renews",
            "screen",
        ),
        *("since", "stamp", "stand_in", "turned_down", "unsure", "until", "version", "withheld"),
    )

    def __init__(self, key: str, policy: CachePolicy, mode: Mode, gates: Gates, since: float, until: float) -> None:  # noqa: PLR0917
        self.key = key
        self.given: Any = key  # as the caller gave it: what the loader is called with
        self.policy = policy
        self.mode = mode
        self.gates = gates
        self.since = since
        self.until = until  # the caller's deadline, infinite without one
        self.loads = False  # a loader came with it
        self.reason: Reason = _OFF  # why the cache had nothing fresh
        self.stand_in: Candidate | None = None
        self.asked = False  # the store is asked once at most
        self.answered = False  # the store gave an answer, so a write is worth its time
        self.forced = False  # replaces whatever is there: set and refresh
        self.boarded = 0  # the stamp of the last flight it took off in, or joined before it was forced
        self.queued: float | None = None  # since when it has waited for a load to start
        self.refused = False  # the store holds something that must go
        self.screen: Callable[[Any], bool] | None = None  # what a value has to pass to get out
        self.turned_down = False  # forced because it refused what it was to share, not by its caller
        self.withheld = False  # what it was to put in place of something was refused
        self.renews = 0  # it runs behind, and the stamp of what it is to replace
        self.due: Candidate | None = None  # the entry it is served, which is to be loaded again behind
        self.early = 0.0  # seconds before its end from which on that is left to chance
        self.known: Candidate | None = None  # the entry that a conditional loader was handed
        self.picky = False  # it was given what is stale by another's load, and did not take it
        self.inline = False  # nothing can run behind
        self.stamp = 0
        self.version = 0  # of the namespace's mark, as known when the load began
        self.unsure: tuple[str, ...] | None = None  # the marks that the store is to be asked for, once that is known
        self.lenient = False  # what nobody can judge by its marks may stand in: an entry of a snapshot
        self.life = 0.0  # seconds for which the store is to keep what is written
        self.loading_since = 0.0

    def apart(self) -> Request:
        """The same request, for what goes on beside it: each of the two may change without the other."""
        return copy(self)

    def become(self, other: Request) -> None:
        """Go on as `other` went on, which was this one apart."""
        for name in self.__slots__:
            setattr(self, name, getattr(other, name))

    def force(self) -> None:
        """Replace whatever is there, which nobody needs to be asked for."""
        self.forced = self.asked = self.answered = True

    @property
    def allows_stale(self) -> bool:
        """Whether a stale entry may answer in place of a failed load."""
        return self.loads and (not self.forced or self.turned_down) and self.policy.stale_for != 0

    def lets_out(self, value: object) -> bool:
        """Whether `value` may be given to the caller now, and so be kept. Not to be called under a lock."""
        return self.screen is None or self.screen(value)

    @property
    def takes_stale(self) -> bool:
        """Whether a stale entry may answer at once, while it is loaded again behind."""
        return self.policy.refresh_behind and self.allows_stale and self.gates.load and not (self.renews or self.inline)

    def offer(self, candidate: Candidate) -> None:
        """Keep the newest entry that could stand in for a failed load."""
        if self.stand_in is None or self.stand_in.stamp < candidate.stamp:
            self.stand_in = candidate
