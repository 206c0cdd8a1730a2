"""Making entries in a scratch's upper directory, in the form that overlayfs gives them.

What is new is made in a staging folder beside the upper and moved into it, so that an interrupted
step leaves nothing half-written in the scratch. The marks are those of overlayfs: character
devices 0:0 for what is gone, `opaque` and `redirect` attributes, and our own `windows.entry`.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from windowsfilter.engines.portable import windows_metadata
from windowsfilter.engines.portable.erofs.xattrs import ENTRY_VALUE
from windowsfilter.engines.portable.index import RecordFlag
from windowsfilter.engines.portable.scratch import by_hand
from windowsfilter.engines.portable.scratch.below import Below
from windowsfilter.engines.portable.scratch.merge import Merged
from windowsfilter.engines.portable.scratch.upper import (
    LINK_INODE,
    SPARSE_BYTES,
    Namespace,
    UpperDirectory,
    UpperEntry,
    UpperKind,
    changed,
    host_errors,
    link_mark,
)
from windowsfilter.engines.portable.shown import DIRECTORY_MODE, FILE_MODE, permissions
from windowsfilter.layers.durable import delete_tree
from windowsfilter.ntfs import filetime
from windowsfilter.ntfs.attributes import FileAttribute

_WHITEOUT_DEVICE = os.makedev(0, 0)


class UpperWriter:
    """Writes into one upper directory. `root` and `staging` stay the caller's to close."""

    def __init__(self, below: Below, root: UpperDirectory, staging: Path) -> None:
        self._below = below
        self._root = root
        self._staging = staging
        self._trusted = root.namespace is Namespace.TRUSTED

    # -- directories --------------------------------------------------------------------------

    def directory(self, trail: Sequence[Merged]) -> UpperDirectory:
        """The upper's own directory at the end of a trail, copied up where it is not there yet.

        The caller closes it.
        """
        opened = self._root.reopen(b"")
        for merged in trail:
            if merged.upper is not None:
                assert merged.place is not None
                path = merged.place.child(merged.upper.name)
            else:
                assert merged.lower is not None
                path = opened.child(self.copy_up_directory(opened, merged.lower))
            opened.close()
            opened = self._root.reopen(path)
        return opened

    def copy_up_directory(self, above: UpperDirectory, slot: int) -> bytes:
        """A directory of the tree, empty, with all that it is shown with; returns its name."""
        name = self._below.shown.name(slot)
        staged = self._staged()
        with host_errors(above.child(name), "copy up"):
            os.mkdir(staged, DIRECTORY_MODE)
            self._keep_metadata(staged, slot, DIRECTORY_MODE)
            with keeping_times(above):
                os.rename(staged, name, dst_dir_fd=above.descriptor)
        return name

    def make_directory(self, above: UpperDirectory, name: bytes) -> None:
        """A new empty directory, which hides whatever the chain has under its name."""
        staged = self._staged()
        with host_errors(above.child(name), "make"):
            os.mkdir(staged, DIRECTORY_MODE)
            os.chmod(staged, DIRECTORY_MODE)
            self.mark(staged, "overlay.opaque", b"y")
            self._clear(above, name)
            os.rename(staged, name, dst_dir_fd=above.descriptor)

    # -- files --------------------------------------------------------------------------------

    def make_file(
        self,
        above: UpperDirectory,
        name: bytes,
        data: Iterable[bytes],
        *,
        origin: int | None = None,
        same: bool = False,
    ) -> None:
        """A file with this data, new or copied up from `origin`.

        `same`: the data is the origin's, so its write time stays; the directory's always does for
        a copy-up, as overlayfs has it.
        """
        staged = self._staged()
        with host_errors(above.child(name), "write"):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(staged, flags, FILE_MODE)
            with os.fdopen(descriptor, "wb") as file:
                if origin is not None and self._is_sparse(origin):
                    data = _leaving_holes(file, data)
                for piece in data:
                    file.write(piece)
                file.truncate()
            if origin is None:
                os.chmod(staged, FILE_MODE)
                os.rename(staged, name, dst_dir_fd=above.descriptor)
                return
            self._keep_metadata(staged, origin, FILE_MODE, times=same)
            with keeping_times(above):
                os.rename(staged, name, dst_dir_fd=above.descriptor)

    def overwrite(self, place: UpperDirectory, entry: UpperEntry, data: Iterable[bytes]) -> None:
        """Other data for a file of the upper; its other names see it too."""
        path = place.child(entry.name)
        with host_errors(path, "write"):
            flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(entry.name, flags, dir_fd=place.descriptor)
            with os.fdopen(descriptor, "wb") as file:
                status = os.fstat(file.fileno())
                if (status.st_dev, status.st_ino) != (entry.stat.st_dev, entry.stat.st_ino):
                    raise changed(path)
                os.ftruncate(file.fileno(), 0)
                for piece in data:
                    file.write(piece)
            with _absent_is_fine():
                os.removexattr(
                    place.proc_path(entry.name), self._root.namespace.value + by_hand.SET
                )
            # Truncating an empty file and writing nothing moves no time, a write does.
            os.utime(entry.name, dir_fd=place.descriptor, follow_symlinks=False)

    def make_symlink(
        self, above: UpperDirectory, name: bytes, target: bytes, *, origin: int | None = None
    ) -> None:
        """A symbolic link, new or copied up from `origin`."""
        staged = self._staged()
        with host_errors(above.child(name), "make link"):
            os.symlink(target, staged)
            if origin is None:
                os.rename(staged, name, dst_dir_fd=above.descriptor)
                return
            self._keep_metadata(staged, origin, None)
            with keeping_times(above):
                os.rename(staged, name, dst_dir_fd=above.descriptor)
                ref = self._below.tree.ref(origin)
                if ref is not None and not self._trusted:
                    # No more than that: there is little room.
                    self._mark_link(above, name, {"windows.entry": ENTRY_VALUE.pack(*ref)})

    # -- moving and removing --------------------------------------------------------------------

    def move(
        self, place: UpperDirectory, entry: UpperEntry, above: UpperDirectory, name: bytes
    ) -> None:
        """Rename an entry of the upper; a whiteout in its way goes."""
        with host_errors(place.child(entry.name), "rename"):
            if entry.kind is UpperKind.DIRECTORY:
                self._clear(above, name)
            os.rename(entry.name, name, src_dir_fd=place.descriptor, dst_dir_fd=above.descriptor)
            if entry.kind is UpperKind.SYMLINK and not self._trusted:
                marks = dict(entry.metadata)
                if entry.entry is not None:
                    marks["windows.entry"] = ENTRY_VALUE.pack(*entry.entry)
                self._mark_link(above, name, marks)

    def link(
        self, place: UpperDirectory, entry: UpperEntry, above: UpperDirectory, name: bytes
    ) -> None:
        """One more name for a file of the upper."""
        staged = self._staged()
        with host_errors(above.child(name), "link"):
            os.link(entry.name, staged, src_dir_fd=place.descriptor, follow_symlinks=False)
            os.rename(staged, name, dst_dir_fd=above.descriptor)

    def whiteout(self, above: UpperDirectory, name: bytes) -> None:
        """Hide what the chain has under exactly this name, and drop what the upper has."""
        staged = self._staged()
        with host_errors(above.child(name), "delete"):
            os.mknod(staged, stat.S_IFCHR, _WHITEOUT_DEVICE)
            entry = above.entry(name)
            doomed = None
            if entry is not None and entry.kind is UpperKind.DIRECTORY:
                doomed = self._staged()
                os.rename(name, doomed, src_dir_fd=above.descriptor)
            os.rename(staged, name, dst_dir_fd=above.descriptor)
            if doomed is not None:
                delete_tree(Path(os.fsdecode(doomed)))

    def drop(self, place: UpperDirectory, entry: UpperEntry) -> None:
        """Take an entry out of the upper, a directory with all that is in it."""
        with host_errors(place.child(entry.name), "delete"):
            if entry.kind is not UpperKind.DIRECTORY:
                os.unlink(entry.name, dir_fd=place.descriptor)
                return
            staged = self._staged()
            os.rename(entry.name, staged, src_dir_fd=place.descriptor)
            delete_tree(Path(os.fsdecode(staged)))

    def redirect(self, place: UpperDirectory, entry: UpperEntry, path: bytes) -> None:
        """Mark a directory as renamed: the chain's directory at `path` shows through it."""
        with host_errors(place.child(entry.name), "rename"):
            self.mark(place.proc_path(entry.name), "overlay.redirect", b"/" + path)

    def make_opaque(self, place: UpperDirectory, entry: UpperEntry) -> None:
        """Nothing of the chain shows through a directory, wherever it goes."""
        with host_errors(place.child(entry.name), "rename"):
            self.mark(place.proc_path(entry.name), "overlay.opaque", b"y")

    # -- single steps ---------------------------------------------------------------------------

    def mark(self, path: bytes, name: str, value: bytes) -> None:
        """Set an attribute in the scratch's namespace. Raises OSError."""
        key = self._root.namespace.value + name
        os.setxattr(path, key, value, follow_symlinks=False)

    def set_metadata(
        self, place: UpperDirectory, entry: UpperEntry, marks: Mapping[str, bytes | None]
    ) -> None:
        """Set `windows.*` attributes of an entry of the upper; None takes one away."""
        with host_errors(place.child(entry.name), "set the metadata of"):
            if entry.kind is UpperKind.SYMLINK and not self._trusted:
                self._mark_link(place, entry.name, marks)
                return
            for name, value in marks.items():
                path = place.proc_path(entry.name)
                if value is not None:
                    self.mark(path, name, value)
                    continue
                with _absent_is_fine():
                    key = self._root.namespace.value + name
                    os.removexattr(path, key, follow_symlinks=False)

    def set_write_time(self, place: UpperDirectory, entry: UpperEntry, time: int) -> None:
        """Set the write time of an entry of the upper to a FILETIME, as near as its file system can."""
        with host_errors(place.child(entry.name), "set the times of"):
            ns = (entry.stat.st_atime_ns, filetime.to_unix_ns(time))
            os.utime(entry.name, ns=ns, dir_fd=place.descriptor, follow_symlinks=False)

    def _mark_link(
        self, above: UpperDirectory, name: bytes, marks: Mapping[str, bytes | None]
    ) -> None:
        """Without root a link cannot have attributes, so its directory has them for it."""
        inode = os.stat(name, dir_fd=above.descriptor, follow_symlinks=False).st_ino
        for mark, value in marks.items():
            key = self._root.namespace.value + link_mark(name, mark)
            if value is not None:
                os.setxattr(above.descriptor, key, value + LINK_INODE.pack(inode))
            else:
                with _absent_is_fine():
                    os.removexattr(above.descriptor, key)

    def _shown(self, slot: int) -> dict[str, bytes]:
        """The `windows.*` attributes that a mount shows of the tree's entry."""
        tree = self._below.tree
        record, ref = tree.record(slot), tree.ref(tree.inode(slot))
        if record is None or ref is None:
            return {}
        index = tree.layers[ref[0]].index
        shown = windows_metadata.all_attributes(index, ref, record)
        return {name.decode(): value for name, value in shown}

    def _keep_metadata(
        self, staged: bytes, slot: int, default: int | None, *, times: bool = True
    ) -> None:
        """Give a copy what the tree's entry is shown with. `default` mode; None: a link."""
        record = self._below.tree.record(slot)
        ref = self._below.tree.ref(self._below.tree.inode(slot))
        mode = default
        if record is not None and ref is not None:
            if self._trusted:
                os.chown(staged, record.uid, record.gid, follow_symlinks=False)
            if default is not None:
                mode = permissions(record.mode, directory=default == DIRECTORY_MODE)
            if self._trusted or default is not None:
                for name, value in self._shown(slot).items():
                    self.mark(staged, name, value)
        if mode is not None:
            os.chmod(staged, mode)
        if record is not None and times:
            access, write = map(filetime.to_unix_ns, (record.access, record.write))
            os.utime(staged, ns=(access, write), follow_symlinks=False)

    def _is_sparse(self, slot: int) -> bool:
        record = self._below.tree.record(slot)
        return record is not None and bool(
            record.attributes & FileAttribute.SPARSE_FILE or record.flags & RecordFlag.SPARSE
        )

    def _clear(self, above: UpperDirectory, name: bytes) -> None:
        """Make room for a directory: rename does not put one over a whiteout."""
        entry = above.entry(name)
        if entry is not None and entry.kind is UpperKind.WHITEOUT:
            os.unlink(name, dir_fd=above.descriptor)

    def _staged(self) -> bytes:
        return os.fsencode(self._staging / secrets.token_hex(8))


def _leaving_holes(file: BinaryIO, data: Iterable[bytes]) -> Iterator[bytes]:
    """`data` without runs of zeros: `file` is moved over them instead. The end stays to be set."""
    for piece in data:
        for at in range(0, len(piece), SPARSE_BYTES):
            part = piece[at : at + SPARSE_BYTES]
            if part.count(0) == len(part):
                file.seek(len(part), os.SEEK_CUR)
            else:
                yield part


@contextmanager
def keeping_times(directory: UpperDirectory) -> Iterator[None]:
    """Copying up is no change of the directory: overlayfs gives its times back, so do we."""
    before = os.fstat(directory.descriptor)
    yield
    with suppress(OSError):
        os.utime(directory.descriptor, ns=(before.st_atime_ns, before.st_mtime_ns))


@contextmanager
def _absent_is_fine() -> Iterator[None]:
    """What is not there need not be taken away."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise
