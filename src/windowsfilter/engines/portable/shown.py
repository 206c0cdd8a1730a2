"""A merged tree as every mount shows it: names that Linux can hold, links that it can follow.

Shared by the image writer, the FUSE server and whoever maps a path of a mount back to its entry.
Hard links without a target are in the tree but not in any mount.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from functools import cached_property

from windowsfilter.engines.portable.aliases import (
    MAX_BYTES,
    is_shown,
    looks_like_alias,
    shown_names,
)
from windowsfilter.engines.portable.index import Kind
from windowsfilter.engines.portable.links import Translator, windows_text
from windowsfilter.engines.portable.tree import Indexed, Tree
from windowsfilter.ntfs.names import fold

_HARD_LINK = int(Kind.HARD_LINK)
_LINKS = (int(Kind.SYMLINK), int(Kind.JUNCTION))
FILE_MODE = 0o644
DIRECTORY_MODE = 0o755
PRIVATE_MODE = 0o700
"""What private images leave of the permissions of the root and the directories in it."""
_PERMISSIONS = 0o777
_KEPT_DIRECTORIES = 64


def permissions(mode: int, *, directory: bool) -> int:
    """Permission bits of an entry; Windows exporters write none, then a fixed default counts."""
    return mode & _PERMISSIONS or (DIRECTORY_MODE if directory else FILE_MODE)


def are_shown_permissions(found: int, mode: int, *, directory: bool) -> bool:
    """Whether permission bits `found` in a mount, private or not, are those of an entry's mode."""
    shown = permissions(mode, directory=directory)
    return found == shown or (directory and found == shown & PRIVATE_MODE)


class ShownTree:
    """The view of `tree`; nodes are its slots."""

    opaque: Container[int] = frozenset()

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._translator = Translator(self)
        self._known_aliases: dict[int, tuple[dict[int, bytes], dict[bytes, int]]] = {}

    @property
    def layers(self) -> Sequence[Indexed]:
        """The chain, base first."""
        return self.tree.layers

    @property
    def kinds(self) -> Sequence[int]:
        """`Kind` of each slot."""
        return self.tree.kinds

    def directories(self) -> Iterator[int]:
        """Every directory, the root included."""
        return iter(self.tree.kids)

    def parent(self, slot: int) -> int:
        """The directory above; the root is above itself."""
        return self.tree.parents[slot]

    def inode(self, slot: int) -> int:
        """The slot that carries a hard link's content."""
        return self.tree.inode(slot)

    def ref(self, slot: int) -> tuple[int, int] | None:
        """(layer, record number) of an inode; None for an implied directory."""
        return self.tree.ref(slot)

    def kids(self, slot: int) -> tuple[list[bytes], list[int]]:
        """Names and slots of a directory's entries, in the same order, that of the tree."""
        tree = self.tree
        slots = list(tree.kids[slot].values())
        kinds = tree.kinds
        if any(kinds[kid] == _HARD_LINK for kid in slots):
            slots = [kid for kid in slots if not tree.is_dangling(kid)]
        spelled = tree.names
        names = [spelled[kid] for kid in slots]
        if names and len(max(names, key=len)) > MAX_BYTES:
            aliases = shown_names(names)
            names = [aliases.get(name, name) for name in names]
        return names, slots

    def name(self, slot: int) -> bytes:
        """How the slot's own name is shown."""
        name = self.tree.names[slot]
        if is_shown(name) or slot == self.tree.ROOT:
            return name
        return self._aliases(self.tree.parents[slot])[0].get(slot, name)

    def entry(self, directory: int, shown: bytes) -> int | None:
        """The slot that a directory shows under exactly this name."""
        found = self.tree.kids.get(directory, {}).get(fold(shown))
        if found is not None and self.tree.names[found] == shown:
            return None if self.tree.is_dangling(found) else found
        if not looks_like_alias(shown) or directory not in self.tree.kids:
            return None
        return self._aliases(directory)[1].get(shown)

    def find(self, path: bytes) -> int | None:
        """The slot at a path as shown, `/`-separated, exact spelling."""
        slot: int | None = self.tree.ROOT
        for leaf in path.split(b"/"):
            if leaf and slot is not None:
                slot = self.entry(slot, leaf)
        return slot

    def readlink(self, slot: int) -> bytes:
        """What `readlink` gives for a symbolic link or junction."""
        if slot in self._shared_links:
            return windows_text(self._text(slot))
        return self._translator.translate(slot, self._text(slot))

    # -- links.View ---------------------------------------------------------------------------

    def ancestors(self, slot: int) -> list[tuple[bytes, int]]:
        """See links.View."""
        above = []
        slot = self.tree.parents[slot]
        while slot != self.tree.ROOT:
            above.append((self.name(slot), slot))
            slot = self.tree.parents[slot]
        return above[::-1]

    def child(self, slot: int, leaf: bytes) -> tuple[bytes, int] | None:
        """See links.View."""
        found = self.tree.kids.get(slot, {}).get(fold(leaf))
        if found is None or self.tree.is_dangling(found):
            return None
        return self.name(found), found

    def target(self, slot: int) -> bytes | None:
        """See links.View."""
        if self.tree.kinds[slot] not in _LINKS:
            return None
        return b"" if slot in self._shared_links else self._text(slot)

    def _aliases(self, directory: int) -> tuple[dict[int, bytes], dict[bytes, int]]:
        """(slot -> alias, alias -> slot) of a directory; kept, because whole ones are asked for."""
        found = self._known_aliases.get(directory)
        if found is None:
            names, slots = self.kids(directory)
            spelled = self.tree.names
            by_slot = {
                slot: name
                for name, slot in zip(names, slots, strict=True)
                if name is not spelled[slot]
            }
            if len(self._known_aliases) >= _KEPT_DIRECTORIES:
                self._known_aliases.clear()
            by_name = {name: slot for slot, name in by_slot.items()}
            found = self._known_aliases[directory] = by_slot, by_name
        return found

    def _text(self, slot: int) -> bytes:
        ref = self.tree.ref(slot)
        return b"" if ref is None else self.tree.layers[ref[0]].index.link(ref[1])

    @cached_property
    def _shared_links(self) -> set[int]:
        """Links that have several names: what is relative to one of them is wrong for another."""
        inodes = {self.tree.inode(slot) for slot in self._hard_links()}
        return {inode for inode in inodes if self.tree.kinds[inode] in _LINKS}

    @cached_property
    def has_dangling(self) -> bool:
        """Whether the tree has hard links without a target."""
        return any(
            self.tree.is_dangling(slot) and self._is_reachable(slot) for slot in self._hard_links()
        )

    def _is_reachable(self, slot: int) -> bool:
        while slot != self.tree.ROOT:
            parent = self.tree.parents[slot]
            if self.tree.kids.get(parent, {}).get(fold(self.tree.names[slot])) != slot:
                return False
            slot = parent
        return True

    def _hard_links(self) -> Iterator[int]:
        slot = self.tree.kinds.find(_HARD_LINK)
        while slot >= 0:
            yield slot
            slot = self.tree.kinds.find(_HARD_LINK, slot + 1)
