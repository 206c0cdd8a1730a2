"""The engine contract: the calls that a graph driver makes, whoever answers them.

Each method of `Engine` is the counterpart of one hcsshim call made by Docker's Windows graph
driver (windows.go of Docker 1.12.3; layer.go of hcsshim), so that the driver's order of calls and
its undo steps mean the same over the Host Compute Service and over the portable store. Two things
are new. A writer commits or aborts explicitly: in hcsshim Close is commit, and a truncated tar
became a layer. And an engine that already has the tar may offer it (`TarShortcuts`) instead of
taking it apart into backup streams and together again.

Not here: reference counts, aliases, rollback (the driver), images and tags (the store).

A *link* is how an engine names a layer inside a chain: the folder's absolute path for the Host
Compute Service, the layer id in the portable store. Links come from `Engine.link` and mean nothing
to the driver. A chain is a sequence of links, nearest parent first; a base layer's is empty.

Names in readers and writers are bytes as in the tar: `/` separators, no leading one, WTF-8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self, runtime_checkable

from windowsfilter.digests import DiffID


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicInfo:
    """FILE_BASIC_INFO (winbase.h): four FILETIMEs and the Win32 attributes of one file."""

    creation_time: int
    last_access_time: int
    last_write_time: int
    change_time: int
    attributes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadEntry:
    """One step of a `LayerReader`."""

    name: bytes  # `Files/Windows/x.dll`, `Hives/System_Delta`, `UtilityVM/...`
    size: int  # bytes of the unnamed data stream; 0 for directories and deletions
    info: BasicInfo | None  # None: the path was deleted from the parent (a tombstone)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedLayer:
    """What became of a layer that was written."""

    size: int  # bytes of all unnamed data streams, what Docker calls the layer's size
    entries: int  # files, directories, links and deletions
    diff_id: DiffID | None  # None where the engine keeps no tar (the Host Compute Service)


class LayerReader(Protocol):
    """Walks what a layer changes: hcsshim's LayerReader. Also a context manager that closes."""

    def __iter__(self) -> Iterator[ReadEntry]:
        """Entries in the engine's order of export; valid until the next step.

        Raises HostError when a file changes while it is read, naming it.
        """

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes of the current entry's backup stream, b"" at its end."""

    def close(self) -> None:
        """Give back what the reader holds; may be called twice, and before the end."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class LayerWriter(Protocol):
    """Fills a layer that `create_layer` made: hcsshim's LayerWriter with an explicit end.

    A context manager whose exit aborts unless `commit` has been called. Until the commit nothing
    is visible in the layer. Every method raises FormatError for a name that leaves the layer.
    """

    def add(self, name: bytes, info: BasicInfo) -> None:
        """Begin a file or directory; its backup stream follows through `write`."""

    def add_link(self, name: bytes, target: bytes) -> None:
        """A hard link to `target`, a name of this layer or of its chain."""

    def remove(self, name: bytes) -> None:
        """Delete `name` of the chain below."""

    def write(self, data: bytes) -> int:
        """More of the current entry's backup stream; takes all of `data`, returns its length."""

    def commit(self) -> CommittedLayer:
        """Make the layer what was written, durably. Once; afterwards the layer is sealed.

        Raises FormatError if the last backup stream is incomplete; the writer is then aborted.
        """

    def abort(self) -> None:
        """Throw away everything written. Does nothing after `commit` or a first `abort`."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Engine(Protocol):
    """Layers by id. Safe to call from several threads; different layers run in parallel.

    Ids are checked by the engine before they name a path (UsageError). Unknown ids raise
    LayerNotFound, the machine's refusals HostError with the operation and the id in its text.
    The order of calls that mount a layer is activate, prepare, mount_path; to unmount: unprepare,
    deactivate. hcsshim's names stand in brackets.
    """

    @property
    def name(self) -> str:
        """`portable` or `hcs`."""

    def layer_exists(self, layer_id: str) -> bool:
        """[LayerExists] Never raises for an id that is well formed."""

    def create_layer(self, layer_id: str, parent: str | None) -> None:
        """[CreateLayer] An empty read-only layer, open until it is written.

        `parent` is an id. Raises AlreadyExists, or LayerNotFound for the parent.
        """

    def create_scratch(
        self, layer_id: str, chain: Sequence[str], *, size: int | None = None
    ) -> None:
        """[CreateSandboxLayer] A writable layer over `chain`.

        `size` limits it, in bytes; None is the engine's default. A limit that cannot be enforced
        raises UsageError before anything is created. On failure nothing is left behind.
        """

    def expand(self, layer_id: str, size: int) -> None:
        """[ExpandSandboxSize] Raise a scratch's limit to `size` bytes; lower is a UsageError."""

    def activate(self, layer_id: str) -> None:
        """[ActivateLayer] Make a scratch's volume available; harmless for read-only layers."""

    def prepare(self, layer_id: str, chain: Sequence[str]) -> None:
        """[PrepareLayer] Merge an active layer with its chain, so that it can be read as one."""

    def mount_path(self, layer_id: str) -> str:
        """[GetLayerMountPath] Where the layer can be read, "" if it has no path.

        A read-only layer always has one: its own folder or the place of its mount.
        """

    def unprepare(self, layer_id: str) -> None:
        """[UnprepareLayer] Undo `prepare`. Nothing happens if the layer is not prepared."""

    def deactivate(self, layer_id: str) -> None:
        """[DeactivateLayer] Undo `activate`. Nothing happens if the layer is not active."""

    def destroy(self, layer_id: str) -> None:
        """[DestroyLayer] Remove the layer, half-made ones too; its space is back on return.

        Raises LayerNotFound for an unknown id, LayerInUse while a child, an image or a mount
        needs the layer.
        """

    def reader(self, layer_id: str, chain: Sequence[str]) -> LayerReader:
        """[NewLayerReader] What the layer changes against its chain. Close it."""

    def writer(self, layer_id: str, chain: Sequence[str]) -> LayerWriter:
        """[NewLayerWriter] Fill an open layer. Raises UsageError if it is sealed."""

    def base_images(self) -> str:
        """[GetSharedBaseImages] JSON `{"Images": [...]}` of images that came with the system."""

    def folder(self, layer_id: str) -> Path:
        """The layer's folder, whether it exists or not: the driver's `dir` metadata."""

    def link(self, layer_id: str) -> str | None:
        """What stands for this layer in a child's chain.

        None for a layer that adds nothing (no `Files`: Docker's `-init`), which chains leave out.
        """


@runtime_checkable
class TarShortcuts(Protocol):
    """For engines that keep the tar: whole diffs without a detour through backup streams."""

    def import_tar(self, layer_id: str, chain: Sequence[str], diff: BinaryIO) -> CommittedLayer:
        """Fill an open layer from an uncompressed tar and seal it.

        All or nothing: FormatError or HostError leave the layer open and empty. Reads `diff` to
        its end, trailing padding included.
        """

    def export_tar(self, layer_id: str, chain: Sequence[str], out: BinaryIO) -> DiffID:
        """Write the layer's diff, for a sealed layer byte for byte what was imported."""
