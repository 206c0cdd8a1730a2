r"""Paths into a chain, as `pathlib` would have them if it knew Windows layers.

Nothing is mounted and nothing unpacked: a path asks the merged tree, reading takes bytes from the
blob. Components may be separated by `\` or `/` and spelled in any case; `C:` and a leading separator
mean the root of the view. `file.txt:name` is an alternate data stream of `file.txt`.

The *volume* view is what a container sees as `C:\` (`Files/` of the layers), the *layer* view is
rooted at the layer folder (`Files`, `Hives`, `UtilityVM`).
"""

from __future__ import annotations

import fnmatch
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from windowsfilter.engines.portable.index import Kind, Record, RecordFlag
from windowsfilter.engines.portable.links import parse_target
from windowsfilter.engines.portable.tree import ROOT, Tree
from windowsfilter.engines.portable.view import View
from windowsfilter.errors import EntryNotFound, UsageError
from windowsfilter.ntfs.names import fold
from windowsfilter.store.chain import Chain
from windowsfilter.store.stats import EntryType, Stat, Stream
from windowsfilter.store.stats import text as _text

_DRIVE = re.compile(r"[A-Za-z]:(?=[\\/]|\Z)")
_DEVICE_PREFIX = re.compile(r"[\\/]{2}[?.][\\/]|\\\?\?\\")
# As many links as Linux and Windows follow, give or take.
_MAX_LINKS = 40
_VOLUME = b"Files"
_DIRECTORY_ATTRIBUTE = 0x10


class LayerPath:
    """A place in a chain, whether something is there or not. Immutable and cheap to make."""

    __slots__ = ("_chain", "_parts", "_view")

    def __init__(self, chain: Chain, view: View, parts: tuple[bytes, ...] = ()) -> None:
        self._chain = chain
        self._view = view
        self._parts = parts

    # -- the name -----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The last component, "" for the root."""
        return _text(self._parts[-1]) if self._parts else ""

    @property
    def parts(self) -> tuple[str, ...]:
        """The components below the root."""
        return tuple(map(_text, self._parts))

    @property
    def parent(self) -> LayerPath:
        """The directory it is in; the root is its own parent."""
        return self._with(self._parts[:-1])

    @property
    def stem(self) -> str:
        """The name without its last suffix."""
        return self.name[: len(self.name) - len(self.suffix)]

    @property
    def suffix(self) -> str:
        """The last `.` and what follows it, "" if there is none."""
        at = self.name.rfind(".")
        return self.name[at:] if 0 < at < len(self.name) - 1 else ""

    def joinpath(self, *others: str | LayerPath) -> LayerPath:
        r"""This path with others below it; one that begins with `\` or `C:` starts at the root."""
        parts = self._parts
        for other in others:
            if isinstance(other, LayerPath):
                parts += other._parts
                continue
            rooted, more = _parse(other)
            parts = _normalize(() if rooted else parts, more)
        return self._with(parts)

    __truediv__ = joinpath

    def with_name(self, name: str) -> LayerPath:
        """The sibling of that name."""
        return self.parent / name

    def __str__(self) -> str:
        prefix = "C:\\" if self._view is View.VOLUME else ""
        return prefix + "\\".join(self.parts)

    def __repr__(self) -> str:
        return f"<LayerPath {str(self)!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LayerPath):
            return NotImplemented
        return self._key() == other._key()

    def __lt__(self, other: LayerPath) -> bool:
        return self._key()[2:] < other._key()[2:]

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return id(self._chain), self._view, tuple(map(fold, self._parts))

    def _with(self, parts: tuple[bytes, ...]) -> LayerPath:
        return LayerPath(self._chain, self._view, parts)

    # -- asking -------------------------------------------------------------------------------

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there is an entry, or a stream, of that name."""
        return self._find(follow=follow_symlinks) is not None

    def is_dir(self) -> bool:
        """Whether it is a directory or a link to one."""
        return self._type(follow=True) is EntryType.DIRECTORY

    def is_file(self) -> bool:
        """Whether it is a file (or a stream), or a link to one."""
        return self._type(follow=True) is EntryType.FILE

    def is_symlink(self) -> bool:
        """Whether it is itself a symbolic link."""
        return self._type(follow=False) is EntryType.SYMLINK

    def is_junction(self) -> bool:
        """Whether it is itself a junction or volume mount point."""
        return self._type(follow=False) is EntryType.JUNCTION

    def readlink(self) -> str:
        """The target of a link as Windows sees it."""
        target = self.lstat().link_target
        if target is None:
            raise UsageError(f"read link {self}: it is no link")
        return target

    def resolve(self) -> LayerPath:
        """The path with all links followed and in the spelling of the layers."""
        return self._spelling_of(self._need(follow=True))

    def stat(self, *, follow_symlinks: bool = True) -> Stat:
        """All that is known of the entry. Raises EntryNotFound."""
        found = self._need(follow=follow_symlinks)
        return self._stat(found)

    def lstat(self) -> Stat:
        """`stat` of a link itself."""
        return self.stat(follow_symlinks=False)

    def iterdir(self) -> Iterator[LayerPath]:
        """The entries of a directory in the order of the layers. Raises UsageError for a file."""
        found = self._need(follow=True)
        tree = self._tree
        if not tree.is_directory(found.slot):
            raise UsageError(f"list {self}: not a directory")
        for slot in tree.kids[found.slot].values():
            yield self._with((*self._parts, tree.names[slot]))

    def walk(self) -> Iterator[tuple[LayerPath, list[str], list[str]]]:
        """(directory, names of directories, names of others), top down; links are not followed."""
        pending = [self]
        while pending:
            here = pending.pop()
            found = here._need(follow=here is self)
            directories: list[str] = []
            others: list[str] = []
            for slot in self._tree.kids.get(found.slot, {}).values():
                kinds = directories if self._tree.is_directory(slot) else others
                kinds.append(_text(self._tree.names[slot]))
            yield here, directories, others
            pending.extend(here._with((*here._parts, _bytes(name))) for name in directories[::-1])

    def glob(self, pattern: str) -> Iterator[LayerPath]:
        """Paths below that match in any case: `*`, `?`, `[a-z]` in a component, `**` for any depth."""
        rooted, wanted = _parse(pattern)
        if rooted or not wanted:
            raise UsageError(f"glob {pattern!r}: give a pattern relative to {self}")
        found = self._find(follow=True)
        if found is not None and found.stream is None:
            yield from self._glob(found.slot, self._parts, [_text(part) for part in wanted])

    def rglob(self, pattern: str) -> Iterator[LayerPath]:
        """`glob` at any depth."""
        return self.glob("**/" + pattern)

    def streams(self) -> tuple[Stream, ...]:
        """The alternate data streams of a file or directory."""
        return self._streams(self._need(follow=True).slot)

    # -- reading ------------------------------------------------------------------------------

    def open(self, mode: Literal["rb"] = "rb") -> io.BufferedReader:
        """A seekable reader of a file or stream. Raises EntryNotFound, UsageError for others."""
        if mode != "rb":
            raise UsageError(f"open {self}: layers are read-only, use a scratch to change files")
        found = self._need(follow=True)
        if found.record is None or found.ref is None or found.record.kind not in _READABLE:
            raise UsageError(f"open {self}: not a file")
        return io.BufferedReader(_Data(self._chain, found.ref, found.record), 1 << 16)

    def read_bytes(self) -> bytes:
        """The whole content."""
        with self.open() as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The whole content as text."""
        return self.read_bytes().decode(encoding, errors)

    # -- inside -------------------------------------------------------------------------------

    @property
    def _tree(self) -> Tree:
        return self._chain.tree

    @property
    def _depth(self) -> int:
        return 1 if self._view is View.VOLUME else 0

    def _root(self) -> int | None:
        return self._tree.lookup(_VOLUME) if self._depth else ROOT

    def _need(self, *, follow: bool) -> _Found:
        found = self._find(follow=follow)
        if found is None:
            raise EntryNotFound(f"no entry {self}")
        return found

    def _find(self, *, follow: bool) -> _Found | None:
        """The slot that the path leads to; links on the way are always followed."""
        tree, slot, links = self._tree, self._root(), 0
        pending = list(reversed(self._parts))
        while pending and slot is not None:
            leaf = pending.pop()
            found = tree.kids.get(slot, {}).get(fold(leaf))
            if found is None:
                stream = self._find_stream(slot, leaf) if not pending else None
                if stream is not None or pending:
                    return stream and replace(stream, through_link=links > 0)
                links += 1
                target = self._stream_of_target(slot, leaf)
                if links > _MAX_LINKS or target is None:
                    return None
                slot, more = target
                pending.extend(reversed(more))
            elif (pending or follow) and tree.kinds[found] in _LINKS:
                links += 1
                target = self._target(found)
                if links > _MAX_LINKS or target is None:
                    return None
                slot, more = target
                pending.extend(reversed(more))
            else:
                slot = found
        if slot is None:
            return None
        return _Found(slot, None, tree.ref(tree.inode(slot)), tree.record(slot), links > 0)

    def _find_stream(self, directory: int, leaf: bytes) -> _Found | None:
        owner, colon, name = leaf.partition(b":")
        slot = self._tree.kids.get(directory, {}).get(fold(owner)) if owner else directory
        ref = None if slot is None or not colon else self._tree.stream(slot, name)
        if slot is None or ref is None:
            return None
        return _Found(slot, name, ref, self._chain.layers[ref[0]].index.record(ref[1]))

    def _stream_of_target(self, directory: int, leaf: bytes) -> tuple[int, list[bytes]] | None:
        """As `_target`, of a stream that a link does not have itself: it is its target's."""
        owner, colon, name = leaf.partition(b":")
        slot = self._tree.kids.get(directory, {}).get(fold(owner)) if colon else None
        target = None if slot is None else self._target(slot)
        if target is None:
            return None
        here, leaves = target
        return here, [*leaves[:-1], b"".join(leaves[-1:]) + b":" + name]

    def _target(self, slot: int) -> tuple[int, list[bytes]] | None:
        """Where a link leads: a directory and what to look up from there; None if elsewhere."""
        tree = self._tree
        parsed = parse_target(self._link_text(slot))
        volume = _volume_of(tree, slot)
        if parsed is None or volume is None:
            return None
        absolute, leaves = parsed
        if absolute:
            return volume, leaves
        here = tree.parents[slot]
        while leaves and leaves[0] == b"..":
            if here == volume:
                return None
            here, leaves = tree.parents[here], leaves[1:]
        return here, list(_normalize((), leaves))

    def _link_text(self, slot: int) -> bytes:
        ref = self._tree.ref(self._tree.inode(slot))
        return b"" if ref is None else self._chain.layers[ref[0]].index.link(ref[1])

    def _spelled(self, found: _Found) -> LayerPath:
        """This path in the spelling of the layers, unless it leads through links."""
        return self if found.through_link else self._spelling_of(found)

    def _spelling_of(self, found: _Found) -> LayerPath:
        spelled = self._tree.path(found.slot).split(b"/")[self._depth :]
        parts = tuple(part for part in spelled if part)
        if found.stream is not None:
            parts = (*parts[:-1], parts[-1] + b":" + found.stream)
        return self._with(parts)

    def _type(self, *, follow: bool) -> EntryType | None:
        found = self._find(follow=follow)
        return None if found is None else found.type(self._tree)

    def _streams(self, slot: int) -> tuple[Stream, ...]:
        found = self._tree.streams(slot).items()
        layers = self._chain.layers
        return tuple(
            Stream(_text(name), layers[ref[0]].index.record(ref[1]).size) for name, ref in found
        )

    def _stat(self, found: _Found) -> Stat:
        tree, record, ref = self._tree, found.record, found.ref
        index = None if ref is None else self._chain.layers[ref[0]].index
        link = index.link(ref[1]) if index and ref else b""
        kind = found.type(tree)
        is_link = kind in (EntryType.SYMLINK, EntryType.JUNCTION)
        descriptor = index.value(record.sd) if index and record and record.sd else None
        times = record[12:16] if record else (0, 0, 0, 0)
        return Stat(
            path=str(self._spelled(found)),
            type=kind,
            size=record.size if record else 0,
            attributes=record.attributes if record else _DIRECTORY_ATTRIBUTE,
            creation_time=times[0],
            last_access_time=times[1],
            last_write_time=times[2],
            change_time=times[3],
            layer=None if ref is None else self._chain.layer_ids[ref[0]],
            link_target=_text(link) if is_link else None,
            streams=() if found.stream is not None else self._streams(found.slot),
            hard_links=tree.link_count(found.slot),
            dangling=tree.is_dangling(found.slot),
            security_descriptor=descriptor,
            mode=record.mode if record else 0,
            uid=record.uid if record else 0,
            gid=record.gid if record else 0,
            records=index.records(ref[1]) if index and ref else {},
            link=link if is_link else b"",
            damaged=record is not None and bool(record.flags & RecordFlag.DAMAGED),
        )

    def _glob(self, slot: int, parts: tuple[bytes, ...], wanted: list[str]) -> Iterator[LayerPath]:
        """Matches of `wanted` below a directory, each path once."""
        kids = self._tree.kids.get(slot, {})
        first, rest = wanted[0], wanted[1:]
        if first == "**":
            while rest[:1] == ["**"]:
                rest = rest[1:]
            if rest:
                yield from self._glob(slot, parts, rest)
            else:
                yield self._with(parts)
            for kid in kids.values():
                if self._tree.is_directory(kid):
                    yield from self._glob(kid, (*parts, self._tree.names[kid]), ["**", *rest])
            return
        matches = re.compile(fnmatch.translate(_text(fold(_bytes(first))))).match
        for key, kid in kids.items():
            if matches(_text(key)):
                below = (*parts, self._tree.names[kid])
                if not rest:
                    yield self._with(below)
                elif self._tree.is_directory(kid):
                    yield from self._glob(kid, below, rest)


@dataclass(frozen=True, slots=True)
class _Found:
    slot: int
    stream: bytes | None
    ref: tuple[int, int] | None
    record: Record | None
    through_link: bool = False

    def type(self, tree: Tree) -> EntryType:
        if self.stream is not None:
            return EntryType.FILE
        kind = tree.kinds[tree.inode(self.slot)]
        return _TYPES.get(kind, EntryType.FILE)


class _Data(io.RawIOBase):
    """The data of one entry as a file."""

    def __init__(self, chain: Chain, ref: tuple[int, int], record: Record) -> None:
        self._chain = chain
        self._ref = ref
        self._record = record
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._record.size}[whence]
        if base + offset < 0:
            raise ValueError("negative position")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._chain.read(self._ref, self._record, len(view), self._at)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


_LINKS = frozenset((int(Kind.SYMLINK), int(Kind.JUNCTION)))
_READABLE = frozenset((Kind.FILE, Kind.STREAM))
_TYPES = {
    int(Kind.DIRECTORY): EntryType.DIRECTORY,
    int(Kind.SYMLINK): EntryType.SYMLINK,
    int(Kind.JUNCTION): EntryType.JUNCTION,
}


def parse_text(text: str) -> tuple[bool, tuple[bytes, ...]]:
    r"""(starts at the root?, components) of a path as a user types it, `.` and `..` resolved."""
    rooted, parts = _parse(text)
    return rooted, _normalize((), parts)


def _parse(text: str) -> tuple[bool, list[bytes]]:
    if _DEVICE_PREFIX.match(text):
        raise UsageError(f"path {text!r}: device paths are not supported")
    drive = _DRIVE.match(text)
    if drive:
        if drive[0][0] not in "Cc":
            raise UsageError(f"path {text!r}: a layer has drive C: only")
        text = text[drive.end() :] or "\\"
    rooted = bool(drive) or text[:1] in ("\\", "/")
    return rooted, [_bytes(part) for part in re.split(r"[\\/]", text) if part not in ("", ".")]


def _normalize(start: tuple[bytes, ...], parts: list[bytes]) -> tuple[bytes, ...]:
    """`parts` seen from `start`; like Windows, `..` at the root stays there."""
    path = list(start)
    for part in parts:
        if part != b"..":
            path.append(part)
        elif path:
            path.pop()
    return tuple(path)


def _volume_of(tree: Tree, slot: int) -> int | None:
    """The root directory of the volume that a slot lies in: `Files` or `UtilityVM/Files`."""
    above = []
    while slot != ROOT:
        slot = tree.parents[slot]
        above.append(slot)
    top = [directory for directory in reversed(above) if directory != ROOT]
    names = [fold(tree.names[directory]) for directory in top[:2]]
    if names[:1] == [b"FILES"]:
        return top[0]
    return top[1] if names == [b"UTILITYVM", b"FILES"] else None


def _bytes(name: str) -> bytes:
    try:
        return name.encode("utf-8", "surrogatepass")
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape")
