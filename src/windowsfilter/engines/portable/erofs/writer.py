"""Writes a merged tree as an EROFS image whose file data stays in the layers' blobs.

Two sweeps over the entries, in the order of the records: the first gives every inode its place, the
second writes. Between them only two numbers per name are kept, so a million entries cost megabytes.
The same tree gives the same bytes. Layout and limits: docs/formats/image.md, erofs/layout.py.
"""

from __future__ import annotations

import stat
from array import array
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from windowsfilter.engines.portable.erofs import layout
from windowsfilter.engines.portable.erofs.xattrs import Profile, XattrTable
from windowsfilter.engines.portable.index import Kind, iter_records
from windowsfilter.engines.portable.shown import DIRECTORY_MODE, PRIVATE_MODE, permissions
from windowsfilter.engines.portable.tree import Indexed
from windowsfilter.errors import FormatError, LimitExceeded
from windowsfilter.ntfs.filetime import UNIX_EPOCH

FORMAT_VERSION = 2
"""Names the choices of this module: part of the key of every image."""

_DIRECTORY = int(Kind.DIRECTORY)
_FILE = int(Kind.FILE)
_HARD_LINK = int(Kind.HARD_LINK)
_WHITEOUT = int(Kind.WHITEOUT)

_BLOCK_MASK = layout.BLOCK - 1
_TICKS = 10_000_000
_NONE = 0xFFFFFFFF
_FLUSH_BYTES = 1 << 20
_DIRENT_FIXED = layout.DIRENT.size
_CHUNK_MAX = layout.BLOCK << layout.MAX_CHUNK_BITS
# Where most of a layer's records are in use, all of them are read in order; else one by one.
_DENSE = 8

_TYPES = {
    _DIRECTORY: (stat.S_IFDIR, layout.FileType.DIRECTORY),
    _FILE: (stat.S_IFREG, layout.FileType.REGULAR),
    _WHITEOUT: (stat.S_IFCHR, layout.FileType.CHARACTER),
    int(Kind.SYMLINK): (stat.S_IFLNK, layout.FileType.SYMLINK),
    int(Kind.JUNCTION): (stat.S_IFLNK, layout.FileType.SYMLINK),
}
_PADDING = [bytes(count) for count in range(layout.BLOCK + 64)]

type_of_kind = {kind: int(kinds[1]) for kind, kinds in _TYPES.items()}


class Source(Protocol):
    """What an image is made of; slot 0 is the root directory. ShownTree's names, Tree's numbers."""

    @property
    def layers(self) -> Sequence[Indexed]: ...
    @property
    def kinds(self) -> Sequence[int]:
        """`Kind` of each slot; WHITEOUT where a delta image hides a name of its parent."""

    @property
    def opaque(self) -> Container[int]:
        """Directories that hide the parent image's of the same name."""

    def directories(self) -> Iterator[int]:
        """Every directory that is reachable, the root included."""

    def kids(self, slot: int, /) -> tuple[list[bytes], list[int]]:
        """Names, as shown, and slots of a directory's entries."""

    def parent(self, slot: int) -> int:
        """The directory above; the root is above itself."""

    def inode(self, slot: int) -> int:
        """The slot that carries a hard link's content."""

    def ref(self, slot: int, /) -> tuple[int, int] | None:
        """(layer, record number) of an inode; None where there is no entry."""

    def readlink(self, slot: int, /) -> bytes:
        """The target that a mount shows."""


@dataclass(frozen=True, slots=True)
class Data:
    """A file that an image points into: layer (base = 0) and 0 for its blob, 1 for its spill."""

    layer: int
    device: int


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What was written. `devices` must be given to the kernel in this order."""

    size: int
    inodes: int
    devices: tuple[Data, ...]


def write_image(
    source: Source,
    out: BinaryIO,
    *,
    uuid: bytes,
    profile: Profile = Profile.FULL,
    private: bool = False,
) -> ImageInfo:
    """Write the image of `source` to the seekable, empty file `out`.

    `uuid` has 16 bytes; overlayfs wants one that is not null. In a `private` image only the owner
    gets past the root of either view. Raises LimitExceeded for data beyond
    what EROFS can address, FormatError for data that is not at a 512-byte boundary.
    """
    return _Writer(source, out, profile, private=private).run(uuid)


def write_empty_image(out: BinaryIO) -> None:
    """Write the image of an empty directory: what it takes to see whether images can be mounted."""
    write_image(_Empty(), out, uuid=bytes(16))


class _Empty:
    layers: Sequence[Indexed] = ()
    kinds = bytes([_DIRECTORY])
    opaque: Container[int] = ()

    def directories(self) -> Iterator[int]:
        yield 0

    def kids(self, _: int) -> tuple[list[bytes], list[int]]:
        return [], []

    def parent(self, slot: int) -> int:
        return slot

    def inode(self, slot: int) -> int:
        return slot

    def ref(self, _: int) -> None:
        return None

    def readlink(self, _: int) -> bytes:
        return b""


class _Sink:
    """Writes one region of the file front to back, in large pieces."""

    def __init__(self, out: BinaryIO, at: int) -> None:
        self._out = out
        self._flushed = at
        self._pending: list[bytes] = []
        self._bytes = 0

    @property
    def at(self) -> int:
        return self._flushed + self._bytes

    def put(self, data: bytes) -> None:
        self._pending.append(data)
        self._bytes += len(data)
        if self._bytes >= _FLUSH_BYTES:
            self.flush()

    def pad_to(self, at: int) -> None:
        gap = at - self._flushed - self._bytes
        if gap:
            self.put(_PADDING[gap])

    def flush(self) -> None:
        self._out.seek(self._flushed)
        self._out.write(b"".join(self._pending))
        self._flushed += self._bytes
        self._pending, self._bytes = [], 0


class _Writer:
    def __init__(self, source: Source, out: BinaryIO, profile: Profile, *, private: bool) -> None:
        self._source = source
        self._private = private
        self._out = out
        self._kinds = source.kinds
        self._xattrs = XattrTable(source.layers, profile)
        # Two numbers per slot: names of the inode (0: not an inode, or gone), and its place.
        self._links = array("I", bytes(4 * len(source.kinds)))
        self._nids = array("I", [_NONE]) * len(source.kinds)
        # By layer * 2 + device (plain ints: they are asked for once per file).
        self._extents: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        self._inodes = 0

    def run(self, uuid: bytes) -> ImageInfo:
        self._count_links()
        order = _Order(self._source, self._links)
        meta_size = self._place_all(order)
        self._xattrs.seal()
        self._number_devices()
        table = layout.SUPER_OFFSET + layout.SUPER_SIZE
        xattr_block = layout.blocks_of(table + layout.DEVICE_SIZE * len(self._numbers))
        meta_block = xattr_block + layout.blocks_of(len(self._xattrs.area))
        data_block = meta_block + layout.blocks_of(meta_size)
        end = self._write_all(order, meta_block, data_block)
        size = -(-end // layout.PAGE) * layout.PAGE
        block = layout.SuperBlock(
            root_nid=self._nids[0],
            inodes=self._inodes,
            blocks=size >> layout.BLOCK_BITS,
            meta_block=meta_block,
            xattr_block=xattr_block,
            uuid=uuid,
            devices=len(self._numbers),
            device_table=table,
        )
        self._out.seek(0)
        head = bytes(layout.SUPER_OFFSET) + block.build() + self._device_table(block.blocks)
        self._out.write(head.ljust(xattr_block * layout.BLOCK, b"\0"))
        self._out.write(self._xattrs.area)
        self._out.truncate(size)
        devices = tuple(Data(data >> 1, data & 1) for data in self._numbers)
        return ImageInfo(size, self._inodes, devices)

    # -- first sweep --------------------------------------------------------------------------

    def _count_links(self) -> None:
        links, kinds, inode = self._links, self._kinds, self._source.inode
        links[0] = 2
        for directory in self._source.directories():
            subdirectories = 0
            for slot in self._source.kids(directory)[1]:
                kind = kinds[slot]
                if kind == _DIRECTORY:
                    subdirectories += 1
                    links[slot] += 2
                elif kind == _HARD_LINK:
                    links[inode(slot)] += 1
                else:
                    links[slot] += 1
            links[directory] += subdirectories

    def _place_all(self, order: _Order) -> int:
        """Give each inode its place; returns the bytes that all of them take."""
        end = 0
        nids, kinds = self._nids, self._kinds
        for slot, layer, record, raw in order:
            kind = kinds[slot]
            at = (end + 31) & ~31
            fixed = layout.INODE.size + self._xattr_size(slot, (layer, record), raw)
            if kind == _FILE:
                end = at + fixed
                if raw is not None and raw[9]:
                    end = ((end + 7) & ~7) + layout.CHUNK.size * self._claim(layer, raw)
            else:
                tail = self._tail(slot, kind)
                if tail and ((at + fixed) & _BLOCK_MASK) + tail > layout.BLOCK >= fixed + tail:
                    at = _fit(at, fixed, tail)
                end = at + fixed
                if _is_inline(at + fixed, tail):
                    end += tail
            nids[slot] = at >> layout.SLOT_BITS
            self._inodes += 1
        return end

    def _xattr_size(self, slot: int, ref: tuple[int, int], raw: tuple[int, ...] | None) -> int:
        size = 0
        if raw is not None:
            size = self._xattrs.size(ref, raw[1], raw[7], raw[8])
        if slot in self._source.opaque:
            size = len(self._xattrs.opaque(bytes(size)))
        return size

    def _claim(self, layer: int, raw: tuple[int, ...]) -> int:
        """Note what a file needs of its device; returns how many chunks it has."""
        size, offset, data = raw[9], raw[10], layer << 1 | raw[3]
        if offset & _BLOCK_MASK:
            raise FormatError(f"layer {layer}: data is not 512-byte aligned", offset=offset)
        end = offset + size
        if end >> layout.BLOCK_BITS >= layout.MAX_DEVICE_BLOCKS:
            raise LimitExceeded(f"layer {layer}: data beyond 2 TiB cannot be mounted", offset=end)
        if end > self._extents.get(data, 0):
            self._extents[data] = end
        return -(-size // _CHUNK_MAX)

    def _tail(self, slot: int, kind: int) -> int:
        """Bytes of a directory or link that may lie behind its inode."""
        if kind == _DIRECTORY:
            names = self._source.kids(slot)[0]
            total = _directory_size(names)
            if total <= layout.BLOCK:
                return total
            return _used(_blocks(sorted([b".", b"..", *names]))[-1])
        if kind == _WHITEOUT:
            return 0
        return len(self._source.readlink(slot))

    def _number_devices(self) -> None:
        used = sorted(self._extents)
        if len(used) > layout.MAX_DEVICES:
            raise LimitExceeded(f"{len(used)} data files, an image can name {layout.MAX_DEVICES}")
        self._numbers = {data: number for number, data in enumerate(used, 1)}

    def _device_table(self, unified: int) -> bytes:
        slots = []
        for data in self._numbers:
            diff_id = self._source.layers[data >> 1].index.diff_id
            tag = diff_id.hex[:58] + ".spill" if data & 1 else diff_id.hex
            blocks = layout.blocks_of(self._extents[data])
            # Only read when no devices are given at mount, which we never do; it may wrap.
            address = min(unified, 0xFFFFFFFF)
            device = layout.Device(tag=tag.encode(), blocks=blocks, unified=address)
            slots.append(device.build())
            unified += blocks
        return b"".join(slots)

    # -- second sweep -------------------------------------------------------------------------

    def _write_all(self, order: _Order, meta_block: int, data_block: int) -> int:
        base = meta_block * layout.BLOCK
        meta = _Sink(self._out, base)
        data = _Sink(self._out, data_block * layout.BLOCK)
        nids = self._nids
        for number, (slot, layer, record, raw) in enumerate(order, 1):
            at = nids[slot] << layout.SLOT_BITS
            meta.pad_to(base + at)
            body = b""
            if raw is not None:
                body = self._xattrs.body((layer, record), raw[1], raw[7], raw[8], raw[12])
            if slot in self._source.opaque:
                body = self._xattrs.opaque(body)
            if self._kinds[slot] == _FILE and raw is not None:
                meta.put(self._file(slot, number, at, layer, raw, body))
            else:
                meta.put(self._other(slot, number, at, raw, body, data))
        meta.flush()
        data.flush()
        return max(meta.at, data.at)

    def _file(
        self, slot: int, number: int, at: int, layer: int, raw: tuple[int, ...], body: bytes
    ) -> bytes:
        size = raw[9]
        kind, u, tail = layout.Layout.PLAIN, 0, b""
        if size:
            bits = layout.chunk_bits(size)
            kind, u = layout.Layout.CHUNKS, layout.chunk_format(bits)
            device, block = self._numbers[layer << 1 | raw[3]], raw[10] >> layout.BLOCK_BITS
            tail = _PADDING[-(at + len(body)) & 7]  # an inode's own size is a multiple of 8
            for begin in range(block, block + layout.blocks_of(size), 1 << bits):
                tail += layout.CHUNK.pack(0, device, begin)
        mode = stat.S_IFREG | permissions(raw[4], directory=False)
        head = self._inode(slot, number, kind, mode, size, u, raw, body)
        return head + body + tail

    def _other(
        self,
        slot: int,
        number: int,
        at: int,
        raw: tuple[int, ...] | None,
        body: bytes,
        data: _Sink,
    ) -> bytes:
        kind = self._kinds[slot]
        mode = _TYPES[kind][0]
        if kind == _DIRECTORY:
            bits = DIRECTORY_MODE if raw is None else permissions(raw[4], directory=True)
            # The volume view's root is one level down: `Files`.
            if self._private and self._source.parent(slot) == 0:
                bits &= PRIVATE_MODE
            mode |= bits
            blocks = self._directory(slot)
        elif kind in (_WHITEOUT, _FILE):
            blocks = []
        else:
            mode |= 0o777
            target = self._source.readlink(slot)
            blocks = [target[n : n + layout.BLOCK] for n in range(0, len(target), layout.BLOCK)]
        size = sum(map(len, blocks))
        placed, u, tail = layout.Layout.PLAIN, data.at >> layout.BLOCK_BITS, b""
        # A link lies in one piece; a directory's last block may stand apart from the others.
        whole = blocks[-1:] if kind == _DIRECTORY else [b"".join(blocks)]
        if whole and _is_inline(at + layout.INODE.size + len(body), len(whole[0])):
            placed, tail = layout.Layout.INLINE, whole[0]
            blocks = blocks[:-1] if kind == _DIRECTORY else []
        for block in blocks:
            data.put(block)
            data.put(_PADDING[-len(block) & _BLOCK_MASK])
        head = self._inode(slot, number, placed, mode, size, u if blocks else 0, raw, body)
        return head + body + tail

    def _directory(self, slot: int) -> list[bytes]:
        """A directory's blocks; all but the last are padded."""
        names, slots = self._source.kids(slot)
        nids, kinds, inode = self._nids, self._kinds, self._source.inode
        entries = [(b".", nids[slot], 2), (b"..", nids[self._source.parent(slot)], 2)]
        for name, kid in zip(names, slots, strict=True):
            if kinds[kid] == _HARD_LINK:
                kid = inode(kid)
            entries.append((name, nids[kid], type_of_kind[kinds[kid]]))
        entries.sort()
        if _directory_size(names) <= layout.BLOCK:
            return [_dirents(entries)]
        blocks, start = [], 0
        for group in _blocks([name for name, _, _ in entries]):
            blocks.append(_dirents(entries[start : start + len(group)]))
            start += len(group)
        return [block.ljust(layout.BLOCK, b"\0") for block in blocks[:-1]] + blocks[-1:]

    def _inode(
        self,
        slot: int,
        number: int,
        placed: layout.Layout,
        mode: int,
        size: int,
        u: int,
        raw: tuple[int, ...] | None,
        body: bytes,
    ) -> bytes:
        seconds = fraction = uid = gid = 0
        if raw is not None:
            seconds, fraction = divmod(raw[14] - UNIX_EPOCH, _TICKS)
            uid, gid = raw[5], raw[6]
        return layout.INODE.pack(
            1 | placed << 1,
            layout.xattr_count(len(body)),
            mode,
            0,
            size,
            u,
            number,
            uid,
            gid,
            seconds,
            fraction * 100,
            self._links[slot],
        )


class _Order:
    """All inodes, the root first, then those without an entry, then by layer and record.

    Iterates over (slot, layer, record number, record as a plain tuple or None), any number of
    times alike.
    """

    def __init__(self, source: Source, links: Sequence[int]) -> None:
        self._layers = source.layers
        self._root = source.ref(0)
        self._implied = array("I")
        counts = [0] * len(source.layers)
        for slot in range(1, len(links)):
            if links[slot]:
                ref = source.ref(slot)
                if ref is None:
                    self._implied.append(slot)
                else:
                    counts[ref[0]] += 1
        # Per layer: the slot of each record, or the wanted records and their slots.
        self._dense: dict[int, array[int]] = {}
        self._sparse: dict[int, list[tuple[int, int]]] = {}
        for layer, count in enumerate(counts):
            total = source.layers[layer].index.count if count else 0
            if count * _DENSE >= total > 0:
                self._dense[layer] = array("I", [_NONE]) * total
            elif count:
                self._sparse[layer] = []
        for slot in range(1, len(links)):
            if links[slot] and (ref := source.ref(slot)) is not None:
                if ref[0] in self._dense:
                    self._dense[ref[0]][ref[1]] = slot
                else:
                    self._sparse[ref[0]].append((ref[1], slot))
        for wanted in self._sparse.values():
            wanted.sort()

    def __iter__(self) -> Iterator[tuple[int, int, int, tuple[int, ...] | None]]:
        if self._root is None:
            yield 0, 0, 0, None
        else:
            layer, number = self._root
            yield 0, layer, number, self._layers[layer].index.record(number)
        for slot in self._implied:
            yield slot, 0, 0, None
        for layer, described in enumerate(self._layers):
            if layer in self._sparse:
                for number, slot in self._sparse[layer]:
                    yield slot, layer, number, described.index.record(number)
            elif layer in self._dense:
                slots, number, index = self._dense[layer], 0, described.index
                for chunk in range(index.chunks):
                    for raw in iter_records(index.block(chunk)):
                        if slots[number] != _NONE:
                            yield slots[number], layer, number, raw
                        number += 1


def _fit(at: int, fixed: int, tail: int) -> int:
    """The first place from `at` where a tail behind `fixed` bytes does not cross a block."""
    moved = (((at + fixed + _BLOCK_MASK) & ~_BLOCK_MASK) - fixed + 31) & ~31
    if moved >= at and _is_inline(moved + fixed, tail):
        return moved
    return (at + _BLOCK_MASK) & ~_BLOCK_MASK


def _is_inline(begin: int, tail: int) -> bool:
    return tail > 0 and (begin & _BLOCK_MASK) + tail <= layout.BLOCK


def _directory_size(names: Sequence[bytes]) -> int:
    """Bytes of a directory that fits into one block, `.` and `..` included."""
    return 2 * _DIRENT_FIXED + 3 + len(names) * _DIRENT_FIXED + sum(map(len, names))


def _used(names: Sequence[bytes]) -> int:
    return len(names) * _DIRENT_FIXED + sum(map(len, names))


def _blocks(names: Sequence[bytes]) -> list[Sequence[bytes]]:
    """Sorted names, `.` and `..` among them, cut into what fits each block."""
    blocks, start, used = [], 0, 0
    for place, name in enumerate(names):
        need = _DIRENT_FIXED + len(name)
        if used + need > layout.BLOCK:
            blocks.append(names[start:place])
            start, used = place, 0
        used += need
    blocks.append(names[start:])
    return blocks


def _dirents(entries: Sequence[tuple[bytes, int, int]]) -> bytes:
    """One block: fixed parts, then the names back to back."""
    offset = _DIRENT_FIXED * len(entries)
    parts = []
    for name, nid, kind in entries:
        parts.append(layout.DIRENT.pack(nid, offset, kind, 0))
        offset += len(name)
    parts += [name for name, _, _ in entries]
    return b"".join(parts)
