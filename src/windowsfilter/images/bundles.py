"""Named files inside what an image came in: a directory or a tar, read without unpacking.

Names come from documents inside, so they are not trusted: they cannot leave the bundle, neither
by `..` nor by links; links inside it are followed (Docker before 25 writes `layer.tar` links, Bazel
writes links to blobs). A tar is read once, headers only, and then by offset; bodies are stepped
over by seeking.
"""

from __future__ import annotations

import errno
import io
import os
import posixpath
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from windowsfilter.errors import FormatError, HostError, LimitExceeded
from windowsfilter.wire.tar import (
    BLOCK,
    TYPE_FILE,
    TYPE_HARD_LINK,
    TYPE_SYMLINK,
    TarEntry,
    TarReader,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_MEMBERS = 100_000
"""Members of an archive. `docker save` writes some four a layer; a layer itself has more, and is
told from an archive of images by this."""

MAX_MEMBER_NAMES = 64 << 20
"""Bytes of all names and link targets of an archive's members; they stay in memory."""

MAX_LINKS = 40  # followed one after the other, as Linux has it

_BLANK = memoryview(bytes(1 << 20))
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
# A FIFO in the place of a file must not make us wait for its writer.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | _NO_FOLLOW
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NO_FOLLOW


class Bundle(Protocol):
    """Files by name; names are relative and have `/`."""

    def size(self, name: str) -> int | None:
        """Bytes of the file, None if there is none."""
        ...

    def open(self, name: str) -> BinaryIO:
        """The file from its start, with a position of its own; the caller closes it.

        Several may be read at once, from different threads, until the bundle is closed.
        Raises FormatError if there is no such file.
        """
        ...

    def close(self) -> None:
        """Release files; streams opened from the bundle are of no use any more."""
        ...


def read_whole(bundle: Bundle, name: str, *, limit: int, what: str) -> bytes:
    """All of a file of at most `limit` bytes."""
    with bundle.open(name) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise LimitExceeded(f"{what} is longer than {limit} bytes")
    return data


def clean(name: str) -> str:
    """`name` without `.`, doubled slashes and backslashes; FormatError if it leaves the bundle.

    Backslashes stand for slashes: Docker on Windows writes them into manifest.json.
    """
    slashed = name.replace("\\", "/")
    normal = posixpath.normpath(slashed)
    absolute = slashed.startswith("/") or normal[1:2] == ":"
    if absolute or normal in {"", ".", ".."} or normal.startswith("../") or "\0" in normal:
        raise FormatError(f"{name[:200]!r} is not the name of a file inside the image's archive")
    return normal


class DirectoryBundle:
    """A directory; it is not left, whoever changes links in it meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._root = -1
        if os.open in os.supports_dir_fd:
            self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def size(self, name: str) -> int | None:
        found = self._find(name)
        if found is None:
            return None
        with open(found, "rb", buffering=0) as stream:
            return os.fstat(stream.fileno()).st_size

    def open(self, name: str) -> BinaryIO:
        found = self._find(name)
        if found is None:
            raise FormatError(f"{name} is missing")
        return open(found, "rb")

    def close(self) -> None:
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def _find(self, name: str) -> int | None:
        """A descriptor of the regular file, None if there is none."""
        try:
            fd = self._walk(clean(name)) if self._root >= 0 else self._resolved(clean(name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:  # or became a link since it was looked at
                raise FormatError(f"{name} leads through too many links") from error
            raise HostError(error.errno, f"open {name}: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FormatError(f"{name} is not a regular file")
        return fd

    def _walk(self, name: str) -> int:
        """Open component by component, never letting the kernel follow a link."""
        for _ in range(MAX_LINKS):
            with _folders(self._root) as folders:
                parts = name.split("/")
                for number, part in enumerate(parts):
                    status = os.stat(part, dir_fd=folders[-1], follow_symlinks=False)
                    if stat.S_ISLNK(status.st_mode):
                        target = os.readlink(part, dir_fd=folders[-1])
                        name = _follow("/".join(parts[: number + 1]), target)
                        name = "/".join((name, *parts[number + 1 :]))
                        break
                    if number + 1 == len(parts):
                        return os.open(part, _READ, dir_fd=folders[-1])
                    folders.append(os.open(part, _FOLDER, dir_fd=folders[-1]))
        raise FormatError(f"{name}: more than {MAX_LINKS} links")

    def _resolved(self, name: str) -> int:
        """The same where the system cannot open relative to a directory (Windows)."""
        root = os.path.realpath(self._path)
        path = os.path.realpath(os.path.join(root, *name.split("/")))
        if os.path.commonpath((root, path)) != root:
            raise FormatError(f"{name} is a link out of the image's directory")
        return os.open(path, _READ)


@dataclass(frozen=True, slots=True)
class _Stored:
    """Where a member of a tar is, or what it is a link to."""

    offset: int = 0
    size: int = 0
    link: str = ""
    symbolic: bool = False
    sparse: bool = False


class TarBundle:
    """An uncompressed tar in a file that can seek. Of members of one name the last counts."""

    def __init__(self, stream: BinaryIO) -> None:
        """Index the tar in `stream`, which must outlive the bundle; raises FormatError."""
        self._file = _RandomFile(stream)
        self._members: dict[str, _Stored] = {}
        self._name_bytes = 0
        self._index()

    def size(self, name: str) -> int | None:
        stored = self._find(name)
        return None if stored is None else stored.size

    def open(self, name: str) -> BinaryIO:
        stored = self._find(name)
        if stored is None:
            raise FormatError(f"{name} is missing")
        if stored.sparse:
            raise FormatError(f"{name} is stored as a sparse file")
        return io.BufferedReader(_Section(self._file, stored.offset, stored.size))

    def close(self) -> None:
        """Nothing is held: the stream is the caller's."""

    def _find(self, name: str) -> _Stored | None:
        at = clean(name)
        for _ in range(MAX_LINKS):
            stored = self._members.get(at)
            if stored is None or not stored.link:
                return stored
            at = _follow(at, stored.link) if stored.symbolic else clean(stored.link)
        raise FormatError(f"{name}: more than {MAX_LINKS} links")

    def _index(self) -> None:
        reader = TarReader()
        members = 0
        end = self._file.size
        header = memoryview(bytearray(BLOCK))
        while reader.offset < end and not reader.ended:
            size = self._file.read_into(header, reader.offset)
            if not size:
                break
            for entry in reader.feed(header[:size]):
                members += 1
                if members > MAX_MEMBERS:
                    raise LimitExceeded(
                        f"more than {MAX_MEMBERS} members: a layer or a root file system,"
                        " not an archive of images"
                    )
                self._add(entry)
                padded = entry.data_offset + -(-entry.stored_size // BLOCK) * BLOCK
                # The reader does not look at bodies: blanks in their place save reading them.
                left = min(padded, end) - reader.offset
                while left > 0:
                    reader.feed(_BLANK[:left])
                    left -= len(_BLANK)
        reader.close()

    def _add(self, entry: TarEntry) -> None:
        self._name_bytes += len(entry.name) + len(entry.linkname)
        if self._name_bytes > MAX_MEMBER_NAMES:
            raise LimitExceeded(
                f"names of more than {MAX_MEMBER_NAMES} bytes in all", offset=entry.header_offset
            )
        name = os.fsdecode(entry.path)
        if entry.kind == TYPE_FILE:
            sparse = entry.sparse is not None
            self._members[name] = _Stored(entry.data_offset, entry.size, sparse=sparse)
        elif entry.kind == TYPE_SYMLINK:
            self._members[name] = _Stored(link=os.fsdecode(entry.linkname), symbolic=True)
        elif entry.kind == TYPE_HARD_LINK:
            self._members[name] = _Stored(link=os.fsdecode(entry.linkname))


class _RandomFile:
    """A seekable file read at offsets by several threads."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self._base = stream.tell()
        self.size = stream.seek(0, os.SEEK_END) - self._base
        self._lock = threading.Lock()
        self._fd = -1
        if hasattr(os, "preadv"):
            try:
                self._fd = stream.fileno()
            except (OSError, AttributeError):
                pass  # bytes in memory

    def read_into(self, buffer: WriteableBuffer, offset: int) -> int:
        try:
            if self._fd >= 0:
                return os.preadv(self._fd, [buffer], self._base + offset)
            with self._lock:
                self.stream.seek(self._base + offset)
                data = self.stream.read(len(memoryview(buffer)))
        except OSError as error:
            raise HostError(error.errno, f"read image archive: {error.strerror}") from error
        memoryview(buffer)[: len(data)] = data
        return len(data)


class _Section(io.RawIOBase):
    """Part of a file as a file."""

    def __init__(self, file: _RandomFile, offset: int, size: int) -> None:
        self._file = file
        self._offset = offset
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"seek to {start + offset}")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")[: max(0, self._size - self._position)]
        if not view:
            return 0
        count = self._file.read_into(view, self._offset + self._position)
        self._position += count
        return count


def _follow(name: str, target: str) -> str:
    """The name that the link `name` leads to; FormatError if that is outside."""
    if target.startswith("/"):
        raise FormatError(f"{name} is a link to {target[:200]!r}, outside the image's archive")
    try:
        return clean(posixpath.join(posixpath.dirname(name), target))
    except FormatError:
        raise FormatError(
            f"{name} is a link to {target[:200]!r}, outside the image's archive"
        ) from None


@contextmanager
def _folders(root: int) -> Iterator[list[int]]:
    """A stack of directory descriptors upon `root`, all of them closed at the end."""
    stack = [root]
    try:
        yield stack
    finally:
        for descriptor in stack[1:]:
            os.close(descriptor)
