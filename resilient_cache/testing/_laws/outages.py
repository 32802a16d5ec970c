"""The laws of a store that fails, is slow, comes back, or is closed."""

from __future__ import annotations

from typing import Final

from .._faces import Attempt, Face, LeftBehind
from .telling import LIFE, Telling, arguments, each_way, told

__all__ = ["OutageLaws"]

ROUNDS: Final = 10
"""Calls of each operation during an outage: an adapter with a breaker of its own may answer after a few errors."""
TRIES: Final = 20
"""Rounds within which an adapter must have found its store again; a connection that broke may cost one each."""
STEADY: Final = 5
"""Rounds that must succeed after the first that does."""
STALLS: Final = 3
"""Calls in a row that must each hold the loop up: a busy machine may do so to one."""


class OutageLaws(Telling):
    """What holds when a store is not well."""

    @each_way
    def test_a_broken_store_is_an_error(self) -> None:
        """A failure is raised, as long as it lasts: never None, never a return that passes for an acknowledgement."""
        with self.opened(self.open) as store, self._broken(store) as known:
            for number in range(ROUNDS):
                calls = [("get", (known,)), *self._calls(store)]
                for operation, args in calls if number == 0 else calls[:4]:  # those for many take as long again
                    self._must_fail(operation, store.attempt(operation, *args, within=self.deadline))

    @each_way
    def test_a_broken_store_is_left_at_the_deadline(self) -> None:
        """A store that fails costs no more than the deadline: no retries beyond it, no longer timeout."""
        with self.opened(self.open) as store, self._broken(store):
            self._left_in_time(store)

    @each_way
    def test_a_store_that_is_back_is_used_again(self) -> None:
        """After an outage the adapter works again by itself, in every operation."""
        self._needs("heal_store")
        with self.opened(self.open) as store:
            with self._broken(store):
                for operation, args in self._calls(store):
                    store.attempt(operation, *args, within=self.deadline)
            failed, tries = self._fails(store), 1
            while failed and tries < TRIES:
                failed, tries = self._fails(store), tries + 1
            assert not failed, f"the store is back, but {failed}"
            for _ in range(STEADY):
                failed = self._fails(store)
                assert not failed, f"the store is back and was used again, but {failed}"

    @each_way
    def test_a_dripping_store_is_left_at_the_deadline(self) -> None:
        """`resilient_cache.deadline.remaining()` bounds the operation as a whole, not each of its reads."""
        with self.opened(self.open_dripping) as store:
            for operation, error in self._left_in_time(store).items():
                assert error is not None, f"{operation} must raise for a reply that does not come in time"

    @each_way
    def test_closed_means_closed(self) -> None:
        """Closing twice is harmless, and a closed adapter raises rather than opens a connection anew."""
        self._needs("close")
        with self.opened(self.open) as store:
            assert hasattr(store.adapter, store.closing), told("close", f"give the adapter {store.closing}()")
            key = self.key("closed")
            store.set(key, b"v", LIFE)
            store.close()
            store.close()
            for operation, args in self._calls(store, key):
                answer = store.attempt(operation, *args)
                assert answer.error is not None, f"{operation} must raise after {store.closing}()"

    def _must_fail(self, operation: str, attempt: Attempt) -> None:
        assert attempt.error is not None, f"{operation} must raise, not return {attempt.answer!r:.60}"
        what = f"{operation} must raise {self.raises.__name__}, not {attempt.error!r:.60}"
        assert isinstance(attempt.error, (self.raises, LeftBehind)), what

    def _fails(self, store: Face) -> str:
        """What fails of a round of all operations; empty when nothing does."""
        key, body = self.key("back"), b"back"
        wanted = {"get": body, "get_many": {key: body}}
        for operation in ("set", "set_many", "get", "get_many", "delete", "delete_many"):
            if operation in store.operations:
                answer, error, *_ = store.attempt(operation, *arguments(operation, key, body))
                if error is not None:
                    return f"{operation} still raises: {error!r}"
                if operation in wanted and answer != wanted[operation]:
                    return f"{operation} gives {answer!r:.60} for what was set"
        return ""

    def _left_in_time(self, store: Face) -> dict[str, Exception | None]:
        """What each operation raised. Fails for one that took longer than its deadline, or held the loop up."""
        errors: dict[str, Exception | None] = {}
        for operation, args in self._calls(store):
            stalls: list[float] = []
            while len(stalls) < STALLS:
                attempt = store.attempt(operation, *args, within=self.deadline)
                what = f"{operation} took {attempt.seconds:.2f} s, with a deadline of {self.deadline:g} s for all of it"
                assert attempt.seconds <= self.deadline + self.slack, what
                errors[operation] = attempt.error
                if attempt.stalled <= self.deadline / 2:
                    break
                stalls.append(attempt.stalled)
            what = f"{operation} must not block the event loop, which stood still for {min(stalls, default=0):.2f} s"
            assert len(stalls) < STALLS, what
        return errors
