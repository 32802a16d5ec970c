"""The laws that hold for an adapter of either colour, and what its author tells a contract about it."""

from .entries import EntryLaws
from .many import ManyLaws
from .outages import OutageLaws
from .telling import CAPABILITIES

__all__ = ["CAPABILITIES", "Laws"]


class Laws(EntryLaws, OutageLaws, ManyLaws):
    """What an adapter's author tells about it, and the laws that hold in both colours."""
