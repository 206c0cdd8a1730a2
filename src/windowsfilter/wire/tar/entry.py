"""One member of a tar as its headers describe it, and the limits a reader keeps to.

In scope: values and words about them. Reading is `reader.py`, writing `writer.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

BLOCK: Final = 512
ZERO_BLOCK: Final = bytes(BLOCK)
ZERO_TIME_NS: Final = -62_135_596_800 * 1_000_000_000
"""Go's zero time, 0001-01-01 UTC: what the reference has where a tar gives no time."""

# Type flags (POSIX ustar, pax and GNU), as the byte value in the header.
TYPE_OLD_FILE: Final = 0  # NUL: before POSIX, and Docker 1.12's whiteouts
TYPE_FILE: Final = ord("0")
TYPE_HARD_LINK: Final = ord("1")
TYPE_SYMLINK: Final = ord("2")
TYPE_CHARACTER_DEVICE: Final = ord("3")
TYPE_BLOCK_DEVICE: Final = ord("4")
TYPE_DIRECTORY: Final = ord("5")
TYPE_FIFO: Final = ord("6")
TYPE_CONTIGUOUS: Final = ord("7")
TYPE_PAX: Final = ord("x")
TYPE_GLOBAL_PAX: Final = ord("g")
TYPE_GNU_LONG_NAME: Final = ord("L")
TYPE_GNU_LONG_LINK: Final = ord("K")
TYPE_GNU_SPARSE: Final = ord("S")

# Offsets are signed 64-bit in every system call that will ever see them.
MAX_OFFSET: Final = (1 << 63) - 1

_SHOWN_NAME = 200  # characters of a name in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a reader refuses to hold in memory, whatever the headers claim."""

    max_pax: int = 16 << 20
    """Bytes of one extended header; an SD and 64 KiB of EAs in base64 take 0.2 MB."""
    max_records: int = 16384
    """Records of one extended header; 64 KiB hold at most some 7,000 EAs."""
    max_name: int = 128 << 10
    """Bytes of a name or link target; NTFS ends at 32,767 UTF-16 units, 98,301 bytes."""
    max_sparse_pieces: int = 1 << 18
    """Data pieces of one sparse file, 32 MB of Python numbers."""
    max_entries: int = 1 << 24
    """Entries of one tar; whoever indexes them may want a lower one."""


class TarEntry:
    """One member. Plain attributes and a plain `__init__`: a layer has 150,000 of these."""

    __slots__ = (
        "atime_ns",
        "ctime_ns",
        "data_offset",
        "gid",
        "header_offset",
        "linkname",
        "mode",
        "mtime_ns",
        "name",
        "pax_raw",
        "records",
        "size",
        "sparse",
        "stored_size",
        "typeflag",
        "uid",
    )

    name: bytes
    """As the tar has it: a trailing `/` stays. PAX and GNU long names are applied."""
    linkname: bytes
    typeflag: int
    """The byte in the header, NUL included; `kind` is the normalised one."""
    mode: int
    uid: int
    gid: int
    size: int
    """Logical bytes, holes included; 0 for links, directories and devices."""
    stored_size: int
    """Bytes in the tar from `data_offset` on."""
    mtime_ns: int
    """Nanoseconds since 1970, as are the others."""
    atime_ns: int | None
    ctime_ns: int | None
    records: dict[bytes, bytes]
    """PAX records in force, global ones included; the last of a key wins."""
    pax_raw: bytes
    """Body of this entry's own extended header, exactly; empty if it has none."""
    header_offset: int
    """First byte of the entry's first header block, extended and long-name ones included."""
    data_offset: int
    """First byte of the data; behind the map that sparse format 1.0 puts in front."""
    sparse: tuple[tuple[int, int], ...] | None
    """(offset in the file, length) of the pieces that lie one after another from
    `data_offset`; empty for one single hole; None for a file that is stored whole."""

    def __init__(
        self,
        name: bytes,
        linkname: bytes,
        typeflag: int,
        mode: int,
        uid: int,
        gid: int,
        size: int,
        stored_size: int,
        mtime_ns: int,
        atime_ns: int | None,
        ctime_ns: int | None,
        records: dict[bytes, bytes],
        pax_raw: bytes,
        header_offset: int,
        data_offset: int,
        sparse: tuple[tuple[int, int], ...] | None = None,
    ) -> None:
        self.name = name
        self.linkname = linkname
        self.typeflag = typeflag
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.size = size
        self.stored_size = stored_size
        self.mtime_ns = mtime_ns
        self.atime_ns = atime_ns
        self.ctime_ns = ctime_ns
        self.records = records
        self.pax_raw = pax_raw
        self.header_offset = header_offset
        self.data_offset = data_offset
        self.sparse = sparse

    @property
    def path(self) -> bytes:
        """`name` without leading `./` and trailing `/`."""
        name = self.name
        while name.startswith(b"./"):
            name = name[2:].lstrip(b"/")
        return name.rstrip(b"/")

    @property
    def kind(self) -> int:
        """The type flag with its historic spellings folded into FILE and DIRECTORY."""
        flag = self.typeflag
        if flag == TYPE_OLD_FILE:
            return TYPE_DIRECTORY if self.name.endswith(b"/") else TYPE_FILE
        if flag in (TYPE_CONTIGUOUS, TYPE_GNU_SPARSE):
            return TYPE_FILE
        return flag

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TarEntry):
            return NotImplemented
        return all(getattr(self, slot) == getattr(other, slot) for slot in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (
            f"<TarEntry {shown(self.name)!r} type {self.typeflag:#x}"
            f" size {self.size} at {self.header_offset}>"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What a writer is told about one member. Times are nanoseconds since 1970."""

    name: bytes
    typeflag: int = TYPE_FILE
    size: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0
    linkname: bytes = b""
    mtime_ns: int = 0
    atime_ns: int | None = None
    ctime_ns: int | None = None
    records: Mapping[bytes, bytes] = field(default_factory=dict)
    """Further PAX records; `path`, `linkpath`, `size` and the times are added as needed."""
    pax: bool = True
    """False is the reference's "format unspecified", which it uses for whiteouts: plain
    ustar where that can hold the member, mtime in whole seconds, no atime and ctime."""


def shown(name: bytes) -> str:
    """A name for a message: decoded, never raising, cut when it is very long."""
    text = name[: 4 * _SHOWN_NAME].decode("utf-8", "backslashreplace")
    return text if len(text) <= _SHOWN_NAME else text[:_SHOWN_NAME] + "…"
