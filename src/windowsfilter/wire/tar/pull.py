"""Reading a tar entry by entry from a file object, with the bodies, in order.

A thin shell around `TarReader`, holding one chunk at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from windowsfilter.errors import FormatError, UsageError
from windowsfilter.wire.sources import Readable, reader_of
from windowsfilter.wire.tar.entry import Limits, TarEntry
from windowsfilter.wire.tar.reader import TarReader


class TarSource:
    """A tar read from a blocking stream that need not seek, as entries and their bodies."""

    def __init__(
        self,
        stream: Readable,
        chunk_size: int = 1 << 20,
        *,
        limits: Limits | None = None,
        as_reference: bool = False,
    ) -> None:
        self._read = reader_of(stream)
        self._chunk_size = chunk_size
        self._reader = TarReader(limits, as_reference=as_reference)
        self._chunk = b""
        self._chunk_at = 0
        self._over = False
        self._found: deque[TarEntry] = deque()
        self._error: FormatError | None = None
        """A fault in the chunk at hand, for when what stands before it has been read."""

    def next_entry(self) -> TarEntry | None:
        """The next entry, None at the end.

        Raises FormatError as `TarReader` does, behind the entries before the damaged place; then
        it is not to be called again.
        """
        while not self._found:
            if not self._advance():
                return None
        return self._found.popleft()

    def body(self, entry: TarEntry) -> Body:
        """The data of the entry got last."""
        return Body(self, entry)

    def _advance(self) -> bool:
        """Read the next chunk; False at the end of the stream."""
        if self._error is not None:
            raise self._error
        if self._over:
            return False
        self._chunk_at = self._reader.offset
        self._chunk = self._read(self._chunk_size)
        if not self._chunk:
            self._over = True
            self._reader.close()
            return False
        try:
            self._found.extend(self._reader.feed(self._chunk))
        except FormatError as error:
            self._error = error
        return True

    def read_at(self, offset: int, size: int) -> bytes:
        """Some of the bytes from `offset` on, at least one; offsets must not go back."""
        if offset < self._chunk_at:
            raise UsageError("body of a tar entry read after the next entry was asked for")
        while offset >= self._chunk_at + len(self._chunk):
            if not self._advance():
                raise FormatError("truncated body of a tar entry", offset=offset)
        start = offset - self._chunk_at
        return self._chunk[start : start + size]


class Body:
    """The data of one entry, holes of sparse files filled with zeros.

    To be read before the next entry is asked for; what is left unread is stepped over.
    """

    def __init__(self, source: TarSource, entry: TarEntry) -> None:
        self._source = source
        self._size = entry.size
        pieces = ((0, entry.size),) if entry.sparse is None else entry.sparse
        self._pieces = deque(pieces)
        self._stored_at = entry.data_offset
        self._stored_end = entry.data_offset + entry.stored_size
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, fewer only at the end; all that is left if it is negative."""
        left = self._size - self._position
        wanted = left if size < 0 else min(size, left)
        parts = []
        while wanted > 0:
            part = self._some(wanted)
            parts.append(part)
            wanted -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read1(self, size: int) -> bytes:
        """Some of the data, at most `size` bytes and without putting pieces together.

        Gives what there is of a truncated body before it raises; b"" at the end.
        """
        wanted = min(size, self._size - self._position)
        if wanted > 0:
            return self._some(wanted)
        if not self._pieces and self._stored_at < self._stored_end:
            raise FormatError("sparse file with more data than in its map", offset=self._stored_at)
        return b""

    def skip_hole(self, unit: int) -> int:
        """Step over the hole at hand, whole units of it, and tell by how many bytes."""
        offset = self._pieces[0][0] if self._pieces else self._size
        skipped = max(0, offset - self._position) // unit * unit
        self._position += skipped
        self._drop_pieces()
        return skipped

    def stretch(self, unit: int) -> int:
        """Bytes up to the end of the data at hand, or of the hole, in whole units."""
        offset, length = self._pieces[0] if self._pieces else (self._size, 0)
        return -(-(offset + length - self._position) // unit) * unit

    def _drop_pieces(self) -> None:
        while self._pieces and self._position >= sum(self._pieces[0]):
            self._pieces.popleft()

    def _some(self, wanted: int) -> bytes:
        offset, length = self._pieces[0] if self._pieces else (self._size, 0)
        if self._position < offset:
            part = bytes(min(wanted, offset - self._position))
        else:
            most = min(offset + length - self._position, self._stored_end - self._stored_at)
            if most <= 0:
                raise FormatError("sparse file of which data is missing", offset=self._stored_at)
            part = self._source.read_at(self._stored_at, min(wanted, most))
            self._stored_at += len(part)
        self._position += len(part)
        if self._pieces and self._position >= offset + length:
            self._drop_pieces()
        return part


def read_entries(
    stream: Readable,
    chunk_size: int = 1 << 20,
    *,
    limits: Limits | None = None,
    as_reference: bool = False,
) -> Iterator[tuple[TarEntry, Body]]:
    """Every entry of a tar with its body: a `TarSource` as an iterator.

    Raises FormatError as `TarReader` does, when the damaged place is reached.
    """
    source = TarSource(stream, chunk_size, limits=limits, as_reference=as_reference)
    while (entry := source.next_entry()) is not None:
        yield entry, Body(source, entry)
