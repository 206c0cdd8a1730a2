"""A backup stream as tar entries exactly as the reference makes them, losses included.

A source that cannot seek is read once: what comes behind the data and belongs into the header is
lost. One that can seek is read twice; then sparse files fail. Streams of what has no data are lost.
Source: go-winio's backuptar, WriteTarFileFromBackupStream, and backup.go, reparse.go below it.
"""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import cast

from windowsfilter.errors import FormatError, LimitExceeded
from windowsfilter.ntfs.eas import parse_list
from windowsfilter.ntfs.reparse import ReparseTag, tag_name
from windowsfilter.wire.backupstream import StreamAttribute, StreamHeader, StreamId
from windowsfilter.wire.backuptar import records as wire
from windowsfilter.wire.backuptar.entries import (
    DATA_SUFFIX,
    MODE_LINK,
    MODE_REGULAR,
    SupportsSeek,
    can_seek,
    data_pieces,
    sparse_pieces,
    stream_member,
    with_fields,
)
from windowsfilter.wire.backuptar.names import name_bytes
from windowsfilter.wire.backuptar.operations import TarFields
from windowsfilter.wire.backuptar.reference_streams import ReferenceStreams
from windowsfilter.wire.sources import Readable
from windowsfilter.wire.tar import TYPE_FILE, TYPE_SYMLINK, Member, TarWriter

# What the reference reads whole into memory; beyond this nobody can mean it.
_MAX_METADATA = 16 << 20
_IGNORED = frozenset(
    (StreamId.LINK, StreamId.PROPERTY_DATA, StreamId.OBJECT_ID, StreamId.TXFS_DATA)
)
_LINK_TAGS = (ReparseTag.SYMLINK, ReparseTag.MOUNT_POINT)
_HEADER_BYTES = 8
_NAME_FIELDS = struct.Struct("<4xHH")  # of the print name, behind the header
_READ_BYTES = 512  # what io.ReadAll of Go allocates to begin with
_TAG = struct.Struct("<I")


def export(
    tar: TarWriter, member: Member, stream: Readable, size: int, fields: TarFields | None
) -> None:
    """Write the entries of one file. `member` is its beginning, `size` the one that was given."""
    seek: Callable[..., int] | None = None
    start = end = 0
    if can_seek(stream):
        seek = cast("SupportsSeek", stream).seek
        start, end = seek(0, io.SEEK_CUR), seek(0, io.SEEK_END)
        seek(start)
    reader = ReferenceStreams(stream, seek=seek, size=end - start)
    member, data = _scan(reader, member, stop_at_data=seek is None)
    if seek is not None:
        seek(start)
        reader = ReferenceStreams(stream, seek=seek, size=end - start)
        while (header := reader.next_header()) is not None and header.id != StreamId.DATA:
            pass
        data = header
    member = with_fields(member, fields)
    tar.add(member, _body(reader, member, data, size))
    while (header := reader.next_header()) is not None:
        if header.id == StreamId.ALTERNATE_DATA:
            if header.attributes & StreamAttribute.SPARSE:
                raise FormatError("a sparse alternate stream", offset=reader.offset)
            name = name_bytes(header.name.removesuffix(DATA_SUFFIX))
            tar.add(stream_member(member, name, header.size), data_pieces(reader))
        elif header.id not in _IGNORED and header.id != StreamId.EA_DATA:
            raise FormatError(f"stream {header.id} behind the data", offset=reader.offset)


def _scan(
    reader: ReferenceStreams, member: Member, *, stop_at_data: bool
) -> tuple[Member, StreamHeader | None]:
    """The member with what the streams add to it, and the DATA stream it stopped at."""
    records = dict(member.records)
    mode, kind, target = member.mode, member.typeflag, b""
    found = None
    while (header := reader.next_header()) is not None:
        if header.id == StreamId.DATA:
            mode |= MODE_REGULAR
            if stop_at_data:
                found = header
                break
        elif header.id == StreamId.SECURITY_DATA:
            records[wire.RAW_DESCRIPTOR] = base64.b64encode(_whole(reader, header))
        elif header.id == StreamId.REPARSE_DATA:
            mode, kind = mode | MODE_LINK, TYPE_SYMLINK
            # It does not look whether all of the buffer was there.
            tag, target = _link(reader.read_there_is(min(header.size, _MAX_METADATA)))
            if tag == ReparseTag.MOUNT_POINT:
                records[wire.MOUNT_POINT] = b"1"
        elif header.id == StreamId.EA_DATA:
            for attribute in parse_list(_whole(reader, header), overlapping=True):
                records[wire.EA_PREFIX + attribute.name] = base64.b64encode(attribute.value)
        elif header.id not in _IGNORED and header.id != StreamId.ALTERNATE_DATA:
            raise FormatError(f"stream of unknown id {header.id}", offset=reader.offset)
    return replace(member, mode=mode, typeflag=kind, linkname=target, records=records), found


def _whole(reader: ReferenceStreams, header: StreamHeader) -> bytes:
    if header.size > _MAX_METADATA:
        raise LimitExceeded(f"stream {header.id} of {header.size} bytes", offset=reader.offset)
    return reader.read()


def _link(buffer: bytes) -> tuple[int, bytes]:
    """Tag and print name of a link, computed in 16 bits; the lengths that do not matter may lie."""
    if len(buffer) < _HEADER_BYTES:
        raise FormatError(f"reparse buffer of {len(buffer)} bytes")
    # Up to here the reference sees the zeros that its memory has behind a shorter buffer.
    data = buffer[_HEADER_BYTES:].ljust(_READ_BYTES - _HEADER_BYTES, b"\0")
    (tag,) = _TAG.unpack_from(buffer)
    if tag not in _LINK_TAGS:
        raise FormatError(f"reparse point {tag_name(tag)}, which the reference cannot write")
    offset, size = _NAME_FIELDS.unpack_from(data)
    start = (offset + (12 if tag == ReparseTag.SYMLINK else 8)) & 0xFFFF
    end = (start + size) & 0xFFFF
    if not start <= end <= len(data):
        raise FormatError(f"reparse name of {size} bytes at {offset} of {len(buffer)}")
    raw = data[start : end - size % 2]
    return tag, raw.decode("utf-16-le", "replace").encode()


def _body(
    reader: ReferenceStreams, member: Member, data: StreamHeader | None, size: int
) -> Iterator[bytes]:
    """The bytes behind a member's header. Only an iterator, so that the header comes first."""
    if data is None:
        return
    if data.size > 0 or not data.attributes & StreamAttribute.SPARSE:
        if data.size != size:
            raise FormatError(f"data of {data.size} bytes, its size was given as {size}")
        pieces = data_pieces(reader)
    elif size:
        pieces = sparse_pieces(reader)
    else:
        return
    for piece in pieces:
        if member.typeflag != TYPE_FILE:
            raise FormatError("data of what is no file")
        yield piece
