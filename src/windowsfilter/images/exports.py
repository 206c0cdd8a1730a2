"""Images as they are handed over to be written: documents as bytes, layers as streams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from windowsfilter.digests import DiffID, Digest
from windowsfilter.wire.compression import Compression


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlob:
    """A layer exactly as the source had it: what keeps a manifest's digest alive.

    For a source whose layers were not packed this is the layer itself.
    """

    digest: Digest
    size: int
    compression: Compression
    """How it is really packed, whatever its media type said."""
    open: Callable[[], BinaryIO] = field(repr=False)
    urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportLayer:
    """One layer. `open` gives a new stream of the uncompressed tar at each call, for any thread."""

    diff_id: DiffID
    """What the content really has, whatever the config says (images loaded unverified)."""
    size: int
    """Bytes of the uncompressed tar."""
    open: Callable[[], BinaryIO] = field(repr=False)
    stored: StoredBlob | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportImage:
    """One image for one platform."""

    references: tuple[str, ...]
    config: bytes = field(repr=False)
    layers: tuple[ExportLayer, ...]
    """Base layer first, as many as the config has diffIDs."""
    manifest: bytes | None = field(repr=False, default=None)
    """The manifest it came with; written again, unchanged, if the same blobs are written."""
