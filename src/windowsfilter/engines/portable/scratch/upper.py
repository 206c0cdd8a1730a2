"""A scratch's upper directory, read as overlayfs wrote it and trusting nothing in it.

Programs in a container decide what lies there, so no symbolic link is ever followed: every step is
one name, opened relative to the directory before it. What the kernel's overlay means by the marks
it leaves (whiteouts, opaque directories, redirects) is told apart here; what it means for a layer
is decided in `scratch.merge`. Source: Documentation/filesystems/overlayfs.rst; docs/formats/scratch.md.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Self

from windowsfilter.engines.portable import privileges
from windowsfilter.engines.portable.erofs.xattrs import ENTRY_VALUE
from windowsfilter.errors import HostError, UsageError
from windowsfilter.ntfs import filetime

MAX_DEPTH = 400
"""Directories within each other: one descriptor is open for each, and programs get 1,024."""

LINK_INODE = struct.Struct("<Q")
"""How the value of a `link_mark` ends: the inode number of the link that it speaks of."""

SPARSE_BYTES = 64 << 10
"""NTFS makes holes of so many bytes, never of fewer."""

_STATX = struct.Struct("<I76xqI")  # mask, birth time: seconds, nanoseconds
_STATX_BYTES = 256
_STATX_BTIME = 0x800
_AT_SYMLINK_NOFOLLOW = 0x100
_ABSENT = (errno.ENODATA, errno.ENOTSUP)


class ScratchRefused(UsageError):
    """Something in a scratch cannot be in a Windows layer."""

    def __init__(self, path: bytes, why: str) -> None:
        super().__init__(f"scratch: {shown(path)!r} {why}")


class UpperKind(Enum):
    """What an entry of an upper directory is to overlayfs."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    WHITEOUT = "whiteout"


class Namespace(Enum):
    """Where the marks are: only root may set `trusted.` attributes."""

    TRUSTED = "trusted."
    USER = "user."


@dataclass(frozen=True, slots=True)
class UpperEntry:
    """One name in an upper directory."""

    name: bytes
    kind: UpperKind
    stat: os.stat_result
    opaque: bool = False
    redirect: bytes | None = None
    entry: tuple[int, int] | None = None
    """(layer, record) of the entry that the file had when it was copied up."""
    metadata: dict[str, bytes] = field(default_factory=dict)
    """`windows.*` attributes without their namespace, `entry` excepted."""


class UpperDirectory:
    """An open directory of an upper. Close it; `path` is for messages."""

    def __init__(self, descriptor: int, path: bytes, namespace: Namespace, depth: int) -> None:
        self.descriptor = descriptor
        self.path = path
        self.namespace = namespace
        self._depth = depth
        self.stat = os.fstat(descriptor)

    def close(self) -> None:
        """Release the descriptor; may be called twice."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def names(self) -> list[bytes]:
        """Every name, in byte order."""
        with host_errors(self.path, "list"):
            return sorted(map(os.fsencode, os.listdir(self.descriptor)))

    def entries(self) -> list[UpperEntry]:
        """Every entry in byte order of names. Raises ScratchRefused for what no layer can hold."""
        return [found for name in self.names() if (found := self.entry(name)) is not None]

    def entry(self, name: bytes) -> UpperEntry | None:
        """One entry, None if there is none of this name."""
        try:
            status = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None
        path = self.child(name)
        kind = _kind(path, status)
        if kind is UpperKind.WHITEOUT:
            return UpperEntry(name, kind, status)
        with host_errors(path, "read the attributes of"):
            marks = self._marks(name)
            if kind is UpperKind.SYMLINK and self.namespace is Namespace.USER:
                self._add_link_marks(name, status, marks)
        if kind is UpperKind.FILE and "overlay.metacopy" in marks:
            raise HostError(
                errno.ENODATA,
                f"scratch: {shown(path)!r} has no data of its own (mounted with metacopy=on)",
            )
        return UpperEntry(
            name,
            kind,
            status,
            opaque=kind is UpperKind.DIRECTORY and marks.get("overlay.opaque") == b"y",
            redirect=marks.get("overlay.redirect") if kind is UpperKind.DIRECTORY else None,
            entry=_entry(path, marks.pop("windows.entry", None)),
            metadata={key: value for key, value in marks.items() if key.startswith("windows.")},
        )

    def has_streams(self) -> bool:
        """Whether any name in here has a colon, at any depth. Cheaper than looking at entries."""
        folders = []
        with host_errors(self.path, "list"), os.scandir(self.descriptor) as found:
            for item in found:
                if ":" in item.name:
                    return True
                if item.is_dir(follow_symlinks=False):
                    folders.append(os.fsencode(item.name))
        for name in folders:
            entry = self.entry(name)
            if entry is None or entry.kind is not UpperKind.DIRECTORY:
                raise changed(self.child(name))
            with self.open_directory(entry) as inner:
                if inner.has_streams():
                    return True
        return False

    def child(self, name: bytes) -> bytes:
        """The path of a name in here, for messages."""
        return self.path + b"/" + name if self.path else name

    def proc_path(self, name: bytes) -> bytes:
        """A path of a name in here, for system calls that have no form relative to a directory."""
        return b"/proc/self/fd/%d/%s" % (self.descriptor, name)

    def open_directory(self, entry: UpperEntry) -> UpperDirectory:
        """The directory that `entry` is. The caller closes it."""
        path = self.child(entry.name)
        if self._depth >= MAX_DEPTH:
            raise ScratchRefused(path, f"is more than {MAX_DEPTH} directories deep")
        opened = UpperDirectory(
            self._open(entry, os.O_DIRECTORY), path, self.namespace, self._depth + 1
        )
        if opened.stat.st_dev != self.stat.st_dev:
            opened.close()
            raise ScratchRefused(path, "is on another file system")
        return opened

    def reopen(self, path: bytes) -> UpperDirectory:
        """The directory at a path below this one; `path` is as `UpperDirectory.path`. Close it."""
        opened = self
        for name in path.split(b"/"):
            if name:
                entry = opened.entry(name)
                if entry is None or entry.kind is not UpperKind.DIRECTORY:
                    raise changed(path)
                inner = opened.open_directory(entry)
                if opened is not self:
                    opened.close()
                opened = inner
        return opened if opened is not self else self._again()

    def _again(self) -> UpperDirectory:
        descriptor = os.open(
            ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.descriptor
        )
        return UpperDirectory(descriptor, self.path, self.namespace, self._depth)

    def open_file(self, entry: UpperEntry) -> int:
        """A descriptor of the file that `entry` is. The caller closes it."""
        return self._open(entry, os.O_NONBLOCK)

    def readlink(self, entry: UpperEntry) -> bytes:
        """The target of the symbolic link that `entry` is."""
        with host_errors(self.child(entry.name), "read"):
            return os.readlink(entry.name, dir_fd=self.descriptor)

    def birth(self, entry: UpperEntry) -> int | None:
        """When the entry was made, as FILETIME; None where the file system does not say."""
        ns = _birth_ns(self.descriptor, entry.name)
        return None if ns is None else filetime.from_unix_ns(ns)

    def is_sparse(self, entry: UpperEntry) -> bool:
        """Whether a file has holes, as far as its file system tells."""
        size = entry.stat.st_size
        if size < SPARSE_BYTES or entry.stat.st_blocks * 512 >= size:
            return False
        descriptor = self.open_file(entry)
        try:
            return os.lseek(descriptor, 0, os.SEEK_HOLE) < size
        except OSError:  # not every file system knows
            return False
        finally:
            os.close(descriptor)

    def _open(self, entry: UpperEntry, flags: int) -> int:
        path = self.child(entry.name)
        with host_errors(path, "open"):
            descriptor = os.open(
                entry.name,
                os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | flags,
                dir_fd=self.descriptor,
            )
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != (entry.stat.st_dev, entry.stat.st_ino):
            os.close(descriptor)
            raise changed(path)
        return descriptor

    def _marks(self, name: bytes) -> dict[str, bytes]:
        """`overlay.*` and `windows.*` attributes of an entry, without their namespace.

        Through /proc, because before Linux 6.13 there are no calls relative to a directory.
        """
        path = self.proc_path(name)
        marks = {}
        for key in os.listxattr(path, follow_symlinks=False):
            bare = key.removeprefix(self.namespace.value)
            if bare != key and bare.startswith(("overlay.", "windows.")):
                try:
                    marks[bare] = os.getxattr(path, key, follow_symlinks=False)
                except OSError as error:
                    if error.errno not in _ABSENT:
                        raise
        return marks

    def _add_link_marks(self, name: bytes, status: os.stat_result, marks: dict[str, bytes]) -> None:
        """The marks of a symbolic link, which cannot have `user.` attributes itself."""
        inode = LINK_INODE.pack(status.st_ino)
        own = self.namespace.value + link_mark(name, "windows.entry")
        for key in os.listxattr(self.descriptor):
            if key.startswith(own):
                value = os.getxattr(self.descriptor, key)
                if value.endswith(inode):  # else it spoke of another link of this name
                    which = key[len(own) + 1 :] or "entry"
                    marks["windows." + which] = value.removesuffix(inode)


@contextmanager
def open_upper(upper: Path) -> Iterator[UpperDirectory]:
    """The upper directory itself, open for the body."""
    with host_errors(os.fsencode(upper), "open"):
        descriptor = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    directory = UpperDirectory(descriptor, b"", namespace_of(os.fstat(descriptor).st_uid), 0)
    with directory:
        yield directory


def namespace_of(owner: int) -> Namespace:
    """Which marks count in an upper that belongs to the user `owner`.

    Not both: any program in a container may set `user.` attributes on its files.
    """
    return (
        Namespace.TRUSTED if owner == 0 and privileges.sees_trusted_attributes() else Namespace.USER
    )


def link_mark(name: bytes, attribute: str) -> str:
    """Where a directory keeps an attribute `windows.*` of one of its symbolic links."""
    which = attribute.removeprefix("windows.")
    mark = "windows.link." + hashlib.sha256(name).hexdigest()[:32]
    return mark if which == "entry" else f"{mark}.{which}"


def changed(path: bytes) -> HostError:
    """The error for what another program changed under our hands."""
    return HostError(errno.ESTALE, f"scratch: {shown(path)!r} changed while it was read")


def shown(path: bytes) -> str:
    """A path for a message."""
    return path[:600].decode("utf-8", "backslashreplace")


def _kind(path: bytes, status: os.stat_result) -> UpperKind:
    mode = status.st_mode
    if stat.S_ISREG(mode):
        return UpperKind.FILE
    if stat.S_ISDIR(mode):
        return UpperKind.DIRECTORY
    if stat.S_ISLNK(mode):
        return UpperKind.SYMLINK
    if stat.S_ISCHR(mode) and status.st_rdev == 0:
        return UpperKind.WHITEOUT
    what = {
        stat.S_IFCHR: "a character device",
        stat.S_IFBLK: "a block device",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
    }.get(stat.S_IFMT(mode), "of an unknown kind")
    raise ScratchRefused(path, f"is {what}, which Windows layers cannot hold")


def _entry(path: bytes, value: bytes | None) -> tuple[int, int] | None:
    if value is None:
        return None
    if len(value) != ENTRY_VALUE.size:
        raise ScratchRefused(path, f"has a windows.entry attribute of {len(value)} bytes")
    layer, record = ENTRY_VALUE.unpack(value)
    return layer, record


@contextmanager
def host_errors(path: bytes, operation: str) -> Iterator[None]:
    """Translate the body's OSError, naming what was done to which path of a scratch."""
    try:
        yield
    except (HostError, UsageError):
        raise
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            raise changed(path) from error
        what = error.strerror or str(error)
        raise HostError(error.errno, f"scratch: {operation} {shown(path)!r}: {what}") from error


@cache
def _statx() -> ctypes._NamedFuncPointer | None:
    function: ctypes._NamedFuncPointer | None
    try:
        function = ctypes.CDLL(None, use_errno=True).statx
    except (AttributeError, OSError, TypeError):
        return None
    return function


def _birth_ns(descriptor: int, name: bytes) -> int | None:
    """Birth time in ns since 1970. Python's os.stat does not have it on Linux."""
    function = _statx()
    if function is None:
        return None
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    if function(descriptor, name, _AT_SYMLINK_NOFOLLOW, _STATX_BTIME, buffer) != 0:
        return None
    mask, seconds, nanoseconds = _STATX.unpack_from(buffer)
    return int(seconds * 1_000_000_000 + nanoseconds) if mask & _STATX_BTIME else None
