"""The merged tree of a chain: what Windows would show, name by name, layer over layer.

Names compare as NTFS compares them, the first spelling of a name that stays is kept, whiteouts hide
what lies below them, hard links share an inode, streams hang on their file or directory. Everything
that reads a chain reads this tree: paths, images, changes, sizes.

A tree holds numbers, not objects: a *slot* is an int that stands for one name in one directory, and
the columns below are indexed by it. A million slots fit in about 300 MB.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from windowsfilter.engines.portable import windows_metadata
from windowsfilter.engines.portable.index import (
    RECORD_BYTES,
    Index,
    Kind,
    Record,
    RecordFlag,
    iter_records,
)
from windowsfilter.ntfs.names import fold, plain_stream

ROOT = 0
_IMPLIED = -1
_LAYER_SHIFT = 32
_RECORD_MASK = (1 << _LAYER_SHIFT) - 1

# Plain ints: comparing with an IntEnum member costs a method call for each of 100,000s of entries.
_DIRECTORY = int(Kind.DIRECTORY)
_HARD_LINK = int(Kind.HARD_LINK)
_WHITEOUT = int(Kind.WHITEOUT)
_OPAQUE = int(Kind.OPAQUE)
_STREAM = int(Kind.STREAM)
_DAMAGED = int(RecordFlag.DAMAGED)


class Indexed(Protocol):
    """What a tree needs of a layer."""

    @property
    def index(self) -> Index: ...


@dataclass(frozen=True, slots=True)
class Problem:
    """An entry that the tree keeps but cannot show as what it claims to be."""

    layer: int
    record: int
    name: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class _Link:
    parent: int
    leaf: bytes
    key: bytes
    ref: int
    path: bytes


class Tree:
    """A chain, merged. `layers` has the base first; they must stay open while the tree is used."""

    ROOT = ROOT

    def __init__(self, layers: Sequence[Indexed]) -> None:
        self.layers = layers
        self.names: list[bytes] = [b""]
        """Spelling of each slot's leaf name."""
        self.parents = array("I", [ROOT])
        self.kinds = bytearray([_DIRECTORY])
        """`Kind` of each slot; HARD_LINK for every name of an inode but the first."""
        self.kids: dict[int, dict[bytes, int]] = {ROOT: {}}
        """Directory slot -> {folded leaf: slot}, in the order of the tars."""
        self.problems: list[Problem] = []
        self._refs = array("q", [_IMPLIED])
        self._inodes: dict[int, int] = {}
        self._streams: dict[int, dict[bytes, tuple[bytes, int]]] = {}
        self._directories: dict[bytes, int] = {}
        self._link_counts: dict[int, int] | None = None
        for number, layer in enumerate(layers):
            self._apply(number, layer.index)

    def __len__(self) -> int:
        """How many slots were ever made; removed ones keep their number."""
        return len(self.names)

    # -- asking -------------------------------------------------------------------------------

    def lookup(self, path: bytes) -> int | None:
        """The slot at a `/`-separated path in any case, or None. Empty components are skipped."""
        slot = ROOT
        for leaf in path.split(b"/"):
            if leaf:
                found = self.kids.get(slot, {}).get(fold(leaf))
                if found is None:
                    return None
                slot = found
        return slot

    def path(self, slot: int) -> bytes:
        """Where the slot is, spelled as shown, without a leading slash."""
        leaves = []
        while slot != ROOT:
            leaves.append(self.names[slot])
            slot = self.parents[slot]
        return b"/".join(reversed(leaves))

    def is_directory(self, slot: int) -> bool:
        return self.kinds[slot] == _DIRECTORY

    def is_dangling(self, slot: int) -> bool:
        """Whether the slot is a hard link whose target does not exist: listed, never mounted."""
        return self.kinds[slot] == _HARD_LINK and slot not in self._inodes

    def inode(self, slot: int) -> int:
        """The slot whose entry has the content: another one for a hard link, else itself."""
        return self._inodes.get(slot, slot)

    def ref(self, slot: int) -> tuple[int, int] | None:
        """(layer, record number) of the slot's own entry; None for an implied directory."""
        ref = self._refs[slot]
        return None if ref == _IMPLIED else (ref >> _LAYER_SHIFT, ref & _RECORD_MASK)

    def record(self, slot: int) -> Record | None:
        """The record of the slot's inode; None for an implied directory."""
        ref = self._refs[self._inodes.get(slot, slot)]
        if ref == _IMPLIED:
            return None
        return self.layers[ref >> _LAYER_SHIFT].index.record(ref & _RECORD_MASK)

    def streams(self, slot: int) -> dict[bytes, tuple[int, int]]:
        """Stream name -> (layer, record number) of the slot's alternate data streams."""
        found = self._streams.get(self.inode(slot), {}).values()
        return {name: (ref >> _LAYER_SHIFT, ref & _RECORD_MASK) for name, ref in found}

    def stream(self, slot: int, name: bytes) -> tuple[int, int] | None:
        """(layer, record number) of one stream by its name in any case, with or without $DATA."""
        found = self._streams.get(self.inode(slot), {}).get(fold(plain_stream(name)))
        return None if found is None else (found[1] >> _LAYER_SHIFT, found[1] & _RECORD_MASK)

    def link_count(self, slot: int) -> int:
        """How many names the slot's inode has."""
        if self._link_counts is None:
            counts: dict[int, int] = {}
            linked = set(self._inodes.values())
            for kids in self.kids.values():
                for kid in kids.values():
                    inode = self._inodes.get(kid, kid)
                    if inode in linked:
                        counts[inode] = counts.get(inode, 0) + 1
            self._link_counts = counts
        return self._link_counts.get(self.inode(slot), 1)

    def walk(self, slot: int = ROOT) -> Iterator[int]:
        """The slot and all below it, a directory before its children, siblings in tar order."""
        stack = [slot]
        while stack:
            slot = stack.pop()
            yield slot
            kids = self.kids.get(slot)
            if kids:
                stack.extend(reversed(kids.values()))

    # -- merging ------------------------------------------------------------------------------

    def _apply(self, layer: int, index: Index) -> None:
        """Merge one layer: whiteouts first, because they speak of the layers below only."""
        self._directories = {b"": ROOT}
        if layer:
            self._hide(index)
        links: list[_Link] = []
        streams: list[tuple[bytes, int]] = []
        ref = layer << _LAYER_SHIFT
        for chunk in range(index.chunks):
            names = index.names(chunk)
            for raw in iter_records(index.block(chunk)):
                kind, at = raw[0], raw[16]
                path = names[at : at + raw[17]]
                if raw[1] & _DAMAGED:
                    self._report(layer, index, ref & _RECORD_MASK, path)
                if kind == _STREAM:
                    streams.append((path, ref))
                elif kind == _DIRECTORY:
                    self._refs[self._directory(path)] = ref
                elif kind != _WHITEOUT and kind != _OPAQUE:
                    above, _, leaf = path.rpartition(b"/")
                    parent = self._directories.get(above)
                    if parent is None:
                        parent = self._directory(above)
                    key = fold(leaf)
                    if kind == _HARD_LINK:
                        links.append(_Link(parent, leaf, key, ref, fold(path)))
                    else:
                        self._put(parent, leaf, key, kind, ref)
                ref += 1
        self._link(links, layer, index)
        self._attach(streams, layer)
        self._directories = {}

    def _report(self, layer: int, index: Index, number: int, path: bytes) -> None:
        """List what an entry's Windows metadata cannot be used for."""
        records, link = index.records(number), index.link(number)
        is_link = index.record(number).kind in windows_metadata.LINKS
        for reason in windows_metadata.problems(records, link, is_link=is_link):
            self.problems.append(Problem(layer, number, path, reason))

    def _put(self, parent: int, leaf: bytes, key: bytes, kind: int, ref: int) -> int:
        """Make a new slot for an entry that is no directory, in place of what was there."""
        kids = self.kids[parent]
        old = kids.get(key)
        if old is not None:
            leaf = self.names[old]
            if self.kinds[old] == _DIRECTORY:
                self._drop(parent, key)
        slot = len(self.names)
        # Most names are their own spelling once folded or shared by nobody: one object serves both.
        self.names.append(leaf)
        self.parents.append(parent)
        self.kinds.append(kind)
        self._refs.append(ref)
        kids[leaf if key == leaf else key] = slot
        return slot

    def _directory(self, path: bytes) -> int:
        """The slot of a directory, made (implied) with all its parents where it is missing."""
        found = self._directories.get(path)
        if found is not None:
            return found
        leaves: list[bytes] = []
        above = path
        while (slot := self._directories.get(above)) is None:
            above, _, leaf = above.rpartition(b"/")
            leaves.append(leaf)
        for leaf in reversed(leaves):
            slot = self._subdirectory(slot, leaf)
            above = above + b"/" + leaf if above else leaf
            self._directories[above] = slot
        return slot

    def _subdirectory(self, parent: int, leaf: bytes) -> int:
        key = fold(leaf)
        old = self.kids[parent].get(key)
        if old is not None and self.kinds[old] == _DIRECTORY:
            return old
        slot = self._put(parent, leaf, key, _DIRECTORY, _IMPLIED)
        self.kids[slot] = {}
        return slot

    def _drop(self, parent: int, key: bytes) -> None:
        """Remove a name and all below it. Slots that hard links elsewhere need keep their data."""
        gone = self.kids[parent].pop(key, None)
        if gone is None or self.kinds[gone] != _DIRECTORY:
            return
        self._directories = {b"": ROOT}
        stack = [gone]
        while stack:
            for kid in self.kids.pop(stack.pop()).values():
                if self.kinds[kid] == _DIRECTORY:
                    stack.append(kid)

    def _hide(self, index: Index) -> None:
        """Apply the layer's whiteouts, opaque ones too, to what the layers below it left."""
        for chunk in range(index.chunks):
            block = index.block(chunk)
            kinds = block[::RECORD_BYTES]
            if _WHITEOUT not in kinds and _OPAQUE not in kinds:
                continue
            names = index.names(chunk)
            for raw in iter_records(block):
                if raw[0] not in (_WHITEOUT, _OPAQUE):
                    continue
                above, _, leaf = names[raw[16] : raw[16] + raw[17]].rpartition(b"/")
                parent = self.lookup(above)
                if parent is None or self.kinds[parent] != _DIRECTORY:
                    continue
                if raw[0] == _WHITEOUT:
                    self._drop(parent, fold(leaf[4:]))
                else:
                    for key in list(self.kids[parent]):
                        self._drop(parent, key)

    def _link(self, links: Iterable[_Link], layer: int, index: Index) -> None:
        """Resolve the layer's hard links, whatever their order; a link may name another link."""
        waiting: dict[bytes, list[_Link]] = {}
        own = {link.path: link for link in links}
        for link in own.values():
            target = fold(index.link(link.ref & _RECORD_MASK).strip(b"/"))
            waiting.setdefault(target, []).append(link)
        ready = deque(target for target in waiting if target not in own)
        while ready:
            target = ready.popleft()
            slot = self.lookup(target)
            for link in waiting.pop(target):
                self._name(link, slot)
                if link.path in waiting:
                    ready.append(link.path)
        for remaining in waiting.values():  # a cycle: refused at import, kept when not verified
            for link in remaining:
                self._name(link, None)
        for link in own.values():
            slot = self.kids.get(link.parent, {}).get(link.key)
            if slot is not None and self.is_dangling(slot):
                number = link.ref & _RECORD_MASK
                wanted = index.link(number).decode("utf-8", "backslashreplace")
                reason = f"hard link to {wanted!r}, which does not exist"
                self.problems.append(Problem(layer, number, index.name(number), reason))

    def _name(self, link: _Link, target: int | None) -> None:
        """Make the slot of a hard link; without a file to point at it dangles."""
        parent = link.parent
        if parent not in self.kids:  # its directory was replaced by a later entry
            parent = self._directory(link.path.rpartition(b"/")[0])
        if target is None or self.kinds[target] == _DIRECTORY or self.is_dangling(target):
            self._put(parent, link.leaf, link.key, _HARD_LINK, link.ref)
            return
        inode = self.inode(target)
        slot = self._put(parent, link.leaf, link.key, _HARD_LINK, link.ref)
        self._inodes[slot] = inode

    def _attach(self, streams: Iterable[tuple[bytes, int]], layer: int) -> None:
        """Hang alternate data streams on their owners; a stream without one is a problem."""
        for path, ref in streams:
            above, _, leaf = path.rpartition(b"/")
            owner_leaf, _, name = leaf.partition(b":")
            owner = self.lookup(above + b"/" + owner_leaf)
            if owner is None or self.is_dangling(owner):
                reason = "stream of a file that does not exist"
                self.problems.append(Problem(layer, ref & _RECORD_MASK, path, reason))
                continue
            name = plain_stream(name)
            self._streams.setdefault(self.inode(owner), {})[fold(name)] = (name, ref)
