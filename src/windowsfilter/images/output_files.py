"""Files of an export being written: copies that stay in the kernel, flushes beside the writing.

A saved image is gigabytes of blobs that are only moved. Copying them by `copy_file_range` into space
that was allocated in one piece, and starting their way to the disk at once, makes saving about as
fast as `cat`, fsync included. Digests are not computed here: readers of the image do that.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from windowsfilter.errors import StoreDamaged

_CHUNK = 1 << 20
_KERNEL_CHUNK = 16 << 20  # bytes between two reports of progress, and sent to the disk at once
_ALLOCATE_BYTES = 8 << 20  # below this, allocating ahead gains nothing
_BINARY = getattr(os, "O_BINARY", 0)
# What copy_file_range says about files that it cannot copy; then the bytes go through memory.
_CANNOT_COPY = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF}
)


class OutputFile:
    """A binary stream with a fast `copy`. The stream stays open."""

    def __init__(self, stream: BinaryIO, *, ours: bool = False) -> None:
        """`ours`: a new file, which may be allocated ahead and sent to the disk early."""
        self._stream = stream
        self._fd = _descriptor(stream)
        self._ours = ours

    def write(self, data: bytes) -> None:
        write_all(self._stream, data)

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
        target = self._allocate(size)
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
            if self._ours:
                _send_to_disk(self._fd, target + done, count)
            done += count
            if progress is not None:
                progress(count)
        source.seek(start + done)
        return done

    def _allocate(self, size: int) -> int:
        """Where writing goes on; in a file of ours the space from there on is taken now."""
        if not self._ours:
            return 0
        place = self._stream.tell()
        if size >= _ALLOCATE_BYTES and hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(self._fd, place, size)
            except OSError as error:
                if error.errno not in _CANNOT_COPY:
                    raise
        return place


def _send_to_disk(descriptor: int, offset: int, size: int) -> None:
    """Start writing a range back, without waiting; only a hint.

    That is what "not needed any more" does to pages that are not on the disk yet.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)


@contextmanager
def new_file(path: Path) -> Iterator[OutputFile]:
    """A new file for its owner alone, on the disk when the block is left without an error."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
    # Without a buffer: on a full disk it would fail a second time when it is closed.
    with open(descriptor, "wb", buffering=0) as stream:
        yield OutputFile(stream, ours=True)
        os.fsync(descriptor)


def write_all(stream: BinaryIO, data: bytes) -> None:
    """Write all of `data`, also to a stream without a buffer, which may take less at a time."""
    written = stream.write(data)
    while written < len(data):
        written += stream.write(memoryview(data)[written:])


def _descriptor(stream: BinaryIO) -> int:
    """The file descriptor behind a stream that does nothing but read or write it; -1 if unsure."""
    raw = stream.raw if isinstance(stream, io.BufferedReader | io.BufferedWriter) else stream
    return raw.fileno() if type(raw) is io.FileIO else -1
