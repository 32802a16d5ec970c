"""A store's reply that tells whoever waits for it at once, and not one turn of the event loop later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, final

__all__ = ["Reply"]


@final
class Reply(asyncio.Future[Any]):
    """A future that calls `at_once`, if it is set, when it is done: a done callback takes a turn of the loop, 4 us.

    Only its maker ends it, by `give`; anybody may cancel it.
    """

    at_once: Callable[[], object] | None = None

    def give(self, value: object, error: Exception | None) -> None:
        """End it with `value`, or with `error` if there is one."""
        if error is None:
            self.set_result(value)
        else:
            self.set_exception(error)
        self._tell()

    def cancel(self, msg: Any = None) -> bool:
        """As a future."""
        cancelled = super().cancel(msg)
        if cancelled:
            self._tell()
        return cancelled

    def _tell(self) -> None:
        if self.at_once is not None:
            self.at_once()
