"""Blobs of layers for an export: some are written as they are, the others packed by several threads.

A layer that is packed gets a new digest, which would hide damage; so its content is checked against
its diffID on the way (StoreDamaged). Blobs written as they are keep the digest by which their
readers check them.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from windowsfilter.digests import Digest
from windowsfilter.errors import StoreDamaged
from windowsfilter.images.exports import ExportLayer
from windowsfilter.wire.compression import Compression, compressor

CHUNK = 1 << 20
_WORKERS = 4

Progress = Callable[[int], None]
"""Told how many further bytes of layers are done; called from several threads."""


@dataclass(frozen=True, slots=True)
class LayerBlob:
    """A layer as it will be written."""

    layer: ExportLayer
    digest: Digest
    size: int
    compression: Compression
    open: Callable[[], BinaryIO]
    packed: Path | None
    """The temporary file that holds it; None if it is read from where it is kept."""


class CheckedStream:
    """Iterates over a stream's chunks; at the end size and digest must be the expected ones.

    Hashing runs in a thread of its own, beside whatever is done with the chunks.
    """

    def __init__(
        self, stream: BinaryIO, digest: Digest, size: int, progress: Progress | None
    ) -> None:
        self._stream = stream
        self._digest = digest
        self._size = size
        self._progress = progress

    def __iter__(self) -> Iterator[bytes]:
        hasher = hashlib.sha256()
        read = 0
        with ThreadPoolExecutor(1, thread_name_prefix="digest") as thread:
            pending: Future[None] | None = None
            while chunk := self._stream.read(CHUNK):
                read += len(chunk)
                if read > self._size:
                    break
                following = thread.submit(hasher.update, chunk)
                yield chunk
                # At most two chunks are in flight.
                if pending is not None:
                    pending.result()
                pending = following
                if self._progress is not None:
                    self._progress(len(chunk))
        if read != self._size or hasher.hexdigest() != self._digest.hex:
            raise StoreDamaged(f"{self._digest} is damaged: its content has changed")


def layer_blobs(
    layers: Sequence[ExportLayer],
    compression: Compression | None,
    level: int | None,
    folder: Path,
    progress: Progress | None,
) -> Generator[LayerBlob]:
    """The blobs for `layers`, in order, each layer once; packed ones in files below `folder`.

    `compression` None takes stored blobs as they are and packs the rest with gzip; otherwise only
    stored blobs of that packing are taken. Some are packed ahead, few enough not to fill the disk.
    Close the iterator before `folder` goes: that stops the threads.
    """
    distinct = list({_identity(layer): layer for layer in layers}.values())
    workers = min(_WORKERS, os.cpu_count() or 1)
    stop = threading.Event()
    with ThreadPoolExecutor(workers, thread_name_prefix="pack") as pool:
        queue: deque[Future[LayerBlob]] = deque()
        try:
            for number, layer in enumerate(distinct):
                path = folder / f"layer{number}"
                queue.append(pool.submit(_blob, layer, compression, level, path, progress, stop))
                if len(queue) > workers:
                    yield queue.popleft().result()
            while queue:
                yield queue.popleft().result()
        finally:
            stop.set()
            for future in queue:
                future.cancel()


def blob_key(layer: ExportLayer) -> tuple[Digest, Digest | None]:
    """What tells one layer's blob from another's within an export."""
    return _identity(layer)


def _identity(layer: ExportLayer) -> tuple[Digest, Digest | None]:
    return layer.diff_id, None if layer.stored is None else layer.stored.digest


def _blob(
    layer: ExportLayer,
    compression: Compression | None,
    level: int | None,
    path: Path,
    progress: Progress | None,
    stop: threading.Event,
) -> LayerBlob:
    stored = layer.stored
    if stored is not None and compression in {None, stored.compression}:
        return LayerBlob(layer, stored.digest, stored.size, stored.compression, stored.open, None)
    if compression is Compression.NONE:
        return LayerBlob(layer, layer.diff_id, layer.size, Compression.NONE, layer.open, None)
    packing = compression or Compression.GZIP
    packer = compressor(packing, level)
    hasher = hashlib.sha256()
    with layer.open() as stream, open(path, "xb") as packed:
        for chunk in CheckedStream(stream, layer.diff_id, layer.size, progress):
            piece = packer.feed(chunk)
            hasher.update(piece)
            packed.write(piece)
            if stop.is_set():
                raise CancelledError
        piece = packer.finish()
        hasher.update(piece)
        packed.write(piece)
        size = packed.tell()
    digest = Digest.from_hex(hasher.hexdigest())
    return LayerBlob(layer, digest, size, packing, lambda: open(path, "rb"), path)
