"""A child layer as an image of its own, to be stacked over its parent's images.

What a build step changes is small and its base is mounted already: merging the base's tree again
would take seconds. So only the parent's images are asked, along the paths that the child touches.
Names take the parent's spelling, deletions become whiteouts (character device 0:0), directories
that were made anew are opaque. The rules are those of tree.py; tests compare the two.

One thing differs from a full image: a file of the parent that loses one of several names to the
child still counts it in st_nlink. Where a delta cannot say what the tree says, there is none
(`None`): then a full image is built.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from windowsfilter.engines.portable.aliases import is_shown, looks_like_alias
from windowsfilter.engines.portable.erofs.layout import FileType
from windowsfilter.engines.portable.erofs.stacked import ImageStack, StackedEntry
from windowsfilter.engines.portable.index import Kind, iter_records
from windowsfilter.engines.portable.links import Translator, windows_text
from windowsfilter.engines.portable.tree import Indexed
from windowsfilter.ntfs.names import fold

VERSION = 1
"""Names these rules: part of the key of every delta image."""

MAX_ENTRIES = 20_000
"""Records of a child for which a delta is worth having."""

_ROOT = 0
_DIRECTORY = int(Kind.DIRECTORY)
_HARD_LINK = int(Kind.HARD_LINK)
_WHITEOUT = int(Kind.WHITEOUT)
_OPAQUE = int(Kind.OPAQUE)
_STREAM = int(Kind.STREAM)
_LINKS = (int(Kind.SYMLINK), int(Kind.JUNCTION))
_PREFIX_SIZE = len(b".wh.")


class _NoDelta(Exception):
    """Something that only a full image can show."""


class _Found(NamedTuple):
    """Where a path leads: a slot of the delta, or an entry of the parent's images."""

    slot: int | None
    below: StackedEntry | None


@dataclass(frozen=True, slots=True)
class _Link:
    parent: int
    leaf: bytes
    number: int
    path: bytes  # folded


def make_delta(layers: Sequence[Indexed], parent: ImageStack) -> DeltaTree | None:
    """The last of `layers` (base first) over the images of the others, for `write_image`.

    None when a full image is needed: too many entries, names that need an alias, hard links that
    lead nowhere or to files of the parent that have several names. The parent must not have links
    that lead nowhere either (`ShownTree.has_dangling`): its images do not show them.
    """
    if layers[-1].index.count > MAX_ENTRIES:
        return None
    try:
        delta = DeltaTree(layers, parent)
        delta.apply()
    except _NoDelta:
        return None
    return delta


class DeltaTree:
    """What differs from the parent: an `erofs_writer.Source`, and a view for its links."""

    def __init__(self, layers: Sequence[Indexed], parent: ImageStack) -> None:
        self.layers = layers
        self.kinds = bytearray([_DIRECTORY])
        self.opaque: set[int] = set()
        self._stack = parent
        self._names: list[bytes] = [b""]
        self._parents = [_ROOT]
        self._refs: list[tuple[int, int] | None] = [self._stack.ref(*parent.root[0])]
        self._inodes: dict[int, int] = {}
        self._kids: dict[int, dict[bytes, int]] = {_ROOT: {}}
        # Of each directory that continues one of the parent: that one's place in the images, and
        # folded name -> spelling of what the child deletes from it.
        self._below: dict[int, StackedEntry] = {
            _ROOT: StackedEntry(b"", *parent.root[0], FileType.DIRECTORY, parent.root)
        }
        self._hidden: dict[int, dict[bytes, bytes]] = {}
        self._view = _DeltaView(self)
        self._translator = Translator(self._view)
        self._shared: set[int] = set()

    # -- Source -------------------------------------------------------------------------------

    def directories(self) -> Iterator[int]:
        """Every directory that is reachable."""
        stack = [_ROOT]
        while stack:
            slot = stack.pop()
            yield slot
            stack += [kid for kid in self._kids[slot].values() if self.kinds[kid] == _DIRECTORY]

    def kids(self, slot: int) -> tuple[list[bytes], list[int]]:
        """Names and slots of a directory's entries, whiteouts among them."""
        slots = list(self._kids[slot].values())
        return [self._names[kid] for kid in slots], slots

    def parent(self, slot: int) -> int:
        return self._parents[slot]

    def inode(self, slot: int) -> int:
        return self._inodes.get(slot, slot)

    def ref(self, slot: int) -> tuple[int, int] | None:
        return self._refs[slot]

    def readlink(self, slot: int) -> bytes:
        """See shown.ShownTree.readlink."""
        text = self._text(slot)
        if slot in self._shared:
            return windows_text(text)
        return self._translator.translate(slot, text)

    # -- applying the child -------------------------------------------------------------------

    def apply(self) -> None:
        """Merge the child: whiteouts first, then entries, then hard links, as Tree does."""
        self._hide_all()
        links = self._put_all()
        self._link_all(links)
        self._emit_whiteouts()

    def _hide_all(self) -> None:
        index = self.layers[-1].index
        for _, record, path, _ in index.entries():
            kind = record.kind
            if kind not in (_WHITEOUT, _OPAQUE):
                continue
            above, _, leaf = path.rpartition(b"/")
            found = self._lookup(above)
            if found is None or not self._leads_to_directory(found):
                continue
            if kind == _WHITEOUT:
                key = fold(leaf[_PREFIX_SIZE:])
                if self.child_of(found, key) is not None:
                    self._remove(self._open(above), key)
            else:
                slot = self._open(above)
                if slot == _ROOT:
                    raise _NoDelta  # overlayfs merges roots, whatever they say
                self._kids[slot].clear()
                self._hidden.pop(slot, None)
                if self._below.pop(slot, None) is not None:
                    self.opaque.add(slot)

    def _put_all(self) -> dict[bytes, _Link]:
        """Every entry that is no whiteout and no stream; returns the hard links by their path."""
        index = self.layers[-1].index
        layer = len(self.layers) - 1
        links: dict[bytes, _Link] = {}
        number = -1
        for chunk in range(index.chunks):
            names = index.names(chunk)
            for raw in iter_records(index.block(chunk)):
                number += 1
                kind, path = raw[0], names[raw[16] : raw[16] + raw[17]]
                if kind in (_WHITEOUT, _OPAQUE, _STREAM):
                    continue
                above, _, leaf = path.rpartition(b"/")
                if not path:
                    self._refs[_ROOT] = layer, number
                elif kind == _DIRECTORY:
                    self._refs[self._open(path)] = layer, number
                elif kind == _HARD_LINK:
                    link = _Link(self._open(above), leaf, number, fold(path))
                    links.pop(link.path, None)  # the last one counts, in the last one's place
                    links[link.path] = link
                else:
                    self._put(self._open(above), leaf, kind, (layer, number))
        return links

    def _link_all(self, links: dict[bytes, _Link]) -> None:
        """Resolve hard links, whatever their order; a link may name another link."""
        index = self.layers[-1].index
        waiting: dict[bytes, list[_Link]] = {}
        for link in links.values():
            target = fold(index.link(link.number).strip(b"/"))
            waiting.setdefault(target, []).append(link)
        ready = deque(target for target in waiting if target not in links)
        while ready:
            target = ready.popleft()
            found = self._lookup(target)
            slot = self._content(target, found)
            for link in waiting.pop(target):
                self._link(link, slot)
                if link.path in waiting:
                    ready.append(link.path)
        if waiting:  # a cycle
            raise _NoDelta

    def _link(self, link: _Link, target: int | None) -> None:
        parent = link.parent
        if not self._is_alive(parent):
            parent = self._open(link.path.rpartition(b"/")[0])
        if target is None:
            # A name that the tree has, with a spelling that later layers keep, but no mount.
            raise _NoDelta
        slot = self._put(parent, link.leaf, _HARD_LINK, (len(self.layers) - 1, link.number))
        self._inodes[slot] = target
        if self.kinds[target] in _LINKS:
            self._shared.add(target)

    def _content(self, path: bytes, found: _Found | None) -> int | None:
        """The slot whose content a hard link to `path` shares, taken over from the parent."""
        if found is None or self._leads_to_directory(found):
            return None
        if found.slot is not None:
            return self._inodes.get(found.slot, found.slot)
        entry = found.below
        assert entry is not None
        ref = self._stack.ref(entry.level, entry.nid)
        if ref is None or self._stack.inode(entry).links > 1:
            raise _NoDelta
        kind = self.layers[ref[0]].index.record(ref[1]).kind
        return self._put(self._open(path.rpartition(b"/")[0]), entry.name, kind, ref)

    def _emit_whiteouts(self) -> None:
        """Turn what is hidden into entries, but for names that are there again."""
        for slot, hidden in self._hidden.items():
            kids = self._kids[slot]
            for key, name in hidden.items():
                kid = kids.get(key)
                if kid is None or self._names[kid] != name:
                    # A name made anew in another spelling stands beside the whiteout of the old.
                    place = key if kid is None else key + b"\0whiteout"
                    kids[place] = self._new(slot, name, _WHITEOUT, None)
                elif self.kinds[kid] == _DIRECTORY:
                    self.opaque.add(kid)

    # -- one name -----------------------------------------------------------------------------

    def _new(self, parent: int, name: bytes, kind: int, ref: tuple[int, int] | None) -> int:
        self._names.append(name)
        self._parents.append(parent)
        self.kinds.append(kind)
        self._refs.append(ref)
        return len(self._names) - 1

    def _below_child(self, slot: int, key: bytes) -> StackedEntry | None:
        """What the parent's images have under this name, unless the child deleted it."""
        entry = self._below.get(slot)
        if entry is None or key in self._hidden.get(slot, ()):
            return None
        return self._stack.child(entry.parts, key)

    def _put(self, parent: int, leaf: bytes, kind: int, ref: tuple[int, int] | None) -> int:
        """A new slot in place of whatever has the name, in the spelling that is there."""
        key = fold(leaf)
        old = self._kids[parent].get(key)
        if old is not None:
            leaf = self._names[old]
        else:
            below = self._below_child(parent, key)
            if below is not None:
                leaf = below.name
            elif not is_shown(leaf) or looks_like_alias(leaf):
                raise _NoDelta
        slot = self._kids[parent][key] = self._new(parent, leaf, kind, ref)
        return slot

    def _open(self, path: bytes) -> int:
        """The slot of a directory, with all above it made, implied where nobody describes it."""
        slot = _ROOT
        for leaf in path.split(b"/"):
            if leaf:
                slot = self._open_child(slot, leaf)
        return slot

    def _open_child(self, parent: int, leaf: bytes) -> int:
        key = fold(leaf)
        kid = self._kids[parent].get(key)
        if kid is not None and self.kinds[kid] == _DIRECTORY:
            return kid
        below = self._below_child(parent, key)
        if kid is None and below is not None and below.is_directory:
            ref = self._stack.ref(below.level, below.nid)
            slot = self._put(parent, below.name, _DIRECTORY, ref)
            self._below[slot] = below
        else:
            slot = self._put(parent, leaf, _DIRECTORY, None)
            if below is not None and below.is_directory:
                self.opaque.add(slot)  # a file of this layer stood between the two
        self._kids[slot] = {}
        return slot

    def _remove(self, parent: int, key: bytes) -> None:
        """Take a name away, with the parent's entry of that name."""
        self._kids[parent].pop(key, None)
        below = self._below_child(parent, key)
        if below is not None:
            self._hidden.setdefault(parent, {})[key] = below.name

    # -- asking -------------------------------------------------------------------------------

    def _lookup(self, path: bytes) -> _Found | None:
        """Where a path leads in the child over its parent, in any case."""
        found: _Found | None = _Found(_ROOT, None)
        for leaf in path.split(b"/"):
            if leaf and found is not None:
                found = self.child_of(found, fold(leaf))
        return found

    def child_of(self, found: _Found, key: bytes) -> _Found | None:
        """The entry of a directory, here or in the parent, whose folded name is `key`."""
        if found.slot is None:
            assert found.below is not None
            entry = self._stack.child(found.below.parts, key)
        else:
            kid = self._kids.get(found.slot, {}).get(key)
            if kid is not None:
                return _Found(kid, None)
            entry = self._below_child(found.slot, key)
        return None if entry is None else _Found(None, entry)

    def _leads_to_directory(self, found: _Found) -> bool:
        if found.slot is not None:
            return self.kinds[found.slot] == _DIRECTORY
        return found.below is not None and found.below.is_directory

    def _is_alive(self, slot: int) -> bool:
        while slot != _ROOT:
            parent = self._parents[slot]
            if self._kids[parent].get(fold(self._names[slot])) != slot:
                return False
            slot = parent
        return True

    def _text(self, slot: int) -> bytes:
        ref = self._refs[slot]
        return b"" if ref is None else self.layers[ref[0]].index.link(ref[1])

    def found_target(self, found: _Found) -> bytes | None:
        """The Windows target of a link, here or in the parent; None for everything else."""
        if found.slot is not None:
            slot = self.inode(found.slot)
            if self.kinds[slot] not in _LINKS:
                return None
            return b"" if slot in self._shared else self._text(slot)
        entry = found.below
        if entry is None or entry.type != FileType.SYMLINK:
            return None
        ref = self._stack.ref(entry.level, entry.nid)
        if ref is None or self._stack.inode(entry).links > 1:
            return b""
        return self.layers[ref[0]].index.link(ref[1])

    def found_name(self, found: _Found) -> bytes:
        """How it is spelled."""
        if found.slot is not None:
            return self._names[found.slot]
        assert found.below is not None
        return found.below.name


class _DeltaView:
    """The child over its parent as links see it: links.View. Nodes are places in a list."""

    def __init__(self, delta: DeltaTree) -> None:
        self._delta = delta
        self._nodes: list[tuple[_Found, int]] = []
        self._numbers: dict[tuple[int, bytes], int] = {}

    def ancestors(self, node: int) -> list[tuple[bytes, int]]:
        """See links.View. Slots of the delta are nodes; other nodes are negative."""
        above = []
        node = self._above(node)
        while node != _ROOT:
            above.append((self._delta.found_name(self._found(node)), node))
            node = self._above(node)
        return above[::-1]

    def child(self, node: int, leaf: bytes) -> tuple[bytes, int] | None:
        """See links.View."""
        key = fold(leaf)
        found = self._delta.child_of(self._found(node), key)
        if found is None or (found.slot is not None and self._is_whiteout(found.slot)):
            return None
        name = self._delta.found_name(found)
        if found.slot is not None:
            return name, found.slot
        place = self._numbers.get((node, key))
        if place is None:
            place = self._numbers[node, key] = -1 - len(self._nodes)
            self._nodes.append((found, node))
        return name, place

    def target(self, node: int) -> bytes | None:
        """See links.View."""
        return self._delta.found_target(self._found(node))

    def _found(self, node: int) -> _Found:
        return _Found(node, None) if node >= 0 else self._nodes[-1 - node][0]

    def _above(self, node: int) -> int:
        return self._delta.parent(node) if node >= 0 else self._nodes[-1 - node][1]

    def _is_whiteout(self, slot: int) -> bool:
        return self._delta.kinds[slot] == _WHITEOUT
