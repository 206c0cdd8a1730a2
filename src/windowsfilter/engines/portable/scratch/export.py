"""A scratch as a layer tar, with the order, headers and whiteouts of the reference exporter.

Source: spec of the dialect in docs/formats/scratch.md section 6; hcsshim's ociwclayer export and
go-winio's backuptar for order and bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from windowsfilter.engines.portable.scratch.metadata import Metadata
from windowsfilter.engines.portable.scratch.upper import UpperKind
from windowsfilter.engines.portable.scratch.walk import Node, Walk, walking
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.ntfs import filetime
from windowsfilter.wire import whiteouts
from windowsfilter.wire.backuptar.records import (
    CREATION_TIME,
    FILE_ATTRIBUTES,
    MOUNT_POINT,
    RAW_REPARSE,
)
from windowsfilter.wire.tar import (
    TYPE_DIRECTORY,
    TYPE_FILE,
    TYPE_HARD_LINK,
    TYPE_SYMLINK,
    Member,
    TarWriter,
)

_LINK_MODE = 0o644  # what the reference gives every hard link
_FILE_ATTRIBUTE_DIRECTORY = 0x10


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written."""

    size: int
    """Bytes of the tar."""
    entries: int


def export(tree: Tree, upper: Path, out: BinaryIO, *, latest: int | None = None) -> Exported:
    """Write the layer that the scratch with this upper directory is, over the chain of `tree`.

    `latest`, a FILETIME, bounds every time that is written: equal work then gives equal bytes.
    Raises ScratchRefused, naming it, for what cannot be in a Windows layer; HostError for a file
    that changes while it is read; then what was written is of no use.
    """
    with walking(tree, upper) as walk:
        exporter = _Exporter(walk, TarWriter(out), latest)
        for node in walk.nodes():
            exporter.add(node)
        return exporter.finish()


class _Exporter:
    def __init__(self, walk: Walk, writer: TarWriter, latest: int | None) -> None:
        self._walk = walk
        self._writer = writer
        self._latest = latest
        self._entries = 0
        self._waiting: list[Node] = []
        """Directories on the way that were not written yet, topmost first."""
        self._directories: list[tuple[Node, Metadata]] = []
        """Metadata of the directories on the way, which new entries inherit from."""
        self._first: Metadata | None = None

    def add(self, node: Node) -> None:
        """Take the next node of the walk; writes it and the directories above if need be."""
        while self._waiting and self._waiting[-1] is not node.parent:
            self._waiting.pop()
        if not node.is_directory:
            self._flush()
            self._add_file(node)
            return
        self._waiting.append(node)
        if node.change is not None or node.whiteouts or node.is_scaffold:
            self._flush()

    def finish(self) -> Exported:
        self._writer.close()
        return Exported(size=self._writer.offset, entries=self._entries)

    # -- entries ------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Write the directories on the way, each with its whiteouts behind it."""
        for node in self._waiting:
            metadata = self._directory(node)
            self._put(_member(node.path, TYPE_DIRECTORY, metadata))
            self._add_streams(node, metadata)
            for leaf, _ in node.whiteouts:
                name = node.path + b"/" + whiteouts.build(leaf)
                self._put(Member(name=name, pax=False))
        self._waiting.clear()

    def _add_file(self, node: Node) -> None:
        merged = node.merged
        metadata = self._of(node)
        kind = self._kind(node)
        if node.link is not None:
            kept = {key: metadata.records[key] for key in (FILE_ATTRIBUTES, CREATION_TIME)}
            metadata = replace(metadata, mode=_LINK_MODE, uid=0, gid=0, records=kept)
            self._put(_member(node.path, TYPE_HARD_LINK, metadata, linkname=node.link))
            return
        if kind is UpperKind.SYMLINK:
            self._add_symlink(node, metadata)
        elif merged.upper is not None:
            assert merged.place is not None
            data = self._walk.contents.read_upper(merged.place, merged.upper)
            self._put(_member(node.path, TYPE_FILE, metadata, size=merged.upper.stat.st_size), data)
        else:
            assert merged.origin is not None
            ref = self._walk.below.tree.ref(merged.origin)
            record = self._walk.below.tree.record(merged.origin)
            assert ref is not None and record is not None
            data = self._walk.contents.read_base(ref)
            self._put(_member(node.path, TYPE_FILE, metadata, size=record.size), data)
        self._add_streams(node, metadata)

    def _add_symlink(self, node: Node, metadata: Metadata) -> None:
        target, own = self._walk.described.target(node.merged, node.path)
        if own:
            records = dict(metadata.records)
            records.pop(RAW_REPARSE, None)  # it tells of another target
            if target[1:3] != b":\\":
                # A junction's target is absolute; with any other it is a plain link from now on.
                records.pop(MOUNT_POINT, None)
            metadata = replace(metadata, records=records)
        self._put(_member(node.path, TYPE_SYMLINK, metadata, linkname=target))

    def _add_streams(self, node: Node, metadata: Metadata) -> None:
        for stream in node.streams:
            name = node.path + b":" + stream.name
            member = replace(
                _member(name, TYPE_FILE, metadata, size=stream.size),
                records={},
                uid=0,
                gid=0,
            )
            self._put(member, self._walk.contents.read_stream(stream))

    def _put(self, member: Member, body: Iterable[bytes] = ()) -> None:
        self._writer.add(member, iter(body))
        self._entries += 1

    # -- metadata -----------------------------------------------------------------------------

    def _directory(self, node: Node) -> Metadata:
        """A directory's metadata; those of the directories above are kept on the way."""
        while self._directories and self._directories[-1][0] is not node.parent:
            if self._directories[-1][0] is node:
                return self._directories[-1][1]
            self._directories.pop()
        metadata = self._of(node)
        if self._first is None:
            self._first = metadata
        self._directories.append((node, metadata))
        return metadata

    def _of(self, node: Node) -> Metadata:
        described = self._walk.described
        parent = self._parent(node)
        metadata = described.of(node.merged, node.path, parent, data_changed=node.data_changed)
        return metadata if self._latest is None else metadata.not_after(self._latest)

    def _parent(self, node: Node) -> Metadata:
        if node.parent is not None:
            return self._directory(node.parent)
        # `Files` tells what time `Hives` has.
        return self._walk.described.of_root(None if self._first is None else self._first.write)

    def _kind(self, node: Node) -> UpperKind:
        merged = node.merged
        if merged.upper is not None:
            return merged.upper.kind
        assert merged.origin is not None
        return self._walk.below.kind(merged.origin)


def _member(
    path: bytes, typeflag: int, metadata: Metadata, *, size: int = 0, linkname: bytes = b""
) -> Member:
    return Member(
        name=path,
        typeflag=typeflag,
        size=size,
        mode=metadata.mode,
        uid=metadata.uid,
        gid=metadata.gid,
        linkname=linkname,
        mtime_ns=filetime.to_unix_ns(metadata.write),
        atime_ns=filetime.to_unix_ns(metadata.access),
        ctime_ns=filetime.to_unix_ns(metadata.change),
        records=metadata.records,
    )
