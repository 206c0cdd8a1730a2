"""Files of an export being written: copies that stay in the kernel, flushes beside the writing.

A saved image is gigabytes of blobs that are only moved. Copying them by `copy_file_range` and
flushing what is written while the rest is still being copied makes saving about as fast as `cat`,
fsync included. Digests are not computed here: readers of the image do that.
"""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from windowsfilter.errors import StoreDamaged

_CHUNK = 1 << 20
_KERNEL_CHUNK = 32 << 20  # bytes between two reports of progress
_FLUSH_BYTES = 64 << 20
_BINARY = getattr(os, "O_BINARY", 0)
# What copy_file_range says about files that it cannot copy; then the bytes go through memory.
_CANNOT_COPY = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF}
)


class OutputFile:
    """A binary stream with a fast `copy`. The stream stays open."""

    def __init__(self, stream: BinaryIO, *, flusher: _Flusher | None = None) -> None:
        self._stream = stream
        self._fd = _descriptor(stream)
        self._flusher = flusher

    def write(self, data: bytes) -> None:
        write_all(self._stream, data)
        if self._flusher is not None:
            self._flusher.written(len(data))

    def flush(self) -> None:
        self._stream.flush()

    def copy(
        self, source: BinaryIO, size: int, what: str, progress: Callable[[int], None] | None
    ) -> None:
        """Copy all of `source`, which must have `size` bytes: StoreDamaged, naming `what`."""
        left = size - self._copy_in_kernel(source, size, progress)
        while left > 0:
            chunk = source.read(min(left, _CHUNK))
            if not chunk:
                raise StoreDamaged(f"{what} is damaged: {left} of its {size} bytes are missing")
            self.write(chunk)
            left -= len(chunk)
            if progress is not None:
                progress(len(chunk))
        if source.read(1):
            raise StoreDamaged(f"{what} is damaged: it has more than {size} bytes")

    def _copy_in_kernel(
        self, source: BinaryIO, size: int, progress: Callable[[int], None] | None
    ) -> int:
        """Copy what the kernel will copy, from 0 to `size` bytes; `source` is moved behind it."""
        source_fd = _descriptor(source)
        if source_fd < 0 or self._fd < 0 or not hasattr(os, "copy_file_range"):
            return 0
        start = source.tell()
        self._stream.flush()
        done = 0
        while done < size:
            wanted = min(size - done, _KERNEL_CHUNK)
            try:
                count = os.copy_file_range(source_fd, self._fd, wanted, start + done)
            except OSError as error:
                if error.errno not in _CANNOT_COPY:
                    raise
                break
            if not count:
                break
            done += count
            if self._flusher is not None:
                self._flusher.written(count)
            if progress is not None:
                progress(count)
        source.seek(start + done)
        return done


@contextmanager
def new_file(path: Path) -> Iterator[OutputFile]:
    """A new file for its owner alone, on the disk when the block is left without an error."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
    # Without a buffer: on a full disk it would fail a second time when it is closed.
    with open(descriptor, "wb", buffering=0) as stream:
        flusher = _Flusher(descriptor)
        try:
            yield OutputFile(stream, flusher=flusher)
        finally:
            flusher.stop()
        if flusher.error is not None:
            raise flusher.error
        os.fsync(descriptor)


def write_all(stream: BinaryIO, data: bytes) -> None:
    """Write all of `data`, also to a stream without a buffer, which may take less at a time."""
    written = stream.write(data)
    while written < len(data):
        written += stream.write(memoryview(data)[written:])


class _Flusher:
    """Flushes a file to disk every so many bytes, in a thread that is started when needed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._unflushed = 0
        self._wake = threading.Event()
        self._over = False
        self._thread: threading.Thread | None = None
        self.error: OSError | None = None
        """What a flush failed with. The kernel tells it once only: a later fsync succeeds."""

    def written(self, size: int) -> None:
        self._unflushed += size
        if self._unflushed < _FLUSH_BYTES:
            return
        self._unflushed = 0
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="flush", daemon=True)
            self._thread.start()
        self._wake.set()

    def stop(self) -> None:
        self._over = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        flush = getattr(os, "fdatasync", os.fsync)
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._over:
                return
            try:
                flush(self._descriptor)
            except OSError as error:
                self.error = error
                return


def _descriptor(stream: BinaryIO) -> int:
    """The file descriptor behind a stream that does nothing but read or write it; -1 if unsure."""
    raw = stream.raw if isinstance(stream, io.BufferedReader | io.BufferedWriter) else stream
    return raw.fileno() if type(raw) is io.FileIO else -1
