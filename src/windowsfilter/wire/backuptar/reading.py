"""A layer tar as operations on files, each with the backup stream that Windows would restore.

One pass, from a stream that need not seek; one chunk of the tar is held, and of metadata what one
entry has. Source: go-winio's backuptar (FileInfoFromHeader, WriteBackupStreamFromTarFile) and the
loop over it of Docker's windows.go (writeLayerFromTar). Where we differ: docs/formats/backuptar.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from windowsfilter.errors import FormatError
from windowsfilter.ntfs.eas import build_list
from windowsfilter.wire import whiteouts
from windowsfilter.wire.backupstream import (
    StreamAttribute,
    StreamHeader,
    StreamId,
    plain_header,
)
from windowsfilter.wire.backuptar import records as wire
from windowsfilter.wire.backuptar.dialects import Correct, Dialect, Reference, Strict
from windowsfilter.wire.backuptar.operations import Add, Link, Mode, Operation, fields_of
from windowsfilter.wire.sources import Readable
from windowsfilter.wire.tar import TYPE_FILE, TYPE_SYMLINK, Body, TarEntry, TarSource

_log = logging.getLogger(__name__)
# Distinct descriptors remembered, so that each is decoded and checked once.
_MAX_KNOWN_BYTES = 32 << 20
_PIECE_BYTES = 1 << 20
# NTFS frees the space of zeros in units of 64 KiB; shorter runs are data.
SPARSE_UNIT = 64 << 10
_ZEROS = bytes(SPARSE_UNIT)
_SPARSE_FILE = 0x200

Report = Callable[[str], None]


def read_layer(
    fileobj: Readable, mode: Mode = Mode.CORRECT, *, report: Report | None = None
) -> Iterator[Operation]:
    """The operations of a layer tar, in its order.

    An `Add`'s stream has to be read before the next operation is asked for; what is left unread
    is stepped over. `report` is told, in words, what was changed to something Windows can hold; by
    default that is logged. Raises FormatError with the byte offset and the entry's name, behind the
    operations before the fault; then whatever was made of them is of no use.
    """
    dialects: dict[Mode, Callable[[Report], Dialect]] = {
        Mode.CORRECT: Correct,
        Mode.GO: Reference,
        Mode.STRICT: Strict,
    }
    return _LayerReader(fileobj, dialects[Mode(mode)](report or _log.warning)).operations()


class _LayerReader:
    def __init__(self, fileobj: Readable, dialect: Dialect) -> None:
        self._dialect = dialect
        self._source = TarSource(fileobj, limits=dialect.limits, as_reference=dialect.as_reference)
        self._next: TarEntry | None = None
        self._error: FormatError | None = None
        self._descriptors: dict[bytes, bytes] = {}
        self._descriptor_bytes = 0

    def operations(self) -> Iterator[Operation]:
        while (entry := self._peek()) is not None:
            self._next = None
            operation = self._operation(entry)
            if operation is None:
                continue
            yield operation
            if isinstance(operation, Add):
                operation.close()
                if self._error is not None:
                    break
                while self._take_stream(entry) is not None:
                    pass
        if self._error is not None:
            raise self._error

    # -- the tar, entry by entry --------------------------------------------------------------

    def _peek(self) -> TarEntry | None:
        """The next entry; None at the end and behind a fault, which `_error` then has."""
        if self._next is None and self._error is None:
            try:
                self._next = self._source.next_entry()
            except FormatError as error:
                self._error = error
        return self._next

    def _take_stream(self, owner: TarEntry) -> tuple[TarEntry, str] | None:
        """The next entry with the stream's name, if it is a stream of `owner`."""
        entry = self._peek()
        if entry is None or b":" not in entry.name or entry.kind != TYPE_FILE:
            return None
        try:
            name = self._dialect.stream_name(owner, entry)
        except FormatError as error:
            raise _in_entry(entry, error) from None
        if name is None:
            return None
        self._next = None
        return entry, name

    # -- operations ---------------------------------------------------------------------------

    def _operation(self, entry: TarEntry) -> Operation | None:
        dialect = self._dialect
        try:
            gone = dialect.whiteout(entry) if whiteouts.PREFIX in entry.name else None
            if gone is not None:
                return gone
            name = dialect.name(entry)
            if name is None:
                return None
            target = dialect.link_target(entry)
            if target is not None:
                return Link(name, target, dialect.link_info(entry), fields_of(entry))
            info = dialect.info(entry)
        except FormatError as error:
            raise _in_entry(entry, error) from None
        head, fault = self._head(entry)
        if fault is not None:
            self._error = _in_entry(entry, fault)
        is_file = dialect.is_file(entry)
        sparse = is_file and not dialect.as_reference and info.attributes & _SPARSE_FILE != 0
        pieces = self._pieces(head, entry, is_file=is_file, sparse=sparse)
        return Add(name, entry.size if is_file else 0, info, pieces, entry)

    def _head(self, entry: TarEntry) -> tuple[bytes, FormatError | None]:
        """The streams in front of the data, up to one that is not to be had, and why."""
        records = entry.records
        is_link = entry.typeflag == TYPE_SYMLINK
        if not records and not is_link:
            return b"", None
        head = b""
        try:
            raw = records.get(wire.RAW_DESCRIPTOR)
            if raw is not None:
                found = self._descriptors.get(raw)
                head = self._descriptor(raw, records) if found is None else found
            elif wire.TEXT_DESCRIPTOR in records:
                text = self._dialect.text_descriptor(records)
                head = _stream(StreamId.SECURITY_DATA, text) if text else b""
            if wire.has_eas(records):
                found_eas = self._dialect.eas(records)
                head += _stream(StreamId.EA_DATA, build_list(found_eas)) if found_eas else b""
            if is_link or wire.RAW_REPARSE in records:
                point = self._dialect.reparse(entry)
                head += b"" if point is None else _stream(StreamId.REPARSE_DATA, point.build())
        except FormatError as error:
            return head, error
        return head, None

    def _descriptor(self, raw: bytes, records: wire.Records) -> bytes:
        """The stream of a binary descriptor, remembered by its text: a layer has few of them."""
        data = self._dialect.descriptor(records)
        stream = _stream(StreamId.SECURITY_DATA, data) if data else b""
        self._descriptor_bytes += len(raw) + len(stream)
        if self._descriptor_bytes > _MAX_KNOWN_BYTES:
            self._descriptors.clear()
            self._descriptor_bytes = len(raw) + len(stream)
        self._descriptors[raw] = stream
        return stream

    # -- streams ------------------------------------------------------------------------------

    def _pieces(
        self, head: bytes, entry: TarEntry, *, is_file: bool, sparse: bool
    ) -> Iterator[bytes]:
        """The backup stream of an entry, in pieces that are not empty; ends early at a fault."""
        if self._error is not None:
            if head:
                yield head
            return
        source = self._source
        try:
            if is_file and not sparse:
                yield head + plain_header(StreamId.DATA, entry.size)
                if entry.stored_size or entry.size:
                    yield from _data(source.body(entry))
            else:
                if head:
                    yield head
                if sparse:
                    yield from _sparse_data(source.body(entry), entry.size)
            while (found := self._take_stream(entry)) is not None:
                stream, name = found
                yield StreamHeader(id=StreamId.ALTERNATE_DATA, size=stream.size, name=name).build()
                yield from _data(source.body(stream))
        except FormatError as error:
            self._error = error


def _stream(identity: StreamId, data: bytes) -> bytes:
    return plain_header(identity, len(data)) + data


def _data(body: Body) -> Iterator[bytes]:
    while piece := body.read1(_PIECE_BYTES):
        yield piece


def _sparse_data(body: Body, size: int) -> Iterator[bytes]:
    """The main stream of a sparse file: what is not zeros, in blocks, and where it ends."""
    if size <= SPARSE_UNIT:
        data = body.read(size)
        if data != _ZEROS[:size]:
            header = StreamHeader(id=StreamId.DATA, size=size, attributes=StreamAttribute.SPARSE)
            yield header.build() + data
            return
    yield StreamHeader(id=StreamId.DATA, size=0, attributes=StreamAttribute.SPARSE).build()
    if not size:
        return
    at = 0
    while size > SPARSE_UNIT:
        # Holes that the tar knows of may be of any size, and are not to be looked through.
        at += body.skip_hole(SPARSE_UNIT)
        piece = body.read(min(_PIECE_BYTES, body.stretch(SPARSE_UNIT)))
        if not piece:
            break
        for start, end in _allocated(piece):
            block = StreamHeader(id=StreamId.SPARSE_BLOCK, size=end - start, offset=at + start)
            yield block.build() + piece[start:end]
        at += len(piece)
    yield StreamHeader(id=StreamId.SPARSE_BLOCK, size=0, offset=size).build()


def _allocated(piece: bytes) -> Iterator[tuple[int, int]]:
    """(start, end) of the runs of units that are not all zeros."""
    begin = -1
    for at in range(0, len(piece), SPARSE_UNIT):
        unit = piece[at : at + SPARSE_UNIT]
        if unit != _ZEROS[: len(unit)]:
            begin = at if begin < 0 else begin
        elif begin >= 0:
            yield begin, at
            begin = -1
    if begin >= 0:
        yield begin, len(piece)


def _in_entry(entry: TarEntry, error: FormatError) -> FormatError:
    """The same error, naming the entry and saying where it is."""
    shown = entry.name[:300].decode("utf-8", "backslashreplace")
    named = type(error)(f"layer entry {shown!r} at byte {entry.header_offset}: {error}")
    named.offset = entry.header_offset if error.offset is None else error.offset
    return named
