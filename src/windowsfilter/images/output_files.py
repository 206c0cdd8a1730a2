"""Files of an export being written: copied through one buffer, on their way to the disk at once.

A saved image is gigabytes of blobs that are only moved. Allocating the space in one piece, copying
through a buffer that stays in the processor's cache and starting write-back along the way makes
saving as fast as `cat`, fsync included; copying inside the kernel (`copy_file_range`) was measured
a third slower. Digests are not computed here: readers of the image do that.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from windowsfilter.errors import StoreDamaged

_BUFFER_BYTES = 1 << 20
_WRITE_BACK_BYTES = 16 << 20
_ALLOCATE_BYTES = 8 << 20  # below this, allocating ahead gains nothing
_BINARY = getattr(os, "O_BINARY", 0)
# What says that a file system cannot allocate ahead.
_CANNOT_ALLOCATE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENODEV})


class OutputFile:
    """A binary stream that blobs are copied to. The stream stays open."""

    def __init__(self, stream: BinaryIO, *, ours: bool = False) -> None:
        """`ours`: a new file, which may be allocated ahead and sent to the disk early."""
        self._stream = stream
        self._ours = ours

    def write(self, data: bytes) -> None:
        write_all(self._stream, data)

    def flush(self) -> None:
        self._stream.flush()

    def copy(
        self, source: BinaryIO, size: int, what: str, progress: Callable[[int], None] | None
    ) -> None:
        """Copy all of `source`, which must have `size` bytes: StoreDamaged, naming `what`."""
        sent = self._allocate(size)
        left, unsent = size, 0
        buffer = memoryview(bytearray(min(size, _BUFFER_BYTES)))
        while left > 0:
            count = _read_into(source, buffer[: min(left, len(buffer))])
            if not count:
                raise StoreDamaged(f"{what} is damaged: {left} of its {size} bytes are missing")
            # Somebody else's stream may keep what it is given; the buffer is used again.
            data = buffer[:count] if self._ours else bytes(buffer[:count])
            write_all(self._stream, data)
            left -= count
            unsent += count
            if self._ours and unsent >= _WRITE_BACK_BYTES:
                _send_to_disk(self._stream, sent, unsent)
                sent, unsent = sent + unsent, 0
            if progress is not None:
                progress(count)
        if source.read(1):
            raise StoreDamaged(f"{what} is damaged: it has more than {size} bytes")

    def _allocate(self, size: int) -> int:
        """Where writing goes on; in a file of ours the space from there on is taken now."""
        if not self._ours:
            return 0
        place = self._stream.tell()
        if size >= _ALLOCATE_BYTES and hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(self._stream.fileno(), place, size)
            except OSError as error:
                if error.errno not in _CANNOT_ALLOCATE:
                    raise
        return place


def _read_into(source: BinaryIO, view: memoryview) -> int:
    """Fill `view` from the front, possibly not all of it; 0 at the end."""
    read_into = getattr(source, "readinto", None)
    if read_into is not None:
        return int(read_into(view) or 0)
    data = source.read(len(view))
    view[: len(data)] = data
    return len(data)


def _send_to_disk(stream: BinaryIO, offset: int, size: int) -> None:
    """Start writing a range back, without waiting; only a hint.

    That is what "not needed any more" does to pages that are not on the disk yet.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(stream.fileno(), offset, size, os.POSIX_FADV_DONTNEED)


@contextmanager
def new_file(path: Path) -> Iterator[OutputFile]:
    """A new file for its owner alone, on the disk when the block is left without an error."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
    # Without a buffer: on a full disk it would fail a second time when it is closed.
    with open(descriptor, "wb", buffering=0) as stream:
        yield OutputFile(stream, ours=True)
        os.fsync(descriptor)


def write_all(stream: BinaryIO, data: bytes | memoryview) -> None:
    """Write all of `data`, also to a stream without a buffer, which may take less at a time."""
    written = stream.write(data)
    while written < len(data):
        written += stream.write(memoryview(data)[written:])
