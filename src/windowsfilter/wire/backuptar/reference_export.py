"""A backup stream as tar entries exactly as the reference makes them, losses included.

A source that cannot seek is read once: what comes behind the data and belongs into the header is
lost. One that can seek is read twice; then sparse files fail. Streams of what has no data are lost.
Source: go-winio's backuptar, WriteTarFileFromBackupStream, and its vectors.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from dataclasses import replace

from windowsfilter.errors import FormatError
from windowsfilter.ntfs.eas import parse_list
from windowsfilter.ntfs.reparse import ReparseTag, tag_name
from windowsfilter.wire.backupstream import (
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
    Readable,
    data_pieces,
    sparse_pieces,
    stream_member,
    with_fields,
)
from windowsfilter.wire.backuptar.names import name_bytes
from windowsfilter.wire.backuptar.operations import TarFields
from windowsfilter.wire.tar import TYPE_FILE, TYPE_SYMLINK, Member, TarWriter

# What the reference reads whole into memory; beyond this nobody can mean it.
_MAX_METADATA = 16 << 20
_IGNORED = frozenset(
    (StreamId.LINK, StreamId.PROPERTY_DATA, StreamId.OBJECT_ID, StreamId.TXFS_DATA)
)
_LINK_TAGS = (ReparseTag.SYMLINK, ReparseTag.MOUNT_POINT)
_NAME_FIELDS = struct.Struct("<12xHH")
_TAG = struct.Struct("<I")


def export(tar: TarWriter, member: Member, stream: Readable, fields: TarFields | None) -> None:
    """Write the entries of one file. `member` is its beginning, with the size that was given."""
    size = member.size
    start = _start(stream)
    reader = BackupStreamReader(stream)
    member, data = _scan(reader, member, stop_at_data=start is None)
    if start is not None:
        stream.seek(start)  # type: ignore[attr-defined]  # `_start` asked whether it can
        reader = BackupStreamReader(stream)
        while (header := reader.next_header()) is not None and header.id != StreamId.DATA:
            pass
        data = header
    member = with_fields(member, fields)
    tar.add(member, _body(reader, member, data, size))
    while (header := reader.next_header()) is not None:
        if header.id == StreamId.ALTERNATE_DATA:
            if header.attributes & StreamAttribute.SPARSE:
                raise FormatError("a sparse alternate stream", offset=reader.offset)
            name = name_bytes(header.name.partition("\0")[0].removesuffix(DATA_SUFFIX))
            tar.add(stream_member(member, name, header.size), data_pieces(reader))
        elif header.id not in _IGNORED and header.id != StreamId.EA_DATA:
            raise FormatError(f"stream {header.id} behind the data", offset=reader.offset)


def _start(stream: Readable) -> int | None:
    """Where a stream stands that can be read twice."""
    seekable = getattr(stream, "seekable", None)
    if seekable is None or not seekable():
        return None
    return int(stream.tell())  # type: ignore[attr-defined]


def _scan(
    reader: BackupStreamReader, member: Member, *, stop_at_data: bool
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
            tag, target = _link(_whole(reader, header))
            if tag == ReparseTag.MOUNT_POINT:
                records[wire.MOUNT_POINT] = b"1"
        elif header.id == StreamId.EA_DATA:
            for attribute in parse_list(_whole(reader, header), overlapping=True):
                records[wire.EA_PREFIX + attribute.name] = base64.b64encode(attribute.value)
        elif header.id not in _IGNORED and header.id != StreamId.ALTERNATE_DATA:
            raise FormatError(f"stream of unknown id {header.id}", offset=reader.offset)
    return replace(member, mode=mode, typeflag=kind, linkname=target, records=records), found


def _whole(reader: BackupStreamReader, header: StreamHeader) -> bytes:
    if header.size > _MAX_METADATA:
        raise FormatError(f"stream {header.id} of {header.size} bytes", offset=reader.offset)
    return reader.read()


def _link(buffer: bytes) -> tuple[int, bytes]:
    """Tag and print name of a link; the lengths in the buffer that do not matter may lie."""
    if len(buffer) < _NAME_FIELDS.size:
        raise FormatError(f"reparse buffer of {len(buffer)} bytes")
    (tag,) = _TAG.unpack_from(buffer)
    if tag not in _LINK_TAGS:
        raise FormatError(f"reparse point {tag_name(tag)}, which the reference cannot write")
    offset, size = _NAME_FIELDS.unpack_from(buffer)
    offset += 16 + (4 if tag == ReparseTag.SYMLINK else 0)
    if offset + size > len(buffer):
        raise FormatError(f"reparse name of {size} bytes at {offset} of {len(buffer)}")
    raw = buffer[offset : offset + size - size % 2]
    return tag, raw.decode("utf-16-le", "replace").encode()


def _body(
    reader: BackupStreamReader, member: Member, data: StreamHeader | None, size: int
) -> Iterator[bytes]:
    """The bytes behind a member's header. Only an iterator, so that the header comes first."""
    if data is None:
        return
    if data.size or not data.attributes & StreamAttribute.SPARSE:
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
