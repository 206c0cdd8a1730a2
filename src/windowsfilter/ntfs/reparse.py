r"""Reparse points: a tag and data that tell Windows to treat a file as something else.

Symbolic links and mount points (junctions are these, too) are taken apart: a *substitute name* that
the kernel follows (`\??\C:\x`) and a *print name* that people see (`C:\x`). All other tags are
carried as they are. Names are `str`; lone surrogates stand for single halves of a pair, since NTFS
takes any 16-bit unit.
Sources: REPARSE_DATA_BUFFER and REPARSE_GUID_DATA_BUFFER (ntifs.h, winnt.h), MS-FSCC 2.1.2; names
of a target as go-winio's reparse.go (EncodeReparsePoint) makes them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from windowsfilter.errors import FormatError

MAX_BUFFER = 16 << 10
"""MAXIMUM_REPARSE_DATA_BUFFER_SIZE, header included."""
RELATIVE = 1
"""Flag of a symbolic link: its substitute name is relative to the link's directory."""
_MICROSOFT = 0x80000000
_NAME_SURROGATE = 0x20000000
_HEADER = struct.Struct("<IHH")  # tag, bytes of data, reserved
_GUID_SIZE = 16  # tags of others carry their owner's GUID behind the header, not counted as data
_NAMES = struct.Struct("<HHHH")  # offset and bytes of the substitute name, then of the print name
_FLAGS = struct.Struct("<I")
_MAX_U16 = 0xFFFF
_NT = "\\??\\"
_UNC = "UNC\\"


class ReparseTag(IntEnum):
    """IO_REPARSE_TAG_*: the tags one meets in images and around them."""

    MOUNT_POINT = 0xA0000003
    SYMLINK = 0xA000000C
    DEDUP = 0x80000013
    NFS = 0x80000014
    WOF = 0x80000017
    WCI = 0x80000018
    WCI_1 = 0x90001018
    CLOUD = 0x9000001A
    APPEXECLINK = 0x8000001B
    PROJFS = 0x9000001C
    LX_SYMLINK = 0xA000001D
    WCI_TOMBSTONE = 0xA000001F
    UNHANDLED = 0x80000020
    PROJFS_TOMBSTONE = 0xA0000022
    AF_UNIX = 0x80000023
    LX_FIFO = 0x80000024
    LX_CHR = 0x80000025
    LX_BLK = 0x80000026
    WCI_LINK = 0xA0000027
    WCI_LINK_1 = 0xA0001027
    DATALESS_CIM = 0xA0000028


_LINK_TAGS = (ReparseTag.SYMLINK, ReparseTag.MOUNT_POINT)


def tag_name(tag: int) -> str:
    """A tag in words, `symlink`, `mount point`, or its number where it has no name here."""
    try:
        return ReparseTag(tag).name.lower().replace("_", " ")
    except ValueError:
        return f"0x{tag:08X}"


def is_name_surrogate(tag: int) -> bool:
    """Whether the file stands for another name, so that walkers of a tree do not descend."""
    return bool(tag & _NAME_SURROGATE)


@dataclass(frozen=True, slots=True)
class ReparsePoint:
    """A whole reparse buffer. `data` is what follows the header, with the GUID of foreign tags."""

    tag: int
    data: bytes
    reserved: int = 0

    @classmethod
    def parse(cls, buffer: bytes, *, at: int = 0) -> Self:
        """The value of exactly one buffer. `at` is its offset, for errors.

        Raises FormatError if its length is not what it says itself, or beyond MAX_BUFFER.
        """
        if len(buffer) < _HEADER.size:
            raise FormatError(f"reparse buffer of {len(buffer)} bytes", offset=at)
        tag, size, reserved = _HEADER.unpack_from(buffer)
        guid = 0 if tag & _MICROSOFT else _GUID_SIZE
        if len(buffer) > MAX_BUFFER:
            raise FormatError(f"reparse buffer of {len(buffer)} bytes", offset=at)
        if len(buffer) != _HEADER.size + guid + size:
            raise FormatError(
                f"reparse data of {size} bytes in a buffer of {len(buffer)}", offset=at + 4
            )
        return cls(tag, bytes(buffer[_HEADER.size :]), reserved)

    def build(self) -> bytes:
        """The buffer. Raises FormatError for data whose length it cannot say.

        Windows takes up to MAX_BUFFER bytes; whether that counts is the caller's question.
        """
        guid = 0 if self.tag & _MICROSOFT else _GUID_SIZE
        size = len(self.data) - guid
        if not 0 <= size <= _MAX_U16:
            raise FormatError(f"reparse data of {len(self.data)} bytes")
        return _HEADER.pack(self.tag, size, self.reserved) + self.data

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link or a mount point, whose names can be told."""
        return self.tag in _LINK_TAGS


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkNames:
    """What the data of a symbolic link or a mount point says."""

    substitute_name: str
    print_name: str
    flags: int = 0
    """Of symbolic links only: RELATIVE."""

    @classmethod
    def parse(cls, point: ReparsePoint, *, at: int = 0) -> Self:
        """The names in a link's data. `at` is the offset of the whole buffer, for errors.

        Raises FormatError for a tag that is no link's, and for names that are not inside.
        """
        if not point.is_link:
            raise FormatError(f"reparse point {tag_name(point.tag)} has no link target", offset=at)
        symlink = point.tag == ReparseTag.SYMLINK
        start = _NAMES.size + (_FLAGS.size if symlink else 0)
        if len(point.data) < start:
            raise FormatError(
                f"reparse data of {len(point.data)} bytes, a {tag_name(point.tag)} has {start}",
                offset=at + _HEADER.size,
            )
        places = _NAMES.unpack_from(point.data)
        flags = _FLAGS.unpack_from(point.data, _NAMES.size)[0] if symlink else 0
        names = []
        for number, (offset, size) in enumerate((places[:2], places[2:])):
            if size % 2 or start + offset + size > len(point.data):
                raise FormatError(
                    f"name of {size} bytes at {offset} in {len(point.data) - start} bytes",
                    offset=at + _HEADER.size + 4 * number,
                )
            raw = point.data[start + offset : start + offset + size]
            names.append(raw.decode("utf-16-le", "surrogatepass"))
        return cls(substitute_name=names[0], print_name=names[1], flags=flags)

    def build(self, tag: int) -> ReparsePoint:
        """The reparse point of a tag; names in the reference's places, NUL behind each."""
        substitute = self.substitute_name.encode("utf-16-le", "surrogatepass")
        shown = self.print_name.encode("utf-16-le", "surrogatepass")
        fixed = _NAMES.size + (_FLAGS.size if tag == ReparseTag.SYMLINK else 0)
        size = fixed + len(substitute) + len(shown) + 4
        if size > _MAX_U16:
            raise FormatError(f"link target too long: reparse data of {size} bytes")
        data = _NAMES.pack(0, len(substitute), len(substitute) + 2, len(shown))
        if tag == ReparseTag.SYMLINK:
            data += _FLAGS.pack(self.flags)
        return ReparsePoint(tag, data + substitute + b"\0\0" + shown + b"\0\0")

    @property
    def target(self) -> str:
        """Where the link leads, as a user would write it: the print name, if there is one."""
        return self.print_name or _printable(self.substitute_name)


def link_names(target: str, *, mount_point: bool = False) -> LinkNames:
    """The names of a link to `target`, as the reference importer makes them."""
    if target.startswith("\\\\?\\"):
        return LinkNames(substitute_name=_NT + target[4:], print_name=target)
    if target.startswith("\\\\"):
        return LinkNames(substitute_name=_NT + _UNC + target[2:], print_name=target)
    if target[1:2] == ":" and target[0].isascii() and target[0].isalpha():
        return LinkNames(substitute_name=_NT + target, print_name=target)
    return LinkNames(
        substitute_name=target, print_name=target, flags=0 if mount_point else RELATIVE
    )


def link_point(target: str, *, mount_point: bool = False) -> ReparsePoint:
    """The reparse point of a symbolic link, or a mount point, to `target`."""
    tag = ReparseTag.MOUNT_POINT if mount_point else ReparseTag.SYMLINK
    return link_names(target, mount_point=mount_point).build(tag)


def link_target(point: ReparsePoint, *, at: int = 0) -> str | None:
    """Where a link leads (`LinkNames.target`); None for a reparse point that is no link."""
    return LinkNames.parse(point, at=at).target if point.is_link else None


def _printable(substitute: str) -> str:
    r"""The name that a user would write for a substitute name: `\??\C:\x` is `C:\x`."""
    if not substitute.startswith(_NT):
        return substitute
    rest = substitute[len(_NT) :]
    if rest[: len(_UNC)].upper() == _UNC:
        return "\\\\" + rest[len(_UNC) :]
    if rest[1:2] == ":" and rest[0].isascii() and rest[0].isalpha():
        return rest
    return "\\\\?\\" + rest
