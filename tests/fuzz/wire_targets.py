"""Backup streams and layer tars, as bytes from outside."""

from __future__ import annotations

import io
from collections.abc import Iterator

from tests.fuzz.target import Target, check_place
from windowsfilter.wire.backupstream import (
    BackupStreamError,
    BackupStreamReader,
    BackupStreamWriter,
    StreamHeader,
    StreamId,
)


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


WIRE_TARGETS = {
    "backup-stream": Target(run=backup_stream, seeds=backup_streams),
}
