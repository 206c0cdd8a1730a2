"""A small model of NTFS under a container: what a scratch must come to, whoever changed it.

Names compare folded and keep their first spelling, files have streams and may have several names,
deleting or renaming takes the streams along. Deliberately simple: dicts and objects, no tars, no
marks. One rule is overlayfs', not NTFS': changing a file of the chain parts it from its other
names (docs/formats/scratch.md, row 22).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from windowsfilter.ntfs.names import fold

DIRECTORY, FILE, LINK = "directory", "file", "link"
_serial = count(1)


@dataclass
class Inode:
    """A file, directory or link. `origin`: serial of the chain's inode whose metadata it has."""

    kind: str
    data: bytes = b""
    target: bytes = b""
    streams: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)
    """Folded name -> (name, data)."""
    origin: int | None = None
    touched: bool = False
    """Whether its write time or mode is not the origin's any more."""
    archive: bool = False
    """Whether its data was changed."""
    descriptor: bytes = b""
    """Of the chain's; what is new inherits."""
    attributes: int = 0
    own_descriptor: bytes | None = None
    """Set in the scratch, as are the next two."""
    own_attributes: int | None = None
    own_write: int | None = None
    rewritten: bool = False
    """Whether it was written since its attributes were set."""
    creation: int = 0
    kids: dict[bytes, Name] = field(default_factory=dict)
    serial: int = field(default_factory=lambda: next(_serial))

    def has_descriptor(self, descriptor: bytes) -> bool:
        return (self.own_descriptor or self.descriptor) == descriptor

    def has_metadata_of(self, was: Inode) -> bool:
        """Whether what was set on it is what the chain's has."""
        return self.has_descriptor(was.descriptor) and self.own_attributes in (None, was.attributes)

    def attributes_now(self) -> int:
        now = self.attributes if self.own_attributes is None else self.own_attributes
        if self.archive and self.origin and (self.own_attributes is None or self.rewritten):
            now = (now | 0x20) & ~0x80  # data was written since
        return now


@dataclass
class Name:
    """One name in a directory."""

    leaf: bytes
    inode: Inode
    copied: bool = False
    """Whether the scratch has it as a file of its own."""


class Refused(Exception):
    """Windows would not do that."""


class Model:
    """The files of a volume, from the layer's root. Paths are `/`-separated, in any case."""

    def __init__(self) -> None:
        self.root = Inode(DIRECTORY)
        self.base = self.root

    @classmethod
    def of(cls, root: Inode) -> Model:
        """A model of files that are there already."""
        model = cls()
        model.root = root
        return model

    def copied(self) -> Model:
        """The same, to go back to."""
        model = Model.of(copy.deepcopy(self.root))
        model.base = self.base
        return model

    def seal(self) -> None:
        """What is there now is the chain; what comes is the scratch."""
        for _, name in self.walk():
            name.inode.origin = name.inode.serial
            name.inode.touched = name.inode.archive = name.copied = False
            name.inode.own_write = None
        self.base = copy.deepcopy(self.root)

    # -- asking -------------------------------------------------------------------------------

    def find(self, path: bytes) -> Name | None:
        name: Name | None = Name(b"", self.root)
        for leaf in path.split(b"/"):
            if name is None:
                return None
            if leaf:
                name = name.inode.kids.get(fold(leaf))
        return name

    def walk(self, top: Inode | None = None, above: bytes = b"") -> Iterator[tuple[bytes, Name]]:
        """(path, name) of everything, directories first, by the bytes of names."""
        for name in sorted((top or self.root).kids.values(), key=lambda name: name.leaf):
            path = above + b"/" + name.leaf if above else name.leaf
            yield path, name
            yield from self.walk(name.inode, path) if name.inode.kind == DIRECTORY else ()

    def paths(self, *kinds: str) -> list[bytes]:
        return [path for path, name in self.walk() if name.inode.kind in kinds]

    def names_of(self, inode: Inode) -> list[Name]:
        return [name for _, name in self.walk() if name.inode is inode]

    # -- changing -----------------------------------------------------------------------------

    def write(self, path: bytes, data: bytes) -> None:
        name = self.find(path)
        if name is None:
            self._put(path, Inode(FILE, data, archive=True))
            return
        if name.inode.kind != FILE:
            raise Refused(path)
        self._part(name)
        name.inode.archive |= name.inode.data != data
        name.inode.data, name.inode.touched = data, True
        name.inode.rewritten, name.inode.own_write = True, None

    def write_stream(self, path: bytes, stream: bytes, data: bytes) -> None:
        name = self.find(path)
        if name is None or name.inode.kind == LINK:
            raise Refused(path)
        if name.inode.kind == FILE:
            self._part(name, streams=True)
        spelled = name.inode.streams.get(fold(stream), (stream, b""))[0]
        name.inode.streams[fold(stream)] = (spelled, data)

    def remove_stream(self, path: bytes, stream: bytes) -> None:
        name = self.find(path)
        if name is None or name.inode.kind != FILE or fold(stream) not in name.inode.streams:
            raise Refused(path)
        self._part(name, streams=True)
        del name.inode.streams[fold(stream)]

    def open(self, path: bytes) -> None:
        """Open a file for writing without writing anything."""
        name = self.find(path)
        if name is None or name.inode.kind != FILE:
            raise Refused(path)
        self._part(name)

    def chmod(self, path: bytes) -> None:
        """Give a file or directory other permissions than any has."""
        name = self.find(path)
        if name is None or name.inode.kind == LINK:
            raise Refused(path)
        if name.inode.kind == FILE:
            self._part(name)
        name.inode.touched = True

    def acl(self, path: bytes, descriptor: bytes) -> None:
        """Give anything a security descriptor."""
        inode = self._to_change(path, lambda inode: inode.has_descriptor(descriptor))
        inode.own_descriptor = descriptor

    def attrib(self, path: bytes, flag: int) -> None:
        """Set an attribute, or clear it where it is set."""
        inode = self._to_change(path, lambda _: False)
        inode.own_attributes = (inode.attributes_now() ^ flag) & ~0x80 or 0x80
        inode.rewritten = False

    def touch(self, path: bytes, time: int) -> None:
        """Set the write time to one that nothing has."""
        inode = self._to_change(path, lambda _: False)
        inode.touched, inode.own_write = True, time

    def _to_change(self, path: bytes, is_so: Callable[[Inode], bool]) -> Inode:
        name = self.find(path)
        if name is None:
            raise Refused(path)
        if is_so(name.inode):
            return name.inode
        if name.inode.kind == FILE:
            self._part(name)
        return name.inode

    def mkdir(self, path: bytes) -> None:
        if self.find(path) is not None:
            raise Refused(path)
        self._put(path, Inode(DIRECTORY))

    def symlink(self, path: bytes, target: bytes) -> None:
        if self.find(path) is not None:
            raise Refused(path)
        self._put(path, Inode(LINK, target=target))

    def link(self, path: bytes, existing: bytes) -> None:
        name = self.find(existing)
        if name is None or name.inode.kind != FILE or self.find(path) is not None:
            raise Refused(path)
        parent, leaf = self._parent(path)
        self._part(name)
        parent.kids[fold(leaf)] = Name(leaf, name.inode, copied=True)

    def remove(self, path: bytes) -> None:
        if self.find(path) is None or path.count(b"/") == 0:
            raise Refused(path)
        parent, leaf = self._parent(path)
        del parent.kids[fold(leaf)]

    def rename(self, path: bytes, to: bytes) -> None:
        name = self.find(path)
        taken = self.find(to)
        if name is None or path.count(b"/") == 0 or (taken is not None and taken is not name):
            raise Refused(to)
        if fold(to).startswith(fold(path) + b"/"):
            raise Refused(to)
        parent, leaf = self._parent(to)
        above, old = self._parent(path)
        if name.inode.kind != DIRECTORY:
            self._part(name)
        name.copied = True
        del above.kids[fold(old)]
        name.leaf = leaf
        parent.kids[fold(leaf)] = name

    def _parent(self, path: bytes) -> tuple[Inode, bytes]:
        above, _, leaf = path.rpartition(b"/")
        parent = self.find(above)
        if parent is None or parent.inode.kind != DIRECTORY:
            raise Refused(path)
        return parent.inode, leaf

    def _put(self, path: bytes, inode: Inode) -> None:
        parent, leaf = self._parent(path)
        inode.attributes = {DIRECTORY: 0x10, FILE: 0x20, LINK: 0x420}[inode.kind]
        parent.kids[fold(leaf)] = Name(leaf, inode, copied=True)

    def _part(self, name: Name, *, streams: bool = False) -> None:
        """Copy a name's file up: from now on it shares nothing with the chain's other names."""
        if name.copied:
            return
        if not streams:
            name.copied = True
        if len(self.names_of(name.inode)) > 1:
            parted = copy.copy(name.inode)
            parted.streams = dict(parted.streams)
            parted.serial = next(_serial)
            name.inode = parted

    # -- comparing ----------------------------------------------------------------------------

    def changes(self) -> list[tuple[str, bytes]]:
        """(kind, path) of every difference to the chain, sorted by path."""
        found: list[tuple[str, bytes]] = []
        self._compare(self.base, self.root, b"", found)
        return sorted(found, key=lambda change: change[1])

    def _compare(
        self, old: Inode | None, new: Inode, above: bytes, found: list[tuple[str, bytes]]
    ) -> None:
        before = old.kids if old is not None and old.kind == DIRECTORY else {}
        for key, name in before.items():
            if key not in new.kids:
                found.append(("delete", above + name.leaf))
        for key, name in new.kids.items():
            was = before.get(key)
            if was is None:
                found.append(("add", above + name.leaf))
            elif not unchanged(was, name):
                found.append(("modify", above + name.leaf))
            if name.inode.kind == DIRECTORY:
                inside = was.inode if was is not None else None
                self._compare(inside, name.inode, above + name.leaf + b"/", found)

    def groups(self) -> dict[bytes, frozenset[bytes]]:
        """Path -> every path with the same file, for files."""
        in_place = set()
        untouched = set()
        base = Model.of(self.base)
        origins = {name.inode.serial: name.inode for _, name in base.walk()}

        def as_was(inode: Inode) -> bool:
            was = origins.get(inode.origin or 0)
            return (
                was is not None
                and not inode.touched
                and inode.streams == was.streams
                and inode.has_metadata_of(was)
            )

        same: set[bytes] = set()
        for path, name in self.walk():
            was = base.find(path)
            if name.inode.kind == FILE and was is not None and unchanged(was, name):
                same.add(path)
                in_place.add(name.inode.serial)
                if not name.copied:
                    untouched.add(name.inode.origin)
        keys: dict[bytes, tuple[str, int | None]] = {}
        for path, name in self.walk():
            inode = name.inode
            if inode.kind != FILE:
                continue
            place = inode.serial in in_place if name.copied else inode.origin in untouched
            if path in same or (place and as_was(inode)):
                keys[path] = ("chain", inode.origin)
            else:
                keys[path] = ("scratch", inode.serial)
        return {
            path: frozenset(other for other, its in keys.items() if its == key)
            for path, key in keys.items()
        }


def unchanged(was: Name, now: Name) -> bool:
    """Whether a name is what the chain has there."""
    old, new = was.inode, now.inode
    if was.leaf != now.leaf or old.kind != new.kind or new.origin != old.serial or new.touched:
        return False
    if not new.has_metadata_of(old):
        return False
    if old.kind == DIRECTORY:
        return old.streams == new.streams
    return (old.data, old.target, old.streams) == (new.data, new.target, new.streams)
