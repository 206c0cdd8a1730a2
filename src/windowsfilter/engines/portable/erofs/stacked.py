"""Images stacked as overlayfs stacks them, read without a mount.

A delta image hides names of the images below it with character devices 0:0 and whole directories
with `trusted.overlay.opaque`; directories of one spelling merge. This is how the view of a chain is
read from its images: to make the next delta image, and to compare in tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from windowsfilter.engines.portable.erofs import layout
from windowsfilter.engines.portable.erofs.reader import DirectoryEntry, ErofsImage, Inode
from windowsfilter.engines.portable.erofs.xattrs import (
    ENTRY,
    ENTRY_SIZE,
    ENTRY_VALUE,
    OPAQUE,
    entry_of,
)
from windowsfilter.errors import FormatError
from windowsfilter.ntfs.names import fold

_DIRECTORY = int(layout.FileType.DIRECTORY)
_WHITEOUT = int(layout.FileType.CHARACTER)

Parts = tuple[tuple[int, int], ...]
"""A merged directory: (level, nid) of each directory in it, topmost first."""


class StackedEntry(NamedTuple):
    """One name of the stack, as its topmost image has it."""

    name: bytes
    level: int
    nid: int
    type: int
    parts: Parts
    """Of a directory; () for everything else."""

    @property
    def is_directory(self) -> bool:
        return self.type == _DIRECTORY


class ImageStack:
    """`images` has the topmost first; they stay the caller's to close."""

    def __init__(self, images: Sequence[ErofsImage]) -> None:
        self.images = images
        self.root: Parts = tuple((level, image.root) for level, image in enumerate(images))

    def child(self, parts: Parts, key: bytes) -> StackedEntry | None:
        """The entry of a merged directory whose folded name is `key`."""
        for place, (level, nid) in enumerate(parts):
            found = self.images[level].lookup_folded(nid, key)
            if found is not None:
                return self._merge(found, level, parts[place + 1 :])
        return None

    def listdir(self, parts: Parts) -> list[StackedEntry]:
        """All entries of a merged directory, sorted by the bytes of their names."""
        keys: dict[bytes, None] = {}
        for level, nid in parts:
            keys.update((fold(entry.name), None) for entry in self.images[level].listdir(nid))
        found = (self.child(parts, key) for key in keys)
        return sorted(entry for entry in found if entry is not None)

    def walk(self) -> Iterator[tuple[bytes, StackedEntry]]:
        """(path, entry) of everything, directories before what they hold."""
        stack = [(b"", self.root)]
        while stack:
            above, parts = stack.pop()
            for entry in self.listdir(parts):
                path = above + b"/" + entry.name if above else entry.name
                yield path, entry
                if entry.is_directory:
                    stack.append((path, entry.parts))

    def inode(self, entry: StackedEntry) -> Inode:
        return self.images[entry.level].inode(entry.nid)

    def ref(self, level: int, nid: int) -> tuple[int, int] | None:
        """(layer, record number) that an inode was made from; None for an implied directory."""
        image = self.images[level]
        entry = entry_of(image.xattrs_end(nid, ENTRY_SIZE))
        if entry is not None:
            return entry
        value = image.xattrs(nid).get(ENTRY)
        if value is None:
            return None
        if len(value) != ENTRY_VALUE.size:
            raise FormatError(f"image {image.path}: entry attribute of inode {nid}")
        layer, number = ENTRY_VALUE.unpack(value)
        return layer, number

    def _merge(self, found: DirectoryEntry, level: int, below: Parts) -> StackedEntry | None:
        if found.type == _WHITEOUT:
            return None
        if found.type != _DIRECTORY:
            return StackedEntry(found.name, level, found.nid, found.type, ())
        parts = [(level, found.nid)]
        opaque = self._is_opaque(level, found.nid)
        for lower, nid in below:
            if opaque:
                break
            # Overlayfs merges by exact names: one that was deleted and made again in another
            # spelling has nothing below it.
            other = self.images[lower].lookup(nid, found.name)
            if other is not None:
                if other.type != _DIRECTORY:
                    break
                parts.append((lower, other.nid))
                opaque = self._is_opaque(lower, other.nid)
        return StackedEntry(found.name, level, found.nid, found.type, tuple(parts))

    def _is_opaque(self, level: int, nid: int) -> bool:
        if level == len(self.images) - 1:
            return False
        return self.images[level].xattrs(nid).get(OPAQUE) == b"y"
