"""Where images come from: `open_source` finds out what it was given and reads its documents.

Known: an OCI layout (directory or tar), a docker archive (tar or unpacked), skopeo's `dir:` folder;
each tar also packed with gzip or zstd, from a file or from a stream that cannot seek. Packed tars and
streams go through a nameless temporary file, because the documents that say what is in them stand
at their end.
Layers are not unpacked here, and not read at all until somebody opens them.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from windowsfilter.digests import Digest
from windowsfilter.errors import (
    FormatError,
    HostError,
    LimitExceeded,
    UsageError,
    WindowsFilterError,
)
from windowsfilter.images import docker_archive, folder_layout, oci_layout
from windowsfilter.images.bundles import Bundle, DirectoryBundle, TarBundle
from windowsfilter.images.output_files import write_all
from windowsfilter.images.platforms import Platform
from windowsfilter.images.source_documents import SourceDocuments
from windowsfilter.images.source_images import SourceImage
from windowsfilter.wire.compression import HEAD_BYTES, Compression, decompress, detect

_CHUNK = 1 << 20
_LEGACY = "repositories"  # what archives of Docker before 1.10 have instead of manifest.json


class ImageSource:
    """Images found in one place; a context manager that must outlive the reading of layers."""

    def __init__(
        self, kind: str, images: list[SourceImage], passed_over: list[str], held: ExitStack
    ) -> None:
        self.kind = kind
        """What it is, in words."""
        self.images = tuple(images)
        self.passed_over = tuple(passed_over)
        """What was found but not taken (attestations, other platforms, unusable names), in words."""
        self._held = held

    def close(self) -> None:
        """Close files; streams of layers are of no use afterwards. May be called twice."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_source(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    platform: Platform | None = None,
    spool_dir: str | os.PathLike[str] | None = None,
    verify: bool = True,
    max_ratio: float | None = None,
) -> ImageSource:
    """Open `source`, a path or a binary stream (which stays open), and read its documents.

    `platform`: which one to take of images for several; by default the newest Windows.
    `spool_dir`: where the temporary file goes if one is needed. `verify=False` accepts documents
    and blobs that do not have the digests and sizes by which they are named. `max_ratio` limits
    how far a packed archive may unpack (`wire.compression`).

    Raises UsageError if there is nothing at the path or no fitting platform, FormatError if it
    is no image or a damaged one, HostError if it cannot be read.
    """
    name = _name(source)
    with ExitStack() as held:
        try:
            bundle = _bundle(source, spool_dir, max_ratio, held)
            held.callback(bundle.close)
            documents = SourceDocuments(bundle, verify=verify)
            kind, images, passed_over = _read(documents, name, platform)
            if not images:
                raise FormatError("; ".join(["it holds no image", *passed_over[:20]]))
        except WindowsFilterError as error:
            raise _named(error, name) from error
        return ImageSource(kind, images, passed_over, held.pop_all())


def _read(
    documents: SourceDocuments, name: str, platform: Platform | None
) -> tuple[str, list[SourceImage], list[str]]:
    docker = documents.bundle.size(docker_archive.MANIFEST) is not None
    if documents.bundle.size(oci_layout.INDEX) is not None:
        images, passed_over = oci_layout.read_layout(
            documents,
            oci_layout.read_index(documents),
            name=name,
            platform=platform,
            split_unnamed=docker,
        )
        if not docker:
            return "OCI layout", images, passed_over
        if images:
            images = _with_tags(images, docker_archive.tags_by_config(documents, passed_over))
            return "docker archive with OCI layout", images, passed_over
    if docker and folder_layout.is_folder_layout(documents):
        images, passed_over = folder_layout.read_folder(documents, name=name, platform=platform)
        return "image folder", images, passed_over
    if docker:
        images, passed_over = docker_archive.read_archive(documents, platform=platform)
        return "docker archive", images, passed_over
    if documents.bundle.size(_LEGACY) is not None:
        raise FormatError(
            f"there is {_LEGACY} but no {docker_archive.MANIFEST}: archives of Docker before 1.10"
            " are not supported"
        )
    raise FormatError(
        "neither an OCI layout nor a docker archive: there is no"
        f" {oci_layout.INDEX} and no {docker_archive.MANIFEST}"
    )


def _with_tags(images: list[SourceImage], tags: dict[Digest, set[str]]) -> list[SourceImage]:
    tagged: list[SourceImage] = []
    for image in images:
        references = {*image.references, *tags.get(image.config.digest, ())}
        tagged.append(dataclasses.replace(image, references=tuple(sorted(references))))
    return tagged


def _name(source: str | os.PathLike[str] | BinaryIO) -> str:
    """What the source is called: in messages, and in front of bare tags."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return ""


def _named(error: WindowsFilterError, name: str) -> WindowsFilterError:
    """The same error, saying what was being read."""
    operation = f"read image {name or 'from a stream'}"
    if isinstance(error, HostError) and error.errno is not None:
        return type(error)(error.errno, f"{operation}: {error.strerror}")
    named = type(error)(f"{operation}: {error}")
    if isinstance(error, FormatError) and isinstance(named, FormatError):
        named.offset = error.offset
    return named


def _bundle(
    source: str | os.PathLike[str] | BinaryIO,
    spool_dir: str | os.PathLike[str] | None,
    max_ratio: float | None,
    held: ExitStack,
) -> Bundle:
    if not isinstance(source, str | os.PathLike):
        return _tar(_seekable(source, spool_dir, max_ratio, held))
    path = Path(source)
    try:
        if path.is_dir():
            return DirectoryBundle(path)
        stream = held.enter_context(open(path, "rb"))
    except (FileNotFoundError, ValueError) as error:  # ValueError: NUL in the name
        raise UsageError("there is nothing of that name") from error
    except OSError as error:
        raise HostError(error.errno, error.strerror) from error
    return _tar(_seekable(stream, spool_dir, max_ratio, held))


def _tar(stream: BinaryIO) -> TarBundle:
    try:
        return TarBundle(stream)
    except LimitExceeded:
        raise
    except FormatError as error:
        raise FormatError(f"not a tar archive, or a damaged one: {error}") from error


def _seekable(
    stream: BinaryIO,
    spool_dir: str | os.PathLike[str] | None,
    max_ratio: float | None,
    held: ExitStack,
) -> BinaryIO:
    """The plain tar as a stream that can seek: the given one or a temporary file."""
    try:
        if stream.seekable():
            start = stream.tell()
            head = stream.read(HEAD_BYTES)
            stream.seek(start)
            if detect(head) is Compression.NONE:
                return stream
    except OSError as error:
        raise HostError(error.errno, error.strerror) from error
    return _spool(stream, spool_dir, max_ratio, held)


def _spool(
    stream: BinaryIO,
    spool_dir: str | os.PathLike[str] | None,
    max_ratio: float | None,
    held: ExitStack,
) -> BinaryIO:
    """The unpacked content of `stream` in a temporary file without a name."""
    try:
        # Without a buffer: on a full disk it would fail a second time when it is closed.
        spool = tempfile.TemporaryFile(dir=spool_dir, buffering=0)
        held.enter_context(spool)
        for piece in decompress(_chunks(stream), max_ratio=max_ratio):
            write_all(spool, piece)
        spool.seek(0)
    except OSError as error:
        if isinstance(error, HostError):
            raise
        raise HostError(error.errno, f"write temporary file: {error.strerror}") from error
    return spool


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    while True:
        try:
            chunk = stream.read(_CHUNK)
        except OSError as error:
            raise HostError(error.errno, error.strerror) from error
        if not chunk:
            return
        yield chunk
