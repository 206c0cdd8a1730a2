"""Backup streams as the reference steps through them: what it lets pass is let pass.

A size is a signed number that nobody checks, and a name of an odd number of bytes leaves its last
one to the data. Where it seeks over data it does not notice that the data is not all there, and an
end right behind a header's fixed part is an end like any other. Source: go-winio's backup.go
(BackupStreamReader); `wire.backupstream` is the reader for everything else.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Final

from windowsfilter.errors import FormatError, LimitExceeded
from windowsfilter.wire.backupstream import BackupStreamError, StreamHeader, StreamId
from windowsfilter.wire.sources import Readable, reader_of

_FIXED: Final = struct.Struct("<IIqI")  # id, attributes, size, name size in bytes
_OFFSET: Final = struct.Struct("<q")
_MAX_NAME = 1 << 20  # the reference allocates whatever the header says
_MAX_POSITION = (1 << 63) - 1
_PIECE_BYTES = 1 << 20


class ReferenceStreams:
    """The streams of one file, from a file object that stays open.

    `seek` is the file's own, of one that can; `size` is then how many bytes there are in all.
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

    def next_header(self) -> StreamHeader | None:
        """The next stream's header, None where the reference sees the end.

        Raises FormatError where it ends in the middle of something, or of data not seeked over.
        """
        self._skip()
        fixed = self._exactly(_FIXED.size)
        if fixed is None:
            return None
        identity, attributes, size, name_size = _FIXED.unpack(fixed)
        name = ""
        if name_size:
            raw = self._exactly(min(name_size - name_size % 2, _MAX_NAME))
            if raw is None:
                return None
            if len(raw) == _MAX_NAME:
                raise LimitExceeded(f"stream with a name of {name_size} bytes", offset=self.offset)
            name = raw.decode("utf-16-le", "surrogatepass").partition("\0")[0]
        offset = 0
        if identity == StreamId.SPARSE_BLOCK:
            place = self._exactly(_OFFSET.size)
            if place is None:
                return None
            (offset,) = _OFFSET.unpack(place)
            size -= _OFFSET.size
        self._left = size
        return StreamHeader(id=identity, size=size, attributes=attributes, name=name, offset=offset)

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes of the data, all that is left if negative; b"" at its end."""
        data = self.read_there_is(size)
        if self._left and (size < 0 or (size and not data)):
            raise BackupStreamError(
                f"truncated: {self._left} bytes of a stream are missing", offset=self.offset
            )
        return data

    def read_there_is(self, size: int = -1, /) -> bytes:
        """As `read`, but where the source ends, what there is."""
        if self._left < 0:
            raise BackupStreamError("data of a stream of negative size", offset=self.offset)
        wanted = self._left if size < 0 else min(size, self._left)
        parts = []
        while wanted and (piece := self._read(min(wanted, _PIECE_BYTES))):
            parts.append(piece)
            wanted -= len(piece)
            self.offset += len(piece)
            self._left -= len(piece)
            if size >= 0:
                break
        return b"".join(parts)

    def _skip(self) -> None:
        """Step over what is left of a stream; of a negative size there is nothing."""
        if self._left > 0 and self._seek is not None:
            if self.offset + self._left > _MAX_POSITION:
                raise BackupStreamError(f"stream of {self._left} bytes", offset=self.offset)
            # Behind the end is as good as at the end, and there are files that do not go there.
            step = min(self._left, max(0, self._size - self.offset))
            self._seek(step, io.SEEK_CUR)
            self.offset += step
            self._left = 0
        while self._left > 0:
            self.read(_PIECE_BYTES)

    def _exactly(self, size: int) -> bytes | None:
        """The next bytes; None at the end. Raises FormatError for fewer than `size`."""
        data = b""
        while len(data) < size:
            piece = self._read(size - len(data))
            if not piece:
                if not data:
                    return None
                raise FormatError("truncated inside a stream's header", offset=self.offset)
            data += piece
        self.offset += size
        return data
