"""Files that are put in place whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final

from .errors import MisuseError

__all__ = ["check_path", "replacing"]

ABANDONED: Final = 3_600.0
"""Seconds after which a file that is not in place yet belongs to a process that was killed."""


def check_path(path: object) -> str:
    """`path` as text. Raises `MisuseError` for what names no file."""
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if not isinstance(text, str) or not text or "\0" in text or not _can_be_named(text):
        raise MisuseError(f"path must be the name of a file, a str or a pathlib.Path, not {path!r}")
    return text


def _can_be_named(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def replacing(path: str) -> Generator[BinaryIO]:
    """A new file that takes the place of `path` when the block is over; when anything goes wrong, nothing has happened.

    Its bytes are on the disk before its name is: after a crash at any moment the old file is there or the new one.
    Only this user may read it. Raises `OSError`, also where `path` is something else than a file: a device, a folder.
    """
    real = os.path.realpath(path)  # through a link, which stays one
    if os.path.lexists(real) and not os.path.isfile(real):  # a file in place of /dev/null is the end of a machine
        raise OSError(f"not a file: {path}")
    folder, name = os.path.split(real)
    begun = os.path.join(folder, f".{name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        with open(begun, "xb", opener=_privately) as file:
            _sweep(folder, name, os.fstat(file.fileno()).st_mtime - ABANDONED)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(begun, real)
    except BaseException:
        with suppress(OSError):
            os.unlink(begun)
        raise
    with suppress(OSError):  # where a folder cannot be opened its entries need no flushing either
        _flush(folder)


def _privately(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sweep(folder: str, name: str, before: float) -> None:
    """Remove what processes that were killed have left of the same file."""
    with suppress(OSError), os.scandir(folder) as there:
        for other in there:
            if other.name.startswith(f".{name}.") and other.name.endswith(".tmp") and other.stat().st_mtime < before:
                os.unlink(other.path)


def _flush(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
