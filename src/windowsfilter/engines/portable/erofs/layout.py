"""The bytes of EROFS as our images use them: super block, devices, inodes, chunks, names, xattrs.

Only what Linux 5.16 to 7.2 read alike: 512-byte blocks (tar data is 512-aligned), extended inodes,
chunk-indexed data on extra devices, no compression, no checksum (fsck.erofs 1.8.6 crashes on it
with such small blocks; the image's manifest has a SHA-256). Little-endian throughout.
Source: fs/erofs/erofs_fs.h of Linux 6.12; docs/formats/image.md describes our choices.
Not in scope: where things go (erofs/writer.py), following them (erofs/reader.py).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from windowsfilter.errors import FormatError

BLOCK_BITS = 9
BLOCK = 1 << BLOCK_BITS
PAGE = 4096
SUPER_OFFSET = 1024
SLOT_BITS = 5
"""An inode's number (nid) counts slots of 32 bytes from the metadata area's begin."""

MAX_NAME = 255
MAX_DEVICES = 0xFFFF
MAX_DEVICE_BLOCKS = 0xFFFFFFFF
"""A chunk address has 32 bits: 2 TiB per device. The last value means a hole."""

HOLE = 0xFFFFFFFF
MAX_CHUNK_BITS = 31
_CHUNK_INDEXES = 0x20

_MAGIC = 0xE0F5E1E2
_COMPAT_MTIME = 2
_INCOMPAT_CHUNKED, _INCOMPAT_DEVICES = 4, 8
_INCOMPAT_KNOWN = _INCOMPAT_CHUNKED | _INCOMPAT_DEVICES

_SUPER = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQBB2xIQ8x")
_DEVICE = struct.Struct("<64sII56x")
INODE = struct.Struct("<HHHHQIIIIqII16x")
"""format, xattr count, mode, 0, size, u, number, uid, gid, mtime seconds, ns, links."""
CHUNK = struct.Struct("<HHI")
"""0, device (1 is the first), block on it."""
DIRENT = struct.Struct("<QHBB")
"""nid, offset of the name in its block, type, 0."""
XATTR_HEAD = struct.Struct("<IB7x")
"""name filter (unused), number of shared ids that follow."""
XATTR = struct.Struct("<BBH")
"""length of the name behind its prefix, prefix, length of the value."""

SUPER_SIZE = _SUPER.size
DEVICE_SIZE = _DEVICE.size


class Layout(IntEnum):
    """Where an inode's data is."""

    PLAIN = 0
    INLINE = 2
    CHUNKS = 4


class FileType(IntEnum):
    """Types in directory entries."""

    REGULAR = 1
    DIRECTORY = 2
    CHARACTER = 3
    SYMLINK = 7


class XattrPrefix(IntEnum):
    """Name spaces, which are not spelled out."""

    USER = 1
    TRUSTED = 4
    SECURITY = 6


PREFIX_NAMES = {
    XattrPrefix.USER: b"user.",
    XattrPrefix.TRUSTED: b"trusted.",
    XattrPrefix.SECURITY: b"security.",
}


def inode_format(layout: Layout) -> int:
    """The first field of an extended inode."""
    return 1 | layout << 1


def chunk_bits(size: int) -> int:
    """The smallest chunk, as a power of two of blocks, with which `size` bytes need few chunks."""
    return min(max((size - 1).bit_length() - BLOCK_BITS, 0), MAX_CHUNK_BITS)


def chunk_format(bits: int) -> int:
    """The inode field `u` of a file made of chunks."""
    return _CHUNK_INDEXES | bits


def parse_chunk_format(u: int) -> int:
    """Chunk size in bits over the block size. Raises FormatError for other kinds of chunks."""
    if u & ~0x1F != _CHUNK_INDEXES:
        raise FormatError(f"EROFS chunk format {u:#x} is not supported")
    return u & 0x1F


def blocks_of(size: int) -> int:
    """How many blocks hold `size` bytes."""
    return -(-size // BLOCK)


def xattr_entry(prefix: XattrPrefix, suffix: bytes, value: bytes) -> bytes:
    """One attribute as it stands in an inode or in the shared area, padded."""
    data = XATTR.pack(len(suffix), prefix, len(value)) + suffix + value
    return data + bytes(-len(data) % 4)


def xattr_count(body_size: int) -> int:
    """The inode field that tells the size of its attributes, header included."""
    return (body_size - XATTR_HEAD.size) // 4 + 1 if body_size else 0


def xattr_body_size(count: int) -> int:
    """Undoes `xattr_count`."""
    return XATTR_HEAD.size + (count - 1) * 4 if count else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One extra device: its place in the table is the number that chunks name, from 1."""

    tag: bytes  # up to 64 bytes, NUL-padded
    blocks: int
    unified: int  # its begin in the address space of all devices

    def build(self) -> bytes:
        return _DEVICE.pack(self.tag, self.blocks, self.unified)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises FormatError when `data` is not exactly one slot."""
        if len(data) != _DEVICE.size:
            raise FormatError(f"EROFS device slot of {len(data)} bytes")
        tag, blocks, unified = _DEVICE.unpack(data)
        return cls(tag=tag.rstrip(b"\0"), blocks=blocks, unified=unified)


@dataclass(frozen=True, slots=True, kw_only=True)
class SuperBlock:
    """The super block. Offsets are in blocks unless they say bytes."""

    root_nid: int
    inodes: int
    blocks: int  # of the image file
    meta_block: int
    xattr_block: int
    uuid: bytes
    devices: int
    device_table: int  # in bytes, a multiple of 128

    def build(self) -> bytes:
        incompat = _INCOMPAT_CHUNKED | (_INCOMPAT_DEVICES if self.devices else 0)
        return _SUPER.pack(
            _MAGIC,
            0,  # no checksum
            _COMPAT_MTIME,
            BLOCK_BITS,
            0,
            self.root_nid,
            self.inodes,
            0,
            0,
            self.blocks,
            self.meta_block,
            self.xattr_block,
            self.uuid,
            b"",
            incompat,
            0,
            self.devices,
            self.device_table // DEVICE_SIZE,
            *(0,) * 8,
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read what `build` writes. Raises FormatError for every other kind of EROFS."""
        if len(data) < _SUPER.size:
            raise FormatError("too short for an EROFS super block", offset=SUPER_OFFSET)
        fields = _SUPER.unpack_from(data)
        if fields[0] != _MAGIC:
            raise FormatError("not an EROFS image", offset=SUPER_OFFSET)
        if fields[3] != BLOCK_BITS:
            raise FormatError(f"EROFS blocks of 2**{fields[3]} bytes", offset=SUPER_OFFSET + 12)
        if fields[14] & ~_INCOMPAT_KNOWN:
            raise FormatError(f"EROFS features {fields[14]:#x}", offset=SUPER_OFFSET + 80)
        return cls(
            root_nid=fields[5],
            inodes=fields[6],
            blocks=fields[9],
            meta_block=fields[10],
            xattr_block=fields[11],
            uuid=fields[12],
            devices=fields[16],
            device_table=fields[17] * DEVICE_SIZE,
        )
