"""Where an export goes: a tar file, a stream, or a directory. All of it appears, or nothing.

Files and directories are written beside their place under a name of their own, flushed, and
renamed. They are the caller's alone to read (as `docker save` leaves them): layers hold registry
hives. Devices and pipes are written to directly. Contents are the same for the same export: no
times, no owners.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from windowsfilter.digests import Digest
from windowsfilter.errors import AlreadyExists, HostError, UsageError, WindowsFilterError
from windowsfilter.images.export_blobs import LayerBlob, Progress
from windowsfilter.images.output_files import OutputFile, new_file
from windowsfilter.images.source_documents import blob_name
from windowsfilter.wire.tar import BLOCK, TYPE_DIRECTORY, Member
from windowsfilter.wire.tar.writer import build_header

_FOLDERS = ("blobs", "blobs/sha256")


class Target(Protocol):
    """Takes the files of an image layout, each once."""

    scratch: Path
    """A folder for temporary files, gone afterwards."""

    def add_layer(self, blob: LayerBlob, progress: Progress | None) -> None:
        """Write a layer's blob; its temporary file is removed."""
        ...

    def add_blob(self, data: bytes) -> None:
        """Write a document under its digest."""
        ...

    def add_file(self, name: str, data: bytes) -> None:
        """Write a document under its name."""
        ...


class _TarTarget:
    """Members in the order in which they come."""

    def __init__(self, out: OutputFile, scratch: Path) -> None:
        self.scratch = scratch
        self._out = out
        self._names: set[str] = set()
        for folder in _FOLDERS:
            name = folder.encode() + b"/"
            self._header(Member(name=name, typeflag=TYPE_DIRECTORY, mode=0o755, pax=False))

    def add_layer(self, blob: LayerBlob, progress: Progress | None) -> None:
        name = blob_name(blob.digest)
        if name not in self._names:
            self._names.add(name)
            self._header(Member(name=name.encode(), mode=0o644, size=blob.size, pax=False))
            _copy(blob, self._out, progress)
            self._out.write(bytes(-blob.size % BLOCK))
        if blob.packed is not None:
            blob.packed.unlink()

    def add_blob(self, data: bytes) -> None:
        self.add_file(blob_name(Digest.of(data)), data)

    def add_file(self, name: str, data: bytes) -> None:
        if name not in self._names:
            self._names.add(name)
            self._header(Member(name=name.encode(), mode=0o644, size=len(data), pax=False))
            self._out.write(data + bytes(-len(data) % BLOCK))

    def close(self) -> None:
        self._out.write(bytes(2 * BLOCK))
        self._out.flush()

    def _header(self, member: Member) -> None:
        self._out.write(build_header(member))


class _DirectoryTarget:
    """A directory; every file is flushed."""

    def __init__(self, root: Path, scratch: Path) -> None:
        self.scratch = scratch
        self._root = root
        for folder in _FOLDERS:
            (root / folder).mkdir()

    def add_layer(self, blob: LayerBlob, progress: Progress | None) -> None:
        path = self._root / blob_name(blob.digest)
        if path.exists():
            if blob.packed is not None:
                blob.packed.unlink()
        elif blob.packed is not None:
            with open(blob.packed, "rb") as packed:
                os.fsync(packed.fileno())
            blob.packed.rename(path)
        else:
            with new_file(path) as out:
                _copy(blob, out, progress)

    def add_blob(self, data: bytes) -> None:
        self.add_file(blob_name(Digest.of(data)), data)

    def add_file(self, name: str, data: bytes) -> None:
        path = self._root / name
        if not path.exists():
            with new_file(path) as out:
                out.write(data)

    def close(self) -> None:
        for folder in reversed(_FOLDERS):
            _sync_folder(self._root / folder)
        _sync_folder(self._root)


@contextmanager
def tar_target(target: str | os.PathLike[str] | BinaryIO) -> Iterator[Target]:
    """Write a tar to a path (replaced at the end) or to a stream (which stays open)."""
    if not isinstance(target, str | os.PathLike):
        with _host_errors("stream"), tempfile.TemporaryDirectory() as scratch:
            yield from _tar(OutputFile(target), Path(scratch))
        return
    path = Path(os.path.realpath(target))
    mode = _mode(path)
    if mode is not None and stat.S_ISDIR(mode):
        raise UsageError(f"write {target}: it is a directory")
    if mode is not None and not stat.S_ISREG(mode):
        with _host_errors(path), tempfile.TemporaryDirectory() as scratch:
            with open(path, "wb", buffering=0) as stream:
                yield from _tar(OutputFile(stream), Path(scratch))
        return
    _require_parent(path)
    with _host_errors(path), _beside(path) as work:
        content = work / "content"
        with new_file(content) as out:
            yield from _tar(out, work)
        os.replace(content, path)
        _sync_folder(path.parent)


@contextmanager
def directory_target(target: str | os.PathLike[str]) -> Iterator[Target]:
    """Write a new directory; it may be there already if it is empty. Raises AlreadyExists."""
    path = Path(os.path.realpath(target))
    mode = _mode(path)
    if mode is not None and not (stat.S_ISDIR(mode) and not any(path.iterdir())):
        raise AlreadyExists(f"write {target}: it exists already")
    _require_parent(path)
    with _host_errors(path), _beside(path) as work:
        root = work / "content"
        root.mkdir(mode=0o700)
        writer = _DirectoryTarget(root, work)
        yield writer
        writer.close()
        if mode is not None:
            path.rmdir()  # Windows does not rename onto an empty directory
        os.rename(root, path)
        _sync_folder(path.parent)


def _tar(out: OutputFile, scratch: Path) -> Iterator[Target]:
    writer = _TarTarget(out, scratch)
    yield writer
    writer.close()


def _copy(blob: LayerBlob, out: OutputFile, progress: Progress | None) -> None:
    told = progress if blob.packed is None else None  # packing has told already
    with blob.open() as stream:
        out.copy(stream, blob.size, blob.digest, told)


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError(error.errno, f"write {path}: {error.strerror}") from error


def _require_parent(path: Path) -> None:
    if not path.parent.is_dir():
        raise UsageError(f"write {path}: there is no directory {path.parent}")


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A folder on the same file system, gone afterwards."""
    work = Path(tempfile.mkdtemp(prefix=f".{path.name[:100]}.", dir=path.parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _sync_folder(path: Path) -> None:
    if os.name == "nt":  # directories cannot be opened there, and need not be
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # network file systems have no such thing
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _host_errors(what: object) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, WindowsFilterError):
            raise
        raise HostError(error.errno, f"write {what}: {error.strerror or error}") from error
