"""`python -m tests.invalidation`: everything with the library's defaults, written into the docs."""

from __future__ import annotations

from .matrix import write

write()
