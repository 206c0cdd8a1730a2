"""A whole scratch, name by name in the order of a layer's tar, with what happened to each.

Directories are visited where the upper has something to say, and below renamed ones everywhere. The
walk keeps the names of the directories on the way to where it is, and nothing of the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from windowsfilter.engines.portable.changes import SCAFFOLD, ChangeKind
from windowsfilter.engines.portable.scratch.below import Below
from windowsfilter.engines.portable.scratch.content import Contents, Stream
from windowsfilter.engines.portable.scratch.described import Described
from windowsfilter.engines.portable.scratch.links import windows_target
from windowsfilter.engines.portable.scratch.merge import (
    Merge,
    Merged,
    Merger,
    Orphans,
    Place,
    StreamMark,
)
from windowsfilter.engines.portable.scratch.upper import (
    ScratchRefused,
    UpperDirectory,
    UpperEntry,
    UpperKind,
    open_upper,
    shown,
)
from windowsfilter.engines.portable.scratch.view import ScratchView
from windowsfilter.engines.portable.tree import ROOT, Tree
from windowsfilter.ntfs.names import fold

log = logging.getLogger(__name__)

# Links are looked up where their other names are; those are often together.
_KEPT_DIRECTORIES = 64
_SCAFFOLD_NAMES = (b"Files", b"Hives")


@dataclass(slots=True)
class Node:
    """One name of the scratch that its layer may have to mention."""

    path: bytes
    merged: Merged
    parent: Node | None
    change: ChangeKind | None = None
    """None: a directory that is only on the way, or one that every layer has."""
    link: bytes | None = None
    """The path of the name that this one is a hard link to."""
    data_changed: bool = False
    """Whether the origin's data is not this file's."""
    streams: list[Stream] = field(default_factory=list)
    whiteouts: list[tuple[bytes, int]] = field(default_factory=list)
    """Of a directory: deleted names, and the slots that they had."""

    @property
    def is_directory(self) -> bool:
        merged = self.merged
        return merged.lower is not None or bool(merged.descend) or self.is_scaffold

    @property
    def is_scaffold(self) -> bool:
        """Whether this is a top directory that every layer has."""
        return self.parent is None and self.merged.key in SCAFFOLD


@dataclass(slots=True)
class _Level:
    node: Node | None
    names: Iterator[Merged]
    opened: ExitStack
    expanding: bool
    """Whether names that only the tree has are news here."""


class Walk:
    """Walks one scratch; use `walking`."""

    def __init__(self, tree: Tree, root: UpperDirectory) -> None:
        self.below = Below(tree)
        self.root = root
        self.contents = Contents(self.below, root)
        self.view = ScratchView(self.below, root, keep=_KEPT_DIRECTORIES)
        self.described = Described(self.below, root, self.view)
        self._orphans = Orphans()
        self._merger = Merger(self.below, self._orphans)
        self._links: dict[tuple[int, int], bytes] = {}
        """(device, inode), or (-1, slot) for files that are as the tree has them -> first path."""
        self._shared: dict[tuple[int, int], list[StreamMark]] = {}
        """(device, inode) of files with several names -> the streams beside any of them."""

    def nodes(self) -> Iterator[Node]:
        """Everything the layer may have to mention: directories before what is in them.

        A node's upper directory is open until the next node is asked for.
        Raises ScratchRefused for what cannot be in a layer, HostError for what changes meanwhile.
        """
        if self.root.has_streams():
            for node in self._walk(decide=False):
                self._share_streams(node)
        self._orphans.collecting = False
        yield from self._walk(decide=True)
        for inode in self._orphans.found.keys() - self._orphans.adopted:
            for mark in self._orphans.found[inode]:
                if mark.entry is not None:
                    log.info("scratch: stream %s went with its file", _shown_mark(mark))

    def everything(self) -> Iterator[Node]:
        """Like `nodes`, without deciding what changed: all that the upper has, equal or not."""
        self._orphans.collecting = False
        return self._walk(decide=False)

    def _walk(self, *, decide: bool) -> Iterator[Node]:
        root = self._merger.merge([Place(self.root)], ROOT, ROOT, b"")
        self._add_scaffold(root)
        stack = [_Level(None, iter(root.names), ExitStack(), expanding=False)]
        try:
            while stack:
                level = stack[-1]
                merged = next(level.names, None)
                if merged is None:
                    stack.pop().opened.close()
                    continue
                above = level.node.path + b"/" if level.node else b""
                node = Node(above + merged.leaf, merged, level.node)
                if node.is_directory:
                    stack.append(self._enter(node, expanding=level.expanding))
                    if decide:
                        self._decide_directory(node)
                    yield node
                elif not decide or self._decide(node, expanding=level.expanding):
                    yield node
        finally:
            for level in reversed(stack):
                level.opened.close()

    def _add_scaffold(self, root: Merge) -> None:
        """Every layer has these two, changed or not."""
        have = {name.key for name in root.names}
        for key, leaf in zip(SCAFFOLD, _SCAFFOLD_NAMES, strict=True):
            if key not in have:
                slot = self.below.kid(ROOT, key)
                if slot is None:
                    root.names.append(Merged(key, leaf))
                else:
                    root.names.append(self._merger.base(key, slot, there=slot))
        # Others come behind them, as in the reference.
        root.names.sort(key=lambda name: (name.key not in SCAFFOLD, name.leaf))

    def _enter(self, node: Node, *, expanding: bool) -> _Level:
        """Open a directory's uppers and merge what is in them."""
        merged = node.merged
        opened = ExitStack()
        try:
            places = [
                Place(opened.enter_context(directory.open_directory(entry)), exact)
                for directory, entry, exact in merged.descend
            ]
            there = merged.there if self.below.is_directory(merged.there) else None
            same = merged.lower == there
            if not places and (same or merged.lower is None):
                # Untouched, only mentioned: a scaffold, or a directory whose stream was changed.
                return _Level(node, iter(()), opened, expanding)
            merge = self._merger.merge(places, merged.lower, there, node.path)
        except BaseException:
            opened.close()
            raise
        node.whiteouts = merge.whiteouts
        return _Level(node, iter(merge.names), opened, expanding=not same)

    def _share_streams(self, node: Node) -> None:
        """Row 39: a stream beside one name of a file is there under its other names too."""
        entry, marks = node.merged.upper, node.merged.streams
        if not marks or entry is None or entry.stat.st_nlink == 1 or node.is_directory:
            return
        shared = self._shared.setdefault(identity(entry), [])
        for mark in marks:
            if any(fold(other.name) == fold(mark.name) for other in shared):
                raise ScratchRefused(
                    node.path + b":" + mark.name, "is a stream of two names of one file"
                )
            shared.append(mark)

    # -- what happened ------------------------------------------------------------------------

    def _decide_directory(self, node: Node) -> None:
        merged = node.merged
        node.streams, differ = self.contents.streams(merged)
        there = merged.there
        if there is None:
            if not node.is_scaffold:
                node.change = ChangeKind.ADD
            return
        tree = self.below.tree
        had = tree.streams(there) if tree.is_directory(there) else {}
        if had and not had.keys() <= {stream.name for stream in node.streams}:
            raise ScratchRefused(
                node.path, "lost a stream that it has in the chain, which a layer cannot say"
            )
        if (
            differ
            or merged.origin != there
            or tree.names[there] != merged.leaf
            or not tree.is_directory(there)
            or (merged.upper and not self.described.metadata.same(merged.upper, there, times=False))
        ):
            node.change = ChangeKind.MODIFY

    def _decide(self, node: Node, *, expanding: bool) -> bool:
        """Whether a name that is no directory must be mentioned, and as what."""
        merged = node.merged
        there = merged.there
        node.change = ChangeKind.ADD if there is None else ChangeKind.MODIFY
        entry, origin = merged.upper, merged.origin
        if entry is not None and identity(entry) in self._shared:
            merged.streams = self._shared[identity(entry)]
        node.streams, differ = self.contents.streams(merged)
        if entry is None:
            if not differ:
                assert origin is not None
                if not expanding or self._is_at(node, there, origin):
                    return False
                self._link(node, None, origin)
            return True
        equal = origin is not None and self._equal(node, entry, origin) and not differ
        if equal and self._is_at(node, there, origin):
            return False
        if entry.kind is UpperKind.FILE:
            self._link(node, entry, origin if equal else None)
        elif not equal:
            assert merged.place is not None
            windows_target(merged.place.readlink(entry), node.path)  # raises if it has none
        return True

    def _equal(self, node: Node, entry: UpperEntry, origin: int) -> bool:
        """Whether data and metadata are still the origin's."""
        place = node.merged.place
        assert place is not None
        if entry.kind is UpperKind.SYMLINK:
            same_data = place.readlink(entry) == self.below.shown.readlink(origin)
        else:
            same_data = self.contents.same_data(place, entry, origin)
        node.data_changed = not same_data
        return same_data and self.described.metadata.same(entry, origin, times=True)

    def _is_at(self, node: Node, there: int | None, origin: int | None) -> bool:
        """Whether the tree has the origin at the node's path, in its spelling."""
        if there is None or self.below.tree.inode(there) != origin:
            return False
        return self.below.tree.names[there] == node.merged.leaf

    def _link(self, node: Node, entry: UpperEntry | None, origin: int | None) -> None:
        """Make a node a link if another name has the same file. `origin`: it is as in the tree.

        Only where the scratch shows one inode: overlayfs parts links of the tree when it copies one
        up, and a copy made with all attributes is not a link either.
        """
        key = (-1, origin or 0)
        if entry is not None:
            if entry.stat.st_nlink == 1:
                return
            key = identity(entry)
        if key not in self._links and origin is not None and self.below.is_file(origin):
            remaining = self._in_place(entry, origin)
            if remaining is not None:
                self._links[key] = remaining
        first = self._links.setdefault(key, node.path)
        if first != node.path:
            node.link = first

    def _in_place(self, entry: UpperEntry | None, origin: int) -> bytes | None:
        """A path of the chain where this file still is: the same inode, not changed."""
        tree = self.below.tree
        for slot in self.below.links(origin):
            if not self.below.is_shown(slot):
                continue
            path = tree.path(slot)
            found = self.view.find(path)
            if found is None or found.origin != origin or found.streams:
                continue
            if found.leaf != tree.names[slot]:
                continue
            there = found.there
            if there is not None and tree.inode(there) == origin and _same_inode(found, entry):
                return path
        return None


@contextmanager
def walking(tree: Tree, upper: Path) -> Iterator[Walk]:
    """A walk over the scratch whose upper directory is `upper`, over the chain of `tree`."""
    with open_upper(upper) as root:
        yield Walk(tree, root)


def upper_files(below: Below, root: UpperDirectory) -> Iterator[Merged]:
    """Every name of a file that the upper directory itself has, with the streams beside it."""
    for node in Walk(below.tree, root).everything():
        entry = node.merged.upper
        if entry is not None and entry.kind is UpperKind.FILE:
            yield node.merged


def _same_inode(found: Merged, entry: UpperEntry | None) -> bool:
    if found.upper is None or entry is None:
        return found.upper is None and entry is None
    return identity(found.upper) == identity(entry)


def identity(entry: UpperEntry) -> tuple[int, int]:
    """What names of one file in an upper have in common."""
    return entry.stat.st_dev, entry.stat.st_ino


def _shown_mark(mark: StreamMark) -> str:
    name = mark.entry.name if mark.entry else mark.name
    return shown(mark.directory + b"/" + name)
