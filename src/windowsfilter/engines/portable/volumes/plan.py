"""What will go on a volume, in which order, and what cannot: one walk over the tree before writing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from windowsfilter.engines.portable.index import Kind, Record, RecordFlag
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.engines.portable.volumes.kept import Kept
from windowsfilter.engines.portable.volumes.needs import Needs
from windowsfilter.ntfs.attributes import FileAttribute
from windowsfilter.ntfs.names import MAX_UNITS, fold, utf16_units

MAX_DEPTH = 512
"""Directories below each other: ntfs-3g finds a file by walking its whole path for every call."""

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
_SPARSE = int(FileAttribute.SPARSE_FILE)
_FROM_SPARSE_TAR = int(RecordFlag.SPARSE)
_STREAM_MARK = b":"


@dataclass(slots=True)
class Plan:
    """What one walk found."""

    root: int
    kept: Kept
    """Of all inodes on the volume."""
    directories: list[int]
    """Slots of directories, the root first, each before those in it."""
    refused: dict[int, str]
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
    needs = Needs()
    directories: list[int] = []
    refused: dict[int, str] = {}
    inodes = {root: None}  # in order, each once
    pending = [(root, 0)]
    while pending:
        directory, depth = pending.pop()
        directories.append(directory)
        needs.directory()
        below = []
        for slot in tree.kids[directory].values():
            reason = _refusal(tree, slot, depth, at_root=directory == root)
            if reason is not None:
                refused[slot] = reason
                continue
            needs.name(tree.names[slot])
            inodes[tree.inode(slot)] = None
            if tree.kinds[slot] == _DIRECTORY:
                below.append((slot, depth + 1))
        pending.extend(reversed(below))
    plan = Plan(root, Kept(tree, inodes), directories, refused, _streams_without_file(tree, root))
    for inode in inodes:
        _measure(tree, inode, plan, needs)
    for descriptor in plan.kept.descriptors:
        needs.descriptor(len(descriptor))
    plan.volume_bytes = needs.bytes
    return plan


def is_sparse(record: Record) -> bool:
    """Whether runs of zeros in a file's data shall be holes."""
    return bool(record.attributes & _SPARSE or record.flags & _FROM_SPARSE_TAR)


def spare_name(taken: Iterable[bytes]) -> bytes:
    """A short name that folds to none of `taken`, which are folded."""
    keys = set(taken)
    number = 0
    while fold(name := b"~%d" % number) in keys:
        number += 1
    return name


def stream_refusal(name: bytes) -> str | None:
    """Why no stream can have this name, None if one can."""
    if not name:
        return "a stream without a name"
    if _STREAM_MARK in name:
        return "a stream with a colon in its name"
    if len(name) > MAX_UNITS and utf16_units(name) > MAX_UNITS:
        return f"a stream with a name of over {MAX_UNITS} UTF-16 units"
    return None


def _refusal(tree: Tree, slot: int, depth: int, *, at_root: bool) -> str | None:
    name = tree.names[slot]
    if at_root and fold(name) in _SYSTEM_FILES:
        return "a name that NTFS keeps for itself in the root of a volume"
    if len(name) > MAX_UNITS:
        units = utf16_units(name)
        if units > MAX_UNITS:
            return f"a name of {units} UTF-16 units, {MAX_UNITS} is the limit"
    if tree.is_dangling(slot):
        return "a hard link to a file that does not exist"
    if depth >= MAX_DEPTH and tree.kinds[slot] == _DIRECTORY:
        return f"a directory below {MAX_DEPTH} others, where ntfs-3g becomes too slow"
    return None


def _streams_without_file(tree: Tree, root: int) -> list[tuple[bytes, str]]:
    """Of the part of the tree that is exported; the tree's other problems have slots."""
    prefix = b"" if root == tree.ROOT else fold(tree.path(root)) + b"/"
    return [
        (problem.name, problem.reason)
        for problem in tree.problems
        if _STREAM_MARK in problem.name.rpartition(b"/")[2]
        and fold(problem.name).startswith(prefix)
    ]


def _measure(tree: Tree, inode: int, plan: Plan, needs: Needs) -> None:
    """Account for an inode and its streams."""
    ref, record = tree.ref(inode), tree.record(inode)
    needs.node()
    if ref is not None and record is not None:
        raw = plan.kept.pax(ref)
        if raw or record.link_size:
            # Base64 of EAs and reparse data is longer than they are, and so is UTF-8 as a rule.
            needs.metadata(len(raw) + 4 * record.link_size)
        if tree.kinds[inode] != _DIRECTORY:
            plan.data_bytes += record.size
            plan.dense_bytes += 0 if is_sparse(record) else record.size
            needs.data(record.size)
    for layer, number in tree.streams(inode).values():
        size = tree.layers[layer].index.record(number).size
        plan.data_bytes += size
        plan.dense_bytes += size
        needs.stream(size)
