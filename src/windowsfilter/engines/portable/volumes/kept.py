"""What an export needs of its layers beside the fixed fields: PAX records, link targets, descriptors.

An index keeps these in compressed frames, in the order of its tar, and a tree is walked in another
order; so they are read in the order of the layers first and kept. What many entries with large
records would need more memory for than MAX_BYTES is read again when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable

from windowsfilter.engines.portable.index import Kind
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.wire.backuptar import records

MAX_BYTES = 256 << 20

_MARKS = (
    records.EA_PREFIX,
    records.RAW_EAS,
    records.RAW_REPARSE,
    records.TEXT_DESCRIPTOR,
    records.MOUNT_POINT,
)
_LINKS = (int(Kind.SYMLINK), int(Kind.JUNCTION))

Ref = tuple[int, int]
"""(layer, record number)"""


class Kept:
    """Of the inodes of a tree, by where their entries are."""

    def __init__(self, tree: Tree, inodes: Iterable[int]) -> None:
        self._tree = tree
        self._pax: dict[Ref, bytes] = {}
        self._links: dict[Ref, bytes] = {}
        self._descriptors: dict[Ref, bytes] = {}
        self._left: set[Ref] = set()
        """Those whose records and link target are not kept."""
        self._bytes = 0
        refs = {ref: inode for inode in inodes if (ref := tree.ref(inode)) is not None}
        wanted: set[Ref] = set()
        for ref in sorted(refs):
            record = self._read(ref, tree.kinds[refs[ref]])
            if record:
                wanted.add((ref[0], record))
        for layer, number in sorted(wanted):
            if self._bytes > MAX_BYTES:
                break
            data = tree.layers[layer].index.value(number)
            self._descriptors[layer, number] = data
            self._bytes += len(data)

    @property
    def descriptors(self) -> Iterable[bytes]:
        """All distinct descriptors, as far as they are kept."""
        return self._descriptors.values()

    def pax(self, ref: Ref) -> bytes:
        """The raw PAX records of an entry if they say more than the index's fields, else b""."""
        found = self._pax.get(ref)
        if found is None and ref in self._left:
            return self._tree.layers[ref[0]].index.pax(ref[1])
        return found or b""

    def link(self, ref: Ref) -> bytes:
        """The target of a link."""
        found = self._links.get(ref)
        return self._tree.layers[ref[0]].index.link(ref[1]) if found is None else found

    def descriptor(self, layer: int, number: int) -> bytes:
        """The security descriptor with that number in a layer's index."""
        found = self._descriptors.get((layer, number))
        return self._tree.layers[layer].index.value(number) if found is None else found

    def _read(self, ref: Ref, kind: int) -> int:
        """Keep what an entry has; returns the number of its descriptor."""
        index = self._tree.layers[ref[0]].index
        raw = index.pax(ref[1])
        if any(mark in raw for mark in _MARKS):
            if self._bytes + len(raw) > MAX_BYTES:
                self._left.add(ref)
            else:
                self._pax[ref] = raw
                self._bytes += len(raw)
        if kind in _LINKS and ref not in self._left:
            link = self._links[ref] = index.link(ref[1])
            self._bytes += len(link)
        return index.record(ref[1]).sd
