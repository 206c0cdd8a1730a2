"""Files and folders that are there completely or not at all, whenever the power goes.

The order is always: content, fsync, rename, fsync of the folder above; never the folder before its
files (measured on ext4 and xfs: that order leaves half layers). Rules: docs/formats/store.md
section 5. Deleting runs without recursion and without following links, so that neither a tree
a million levels deep nor a planted symlink matters.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from windowsfilter.errors import HostError

FILE_MODE = 0o600
FOLDER_MODE = 0o700


@contextmanager
def host_errors(operation: str) -> Iterator[None]:
    """Turn an OSError of the body into a HostError that says what was being done."""
    try:
        yield
    except HostError:
        raise
    except OSError as error:
        raise HostError(error.errno, f"{operation}: {error.strerror}", error.filename) from error


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    if os.name == "nt":  # Windows cannot open folders for this, and NTFS journals names
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the content of a file that was written earlier durable."""
    # Windows flushes only handles that may write.
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_new(path: Path, data: bytes) -> None:
    """Create `path` with `data` and fsync it; its name is durable after `sync_folder`.

    Raises FileExistsError. A file that could not be written whole is removed again.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def replace(path: Path, data: bytes, *, staging: Path) -> None:
    """Put `data` at `path`, durably: readers see the old bytes or the new ones.

    `staging` is a folder on the same file system, where the new file is written first.
    """
    beside = staging / f"{path.name}.{secrets.token_hex(8)}"
    write_new(beside, data)
    try:
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
    sync_folder(path.parent)


def publish(folder: Path, place: Path) -> None:
    """Move a finished folder, whose files are fsynced, to `place`; durable on return.

    Raises FileExistsError if something is there already.
    """
    sync_folder(folder)
    # POSIX lets rename replace an empty folder; a published one is never empty.
    if place.exists():
        raise FileExistsError(f"{place} exists")
    os.rename(folder, place)
    sync_folder(place.parent)


def take_away(place: Path, trash: Path) -> Path | None:
    """Move `place` into the folder `trash` under a new name; None if it is not there.

    The caller fsyncs the folder it left before it unlinks anything (`delete_tree`).
    """
    target = trash / f"{place.name[:100]}.{secrets.token_hex(8)}"
    try:
        os.rename(place, target)
    except FileNotFoundError:
        if not trash.is_dir():
            raise
        return None
    return target


def tree_bytes(place: Path) -> int:
    """Bytes that a file or folder occupies on disk, hard links counted once each time met."""
    total = 0
    pending = [str(place)]
    while pending:
        path = pending.pop()
        try:
            info = os.lstat(path)
            total += getattr(info, "st_blocks", -(-info.st_size // 512)) * 512
            if stat.S_ISDIR(info.st_mode):
                with os.scandir(path) as found:
                    pending.extend(entry.path for entry in found)
        except FileNotFoundError:  # somebody deletes at the same time
            continue
    return total


@contextmanager
def temporary_beside(folder: Path) -> Iterator[Path]:
    """A new folder in `folder` for the body: what is written there can be renamed into `folder`."""
    made = folder / f".windowsfilter.{secrets.token_hex(8)}"
    made.mkdir(mode=FOLDER_MODE)
    try:
        yield made
    finally:
        delete_tree(made)


def delete_tree(place: Path) -> None:
    """Unlink a file or folder with all it contains. Does nothing if it is not there.

    Nobody else may write in it. Folders are emptied one after another after having been moved to
    the top of `place`, so depth costs neither stack nor descriptors nor long paths.
    """
    try:
        info = os.lstat(place)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(info.st_mode):
        place.unlink(missing_ok=True)
        return
    if os.name == "nt":
        _delete_by_path(place)
        return
    top = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchmod(top, FOLDER_MODE)
        _empty(top)
    finally:
        os.close(top)
    os.rmdir(place)


def _empty(top: int) -> None:
    """Delete everything in the folder open as `top`."""
    pending = _unlink_files(top)
    while pending:
        name = pending.pop()
        folder = _open_folder(top, name)
        try:
            for child in _unlink_files(folder):
                lifted = secrets.token_hex(12)
                _lift(folder, child, top, lifted)
                pending.append(lifted)
        finally:
            os.close(folder)
        os.rmdir(name, dir_fd=top)


def _unlink_files(folder: int) -> list[str]:
    """Unlink all but folders, which are returned; empty ones are removed at once."""
    folders = []
    with os.scandir(folder) as found:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
    for name, is_folder in entries:
        if not is_folder:
            os.unlink(name, dir_fd=folder)
            continue
        try:
            os.rmdir(name, dir_fd=folder)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            folders.append(name)
    return folders


def _open_folder(top: int, name: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        descriptor = os.open(name, flags, dir_fd=top)
    except PermissionError:
        # overlayfs leaves folders of mode 000 in its work directory.
        os.chmod(name, FOLDER_MODE, dir_fd=top)
        descriptor = os.open(name, flags, dir_fd=top)
    os.fchmod(descriptor, FOLDER_MODE)
    return descriptor


def _lift(folder: int, child: str, top: int, name: str) -> None:
    try:
        os.rename(child, name, src_dir_fd=folder, dst_dir_fd=top)
    except PermissionError:
        # Moving a folder changes its "..": it must be writable itself.
        os.chmod(child, FOLDER_MODE, dir_fd=folder)
        os.rename(child, name, src_dir_fd=folder, dst_dir_fd=top)


def _delete_by_path(place: Path) -> None:
    """The same for Windows, which has no calls relative to a folder."""
    for folder, folders, files in os.walk(place, topdown=False):
        for name in files:
            Path(folder, name).unlink()
        for name in folders:
            inner = Path(folder, name)
            if inner.is_symlink():
                inner.unlink()
            else:
                inner.rmdir()
    place.rmdir()
