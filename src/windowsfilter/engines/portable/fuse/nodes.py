"""A merged tree as numbered nodes: what a FUSE server answers, without the protocol around it.

A node number is computed from a slot of the tree (or from a stream's entry), never stored, so a
million files cost no memory beyond the tree's own columns, and numbers stay valid for ever.
Names are found in any case, unless the mount is to be a lower layer of overlayfs, which takes an
answer in another spelling than it asked for as ESTALE.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from windowsfilter.engines.portable import shown_metadata, windows_metadata
from windowsfilter.engines.portable.aliases import MAX_BYTES
from windowsfilter.engines.portable.blobs import LayerBlob
from windowsfilter.engines.portable.erofs import xattrs
from windowsfilter.engines.portable.fuse import protocol
from windowsfilter.engines.portable.index import Kind, Record, RecordFlag
from windowsfilter.engines.portable.shown import (
    DIRECTORY_MODE,
    PRIVATE_MODE,
    ShownTree,
    permissions,
)
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.engines.portable.view import View
from windowsfilter.errors import StoreDamaged, UsageError
from windowsfilter.ntfs.filetime import UNIX_EPOCH
from windowsfilter.ntfs.names import fold

VOLUME = b"Files"

_FIRST = 2  # node of slot 0; the protocol keeps 0 for "none" and 1 for the root
_STREAM = 1 << 62
_LAYER_SHIFT = 32
_RECORD_MASK = (1 << _LAYER_SHIFT) - 1
_TICKS = 10_000_000
_SECTOR = 512
# Directories are read piece by piece, and several at a time; listing one again for each piece of
# 30,000 names would take quadratic time.
_LISTED_NAMES = 200_000
_MAX_XATTR = 65536

_FILE, _DIRECTORY, _HARD_LINK = int(Kind.FILE), int(Kind.DIRECTORY), int(Kind.HARD_LINK)
_STREAM_KIND = int(Kind.STREAM)
_TYPES = {
    _FILE: (stat.S_IFREG, protocol.DT_REG),
    _DIRECTORY: (stat.S_IFDIR, protocol.DT_DIR),
    int(Kind.SYMLINK): (stat.S_IFLNK, protocol.DT_LNK),
    int(Kind.JUNCTION): (stat.S_IFLNK, protocol.DT_LNK),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Presentation:
    """How a mount shows a tree."""

    view: View = View.VOLUME
    overlay_lower: bool = False
    """For overlayfs: names match exactly, and no attribute is too large to be copied up."""
    private: bool = False
    """Let only the owner into the root and the directories in it, whatever stands over the mount."""
    streams: bool = False
    """Show alternate data streams as `name:stream` beside their file."""
    xattr_prefix: bytes = b"trusted."
    """`trusted.` is for root in the initial user namespace only, else `user.`."""
    owner: tuple[int, int] | None = None
    """uid and gid of everything; None: as the entries say."""


DEFAULT = Presentation()


class NodeError(Exception):
    """A request that is answered with an errno."""

    def __init__(self, number: int) -> None:
        super().__init__(number, os.strerror(number))
        self.number = number


class Nodes:
    """The nodes of one mount. Opens every blob at once, so that nothing can vanish under it.

    A context manager. Safe to use from several threads if the interpreter lock is held.
    Raises UsageError if the view does not exist, StoreDamaged for missing blobs.
    """

    def __init__(
        self, tree: Tree, layers: Sequence[LayerBlob], how: Presentation = DEFAULT
    ) -> None:
        self.tree = tree
        self.how = how
        self._shown = ShownTree(tree)
        self.root = _root(tree, how.view)
        self._indexes = [layer.index for layer in layers]
        self._links: dict[int, bytes] = {}
        self._listings: OrderedDict[int, tuple[list[bytes], list[int]]] = OrderedDict()
        self._listed = 0
        self._directories = _count_directories(tree)
        self._data: list[tuple[int, int]] = []
        self.data_bytes = sum(layer.manifest.data_bytes for layer in layers)
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            undo.enter_context(self._stack)
            for layer in layers:
                self._data.append((self._open(layer.blob_path), self._open(layer.spill_path)))
            undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the blobs; may be called twice."""
        self._stack.close()

    # -- names --------------------------------------------------------------------------------

    def find(self, node: int, name: bytes) -> int | None:
        """The node that directory `node` shows as `name`; `.` and `..` too."""
        slot = self._directory(node)
        if name in (b".", b".."):
            return node if name == b"." else self._parent(slot)
        if self.how.overlay_lower:
            found = self._shown.entry(slot, name)
        else:
            found = self.tree.kids[slot].get(fold(name))
            if found is None and b"~" in name:
                found = self._find_alias(slot, name)
        if found is None:
            return self._find_stream(slot, name) if self.how.streams and b":" in name else None
        if self.tree.kinds[found] == _HARD_LINK:
            if self.tree.is_dangling(found):
                return None
            found = self.tree.inode(found)
        return found + _FIRST

    def listing(self, node: int) -> tuple[list[bytes], list[int]]:
        """Names and nodes of a directory, `.` and `..` first; the order never changes."""
        known = self._listings.get(node)
        if known is not None:
            self._listings.move_to_end(node)
            return known
        slot = self._directory(node)
        names, slots = self._shown.kids(slot)
        kinds, inode = self.tree.kinds, self.tree.inode
        nodes = [(inode(kid) if kinds[kid] == _HARD_LINK else kid) + _FIRST for kid in slots]
        if self.how.streams:
            self._add_streams(names, nodes)
        listing = ([b".", b"..", *names], [node, self._parent(slot), *nodes])
        self._listings[node] = listing
        self._listed += len(listing[0])
        while self._listed > _LISTED_NAMES and len(self._listings) > 1:
            _, (gone, _) = self._listings.popitem(last=False)
            self._listed -= len(gone)
        return listing

    def type(self, node: int) -> int:
        """The `DT_*` of a node that `find` or `listing` gave."""
        if node == protocol.ROOT_ID:
            return protocol.DT_DIR
        if node & _STREAM:
            return protocol.DT_REG
        return _TYPES[self.tree.kinds[node - _FIRST]][1]

    # -- content ------------------------------------------------------------------------------

    def attributes(self, node: int) -> bytes:
        """`struct fuse_attr` of a node."""
        mode, links, size, record = self._facts(node)
        uid, gid = self._owner(record)
        if record is None:
            access = write = change = access_ns = write_ns = change_ns = 0
        else:
            access, access_ns = divmod(record.access - UNIX_EPOCH, _TICKS)
            write, write_ns = divmod(record.write - UNIX_EPOCH, _TICKS)
            change, change_ns = divmod(record.change - UNIX_EPOCH, _TICKS)
        return protocol.ATTRIBUTES.pack(
            node,
            size,
            (size + _SECTOR - 1) // _SECTOR,
            access,
            write,
            change,
            access_ns * 100,
            write_ns * 100,
            change_ns * 100,
            mode,
            links,
            uid,
            gid,
            0,
            4096,
            0,
        )

    def statx(self, node: int) -> bytes:
        """`struct fuse_statx` of a node: its attributes and the time of birth."""
        mode, links, size, record = self._facts(node)
        uid, gid = self._owner(record)
        times: list[int] = []
        for filetime in (0,) * 4 if record is None else (
            record.access, record.creation, record.change, record.write,
        ):  # fmt: skip
            seconds, ticks = divmod(filetime - UNIX_EPOCH, _TICKS) if record else (0, 0)
            times += (seconds, ticks * 100)
        blocks = (size + _SECTOR - 1) // _SECTOR
        return protocol.STATX.pack(
            protocol.STATX_BASIC_AND_BIRTH, 4096, 0, links, uid, gid, mode,
            node, size, blocks, 0, *times,
        )  # fmt: skip

    def data(self, node: int) -> tuple[int, int, int]:
        """(open file, offset, size) of a file's bytes."""
        ref, kind = self._entry(node)
        if kind == _DIRECTORY:
            raise NodeError(errno.EISDIR)
        if kind != _FILE or ref is None:
            raise NodeError(errno.EINVAL)
        record = self._indexes[ref[0]].record(ref[1])
        return self._data[ref[0]][record.device], record.data_offset, record.size

    def readlink(self, node: int) -> bytes:
        """The target of a link as Linux sees it."""
        found = self._links.get(node)
        if found is None:
            if self._entry(node)[1] in (_FILE, _DIRECTORY):
                raise NodeError(errno.EINVAL)
            found = self._links[node] = self._shown.readlink(node - _FIRST)
        return found

    def xattrs(self, node: int) -> list[bytes]:
        """Full names of a node's extended attributes."""
        ref, _ = self._entry(node)
        if ref is None:
            return []
        record = self._indexes[ref[0]].record(ref[1])
        found = []
        if record.sd and self._descriptor(ref[0], record) is not None:
            found.append(xattrs.DESCRIPTOR)
        if record.flags & RecordFlag.ATTRIBUTES:
            found.append(xattrs.ATTRIBUTES)
        if record.flags & RecordFlag.CREATION:
            found.append(xattrs.CREATION)
        found.append(xattrs.ENTRY)
        bare = [name.removeprefix(b"trusted.") for name in found]
        bare += [name for name, _ in self._extras(ref, record)]
        return [self.how.xattr_prefix + name for name in bare]

    def xattr(self, node: int, name: bytes) -> bytes | None:
        """The value of an extended attribute, None if the node has none of this name."""
        prefix = self.how.xattr_prefix
        if not name.startswith(prefix + b"windows."):
            return None
        ref, _ = self._entry(node)
        if ref is None:
            return None
        name = b"trusted." + name[len(prefix) :]
        if name == xattrs.ENTRY:
            return xattrs.ENTRY_VALUE.pack(*ref)
        record = self._indexes[ref[0]].record(ref[1])
        if name == xattrs.ATTRIBUTES and record.flags & RecordFlag.ATTRIBUTES:
            return struct.pack("<I", record.attributes)
        if name == xattrs.CREATION and record.flags & RecordFlag.CREATION:
            return struct.pack("<q", record.creation)
        if name == xattrs.DESCRIPTOR and record.sd:
            return self._descriptor(ref[0], record)
        return dict(self._extras(ref, record)).get(name.removeprefix(b"trusted."))

    # -- behind the numbers -------------------------------------------------------------------

    def _slot(self, node: int) -> int:
        if node == protocol.ROOT_ID:
            return self.root
        slot = node - _FIRST
        if not 0 <= slot < len(self.tree.names):
            raise NodeError(errno.ESTALE)
        return slot

    def _directory(self, node: int) -> int:
        slot = self.root if node == protocol.ROOT_ID else node - _FIRST
        if slot not in self.tree.kids:
            self._entry(node)  # a stale number?
            raise NodeError(errno.ENOTDIR)
        return slot

    def _parent(self, slot: int) -> int:
        above = self.tree.parents[slot]
        return protocol.ROOT_ID if self.root in (slot, above) else above + _FIRST

    def _entry(self, node: int) -> tuple[tuple[int, int] | None, int]:
        """((layer, record number) or None for an implied directory, kind) of a node."""
        if node & _STREAM:
            layer, number = (node & ~_STREAM) >> _LAYER_SHIFT, node & _RECORD_MASK
            if layer >= len(self._indexes) or number >= self._indexes[layer].count:
                raise NodeError(errno.ESTALE)
            if self._indexes[layer].record(number).kind != _STREAM_KIND:
                raise NodeError(errno.ESTALE)
            return (layer, number), _FILE
        slot = self._slot(node)
        kind = self.tree.kinds[slot]
        if kind not in _TYPES:
            raise NodeError(errno.ESTALE)
        return self.tree.ref(slot), kind

    def _facts(self, node: int) -> tuple[int, int, int, Record | None]:
        """(mode, link count, size, record or None) of a node."""
        ref, kind = self._entry(node)
        record = None if ref is None else self._indexes[ref[0]].record(ref[1])
        if kind == _DIRECTORY:
            slot = self._slot(node)
            if slot not in self.tree.kids:
                raise NodeError(errno.ESTALE)
            mode = DIRECTORY_MODE if record is None else permissions(record.mode, directory=True)
            if self.how.private and self.tree.parents[slot] == self.tree.ROOT:
                mode &= PRIVATE_MODE
            return stat.S_IFDIR | mode, 2 + self._directories[slot], 0, record
        assert record is not None
        if kind == _FILE:
            links = 1 if node & _STREAM else self.tree.link_count(node - _FIRST)
            mode = stat.S_IFREG | permissions(record.mode, directory=False)
            return mode, links, record.size, record
        links = self.tree.link_count(node - _FIRST)
        return stat.S_IFLNK | 0o777, links, len(self.readlink(node)), record

    def _owner(self, record: Record | None) -> tuple[int, int]:
        if self.how.owner is not None:
            return self.how.owner
        return (0, 0) if record is None else (record.uid, record.gid)

    def _descriptor(self, layer: int, record: Record) -> bytes | None:
        """The security descriptor, unless Linux or a later copy-up cannot hold it."""
        value = self._indexes[layer].value(record.sd)
        limit = shown_metadata.MAX_DESCRIPTOR if self.how.overlay_lower else _MAX_XATTR
        return value if len(value) <= limit else None

    def _extras(self, ref: tuple[int, int], record: Record) -> shown_metadata.Attributes:
        return windows_metadata.shown_attributes(self._indexes[ref[0]], ref[1], record)

    def _find_alias(self, slot: int, name: bytes) -> int | None:
        """The slot whose name is too long for Linux and is shown as `name`, in any case."""
        if len(name) > MAX_BYTES:
            return None
        key = fold(name)
        for shown, kid in zip(*self._shown.kids(slot), strict=True):
            if shown is not self.tree.names[kid] and fold(shown) == key:
                return kid
        return None

    def _find_stream(self, slot: int, name: bytes) -> int | None:
        owner_name, _, stream = name.partition(b":")
        owner = self.tree.kids[slot].get(fold(owner_name))
        if owner is None or self.tree.is_dangling(owner):
            return None
        ref = self.tree.stream(owner, stream)
        return None if ref is None else _STREAM | ref[0] << _LAYER_SHIFT | ref[1]

    def _add_streams(self, names: list[bytes], nodes: list[int]) -> None:
        for name, node in list(zip(names, nodes, strict=True)):
            for stream, (layer, number) in self.tree.streams(node - _FIRST).items():
                shown = name + b":" + stream
                if len(shown) <= MAX_BYTES:
                    names.append(shown)
                    nodes.append(_STREAM | layer << _LAYER_SHIFT | number)

    def _open(self, path: os.PathLike[str] | None) -> int:
        if path is None:
            return -1
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise StoreDamaged(f"mount: {path} is missing") from error
        self._stack.callback(os.close, descriptor)
        return descriptor


def _root(tree: Tree, view: View) -> int:
    if view is View.LAYER:
        return tree.ROOT
    found = tree.lookup(VOLUME)
    if found is None or not tree.is_directory(found):
        raise UsageError("mount: this chain has no volume (no directory Files); try the layer view")
    return found


def _count_directories(tree: Tree) -> array[int]:
    """How many directories each slot holds."""
    counts = array("I", bytes(4 * len(tree)))
    for slot in tree.kids:
        if slot != tree.ROOT:
            counts[tree.parents[slot]] += 1
    return counts
