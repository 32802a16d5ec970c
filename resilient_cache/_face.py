"""What both colours have that never waits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import _build
from ._rules import Rules
from ._switch import Bypass, ModeSetting
from .breaker import Breaker
from .entry import Duration
from .outcome import Direction, Mode

__all__ = ["Face"]


class Face:
    """The part of a cache's face that touches no store."""

    __slots__ = ("_adapter", "_rules")

    _adapter: Any
    _rules: Rules

    @property
    def mode(self) -> Mode:
        """The mode in force. Assign a `Mode`, or a function asked at every request; it holds from the next one on."""
        return self._rules.mode()

    @mode.setter
    def mode(self, mode: ModeSetting) -> None:
        self._rules.set_mode(mode)

    def bypassed(self, for_: Duration | None = None) -> Bypass:
        """From this call on, for every user of this cache, `Mode.BYPASS`: until the `with` block ends, or `release()`.

        `for_`: seconds after which it ends in any case, so that nobody has to think of it; nothing needs to run for
        that. They nest and overlap; the last one out ends it. Raises `MisuseError` for less than a millisecond.
        """
        return self._rules.bypass(for_)

    @property
    def circuits(self) -> Mapping[str, Breaker]:
        """The circuits by direction, to be held open or closed by hand: `force_open()`, `force_closed()`."""
        origin = self._rules.loads.origin.circuit
        circuits: dict[str, Breaker] = dict(self._rules.guard.circuits.items())
        return circuits if origin is None else {**circuits, Direction.ORIGIN: origin}

    @property
    def shards(self) -> Mapping[str, Mapping[str, Breaker]]:
        """The same for each shard that was asked, of a store that has them. `circuits` are for keys without a shard."""
        shards = self._rules.guard.shards.items()
        return {name: dict(pair.circuits.items()) for name, pair in shards}

    def stats(self) -> dict[str, int]:
        """The counters at one moment; requests = hits + stale + negative + loads + misses + errors."""
        return _build.stats(self._rules)

    def health(self) -> dict[str, Any]:
        """Circuits, pending invalidations, stuck flights and mode, as plain data. Never touches the store.

        `store`: what the adapter's own `health()` tells, where it has one.
        """
        return _build.health(self._rules, self._adapter)
