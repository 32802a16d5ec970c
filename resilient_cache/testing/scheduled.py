"""What the threads of a run share: locks and a clock at which they lose their turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from .clock import Deadlock, ManualClock

if TYPE_CHECKING:
    from .scheduling import Scheduler, Thread

__all__ = ["FOREVER", "Lock", "SharedClock"]

FOREVER: Final = float("inf")


@final
class Lock:
    """A lock of a run, `again` for one that its holder may take again. Held by one thread, or by nobody's: outside."""

    __slots__ = ("_again", "_depth", "_scheduler", "holder")

    def __init__(self, scheduler: Scheduler, *, again: bool) -> None:
        self._scheduler = scheduler
        self._again = again
        self._depth = 0
        self.holder: Thread | None = None

    def acquire(self, blocking: bool = True, timeout: float = -1.0) -> bool:
        """Whether it is held now: at once, or after others have run, for `timeout` seconds of virtual time at most."""
        scheduler = self._scheduler
        scheduler.pause()
        me = scheduler.running
        if self._again and self._depth and self.holder is me:
            self._depth += 1
            return True
        until = FOREVER if timeout < 0 else scheduler.now + timeout
        while self._depth:
            if not blocking or scheduler.now >= until:
                return False
            if me is None:
                raise Deadlock("a lock is held by a thread whose run is over")
            scheduler.wait(me, self, until)
        self._depth, self.holder = 1, me
        return True

    def release(self) -> None:
        """Let go of it. Raises `RuntimeError` when it is not held."""
        if not self._depth or (self._again and self.holder is not self._scheduler.running):
            raise RuntimeError("cannot release a lock that is not held")
        self._depth -= 1
        if not self._depth:
            self.holder = None
            self._scheduler.wake(self)
        self._scheduler.pause()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *raised: object) -> None:
        self.release()

    def told(self, waiting: Thread) -> str:
        """What it is that `waiting` waits for."""
        holder = self.holder
        return "to be woken" if holder is None or holder is waiting else f"for a lock that {holder.name} holds"


@final
class SharedClock:
    """The clock of a run: read by every thread, and each reading is a switch point. Use it as a `ManualClock`."""

    __slots__ = ("_manual", "_scheduler")

    def __init__(self, scheduler: Scheduler, manual: ManualClock) -> None:
        self._scheduler = scheduler
        self._manual = manual

    def monotonic(self) -> float:
        """Seconds since any fixed moment; never goes back."""
        self._scheduler.pause()
        return self._manual.monotonic()

    def time(self) -> float:
        """Seconds since the epoch, as far as `jump` leaves it so."""
        self._scheduler.pause()
        return self._manual.time()

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass for the calling thread; the others run meanwhile. Raises `ValueError` for less than 0."""
        self._scheduler.sleep(seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back by a negative number."""
        self._manual.jump(seconds)
