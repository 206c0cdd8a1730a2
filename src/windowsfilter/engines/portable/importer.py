"""Import: one pass over a layer as it arrives, several threads, bounded memory.

One thread reads and inflates, one digests, one writes the blob, the caller's parses headers into
the index. Pieces travel through short queues, so memory does not grow with the layer. Everything is
written below a temporary directory; `blobs` makes it durable and gives it its name.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from windowsfilter.digests import DiffID, Digest
from windowsfilter.engines.portable.import_terms import (
    DEFAULT_LIMITS,
    NOTHING_EXPECTED,
    Expected,
    Limits,
    Progress,
)
from windowsfilter.engines.portable.indexer import Indexer, SpillPiece
from windowsfilter.errors import DigestMismatch, FormatError, LimitExceeded
from windowsfilter.wire.compression import Compression, decompressor, detect
from windowsfilter.wire.tar import TarEntry, TarReader, pax

READ_BYTES = 1 << 19
QUEUE_PIECES = 8
# Starting write-back while the layer still arrives leaves little for the final fsync.
FLUSH_BYTES = 32 << 20
COPY_BYTES = 1 << 20
SWITCH_INTERVAL_S = 0.0002
_SYNC_FILE_RANGE_WRITE = 2

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import found out."""

    diff_id: DiffID
    size: int
    """Bytes of the uncompressed tar."""
    digest: Digest
    """Of the bytes as they arrived."""
    stored_size: int
    compression: Compression
    entries: int
    data_bytes: int
    spill_size: int


def import_tar(
    source: BinaryIO,
    directory: Path,
    *,
    expected: Expected = NOTHING_EXPECTED,
    limits: Limits = DEFAULT_LIMITS,
    keep_compressed: bool = False,
    progress: Progress | None = None,
) -> Imported:
    """Write `blob`, `index`, `spill` (if needed) and `compressed` (if kept) into `directory`.

    Raises FormatError for bytes that are no layer, DigestMismatch for other bytes than expected,
    LimitExceeded beyond `limits`. Nothing is flushed to disk here, and nothing removed on error.
    """
    return _Import(source, directory, limits, keep_compressed, progress).run(expected)


class _Stopped(Exception):
    """Another thread failed; its error is the one to report."""


class _Import:
    def __init__(
        self,
        source: BinaryIO,
        directory: Path,
        limits: Limits,
        keep_compressed: bool,
        progress: Progress | None,
    ) -> None:
        self._source = source
        self._directory = directory
        self._limits = limits
        self._keep = keep_compressed
        self._progress = progress
        self._failure: BaseException | None = None
        self._stored = hashlib.sha256()
        self._plain = hashlib.sha256()
        self._stored_size = 0
        self._compression = Compression.NONE
        self._consumers = [_Queue(QUEUE_PIECES) for _ in range(3)]

    def run(self, expected: Expected) -> Imported:
        with _brisk_switching():
            return self._run(expected)

    def _run(self, expected: Expected) -> Imported:
        parse, digest, write = self._consumers
        blob = self._directory / "blob"
        with blob.open("x+b", buffering=0) as out, (self._directory / "index").open("xb") as index:
            indexer = Indexer(
                index,
                max_entries=self._limits.max_entries,
                usable_metadata=expected.usable_metadata,
            )
            threads = [
                self._thread("read", self._read),
                self._thread("digest", lambda: self._digest(digest)),
                self._thread("write", lambda: self._write(write, out.fileno())),
            ]
            try:
                size = self._guard(lambda: self._parse(parse, indexer))
            finally:
                for thread in threads:
                    thread.join()
            if self._failure is not None:
                raise self._failure
            assert size is not None
            result = self._result(indexer, size)
            _check(result, expected)
            indexer.finish(diff_id=result.diff_id, blob_size=size)
            self._spill(out.fileno(), indexer)
            return self._result(indexer, size)

    def _result(self, indexer: Indexer, size: int) -> Imported:
        diff_id = DiffID.from_hex(self._plain.hexdigest())
        compressed = self._compression is not Compression.NONE
        return Imported(
            diff_id=diff_id,
            size=size,
            digest=Digest.from_hex(self._stored.hexdigest()) if compressed else Digest(diff_id),
            stored_size=self._stored_size,
            compression=self._compression,
            entries=indexer.count,
            data_bytes=indexer.data_bytes,
            spill_size=indexer.spill_size,
        )

    # -- threads ------------------------------------------------------------------------------

    def _thread(self, name: str, body: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=self._guard, args=(body,), name=f"import-{name}")
        thread.daemon = True
        thread.start()
        return thread

    def _guard(self, body: Callable[[], _T]) -> _T | None:
        """Run one stage; the first failure is kept and stops all the others."""
        try:
            return body()
        except _Stopped:
            return None
        except BaseException as error:  # noqa: BLE001 - top of a thread
            if self._failure is None:
                self._failure = error
            for consumer in self._consumers:
                consumer.stop()
            return None

    def _read(self) -> None:
        """Inflate the source and hand each piece to the three consumers."""
        total = 0
        for piece in self._pieces():
            total += len(piece)
            self._bound(total)
            for consumer in self._consumers:
                consumer.put(piece)
        for consumer in self._consumers:
            consumer.put(None)

    def _pieces(self) -> Iterator[bytes]:
        first = _read_full(self._source, READ_BYTES)
        self._compression = detect(first)
        inflate = decompressor(self._compression, max_ratio=self._limits.max_ratio)
        keep = (self._directory / "compressed").open("xb") if self._wants_original() else None
        try:
            chunk = first
            while chunk:
                self._account(chunk)
                if keep is not None:
                    keep.write(chunk)
                yield from inflate.feed(chunk)
                chunk = self._source.read(READ_BYTES)
            inflate.close()
        finally:
            if keep is not None:
                keep.close()

    def _wants_original(self) -> bool:
        return self._keep and self._compression is not Compression.NONE

    def _account(self, chunk: bytes) -> None:
        self._stored_size += len(chunk)
        if self._compression is not Compression.NONE:
            self._stored.update(chunk)
        if self._progress is not None:
            self._progress(len(chunk))

    def _bound(self, total: int) -> None:
        if total > self._limits.max_bytes:
            limit = self._limits.max_bytes
            raise LimitExceeded(f"layer of more than {limit} bytes (--max-bytes raises the limit)")

    def _digest(self, pieces: _Queue) -> None:
        for piece in pieces:
            self._plain.update(piece)

    def _write(self, pieces: _Queue, descriptor: int) -> None:
        written = flushed = 0
        for piece in pieces:
            _write_all(descriptor, piece)
            written += len(piece)
            if written - flushed >= FLUSH_BYTES:
                _start_writeback(descriptor, flushed, written - flushed)
                flushed = written

    def _parse(self, pieces: _Queue, indexer: Indexer) -> int:
        reader = TarReader()
        add = indexer.add
        for piece in pieces:
            entries = reader.feed(piece)
            if reader.has_defaults:
                _bake_in_defaults(entries)
            for entry in entries:
                add(entry)
        reader.close()
        return reader.offset

    def _spill(self, blob: int, indexer: Indexer) -> None:
        if not indexer.spill_size:
            return
        with (self._directory / "spill").open("xb", buffering=0) as out:
            os.ftruncate(out.fileno(), indexer.spill_size)
            for piece in indexer.spill:
                _copy(blob, out.fileno(), piece)


class _Switching:
    """How many imports run in this process, and the interpreter's own setting meanwhile."""

    guard = threading.Lock()
    imports = 0
    usual_s = 0.0


@contextlib.contextmanager
def _brisk_switching() -> Iterator[None]:
    """Let threads wait less for each other, for the body.

    The parser holds the interpreter all the time; the threads that inflate, digest and write need
    it for microseconds a piece and would wait 5 ms for it each time. Costs nothing measurable,
    gains a tenth of an import.
    """
    with _Switching.guard:
        if not _Switching.imports:
            _Switching.usual_s = sys.getswitchinterval()
            sys.setswitchinterval(min(_Switching.usual_s, SWITCH_INTERVAL_S))
        _Switching.imports += 1
    try:
        yield
    finally:
        with _Switching.guard:
            _Switching.imports -= 1
            if not _Switching.imports:
                sys.setswitchinterval(_Switching.usual_s)


class _Queue:
    """A bounded queue of pieces between two threads that either may abandon."""

    def __init__(self, size: int) -> None:
        self._pieces: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(size)
        self._stopped = False

    def put(self, piece: bytes | None) -> None:
        self._room.acquire()
        if self._stopped:
            raise _Stopped
        self._pieces.put(piece)

    def stop(self) -> None:
        """Wake both sides; they raise _Stopped."""
        self._stopped = True
        self._room.release()
        self._pieces.put(None)

    def __iter__(self) -> Iterator[bytes]:
        while True:
            piece = self._pieces.get()
            if self._stopped:
                raise _Stopped
            if piece is None:
                return
            yield piece
            self._room.release()


def _bake_in_defaults(entries: list[TarEntry]) -> None:
    """Let `pax_raw` say what applies to each entry, where global headers have a part in it."""
    for entry in entries:
        entry.pax_raw = pax.build(entry.records)


def _check(result: Imported, expected: Expected) -> None:
    if expected.size is not None and result.stored_size != expected.size:
        raise DigestMismatch(f"{result.stored_size} bytes instead of the {expected.size} announced")
    if expected.digest is not None and result.digest != expected.digest:
        raise DigestMismatch(f"the bytes have digest {result.digest}, not {expected.digest}")
    if expected.diff_id is not None and result.diff_id != expected.diff_id:
        raise DigestMismatch(
            f"the uncompressed tar has diffID {result.diff_id}, not {expected.diff_id} as the "
            "image's config says"
        )


def _read_full(source: BinaryIO, size: int) -> bytes:
    """Up to `size` bytes; fewer only at the end, so that magic numbers are not cut."""
    data = source.read(size)
    while data and len(data) < size:
        more = source.read(size - len(data))
        if not more:
            break
        data += more
    return data


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _start_writeback(descriptor: int, offset: int, size: int) -> None:
    """Ask the kernel to start writing a range; only a hint, missing outside Linux."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).sync_file_range(
            ctypes.c_int(descriptor),
            ctypes.c_int64(offset),
            ctypes.c_int64(size),
            ctypes.c_uint(_SYNC_FILE_RANGE_WRITE),
        )


def _copy(blob: int, spill: int, piece: SpillPiece) -> None:
    source, target, left = piece.source, piece.target, piece.size
    while left:
        data = os.pread(blob, min(left, COPY_BYTES), source)
        if not data:
            raise FormatError("a body ends before its size", offset=source)
        os.pwrite(spill, data, target)
        source, target, left = source + len(data), target + len(data), left - len(data)
