"""Save: images of the store as an OCI layout or a docker archive."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from windowsfilter.digests import DiffID
from windowsfilter.engines.portable.blobs import LayerBlob
from windowsfilter.errors import StoreDamaged, UsageError
from windowsfilter.images import writing
from windowsfilter.images.exports import ExportImage, ExportLayer, StoredBlob
from windowsfilter.store.core import Core, Progress, counter
from windowsfilter.store.holds import HoldKind
from windowsfilter.store.images import CompressedLayer, ImageRecord
from windowsfilter.wire.compression import Compression

FORMATS = ("oci", "docker")


def save_images(
    core: Core,
    images: Sequence[tuple[ImageRecord, tuple[str, ...]]],
    target: Path | BinaryIO,
    *,
    format: str,
    directory: bool,
    compression: str | None,
    progress: Progress | None,
) -> None:
    """Write images, each with the tags it shall have there. Errors: those of `images.writing`."""
    if format not in FORMATS:
        raise UsageError(f"save: format {format!r} is not one of {', '.join(FORMATS)}")
    if directory and format != "oci":
        raise UsageError("save: only the oci format can be a directory")
    packing = None if compression is None else _compression(compression)
    held = [(HoldKind.LAYER, layer) for record, _ in images for layer in record.layers]
    with core.holds.held(held, "save"):
        exports = [_export(core, record, tags) for record, tags in images]
        total = sum(layer.size for image in exports for layer in image.layers)
        report = counter("save", "image", total, progress)
        destination = os.fspath(target) if isinstance(target, Path) else target
        if format == "docker":
            writing.write_docker_archive(destination, exports, compression=packing, progress=report)
        else:
            writing.write_oci_layout(
                destination, exports, directory=directory, compression=packing, progress=report
            )


def _export(core: Core, record: ImageRecord, tags: tuple[str, ...]) -> ExportImage:
    kept = record.compressed or (None,) * len(record.layers)
    return ExportImage(
        references=tags,
        config=core.images.config(record.id),
        layers=tuple(
            _layer(core, layer, came) for layer, came in zip(record.layers, kept, strict=True)
        ),
        manifest=core.images.manifest(record.id),
    )


def _layer(core: Core, layer_id: str, came: CompressedLayer | None) -> ExportLayer:
    diff_id = core.catalog.layer(layer_id).diff_id
    if diff_id is None:
        raise UsageError(f"save: layer {layer_id} is still open")
    with core.blobs.open(diff_id) as blob:
        manifest = blob.manifest
    plain = partial(_open_tar, core, diff_id)
    stored = None
    if manifest.original is not None:
        stored = StoredBlob(
            digest=manifest.original.digest,
            size=manifest.original.size,
            compression=manifest.original.compression,
            open=partial(_open_original, core, diff_id),
        )
    elif came is not None and came.digest == diff_id:
        stored = StoredBlob(
            digest=diff_id, size=manifest.size, compression=Compression.NONE, open=plain
        )
    return ExportLayer(diff_id=diff_id, size=manifest.size, open=plain, stored=stored)


def _open_tar(core: Core, diff_id: DiffID) -> BinaryIO:
    return _open(core, diff_id).open_tar()


def _open_original(core: Core, diff_id: DiffID) -> BinaryIO:
    stream = _open(core, diff_id).open_original()
    if stream is None:
        raise StoreDamaged(f"blob {diff_id}: its compressed bytes are missing")
    return stream


def _open(core: Core, diff_id: DiffID) -> LayerBlob:
    return core.blobs.open(diff_id)


def _compression(name: str) -> Compression:
    try:
        return Compression(name)
    except ValueError as error:
        known = ", ".join(item.value for item in Compression)
        raise UsageError(f"save: compression {name!r} is not one of {known}") from error
