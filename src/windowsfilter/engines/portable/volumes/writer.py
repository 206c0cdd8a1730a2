"""Writes a merged tree to a mounted NTFS volume, entry by entry, through ntfs-3g's attributes.

Order matters, since nearly every call moves times: name, data and streams first, then EAs and the
descriptor; attributes after the last hard link, which sets one; reparse data after that, too, because
ntfs-3g refuses to open some such files again; creation, write and access time last. Directories get all that when everything
in them is done. ntfs-3g cannot set change times: they are collected for `change_times`.
Everything is addressed relative to open directories of a mount that only this process sees, and
no reparse point is made above anything that is still to be written.
Sources: ntfs-3g(8); "Extended attributes" of its wiki; src/ntfs-3g.c of 2022.10.3.
"""

from __future__ import annotations

import errno
import os
import struct
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from windowsfilter.engines.portable.index import Kind, Record
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.engines.portable.volumes import entries, plan
from windowsfilter.engines.portable.volumes.entries import Entries
from windowsfilter.engines.portable.volumes.plan import Plan
from windowsfilter.errors import FormatError, HostError, UsageError
from windowsfilter.ntfs.attributes import describe
from windowsfilter.ntfs.reparse import tag_name

Reader = Callable[[tuple[int, int], Record, int, int], bytes]
"""(layer, record number), record, size, offset -> bytes of an entry's data; b"" at its end."""

MAX_LINKS = 1024
"""Names that Windows lets a file have."""

_ACL = "system.ntfs_acl"
_ATTRIBUTES = "system.ntfs_attrib"
_EAS = "system.ntfs_ea"
_REPARSE = "system.ntfs_reparse_data"
_TIMES = "system.ntfs_times"
# What says that NTFS or ntfs-3g does not take this value, not that the machine fails.
_REFUSALS = frozenset(
    {
        errno.EINVAL,
        errno.E2BIG,
        errno.EFBIG,
        errno.ERANGE,
        errno.ENAMETOOLONG,
        errno.EILSEQ,
        errno.EOPNOTSUPP,
    }
)
_PIECE = 1 << 20
_HOLE = 64 << 10  # Windows frees runs of zeros in such units
_ZEROS = bytes(_HOLE)
_OPEN_DIRECTORIES = 64

_MAX_NAME = 1024  # FUSE_NAME_MAX of the kernel, for `file:stream` in one
_MAX_PATH = 3072  # of one call; Linux takes 4095
_U32 = struct.Struct("<I")
_DIRECTORY = int(Kind.DIRECTORY)
_NEW_FILE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class NotCarried:
    """Something of an entry that the volume does not have."""

    path: bytes
    """`/`-separated, from the root of the layers."""
    what: str


@dataclass(slots=True)
class Written:
    """What went on a volume."""

    directories: int = 0
    files: int = 0
    """Inodes that are no directories, reparse points included."""
    links: int = 0
    """Further names of files."""
    streams: int = 0
    reparse_points: int = 0
    data_bytes: int = 0
    """Of files and streams."""
    not_carried: list[NotCarried] = field(default_factory=list)


class VolumeWriter:
    """Writes one plan to one volume. `write` once."""

    def __init__(
        self,
        tree: Tree,
        read: Reader,
        found: Plan,
        root: int,
        *,
        eas: bool = True,
        skip_unsupported: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """`root` is the open root directory of the volume, which stays the caller's.

        Without `eas` extended attributes are left out and listed: the volume goes where there are none.
        With `skip_unsupported` what the volume cannot hold is left out and listed; otherwise it is
        refused.
        """
        self._tree = tree
        self._read = read
        self._plan = found
        self._entries = Entries(tree, found.root, found.kept)
        self._eas = eas
        self._skip = skip_unsupported
        self._progress = progress
        self._folders = _Folders(tree, found.root, root)
        self._written = Written()
        self.change_times = array("Q")
        """What ntfs-3g cannot set, for `change_times.restore`."""
        self._linked: dict[int, _Linked] = {}
        """Inodes that have further names."""

    def write(self) -> Written:
        """Write everything. Raises UsageError for what cannot be carried, HostError."""
        tree, refused = self._tree, self._plan.refused
        try:
            for path, what in self._plan.problems:
                self._refuse_path(path, what)
            with _named(tree, self._plan.root):
                self._write_streams(self._folders.open(self._plan.root), b"", self._plan.root)
            for directory in self._plan.directories:
                for slot in tree.kids[directory].values():
                    if slot in refused:
                        self._refuse(slot, refused[slot])
                    else:
                        with _named(tree, slot):
                            self._enter(directory, slot)
            for inode, first in self._linked.items():
                if not self._entries.is_directory(inode):
                    with _named(tree, inode):
                        self._finish_linked(inode, first)
            for directory in reversed(self._plan.directories):
                with _named(tree, directory):
                    self._finish_directory(directory)
        finally:
            self._folders.close()
        return self._written

    # -- names and data -----------------------------------------------------------------------

    def _enter(self, directory: int, slot: int) -> None:
        tree, name = self._tree, self._tree.names[slot]
        folder = self._folders.open(directory)
        if tree.kinds[slot] == _DIRECTORY:
            os.mkdir(name, dir_fd=folder)
            self._write_streams(folder, name, slot)
            return
        inode = tree.inode(slot)
        if inode in self._linked:
            self._link(slot, inode, folder)
            return
        if tree.link_count(slot) > 1:
            self._linked[inode] = _Linked(directory, name)
        self._written.files += 1
        if self._entries.is_directory(inode):
            self._enter_directory_link(folder, name, inode)
        else:
            self._enter_file(directory, folder, name, inode)

    def _enter_file(self, directory: int, folder: int, name: bytes, inode: int) -> None:
        longest = max(map(len, self._tree.streams(inode)), default=0)
        first_name = name
        if len(name) + 1 + longest > _MAX_NAME:
            first_name = plan.spare_name(self._tree.kids[directory])
        descriptor = os.open(first_name, _NEW_FILE, 0o644, dir_fd=folder)
        try:
            number = os.fstat(descriptor).st_ino  # now, while the kernel knows it anyway
            self._write_data(descriptor, inode)
            self._write_streams(folder, first_name, inode)
            if first_name != name:
                os.rename(first_name, name, src_dir_fd=folder, dst_dir_fd=folder)
            self._describe(descriptor, inode, is_directory=False)
            if inode not in self._linked:
                self._seal(descriptor, number, inode, is_directory=False)
        finally:
            os.close(descriptor)

    def _enter_directory_link(self, folder: int, name: bytes, inode: int) -> None:
        """A junction, or a symbolic link to a directory: an empty directory to NTFS."""
        os.mkdir(name, dir_fd=folder)
        descriptor = os.open(name, _FOLDER, dir_fd=folder)
        try:
            number = os.fstat(descriptor).st_ino
            self._write_streams(folder, name, inode)
            self._describe(descriptor, inode, is_directory=True)
            self._seal(descriptor, number, inode, is_directory=True)
        finally:
            os.close(descriptor)

    def _link(self, slot: int, inode: int, folder: int) -> None:
        """Another name of a file that is on the volume."""
        first = self._linked[inode]
        if self._entries.is_directory(inode):
            self._refuse(slot, "another name of a link to a directory, which can have but one")
            return
        if first.names == MAX_LINKS:
            self._refuse(slot, f"a name of a file that has {MAX_LINKS} others, Windows' limit")
            return
        first.names += 1
        os.link(
            first.name,
            self._tree.names[slot],
            src_dir_fd=self._folders.open(first.directory),
            dst_dir_fd=folder,
            follow_symlinks=False,
        )
        self._written.links += 1

    def _write_data(self, descriptor: int, inode: int) -> None:
        ref, record = self._tree.ref(inode), self._tree.record(inode)
        if ref is None or record is None or not record.size:
            return
        sparse = plan.is_sparse(record)
        if sparse:
            os.ftruncate(descriptor, record.size)
        self._copy(descriptor, ref, record, sparse=sparse)

    def _write_streams(self, folder: int, name: bytes, slot: int) -> None:
        for stream, ref in self._tree.streams(slot).items():
            reason = plan.stream_refusal(stream)
            if reason is not None:
                self._refuse(slot, f"{reason}: {_shown(stream)}")
                continue
            record = self._tree.layers[ref[0]].index.record(ref[1])
            path = name + b":" + stream
            if len(path) > _MAX_NAME:  # of a directory: files get a short name for the time being
                self._refuse(slot, f"the stream {_shown(stream)}, too long together with its name")
                continue
            descriptor = os.open(path, _NEW_FILE, 0o644, dir_fd=folder)
            try:
                self._copy(descriptor, ref, record, sparse=False)
            finally:
                os.close(descriptor)
            self._written.streams += 1

    def _copy(self, descriptor: int, ref: tuple[int, int], record: Record, *, sparse: bool) -> None:
        """Write an entry's data; where `sparse`, leave out long runs of zeros."""
        offset = 0
        while data := self._read(ref, record, _PIECE, offset):
            if sparse:
                for at in range(0, len(data), _HOLE):
                    piece = data[at : at + _HOLE]
                    if piece != _ZEROS[: len(piece)]:
                        _write_all(descriptor, piece, offset + at)
            else:
                _write_all(descriptor, data, offset)
            offset += len(data)
            self._written.data_bytes += len(data)
            if self._progress is not None:
                self._progress(len(data))

    # -- metadata -----------------------------------------------------------------------------

    def _describe(self, descriptor: int, slot: int, *, is_directory: bool) -> None:
        """EAs and security descriptor."""
        self._set_eas(descriptor, slot)
        self._set_descriptor(descriptor, slot, is_directory=is_directory)

    def _seal(self, descriptor: int, number: int, slot: int, *, is_directory: bool) -> None:
        """Attributes, reparse data, then what everything before has moved: the times."""
        self._set_attributes(descriptor, slot, is_directory=is_directory)
        try:
            point = self._entries.reparse_data(slot)
        except FormatError as error:
            self._refuse(slot, f"a reparse point that cannot be used: {error}")
            point = None
        if point is not None:
            if self._set(descriptor, _REPARSE, point):
                self._written.reparse_points += 1
            else:
                tag = tag_name(int.from_bytes(point[:4], "little"))
                self._refuse(slot, f"a reparse point ({tag}) that ntfs-3g does not take")
        times, change = self._entries.times(slot)
        os.setxattr(descriptor, _TIMES, times)
        self.change_times.extend((number, change))

    def _set_eas(self, descriptor: int, slot: int) -> None:
        try:
            found = self._entries.eas(slot)
        except FormatError as error:
            self._refuse(slot, f"extended attributes that cannot be used: {error}")
            return
        if not found:
            return
        if not self._eas:
            self._note(slot, "extended attributes, which wimlib does not put into a WIM")
            return
        stored = entries.stored_eas(found)
        if len(stored) > entries.MAX_EAS or not self._set(descriptor, _EAS, stored):
            self._refuse(
                slot, f"extended attributes of {len(stored)} bytes that NTFS does not take"
            )

    def _set_descriptor(self, descriptor: int, slot: int, *, is_directory: bool) -> None:
        try:
            if self._set(descriptor, _ACL, self._entries.descriptor(slot)):
                return
            if self._set(descriptor, _ACL, self._entries.completed(slot)):
                self._note(slot, "the security descriptor as it is: completed or encoded anew")
                return
            self._refuse(slot, "a security descriptor that ntfs-3g does not take")
        except FormatError as error:
            self._refuse(slot, f"a security descriptor that cannot be used: {error}")
        if slot != self._plan.root:
            parent = self._tree.parents[slot]
            try:
                inherited = self._entries.inherited(parent, is_directory=is_directory)
            except FormatError:  # too large to be: then it has what ntfs-3g gave it
                return
            self._set(descriptor, _ACL, inherited)

    def _set_attributes(self, descriptor: int, slot: int, *, is_directory: bool) -> None:
        wanted = self._entries.attributes(slot)
        if wanted is None:
            if is_directory:  # streams set the archive bit, which new directories have not
                is_root = slot == self._plan.root
                default = entries.ROOT_ATTRIBUTES if is_root else 0
                os.setxattr(descriptor, _ATTRIBUTES, _U32.pack(default))
            return
        can_set = entries.SETTABLE | (entries.COMPRESSED if is_directory else 0)
        if is_directory or wanted & can_set != entries.ARCHIVE:  # which new files have
            os.setxattr(descriptor, _ATTRIBUTES, _U32.pack(wanted & can_set))
        # Normal is the absence of others; what is a directory has the attribute by itself.
        left = wanted & ~(can_set | entries.NORMAL | (entries.DIRECTORY if is_directory else 0))
        if left & entries.EA and self._entries.has_eas(slot):
            left &= ~entries.EA
        if left & entries.SPARSE and self._is_sparse(descriptor):
            left &= ~entries.SPARSE
        if left & entries.REPARSE_POINT and self._entries.is_reparse_point(slot):
            left &= ~entries.REPARSE_POINT
        if left:
            self._note(slot, f"attributes: {', '.join(describe(left))}")

    def _is_sparse(self, descriptor: int) -> bool:
        found = os.getxattr(descriptor, _ATTRIBUTES)
        return bool(_U32.unpack(found)[0] & entries.SPARSE)

    def _finish_linked(self, inode: int, first: _Linked) -> None:
        """Seal a file that has got all its names."""
        folder = self._folders.open(first.directory)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(first.name, flags, dir_fd=folder)
        try:
            self._seal(descriptor, os.fstat(descriptor).st_ino, inode, is_directory=False)
        finally:
            os.close(descriptor)

    def _finish_directory(self, slot: int) -> None:
        self._written.directories += 1
        descriptor = self._folders.open(slot)
        number = os.fstat(descriptor).st_ino
        self._describe(descriptor, slot, is_directory=True)
        self._seal(descriptor, number, slot, is_directory=True)

    def _set(self, descriptor: int, name: str, value: bytes) -> bool:
        """Set an attribute; False if it is the value that is not taken."""
        try:
            os.setxattr(descriptor, name, value)
        except OSError as error:
            if error.errno in _REFUSALS:
                return False
            raise
        return True

    # -- what cannot be carried ---------------------------------------------------------------

    def _refuse(self, slot: int, what: str) -> None:
        """Something of an entry that would be lost."""
        self._refuse_path(self._tree.path(slot), what)

    def _refuse_path(self, path: bytes, what: str) -> None:
        if not self._skip:
            raise UsageError(f"{_shown(path)}: {what}")
        self._written.not_carried.append(NotCarried(path, what))

    def _note(self, slot: int, what: str) -> None:
        """What no volume can have from a program, or no WIM at all: said, never refused."""
        self._written.not_carried.append(NotCarried(self._tree.path(slot), what))


@dataclass(slots=True)
class _Linked:
    """A file with further names, by its first."""

    directory: int
    name: bytes
    names: int = 1


class _Folders:
    """Open directories of the volume by slot, the most recently used ones."""

    def __init__(self, tree: Tree, root: int, descriptor: int) -> None:
        self._tree = tree
        self._root = root
        self._descriptor = descriptor
        self._opened: OrderedDict[int, int] = OrderedDict()

    def open(self, slot: int) -> int:
        """The directory; valid until a few dozen others were asked for."""
        if slot == self._root:
            return self._descriptor
        found = self._opened.get(slot)
        if found is not None:
            self._opened.move_to_end(slot)
            return found
        names = []
        here = slot
        while here != self._root and here not in self._opened:
            names.append(self._tree.names[here])
            here = self._tree.parents[here]
        found = _descend(self._opened.get(here, self._descriptor), names[::-1])
        self._opened[slot] = found
        if len(self._opened) > _OPEN_DIRECTORIES:
            os.close(self._opened.popitem(last=False)[1])
        return found

    def close(self) -> None:
        while self._opened:
            os.close(self._opened.popitem()[1])


def _descend(start: int, names: list[bytes]) -> int:
    """Open a directory below another, in steps that fit into a path. Its parts are no links."""
    here, path = start, b""
    try:
        for number, name in enumerate(names):
            path = path + b"/" + name if path else name
            if number + 1 == len(names) or len(path) + len(names[number + 1]) >= _MAX_PATH:
                below = os.open(path, _FOLDER, dir_fd=here)
                if here != start:
                    os.close(here)
                here, path = below, b""
    except BaseException:
        if here != start:
            os.close(here)
        raise
    return here


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    written = os.pwrite(descriptor, data, offset)
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], offset + written)


@contextmanager
def _named(tree: Tree, slot: int) -> Iterator[None]:
    """Give failures of the system the entry's name."""
    try:
        yield
    except HostError:
        raise
    except OSError as error:
        said = error.strerror or str(error)
        if error.errno == errno.ENOSPC:
            said = "the volume, or the disk under it, is full"
        raise HostError(error.errno, f"{_shown(tree.path(slot)) or 'the root'}: {said}") from error


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
