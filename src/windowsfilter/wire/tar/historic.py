"""What headers of tar's history say beyond ustar, and what the reference makes of global ones.

GNU's headers and Joerg Schilling's `star` have access and change times where ustar has (part of)
its prefix. Source: GNU tar's manual, "Basic Tar Format"; Go's archive/tar (format.go, reader.go).
"""

from __future__ import annotations

from typing import Final

from windowsfilter.errors import FormatError
from windowsfilter.wire.tar.entry import BLOCK, TYPE_GLOBAL_PAX, ZERO_TIME_NS, TarEntry
from windowsfilter.wire.tar.numbers import NS, parse_field, parse_signed, parse_time

GNU: Final = b"ustar  \0"
"""Magic and version of GNU's headers."""
_USTAR: Final = b"ustar\0"
_STAR_END: Final = b"tar\0"
_PREFIX: Final = slice(345, 500)
_STAR_PREFIX: Final = slice(345, 476)
_GNU_ATIME: Final = slice(345, 357)
_GNU_CTIME: Final = slice(357, 369)


def apply_gnu(entry: TarEntry, block: bytes, at: int, *, as_reference: bool) -> None:
    """GNU's headers have atime and ctime where ustar has the prefix; records win."""
    try:
        atime, ctime = block[_GNU_ATIME], block[_GNU_CTIME]
        if entry.atime_ns is None and atime[0]:
            entry.atime_ns = parse_field(atime, "atime", at + 345) * NS
        if entry.ctime_ns is None and ctime[0]:
            entry.ctime_ns = parse_field(ctime, "ctime", at + 357) * NS
    except FormatError:
        # Go before 1.8 could write a prefix into a GNU header.
        prefix = block[_PREFIX].partition(b"\0")[0]
        if not prefix.isascii():
            if not as_reference:
                raise
            prefix = b""
        for what in ("atime", "ctime"):
            if not entry.records.get(what.encode()):
                setattr(entry, f"{what}_ns", None)
        if prefix and not entry.records.get(b"path"):
            entry.name = prefix + b"/" + entry.name


def apply_star(entry: TarEntry, block: bytes, at: int) -> None:
    """Times and the shorter prefix of a header that `star` marked as its own; records win."""
    if block[257:263] != _USTAR or block[508:] != _STAR_END:
        return
    for what, start in (("atime", 476), ("ctime", 488)):
        ns = parse_field(block[start : start + 12], what, at + start) * NS
        if not entry.records.get(what.encode()):
            setattr(entry, f"{what}_ns", ns)
    if not entry.records.get(b"path"):
        prefix = block[_STAR_PREFIX].partition(b"\0")[0]
        name = block[:100].partition(b"\0")[0]
        entry.name = prefix + b"/" + name if prefix else name


def check_devices(block: bytes, at: int) -> None:
    """Raises FormatError for device numbers that are none, of whatever type the entry is."""
    if block[257:262] == b"ustar":
        parse_field(block[329:337], "devmajor", at + 329)
        parse_field(block[337:345], "devminor", at + 337)


def global_entry(name: bytes, records: dict[bytes, bytes], body: bytes, at: int) -> TarEntry:
    """A global header, its body at `at`, as the reference sees it: an entry without a time.

    Where a record is wrong that stands for a field, the reference stops and has none of them.
    """
    try:
        for key in (b"mtime", b"atime", b"ctime"):
            if value := records.get(key):
                parse_time(value, key.decode(), at)
        for key in (b"size", b"uid", b"gid"):
            if value := records.get(key):
                parse_signed(value, key.decode(), at)
        name = records.get(b"path") or name
    except FormatError:
        records = {}
    return TarEntry(
        name, b"", TYPE_GLOBAL_PAX, 0, 0, 0, 0, 0, ZERO_TIME_NS, None, None,
        records, body, at - BLOCK, at + len(body),
    )  # fmt: skip
