"""The chain below a scratch: from the marks in an upper directory back to slots of the tree."""

from __future__ import annotations

import errno
from functools import cached_property

from windowsfilter.engines.portable.index import Kind
from windowsfilter.engines.portable.scratch.upper import UpperKind, shown
from windowsfilter.engines.portable.shown import ShownTree
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.errors import HostError
from windowsfilter.ntfs.names import fold

_DIRECTORY = int(Kind.DIRECTORY)
_FILE = int(Kind.FILE)


class Below:
    """A chain's tree with what a scratch needs to know of it beyond names."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.shown = ShownTree(tree)

    def kid(self, directory: int | None, key: bytes) -> int | None:
        """The slot that mounts show in a directory under a folded name."""
        if directory is None:
            return None
        found = self.tree.kids.get(directory, {}).get(key)
        return None if found is None or self.tree.is_dangling(found) else found

    def is_directory(self, slot: int | None) -> bool:
        return slot is not None and self.tree.kinds[slot] == _DIRECTORY

    def is_file(self, slot: int | None) -> bool:
        """Whether the slot is a regular file, by whichever of its names."""
        return slot is not None and self.tree.kinds[self.tree.inode(slot)] == _FILE

    def kind(self, slot: int) -> UpperKind:
        """What the slot's inode looks like in a mount."""
        kind = self.tree.kinds[self.tree.inode(slot)]
        if kind == _DIRECTORY:
            return UpperKind.DIRECTORY
        return UpperKind.FILE if kind == _FILE else UpperKind.SYMLINK

    def slot_of(self, path: bytes, entry: tuple[int, int]) -> int:
        """The inode that a `windows.entry` attribute speaks of. `path` is for the message."""
        layer, number = entry
        tree = self.tree
        if layer < len(tree.layers) and number < tree.layers[layer].index.count:
            # Nearly always the entry is where its tar put it.
            found = tree.lookup(tree.layers[layer].index.name(number))
            if found is not None and tree.ref(tree.inode(found)) == entry:
                return tree.inode(found)
            inode = self._linked.get(entry)
            if inode is not None:
                return inode
        raise HostError(
            errno.EINVAL,
            f"scratch: {shown(path)!r} comes from entry {number} of layer {layer}, "
            "which this chain does not have",
        )

    def redirected(self, path: bytes, lower: int | None, redirect: bytes) -> int:
        """The directory that a `redirect` mark names. `path` is for the message."""
        if redirect.startswith(b"/"):
            slot = self.shown.find(redirect)
        else:
            slot = None if lower is None else self.shown.entry(lower, redirect)
        if slot is None or not self.is_directory(slot):
            raise HostError(
                errno.EINVAL,
                f"scratch: {shown(path)!r} was renamed from {shown(redirect)!r}, "
                "which this chain does not have",
            )
        return slot

    def links(self, inode: int) -> list[int]:
        """Every slot that is a name of a file, also those that the tree no longer shows."""
        return self._names.get(inode, [inode])

    def is_shown(self, slot: int) -> bool:
        """Whether the slot can still be reached: links keep the data of names that are gone."""
        tree = self.tree
        while slot != tree.ROOT:
            siblings = tree.kids.get(tree.parents[slot], {})
            if siblings.get(fold(tree.names[slot])) != slot:
                return False
            slot = tree.parents[slot]
        return True

    @cached_property
    def _names(self) -> dict[int, list[int]]:
        """Inode -> its slots, of files with several names only."""
        inode = self.tree.inode
        found: dict[int, list[int]] = {}
        for slot in range(len(self.tree)):
            if inode(slot) != slot:
                found.setdefault(inode(slot), [inode(slot)]).append(slot)
        return found

    @cached_property
    def _linked(self) -> dict[tuple[int, int], int]:
        """Entry -> inode, of files with several names: the first may be gone from the tree."""
        return {ref: inode for inode in self._names if (ref := self.tree.ref(inode)) is not None}
