"""Reads our EROFS images without mounting them: names, inodes, attributes, link targets.

Lazy: only the blocks on the way are read. Hostile images are refused, never followed out of the
file: every place and length is checked before use, and raises FormatError with its offset.
Only what erofs/writer.py and the same subset of mkfs.erofs produce; no compression, no compact
inodes. File data is not here: `extents` says where it is.
"""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from windowsfilter.engines.portable.erofs import layout
from windowsfilter.errors import FormatError
from windowsfilter.ntfs.names import fold

# Reads are scattered: larger windows would mostly copy what nobody asks for.
_WINDOW_BITS = 13
_WINDOW = 1 << _WINDOW_BITS
_MAX_WINDOWS = 2048
_MAX_FOLDED = 100_000  # names kept, of all directories together
_MAX_LINK = 4096
_MAX_DEPTH = 4096
_EXTENDED = 1
_WHITEOUT = int(layout.FileType.CHARACTER)
_DIRECTORY_FORMATS = (
    layout.inode_format(layout.Layout.PLAIN),
    layout.inode_format(layout.Layout.INLINE),
)


class DirectoryEntry(NamedTuple):
    """One name in a directory."""

    name: bytes
    nid: int
    type: int
    """layout.FileType"""


_Entry = tuple[bytes, int, int]
"""A DirectoryEntry before anybody asked for it."""


class _Directory(NamedTuple):
    """Where a directory's blocks are: `blocks` from block `u` on, the rest at byte `tail_at`."""

    at: int
    size: int
    u: int
    blocks: int
    tail_at: int


class Extent(NamedTuple):
    """A run of file data. `device` counts from 1 as in `ErofsImage.devices`; 0 is a hole."""

    device: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Inode:
    """What `stat` shows, and where the rest is."""

    nid: int
    mode: int
    size: int
    links: int
    uid: int
    gid: int
    mtime_ns: int
    layout: layout.Layout
    u: int
    xattrs_at: int
    xattrs_size: int

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_whiteout(self) -> bool:
        """A character device 0:0, by which overlayfs hides a name."""
        return stat.S_ISCHR(self.mode) and self.u == 0

    @property
    def tail_at(self) -> int:
        return self.xattrs_at + self.xattrs_size


class ErofsImage:
    """An open image. Close it, or use `with`."""

    def __init__(self, path: Path) -> None:
        """Raises FormatError for anything but an image of ours, OSError as `open` does."""
        self.path = path
        self._windows: OrderedDict[int, bytes] = OrderedDict()
        self._folded: dict[int, dict[bytes, _Entry]] = {}
        self._folded_count = 0
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._size = os.fstat(self._descriptor).st_size
            head = self._read(layout.SUPER_OFFSET, layout.SUPER_SIZE)
            self.super = layout.SuperBlock.parse(head)
            self.devices = self._read_devices()
        except BaseException:
            os.close(self._descriptor)
            raise
        self._base = self.super.meta_block << layout.BLOCK_BITS
        self.root = self.super.root_nid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file; may be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def inode(self, nid: int) -> Inode:
        """The inode with this number."""
        at = self._base + (nid << layout.SLOT_BITS)
        fields = layout.INODE.unpack(self._read(at, layout.INODE.size))
        form, count, mode, _, size, u, _, uid, gid, seconds, nanoseconds, links = fields
        kind = form >> 1
        if not form & _EXTENDED or kind not in (0, 2, 4) or nanoseconds >= 10**9:
            raise FormatError(f"EROFS inode {nid} of format {form:#x}", offset=at)
        return Inode(
            nid=nid,
            mode=mode,
            size=size,
            links=links,
            uid=uid,
            gid=gid,
            mtime_ns=seconds * 10**9 + nanoseconds,
            layout=layout.Layout(kind),
            u=u,
            xattrs_at=at + layout.INODE.size,
            xattrs_size=layout.xattr_body_size(count),
        )

    def listdir(self, nid: int) -> list[DirectoryEntry]:
        """A directory's entries without `.` and `..`, sorted by the bytes of their names."""
        return [DirectoryEntry(*entry) for entry in self._all(nid) if entry[0] not in (b".", b"..")]

    def lookup(self, nid: int, name: bytes) -> DirectoryEntry | None:
        """The entry of exactly this name, by binary search over the directory's blocks."""
        place = self._directory(nid)
        low, high = 0, layout.blocks_of(place.size)
        while high - low > 1:
            middle = (low + high) // 2
            if self._entries(place, middle)[0][0] <= name:
                low = middle
            else:
                high = middle
        if low < high:
            for entry in self._entries(place, low):
                if entry[0] == name:
                    return DirectoryEntry(*entry)
        return None

    def lookup_folded(self, nid: int, key: bytes) -> DirectoryEntry | None:
        """The entry whose folded name is `key`; the directory's names are kept for the next."""
        names = self._folded.get(nid)
        if names is None:
            if self._folded_count > _MAX_FOLDED:
                self._folded.clear()
                self._folded_count = 0
            names = self._folded[nid] = {}
            for entry in self._all(nid):
                folded = fold(entry[0])
                # Deleted and made again in another spelling: the new name, not the whiteout.
                if entry[2] != _WHITEOUT or folded not in names:
                    names[folded] = entry
            self._folded_count += len(names)
        found = None if key in (b".", b"..") else names.get(key)
        return None if found is None else DirectoryEntry(*found)

    def find(self, path: bytes) -> int | None:
        """The inode number at a `/`-separated path, exact spelling, links not followed."""
        nid = self.root
        for leaf in path.split(b"/"):
            if leaf:
                entry = self.lookup(nid, leaf) if self.inode(nid).is_directory else None
                if entry is None:
                    return None
                nid = entry.nid
        return nid

    def walk(self) -> Iterator[tuple[bytes, DirectoryEntry]]:
        """(path, entry) of everything, directories before what they hold."""
        stack = [(b"", self.root, 0)]
        while stack:
            above, nid, depth = stack.pop()
            if depth > _MAX_DEPTH:
                raise FormatError(f"EROFS directories nest deeper than {_MAX_DEPTH}")
            for entry in self.listdir(nid):
                path = above + b"/" + entry.name if above else entry.name
                yield path, entry
                if entry.type == layout.FileType.DIRECTORY:
                    stack.append((path, entry.nid, depth + 1))

    def readlink(self, nid: int) -> bytes:
        """The target of a symbolic link, as a mount would give it."""
        inode = self.inode(nid)
        if not stat.S_ISLNK(inode.mode) or inode.size > _MAX_LINK:
            raise FormatError(f"EROFS inode {nid} is no link", offset=inode.xattrs_at)
        if inode.layout is layout.Layout.INLINE:
            return self._read(inode.tail_at, inode.size)
        return self._read(inode.u << layout.BLOCK_BITS, inode.size)

    def xattrs(self, nid: int) -> dict[bytes, bytes]:
        """Full attribute name -> value."""
        inode = self.inode(nid)
        if not inode.xattrs_size:
            return {}
        body = self._read(inode.xattrs_at, inode.xattrs_size)
        shared = layout.XATTR_HEAD.unpack_from(body)[1]
        found = {}
        for number in range(shared):
            place = layout.XATTR_HEAD.size + 4 * number
            if place + 4 > len(body):
                raise FormatError(f"EROFS inode {nid}: shared ids", offset=inode.xattrs_at)
            at = self.super.xattr_block * layout.BLOCK
            at += 4 * int.from_bytes(body[place : place + 4], "little")
            size, prefix, length = layout.XATTR.unpack(self._read(at, layout.XATTR.size))
            data = self._read(at + layout.XATTR.size, size + length)
            found[self._xattr_name(prefix, data[:size], at)] = data[size:]
        at = layout.XATTR_HEAD.size + 4 * shared
        while at + layout.XATTR.size <= len(body):
            size, prefix, length = layout.XATTR.unpack_from(body, at)
            begin, end = at + layout.XATTR.size, at + layout.XATTR.size + size + length
            if end > len(body):
                raise FormatError(f"EROFS inode {nid}: attributes", offset=inode.xattrs_at + at)
            if not size and not prefix and not length:
                break
            name = self._xattr_name(prefix, body[begin : begin + size], inode.xattrs_at + at)
            found[name] = body[begin + size : end]
            at = (end + 3) & ~3
        return found

    def xattrs_end(self, nid: int, size: int) -> bytes:
        """The last `size` bytes of an inode's own attributes, or as many as there are."""
        at = self._base + (nid << layout.SLOT_BITS) + layout.INODE.size
        count = int.from_bytes(self._read(at - layout.INODE.size + 2, 2), "little")
        body = layout.xattr_body_size(count)
        return self._read(at + max(body - size, 0), min(size, body))

    def extents(self, nid: int) -> list[Extent]:
        """Where a file's bytes are, in order."""
        inode = self.inode(nid)
        if not inode.size:
            return []
        if not stat.S_ISREG(inode.mode) or inode.layout is not layout.Layout.CHUNKS:
            raise FormatError(f"EROFS inode {nid} has no chunks", offset=inode.xattrs_at)
        chunk = layout.BLOCK << layout.parse_chunk_format(inode.u)
        count = -(-inode.size // chunk)
        at = (inode.tail_at + 7) & ~7
        found = []
        for number, fields in enumerate(
            layout.CHUNK.iter_unpack(self._read(at, count * layout.CHUNK.size))
        ):
            _, device, block = fields
            size = min(chunk, inode.size - number * chunk)
            if block == layout.HOLE:
                found.append(Extent(0, 0, size))
            elif not 0 < device <= len(self.devices):
                raise FormatError(f"EROFS inode {nid}: device {device}", offset=at)
            else:
                found.append(Extent(device, block << layout.BLOCK_BITS, size))
        return found

    # -- private ------------------------------------------------------------------------------

    def _read_devices(self) -> list[layout.Device]:
        size = layout.DEVICE_SIZE
        table = self._read(self.super.device_table, self.super.devices * size)
        return [layout.Device.parse(table[at : at + size]) for at in range(0, len(table), size)]

    def _directory(self, nid: int) -> _Directory:
        at = self._base + (nid << layout.SLOT_BITS)
        form, count, mode, _, size, u, *_ = layout.INODE.unpack(self._read(at, layout.INODE.size))
        if not stat.S_ISDIR(mode) or form not in _DIRECTORY_FORMATS or size > self._size:
            raise FormatError(f"EROFS inode {nid} is no directory", offset=at)
        tail_at = at + layout.INODE.size + layout.xattr_body_size(count)
        if form == _DIRECTORY_FORMATS[0]:
            return _Directory(at, size, u, layout.blocks_of(size), 0)
        return _Directory(at, size, u, layout.blocks_of(size) - 1, tail_at)

    def _all(self, nid: int) -> list[_Entry]:
        place = self._directory(nid)
        if place.size <= layout.BLOCK:
            return self._entries(place, 0) if place.size else []
        found = []
        for number in range(layout.blocks_of(place.size)):
            found += self._entries(place, number)
        return found

    def _entries(self, place: _Directory, number: int) -> list[_Entry]:
        """The entries of one block, at least one. Offsets of names rise from entry to entry."""
        size = min(layout.BLOCK, place.size - number * layout.BLOCK)
        if number < place.blocks:
            block = self._read((place.u + number) << layout.BLOCK_BITS, size)
        else:
            block = self._read(place.tail_at, size)
        fixed = layout.DIRENT.size
        first = int.from_bytes(block[8:10], "little")
        if first < fixed or first % fixed or first > len(block):
            raise FormatError("EROFS directory without entries", offset=place.at)
        fields = list(layout.DIRENT.iter_unpack(block[:first]))
        ends = [field[1] for field in fields[1:]]
        ends.append(len(block))
        found = []
        for (nid, begin, kind, _), end in zip(fields, ends, strict=True):
            if begin >= end:
                raise FormatError("EROFS directory with an empty name", offset=place.at)
            found.append((block[begin:end], nid, kind))
        if size == layout.BLOCK:  # only the last name of a full block is followed by padding
            name, nid, kind = found[-1]
            found[-1] = (name.rstrip(b"\0"), nid, kind)
        return found

    def _xattr_name(self, prefix: int, suffix: bytes, at: int) -> bytes:
        try:
            return layout.PREFIX_NAMES[layout.XattrPrefix(prefix)] + suffix
        except ValueError:
            raise FormatError(f"EROFS attribute prefix {prefix}", offset=at) from None

    def _read(self, at: int, size: int) -> bytes:
        if at < 0 or size < 0 or at + size > self._size:
            raise FormatError(f"EROFS image ends before {size} bytes", offset=at)
        window, begin = at >> _WINDOW_BITS, at & (_WINDOW - 1)
        if begin + size > _WINDOW:
            return self._pread(at, size)
        data = self._windows.get(window)
        if data is None:
            start = window << _WINDOW_BITS
            data = self._pread(start, min(_WINDOW, self._size - start))
            self._windows[window] = data
            if len(self._windows) > _MAX_WINDOWS:
                self._windows.popitem(last=False)
        return data[begin : begin + size]

    def _pread(self, at: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, at)
        if len(data) != size:
            raise FormatError("EROFS image shrank while it was read", offset=at + len(data))
        return data
