"""Several stores as one: `Failover(primary, secondary)` and `AsyncFailover`, adapters themselves."""

from ._async_failover import AsyncFailover
from ._sync_failover import Failover

__all__ = ["AsyncFailover", "Failover"]
