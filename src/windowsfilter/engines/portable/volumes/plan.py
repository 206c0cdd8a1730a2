"""What will go on a volume, and how large that must be: one walk over the tree before writing.

The size is an upper bound, for a volume that is filled once: clusters of data, records of the MFT,
directory indexes, descriptors. Sources of the figures: the attribute and index layouts in ntfs-3g's
layout.h; B-trees that grow in order leave their nodes half full.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from windowsfilter.engines.portable.index import Kind, Record, RecordFlag
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.engines.portable.volumes.entries import SPARSE
from windowsfilter.ntfs.names import MAX_UNITS, fold, utf16_units
from windowsfilter.wire.backuptar import records

CLUSTER = 4096
MAX_DEPTH = 512
"""Directories below each other: ntfs-3g finds a file by walking its whole path for every call."""

_RECORD_BYTES = 1024
_NAME_FIXED = 24 + 66 + 8  # attribute header, $FILE_NAME, alignment
_ATTRIBUTE_FIXED = 24 + 64  # attribute header, room for runs
_RESIDENT = 700  # data up to this may stand in the record
_RECORD_ROOM = 800  # what a record holds for certain before others are needed
_INDEX_ENTRY = 16 + 66 + 8
_INDEX_BLOCK = 4096
_DESCRIPTOR_INDEX = 2 * (48 + 56)
_DESCRIPTOR_BLOCK = 256 << 10  # $Secure keeps each block of this size twice
_SLACK = 16 << 20
_GRAIN = 1 << 20
_LOG_PART = 8  # log file, bitmap, MFT that grows in steps: one eighth

# The volume's own files, whose names in the root are taken.
_SYSTEM_FILES = frozenset(
    fold(name)
    for name in (
        b"$MFT",
        b"$MFTMirr",
        b"$LogFile",
        b"$Volume",
        b"$AttrDef",
        b"$Bitmap",
        b"$Boot",
        b"$BadClus",
        b"$Secure",
        b"$UpCase",
        b"$Extend",
    )
)
_DIRECTORY = int(Kind.DIRECTORY)
_STREAM_MARK = b":"
_METADATA = (records.EA_PREFIX, records.RAW_EAS, records.RAW_REPARSE)


@dataclass(slots=True)
class Plan:
    """What one walk found."""

    root: int
    directories: list[int] = field(default_factory=list)
    """Slots of directories, the root first, each before those in it."""
    refused: dict[int, str] = field(default_factory=dict)
    """Slot -> why it cannot stand on the volume; what is below is not visited."""
    problems: list[tuple[bytes, str]] = field(default_factory=list)
    """(path, what) of streams that have no file."""
    data_bytes: int = 0
    """Of files and streams."""
    dense_bytes: int = 0
    """The part of it that has no holes."""
    volume_bytes: int = 0
    """An upper bound of what the volume needs."""


def make(tree: Tree, root: int) -> Plan:
    """Walk the tree below `root`, in its order."""
    plan = Plan(root)
    size = _Size()
    pending = [(root, 0)]
    seen: set[int] = set()
    descriptors: set[tuple[int, int]] = set()
    while pending:
        directory, depth = pending.pop()
        plan.directories.append(directory)
        size.directory()
        below = []
        for slot in tree.kids[directory].values():
            reason = _refusal(tree.names[slot], at_root=directory == root)
            if reason is None and tree.is_dangling(slot):
                reason = "a hard link to a file that does not exist"
            is_directory = tree.kinds[slot] == _DIRECTORY
            if reason is None and is_directory and depth >= MAX_DEPTH:
                reason = f"a directory below {MAX_DEPTH} others, where ntfs-3g becomes too slow"
            if reason is not None:
                plan.refused[slot] = reason
                continue
            size.name(tree.names[slot])
            if is_directory:
                below.append((slot, depth + 1))
            inode = tree.inode(slot)
            if inode not in seen:
                if inode != slot or tree.kinds[inode] != _DIRECTORY:
                    seen.add(inode)
                _inode(tree, inode, plan, size, descriptors)
        pending.extend(reversed(below))
    prefix = fold(tree.path(root)) + b"/" if root != tree.ROOT else b""
    plan.problems = [
        (problem.name, problem.reason)
        for problem in tree.problems
        if _is_stream(problem.name) and fold(problem.name).startswith(prefix)
    ]
    plan.volume_bytes = size.total()
    return plan


def spare_name(taken: Iterable[bytes]) -> bytes:
    """A short name that folds to none of `taken`, which are folded."""
    keys = set(taken)
    number = 0
    while fold(name := b"~%d" % number) in keys:
        number += 1
    return name


def _refusal(name: bytes, *, at_root: bool) -> str | None:
    if at_root and fold(name) in _SYSTEM_FILES:
        return "a name that NTFS keeps for itself in the root of a volume"
    if len(name) > MAX_UNITS:
        units = utf16_units(name)
        if units > MAX_UNITS:
            return f"a name of {units} UTF-16 units, {MAX_UNITS} is the limit"
    return None


def _is_stream(path: bytes) -> bool:
    return _STREAM_MARK in path.rpartition(b"/")[2]


def stream_refusal(name: bytes) -> str | None:
    """Why no stream can have this name, None if one can."""
    if not name:
        return "a stream without a name"
    if _STREAM_MARK in name:
        return "a stream with a colon in its name"
    if len(name) > MAX_UNITS and utf16_units(name) > MAX_UNITS:
        return f"a stream with a name of over {MAX_UNITS} UTF-16 units"
    return None


def _inode(
    tree: Tree, inode: int, plan: Plan, size: _Size, descriptors: set[tuple[int, int]]
) -> None:
    """Account for an inode and its streams."""
    ref, record = tree.ref(inode), tree.record(inode)
    size.node()
    if ref is not None and record is not None:
        index = tree.layers[ref[0]].index
        key = ref[0], record.sd
        if record.sd and key not in descriptors:
            descriptors.add(key)
            size.descriptor(len(index.value(record.sd)))
        raw = index.pax(ref[1])
        if record.link_size or any(mark in raw for mark in _METADATA):
            # Base64 of EAs and reparse data is longer than they are, and so is UTF-8 as a rule.
            size.metadata(len(raw) + 4 * record.link_size)
        if tree.kinds[inode] != _DIRECTORY:
            plan.data_bytes += record.size
            plan.dense_bytes += 0 if is_sparse(record) else record.size
            size.data(record.size)
    for layer, number in tree.streams(inode).values():
        stream = tree.layers[layer].index.record(number).size
        plan.data_bytes += stream
        plan.dense_bytes += stream
        size.data(stream)
        size.attribute(2 * MAX_UNITS)


def is_sparse(record: Record) -> bool:
    """Whether runs of zeros in a file's data shall be holes."""
    return bool(record.attributes & SPARSE or record.flags & RecordFlag.SPARSE)


class _Size:
    """Sums up what a volume needs."""

    def __init__(self) -> None:
        self._clusters = 0
        self._records = 64  # the volume's own files, and room to grow in
        self._attributes = 0
        self._index = 0
        self._descriptors = 0
        self._descriptor_bytes = 0

    def node(self) -> None:
        """A file or directory."""
        self._records += 1

    def metadata(self, size: int) -> None:
        """EAs and reparse data of at most that many bytes together."""
        self._clusters += 2 + -(-size // CLUSTER)
        self.attribute(_RECORD_ROOM)

    def directory(self) -> None:
        """The index of a directory, which takes whole blocks."""
        self._index += 2 * _INDEX_BLOCK

    def name(self, name: bytes) -> None:
        """One name of a file, and its place in a directory."""
        units = 2 * utf16_units(name)
        self._index += 2 * (_INDEX_ENTRY + units)
        # A long name leaves little room in the record for anything else.
        self.attribute(_NAME_FIXED + units if units > MAX_UNITS else 0)

    def data(self, size: int) -> None:
        if size > _RESIDENT // 2:
            self._clusters += -(-size // CLUSTER)
        if size <= _RESIDENT:
            self.attribute(size)

    def attribute(self, size: int) -> None:
        """Bytes that may need a record of their own."""
        self._attributes += size + _ATTRIBUTE_FIXED if size else 0

    def descriptor(self, size: int) -> None:
        self._descriptors += 1
        self._descriptor_bytes += size + 20 + 16

    def total(self) -> int:
        count = self._records + 2 * self._attributes // _RECORD_ROOM
        blocks = 1 + self._descriptor_bytes // (_DESCRIPTOR_BLOCK // 2)
        bytes_needed = (
            self._clusters * CLUSTER
            + count * _RECORD_BYTES
            + self._index
            + self._descriptors * _DESCRIPTOR_INDEX * 2
            + blocks * 2 * _DESCRIPTOR_BLOCK
        )
        needed = bytes_needed + bytes_needed // _LOG_PART + _SLACK
        return -(-needed // _GRAIN) * _GRAIN
