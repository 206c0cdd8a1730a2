"""A backup stream as tar entries that lose nothing a tar can say.

The streams may come in any order: all of them are looked at before the header is written, then the
data is copied. That reads the source twice, unless it promises to have its metadata in front, as
what `read_layer` gives has. Source: docs/formats/backuptar.md.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import cast

from windowsfilter.errors import FormatError
from windowsfilter.ntfs import eas
from windowsfilter.ntfs.eas import ExtendedAttribute
from windowsfilter.ntfs.reparse import MAX_BUFFER, ReparsePoint
from windowsfilter.ntfs.security import SecurityDescriptor
from windowsfilter.wire.backupstream import (
    MAX_SECURITY,
    BackupStreamError,
    BackupStreamReader,
    StreamAttribute,
    StreamHeader,
    StreamId,
)
from windowsfilter.wire.backuptar import records as wire
from windowsfilter.wire.backuptar.entries import (
    DATA_SUFFIX,
    MODE_LINK,
    MODE_REGULAR,
    SupportsSeek,
    data_pieces,
    sparse_pieces,
    stream_member,
    with_fields,
)
from windowsfilter.wire.backuptar.names import name_bytes
from windowsfilter.wire.backuptar.operations import TarFields
from windowsfilter.wire.sources import Readable
from windowsfilter.wire.tar import TYPE_FILE, TYPE_SYMLINK, Member, TarWriter

_LIMITS = {
    StreamId.SECURITY_DATA: MAX_SECURITY,
    StreamId.EA_DATA: eas.MAX_LIST,
    StreamId.REPARSE_DATA: MAX_BUFFER,
}
_DROPPED = {
    StreamId.LINK: "link information",
    StreamId.PROPERTY_DATA: "property data",
    StreamId.OBJECT_ID: "an object id",
    StreamId.TXFS_DATA: "data of transactional NTFS",
}


@dataclass(slots=True)
class _Part:
    """A main or alternate stream: its header, where its data begins, how much it comes to."""

    header: StreamHeader
    at: int
    size: int
    blocks: bool = False
    """Whether blocks of it were found."""

    @property
    def is_in_blocks(self) -> bool:
        """Whether its data, if there is any, is in the blocks behind it."""
        return bool(self.header.attributes & StreamAttribute.SPARSE) and not self.header.size


@dataclass(slots=True)
class _Found:
    """What the streams of one file are."""

    security: bytes | None = None
    attributes: tuple[ExtendedAttribute, ...] = ()
    reparse: ReparsePoint | None = None
    data: _Part | None = None
    alternates: list[_Part] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    open: _Part | None = None
    """The sparse stream whose blocks come, or may come, next."""
    stream_names: set[str] = field(default_factory=set)


def export(
    tar: TarWriter,
    member: Member,
    stream: Readable,
    fields: TarFields | None,
    report: Callable[[str], None],
) -> None:
    """Write the entries of one file. `member` is its beginning, with the size that was given.

    `report` is told what of it no tar can hold. Raises FormatError for what is damaged.
    """
    if getattr(stream, "metadata_first", False):
        _export_once(tar, member, stream, fields, report)
        return
    source = cast("SupportsSeek", stream)
    start = source.tell()
    size = source.seek(0, io.SEEK_END) - start
    source.seek(start)
    found = _Found()
    reader = BackupStreamReader(source, seek=source.seek, size=size)
    while (header := reader.next_header()) is not None:
        _take(found, reader, header, report)
    _close_sparse(found, size)
    member = _member(member, found, fields)
    tar.add(member, iter(()) if found.data is None else _pieces(source, start, found.data))
    for part in found.alternates:
        stream_name = name_bytes(_plain(part.header.name))
        tar.add(stream_member(member, stream_name, part.size), _pieces(source, start, part))


def _export_once(
    tar: TarWriter,
    member: Member,
    stream: Readable,
    fields: TarFields | None,
    report: Callable[[str], None],
) -> None:
    """`export` of a source whose data follows what belongs into the header."""
    found = _Found()
    reader = BackupStreamReader(stream)
    while (header := reader.next_header()) is not None:
        if header.id in (StreamId.DATA, StreamId.ALTERNATE_DATA):
            break
        _take(found, reader, header, report)
    body: Iterator[bytes] = iter(())
    if header is not None and header.id == StreamId.DATA:
        found.data = _Part(header, reader.offset, header.size)
        body = data_pieces(reader)
        if found.data.is_in_blocks and member.size:
            found.data.size = member.size  # the blocks have to come to it
            body = sparse_pieces(reader)
    member = _member(member, found, fields)
    tar.add(member, body)
    if found.data is not None:
        header = reader.next_header()
    while header is not None:
        sparse = header.attributes & StreamAttribute.SPARSE
        if header.id != StreamId.ALTERNATE_DATA or sparse:
            raise BackupStreamError(
                f"stream {header.id} behind the data, where none was promised", offset=reader.offset
            )
        _check_name(found, header, reader.offset)
        stream_name = name_bytes(_plain(header.name))
        tar.add(stream_member(member, stream_name, header.size), data_pieces(reader))
        header = reader.next_header()


def _pieces(source: SupportsSeek, start: int, part: _Part) -> Iterator[bytes]:
    """The data of a stream that was found before."""
    source.seek(start + part.at)
    reader = BackupStreamReader.inside(source, part.header, part.at)
    yield from sparse_pieces(reader) if part.blocks else data_pieces(reader)


def _member(member: Member, found: _Found, fields: TarFields | None) -> Member:
    """The member with all that the streams and the tar it came from say."""
    data, mode, kind, target = found.data, member.mode, member.typeflag, b""
    records = {**member.records, **wire.descriptor_records(found.security)}
    records |= wire.eas_records(found.attributes)
    if data is not None:
        mode |= MODE_REGULAR
    if found.reparse is not None:
        link, more = wire.reparse_records(found.reparse)
        records |= more
        if link is not None:
            kind, target, mode = TYPE_SYMLINK, link, mode | MODE_LINK
    size = 0 if data is None else data.size
    if member.size != size:
        raise FormatError(f"data of {size} bytes, its size was given as {member.size}")
    if size and kind != TYPE_FILE:
        raise FormatError(f"data of {size} bytes in what is no file")
    member = replace(member, typeflag=kind, mode=mode, linkname=target, records=records)
    return with_fields(member, fields)


# -- looking ----------------------------------------------------------------------------------


def _take(
    found: _Found,
    reader: BackupStreamReader,
    header: StreamHeader,
    report: Callable[[str], None],
) -> None:
    """Note what one stream is; of metadata, what it says."""
    at, kind = reader.offset, header.id
    if kind == StreamId.SPARSE_BLOCK:
        _take_block(found, header, at)
        return
    _close_sparse(found, at)
    if kind in _DROPPED:
        report(f"{_DROPPED[StreamId(kind)]} of {header.size} bytes was dropped")
    elif kind == StreamId.ALTERNATE_DATA:
        _check_name(found, header, at)
        found.alternates.append(_part(found, header, at))
    elif kind in _LIMITS or kind == StreamId.DATA:
        if kind in found.seen:
            raise BackupStreamError(f"stream {kind} for the second time", offset=at)
        found.seen.add(kind)
        if kind == StreamId.DATA:
            found.data = _part(found, header, at)
        else:
            _take_metadata(found, reader, header)
    else:
        raise BackupStreamError(f"stream of unknown id {kind}", offset=at)


def _part(found: _Found, header: StreamHeader, at: int) -> _Part:
    part = _Part(header, at, header.size)
    found.open = part if part.is_in_blocks else None
    return part


def _take_block(found: _Found, block: StreamHeader, at: int) -> None:
    """A block of a sparse stream; the one without data says where the stream ends."""
    part = found.open
    if part is None:
        raise BackupStreamError("sparse block of no stream", offset=at)
    if block.offset < part.size:
        raise BackupStreamError(
            f"sparse block at {block.offset}, behind one that ends at {part.size}", offset=at
        )
    part.blocks = True
    part.size = block.offset + block.size
    if not block.size:
        found.open = None


def _close_sparse(found: _Found, at: int) -> None:
    """A sparse stream without blocks is empty; one that has some must have the last, too."""
    if found.open is not None and found.open.blocks:
        raise BackupStreamError("sparse stream without its last block", offset=at)
    found.open = None


def _take_metadata(found: _Found, reader: BackupStreamReader, header: StreamHeader) -> None:
    at, kind = reader.offset, StreamId(header.id)
    if header.size > _LIMITS[kind]:
        raise BackupStreamError(
            f"{kind.name} of {header.size} bytes, {_LIMITS[kind]} is the limit", offset=at
        )
    data = reader.read()
    if kind is StreamId.SECURITY_DATA:
        found.security = data
        if data:
            SecurityDescriptor.parse(data, at=at)
    elif kind is StreamId.EA_DATA:
        found.attributes = eas.parse_list(data, at=at)
    else:
        found.reparse = ReparsePoint.parse(data, at=at)


def _check_name(found: _Found, header: StreamHeader, at: int) -> None:
    name = header.name
    plain = _plain(name)
    if plain[:1] != ":" or len(plain) < 2 or any(char in "\0/\\:" for char in plain[1:]):
        raise BackupStreamError(f"alternate stream of the name {name[:300]!r}", offset=at)
    if plain in found.stream_names:
        raise BackupStreamError(f"alternate stream {plain!r} for the second time", offset=at)
    found.stream_names.add(plain)


def _plain(name: str) -> str:
    name = name.removesuffix("\0")  # some writers end it, although its length is given
    return name[: -len(DATA_SUFFIX)] if name.upper().endswith(DATA_SUFFIX) else name
