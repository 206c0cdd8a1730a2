"""Windows metadata as extended attributes of an image's inodes.

`trusted.windows.sd` (self-relative descriptor), `.attr` (u32), `.crtime` (FILETIME, i64) and
`.entry` (u32 layer, base = 0; u32 record number), little-endian; EAs and reparse points as
shown_metadata.py has them. `.entry` goes everywhere an inode goes, copy-up into a scratch included, so
it leads back from a changed file to its entry. The others are a courtesy to readers: the index is
the truth, so what is too large is left out.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import Enum

from windowsfilter.engines.portable import shown_metadata, windows_metadata
from windowsfilter.engines.portable.erofs import layout
from windowsfilter.engines.portable.index import RecordFlag
from windowsfilter.engines.portable.tree import Indexed

DESCRIPTOR = b"trusted.windows.sd"
ATTRIBUTES = b"trusted.windows.attr"
CREATION = b"trusted.windows.crtime"
ENTRY = b"trusted.windows.entry"
OPAQUE = b"trusted.overlay.opaque"

ENTRY_VALUE = struct.Struct("<II")
"""Layer in the chain, base = 0; record number."""

_PREFIX = b"trusted."
_TRUSTED = layout.XattrPrefix.TRUSTED
_HAS_ATTRIBUTES = int(RecordFlag.ATTRIBUTES)
_HAS_CREATION = int(RecordFlag.CREATION)
_HAS_EXTRAS = int(RecordFlag.EAS | RecordFlag.REPARSE)
_ENTRY_INLINE = struct.Struct("<BBH13sII3x")
_BOTH_INLINE = struct.Struct("<BBH14sq2xBBH13sII3x")
_MAX_SHARED = 65536
_MAX_SHARED_BYTES = 32 << 20
_MAX_HEADS = 65536


ENTRY_HEAD = struct.pack("<BBH", 13, _TRUSTED, ENTRY_VALUE.size) + ENTRY.removeprefix(_PREFIX)
"""How `.entry` begins; nothing but `trusted.overlay.opaque` ever follows it in an inode."""
ENTRY_SIZE = _ENTRY_INLINE.size


def entry_of(end: bytes) -> tuple[int, int] | None:
    """(layer, record number) if an inode's attributes end in `.entry`."""
    if len(end) != ENTRY_SIZE or not end.startswith(ENTRY_HEAD):
        return None
    layer, number = ENTRY_VALUE.unpack_from(end, len(ENTRY_HEAD))
    return layer, number


class Profile(Enum):
    """What an image's inodes carry."""

    FULL = "full"
    ENTRY = "entry"
    """Nothing but `trusted.windows.entry`: smaller and faster to build."""


class XattrTable:
    """Builds the attributes of inodes and the area of values that they share.

    Memory is bounded: once the shared area is full, further values stand in their inodes. The
    area is complete when `size` was called for every inode; `body` may be called after that.
    """

    def __init__(self, layers: Sequence[Indexed], profile: Profile) -> None:
        self._layers = layers
        self._full = profile is Profile.FULL
        self._places: dict[tuple[bytes, bytes], int] = {}
        self._growing = True
        self._heads: dict[tuple[int, int, int], bytes] = {}
        self._opaque = layout.xattr_entry(_TRUSTED, OPAQUE.removeprefix(_PREFIX), b"y")
        self.area = bytearray()
        """Values referred to by offset / 4."""

    def size(self, ref: tuple[int, int], flags: int, attributes: int, sd: int) -> int:
        """Bytes of attributes of an inode that has an entry: `ref` is its layer and record."""
        extra = _BOTH_INLINE.size if flags & _HAS_CREATION and self._full else _ENTRY_INLINE.size
        if flags & _HAS_EXTRAS:
            extra += len(self._extras(ref))
        return len(self._head(ref[0], flags, attributes, sd)) + extra

    def body(
        self, ref: tuple[int, int], flags: int, attributes: int, sd: int, creation: int
    ) -> bytes:
        """The attributes of an inode that has an entry: header, shared ids, own values."""
        layer, number = ref
        head = self._head(layer, flags, attributes, sd)
        if flags & _HAS_EXTRAS:
            head += self._extras(ref)
        if flags & _HAS_CREATION and self._full:
            return head + _BOTH_INLINE.pack(
                14, _TRUSTED, 8, b"windows.crtime", creation,
                13, _TRUSTED, 8, b"windows.entry", layer, number,
            )  # fmt: skip
        return head + _ENTRY_INLINE.pack(13, _TRUSTED, 8, b"windows.entry", layer, number)

    def opaque(self, body: bytes) -> bytes:
        """`body`, which may be empty, of a directory that hides what is below it."""
        return (body or layout.XATTR_HEAD.pack(0, 0)) + self._opaque

    @property
    def opaque_size(self) -> int:
        """How much `opaque` adds to attributes that are not empty."""
        return len(self._opaque)

    def seal(self) -> None:
        """Share nothing new from now on: places have been given out."""
        self._growing = False

    def _head(self, layer: int, flags: int, attributes: int, sd: int) -> bytes:
        """Everything that inodes have in common with others; kept, because they mostly do."""
        key = (layer, sd, attributes if flags & _HAS_ATTRIBUTES else -1)
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) >= _MAX_HEADS:
                self._heads.clear()
            head = self._heads[key] = self._make_head(*key)
        return head

    def _make_head(self, layer: int, sd: int, attributes: int) -> bytes:
        if not self._full:
            return layout.XATTR_HEAD.pack(0, 0)
        shared: list[int] = []
        own = b""
        if attributes >= 0:
            own += self._put(b"windows.attr", struct.pack("<I", attributes), shared)
        if sd:
            value = self._layers[layer].index.value(sd)
            if len(value) <= shown_metadata.MAX_DESCRIPTOR:
                own += self._put(b"windows.sd", value, shared)
        ids = struct.pack(f"<{len(shared)}I", *shared)
        return layout.XATTR_HEAD.pack(0, len(shared)) + ids + own

    def _extras(self, ref: tuple[int, int]) -> bytes:
        """An inode's own EAs and reparse point; hardly any two have the same."""
        if not self._full:
            return b""
        index = self._layers[ref[0]].index
        found = windows_metadata.shown_attributes(index, ref[1], index.record(ref[1]))
        return b"".join(layout.xattr_entry(_TRUSTED, name, value) for name, value in found)

    def _put(self, suffix: bytes, value: bytes, shared: list[int]) -> bytes:
        """Share a value (its id goes to `shared`); where there is no room, the entry to inline."""
        place = self._places.get((suffix, value))
        if place is None:
            entry = layout.xattr_entry(_TRUSTED, suffix, value)
            full = len(self.area) + len(entry) > _MAX_SHARED_BYTES
            if full or not self._growing or len(self._places) >= _MAX_SHARED:
                return entry
            place = self._places[suffix, value] = len(self.area) // 4
            self.area += entry
        shared.append(place)
        return b""
