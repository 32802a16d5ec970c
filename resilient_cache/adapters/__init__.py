"""Adapters: each speaks to one kind of store, in bytes, and raises when the store fails.

Those here need nothing but Python; the others live in their own modules, named after the store, and import its client
only when they are used: `resilient_cache.adapters.redis`.
"""

from __future__ import annotations

from .functions import from_functions
from .mapping import AsyncMappingAdapter, MappingAdapter

__all__ = ["AsyncMappingAdapter", "MappingAdapter", "from_functions"]
