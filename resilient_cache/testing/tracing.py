"""Switch points in code that does not ask for them: before its lines, or where CPython itself may switch threads."""

from __future__ import annotations

import dis
import functools
import sys
from collections.abc import Callable
from types import CodeType, FrameType, ModuleType
from typing import Any, Final, TypeAlias

__all__ = ["Trace", "modules_of_the_package", "tracer"]

Trace: TypeAlias = Callable[[FrameType, str, Any], Any]

PACKAGE: Final = __name__.partition(".")[0]

LEFT_OUT: Final = ("testing", "adapters", "metrics", "forking", "locks")
"""The edges, which may hold real locks, and what looks after those."""

CALLS: Final = {"RESUME", "CALL", "CALL_KW", "CALL_FUNCTION_EX"}


def modules_of_the_package() -> list[ModuleType]:
    """The modules that a cache's requests run through, as far as they are imported."""
    found = [module for name, module in sys.modules.items() if name.startswith(f"{PACKAGE}.")]
    return [module for module in found if module.__name__.split(".")[1] not in LEFT_OUT]


def tracer(
    pause: Callable[[], None], files: frozenset[str], *, inside: bool, chosen: Callable[[], bool] = lambda: True
) -> Trace:
    """A trace function that calls `pause` before each line of `files`; `inside`, where CPython may switch instead.

    Only in those functions that are `chosen`: asked once for each.
    """
    traces: dict[CodeType, Trace | None] = {}

    def enter(frame: FrameType, event: str, arg: object) -> Trace | None:
        code = frame.f_code
        if code not in traces:
            traces[code] = trace_of(code) if code.co_filename in files and chosen() else None
        trace = traces[code]
        if inside and trace is not None:
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return trace

    def trace_of(code: CodeType) -> Trace:
        offsets = switch_points(code) if inside else frozenset[int]()

        def trace(frame: FrameType, event: str, arg: object) -> Trace:
            if event == "line" or (event == "opcode" and frame.f_lasti in offsets):
                pause()
            return trace

        return trace

    return enter


@functools.cache
def switch_points(code: CodeType) -> frozenset[int]:
    """The offsets before which CPython looks whether another thread is to run."""
    found: set[int] = set()
    called = False
    for instruction in dis.get_instructions(code):
        if called:
            found.add(instruction.offset)
        called = instruction.opname in CALLS
        if "JUMP_BACKWARD" in instruction.opname and "NO_INTERRUPT" not in instruction.opname:
            found.add(instruction.argval)
    return frozenset(found)
