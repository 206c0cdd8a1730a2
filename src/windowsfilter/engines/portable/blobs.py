"""Blobs: layer tars kept byte for byte, by diffID, each with its index, spill and manifest.

A blob's folder appears whole or not at all: it is written in `tmp/`, flushed, renamed. The same tar
imported twice is stored once. Layout and invariants: docs/formats/store.md; the blob is the truth,
its index is rebuilt from it when it is missing or damaged.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from windowsfilter.digests import DiffID, Digest
from windowsfilter.engines.portable.import_terms import (
    DEFAULT_LIMITS,
    NOTHING_EXPECTED,
    Expected,
    Limits,
    Progress,
)
from windowsfilter.engines.portable.index import Index, Record
from windowsfilter.errors import FormatError, HostError, StoreDamaged
from windowsfilter.layers import durable
from windowsfilter.wire.compression import Compression

if TYPE_CHECKING:
    from windowsfilter.engines.portable.importer import Imported

log = logging.getLogger(__name__)

FORMAT = 1
COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptOriginal:
    """The compressed bytes a blob came as, kept beside it so that manifests stay valid."""

    digest: Digest
    size: int
    compression: Compression


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobManifest:
    """manifest.json of a blob: what can be known without reading the blob or its index."""

    diff_id: DiffID
    size: int
    """Bytes of the uncompressed tar."""
    entries: int
    data_bytes: int
    """Main streams of files: a layer's size as Docker counts it."""
    spill_size: int
    original: KeptOriginal | None = None

    def build(self) -> bytes:
        data: dict[str, Any] = {
            "format": FORMAT,
            "diff_id": self.diff_id,
            "size": self.size,
            "entries": self.entries,
            "data_bytes": self.data_bytes,
            "spill_size": self.spill_size,
        }
        if self.original is not None:
            data["original"] = {
                "digest": self.original.digest,
                "size": self.original.size,
                "compression": self.original.compression.value,
            }
        return json.dumps(data, indent=1).encode() + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises FormatError (also for a newer format)."""
        try:
            fields = json.loads(data)
            if fields["format"] != FORMAT:
                raise FormatError(f"blob manifest of format {fields['format']!r}")
            original = fields.get("original")
            return cls(
                diff_id=DiffID(fields["diff_id"]),
                size=int(fields["size"]),
                entries=int(fields["entries"]),
                data_bytes=int(fields["data_bytes"]),
                spill_size=int(fields["spill_size"]),
                original=original
                and KeptOriginal(
                    digest=Digest(original["digest"]),
                    size=int(original["size"]),
                    compression=Compression(original["compression"]),
                ),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"blob manifest: {error!r}") from error


class LayerBlob:
    """One blob, opened lazily. Close it (or use `with`); safe to read from several threads."""

    def __init__(self, directory: Path, manifest: BlobManifest) -> None:
        self.directory = directory
        self.manifest = manifest
        self.diff_id = manifest.diff_id
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release file descriptors; may be called twice."""
        self._stack.close()

    @property
    def blob_path(self) -> Path:
        return self.directory / "blob"

    @property
    def spill_path(self) -> Path | None:
        """The spill, if the layer has data that cannot be mapped where it lies in the blob."""
        return self.directory / "spill" if self.manifest.spill_size else None

    @cached_property
    def index(self) -> Index:
        """The index; rebuilt first when it is missing or damaged."""
        path = self.directory / "index"
        try:
            index = Index(path)
            if index.diff_id != self.diff_id:
                index.close()
                raise StoreDamaged(f"index {path}: belongs to {index.diff_id}")
        except (StoreDamaged, FileNotFoundError) as error:
            log.warning("%s; rebuilding it from the blob", error)
            rebuild(self.directory, self.manifest)
            index = Index(path)
        return self._stack.enter_context(index)

    @cached_property
    def _descriptors(self) -> tuple[int, int]:
        """(blob, spill or -1), closed with the blob."""
        opened = []
        for path in (self.blob_path, self.spill_path):
            if path is None:
                opened.append(-1)
                continue
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError as error:
                raise StoreDamaged(f"layer {self.diff_id}: {path} is missing") from error
            self._stack.callback(os.close, descriptor)
            opened.append(descriptor)
        return opened[0], opened[1]

    def read(self, record: Record, size: int, offset: int) -> bytes:
        """Up to `size` bytes of an entry's data from `offset`; b"" at its end."""
        size = min(size, record.size - offset)
        if size <= 0:
            return b""
        descriptor = self._descriptors[record.device]
        data = os.pread(descriptor, size, record.data_offset + offset)
        if not data:
            name = "spill" if record.device else "blob"
            raise StoreDamaged(f"layer {self.diff_id}: its {name} ends too early")
        return data

    def open_tar(self) -> BinaryIO:
        """The whole tar, exactly as it came. The caller closes it."""
        return self.blob_path.open("rb")

    def open_original(self) -> BinaryIO | None:
        """The compressed bytes the layer came as, if they were kept. The caller closes it."""
        if self.manifest.original is None:
            return None
        return (self.directory / "compressed").open("rb")


class BlobStore:
    """All blobs of a store: `root/blobs/sha256/<hex>/`.

    `staging` gives the folder in which blobs are written and taken apart, on the same file system.
    """

    def __init__(self, root: Path, staging: Callable[[], Path]) -> None:
        self._directory = root / "blobs" / "sha256"
        self._staging = staging

    def path(self, diff_id: DiffID) -> Path:
        """The blob's folder, whether it exists or not."""
        return self._directory / diff_id.hex

    def has(self, diff_id: DiffID) -> bool:
        return (self.path(diff_id) / "manifest.json").is_file()

    def all(self) -> Iterator[DiffID]:
        """Every blob there is, in no order."""
        for entry in self._directory.iterdir():
            with contextlib.suppress(FormatError):
                yield DiffID.from_hex(entry.name)

    def open(self, diff_id: DiffID) -> LayerBlob:
        """Raises StoreDamaged if the blob is missing or its manifest is not what was written."""
        directory = self.path(diff_id)
        try:
            manifest = BlobManifest.parse((directory / "manifest.json").read_bytes())
        except FileNotFoundError as error:
            raise StoreDamaged(f"blob {diff_id} is missing from the store") from error
        except FormatError as error:
            raise StoreDamaged(f"blob {diff_id}: {error}") from error
        if manifest.diff_id != diff_id:
            raise StoreDamaged(f"blob {diff_id}: its manifest speaks of {manifest.diff_id}")
        return LayerBlob(directory, manifest)

    def add(
        self,
        source: BinaryIO,
        *,
        expected: Expected = NOTHING_EXPECTED,
        limits: Limits = DEFAULT_LIMITS,
        keep_compressed: bool = False,
        progress: Progress | None = None,
    ) -> BlobManifest:
        """Import a tar, compressed or not, durably. Leaves nothing behind on any error.

        Raises what `import_tar` raises, and HostError when the disk is full or fails.
        """
        from windowsfilter.engines.portable.importer import import_tar

        working = self._staging() / f"import.{secrets.token_hex(8)}"
        try:
            with _host_errors("import layer"):
                working.mkdir(mode=durable.FOLDER_MODE)
                found = import_tar(
                    source,
                    working,
                    expected=expected,
                    limits=limits,
                    keep_compressed=keep_compressed,
                    progress=progress,
                )
                manifest = _manifest(found, kept=(working / "compressed").exists())
                for path in working.iterdir():
                    durable.sync_file(path)
                durable.write_new(working / "manifest.json", manifest.build())
                with contextlib.suppress(FileExistsError):
                    durable.publish(working, self.path(manifest.diff_id))
                    return manifest
                return self._adopt(working, manifest)
        finally:
            durable.delete_tree(working)  # gone already if it was published

    def _adopt(self, working: Path, manifest: BlobManifest) -> BlobManifest:
        """The blob was there: take over its compressed original if none had been kept."""
        place = self.path(manifest.diff_id)
        with self.open(manifest.diff_id) as blob:
            there = blob.manifest
        if manifest.original is None or there.original is not None:
            return there
        (working / "compressed").replace(place / "compressed")
        durable.sync_folder(place)
        kept = dataclasses.replace(there, original=manifest.original)
        durable.replace(place / "manifest.json", kept.build(), staging=working)
        return kept

    def remove(self, diff_id: DiffID) -> None:
        """Delete a blob; its space is back on return. Nothing happens if there is none."""
        with _host_errors("remove layer"):
            doomed = durable.take_away(self.path(diff_id), self._staging())
            if doomed is not None:
                durable.sync_folder(self._directory)
                durable.delete_tree(doomed)


def rebuild(directory: Path, manifest: BlobManifest) -> None:
    """Make a blob's index and spill again. Raises StoreDamaged if the blob is not what it was."""
    from windowsfilter.engines.portable.importer import import_tar

    working = directory / f".rebuild.{secrets.token_hex(8)}"
    unlimited = Limits(max_entries=1 << 62, max_bytes=1 << 62)
    # What was taken once is taken again, whatever it was.
    expected = Expected(diff_id=manifest.diff_id, usable_metadata=False)
    try:
        with _host_errors("rebuild index"), (directory / "blob").open("rb") as blob:
            working.mkdir(mode=durable.FOLDER_MODE)
            import_tar(blob, working, expected=expected, limits=unlimited)
            for name in ("spill", "index"):
                if (working / name).exists():
                    durable.sync_file(working / name)
                    (working / name).replace(directory / name)
            durable.sync_folder(directory)
    except FormatError as error:
        raise StoreDamaged(f"blob {manifest.diff_id}: {error}") from error
    except FileNotFoundError as error:
        raise StoreDamaged(f"blob {manifest.diff_id} is missing") from error
    finally:
        durable.delete_tree(working)


def _manifest(found: Imported, *, kept: bool) -> BlobManifest:
    original = KeptOriginal(
        digest=found.digest, size=found.stored_size, compression=found.compression
    )
    return BlobManifest(
        diff_id=found.diff_id,
        size=found.size,
        entries=found.entries,
        data_bytes=found.data_bytes,
        spill_size=found.spill_size,
        original=original if kept else None,
    )


@contextlib.contextmanager
def _host_errors(operation: str) -> Iterator[None]:
    """Give system call failures the operation's name and our exit code."""
    try:
        yield
    except (HostError, FormatError, FileNotFoundError):
        raise
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise HostError(error.errno, f"{operation}: {reason}", error.filename) from error
