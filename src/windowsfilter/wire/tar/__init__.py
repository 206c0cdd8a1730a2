"""Tar as Windows layers use it: a strict streaming reader and a byte-exact writer.

`TarReader` is pushed chunks, `read_entries` pulls them from a file object; `TarWriter` writes
what the reference writer would. No file system is touched. Bytes: `docs/formats/tar.md`.
"""

from windowsfilter.wire.tar.entry import (
    BLOCK,
    TYPE_BLOCK_DEVICE,
    TYPE_CHARACTER_DEVICE,
    TYPE_CONTIGUOUS,
    TYPE_DIRECTORY,
    TYPE_FIFO,
    TYPE_FILE,
    TYPE_GLOBAL_PAX,
    TYPE_GNU_SPARSE,
    TYPE_HARD_LINK,
    TYPE_OLD_FILE,
    TYPE_SYMLINK,
    ZERO_TIME_NS,
    Limits,
    Member,
    TarEntry,
)
from windowsfilter.wire.tar.pull import Body, TarSource, read_entries
from windowsfilter.wire.tar.reader import TarReader
from windowsfilter.wire.tar.writer import TarWriter, build_header

__all__ = [
    "BLOCK",
    "TYPE_BLOCK_DEVICE",
    "TYPE_CHARACTER_DEVICE",
    "TYPE_CONTIGUOUS",
    "TYPE_DIRECTORY",
    "TYPE_FIFO",
    "TYPE_FILE",
    "TYPE_GLOBAL_PAX",
    "TYPE_GNU_SPARSE",
    "TYPE_HARD_LINK",
    "TYPE_OLD_FILE",
    "TYPE_SYMLINK",
    "ZERO_TIME_NS",
    "Body",
    "Limits",
    "Member",
    "TarEntry",
    "TarReader",
    "TarSource",
    "TarWriter",
    "build_header",
    "read_entries",
]
