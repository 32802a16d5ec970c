"""Ready-made hooks. They are ordinary users of `resilient_cache.events`."""

from .logging import LoggingHook

__all__ = ["LoggingHook"]
