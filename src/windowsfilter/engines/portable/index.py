"""The index of a layer: what `stat` shows of every entry, without touching the blob.

Written while the layer streams in, read by everything after. Fixed-size records, names, raw PAX
records and distinct security descriptors lie in compressed, checksummed frames, so that memory is
bounded while writing, damage is noticed while reading, and a single entry costs one frame.
The bytes are described in docs/formats/index.md. The blob is the truth: a missing or damaged index
is rebuilt from it.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from windowsfilter.digests import DiffID
from windowsfilter.errors import StoreDamaged
from windowsfilter.wire.tar import pax

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAGIC = b"wfindex\x02"
CHUNK_RECORDS = 4096
# A chunk ends early when its names and PAX records reach this, so that entries with huge records
# cannot make a frame grow: the tar reader bounds a single entry's.
CHUNK_BYTES = 8 << 20
VALUE_FRAME_BYTES = 1 << 20
ZSTD_LEVEL = 1
_MAX_RECORDS = 1 << 20  # the tar reader bounded them when they came in

_RECORD = struct.Struct("<BBBBIIIIIQQQqqqqIII4x")
_CHUNK = struct.Struct("<QIIIIIIIII")
_VALUES = struct.Struct("<QIIII")
_FOOTER = struct.Struct("<QQQIIII32s")
_TRAILER = struct.Struct("<QII8s")
_LENGTH = struct.Struct("<I")

RECORD_BYTES = _RECORD.size
iter_records = _RECORD.iter_unpack
"""Raw tuples of a block of records, in the order of `Record`'s fields."""


class Kind(IntEnum):
    """What an entry means to a Windows layer."""

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3
    JUNCTION = 4
    HARD_LINK = 5
    WHITEOUT = 6
    OPAQUE = 7
    STREAM = 8


class RecordFlag(IntFlag):
    """Which metadata the tar really had; what is missing holds a default."""

    NONE = 0
    ATTRIBUTES = 1
    CREATION = 2
    ACCESS = 4
    CHANGE = 8
    SPARSE = 16
    EAS = 32
    """It has extended attributes; the PAX records say which."""
    REPARSE = 64
    """It has a reparse point that the PAX records carry whole."""
    DAMAGED = 128
    """Some of its Windows metadata cannot be used; `windows_metadata.problems` says which and why."""


class Record(NamedTuple):
    """One entry, without its name. Times are FILETIME, sizes and offsets are bytes."""

    kind: int
    flags: int
    typeflag: int
    device: int
    """Where the data is: 0 the blob, 1 the spill."""
    mode: int
    uid: int
    gid: int
    attributes: int
    sd: int
    """Number of the security descriptor among the index's values; 0 is none."""
    size: int
    data_offset: int
    header_offset: int
    creation: int
    access: int
    write: int
    change: int
    name_at: int
    name_size: int
    link_size: int


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Where the frames of up to CHUNK_RECORDS entries lie, one behind the other.

    `frames`: records, names, PAX records, each as (stored bytes, crc32 of them, plain bytes).
    """

    first: int
    at: int
    count: int
    frames: tuple[tuple[int, int, int], ...]


class IndexWriter:
    """Writes an index in one pass. The caller owns `file` and makes it durable."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._at = len(MAGIC)
        self._records = bytearray()
        self._names = bytearray()
        self._pax: list[bytes] = []
        self._pax_bytes = 0
        self._chunks: list[bytes] = []
        self._values: list[bytes] = []
        self._value_bytes = 0
        self._value_count = 0
        self._value_frames: list[bytes] = []
        self.count = 0
        file.write(MAGIC)

    def value(self, data: bytes) -> int:
        """Store one value (a security descriptor) and return its number, from 1."""
        self._values.append(data)
        self._value_bytes += len(data)
        self._value_count += 1
        if self._value_bytes >= VALUE_FRAME_BYTES:
            self._flush_values()
        return self._value_count

    def add(self, fields: tuple[int, ...], name: bytes, link: bytes, pax: bytes) -> None:
        """Append an entry: the fields of `Record` up to `change`, and what it is called."""
        # Flushed before the next entry rather than after the last, so that `amend_last` works.
        names = self._names
        if len(self._pax) == CHUNK_RECORDS or len(names) + self._pax_bytes >= CHUNK_BYTES:
            self._flush_chunk()
            names = self._names
        self._records += _RECORD.pack(*fields, len(names), len(name), len(link))
        names += name
        names += link
        self._pax.append(pax)
        self._pax_bytes += len(pax)
        self.count += 1

    def last(self) -> Record:
        """The entry added last."""
        return Record._make(_RECORD.unpack_from(self._records, len(self._records) - RECORD_BYTES))

    def amend_last(self, record: Record) -> None:
        """Replace the entry added last; its name stays."""
        _RECORD.pack_into(self._records, len(self._records) - RECORD_BYTES, *record)

    def finish(self, *, diff_id: DiffID, blob_size: int) -> None:
        """Write what is left and the directory of frames; nothing may be added after."""
        if self._pax:
            self._flush_chunk()
        if self._values:
            self._flush_values()
        directory = zstd.compress(b"".join(self._chunks + self._value_frames), ZSTD_LEVEL)
        footer = _FOOTER.pack(
            self.count,
            blob_size,
            self._value_count,
            len(self._chunks),
            len(self._value_frames),
            len(directory),
            zlib.crc32(directory),
            bytes.fromhex(diff_id.hex),
        )
        self._file.write(directory + footer)
        self._file.write(_TRAILER.pack(self._at, len(footer), zlib.crc32(footer), MAGIC))

    def _frame(self, data: bytes | bytearray) -> tuple[int, int]:
        stored = zstd.compress(data, ZSTD_LEVEL)
        self._file.write(stored)
        self._at += len(stored)
        return len(stored), zlib.crc32(stored)

    def _flush_chunk(self) -> None:
        start, count, names_size = self._at, len(self._pax), len(self._names)
        lengths = struct.pack(f"<{count}I", *map(len, self._pax))
        pax = lengths + b"".join(self._pax)
        described = [
            *self._frame(self._records),
            *self._frame(self._names),
            *self._frame(pax),
        ]
        self._chunks.append(_CHUNK.pack(start, count, *described, names_size, len(pax)))
        self._records, self._names = bytearray(), bytearray()
        self._pax, self._pax_bytes = [], 0

    def _flush_values(self) -> None:
        start, count = self._at, len(self._values)
        data = struct.pack(f"<{count}I", *map(len, self._values)) + b"".join(self._values)
        self._value_frames.append(_VALUES.pack(start, count, *self._frame(data), len(data)))
        self._values, self._value_bytes = [], 0


class Index:
    """Reads an index. Holds one file descriptor until `close`; frames are checked when read.

    Raises StoreDamaged, naming the file, for anything that is not what IndexWriter wrote.
    """

    count: int
    blob_size: int
    diff_id: DiffID

    def __init__(self, path: Path) -> None:
        self.path = path
        self._names: OrderedDict[int, bytes] = OrderedDict()
        self._records: dict[int, bytes] = {}
        self._pax: tuple[int, list[bytes]] | None = None
        self._value_cache: tuple[int, list[bytes]] | None = None
        self._parser = pax.RecordParser(_MAX_RECORDS)
        self._file = path.open("rb", buffering=0)
        try:
            self._read_directory()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file descriptor; may be called twice."""
        self._file.close()

    # -- single entries -----------------------------------------------------------------------

    def record(self, number: int) -> Record:
        """The entry with this number."""
        chunk = bisect_right(self._firsts, number) - 1
        block = self._records.get(chunk)
        if block is None:
            block = self._records[chunk] = self.block(chunk)
        place = number - self._firsts[chunk]
        return Record._make(_RECORD.unpack_from(block, place * RECORD_BYTES))

    def name(self, number: int) -> bytes:
        """The entry's name as in the tar, without trailing slashes and leading `./`."""
        record = self.record(number)
        names = self.names(bisect_right(self._firsts, number) - 1)
        return names[record.name_at : record.name_at + record.name_size]

    def link(self, number: int) -> bytes:
        """The entry's link target as in the tar; empty where there is none."""
        record = self.record(number)
        start = record.name_at + record.name_size
        names = self.names(bisect_right(self._firsts, number) - 1)
        return names[start : start + record.link_size]

    def pax(self, number: int) -> bytes:
        """The raw PAX records that apply to the entry, in their order."""
        chunk = bisect_right(self._firsts, number) - 1
        if self._pax is None or self._pax[0] != chunk:
            self._pax = (chunk, self._read_list(chunk))
        return self._pax[1][number - self._firsts[chunk]]

    def records(self, number: int) -> dict[bytes, bytes]:
        """The PAX records in force for the entry, by key."""
        return self._parser.parse(self.pax(number), 0)

    def value(self, number: int) -> bytes:
        """The security descriptor with this number (from 1); 0 gives empty bytes."""
        if not number:
            return b""
        frame = bisect_right(self._value_firsts, number - 1) - 1
        if frame < 0 or number > self._values:
            raise self._damaged(f"no value {number}")
        if self._value_cache is None or self._value_cache[0] != frame:
            self._value_cache = (frame, self._read_values(frame))
        return self._value_cache[1][number - 1 - self._value_firsts[frame]]

    # -- everything, in order -----------------------------------------------------------------

    @property
    def chunks(self) -> int:
        """How many blocks of up to CHUNK_RECORDS entries there are."""
        return len(self._chunks)

    def block(self, chunk: int) -> bytes:
        """The packed records of a chunk, for `iter_records`; not kept."""
        data = self._read(self._chunks[chunk], 0)
        if len(data) != self._chunks[chunk].count * RECORD_BYTES:
            raise self._damaged(f"records of chunk {chunk} have a wrong length")
        return data

    def names(self, chunk: int) -> bytes:
        """The names and link targets of a chunk; Record.name_at points into it."""
        found = self._names.get(chunk)
        if found is None:
            found = self._names[chunk] = self._read(self._chunks[chunk], 1)
            if len(self._names) > 4:
                self._names.popitem(last=False)
        return found

    def entries(self) -> Iterator[tuple[int, Record, bytes, bytes]]:
        """(number, record, name, link) of every entry, in the order of the tar."""
        number = 0
        for chunk in range(self.chunks):
            names = self.names(chunk)
            for raw in iter_records(self.block(chunk)):
                record = Record._make(raw)
                end = record.name_at + record.name_size
                link = names[end : end + record.link_size]
                yield number, record, names[record.name_at : end], link
                number += 1

    # -- frames -------------------------------------------------------------------------------

    def _damaged(self, what: str) -> StoreDamaged:
        return StoreDamaged(f"index {self.path}: {what}")

    def _read_directory(self) -> None:
        size = os.fstat(self._file.fileno()).st_size
        least = len(MAGIC) + _FOOTER.size + _TRAILER.size
        if size < least:
            raise self._damaged(f"{size} bytes are too few")
        tail = self._pread(_FOOTER.size + _TRAILER.size, size - _FOOTER.size - _TRAILER.size)
        at, footer_size, crc, magic = _TRAILER.unpack_from(tail, _FOOTER.size)
        footer = tail[: _FOOTER.size]
        if self._pread(len(MAGIC), 0) != MAGIC or magic != MAGIC:
            raise self._damaged("not an index of this version")
        if footer_size != _FOOTER.size or zlib.crc32(footer) != crc:
            raise self._damaged("damaged footer")
        sizes, digest = _FOOTER.unpack(footer)[:7], footer[-32:]
        count, blob_size, values, chunks, frames, stored, stored_crc = sizes
        if at + stored + _FOOTER.size + _TRAILER.size != size:
            raise self._damaged("damaged trailer")
        expected = chunks * _CHUNK.size + frames * _VALUES.size
        directory = self._inflate(self._pread(stored, at), stored_crc, expected)
        self._chunks = self._parse_chunks(directory[: chunks * _CHUNK.size])
        self._firsts = [chunk.first for chunk in self._chunks]
        self._value_frames = self._parse_values(directory[chunks * _CHUNK.size :])
        if sum(chunk.count for chunk in self._chunks) != count:
            raise self._damaged("damaged directory")
        if sum(frame[2] for frame in self._value_frames) != values:
            raise self._damaged("damaged directory of values")
        self._value_firsts = [frame[0] for frame in self._value_frames]
        self._values, self.count, self.blob_size = values, count, blob_size
        self.diff_id = DiffID.from_hex(digest.hex())

    def _parse_chunks(self, data: bytes) -> list[_Chunk]:
        chunks, first = [], 0
        for at, count, *rest in _CHUNK.iter_unpack(data):
            sizes, crcs = rest[0:6:2], rest[1:6:2]
            plain = (count * RECORD_BYTES, rest[6], rest[7])
            frames = tuple(zip(sizes, crcs, plain, strict=True))
            chunks.append(_Chunk(first, at, count, frames))
            first += count
        return chunks

    def _parse_values(self, data: bytes) -> list[tuple[int, int, int, int, int, int]]:
        frames, first = [], 0
        for at, count, stored, crc, plain in _VALUES.iter_unpack(data):
            frames.append((first, at, count, stored, crc, plain))
            first += count
        return frames

    def _read(self, chunk: _Chunk, which: int) -> bytes:
        at = chunk.at + sum(frame[0] for frame in chunk.frames[:which])
        stored, crc, plain = chunk.frames[which]
        return self._inflate(self._pread(stored, at), crc, plain)

    def _read_list(self, chunk: int) -> list[bytes]:
        count = self._chunks[chunk].count
        return self._split(self._read(self._chunks[chunk], 2), count)

    def _read_values(self, frame: int) -> list[bytes]:
        _, at, count, stored, crc, plain = self._value_frames[frame]
        return self._split(self._inflate(self._pread(stored, at), crc, plain), count)

    def _split(self, data: bytes, count: int) -> list[bytes]:
        lengths = struct.unpack_from(f"<{count}I", data)
        at, parts = _LENGTH.size * count, []
        for length in lengths:
            parts.append(data[at : at + length])
            at += length
        return parts

    def _inflate(self, stored: bytes, crc: int, plain: int) -> bytes:
        if zlib.crc32(stored) != crc:
            raise self._damaged("a frame's checksum is wrong")
        try:
            data = zstd.decompress(stored)
        except zstd.ZstdError as error:
            raise self._damaged(f"a frame cannot be decompressed: {error}") from error
        if len(data) != plain:
            raise self._damaged(f"a frame has {len(data)} bytes instead of {plain}")
        return data

    def _pread(self, size: int, at: int) -> bytes:
        data = os.pread(self._file.fileno(), size, at)
        if len(data) != size:
            raise self._damaged(f"ends at byte {at + len(data)}")
        return data
