"""What may leave the cache: `accept`, the policy's own function, is asked at every way out (law L13).

Not only when a value is kept: what was right to give an hour ago may be wrong now, as when a tenant has moved. So
nothing is answered on the shortest way while a cache has such a function, and whoever shares a load asks for himself.
What is refused is a miss. It is dropped and deleted like any entry that may not be served, whichever of the two
functions refused it: the cache's own, which holds for every call, or that of the call's policy, which comes on top.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar, final

from ._local import ABSENT, Local
from ._reporting import LOGGER, Reporter, Seldom
from ._request import Request
from .errors import NoSafeValue
from .events import EntryRefused
from .outcome import Reason, Source
from .policy import CachePolicy

__all__ = ["Screening"]

Accept: TypeAlias = Callable[[str, Any], object]

D = TypeVar("D")

REFUSED: Final = f"refused_{Reason.NOT_ACCEPTED}"


@final
class Screening:
    """The ways out of one cache. Fails closed: a function that raises has refused."""

    __slots__ = ("_local", "_reporter", "_seldom", "own")

    def __init__(self, policy: CachePolicy, reporter: Reporter, local: Local) -> None:
        self.own = policy.accept
        self._local = local
        self._reporter = reporter
        self._seldom = Seldom(60.0)

    def may_peek(self, policy: object) -> bool:
        """Whether a call under `policy`, which has not been checked yet, may be answered on the shortest way."""
        return isinstance(policy, CachePolicy) and policy.accept is None

    def attend(self, request: Request) -> None:
        """Have everything that `request` is given pass the cache's function and that of its policy, where they are."""
        own, of_call = self.own, request.policy.accept
        if own is None and of_call is None:
            return
        functions = [accept for accept in (own, None if of_call is own else of_call) if accept is not None]
        request.screen = partial(self._pass, functions, request.key)

    def recalled(self, request: Request, found: tuple[Source, Any] | None) -> tuple[Source, Any] | None:
        """`found` in memory, if it may leave. What may not is dropped, and so is what cannot stand in either."""
        stand_in = request.stand_in
        if stand_in is not None and not request.lets_out(stand_in.value):
            self._local.forget(request.key, stand_in.stamp)
            request.stand_in = None
        if found is None or found[1] is ABSENT or request.lets_out(found[1]):
            return found
        self._local.forget(request.key, request.stamp)
        request.stamp, request.due = 0, None
        request.reason = Reason.NOT_ACCEPTED
        return None

    def default(self, key: str, default: D) -> D:
        """`default`, if the cache's own function lets it out: None always, for it says that there is nothing.

        Raises `NoSafeValue` else: what the caller would take for an answer is one that must not be given.
        """
        if default is None or self.own is None or self._pass([self.own], key, default):
            return default
        raise NoSafeValue("there is nothing in the cache, and accept refuses the default")

    def _pass(self, functions: Sequence[Accept], key: str, value: object) -> bool:
        if all(self._accepts(accept, key, value) for accept in functions):
            return True
        self._reporter.count(REFUSED)
        self._reporter.tell(EntryRefused(self._reporter.name, Reason.NOT_ACCEPTED))
        return False

    def _accepts(self, accept: Accept, key: str, value: object) -> bool:
        try:
            word = accept(key, value)
            if hasattr(word, "__await__"):  # it is true, and says nothing
                if inspect.iscoroutine(word):
                    word.close()
                raise TypeError("accept must say at once")
            return bool(word)
        except Exception as error:  # noqa: BLE001 - around the policy's function, as around a hook
            self._reporter.count("accept_errors")
            if self._seldom.due(self._local.now()):  # not its text, which may hold the value
                name, kind = self._reporter.name, type(error).__qualname__
                LOGGER.warning("cache %s: accept raised %s; that counts as refused", name, kind)
            return False
