"""Win32 backup streams: what BackupRead gives and BackupWrite takes for one file.

A stream is a header and its data; a file is a run of streams, one directly behind the other, with
no end mark. All ids are read and written, also those that Windows has not named yet. What the data
of a stream means is not in scope: `ntfs.security`, `ntfs.eas`, `ntfs.reparse`. Little-endian.
Source: WIN32_STREAM_ID (winbase.h), checked against go-winio's backup.go.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Protocol, Self

from windowsfilter.errors import FormatError
from windowsfilter.wire.sources import Readable, reader_of

_FIXED = struct.Struct("<IIqI")  # id, attributes, size, name size in bytes
_OFFSET = struct.Struct("<q")
MAX_NAME_BYTES = 64 << 10
"""NTFS needs 524: 255 units, a colon, `:$DATA`. A forged size must not make anybody hold 4 GiB."""
MAX_SECURITY = 64 << 10
"""Bytes of a security descriptor. NTFS stores no larger one."""
_PIECE_BYTES = 1 << 20


class StreamId(IntEnum):
    """BACKUP_* of winbase.h."""

    DATA = 1
    EA_DATA = 2
    SECURITY_DATA = 3
    ALTERNATE_DATA = 4
    LINK = 5
    PROPERTY_DATA = 6
    OBJECT_ID = 7
    REPARSE_DATA = 8
    SPARSE_BLOCK = 9
    TXFS_DATA = 10
    GHOSTED_FILE_EXTENTS = 11


class StreamAttribute(IntFlag):
    """STREAM_* of winbase.h."""

    MODIFIED_WHEN_READ = 1
    CONTAINS_SECURITY = 2
    CONTAINS_PROPERTIES = 4
    SPARSE = 8
    CONTAINS_GHOSTED_FILE_EXTENTS = 16


class BackupStreamError(FormatError):
    """Bytes that are no backup stream, or end inside of one."""


class _Writable(Protocol):
    def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamHeader:
    """What stands in front of a stream's data."""

    id: int
    """A StreamId, or a number that has no name here."""
    size: int
    """Data bytes that follow; of a sparse block without the offset, which the format counts."""
    attributes: int = 0
    name: str = ""
    """`:name:$DATA` of alternate data; lone surrogates stand for single halves of a pair."""
    offset: int = 0
    """Place in the file, of sparse blocks only."""

    @classmethod
    def parse(cls, data: bytes | bytearray | memoryview, *, at: int = 0) -> tuple[Self, int] | None:
        """Read one header from the front of `data`.

        Returns the header and the bytes it took, or None if more are needed. `at` is the offset of
        `data`, for errors. Raises BackupStreamError for a length that cannot be.
        """
        if len(data) < _FIXED.size:
            return None
        identity, attributes, size, name_size = _FIXED.unpack_from(data)
        # Before waiting for the name: what is refused must not be waited for.
        if name_size > MAX_NAME_BYTES or name_size % 2:
            raise BackupStreamError(f"stream with a name of {name_size} bytes", offset=at + 16)
        least = _OFFSET.size if identity == StreamId.SPARSE_BLOCK else 0
        if size < least:
            raise BackupStreamError(f"stream of {size % 2**64} bytes", offset=at + 8)
        taken = _FIXED.size + name_size + least
        if len(data) < taken:
            return None
        offset = 0
        if least:
            (offset,) = _OFFSET.unpack_from(data, taken - least)
            if offset < 0:
                raise BackupStreamError(
                    f"sparse block at {offset % 2**64}", offset=at + taken - least
                )
        raw = bytes(data[_FIXED.size : _FIXED.size + name_size])
        header = cls(
            id=identity,
            size=size - least,
            attributes=attributes,
            name=raw.decode("utf-16-le", "surrogatepass"),
            offset=offset,
        )
        return header, taken

    def build(self) -> bytes:
        """The header's bytes. Raises BackupStreamError for numbers and names that do not fit."""
        name = self.name.encode("utf-16-le", "surrogatepass")
        sparse = self.id == StreamId.SPARSE_BLOCK
        size = self.size + (_OFFSET.size if sparse else 0)
        if len(name) > MAX_NAME_BYTES or self.size < 0 or self.offset < 0:
            raise BackupStreamError(f"stream header that cannot be written: {self}")
        try:
            head = _FIXED.pack(self.id, self.attributes, size, len(name)) + name
            return head + _OFFSET.pack(self.offset) if sparse else head
        except struct.error:
            raise BackupStreamError(f"stream header that cannot be written: {self}") from None


def plain_header(identity: StreamId, size: int) -> bytes:
    """The header of a stream without attributes and name, as layers have 100,000 of them."""
    return _FIXED.pack(identity, 0, size, 0)


class BackupStreamReader:
    """Reads the streams of one file from a file object, which stays open.

    `next_header` steps to the next stream, `read` gives its data. Holds no more than one header.
    `seek`, called as a file's own method, steps over what nobody reads; `size` is then how many
    bytes there are in all.
    """

    def __init__(
        self,
        source: Readable,
        *,
        seek: Callable[[int, int], object] | None = None,
        size: int = 0,
    ) -> None:
        self._read = reader_of(source)
        self._seek = seek
        self._size = size
        self._left = 0
        self.offset = 0
        """Bytes taken from the source so far."""

    @classmethod
    def inside(cls, source: Readable, header: StreamHeader, offset: int) -> Self:
        """A reader of a source that stands at the data of `header`, `offset` bytes on."""
        reader = cls(source)
        reader._left, reader.offset = header.size, offset
        return reader

    def next_header(self) -> StreamHeader | None:
        """The next stream's header; data left unread is stepped over. None at the end.

        Raises BackupStreamError where the source ends inside a stream.
        """
        if self._left and self._seek is not None:
            missing = self.offset + self._left - self._size
            if missing > 0:
                raise BackupStreamError(
                    f"truncated: {missing} bytes of a stream are missing", offset=self._size
                )
            self._seek(self._left, io.SEEK_CUR)
            self.offset += self._left
            self._left = 0
        while self._left:
            self.read(min(self._left, _PIECE_BYTES))
        at, data, wanted = self.offset, b"", _FIXED.size
        while True:
            while len(data) < wanted:
                piece = self._read(wanted - len(data))
                if not piece:
                    if data:
                        raise BackupStreamError("truncated inside a stream's header", offset=at)
                    return None
                data += piece
            found = StreamHeader.parse(data, at=at)
            if found is not None:
                break
            # All fixed fields are here, so this is exact: name and offset of a sparse block.
            name_size = int.from_bytes(data[16:20], "little")
            sparse = int.from_bytes(data[:4], "little") == StreamId.SPARSE_BLOCK
            wanted = _FIXED.size + name_size + (_OFFSET.size if sparse else 0)
        header, taken = found
        self.offset += taken
        self._left = header.size
        return header

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes of the stream's data, all that is left if negative; b"" at its end.

        Raises BackupStreamError where the source ends before the stream does.
        """
        if not 0 <= size <= self._left:
            size = self._left
        if not size:
            return b""
        # A header can lie: what it promises is not asked for, and so not allocated, at once.
        data = self._read(min(size, _PIECE_BYTES))
        if len(data) == size:
            self.offset += size
            self._left -= size
            return data
        return self._read_on(data, size)

    def _read_on(self, data: bytes, size: int) -> bytes:
        """`read` in several pieces, `data` being the first."""
        parts = []
        while data:
            parts.append(data)
            self.offset += len(data)
            self._left -= len(data)
            size -= len(data)
            if not size:
                return b"".join(parts)
            data = self._read(min(size, _PIECE_BYTES))
        raise BackupStreamError(
            f"truncated: {self._left} bytes of a stream are missing", offset=self.offset
        )


class BackupStreamWriter:
    """Writes streams to a file object, which stays open; nothing is buffered."""

    def __init__(self, target: _Writable) -> None:
        self._write = target.write
        self._left = 0

    def begin(self, header: StreamHeader) -> None:
        """Write a header; exactly `header.size` bytes of data have to follow."""
        self.end()
        self._write(header.build())
        self._left = header.size

    def write(self, data: bytes) -> None:
        """Write data of the stream begun last. Raises BackupStreamError for too much of it."""
        if len(data) > self._left:
            raise BackupStreamError(f"{len(data) - self._left} bytes more than the stream has")
        self._write(data)
        self._left -= len(data)

    def end(self) -> None:
        """Say that the file is complete. Raises BackupStreamError if data is missing."""
        if self._left:
            raise BackupStreamError(f"{self._left} bytes of a stream were not written")
