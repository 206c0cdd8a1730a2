"""Backup streams and layer tars, as bytes from outside."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import suppress

from tests.fuzz.target import Target, check_place
from windowsfilter.errors import FormatError
from windowsfilter.ntfs import eas
from windowsfilter.ntfs.reparse import LinkNames, ReparsePoint, ReparseTag
from windowsfilter.wire.backupstream import (
    BackupStreamError,
    BackupStreamReader,
    BackupStreamWriter,
    StreamHeader,
    StreamId,
)
from windowsfilter.wire.backuptar import records


class Dribble:
    """A source that gives a few bytes at a time, as pipes may."""

    def __init__(self, data: bytes, most: int) -> None:
        self._source = io.BytesIO(data)
        self._most = most

    def read(self, size: int = -1, /) -> bytes:
        return self._source.read(self._most if size < 0 else min(size, self._most))


def _streams(
    source: io.BytesIO | Dribble, size: int
) -> tuple[list[tuple[StreamHeader, bytes]], str]:
    """The streams of `size` bytes, up to the end or the error, and what it says."""
    reader = BackupStreamReader(source)
    found: list[tuple[StreamHeader, bytes]] = []
    try:
        while header := reader.next_header():
            found.append((header, reader.read()))
    except BackupStreamError as error:
        check_place(error, size)
        return found, str(error)
    return found, ""


def backup_stream(data: bytes) -> None:
    found, complaint = _streams(io.BytesIO(data), len(data))
    for most in (1, 7):
        assert _streams(Dribble(data, most), len(data)) == (found, complaint)
    target = io.BytesIO()
    writer = BackupStreamWriter(target)
    for header, body in found:
        writer.begin(header)
        writer.write(body)
    writer.end()
    assert data.startswith(target.getvalue())
    if not complaint:
        assert target.getvalue() == data


def backup_streams() -> Iterator[bytes]:
    streams = (
        (StreamHeader(id=StreamId.SECURITY_DATA, size=4, attributes=2), b"abcd"),
        (StreamHeader(id=StreamId.DATA, size=5), b"hello"),
        (StreamHeader(id=StreamId.DATA, size=0, attributes=8), b""),
        (StreamHeader(id=StreamId.SPARSE_BLOCK, size=3, attributes=8, offset=0x10000), b"xyz"),
        (StreamHeader(id=StreamId.ALTERNATE_DATA, size=1, name=":a:$DATA"), b"1"),
        (StreamHeader(id=99, size=2), b"??"),
    )
    for count in range(1, len(streams) + 1):
        target = io.BytesIO()
        writer = BackupStreamWriter(target)
        for header, body in streams[:count]:
            writer.begin(header)
            writer.write(body)
        writer.end()
        yield target.getvalue()


def layer_records(data: bytes) -> None:
    """Lines `key=value`, the first one the link target of a symbolic link unless it is empty."""
    linkname, *lines = data.split(b"\n")
    found = {}
    for line in lines:
        key, _, value = line.partition(b"=")
        found[key] = value
    with suppress(FormatError):
        records.attributes_of(found)
    with suppress(FormatError):
        descriptor = records.descriptor_of(found)
        assert records.descriptor_of(records.descriptor_records(descriptor)) == descriptor
    with suppress(FormatError):
        attributes = records.eas_of(found)
        assert records.eas_of(records.eas_records(attributes)) == attributes
    with suppress(FormatError):
        point = records.reparse_of(found, linkname, is_link=bool(linkname))
        if point is not None:
            target, again = records.reparse_records(point)
            assert records.reparse_of(again, target or b"", is_link=target is not None) == point


def layer_record_lines() -> Iterator[bytes]:
    descriptor = base64.b64encode(bytes.fromhex("0100048000000000000000000000000000000000"))
    attributes = (eas.ExtendedAttribute(b"A", b"1"), eas.ExtendedAttribute(b"B", b"", eas.NEED_EA))
    cases: list[tuple[bytes, dict[bytes, bytes]]] = [
        (b"", {records.FILE_ATTRIBUTES: b"8224", records.RAW_DESCRIPTOR: descriptor}),
        (b"", {records.TEXT_DESCRIPTOR: b"O:BAG:SYD:(A;;FA;;;SY)"}),
        (b"", records.eas_records(attributes[:1])),
        (b"", records.eas_records(attributes)),
        (b"C:/Windows", {}),
        (b"C:/Windows", {records.MOUNT_POINT: b"1"}),
        (b"", records.reparse_records(ReparsePoint(0x80000017, bytes(16)))[1]),
        (b"C:/x", records.reparse_records(_odd_link("C:\\x"))[1]),
    ]
    for linkname, found in cases:
        yield b"\n".join([linkname, *(key + b"=" + value for key, value in found.items())])


def _odd_link(target: str) -> ReparsePoint:
    """A symbolic link without a print name."""
    names = LinkNames(substitute_name="\\??\\" + target, print_name="")
    return names.build(ReparseTag.SYMLINK)


RECORD_WORDS = (
    *(records.FILE_ATTRIBUTES, records.RAW_DESCRIPTOR, records.TEXT_DESCRIPTOR),
    *(records.MOUNT_POINT, records.RAW_EAS, records.RAW_REPARSE, records.EA_PREFIX, b"AAAA", b"="),
)

WIRE_TARGETS = {
    "layer-records": Target(run=layer_records, seeds=layer_record_lines, words=RECORD_WORDS),
    "backup-stream": Target(run=backup_stream, seeds=backup_streams, runs=15_000),
}
