"""Making files survive a crash: flush, rename, flush the directory.

Order matters (measured by shutting ext4 and xfs down under it): flushing only the directory leaves
a name with wrong content, flushing only the file leaves no name.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

_SYNC_FILE_RANGE_WRITE = 2


def sync_file(path: Path) -> None:
    """Flush a file's content to the disk."""
    _sync(path, os.O_RDONLY)


def sync_directory(path: Path) -> None:
    """Flush a directory's names to the disk."""
    _sync(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))


def write_file(path: Path, data: bytes) -> None:
    """Replace a file's content: readers and crashes see the old or the new, never a part."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    sync_directory(path.parent)


def publish(directory: Path, target: Path) -> bool:
    """Flush all files of `directory` and rename it to `target`; False if that exists already."""
    for path in directory.iterdir():
        sync_file(path)
    sync_directory(directory)
    try:
        directory.rename(target)
    except OSError:
        if target.is_dir():
            return False
        raise
    sync_directory(target.parent)
    return True


def start_writeback(descriptor: int, offset: int, size: int) -> None:
    """Ask the kernel to start writing a range, so that the final flush has little left to do.

    Only a hint: where the call is missing (not Linux) nothing happens.
    """
    for call in _sync_file_range():
        call(
            ctypes.c_int(descriptor),
            ctypes.c_int64(offset),
            ctypes.c_int64(size),
            ctypes.c_uint(_SYNC_FILE_RANGE_WRITE),
        )


def _sync_file_range() -> Iterator[ctypes._NamedFuncPointer]:
    with contextlib.suppress(AttributeError, OSError, TypeError):
        yield ctypes.CDLL(None).sync_file_range


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
