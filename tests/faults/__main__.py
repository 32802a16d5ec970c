"""`python -m tests.faults`: every fault in both colours with the library's defaults, written into the docs."""

from __future__ import annotations

import sys

from .matrix import write
from .play import play_alone

if sys.argv[1:2] == ["--alone"]:
    sys.stdout.write(play_alone(*sys.argv[2:5]))
else:
    write()
