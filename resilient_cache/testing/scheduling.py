"""Threads in an order that a test decides: real threads, one baton, and every turn drawn from one source.

    with Scheduler(random.Random(7).randrange, switch=Switch.LINES) as threads:
        cache = ResilientCache(store, name="demo", clock=threads.clock, spawn=threads.start)
        threads.start(lambda: cache.get_or_load("k", loader))
        threads.start(lambda: cache.invalidate("k"))
        threads.run()

Theory. A race shows only in some orders of its threads' steps, and an operating system tries few of them and never the
same twice. Here exactly one thread runs at a time; it can lose its turn at a switch point only, and whom it loses it to
is drawn. So the draws are the schedule: the same draws give the same run, and fewer of them a simpler one. Where the
switch points are decides what can be found:

  LOCKS      where a cache takes or gives back a lock or reads the clock, and where the test says `pause`: fast; finds
             wrong orders of steps that are each whole, cannot see that a lock is missing
  LINES      there and before every line of the modules under test: finds a check and an act that no lock holds
             together
  BYTECODES  there and where CPython itself may switch in those modules (after a call, at the head of a function, on
             the way back in a loop): finds races inside a line, and nothing that cannot happen

Time is virtual. A thread that waits with a limit is woken when nobody else can run, and the clock moves on to its
limit; now and then it moves although others could run, as when a machine stalls. Where nobody can run and nobody's wait
has a limit, `run` raises `Deadlock` and says where everybody stands.

Invariants: only the thread that holds the baton touches anything in here; every thread is over when `run` returns.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import partial
from types import FrameType, ModuleType
from typing import Any, Final, Self, TypeAlias, cast, final

from .. import locks
from . import scheduled, tracing
from .clock import Deadlock, ManualClock
from .scheduled import FOREVER, Lock, SharedClock
from .tracing import Trace, modules_of_the_package, tracer

__all__ = ["Choose", "Scheduler", "Switch", "Thread"]

Choose: TypeAlias = Callable[[int], int]
"""Draws: a whole number from 0 up to its argument, without it. 0 is always the dullest choice."""

PACES: Final = (2, 8, 32, 128, 512)
"""Switch points from one switch to the next, at most twice as many: one of these for a whole run."""

SHARES: Final = (1, 4, 16)
"""Of so many functions the lines of one are switch points, in a whole run: then more orders of those are tried."""

WEIGHTS: Final = (1, 16)
"""For how many other switch points one in a line counts, in a whole run."""

NEVER: Final = 2**62

OWN: Final = (__file__, scheduled.__file__, tracing.__file__, threading.__file__)

STALL: Final = 8
"""In a run with stalls, one switch in so many lets time pass although somebody could run."""


class Switch(StrEnum):
    """Where a thread may lose its turn."""

    LOCKS = "locks"
    LINES = "lines"
    BYTECODES = "bytecodes"


class _Over(BaseException):
    """Ends a thread whose run is over before the thread is."""


class Thread:
    """One thread of a run: its gate opens when it is its turn; it waits for what it `awaits`, at most `until` then."""

    __slots__ = ("awaits", "error", "gate", "name", "over", "real", "until", "work")

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        self.name = name
        self.work = work
        self.gate = threading.Lock()
        self.gate.acquire()
        self.awaits: object = None
        self.until = 0.0
        self.error: BaseException | None = None
        self.real: threading.Thread | None = None
        self.over = False


@final
class Scheduler:
    """Runs threads one at a time and draws who is next. Enter it before the caches are made: they get its locks.

    `choose` is where every draw comes from: `random.Random(seed).randrange` will do. `switch` says where a thread may
    lose its turn, and `modules` whose lines count, by default all of the package that caches run through. `clock` is
    what caches, stores and loaders read and move; its `advance` lets time pass for the thread that calls it. `limit`:
    switch points after which a run counts as one that never ends. `stalls` tells whether time may pass while somebody
    could run, `steps` how many switch points there were.

    Stores and loaders must wait by `clock.advance`, never by a lock of their own: `from_functions(threads=n)` does not.
    """

    def __init__(
        self,
        choose: Choose,
        *,
        switch: Switch = Switch.LOCKS,
        modules: Iterable[ModuleType] | None = None,
        clock: ManualClock | None = None,
        limit: int = 200_000,
    ) -> None:
        self._manual = clock or ManualClock()
        self.clock = SharedClock(self, self._manual)
        self.switch = Switch(switch)
        self.steps = 0
        self._choose = choose
        self._limit = limit
        self._pace = PACES[choose(len(PACES))]
        self.stalls = choose(3) == 2
        self._left = NEVER  # switch points until the next switch
        self._trace: Trace | None = None
        if self.switch is not Switch.LOCKS:
            weight, share = WEIGHTS[choose(len(WEIGHTS))], SHARES[choose(len(SHARES))]
            files = frozenset(str(module.__file__) for module in modules or modules_of_the_package())
            pause, inside = partial(self.pause, weight), self.switch is Switch.BYTECODES
            self._trace = tracer(pause, files, inside=inside, chosen=lambda: choose(share) == 0)
        self.running: Thread | None = None
        self._ready: list[Thread] = []
        self._waiting: list[Thread] = []
        self._started: list[Thread] = []
        self._home = threading.Lock()
        self._stopped = ""

    def __enter__(self) -> Self:
        """From now on locks are made here."""
        self._makers = locks.make_lock, locks.make_rlock
        locks.make_lock, locks.make_rlock = cast("Any", (self.lock, self.rlock))
        return self

    def __exit__(self, *raised: object) -> None:
        """From now on locks are made as before."""
        locks.make_lock, locks.make_rlock = self._makers

    def lock(self) -> Any:
        """A `threading.Lock` of this run."""
        return Lock(self, again=False)

    def rlock(self) -> Any:
        """A `threading.RLock` of this run."""
        return Lock(self, again=True)

    # Threads

    def start(self, work: Callable[[], object], *, name: str = "") -> None:
        """Let `work` run in a thread of its own when its turn comes; also from within a run, as `spawn` of a cache."""
        thread = Thread(name or f"thread {len(self._started) + 1}", work)
        self._started.append(thread)
        self._ready.append(thread)
        self.pause()

    def run(self) -> None:
        """Run every thread to its end. Raises what the first that failed raised, and `Deadlock` where they hang."""
        self._home.acquire()
        self._next(None)
        self._home.acquire()
        self._home.release()
        if self._stopped:
            self._end_all()
        self._join()
        for thread in self._started:
            if thread.error is not None:
                raise thread.error

    def pause(self, weight: int = 1) -> None:
        """A switch point, or as many as `weight`: the calling thread may lose its turn here."""
        me = self.running
        if me is None:
            return
        self.steps += 1
        self._left -= weight
        if self._left <= 0:
            self._preempt(me)
        elif self.steps > self._limit:
            self._stop(me, f"no end after {self._limit} switch points")

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass for the calling thread; the others run meanwhile."""
        self.pause()
        me = self.running
        if me is None or not seconds > 0:
            self._manual.advance(seconds)
        else:
            self.wait(me, "for time to pass", self.now + seconds)

    @property
    def now(self) -> float:
        """The monotonic clock, read without losing a turn."""
        return self._manual.monotonic()

    # Turns

    def _preempt(self, me: Thread) -> None:
        if self._stopped:
            raise _Over
        self._draw_turn()
        if self.stalls and self._choose(STALL) == STALL - 1:
            self._pass_time()
        if self._ready:
            self._ready.append(me)
            self._hand_over(me, self._pick())

    def wait(self, me: Thread, what: object, until: float = FOREVER) -> None:
        """The calling thread waits for `what`: until `wake` of it, at most until then."""
        me.awaits, me.until = what, until
        self._waiting.append(me)
        self._next(me)
        me.awaits = None

    def wake(self, what: object) -> None:
        """Let those go on who wait for `what`."""
        woken = [thread for thread in self._waiting if thread.awaits is what]
        if woken:
            self._waiting = [thread for thread in self._waiting if thread.awaits is not what]
            self._ready += woken

    def _pass_time(self) -> None:
        """Move on to the end of the next wait that has one, if any has."""
        until = min((thread.until for thread in self._waiting), default=FOREVER)
        if until < FOREVER:
            self._manual.advance(max(0.0, until - self.now))
            self._ready += [thread for thread in self._waiting if thread.until <= until]
            self._waiting = [thread for thread in self._waiting if thread.until > until]

    def _next(self, me: Thread | None) -> None:
        """Give the baton to whoever can run; `me` waits, or is over when it is None."""
        if not self._ready:
            self._pass_time()
        if self._ready:
            self._draw_turn()
            self._hand_over(me, self._pick())
        elif self._waiting:
            self._stop(me, f"nobody can go on at {self.now:g}")
        else:
            self._home.release()

    def _pick(self) -> Thread:
        """Half of the time whoever has been ready longest."""
        count = len(self._ready)
        if count == 1:
            return self._ready.pop()
        drawn = self._choose(2 * count)
        return self._ready.pop(drawn if drawn < count else 0)

    def _draw_turn(self) -> None:
        self._left = self._choose(2 * self._pace) or NEVER

    def _hand_over(self, me: Thread | None, to: Thread) -> None:
        if to is me:
            return
        self.running = to
        if to.real is None:
            to.real = threading.Thread(target=self._live, args=(to,), name=to.name, daemon=True)
            to.real.start()
        else:
            to.gate.release()
        if me is not None:
            self._rest(me)

    def _rest(self, me: Thread) -> None:
        me.gate.acquire()
        if self._stopped:
            raise _Over

    def _live(self, me: Thread) -> None:
        if self._trace is not None:
            sys.settrace(self._trace)
        try:
            me.work()
        except BaseException as error:  # noqa: BLE001 - raised by `run`
            me.error = error
        finally:
            if self._trace is not None:
                sys.settrace(None)
        me.over, self.running = True, None
        if self._stopped:
            self._home.release()
        else:
            self._next(None)

    # Ends

    def _stop(self, me: Thread | None, why: str) -> None:
        self._stopped = "\n  ".join([why, *map(_stand, self._unfinished())])
        self.running = None
        self._home.release()
        if me is not None:
            self._rest(me)

    def _unfinished(self) -> list[Thread]:
        return [thread for thread in self._started if thread.real is not None and not thread.over]

    def _join(self) -> None:
        for thread in self._started:
            if thread.real is not None:
                thread.real.join()

    def _end_all(self) -> None:
        """One by one, those that are not over: each is ended where it stands, and at every switch point on its way."""
        for thread in self._unfinished():
            self._home.acquire()
            self.running, self._left = thread, 0
            thread.gate.release()
            self._home.acquire()
            self._home.release()
        self._join()
        why, self._stopped = self._stopped, ""
        raise Deadlock(why)


def _stand(thread: Thread) -> str:
    """Where a thread stands, innermost first: three places, none of them in here."""
    frames: dict[int | None, FrameType] = vars(sys)["_current_frames"]()
    frame = frames.get(thread.real.ident if thread.real is not None else None)
    places = [
        f"{at.filename.rpartition('/')[2]}:{at.lineno} {at.name}"
        for at in reversed(traceback.extract_stack(frame))
        if at.filename not in OWN
    ]
    awaits = thread.awaits.told(thread) if isinstance(thread.awaits, Lock) else thread.awaits
    return f"{thread.name} {f'waits {awaits}' if awaits else 'runs'}: {' < '.join(places[:3])}"
