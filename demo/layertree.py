"""A Windows layer in memory, and its tar as Windows exports it.

The dialect of the reference exporter: depth first, the names of a directory in byte order,
streams right behind their file or directory, then the directory's whiteouts, then its children;
of several names of one file the first in that order carries the content. Source:
docs/formats/index.md, OCI image-spec layer.md, go-winio backuptar.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import BinaryIO, NamedTuple, Protocol

from windowsfilter.errors import UsageError
from windowsfilter.ntfs import filetime
from windowsfilter.ntfs.attributes import FileAttribute
from windowsfilter.ntfs.names import fold
from windowsfilter.wire import whiteouts
from windowsfilter.wire.tar import (
    TYPE_DIRECTORY,
    TYPE_FILE,
    TYPE_HARD_LINK,
    TYPE_SYMLINK,
    Member,
    TarWriter,
)

_CHUNK = 1 << 20
_MODE_FILE, _MODE_DIRECTORY, _MODE_SYMLINK, _MODE_HARD_LINK = 0o100000, 0o040000, 0o120000, 0o644
# Times are spread over four years from 2020-01-01, to the last 100 ns.
_FIRST_TIME = filetime.from_unix_ns(1_577_836_800 * 10**9)
_TIME_SPAN = 4 * 365 * 86400 * 10**7


class Source(Protocol):
    """Content that is read when the layer is written."""

    @property
    def size(self) -> int: ...

    def open(self) -> BinaryIO: ...


Content = bytes | Source


class NameTaken(UsageError):
    """Another name of the directory is the same to Windows."""


class Kind(Enum):
    """What an entry of a written layer is."""

    FILE = auto()
    DIRECTORY = auto()
    SYMLINK = auto()
    HARD_LINK = auto()
    STREAM = auto()
    WHITEOUT = auto()
    OPAQUE = auto()


@dataclass(slots=True)
class Written:
    """One entry as it was written; `sha256` is of the data, `target` of links."""

    kind: Kind
    path: str
    size: int = 0
    sha256: str = ""
    target: str = ""


@dataclass(slots=True, kw_only=True)
class Node:
    """A file, directory or symbolic link, and what hangs on it."""

    kind: Kind
    attributes: int
    descriptor: bytes | None
    content: Content = b""
    target: str = ""
    junction: bool = False
    extended: dict[str, bytes] = field(default_factory=dict)
    """NTFS extended attributes."""
    streams: dict[str, bytes] = field(default_factory=dict)
    children: dict[bytes, tuple[str, Node]] = field(default_factory=dict)
    """Folded name -> spelled name, node."""
    whiteouts: list[str] = field(default_factory=list)
    opaque: bool = False


class LayerTree:
    """What one layer adds and removes. Paths have `/` and start with `Files`, `Hives`, …"""

    def __init__(self) -> None:
        self.root = Node(kind=Kind.DIRECTORY, attributes=0, descriptor=None)

    def directory(self, path: str, descriptor: bytes | None = None, attributes: int = 0) -> Node:
        """The directory at `path`, made with its ancestors where they are missing.

        An ancestor takes the descriptor of the directory that needed it.
        """
        node = self.root
        for name in path.split("/") if path else ():
            _, child = node.children.get(fold(name.encode()), ("", None))
            if child is None:
                child = Node(
                    kind=Kind.DIRECTORY,
                    attributes=attributes | FileAttribute.DIRECTORY,
                    descriptor=descriptor,
                )
                node.children[fold(name.encode())] = name, child
            elif child.kind is not Kind.DIRECTORY:
                raise NameTaken(f"{path}: {name} is not a directory")
            node = child
        return node

    def file(
        self,
        path: str,
        content: Content,
        descriptor: bytes | None = None,
        attributes: int = FileAttribute.ARCHIVE,
    ) -> Node:
        """Add a file; its ancestors must exist or get no descriptor of their own."""
        return self._add(
            path,
            Node(kind=Kind.FILE, attributes=attributes, descriptor=descriptor, content=content),
        )

    def symlink(
        self, path: str, target: str, descriptor: bytes, *, directory: bool, junction: bool = False
    ) -> Node:
        """Add a symbolic link or junction to a Windows path."""
        attributes = FileAttribute.REPARSE_POINT | FileAttribute.NOT_CONTENT_INDEXED
        if directory:
            attributes |= FileAttribute.DIRECTORY
        if junction:
            attributes |= FileAttribute.HIDDEN | FileAttribute.SYSTEM
        return self._add(
            path,
            Node(
                kind=Kind.SYMLINK,
                attributes=attributes,
                descriptor=descriptor,
                target=target,
                junction=junction,
            ),
        )

    def link(self, path: str, node: Node) -> None:
        """Another name for the file `node`."""
        self._add(path, node)

    def whiteout(self, path: str) -> None:
        """Remove what the layers below have at `path`."""
        parent, _, name = path.rpartition("/")
        self.directory(parent).whiteouts.append(name)

    def opaque(self, path: str) -> None:
        """Hide all that the layers below have in the directory `path`."""
        self.directory(path).opaque = True

    def _add(self, path: str, node: Node) -> Node:
        parent, _, name = path.rpartition("/")
        children = self.directory(parent).children
        key = fold(name.encode())
        if key in children:
            raise NameTaken(f"{path}: the directory has {children[key][0]}")
        children[key] = name, node
        return node

    def write(self, out: BinaryIO) -> Iterator[Written]:
        """Write the tar; entries are reported as they pass. Exhaust the iterator."""
        writer = TarWriter(out)
        first_names: dict[int, str] = {}
        for name, child in sorted(self.root.children.values(), key=_byte_order):
            yield from _write(writer, name, child, first_names)
        writer.close()


def _byte_order(item: tuple[str, Node]) -> bytes:
    return item[0].encode()


def _write(
    writer: TarWriter, path: str, node: Node, first_names: dict[int, str]
) -> Iterator[Written]:
    first = first_names.setdefault(id(node), path)
    if first != path:
        member = _member(path, node, TYPE_HARD_LINK, _MODE_HARD_LINK, target=first, link=True)
        writer.add(member)
        yield Written(Kind.HARD_LINK, path, target=first)
        return
    if node.kind is Kind.FILE:
        size = len(node.content) if isinstance(node.content, bytes) else node.content.size
        member = _member(path, node, TYPE_FILE, _MODE_FILE, size=size)
        yield _write_file(writer, member, path, node.content)
    elif node.kind is Kind.SYMLINK:
        mode = _MODE_SYMLINK
        if node.attributes & FileAttribute.DIRECTORY:
            mode |= _MODE_DIRECTORY
        writer.add(_member(path, node, TYPE_SYMLINK, mode, target=node.target))
        yield Written(Kind.SYMLINK, path, target=node.target)
    else:
        writer.add(_member(path, node, TYPE_DIRECTORY, _MODE_DIRECTORY))
        yield Written(Kind.DIRECTORY, path)
    for name, data in node.streams.items():
        yield _write_stream(writer, path, name, data)
    if node.opaque:
        yield _write_whiteout(writer, path, whiteouts.OPAQUE.decode(), Kind.OPAQUE)
    for name in node.whiteouts:
        yield _write_whiteout(writer, path, name, Kind.WHITEOUT)
    for name, child in sorted(node.children.values(), key=_byte_order):
        yield from _write(writer, f"{path}/{name}", child, first_names)


def _write_file(writer: TarWriter, member: Member, path: str, content: Content) -> Written:
    digest = hashlib.sha256()

    def chunks() -> Iterator[bytes]:
        if isinstance(content, bytes):
            digest.update(content)
            yield content
            return
        with content.open() as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                yield chunk

    writer.add(member, chunks())
    return Written(Kind.FILE, path, member.size, digest.hexdigest())


def _write_stream(writer: TarWriter, path: str, name: str, data: bytes) -> Written:
    """An alternate data stream: an entry of its own without Windows metadata."""
    times = times_of(path)
    full = f"{path}:{name}"
    member = Member(
        name=full.encode(),
        typeflag=TYPE_FILE,
        size=len(data),
        mode=_MODE_FILE,
        mtime_ns=filetime.to_unix_ns(times.write),
        atime_ns=filetime.to_unix_ns(times.access),
        ctime_ns=filetime.to_unix_ns(times.change),
    )
    writer.add(member, data)
    return Written(Kind.STREAM, full, len(data), hashlib.sha256(data).hexdigest())


def _write_whiteout(writer: TarWriter, parent: str, name: str, kind: Kind) -> Written:
    leaf = name if kind is Kind.OPAQUE else whiteouts.build(name.encode()).decode()
    writer.add(Member(name=f"{parent}/{leaf}".encode(), typeflag=TYPE_FILE, pax=False))
    return Written(kind, parent if kind is Kind.OPAQUE else f"{parent}/{name}")


def _member(
    path: str,
    node: Node,
    typeflag: int,
    mode: int,
    *,
    size: int = 0,
    target: str = "",
    link: bool = False,
) -> Member:
    times = times_of(path)
    records = {
        b"MSWINDOWS.fileattr": b"%d" % node.attributes,
        b"LIBARCHIVE.creationtime": filetime.format_pax_time(times.creation),
    }
    if not link:
        if node.descriptor is not None:
            records[b"MSWINDOWS.rawsd"] = base64.b64encode(node.descriptor)
        if node.junction:
            records[b"MSWINDOWS.mountpoint"] = b"1"
        for name, value in node.extended.items():
            records[b"MSWINDOWS.xattr." + name.encode()] = base64.b64encode(value)
    return Member(
        name=path.encode(),
        typeflag=typeflag,
        size=size,
        mode=mode,
        linkname=target.encode(),
        mtime_ns=filetime.to_unix_ns(times.write),
        atime_ns=filetime.to_unix_ns(times.access),
        ctime_ns=filetime.to_unix_ns(times.change),
        records=records,
    )


class Times(NamedTuple):
    """The four times of a file as FILETIME."""

    creation: int
    access: int
    write: int
    change: int


def times_of(path: str) -> Times:
    """Times of `path`: spread over years, down to 100 ns, the same in every run."""
    seed = int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest())
    creation = _FIRST_TIME + seed % _TIME_SPAN
    return Times(creation, creation + 9_999_999, creation + seed % 10**9, creation + seed % 10**10)
